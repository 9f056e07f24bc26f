package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
)

// Check asks every bucket for what uploads count on: that it refuses content whose
// SHA-256 is another than the signature says, lists a part with the ETag that it
// gave, completes no other parts than are named, tells the size of an object, gives
// back a range of it, and says so when there is none. It learns what the ETags are.
// The error says what the store lacks. Once all is there the store is trusted again,
// if it was not.
func (s *Store) Check(ctx context.Context) error {
	plain, summed := true, true
	for _, b := range s.options.Buckets {
		c := &checking{store: s, in: bucket(b)}
		id := make([]byte, 16)
		rand.Read(id)
		c.key = fmt.Sprintf("%X", id)
		err, left := c.all(ctx), c.clear()
		if err == nil {
			err = left
		}
		if err != nil {
			return fmt.Errorf("bucket %q: %w", b.Name, err)
		}
		plain, summed = plain && c.plain, summed && c.summed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.degraded, s.plainMD5, s.summedMD5 = nil, plain, plain && summed
	return nil
}

// checking is a look at one bucket.
type checking struct {
	store *Store
	in    bucket
	key   string
	token string // of an upload that may be open

	plain, summed bool // what ETags are
}

var errLacks = errors.New("the store lacks what fenc needs")

const hashRemedy = `use another store, or set verify = "read" in [s3], which reads every object back`

func (c *checking) all(ctx context.Context) error {
	content := make([]byte, 3000)
	rand.Read(content)
	for _, step := range []func(context.Context, []byte) error{c.put, c.wrongPut, c.ranges, c.remove, c.multipart} {
		if err := step(ctx, content); err != nil {
			return err
		}
	}
	return nil
}

func sumsOf(p []byte) sums {
	return sums{sha: sha256.Sum256(p)}
}

func (c *checking) put(ctx context.Context, content []byte) error {
	etag, err := c.send(ctx, content, sumsOf(content))
	if err != nil {
		return c.store.explain(err, "put a probe")
	}
	sum := md5.Sum(content)
	c.plain = etag == hex.EncodeToString(sum[:])
	size, head, err := c.store.head(ctx, c.in, c.key)
	if err != nil {
		return err
	}
	if size != int64(len(content)) || head != etag {
		return fmt.Errorf("%w: HEAD tells %d bytes and the ETag %q of an object of %d bytes that was given the ETag %q", errLacks, size, head, len(content), etag)
	}
	return nil
}

func (c *checking) send(ctx context.Context, content []byte, of sums) (etag string, err error) {
	err = c.store.retry(ctx, nil, short, func(ctx context.Context) error {
		info, err := c.store.core.PutObject(ctx, c.in.Name, c.in.object(c.key), bytes.NewReader(content), int64(len(content)), "", of.sha256Hex(), minio.PutObjectOptions{DisableContentSha256: true})
		etag = info.ETag
		return err
	})
	return etag, err
}

// refused returns nil if err is the store's refusal, which must not count as what may
// pass.
func (c *checking) refused(err error, what string) error {
	a, ok := answer(err)
	switch {
	case err == nil && c.store.options.VerifyRead:
		return nil
	case err == nil:
		return fmt.Errorf("%w: it takes %s whose SHA-256 is another than the signature says; %s", errLacks, what, hashRemedy)
	case ok && a.StatusCode >= 400 && a.StatusCode < 500 && a.StatusCode != 429:
		return nil
	}
	return c.store.explain(err, "send %s with a wrong hash", what)
}

// once is retry of a request whose refusal is wanted: the codes of a wrong hash are
// among those that may pass.
func (c *checking) once(ctx context.Context, try func(context.Context) error) error {
	var last error
	err := c.store.retry(ctx, nil, short, func(ctx context.Context) error {
		last = try(ctx)
		if a, ok := answer(last); ok && a.StatusCode < 500 {
			return nil
		}
		return last
	})
	if last != nil {
		return last
	}
	return err
}

func (c *checking) wrongPut(ctx context.Context, content []byte) error {
	wrong := bytes.Clone(content)
	wrong[len(wrong)-1]++
	err := c.once(ctx, func(ctx context.Context) error {
		_, err := c.store.core.PutObject(ctx, c.in.Name, c.in.object(c.key), bytes.NewReader(wrong), int64(len(wrong)), "", sumsOf(content).sha256Hex(), minio.PutObjectOptions{DisableContentSha256: true})
		return err
	})
	return c.refused(err, "an object")
}

func (c *checking) ranges(ctx context.Context, content []byte) error {
	if c.store.options.VerifyRead { // what is there may be what was wrong
		if _, err := c.send(ctx, content, sumsOf(content)); err != nil {
			return c.store.explain(err, "put a probe")
		}
	}
	for _, r := range [][2]int64{{1000, 500}, {2000, -1}, {0, -1}} {
		var got []byte
		err := c.store.retry(ctx, nil, short, func(ctx context.Context) error {
			from, err := c.store.get(ctx, c.in, c.key, r[0], r[1])
			if err != nil {
				return err
			}
			defer from.Close()
			got, err = io.ReadAll(io.LimitReader(from, int64(len(content))+1))
			return err
		})
		want := content[r[0]:]
		if r[1] >= 0 {
			want = want[:r[1]]
		}
		switch {
		case errors.Is(err, errOtherContent):
			return fmt.Errorf("%w: it gives no range of an object: %w", errLacks, err)
		case err != nil:
			return c.store.explain(err, "get a range of a probe")
		case !bytes.Equal(got, want):
			return fmt.Errorf("%w: a range of an object reads otherwise than it was put", errLacks)
		}
	}
	return nil
}

func (c *checking) remove(ctx context.Context, _ []byte) error {
	if err := c.store.remove(ctx, c.in, c.key); err != nil {
		return err
	}
	size, _, err := c.store.head(ctx, c.in, c.key)
	if err == nil {
		err = fmt.Errorf("%w: it tells of an object of %d bytes that was removed", errLacks, size)
	}
	if errors.Is(err, storage.ErrGone) {
		return nil
	}
	return err
}

func (c *checking) multipart(ctx context.Context, content []byte) error {
	s := c.store
	err := s.retry(ctx, nil, short, func(ctx context.Context) (err error) {
		c.token, err = s.core.NewMultipartUpload(ctx, c.in.Name, c.in.object(c.key), minio.PutObjectOptions{})
		return err
	})
	if err != nil {
		return s.explain(err, "begin an upload of parts")
	}
	part := func(p []byte, of sums) (etag string, err error) {
		err = c.once(ctx, func(ctx context.Context) error {
			made, err := s.core.PutObjectPart(ctx, c.in.Name, c.in.object(c.key), c.token, 1, bytes.NewReader(p), int64(len(p)),
				minio.PutObjectPartOptions{Sha256Hex: of.sha256Hex(), DisableContentSha256: true})
			etag = made.ETag
			return err
		})
		return etag, err
	}
	wrong := bytes.Clone(content)
	wrong[0]++
	if _, err := part(wrong, sumsOf(content)); c.refused(err, "a part") != nil {
		return c.refused(err, "a part")
	}
	earlier, err := part(wrong, sumsOf(wrong))
	if err != nil {
		return s.explain(err, "send a part")
	}
	etag, err := part(content, sumsOf(content))
	if err != nil {
		return s.explain(err, "send a part again")
	}
	has, err := s.parts(ctx, c.in, c.key, c.token)
	if err != nil {
		return err
	}
	if p := has[1]; p.etag != etag || p.size != int64(len(content)) {
		return fmt.Errorf("%w: it lists a part of %d bytes with the ETag %q, which was given the ETag %q for %d", errLacks, p.size, p.etag, etag, len(content))
	}
	err = c.once(ctx, func(ctx context.Context) error {
		_, err := s.core.CompleteMultipartUpload(ctx, c.in.Name, c.in.object(c.key), c.token, []minio.CompletePart{{PartNumber: 1, ETag: earlier}}, minio.PutObjectOptions{})
		return err
	})
	if err == nil {
		return fmt.Errorf("%w: it completes an upload of another part than was named", errLacks)
	}
	if a, ok := answer(err); !ok || a.StatusCode >= 500 {
		return s.explain(err, "complete an upload of parts that are not there")
	}
	// What is known of ETags is looked at behind this, and not by it.
	if err := s.complete(ctx, c.in, c.key, c.token, int64(len(content)), []string{etag}, false); err != nil && !errors.Is(err, storage.ErrMarks) {
		return err
	}
	_, composed, err := s.head(ctx, c.in, c.key)
	c.summed = composed == summed([]string{etag})
	return err
}

// clear takes the probe away, whatever came of it.
func (c *checking) clear() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.store.ctx), c.store.options.RetryFor+short)
	defer cancel()
	var err error
	if c.token != "" {
		err = c.store.abort(ctx, c.in, c.key, c.token)
	}
	return errors.Join(err, c.store.remove(ctx, c.in, c.key))
}
