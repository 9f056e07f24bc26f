package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// OpenBeside opens a storage that is there, perhaps beside the server that writes
// it: without its lock and without changing anything.
func OpenBeside(dir string) (*Folder, error) {
	root, err := openRootFS(dir)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	f := &Folder{fs: root}
	if err := f.lookAround(); err != nil {
		return nil, errors.Join(fmt.Errorf("storage %s: %w", dir, err), root.Close())
	}
	return f, nil
}

// OpenContent opens an object of the storage at dir, to be handed to another
// process. It returns ErrGone if there is none.
func OpenContent(dir, key string) (*os.File, error) {
	if len(key) != 32 || strings.Trim(key, "0123456789ABCDEF") != "" {
		return nil, fmt.Errorf("%q is no object's key", key)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(objectPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	return f, err
}

// lookAround finds out from what is there what layOut finds out by trying.
func (f *Folder) lookAround() error {
	if _, err := f.fs.Lstat(objectsDir); err != nil {
		return fmt.Errorf("it is no storage of fenc: %w", err)
	}
	_, err := f.fs.Lstat(strings.ToUpper(private))
	f.folds = err == nil
	f.labels, f.hardlink = true, true
	return nil
}

// Served reports whether a process has the storage at dir locked at this moment.
func Served(dir string) (bool, error) {
	lock := flock.New(filepath.Join(dir, filepath.FromSlash(lockFile)), flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryLock()
	return err == nil && !free, errors.Join(err, lock.Close())
}

// Listed is what lies under a key.
type Listed struct {
	Key  string
	Size int64
}

// Objects calls do for every object, in the order of their keys, and stray for
// every other file that lies among them, with its name below the storage.
func (f *Folder) Objects(do func(Listed) error, stray func(name string) error) error {
	dirs, err := f.fs.ReadDir(objectsDir)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		name := objectsDir + "/" + dir.Name()
		if !dir.IsDir() {
			if err := stray(name); err != nil {
				return err
			}
			continue
		}
		entries, err := f.fs.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), labelFile) {
				continue
			}
			if !IsKey(e.Name()) || objectPath(e.Name()) != name+"/"+e.Name() {
				err = stray(name + "/" + e.Name())
			} else if info, infoErr := e.Info(); errors.Is(infoErr, fs.ErrNotExist) {
				continue // removed meanwhile
			} else if err = infoErr; err == nil {
				err = do(Listed{e.Name(), info.Size()})
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// IsKey reports whether name is an object's key.
func IsKey(name string) bool {
	return len(name) == 32 && strings.Trim(name, "0123456789ABCDEF") == ""
}

// Tree calls do for every file and link that people see, with its path below the
// storage.
func (f *Folder) Tree(do func(path string) error) error { return f.walk(".", do) }

func (f *Folder) walk(dir string, do func(path string) error) error {
	entries, err := f.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case name == private:
			continue
		case e.IsDir():
			err = f.walk(name, do)
		default:
			err = do(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// OpenShown opens what the tree has at path, which must be a file of size bytes.
// It returns ErrGone if it is not.
func (f *Folder) OpenShown(path string, size int64) (*Object, error) {
	info, err := f.fs.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() != size) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	return f.open(path)
}

// Adopt makes the file that the tree has at path the object under key, durable
// when it returns. It is an error that wraps fs.ErrExist if there is one.
func (f *Folder) Adopt(path, key string) error {
	file, err := f.fs.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(file.Sync(), file.Close())
	}
	if err == nil {
		err = f.fs.Link(path, objectPath(key))
	}
	if err == nil {
		err = f.fs.SyncDir(objectDir(key))
	}
	if err != nil {
		return fmt.Errorf("make %s an object again: %w", path, err)
	}
	return nil
}
