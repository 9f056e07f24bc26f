package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/pkg/xattr"
)

// A label travels with an object, so that a lost catalogue can be made anew from
// the storage: an extended attribute of its file, or a file beside it where the
// file system has no such attributes. What it says is the caller's; it is durable
// when the object is.
const (
	labelName = "user.fenc"
	labelFile = ".label" // after the object's name
	// MaxLabel is the largest label in bytes: ext4 keeps the attributes of a file
	// in one block.
	MaxLabel = 3900
)

// SetLabel implements File.
func (f *rootFile) SetLabel(label []byte) error {
	err := xattr.FSet(f.File, labelName, label)
	f.labelled = f.labelled || err == nil
	return f.named("label", plainError(err))
}

// Label implements File.
func (f *rootFile) Label() ([]byte, error) {
	label, err := xattr.FGet(f.File, labelName)
	if errors.Is(plainError(err), xattr.ENOATTR) {
		return nil, nil
	}
	return label, f.named("label", plainError(err))
}

// plainError takes an error out of the library's, which names the file twice.
func plainError(err error) error {
	if wrapped, ok := errors.AsType[*xattr.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// findLabels finds out whether the file system keeps labels with its files.
func (f *Folder) findLabels() error {
	file, err := f.fs.OpenFile(probeFile, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	want := []byte("probe")
	err = file.SetLabel(want)
	if err == nil {
		var got []byte
		got, err = file.Label()
		f.labels = bytes.Equal(got, want)
	}
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		err = nil
	}
	return errors.Join(err, file.Close())
}

// putLabel gives an open object-to-be its label, before its content is synced.
func (f *Folder) putLabel(file File, key string, label []byte) error {
	if len(label) > MaxLabel {
		return fmt.Errorf("label of %d bytes, at most %d", len(label), MaxLabel)
	}
	if f.labels {
		return file.SetLabel(label)
	}
	beside, err := f.fs.OpenFile(objectPath(key)+labelFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, objectMode)
	if err != nil {
		return err
	}
	_, err = beside.WriteAt(label, 0)
	return errors.Join(err, beside.Sync(), beside.Close())
}

// SetLabel gives an upload that is about to be sealed its label. After an error
// it can only be discarded.
func (p *partial) SetLabel(label []byte) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.sealed || p.file == nil {
		return ErrSealed
	}
	if err := p.failed(); err != nil {
		return err
	}
	if err := p.folder.putLabel(p.file, p.key, label); err != nil {
		return p.fail(fmt.Errorf("label upload: %w", p.folder.distrust(err)))
	}
	return nil
}

// SetLabel gives an object another label, durable when it returns.
func (f *Folder) SetLabel(key string, label []byte) error {
	file, err := f.fs.OpenFile(objectPath(key), os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(f.putLabel(file, key, label), file.Sync(), file.Close())
	}
	if err == nil && !f.labels {
		err = f.fs.SyncDir(objectDir(key))
	}
	if err != nil {
		return fmt.Errorf("label object: %w", f.distrust(err))
	}
	return nil
}

// Label returns an object's label; nil if it has none. It returns ErrGone if
// there is no such object.
func (f *Folder) Label(key string) ([]byte, error) {
	file, err := f.fs.OpenFile(objectPath(key), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	label, err := file.Label()
	err = errors.Join(err, file.Close())
	if label != nil || err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return label, err
	}
	return f.labelBeside(key)
}

// labelBeside reads a label where the file system has no attributes, or had none
// when the object came.
func (f *Folder) labelBeside(key string) ([]byte, error) {
	file, err := f.fs.OpenFile(objectPath(key)+labelFile, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	label, err := io.ReadAll(io.NewSectionReader(file, 0, MaxLabel))
	return label, errors.Join(err, file.Close())
}
