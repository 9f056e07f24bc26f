package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
)

const (
	noteFile = private + "/note-"     // and its name
	noteTemp = private + "/note.part" // what a crash leaves of a note half written
)

// PutNote keeps text in the storage under a name of plain letters, in place of
// what the name had: after a crash it is the one or the other, whole. One note
// is put at a time.
func (f *Folder) PutNote(name string, text []byte) error {
	file, err := f.fs.OpenFile(noteTemp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, objectMode)
	if err == nil {
		_, err = file.WriteAt(text, 0)
		err = errors.Join(err, file.Sync(), file.Close())
	}
	if err == nil {
		err = f.fs.Rename(noteTemp, noteFile+name)
	}
	if err == nil {
		err = f.fs.SyncDir(private)
	}
	if err != nil {
		return fmt.Errorf("note the %s in the storage: %w", name, f.distrust(err))
	}
	return nil
}

// Note returns what PutNote kept; nil if nothing.
func (f *Folder) Note(name string) ([]byte, error) {
	file, err := f.fs.OpenFile(noteFile+name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(file, 0, math.MaxInt64))
	return text, errors.Join(err, file.Close())
}
