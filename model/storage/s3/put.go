package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"fenc/model/storage"
)

// putters is how many requests of one call are under way at once.
const putters = 16

// PutAll implements storage.Store: each object is one PUT.
func (s *Store) PutAll(ctx context.Context, objects ...storage.Small) error {
	if err := errors.Join(ctx.Err(), s.Degraded()); err != nil {
		return err
	}
	err := each(objects, func(o storage.Small) error {
		content := newPieces(o.Data)
		h := s.newHashes()
		for _, p := range o.Data {
			h.Write(p)
		}
		b, of := s.home(o.Key), h.sums()
		if _, _, err := s.put(ctx, nil, b, o.Key, content, content.size, *of); err != nil {
			return s.explain(err, "send %s to bucket %q", o.Key, b.Name)
		}
		if !s.options.VerifyRead {
			return nil
		}
		return s.verify(ctx, b, o.Key, content.size, max(content.size, 1), func(_ int, has *sums) bool { return has.sha == of.sha })
	})
	if err != nil && ctx.Err() == nil {
		err = s.distrust(err)
	}
	if err != nil {
		return fmt.Errorf("make objects durable: %w", err)
	}
	return nil
}

// each does something with every one of a list, putters at once, and returns the
// first error.
func each[T any](list []T, do func(T) error) error {
	if len(list) == 1 {
		return do(list[0])
	}
	var (
		next  = make(chan T)
		wait  sync.WaitGroup
		once  sync.Once
		first error
	)
	for range min(putters, len(list)) {
		wait.Go(func() {
			for one := range next {
				if err := do(one); err != nil {
					once.Do(func() { first = err })
				}
			}
		})
	}
	for _, one := range list {
		next <- one
	}
	close(next)
	wait.Wait()
	return first
}

// pieces reads slices one after another.
type pieces struct {
	data [][]byte
	size int64
	at   int64
	i    int // the slice that at is in
	from int // of that slice
}

func newPieces(data [][]byte) *pieces {
	p := &pieces{data: data}
	for _, d := range data {
		p.size += int64(len(d))
	}
	return p
}

func (p *pieces) Read(b []byte) (n int, err error) {
	for n < len(b) && p.i < len(p.data) {
		got := copy(b[n:], p.data[p.i][p.from:])
		n, p.at, p.from = n+got, p.at+int64(got), p.from+got
		if p.from == len(p.data[p.i]) {
			p.i, p.from = p.i+1, 0
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements io.Seeker, as far as requests need it: to the beginning.
func (p *pieces) Seek(off int64, whence int) (int64, error) {
	if off != 0 || whence != io.SeekStart {
		return p.at, errors.ErrUnsupported
	}
	p.at, p.i, p.from = 0, 0, 0
	return 0, nil
}
