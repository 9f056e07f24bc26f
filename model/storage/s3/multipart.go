package s3

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
)

// upload returns the token of the upload, which it has the store make first where
// there is none. Another process may have done so at the same time: the catalogue
// says whose counts.
func (p *partial) upload() (string, error) {
	p.creating.Lock()
	defer p.creating.Unlock()
	if token := p.Token(); token != "" {
		return token, nil
	}
	token := ""
	s := p.store
	err := s.retry(p.ctx, p.open.Done(), short, func(ctx context.Context) (err error) {
		token, err = s.core.NewMultipartUpload(ctx, p.in.Name, p.in.object(p.key), minio.PutObjectOptions{})
		if isOpen(err) {
			p.mu.Lock()
			p.astray = true
			p.mu.Unlock()
		}
		return err
	})
	if err == nil && token == "" {
		err = errors.New("it gave no upload id")
	}
	if err != nil {
		return "", s.explain(err, "begin an upload of parts for %s in bucket %q", p.key, p.in.Name)
	}
	kept := token
	if s.options.Tokens != nil {
		kept, err = s.options.Tokens(p.key, token)
	}
	if err != nil || kept != token {
		// What cannot be aborted now holds no part, and goes with the rest of the key.
		if s.abort(p.ctx, p.in, p.key, token) != nil {
			p.mu.Lock()
			p.astray = true
			p.mu.Unlock()
		}
	}
	if err != nil {
		return "", foreign{fmt.Errorf("note the upload of %s: %w", p.key, err)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token = kept
	return kept, nil
}

// summed returns the ETag that an object of these parts has where ETags are MD5s, and
// "" where a mark is none.
func summed(marks []string) string {
	h := md5.New()
	for _, m := range marks {
		sum, err := hex.DecodeString(m)
		if err != nil || len(sum) != md5.Size {
			return ""
		}
		h.Write(sum)
	}
	return fmt.Sprintf("%x-%d", h.Sum(nil), len(marks))
}

// looksLike returns nil if there is an object of this size and, where the store has
// such ETags, with what follows from the parts' own.
func (s *Store) looksLike(ctx context.Context, b bucket, key string, size int64, marks []string) error {
	has, etag, err := s.head(ctx, b, key)
	if err != nil {
		return err
	}
	if has != size {
		return fmt.Errorf("%w: object %s in bucket %q has %d bytes, want %d", storage.ErrMarks, key, b.Name, has, size)
	}
	if want := summed(marks); want != "" && want != etag {
		if _, known := s.etags(); known {
			return fmt.Errorf("%w: object %s in bucket %q has the ETag %q, want %q", storage.ErrMarks, key, b.Name, etag, want)
		}
	}
	return nil
}

const completeWithin = 5 * time.Minute // one request: some stores copy all parts meanwhile

// complete makes an object of parts. What the store answers tells little: it may fail
// what it has done, or does yet, and not know what it has just done. late is whether
// another request to complete it may have come before.
func (s *Store) complete(ctx context.Context, b bucket, key, token string, size int64, marks []string, late bool) error {
	parts := make([]minio.CompletePart, len(marks))
	for i, m := range marks {
		parts[i] = minio.CompletePart{PartNumber: i + 1, ETag: m}
	}
	var until time.Time
	pause := 100 * time.Millisecond
	for {
		var err error
		_ = within(ctx, completeWithin, func(ctx context.Context) error {
			_, err = s.core.CompleteMultipartUpload(ctx, b.Name, b.object(key), token, parts, minio.PutObjectOptions{})
			return err
		})
		seen := s.looksLike(ctx, b, key, size, marks)
		if !errors.Is(seen, storage.ErrGone) {
			return seen
		}
		late = late || err == nil || isOpen(err) || mayPass(err)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !mayPass(err) && err != nil && !(late && isGone(err)) {
			return s.explain(err, "complete %s in bucket %q", key, b.Name)
		}
		switch now := time.Now(); {
		case until.IsZero():
			until = now.Add(s.options.RetryFor)
		case now.Before(until):
		case err == nil:
			return fmt.Errorf("S3 store: complete %s in bucket %q: it answered with success, and there is nothing", key, b.Name)
		default:
			return s.explain(err, "complete %s in bucket %q", key, b.Name)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
		pause = min(2*pause, 5*time.Second)
	}
}
