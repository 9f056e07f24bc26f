// Package send is what sending has in common, whatever the protocol: the files
// to send, and how each of them went.
package send

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrChanged: the file is not what it was when sending began.
var ErrChanged = errors.New("changed while it was sent")

// Source is a file to send. It is opened only while it is sent.
type Source struct {
	Path string // as the user named it
	Name string // the name it is sent under

	file   *os.File
	before fs.FileInfo // at the last Rewind
	spool  bool        // a copy of standard input, removed by Close
}

// NewSource makes a source of the regular file at path, sent under name.
func NewSource(path, name string) (*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, Plain(err)
	}
	if info.IsDir() {
		return nil, errors.New("is a directory: protocol 3 sends single files")
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file, so its size cannot be known: pipe it in, as in fenc send -")
	}
	return &Source{Path: path, Name: name, before: info}, nil
}

// Spool copies r, at most limit bytes, to a temporary file, so that its size is
// known, and makes a source of it. The end of ctx ends it, even while r is silent.
func Spool(ctx context.Context, r io.Reader, name string, limit int64) (*Source, error) {
	f, err := os.CreateTemp("", "fenc-stdin-*")
	if err != nil {
		return nil, notSpooled(err)
	}
	s := &Source{Path: "-", Name: name, file: f, spool: true}
	copied := make(chan error, 1)
	var n int64
	go func() {
		var err error
		n, err = io.Copy(f, io.LimitReader(r, limit+1))
		copied <- err
	}()
	select {
	case err = <-copied:
	case <-ctx.Done():
		return nil, errors.Join(&stopped{ctx.Err()}, s.Close())
	}
	if err == nil && n > limit {
		err = fmt.Errorf("over the protocol's limit of %d bytes", limit)
	}
	if err == nil {
		s.before, err = f.Stat()
	}
	if err != nil {
		return nil, errors.Join(notSpooled(err), s.Close())
	}
	return s, nil
}

// notSpooled says where the copy was to be.
func notSpooled(err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return fmt.Errorf("spool standard input: %w", err)
	}
	return fmt.Errorf("spool standard input into %s: %w: have TMPDIR name a folder with room that you may write", os.TempDir(), at.Err)
}

// stopped is a context's end in plain words.
type stopped struct{ err error }

func (e *stopped) Error() string { return "interrupted while standard input was read" }
func (e *stopped) Unwrap() error { return e.err }

// OpenPath is the path of the file to read: Path, or that of the copy of standard
// input.
func (s *Source) OpenPath() string {
	if s.spool {
		return s.file.Name()
	}
	return s.Path
}

// Size returns the file's length in bytes, as it was at the last Rewind.
func (s *Source) Size() int64 { return s.before.Size() }

// Rewind opens the file where it is not open yet, and takes its beginning and
// its present state as what is sent next.
func (s *Source) Rewind() error {
	if s.file == nil {
		f, err := os.Open(s.Path)
		if err != nil {
			return Plain(err)
		}
		s.file = f
	}
	info, err := s.file.Stat()
	if err != nil {
		return Plain(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("is no longer a regular file")
	}
	s.before = info
	if _, err = s.file.Seek(0, io.SeekStart); err == nil && info.Size() == 0 {
		return CheckEmpty(s.file)
	}
	return Plain(err)
}

// Read reads from the file.
func (s *Source) Read(p []byte) (int, error) { return s.file.Read(p) }

// Changed returns ErrChanged, with what changed, unless the open file is still
// what it was at the last Rewind.
func (s *Source) Changed() error {
	after, err := s.file.Stat()
	if err != nil {
		return Plain(err)
	}
	return Compare(s.before, after)
}

// Compare returns ErrChanged, with what changed, unless both states of a file have
// the same size and modification time.
func Compare(before, after fs.FileInfo) error {
	switch {
	case after.Size() != before.Size():
		return fmt.Errorf("%w: %d bytes, then %d", ErrChanged, before.Size(), after.Size())
	case !after.ModTime().Equal(before.ModTime()):
		return fmt.Errorf("%w: modified at %s", ErrChanged, after.ModTime().Format(time.RFC3339))
	}
	return nil
}

// Close closes the file, and removes the copy of standard input.
func (s *Source) Close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.spool {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	s.file = nil
	return err
}

// Plain drops the path and the call from an error of the file system: whoever
// prints it names the file already.
func Plain(err error) error {
	var e *fs.PathError
	if !errors.As(err, &e) {
		return err
	}
	if errors.Is(e.Err, syscall.EACCES) {
		return fmt.Errorf("%w: you may not read it", e.Err)
	}
	return e.Err
}

// CheckEmpty returns an error if there is content in a file, of which f is at the
// beginning, that is empty by its size: files that the system makes up have no size (those
// of /proc), and would count as sent without what is in them.
func CheckEmpty(f io.Reader) error {
	n, err := f.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errors.New("has content, though the system says that it has 0 bytes: pipe it in, as in fenc send - --as NAME < FILE")
	case err == io.EOF:
		return nil
	}
	return Plain(err)
}

// BaseName is the name a path is sent under: its last part.
func BaseName(path string) string { return filepath.Base(filepath.Clean(path)) }
