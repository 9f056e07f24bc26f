package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// makeDir makes dir and what is missing above it, for its owner alone, and
// makes their names durable.
func makeDir(dir string) error {
	if isThere(dir) {
		return nil // or no directory, which whoever creates a file in it hears
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	syncDir(parent)
	return nil
}

// create puts a new file with text in place, whole or not at all and durably,
// with the mode less the umask. One that exists is an error that wraps
// fs.ErrExist.
func create(path, text string, mode fs.FileMode) error {
	if path == "" {
		return errors.New("no path")
	}
	if isThere(path) {
		return existsError(path)
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%s: make its directory: %w", path, err)
	}
	temp, err := writeBeside(path, text, mode)
	if err != nil {
		return err
	}
	if err := place(temp, path); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	return nil
}

// replace puts text in the place of the file at path, whole or not at all and
// durably, under the mode less the umask.
func replace(path, text string, mode fs.FileMode) error {
	temp, err := writeBeside(path, text, mode)
	if err != nil {
		return err
	}
	return renameOnto(temp, path)
}

func renameOnto(temp, path string) error {
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, removeIfThere(temp))
	}
	syncDir(filepath.Dir(path))
	return nil
}

// writeBeside writes text into a new file in path's directory, durably, and
// returns its name. After an error there is no such file.
func writeBeside(path, text string, mode fs.FileMode) (name string, err error) {
	temp, err := createBeside(path, mode)
	if err != nil {
		return "", fmt.Errorf("%s: %w; make the directory writable", path, err)
	}
	_, err = temp.WriteString(text)
	if err == nil {
		err = temp.Sync()
	}
	if err := errors.Join(err, temp.Close()); err != nil {
		return "", fmt.Errorf("%s: %w", path, errors.Join(err, os.Remove(temp.Name())))
	}
	return temp.Name(), nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// createBeside creates a file in path's directory that has its mode, less the
// umask, from the start.
func createBeside(path string, mode fs.FileMode) (*os.File, error) {
	return os.OpenFile(path+"."+rand.Text()+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
}

// place gives temp the name path, which must be free, for good.
func place(temp, path string) error {
	err := os.Link(temp, path) // unlike a rename it replaces nothing
	switch {
	case err == nil:
		err = os.Remove(temp)
	case errors.Is(err, fs.ErrExist):
		return existsError(path)
	default: // a file system without links: take the name, then rename onto it
		var claim *os.File
		claim, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return existsError(path)
		}
		if err != nil {
			return err
		}
		if err = errors.Join(claim.Close(), os.Rename(temp, path)); err != nil {
			return errors.Join(err, os.Remove(path))
		}
	}
	syncDir(filepath.Dir(path))
	return err
}

func existsError(path string) error {
	return fmt.Errorf("%s: %w; it is not replaced: use it, or move it away first", path, fs.ErrExist)
}

// syncDir makes the names in dir durable where the system knows how to.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync() // which Windows refuses
		d.Close()
	}
}
