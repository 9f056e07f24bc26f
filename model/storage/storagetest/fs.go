// Package storagetest puts itself between a storage and its file system, so that
// tests see every call and can make any of them fail.
package storagetest

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"fenc/model/storage"
)

// FS is a file system whose every call is announced. Calls are named after the
// methods of storage.FS and storage.File, in lower case; "direct on" and
// "direct off" are two. The name is of the file or folder, for rename and link
// the new one.
type FS struct {
	storage.FS
	// Before is asked before each call; its error takes the place of the call. It
	// may be called from several goroutines.
	Before func(call, name string) error

	open atomic.Int64
}

// New wraps the real file system below dir. before may be nil, and be set later
// while nobody uses the file system.
func New(dir string, before func(call, name string) error) (*FS, error) {
	root, err := storage.RootFS(dir)
	if err != nil {
		return nil, err
	}
	return &FS{FS: root, Before: before}, nil
}

// OpenFiles counts the files that have not been closed.
func (f *FS) OpenFiles() int64 { return f.open.Load() }

func (f *FS) before(call, name string) error {
	if f.Before == nil {
		return nil
	}
	if err := f.Before(call, name); err != nil {
		return &fs.PathError{Op: call, Path: name, Err: err}
	}
	return nil
}

func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (storage.File, error) {
	if err := f.before("openfile", name); err != nil {
		return nil, err
	}
	opened, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f.open.Add(1)
	return &file{opened, f, name}, nil
}

func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.before("mkdir", name); err != nil {
		return err
	}
	return f.FS.Mkdir(name, perm)
}

func (f *FS) Link(old, new string) error {
	if err := f.before("link", new); err != nil {
		return err
	}
	return f.FS.Link(old, new)
}

func (f *FS) Symlink(target, name string) error {
	if err := f.before("symlink", name); err != nil {
		return err
	}
	return f.FS.Symlink(target, name)
}

func (f *FS) Readlink(name string) (string, error) {
	if err := f.before("readlink", name); err != nil {
		return "", err
	}
	return f.FS.Readlink(name)
}

func (f *FS) Rename(old, new string) error {
	if err := f.before("rename", new); err != nil {
		return err
	}
	return f.FS.Rename(old, new)
}

func (f *FS) Remove(name string) error {
	if err := f.before("remove", name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.before("lstat", name); err != nil {
		return nil, err
	}
	return f.FS.Lstat(name)
}

func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.before("readdir", name); err != nil {
		return nil, err
	}
	return f.FS.ReadDir(name)
}

func (f *FS) SyncDir(name string) error {
	if err := f.before("syncdir", name); err != nil {
		return err
	}
	return f.FS.SyncDir(name)
}

type file struct {
	storage.File
	fs   *FS
	name string
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.before("readat", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// WriteAt writes half of p where it is to fail: the harder case.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fs.before("writeat", f.name); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off)
		return n, err
	}
	return f.File.WriteAt(p, off)
}

func (f *file) Truncate(size int64) error {
	if err := f.fs.before("truncate", f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *file) Stat() (fs.FileInfo, error) {
	if err := f.fs.before("stat", f.name); err != nil {
		return nil, err
	}
	return f.File.Stat()
}

func (f *file) Reserve(size int64) error {
	if err := f.fs.before("reserve", f.name); err != nil {
		return err
	}
	return f.File.Reserve(size)
}

func (f *file) Direct(on bool) error {
	call := "direct off"
	if on {
		call = "direct on"
	}
	if err := f.fs.before(call, f.name); err != nil {
		return err
	}
	return f.File.Direct(on)
}

func (f *file) SetLabel(label []byte) error {
	if err := f.fs.before("setlabel", f.name); err != nil {
		return err
	}
	return f.File.SetLabel(label)
}

func (f *file) Label() ([]byte, error) {
	if err := f.fs.before("label", f.name); err != nil {
		return nil, err
	}
	return f.File.Label()
}

func (f *file) Sync() error {
	if err := f.fs.before("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// Close gives the descriptor back even where it is to fail, as close(2) does.
func (f *file) Close() error {
	f.fs.open.Add(-1)
	return errors.Join(f.fs.before("close", f.name), f.File.Close())
}
