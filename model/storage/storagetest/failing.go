package storagetest

import (
	"io/fs"
	"os"
	"sync/atomic"

	"fenc/model/storage"
)

// Failing is a call that fails while it is set, in the file systems that On returns. It
// does nothing then.
type Failing struct{ now atomic.Pointer[failingCall] }

type failingCall struct {
	name string
	err  error
}

// Set has calls of a name fail from now on: "create", "rename", "syncdir", and of files
// "reserve", "sync", "write", "read". Their error is a *fs.PathError of path.
func (f *Failing) Set(call, path string, err error) {
	f.now.Store(&failingCall{call, &fs.PathError{Op: call, Path: path, Err: err}})
}

// End has them succeed again.
func (f *Failing) End() { f.now.Store(nil) }

// On returns real, whose calls may fail.
func (f *Failing) On(real storage.FS) storage.FS { return failingFS{real, f} }

func (f *Failing) of(call string) error {
	if now := f.now.Load(); now != nil && now.name == call {
		return now.err
	}
	return nil
}

type failingFS struct {
	storage.FS
	failing *Failing
}

func (f failingFS) OpenFile(name string, flag int, perm fs.FileMode) (storage.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := f.failing.of("create"); err != nil {
			return nil, err
		}
	}
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return failingFile{file, f.failing}, nil
}

func (f failingFS) Rename(old, new string) error {
	if err := f.failing.of("rename"); err != nil {
		return err
	}
	return f.FS.Rename(old, new)
}

func (f failingFS) SyncDir(name string) error {
	if err := f.failing.of("syncdir"); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

type failingFile struct {
	storage.File
	failing *Failing
}

func (f failingFile) Reserve(size int64) error {
	if err := f.failing.of("reserve"); err != nil {
		return err
	}
	return f.File.Reserve(size)
}

func (f failingFile) Sync() error {
	if err := f.failing.of("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.failing.of("write"); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f failingFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.failing.of("read"); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}
