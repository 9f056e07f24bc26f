package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is what the folder asks of a file system. Names are relative to the
// storage's root and "/"-separated; nothing reaches outside it, through links
// neither. Tests put one that fails in place of the real one.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Mkdir(name string, perm fs.FileMode) error // an existing directory is no error
	Link(old, new string) error
	Symlink(target, name string) error
	Readlink(name string) (string, error)
	Rename(old, new string) error
	Remove(name string) error
	Lstat(name string) (fs.FileInfo, error)
	SameFile(a, b fs.FileInfo) bool // of what Lstat returned
	ReadDir(name string) ([]fs.DirEntry, error)
	SyncDir(name string) error // makes the directory's entries durable
	Free() (bytes int64, err error)
	Close() error
}

// File is an open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	// Reserve takes size bytes on the disk without changing the file's length;
	// a file system that can't is no error, a full one is.
	Reserve(size int64) error
	// Direct switches writing past the page cache on or off. It returns an
	// error where the file system has no such thing.
	Direct(on bool) error
	// Push starts writing out a range, without promising anything.
	Push(off, n int64)
	// SetLabel gives the file a label, durable after the next Sync; see MaxLabel.
	// A file system that can't returns an error that is errors.ErrUnsupported.
	SetLabel(label []byte) error
	// Label returns the file's label; nil if it has none.
	Label() ([]byte, error)
	// Sync makes content, length and label durable.
	Sync() error
	Close() error
}

// rootFS is the real file system below a folder.
type rootFS struct {
	root *os.Root
}

func openRootFS(dir string) (*rootFS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &rootFS{root: root}, nil
}

func (r *rootFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := r.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &rootFile{File: f}, nil
}

func (r *rootFS) Mkdir(name string, perm fs.FileMode) error {
	err := r.root.Mkdir(name, perm)
	if errors.Is(err, fs.ErrExist) {
		info, statErr := r.root.Lstat(name)
		if statErr != nil {
			return statErr
		}
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
		return nil
	}
	return err
}

func (r *rootFS) Link(old, new string) error                 { return r.root.Link(old, new) }
func (r *rootFS) Symlink(target, name string) error          { return r.root.Symlink(target, name) }
func (r *rootFS) Readlink(name string) (string, error)       { return r.root.Readlink(name) }
func (r *rootFS) Rename(old, new string) error               { return r.root.Rename(old, new) }
func (r *rootFS) Remove(name string) error                   { return r.root.Remove(name) }
func (r *rootFS) Lstat(name string) (fs.FileInfo, error)     { return r.root.Lstat(name) }
func (r *rootFS) SameFile(a, b fs.FileInfo) bool             { return os.SameFile(a, b) }
func (r *rootFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(r.root.FS(), name) }
func (r *rootFS) Close() error                               { return r.root.Close() }

func (r *rootFS) SyncDir(name string) error {
	d, err := r.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(d), d.Close())
}

// rootFile is a file of a rootFS; what it can do beyond os.File depends on the
// system it was built for.
type rootFile struct {
	*os.File
	labelled bool // the next sync must carry more than content and length
}

func (f *rootFile) named(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}
