package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Show puts the object at path in the tree, in place of what stands there: the
// view of something verified. Folders on the way are made. Whoever opens the
// path meanwhile gets the old content or the new, whole.
func (f *Folder) Show(key, path_ string) error {
	if err := f.makeFolders(path.Dir(path_)); err != nil {
		return fmt.Errorf("show %s: %w", path_, err)
	}
	shown, err := f.Shows(key, path_)
	if err != nil || shown {
		return err
	}
	link := linkFile + key
	f.fs.Remove(link) // of a process that ended between the two steps
	if f.hardlink {
		err = f.fs.Link(objectPath(key), link)
	} else {
		up := strings.Repeat("../", strings.Count(path_, "/"))
		err = f.fs.Symlink(up+objectPath(key), link)
	}
	if err == nil {
		err = f.fs.Rename(link, path_)
	}
	if err != nil {
		f.fs.Remove(link)
		return fmt.Errorf("show %s: %w", path_, err)
	}
	return nil
}

// Hide takes the object out of the tree at path, unless something else stands
// there, and the folders above it that are empty then, but for the first. An object
// that is gone is taken for the one shown.
func (f *Folder) Hide(key, path_ string) error {
	shown, err := f.Shows(key, path_)
	if err != nil && !errors.Is(err, ErrGone) || err == nil && !shown {
		return err
	}
	if err := f.fs.Remove(path_); err != nil {
		return fmt.Errorf("take %s out of the tree: %w", path_, err)
	}
	for dir := path.Dir(path_); strings.Contains(dir, "/"); dir = path.Dir(dir) {
		entries, err := f.fs.ReadDir(dir)
		if err != nil || len(entries) > 0 || f.fs.Remove(dir) != nil {
			break // an empty folder harms nobody
		}
	}
	return nil
}

// makeFolders makes the folder dir and those above it.
func (f *Folder) makeFolders(dir string) error {
	if _, err := f.fs.Lstat(dir); err == nil {
		return nil
	}
	for i := range len(dir) {
		if dir[i] == '/' {
			if err := f.fs.Mkdir(dir[:i], folderMode); err != nil {
				return err
			}
		}
	}
	return f.fs.Mkdir(dir, folderMode)
}

// Shows reports whether the tree has the object at path.
func (f *Folder) Shows(key, path_ string) (bool, error) {
	there, err := f.fs.Lstat(path_)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if there.Mode()&fs.ModeSymlink != 0 {
		target, err := f.fs.Readlink(path_)
		return err == nil && path.Base(target) == key, err
	}
	object, err := f.fs.Lstat(objectPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return false, ErrGone
	}
	if err != nil {
		return false, err
	}
	return f.fs.SameFile(there, object), nil
}

// Has reports whether there is an object of this size under key.
func (f *Folder) Has(key string, size int64) (bool, error) {
	info, err := f.fs.Lstat(objectPath(key))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() == size, err
}

// Standing reports whether anything stands under key, whole or not: an object, or
// a label without one.
func (f *Folder) Standing(key string) (bool, error) {
	names := []string{objectPath(key)}
	if !f.labels {
		names = append(names, objectPath(key)+labelFile)
	}
	for _, name := range names {
		if _, err := f.fs.Lstat(name); !errors.Is(err, fs.ErrNotExist) {
			return err == nil, err
		}
	}
	return false, nil
}

// SyncTree makes the folder that holds path durable, and those above it, as far
// as the storage's root.
func (f *Folder) SyncTree(paths ...string) error {
	synced := make(map[string]bool)
	for _, p := range paths {
		for dir := path.Dir(p); !synced[dir]; dir = path.Dir(dir) {
			if err := f.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			synced[dir] = true
		}
	}
	return nil
}
