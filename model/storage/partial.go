package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// partial is an open upload in a folder.
type partial struct {
	folder *Folder
	key    string
	size   int64 // bytes, at most or exactly
	chunk  int64 // bytes of a chunk; the last may be shorter

	mu     sync.RWMutex // held for reading while a chunk is written
	file   *output
	sealed bool

	named atomic.Bool // its name in the folder of uploads is durable

	failMu sync.Mutex
	err    error // first failure to write; there is no second try
}

// fail records a failure to write, and returns the first.
func (p *partial) fail(err error) error {
	p.failMu.Lock()
	defer p.failMu.Unlock()
	if p.err == nil {
		p.err = err
	}
	return p.err
}

// failed returns the first failure to write.
func (p *partial) failed() error { return p.fail(nil) }

// Limits implements Store.
func (f *Folder) Limits() Limits { return Limits{MinChunk: 1 << 20, MaxChunks: 16384} }

// Begin implements Store. Space is taken now, so that a full disk shows before the
// first byte: ErrNoSpace, or ErrTooLarge where no file can have so many bytes. A
// degraded storage refuses with ErrDegraded.
func (f *Folder) Begin(ctx context.Context, key string, size int64) (Partial, error) {
	p, err := f.begin(ctx, key, size, max(size, 1))
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (f *Folder) begin(ctx context.Context, key string, size, chunk int64) (*partial, error) {
	if err := errors.Join(ctx.Err(), f.Degraded()); err != nil {
		return nil, err
	}
	// Before it is tried: a file system may fill the disk up first, and others' files
	// would find it full.
	if free, err := f.fs.Free(); err == nil && size > free {
		return nil, fmt.Errorf("%w: %d bytes, %d are free", ErrNoSpace, size, free)
	}
	file, err := f.fs.OpenFile(partPath(key), os.O_RDWR|os.O_CREATE|os.O_EXCL, objectMode)
	if err != nil {
		return nil, fmt.Errorf("begin upload: %w", f.distrust(err))
	}
	p := &partial{folder: f, key: key, size: size, chunk: chunk, file: &output{File: file}}
	if err := file.Reserve(size); err != nil {
		return nil, errors.Join(fmt.Errorf("reserve %d bytes: %w", size, f.distrust(err)), p.Discard())
	}
	return p, nil
}

// BeginBlocks implements Store; see Begin.
func (f *Folder) BeginBlocks(ctx context.Context, key string, size, chunk int64) (Partial, error) {
	p, err := f.begin(ctx, key, size, chunk)
	if err != nil {
		return nil, err
	}
	if err := p.file.Truncate(size); err != nil {
		return nil, errors.Join(fmt.Errorf("begin upload: %w", f.distrust(err)), p.Discard())
	}
	return p, nil
}

// ResumeBlocks implements Store. What another process wrote is synced before anybody
// reads it: else one would look at a page cache that never reached the disk.
func (f *Folder) ResumeBlocks(ctx context.Context, key, _ string, size, chunk int64) (Partial, error) {
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
	return &partial{folder: f, key: key, size: size, chunk: chunk, file: &output{File: file}}, nil
}

// Token implements Partial: the key is enough.
func (p *partial) Token() string { return "" }

// Forget implements Partial: what is written again takes its place.
func (p *partial) Forget(int) {}

// WriteBlock implements Partial. Whole blocks at multiples of BlockSize go past the
// page cache.
func (p *partial) WriteBlock(b *Block, n int, off int64) error {
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

// Holds implements Partial.
func (p *partial) Holds(chunk int, _ string, prove func(io.Reader) error) (bool, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.file == nil {
		return false, ErrSealed
	}
	off := int64(chunk) * p.chunk
	return prove(io.NewSectionReader(p.file, off, min(p.chunk, p.size-off))) == nil, nil
}

// Sync implements Partial. There are no marks.
func (p *partial) Sync() (map[int]string, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.sealed || p.file == nil {
		return nil, ErrSealed
	}
	if err := p.failed(); err != nil {
		return nil, err
	}
	err := p.file.Sync()
	if err == nil && !p.named.Load() {
		err = p.folder.fs.SyncDir(partDir)
		p.named.Store(err == nil)
	}
	if err != nil {
		return nil, p.fail(p.folder.distrust(err))
	}
	return nil, nil
}

// WriteStream implements Partial.
func (p *partial) WriteStream(ctx context.Context, r io.Reader, limit int64) (int64, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.sealed || p.file == nil {
		return 0, ErrSealed
	}
	if err := p.failed(); err != nil {
		return 0, err
	}
	written, readErr, writeErr := copyAt(ctx, p.file, 0, r, limit)
	if writeErr != nil {
		return written, p.fail(p.folder.distrust(writeErr))
	}
	return written, readErr
}

// Seal implements Partial.
func (p *partial) Seal(ctx context.Context, size int64, _ []string) error {
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

// Discard implements Partial.
func (p *partial) Discard() error {
	err := p.Close()
	return errors.Join(err, p.folder.Remove(p.key))
}

// Close implements Partial: it gives the descriptor back.
func (p *partial) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	p.file = nil
	return err
}

// Settle implements Store. The content is there, whole, in one of two places. What a
// dead process wrote may not have reached the disk, so it is synced before read
// proves it.
func (f *Folder) Settle(_ context.Context, s Sealed, read func(io.Reader) error) error {
	key := s.Key
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
	err = settleContent(file, s.Size, read)
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
