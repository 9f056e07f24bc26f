package send

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// asideDir begins the name of a folder in which Remove and Move look at a file once
// more, where nobody else comes by it.
const asideDir = ".fenc-removing-"

// Remove removes the file at path if it is still what it was in the state of sent,
// which was verified. Else it returns ErrChanged, with what changed, and leaves it.
//
// Nothing that was written after that state is lost, whenever that happens: the file
// is taken out of the way first, so that nobody can open it any more, and looked at
// there. On Linux, one that somebody has open for writing is left too. Elsewhere, what
// a program writes to a file that it opened before can be lost with it.
func Remove(path string, sent State) error {
	return aside(path, sent, os.Remove)
}

// Move is Remove, but moves the file to the path to, which must be on the same file
// system, and makes the folders that are missing there. Where there is a file of that
// name, that one stays, and to gets a number behind it, as in report.pdf.~1~.
func Move(path string, sent State, to string) error {
	return aside(path, sent, func(from string) error {
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return fmt.Errorf("make the folder to move to: %w", err)
		}
		_, err := renameNumbered(from, to)
		return err
	})
}

// aside takes the file at path aside and, if it is as it was sent, ends it there.
func aside(path string, sent State, end func(from string) error) error {
	before, err := os.Lstat(path)
	if err != nil {
		return Plain(err)
	}
	if !before.Mode().IsRegular() {
		return Reworded(ErrChanged, "it is no regular file")
	}
	if now := StateOf(before); now != sent {
		return differs(sent, now)
	}
	if err := refuseWritersAt(path); err != nil {
		return err // without a change of the file's state, which another name would be
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), asideDir)
	if err != nil {
		return fmt.Errorf("take it aside: %w", Plain(err))
	}
	defer os.Remove(dir) // which fails while something is in it
	from := filepath.Join(dir, filepath.Base(path))
	if err := os.Rename(path, from); err != nil {
		return fmt.Errorf("take it aside: %w", Plain(err))
	}
	f, err := lookAgain(from, sent)
	if err == nil {
		err = end(from)
		f.Close()
	}
	if err != nil {
		if _, back := renameNumbered(from, path); back != nil {
			return errors.Join(err, fmt.Errorf("put it back from %s: %w", from, back))
		}
	}
	return err
}

// refuseWritersAt is refuseWriters for the file at path. One that cannot be opened is
// no matter yet.
func refuseWritersAt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return refuseWriters(f)
}

// lookAgain returns the open file at path if it is as it was sent and, as far as
// that can be told, nobody writes to it.
func lookAgain(path string, sent State) (*os.File, error) {
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() { // opening a pipe would wait
		return nil, Reworded(ErrChanged, "it is no regular file")
	}
	if err != nil {
		return nil, Plain(err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, Plain(err)
	}
	if err = refuseWriters(f); err == nil {
		if info, err = f.Stat(); err == nil && !StateOf(info).Same(sent) {
			err = differs(sent, StateOf(info))
		}
	}
	if err != nil {
		return nil, errors.Join(Plain(err), f.Close())
	}
	return f, nil
}

// differs is ErrChanged in words of what changed.
func differs(before, after State) error {
	text := "its permissions, names or owner have changed"
	switch {
	case before.Size != after.Size:
		text = fmt.Sprintf("it has changed: %d bytes, then %d", before.Size, after.Size)
	case before.MTime != after.MTime:
		text = "it was modified"
	case before.Inode != after.Inode || before.Device != after.Device:
		text = "it is another file of that name"
	}
	return Reworded(ErrChanged, text)
}

// renameNumbered renames a file, to to~N~ where there is something at to, and returns
// the new path.
func renameNumbered(from, to string) (string, error) {
	at := to
	for n := 1; ; n++ {
		err := renameNew(from, at)
		if err == nil || !errors.Is(err, fs.ErrExist) || n > 9999 {
			return at, err
		}
		at = fmt.Sprintf("%s.~%d~", to, n)
	}
}

// renameByLink is a rename that replaces nothing, where links are to be had.
func renameByLink(from, to string) error {
	if err := os.Link(from, to); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, there := os.Lstat(to); there == nil {
			return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
		}
		return os.Rename(from, to)
	}
	return os.Remove(from)
}

// IsAside reports whether a folder of that name is one in which Remove or Move leaves
// a file where the process ends while it is at work: see PutBack.
func IsAside(name string) bool { return strings.HasPrefix(name, asideDir) }

// PutBack brings back to the folder around dir what a Remove or Move that was cut off
// has left in it, and removes dir. No other process may be at work there.
func PutBack(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := renameNumbered(filepath.Join(dir, e.Name()), filepath.Join(filepath.Dir(dir), e.Name())); err != nil {
			return err
		}
	}
	return os.Remove(dir)
}
