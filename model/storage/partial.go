package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// Partial is an open upload. Its content counts only from Seal on, and then only
// if the catalogue says so.
type Partial struct {
	folder *Folder
	key    string
	chunk  int64 // bytes of a chunk; the only chunk may be shorter

	mu     sync.RWMutex // held for reading while a chunk is written
	file   *output
	sealed bool

	failMu sync.Mutex
	err    error // first failure to write; there is no second try
}

// fail records a failure to write, and returns the first.
func (p *Partial) fail(err error) error {
	p.failMu.Lock()
	defer p.failMu.Unlock()
	if p.err == nil {
		p.err = err
	}
	return p.err
}

// failed returns the first failure to write.
func (p *Partial) failed() error { return p.fail(nil) }

// Begin opens an upload under key, of at most size bytes in chunks of the given
// size. Space for it is taken now, so that a full disk shows before the first
// byte: ErrNoSpace. A degraded storage refuses with ErrDegraded.
func (f *Folder) Begin(ctx context.Context, key string, size, chunk int64) (*Partial, error) {
	if err := errors.Join(ctx.Err(), f.Degraded()); err != nil {
		return nil, err
	}
	file, err := f.fs.OpenFile(partPath(key), os.O_RDWR|os.O_CREATE|os.O_EXCL, objectMode)
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", f.distrust(err))
	}
	p := &Partial{folder: f, key: key, chunk: chunk, file: &output{File: file}}
	if err := file.Reserve(size); err != nil {
		return nil, errors.Join(fmt.Errorf("reserve %d bytes: %w", size, f.distrust(err)), p.Discard())
	}
	return p, nil
}

// BeginBlocks opens an upload under key of exactly size bytes, which will be
// written by WriteBlock, in any order. Otherwise it is Begin.
func (f *Folder) BeginBlocks(ctx context.Context, key string, size int64) (*Partial, error) {
	p, err := f.Begin(ctx, key, size, size)
	if err != nil {
		return nil, err
	}
	if err := p.file.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("begin upload: %w", f.distrust(err)), p.Discard())
	}
	return p, nil
}

// ResumeBlocks opens an upload again that BeginBlocks began, perhaps in another
// process. What that one wrote is synced before anybody reads it: else one would
// look at a page cache that never reached the disk. It returns ErrGone unless the
// upload is there with its size.
func (f *Folder) ResumeBlocks(ctx context.Context, key string, size int64) (*Partial, error) {
	if err := errors.Join(ctx.Err(), f.Degraded()); err != nil {
		return nil, err
	}
	file, err := f.fs.OpenFile(partPath(key), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("resume upload: %w", f.distrust(err))
	}
	info, err := file.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%w: %d bytes, want %d", ErrGone, info.Size(), size)
	} else if err == nil {
		err = f.distrust(file.Sync())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("resume upload: %w", err), file.Close())
	}
	return &Partial{folder: f, key: key, chunk: size, file: &output{File: file}}, nil
}

// WriteBlock writes the first n bytes of a block at off. Whole blocks at
// multiples of BlockSize go past the page cache.
func (p *Partial) WriteBlock(b *Block, n int, off int64) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.sealed || p.file == nil {
		return ErrSealed
	}
	if err := p.failed(); err != nil {
		return err
	}
	if _, err := p.file.write(block{b, n, off}); err != nil {
		return p.fail(p.folder.distrust(err))
	}
	return nil
}

// ReadAt reads what was written, as io.ReaderAt has it.
func (p *Partial) ReadAt(b []byte, off int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.file == nil {
		return 0, ErrSealed
	}
	return p.file.ReadAt(b, off)
}

// Sync makes durable what WriteBlock has written. After an error the upload can
// only be discarded.
func (p *Partial) Sync() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.sealed || p.file == nil {
		return ErrSealed
	}
	if err := p.failed(); err != nil {
		return err
	}
	if err := p.file.Sync(); err != nil {
		return p.fail(p.folder.distrust(err))
	}
	return nil
}

// WriteChunk reads chunk i from r until its end and writes it. At most n bytes
// may come: one more, and it returns ErrTooLong. It returns how many came; an
// error of r is returned as it is. Writing overlaps with reading.
func (p *Partial) WriteChunk(ctx context.Context, i int, r io.Reader, n int64) (int64, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.sealed || p.file == nil {
		return 0, ErrSealed
	}
	if err := p.failed(); err != nil {
		return 0, err
	}
	written, readErr, writeErr := copyAt(ctx, p.file, int64(i)*p.chunk, r, n)
	if writeErr != nil {
		return written, p.fail(p.folder.distrust(writeErr))
	}
	return written, readErr
}

// Seal makes the upload an object of exactly size bytes, durable under its key.
// It is final: later writes fail. After an error the upload can only be
// discarded.
func (p *Partial) Seal(ctx context.Context, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sealed {
		return nil
	}
	if err := errors.Join(p.failed(), ctx.Err()); err != nil {
		return err
	}
	if p.file == nil {
		return ErrSealed
	}
	err := p.file.Truncate(size)
	if err == nil {
		err = p.file.Sync() // on the descriptor that wrote it
	}
	err = errors.Join(err, p.file.Close())
	p.file = nil
	if err == nil {
		err = p.folder.promote(p.key)
	}
	if err != nil {
		return p.fail(fmt.Errorf("make upload durable: %w", p.folder.distrust(err)))
	}
	p.sealed = true
	return nil
}

// promote moves synced content from the uploads to the objects.
func (f *Folder) promote(key string) error {
	if err := f.fs.Rename(partPath(key), objectPath(key)); err != nil {
		return err
	}
	return errors.Join(f.fs.SyncDir(objectDir(key)), f.fs.SyncDir(partDir))
}

// Discard removes the upload's bytes; of a sealed one as well.
func (p *Partial) Discard() error {
	err := p.Close()
	return errors.Join(err, p.folder.Remove(p.key))
}

// Close gives the descriptor back; the bytes stay.
func (p *Partial) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	p.file = nil
	return err
}

// Settle completes an upload that was being sealed when the process ended: its
// content is there, whole, in one of two places. What a dead process wrote may
// not have reached the disk, so it is synced before read proves it: read is
// called with the content and its error is returned. Settle returns ErrGone if
// there is nothing, or not size bytes.
func (f *Folder) Settle(key string, size int64, read func(io.Reader) error) error {
	name := objectPath(key)
	file, err := f.fs.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		name = partPath(key)
		file, err = f.fs.OpenFile(name, os.O_RDWR, 0)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return ErrGone
	}
	if err != nil {
		return err
	}
	err = settleContent(file, size, read)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if name == objectPath(key) {
		return f.fs.SyncDir(objectDir(key))
	}
	return f.promote(key)
}

func settleContent(file File, size int64, read func(io.Reader) error) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < size {
		return fmt.Errorf("%w: %d bytes of %d", ErrGone, info.Size(), size)
	}
	if err := file.Truncate(size); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return read(io.NewSectionReader(file, 0, size))
}
