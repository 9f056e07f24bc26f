package s3

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"fenc/model/storage"
)

// Seal implements storage.Partial. Where marks has none, those that the upload got
// itself are taken.
func (p *partial) Seal(ctx context.Context, size int64, marks []string) error {
	p.mu.Lock()
	if p.object {
		p.mu.Unlock()
		return nil
	}
	err := errors.Join(p.usable(), ctx.Err())
	if err == nil {
		p.sealed = true
	}
	p.mu.Unlock()
	if err != nil {
		return err
	}
	err = p.seal(ctx, size, marks)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
	case ctx.Err() != nil: // which says nothing of the store
		p.err = errors.Join(p.err, err)
		return err
	default:
		return p.fail(fmt.Errorf("make upload durable: %w", err))
	}
	p.object = true
	p.cancel(storage.ErrSealed) // nobody need close what is an object
	return nil
}

func (p *partial) seal(ctx context.Context, size int64, marks []string) error {
	if err := p.land(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	switch {
	case held != nil:
		defer held.free()
		if held.n != size {
			return fmt.Errorf("%d bytes came of %d", held.n, size)
		}
		return p.sealOnly(ctx, held.content(), size)
	case size == 0:
		return p.sealOnly(ctx, bytes.NewReader(nil), 0)
	}
	marks, err := p.allMarks(size, marks)
	if err != nil {
		return err
	}
	s := p.store
	if p.single {
		has, etag, err := s.head(ctx, p.in, p.key)
		if err == nil && (has != size || etag != marks[0]) {
			err = fmt.Errorf("%w: object %s in bucket %q has %d bytes and the ETag %q, want %d and %q", storage.ErrMarks, p.key, p.in.Name, has, etag, size, marks[0])
		}
		if err != nil {
			return err
		}
		return p.readBack(ctx, size, marks)
	}
	p.mu.Lock()
	p.put = true
	p.mu.Unlock()
	if err := s.complete(ctx, p.in, p.key, p.Token(), size, marks, false); err != nil {
		return err
	}
	if p.isAstray() {
		_ = s.abortAll(ctx, p.in, p.key) // it holds nothing, and Purge need not look for it
	}
	return p.readBack(ctx, size, marks)
}

func (p *partial) isAstray() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.astray
}

// land waits for what is on its way; when ctx ends, nothing is tried again.
func (p *partial) land(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { p.shut(context.Cause(ctx)) })()
	p.flights.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.err, ctx.Err())
}

// sealOnly puts content that nothing else was put before under the upload's key.
func (p *partial) sealOnly(ctx context.Context, content io.ReadSeeker, size int64) error {
	h := p.store.newHashes()
	if _, err := io.Copy(h, content); err != nil {
		return spoolError(err)
	}
	of := h.sums()
	p.mu.Lock()
	p.put = true
	p.mu.Unlock()
	s := p.store
	_, _, err := s.put(ctx, nil, p.in, p.key, content, size, *of)
	if err != nil {
		return s.explain(err, "send %s to bucket %q", p.key, p.in.Name)
	}
	if s.options.VerifyRead {
		return s.verify(ctx, p.in, p.key, size, max(size, 1), func(_ int, has *sums) bool { return has.sha == of.sha })
	}
	return nil
}

// allMarks returns the marks of all chunks.
func (p *partial) allMarks(size int64, marks []string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := int(chunksOf(size, p.each))
	if count != len(p.chunks) || marks != nil && len(marks) != count {
		return nil, fmt.Errorf("%w: %d marks, %d chunks came, %d bytes are %d", storage.ErrMarks, len(marks), len(p.chunks), size, count)
	}
	all := make([]string, count)
	copy(all, marks)
	for i := range all {
		if all[i] == "" {
			all[i] = p.chunks[i].mark
		}
		if all[i] == "" {
			return nil, fmt.Errorf("%w: chunk %d has none", storage.ErrMarks, i)
		}
	}
	return all, nil
}

// readBack reads an object that is to be verified so, and compares it with what was
// sent: with the hashes that this process has or, of what another sent, with the MD5
// that its mark is.
func (p *partial) readBack(ctx context.Context, size int64, marks []string) error {
	if !p.store.options.VerifyRead {
		return nil
	}
	return p.store.verify(ctx, p.in, p.key, size, p.each, func(i int, has *sums) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if c := &p.chunks[i]; c.sums != nil && c.mark == marks[i] {
			return c.sums.sha == has.sha
		}
		return hex.EncodeToString(has.md5) == marks[i]
	})
}

// verify reads an object and asks of each of its chunks whether it is right.
func (s *Store) verify(ctx context.Context, b bucket, key string, size, each int64, right func(i int, has *sums) bool) error {
	r := s.reader(ctx, b, key, size)
	defer r.Close()
	for i, off := 0, int64(0); off < size; i, off = i+1, off+each {
		h := s.newHashes()
		if _, err := io.Copy(h, io.NewSectionReader(r, off, min(each, size-off))); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		if !right(i, h.sums()) {
			return fmt.Errorf("%w: chunk %d of object %s in bucket %q reads otherwise than it was sent", storage.ErrMarks, i, key, b.Name)
		}
	}
	return nil
}

// Settle implements storage.Store. An upload that came as a stream and is no object
// yet is gone: nobody knows its parts.
func (s *Store) Settle(ctx context.Context, of storage.Sealed, read func(io.Reader) error) error {
	marks := of.Marks
	if of.Chunk <= 0 || slices.Contains(marks, "") || int64(len(marks)) != chunksOf(of.Size, of.Chunk) {
		marks = nil
	}
	b, size, etag, err := s.find(ctx, of.Key)
	switch {
	case err == nil && size != of.Size:
		return fmt.Errorf("%w: object %s in bucket %q has %d bytes, want %d", storage.ErrGone, of.Key, b.Name, size, of.Size)
	case err == nil:
		return s.prove(ctx, b, of, etag, marks, read)
	case !errors.Is(err, storage.ErrGone):
		return err
	case of.Size == 0:
		b = s.home(of.Key)
		if _, _, err := s.put(ctx, nil, b, of.Key, bytes.NewReader(nil), 0, *s.newHashes().sums()); err != nil {
			return s.distrust(s.explain(err, "send %s to bucket %q", of.Key, b.Name))
		}
		return read(bytes.NewReader(nil))
	case len(marks) < 2 || of.Token == "":
		return err
	}
	for _, b = range s.ranked(of.Key) {
		if _, err = s.parts(ctx, b, of.Key, of.Token); err == nil {
			break
		}
		if !errors.Is(err, storage.ErrGone) {
			return err
		}
	}
	if err != nil {
		b = s.home(of.Key) // where a process that is gone may have had it completed this moment
	}
	err = s.complete(ctx, b, of.Key, of.Token, of.Size, marks, true)
	if errors.Is(err, storage.ErrMarks) {
		err = fmt.Errorf("%w: %w", storage.ErrGone, err)
	}
	if err != nil && ctx.Err() == nil {
		err = s.distrust(err)
	}
	if err != nil {
		return err
	}
	_, etag, err = s.head(ctx, b, of.Key)
	if err != nil {
		return err
	}
	return s.prove(ctx, b, of, etag, marks, read)
}

// prove returns nil for an object whose ETag is the one that follows from the marks,
// and reads any other.
func (s *Store) prove(ctx context.Context, b bucket, of storage.Sealed, etag string, marks []string, read func(io.Reader) error) error {
	_, known := s.etags()
	if !s.options.VerifyRead && (len(marks) == 1 && etag == marks[0] || len(marks) > 1 && known && etag == summed(marks)) {
		return nil
	}
	r := s.reader(ctx, b, of.Key, of.Size)
	defer r.Close()
	return read(io.NewSectionReader(r, 0, of.Size))
}
