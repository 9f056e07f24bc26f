package s3

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"

	"fenc/model/storage"
)

// filling is a chunk that is coming.
type filling struct {
	turn int
	end  int64 // bytes that it will have

	mu     sync.Mutex
	buffer *buffer // nil: given on, or dropped
	hashes *hashes // nil: hashed when it is whole
}

// hashes make the sums of a chunk.
type hashes struct{ sha, md5 hash.Hash }

// newHashes makes MD5s only where content is read back. For what is sent the SHA-256
// is enough, which the store checks, and MD5 takes three times as long.
func (s *Store) newHashes() *hashes {
	h := &hashes{sha: sha256.New()}
	if s.options.VerifyRead {
		h.md5 = md5.New()
	}
	return h
}

func (h *hashes) Write(p []byte) (int, error) {
	h.sha.Write(p)
	if h.md5 != nil {
		h.md5.Write(p)
	}
	return len(p), nil
}

func (h *hashes) sums() *sums {
	s := new(sums)
	h.sha.Sum(s.sha[:0])
	if h.md5 != nil {
		s.md5 = h.md5.Sum(nil)
	}
	return s
}

func (p *partial) newFilling(turn int, end int64, b *buffer) *filling {
	f := &filling{turn: turn, end: end, buffer: b}
	if b.file != nil {
		// What comes back from a disk may be something else.
		f.hashes = p.store.newHashes()
	}
	return f
}

// write appends p, which comes at off of the chunk. Once the chunk is whole it
// returns the buffer.
func (f *filling) write(p []byte, off int64) (whole *buffer, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.buffer
	if b == nil {
		return nil, errors.New("the chunk was forgotten")
	}
	if off != b.n || off+int64(len(p)) > f.end {
		return nil, fmt.Errorf("%d bytes at %d of a chunk of %d, of which %d have come", len(p), off, f.end, b.n)
	}
	if f.hashes != nil {
		f.hashes.Write(p)
	}
	if _, err := b.Write(p); err != nil {
		return nil, err
	}
	if b.n < f.end {
		return nil, nil
	}
	f.buffer = nil
	return b, nil
}

func (f *filling) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.buffer != nil {
		f.buffer.free()
		f.buffer = nil
	}
}

// WriteBlock implements storage.Partial: a chunk's first block waits for a buffer.
func (p *partial) WriteBlock(b *storage.Block, n int, off int64) error {
	if off < 0 || n <= 0 || off+int64(n) > p.size {
		return fmt.Errorf("write %d bytes at %d of an upload of %d", n, off, p.size)
	}
	i := int(off / p.each)
	if off == int64(i)*p.each {
		if err := p.afresh(i); err != nil {
			return err
		}
	}
	p.mu.Lock()
	err, f := p.usable(), p.chunks[i].fill
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if f == nil {
		return fmt.Errorf("write at %d: chunk %d has not begun", off, i)
	}
	whole, err := f.write((*b)[:n], off-int64(i)*p.each)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if err := p.usable(); err != nil { // which took the buffer away
			return err
		}
		return p.fail(fmt.Errorf("write at %d: %w", off, err))
	}
	if whole == nil {
		return p.usable()
	}
	c := &p.chunks[i]
	if err := p.usable(); err != nil || c.fill != f {
		whole.free()
		return err
	}
	c.fill = nil
	p.launch(i, f.turn, whole, f.hashes)
	return nil
}

// afresh begins a chunk.
func (p *partial) afresh(i int) error {
	p.mu.Lock()
	if err := p.usable(); err != nil {
		p.mu.Unlock()
		return err
	}
	c := &p.chunks[i]
	earlier := c.fill
	c.turn, c.fill, c.mark, c.sums = c.turn+1, nil, "", nil
	turn := c.turn
	p.mu.Unlock()
	if earlier != nil {
		earlier.drop()
	}
	buffer, err := p.room(p.open, p.length(i))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil || c.turn != turn {
		buffer.free()
		return err
	}
	c.fill = p.newFilling(turn, p.length(i), buffer)
	return nil
}

// room waits for a buffer until ctx or the upload ends, or until no part at all has got
// on for WaitFor: then all that are held may be of senders who wait themselves.
func (p *partial) room(ctx context.Context, size int64) (*buffer, error) {
	wait, cancel := context.WithCancelCause(p.open)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	all, longest := p.store.buffers, p.store.options.WaitFor
	var look *time.Timer
	looked := make(chan struct{}) // closed when look is set
	look = time.AfterFunc(longest, func() {
		<-looked
		if still := all.still(); still < longest {
			look.Reset(longest - still)
			return
		}
		cancel(fmt.Errorf("%w: no part got on for %v, of as many as part_buffers lets the server hold", storage.ErrDegraded, longest))
	})
	close(looked)
	defer look.Stop()
	b, err := all.take(wait, p.sender, size)
	switch {
	case err == nil:
		return b, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case wait.Err() != nil:
		return nil, context.Cause(wait)
	}
	return nil, err
}

// Forget implements storage.Partial.
func (p *partial) Forget(i int) {
	p.mu.Lock()
	f := p.chunks[i].fill
	p.chunks[i].fill = nil
	p.mu.Unlock()
	if f != nil {
		f.drop()
	}
}

// flight is a chunk on its way to the store.
type flight struct {
	chunk, turn int
	buffer      *buffer
	hashes      *hashes // nil: to be made
	before      *flight // of the same chunk, in an earlier turn
	landed      chan struct{}
}

// launch sends a whole chunk behind the caller's back; p.mu is held.
func (p *partial) launch(i, turn int, b *buffer, h *hashes) {
	c := &p.chunks[i]
	f := &flight{chunk: i, turn: turn, buffer: b, hashes: h, before: c.flight, landed: make(chan struct{})}
	c.flight = f
	p.flights.Go(func() { p.fly(f) })
}

func (p *partial) fly(f *flight) {
	defer close(f.landed)
	defer f.buffer.free()
	if f.before != nil {
		<-f.before.landed
		f.before = nil
	}
	mark, of, err := p.send(f)
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.chunks[f.chunk]
	if c.flight == f {
		c.flight = nil
	}
	switch {
	case c.turn != f.turn: // it has begun again: nobody counts on this one
	case err != nil:
		p.fail(err)
	default:
		c.mark, c.sums = mark, of
	}
}

// send has the store take a chunk, and returns the mark that it gave.
func (p *partial) send(f *flight) (mark string, of *sums, err error) {
	if f.hashes == nil {
		f.hashes = p.store.newHashes()
		if _, err := io.Copy(f.hashes, f.buffer.content()); err != nil {
			return "", nil, err
		}
	}
	of = f.hashes.sums()
	if p.single {
		mark, err = p.sendOnly(f, of)
		return mark, of, err
	}
	if !p.wants(f) {
		return "", nil, errDoneWith
	}
	token, err := p.upload()
	if err != nil {
		return "", nil, err
	}
	mark, err = p.store.putPart(p.ctx, p.open.Done(), p.in, p.key, token, f.chunk+1, f.buffer.content(), f.buffer.n, *of)
	return mark, of, p.store.explain(err, "send part %d of %s to bucket %q", f.chunk+1, p.key, p.in.Name)
}

// wants reports whether a chunk has not begun again since.
func (p *partial) wants(f *flight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err == nil && p.chunks[f.chunk].turn == f.turn
}

// sendOnly puts the only chunk under the upload's own key.
func (p *partial) sendOnly(f *flight, of *sums) (mark string, err error) {
	p.mu.Lock()
	switch {
	case p.err != nil || p.chunks[f.chunk].turn != f.turn:
		err = errDoneWith
	case p.resumed || p.loose:
		err = fmt.Errorf("%w: what was sent under key %s before may yet take the place of what comes now", storage.ErrGone, p.key)
	default:
		p.put = true
	}
	p.mu.Unlock()
	if err != nil {
		return "", err
	}
	mark, open, err := p.store.put(p.ctx, p.open.Done(), p.in, p.key, f.buffer.content(), f.buffer.n, *of)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loose = p.loose || open
	return mark, p.store.explain(err, "send %s to bucket %q", p.key, p.in.Name)
}
