package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"fenc/model/storage"
)

// reader reads an object by ranges. Whoever reads on where the last read ended gets
// the rest of a request that is under way.
type reader struct {
	store *Store
	in    bucket
	key   string
	size  int64

	ctx   context.Context // of requests
	close context.CancelFunc

	mu   sync.Mutex
	next int64 // where the last read in order ended
	busy bool  // somebody reads in order
	rest *rest // of a request; nil: none, or somebody reads it
}

// rest is what is still to come of a request for all from an offset on.
type rest struct {
	content io.ReadCloser
	cancel  context.CancelFunc
}

func (r *rest) end() {
	if r != nil {
		r.cancel()
		r.content.Close()
	}
}

// Open implements storage.Store.
func (s *Store) Open(key string) (storage.Reader, error) {
	b, size, _, err := s.find(s.ctx, key)
	if err != nil {
		return nil, err
	}
	return s.reader(s.ctx, b, key, size), nil
}

func (s *Store) reader(ctx context.Context, b bucket, key string, size int64) *reader {
	r := &reader{store: s, in: b, key: key, size: size}
	r.ctx, r.close = context.WithCancel(ctx)
	return r
}

func (r *reader) Size() int64 { return r.size }

func (r *reader) Close() error {
	r.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest.end()
	r.rest = nil
	return nil
}

// ReadAt implements io.ReaderAt. What is read that way may be told apart from what is
// read in order: the first read at the beginning, and each where another has ended,
// asks for all that follows; another for what it wants alone.
func (r *reader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s at %d", r.key, off)
	}
	want := p[:max(0, min(int64(len(p)), r.size-off))]
	if len(want) > 0 {
		n, err = r.read(want, off)
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (r *reader) read(p []byte, off int64) (n int, err error) {
	r.mu.Lock()
	inOrder := off == r.next && !r.busy
	var under *rest
	if inOrder {
		r.busy = true
		under, r.rest = r.rest, nil
	}
	r.mu.Unlock()
	err = r.store.retry(r.ctx, nil, short+time.Duration(len(p)>>20)*time.Second, func(ctx context.Context) error {
		if under == nil {
			length := int64(len(p) - n)
			if inOrder {
				length = -1
			}
			if under, err = r.request(off+int64(n), length); err != nil {
				return err
			}
		}
		// The request outlives this read, but must not hold it up for longer.
		stop := context.AfterFunc(ctx, under.cancel)
		got, err := io.ReadFull(under.content, p[n:])
		n += got
		if !stop() || err != nil {
			under.end()
			under = nil
		}
		if n == len(p) {
			return nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the line ended after %d bytes: %w", n, err)
		}
		return err
	})
	end := off + int64(n)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case inOrder:
		r.busy, r.next = false, end
		if end < r.size && r.ctx.Err() == nil {
			r.rest, under = under, nil
		}
	case !r.busy && r.rest == nil:
		r.next = end
	}
	under.end()
	return n, r.store.explain(err, "read %s in bucket %q at %d", r.key, r.in.Name, off)
}

// request asks for bytes from off on: length, or all for -1.
func (r *reader) request(off, length int64) (*rest, error) {
	ctx, cancel := context.WithCancel(r.ctx)
	slow := time.AfterFunc(short, cancel) // for the answer to begin
	content, err := r.store.get(ctx, r.in, r.key, off, length)
	if !slow.Stop() && err == nil {
		content.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, err
	}
	return &rest{content, cancel}, nil
}
