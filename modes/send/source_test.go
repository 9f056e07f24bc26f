package send

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNotAFileIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ path, want string }{
		"missing":   {filepath.Join(t.TempDir(), "a"), "no such file or directory"},
		"directory": {t.TempDir(), "is a directory"},
		"below a file": {
			filepath.Join(writeFile(t, "x"), "a"), "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := NewSource(test.path, "a")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), test.path) {
				t.Errorf("got %q, want it without the path, which stands before it", err)
			}
		})
	}
}

func TestFileThatVanishesBeforeItIsSent(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "abc")
	s, err := NewSource(path, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.Rewind(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Rewind: got %v, want os.ErrNotExist", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: got %v, want nil", err)
	}
}

func TestSourceNoticesChanges(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(path string) error
		want   string // empty: none is noticed
	}{
		"held still":     {func(string) error { return nil }, ""},
		"read by others": {func(path string) error { _, err := os.ReadFile(path); return err }, ""},
		"grew":           {func(path string) error { return os.Truncate(path, 9) }, "3 bytes, then 9"},
		"shrank":         {func(path string) error { return os.Truncate(path, 1) }, "3 bytes, then 1"},
		"was modified":   {func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }, "modified at 19"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, "abc")
			s, err := NewSource(path, "a")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Rewind(); err != nil {
				t.Fatal(err)
			}
			if err := test.change(path); err != nil {
				t.Fatal(err)
			}
			err = s.Changed()
			if errors.Is(err, ErrChanged) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("Changed: got %v, want %q", err, test.want)
			}
			if err := s.Rewind(); err != nil {
				t.Fatal(err)
			}
			if err := s.Changed(); err != nil {
				t.Errorf("Changed after another Rewind: got %v, want nil", err)
			}
			all, err := io.ReadAll(s)
			if err != nil || int64(len(all)) != s.Size() {
				t.Errorf("after Rewind: got %d bytes, %v, want the %d of Size", len(all), err, s.Size())
			}
		})
	}
}

// spoolDir makes os.CreateTemp use a folder of the test, which then cannot be
// parallel.
func spoolDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir)
	return dir
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v, %v, want nothing", left, err)
	}
}

func TestSpooledInputIsReadTwiceAndRemoved(t *testing.T) {
	dir := spoolDir(t)
	s, err := Spool(t.Context(), strings.NewReader("hello"), "stdin", 5)
	if err != nil {
		t.Fatal(err)
	}
	if s.Size() != 5 {
		t.Errorf("Size: got %d, want 5", s.Size())
	}
	for range 2 {
		if err := s.Rewind(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); string(got) != "hello" || err != nil {
			t.Errorf("got %q, %v, want hello", got, err)
		}
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
	wantEmpty(t, dir)
}

func TestSpoolThatFailsLeavesNothing(t *testing.T) {
	dir := spoolDir(t)
	broken := errors.New("input/output error")
	for name, test := range map[string]struct {
		r    io.Reader
		want string
	}{
		"over the limit": {strings.NewReader("123456"), "over the protocol's limit of 5 bytes"},
		"unreadable":     {io.MultiReader(strings.NewReader("12"), failing{broken}), "spool standard input: input/output error"},
	} {
		if _, err := Spool(t.Context(), test.r, "stdin", 5); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, test.want)
		}
		wantEmpty(t, dir)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestSilentInputEndsWithTheContext: an interrupt once waited for the end of
// standard input, and a second one left the copy behind.
func TestSilentInputEndsWithTheContext(t *testing.T) {
	dir := spoolDir(t)
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		io.WriteString(w, "some") // returns once it is read
		cancel()
	}()
	_, err := Spool(ctx, r, "stdin", 1<<20)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted while standard input was read") {
		t.Errorf("got %v, want interrupted, with context.Canceled in it", err)
	}
	wantEmpty(t, dir)
	w.Close()
}

func TestPrint(t *testing.T) {
	t.Parallel()
	quote := func(s string) string { return "<" + s + ">" }
	for name, test := range map[string]struct {
		result Result
		want   string
	}{
		"verified": {Result{Name: "a", Size: 12, Took: 1234 * time.Millisecond, Checksum: "crc32 00000001", Attempts: 1},
			"<a>  12 bytes  1.23 s  crc32 00000001  verified\n"},
		"verified in the end": {Result{Name: "a", Checksum: "crc32 00000001", Attempts: 3},
			"<a>  0 bytes  0.00 s  crc32 00000001  verified (sent 3 times)\n"},
		"not verified": {Result{Name: "a", Size: 12, Attempts: 4, Err: ErrChecksum},
			"<a>  12 bytes  0.00 s  -  not verified: checksum did not match\n"},
		// Errors joined once broke the line in two.
		"one line for two errors": {Result{Name: "a", Err: errors.Join(ErrChanged, ErrRefused)},
			"<a>  0 bytes  0.00 s  -  not verified: changed while it was sent; refused by the server\n"},
	} {
		var b bytes.Buffer
		test.result.Print(&b, quote)
		if b.String() != test.want {
			t.Errorf("%s: got %q, want %q", name, &b, test.want)
		}
	}
}

func TestBaseName(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"a": "a", "/x/y/a.txt": "a.txt", "./a": "a", "../b/": "b", "-": "-"} {
		if got := BaseName(filepath.FromSlash(path)); got != want {
			t.Errorf("BaseName(%q): got %q, want %q", path, got, want)
		}
	}
}
