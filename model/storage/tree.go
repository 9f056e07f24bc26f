package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// Show puts the object at path in the tree, in place of what stands there: the
// view of something verified. Folders on the way are made. Whoever opens the
// path meanwhile gets the old content or the new, whole.
func (f *Folder) Show(key, path_ string) error {
	if err := f.makeFolders(path.Dir(path_)); err != nil {
		return fmt.Errorf("show %s: %w", path_, f.explainPlace(path_, err))
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
		return fmt.Errorf("show %s: %w", path_, f.explainPlace(path_, err))
	}
	return nil
}

// explainPlace adds to an error of showing a file what to do where something has its
// place that gives way to no file.
func (f *Folder) explainPlace(path_ string, err error) error {
	if there, placeErr := f.Place(path_); placeErr != nil || there.Free || there.View || there.Regular {
		return err
	}
	return fmt.Errorf("%w: something else stands in its place: move that away, and run fenc check --repair", err)
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
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
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

// Place is what the tree has at a path.
type Place struct {
	Free    bool   // nothing
	View    bool   // a link to an object
	Regular bool   // a file, which may be an object's or somebody's
	Label   []byte // of that file; nil if it has none
}

// Place tells what the tree has at path, or in the place of a folder above it.
func (f *Folder) Place(path_ string) (Place, error) {
	for i := range len(path_) + 1 {
		if i < len(path_) && path_[i] != '/' {
			continue
		}
		info, err := f.fs.Lstat(path_[:i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Place{Free: true}, nil
		case err != nil:
			return Place{}, err
		case i < len(path_) && (info.IsDir() || info.Mode()&fs.ModeSymlink != 0):
			continue
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := f.fs.Readlink(path_)
			return Place{View: strings.Contains(target, objectsDir+"/") && IsKey(path.Base(target))}, err
		case i < len(path_) || !info.Mode().IsRegular():
			return Place{}, nil
		}
	}
	file, err := f.fs.OpenFile(path_, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return Place{Free: true}, nil
	}
	if err != nil {
		return Place{}, err
	}
	label, err := file.Label()
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return Place{Regular: true, Label: label}, errors.Join(err, file.Close())
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
