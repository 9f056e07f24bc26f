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

// partial is an open upload.
//
// What is late must never take the place of what is newer. A part that is replaced
// is waited for before its successor is sent; should the store do a request long
// after it was given up, the part has another ETag than the one that Seal names. A
// PUT has no such second look, so an upload of one chunk gives its key one content:
// once a PUT's outcome is not known, or in another process than the one that began
// it, a chunk that comes again ends the upload with storage.ErrGone, and its file is
// offered again, which is under another key.
type partial struct {
	store   *Store
	in      bucket
	key     string
	sender  string
	size    int64 // bytes, at most or exactly
	each    int64 // bytes of a chunk; the last may be shorter
	single  bool  // it is one chunk, sent by PUT
	resumed bool  // another process may have written under the key

	ctx    context.Context // of requests
	cancel context.CancelCauseFunc
	open   context.Context // ends no later than ctx: nothing new is begun from then on
	shut   context.CancelCauseFunc

	creating sync.Mutex // held while the store makes the upload
	flights  sync.WaitGroup
	has      map[int]listed // by number of the part, what the store had when it was resumed

	mu     sync.Mutex
	token  string
	chunks []chunk
	held   *buffer // the only part of a stream, sent by Seal
	astray bool    // the store may have made an upload whose token is not known
	loose  bool    // a PUT may yet be done
	put    bool    // there may be an object
	sealed bool    // no more is written
	object bool    // it is one
	err    error   // first failure; there is no second try
}

// chunk is what is known of one chunk.
type chunk struct {
	turn   int      // counts how often it was begun
	fill   *filling // what is coming; nil: nothing
	flight *flight  // what is on its way to the store; nil: nothing
	mark   string   // the ETag of what the store has of this turn; empty: nothing
	sums   *sums    // of it, where this process sent it
}

// Begin implements storage.Store.
func (s *Store) Begin(ctx context.Context, key string, size int64) (storage.Partial, error) {
	p, err := s.begin(ctx, key, size, streamChunk(size))
	if err != nil {
		return nil, err
	}
	p.single, p.chunks = false, nil // they come as the stream does
	return p, nil
}

// BeginBlocks implements storage.Store. Nothing is asked of the store yet.
func (s *Store) BeginBlocks(ctx context.Context, key string, size, chunk int64) (storage.Partial, error) {
	p, err := s.begin(ctx, key, size, chunk)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (s *Store) begin(ctx context.Context, key string, size, each int64) (*partial, error) {
	if err := errors.Join(ctx.Err(), s.Degraded()); err != nil {
		return nil, err
	}
	count := chunksOf(size, each)
	if each > maxChunk || count > maxChunks || count > 1 && each < minChunk {
		return nil, fmt.Errorf("%w: %d bytes in chunks of %d; an S3 store takes %d chunks of %d to %d bytes", storage.ErrTooLarge, size, each, maxChunks, minChunk, int64(maxChunk))
	}
	p := &partial{store: s, in: s.home(key), key: key, sender: storage.Sender(ctx), size: size, each: each, single: count == 1, chunks: make([]chunk, count)}
	p.ctx, p.cancel = context.WithCancelCause(s.ctx)
	p.open, p.shut = context.WithCancelCause(p.ctx)
	return p, nil
}

// chunksOf returns how many chunks there are in size bytes; one in none.
func chunksOf(size, each int64) int64 { return max(1, (size+each-1)/each) }

// length returns the bytes of chunk i.
func (p *partial) length(i int) int64 { return min(p.each, p.size-int64(i)*p.each) }

// ResumeBlocks implements storage.Store: it asks the store what it has.
func (s *Store) ResumeBlocks(ctx context.Context, key, token string, size, chunk int64) (storage.Partial, error) {
	p, err := s.begin(ctx, key, size, chunk)
	if err != nil {
		return nil, err
	}
	p.resumed, p.token = true, token
	switch {
	case p.single:
		err = p.findSingle(ctx)
	case token != "":
		err = p.findParts(ctx)
	} // else nothing of it has been durable yet
	if err != nil {
		p.cancel(err)
		return nil, fmt.Errorf("resume upload: %w", err)
	}
	return p, nil
}

// findSingle looks for what an upload of one chunk has become.
func (p *partial) findSingle(ctx context.Context) error {
	in, size, etag, err := p.store.find(ctx, p.key)
	if err == nil && size != p.size {
		err = fmt.Errorf("%w: object %s has %d bytes, want %d", storage.ErrGone, p.key, size, p.size)
	}
	p.in, p.put, p.has = in, true, map[int]listed{1: {etag, size}}
	return err
}

// findParts lists what the store has of an upload of several chunks.
func (p *partial) findParts(ctx context.Context) (err error) {
	for _, p.in = range p.store.ranked(p.key) {
		p.has, err = p.store.parts(ctx, p.in, p.key, p.token)
		if !errors.Is(err, storage.ErrGone) {
			return err
		}
	}
	return err
}

// Token implements storage.Partial: the store's name of an upload of several parts.
func (p *partial) Token() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.token
}

// SetLabel implements storage.Partial: nothing is kept beside content.
func (p *partial) SetLabel([]byte) error { return nil }

// usable returns why nothing more can be written; p.mu is held.
func (p *partial) usable() error {
	if p.err != nil {
		return p.err
	}
	if p.sealed {
		return storage.ErrSealed
	}
	return nil
}

// fail records a failure to write, and returns the first; p.mu is held.
func (p *partial) fail(err error) error {
	if p.err == nil {
		p.err = p.store.distrust(err)
		p.shut(p.err)
	}
	return p.err
}

// Sync implements storage.Partial: it waits for the parts that are on their way.
func (p *partial) Sync() (map[int]string, error) {
	p.mu.Lock()
	err := p.usable()
	var under []*flight
	for i := range p.chunks {
		if f := p.chunks[i].flight; f != nil {
			under = append(under, f)
		}
	}
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	for _, f := range under {
		select {
		case <-f.landed:
		case <-p.open.Done():
			return nil, context.Cause(p.open)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return nil, err
	}
	marks := make(map[int]string)
	for i := range p.chunks {
		if mark := p.chunks[i].mark; mark != "" {
			marks[i] = mark
		}
	}
	return marks, nil
}

// Holds implements storage.Partial: it compares the mark with what the store listed.
func (p *partial) Holds(i int, mark string, _ func(io.Reader) error) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return false, err
	}
	if i < 0 || i >= len(p.chunks) || mark == "" {
		return false, nil
	}
	c := &p.chunks[i]
	if c.turn > 0 {
		return c.mark == mark, nil
	}
	plain, _ := p.store.etags()
	if has := p.has[i+1]; has.etag != mark || has.size != p.length(i) || p.store.options.VerifyRead && !plain {
		return false, nil
	}
	c.mark = mark
	return true, nil
}

// Close implements storage.Partial.
func (p *partial) Close() error {
	p.mu.Lock()
	p.sealed = true
	var dropped []*filling
	for i := range p.chunks {
		if f := p.chunks[i].fill; f != nil {
			dropped = append(dropped, f)
			p.chunks[i].fill = nil
		}
	}
	held := p.held
	p.held = nil
	p.mu.Unlock()
	p.shut(storage.ErrSealed)
	for _, f := range dropped {
		f.drop()
	}
	if held != nil {
		held.free()
	}
	cut := time.AfterFunc(p.store.options.EndFor, func() { p.cancel(errDoneWith) })
	p.flights.Wait()
	cut.Stop()
	p.cancel(storage.ErrSealed)
	return nil
}

// Discard implements storage.Partial.
func (p *partial) Discard() error {
	err := p.Close()
	p.mu.Lock()
	token, astray, put := p.token, p.astray, p.put
	p.mu.Unlock()
	s := p.store
	if token != "" && !astray {
		err = errors.Join(err, s.abort(s.ctx, p.in, p.key, token))
	}
	if astray {
		err = errors.Join(err, s.abortAll(s.ctx, p.in, p.key))
	}
	if put {
		err = errors.Join(err, s.remove(s.ctx, p.in, p.key))
	}
	return err
}
