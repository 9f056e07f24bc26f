package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fenc/model/storage"
	"fenc/model/storage/storagetest"
)

// key makes the nth key.
func key(n int) string { return fmt.Sprintf("%02X%030X", n%256, n) }

func objectPath(key string) string { return ".fenc/objects/" + key[:2] + "/" + key }

// content makes n bytes that no other seed makes.
func content(n int, seed uint64) []byte {
	p := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	random.Read(p)
	return p
}

func openFolder(t testing.TB) (*storage.Folder, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "files")
	f, err := storage.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, dir
}

// openWrapped opens a folder whose calls are announced to fsys.Before, which is
// not set yet. Files that a test leaves open are an error.
func openWrapped(t *testing.T, before func(call, name string) error) (f *storage.Folder, fsys *storagetest.FS, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fsys, err := storagetest.New(dir, before)
	if err != nil {
		t.Fatal(err)
	}
	f, err = storage.OpenFolderOn(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if got := fsys.OpenFiles(); got != 0 {
			t.Errorf("%d files left open, want 0", got)
		}
	})
	return f, fsys, dir
}

// store makes an object of p.
func store(t testing.TB, f *storage.Folder, key string, p []byte) {
	t.Helper()
	part, err := f.Begin(t.Context(), key, int64(len(p)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteStream(t.Context(), bytes.NewReader(p), int64(len(p))); err != nil {
		t.Fatal(err)
	}
	if err := part.Seal(t.Context(), int64(len(p)), nil); err != nil {
		t.Fatal(err)
	}
}

// wantObject reads the object back.
func wantObject(t *testing.T, f *storage.Folder, key string, want []byte) {
	t.Helper()
	o, err := f.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("object of %d bytes differs from the %d written", len(got), len(want))
	}
}

func wantFile(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %.20q, want %.20q", name, got, want)
	}
}

// wantNothing checks that neither an upload nor an object is left under key.
func wantNothing(t *testing.T, dir, key string) {
	t.Helper()
	for _, name := range []string{objectPath(key), ".fenc/part/" + key} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left (%v), want it gone", name, err)
		}
	}
}

func TestObjectsAndFoldersArePrivate(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	f, dir := openFolder(t)
	part, err := f.Begin(t.Context(), key(1), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	store(t, f, key(2), []byte("x"))
	if err := f.Show(key(2), "grace/notes/x"); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if e.IsDir() {
			want = 0o700
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFolderOfTheStorageThatOthersMayWriteIsRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	for _, name := range []string{".fenc", ".fenc/objects", ".fenc/part"} {
		dir := t.TempDir()
		f, err := storage.OpenFolder(dir)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		inner := filepath.Join(dir, name)
		if err := os.Chmod(inner, 0o770); err != nil {
			t.Fatal(err)
		}
		if _, err := storage.OpenFolder(dir); err == nil || !strings.Contains(err.Error(), "chmod go-w "+inner) {
			t.Errorf("%s of mode 0770: got %v, want it refused with the remedy", name, err)
		}
	}
}

func TestStorageThatOthersMayWriteIsRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	for mode, refused := range map[fs.FileMode]bool{0o777: true, 0o770: true, 0o702: true, 0o755: false, 0o750: false, 0o700: false} {
		t.Run(fmt.Sprintf("%04o", mode), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.Chmod(dir, mode); err != nil { // past the umask
				t.Fatal(err)
			}
			f, err := storage.OpenFolder(dir)
			if err == nil {
				defer f.Close()
			}
			if (err != nil) != refused {
				t.Fatalf("got %v, want refused = %v", err, refused)
			}
			if remedy := "chmod go-w " + dir; refused && !strings.Contains(err.Error(), remedy) {
				t.Errorf("%q does not say %q", err, remedy)
			}
		})
	}
}

func TestStorageIsServedOnceAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	first, err := storage.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	store(t, first, key(1), []byte("kept"))
	if second, err := storage.OpenFolder(dir); !errors.Is(err, storage.ErrLocked) {
		if err == nil {
			second.Close()
		}
		t.Errorf("second: got %v, want ErrLocked", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	third, err := storage.OpenFolder(dir)
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	defer third.Close()
	wantObject(t, third, key(1), []byte("kept"))
}

func TestOpenOfWhatIsNotThereIsGone(t *testing.T) {
	t.Parallel()
	f, _ := openFolder(t)
	if o, err := f.Open(key(1)); !errors.Is(err, storage.ErrGone) {
		if err == nil {
			o.Close()
		}
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestHasTellsSizes(t *testing.T) {
	t.Parallel()
	f, _ := openFolder(t)
	store(t, f, key(1), []byte("seven b"))
	for _, c := range []struct {
		key  string
		size int64
		want bool
	}{{key(1), 7, true}, {key(1), 6, false}, {key(1), 8, false}, {key(2), 0, false}} {
		if got, err := f.Has(c.key, c.size); got != c.want || err != nil {
			t.Errorf("Has(%s, %d) = %v, %v, want %v", c.key, c.size, got, err, c.want)
		}
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	store(t, f, key(1), []byte("an object"))
	part, err := f.Begin(t.Context(), key(2), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if err := f.Remove(key(1), key(2), key(3)); err != nil { // the third was never there
		t.Errorf("got %v, want nil", err)
	}
	wantNothing(t, dir, key(1))
	wantNothing(t, dir, key(2))
}

func TestPartsListsOpenUploads(t *testing.T) {
	t.Parallel()
	f, _ := openFolder(t)
	for n := range 3 {
		part, err := f.Begin(t.Context(), key(n), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer part.Close()
	}
	store(t, f, key(9), []byte("sealed"))
	got, err := f.Parts()
	slices.Sort(got)
	if want := []string{key(0), key(1), key(2)}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestStrayUploadsAreRemoved(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	parts := filepath.Join(dir, ".fenc", "part")
	// A key of one letter once ended the process. A file system that renames in
	// two steps can leave an object's other name, which must not take the object along.
	store(t, f, key(1), []byte("verified"))
	for _, name := range []string{"x", ".swp", key(1), key(2)} {
		if err := os.WriteFile(filepath.Join(parts, name), []byte("stray"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	strays, err := f.Parts()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveParts(append(strays, "absent")...); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if left, err := f.Parts(); len(left) != 0 || err != nil {
		t.Errorf("left are %v, %v, want none", left, err)
	}
	wantObject(t, f, key(1), []byte("verified"))
}

// linked runs a test on a storage with hard links, and on one without.
func linked(t *testing.T, test func(t *testing.T, f *storage.Folder, dir string)) {
	t.Run("hard links", func(t *testing.T) {
		t.Parallel()
		f, dir := openFolder(t)
		test(t, f, dir)
	})
	t.Run("symbolic links", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("symbolic links need a privilege on Windows")
		}
		f, _, dir := openWrapped(t, func(call, _ string) error {
			if call == "link" {
				return syscall.EPERM // what vfat and exfat answer
			}
			return nil
		})
		test(t, f, dir)
	})
}

func TestShownObjectIsReadThroughTheTree(t *testing.T) {
	t.Parallel()
	linked(t, func(t *testing.T, f *storage.Folder, dir string) {
		store(t, f, key(1), []byte("hello"))
		for _, p := range []string{"top", "grace/a", "grace/b/c/d e", "grace/b/c/f"} {
			if got, err := f.Shows(key(1), p); got || err != nil {
				t.Errorf("before: Shows(%q) = %v, %v, want false", p, got, err)
			}
			for range 2 { // a second time changes nothing
				if err := f.Show(key(1), p); err != nil {
					t.Fatal(err)
				}
			}
			wantFile(t, filepath.Join(dir, p), []byte("hello"))
			if got, err := f.Shows(key(1), p); !got || err != nil {
				t.Errorf("after: Shows(%q) = %v, %v, want true", p, got, err)
			}
		}
		if err := f.SyncTree("top", "grace/b/c/f", "not/there"); err != nil {
			t.Errorf("SyncTree: %v", err)
		}
		wantNoLinksOnTheWay(t, dir)
	})
}

// wantNoLinksOnTheWay checks that no temporary name is left.
func wantNoLinksOnTheWay(t *testing.T, dir string) {
	t.Helper()
	if left, err := filepath.Glob(filepath.Join(dir, ".fenc", "link-*")); len(left) != 0 || err != nil {
		t.Errorf("left are %v, %v, want none", left, err)
	}
}

func TestShowReplacesWhole(t *testing.T) {
	t.Parallel()
	linked(t, func(t *testing.T, f *storage.Folder, dir string) {
		store(t, f, key(1), []byte("old"))
		store(t, f, key(2), []byte("new"))
		if err := f.Show(key(1), "grace/a"); err != nil {
			t.Fatal(err)
		}
		reader, err := os.Open(filepath.Join(dir, "grace", "a"))
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
		if err := f.Show(key(2), "grace/a"); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(reader); string(got) != "old" || err != nil {
			t.Errorf("who had it open reads %q, %v, want the old content", got, err)
		}
		wantFile(t, filepath.Join(dir, "grace", "a"), []byte("new"))
		if got, err := f.Shows(key(1), "grace/a"); got || err != nil {
			t.Errorf("Shows(old) = %v, %v, want false", got, err)
		}
		wantObject(t, f, key(1), []byte("old")) // the name went, not the object
		wantNoLinksOnTheWay(t, dir)
	})
}

func TestShowAfterACrashBetweenLinkAndRename(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	store(t, f, key(1), []byte("hello"))
	if err := os.Link(filepath.Join(dir, objectPath(key(1))), filepath.Join(dir, ".fenc", "link-"+key(1))); err != nil {
		t.Fatal(err)
	}
	if err := f.Show(key(1), "grace/a"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "grace", "a"), []byte("hello"))
	wantNoLinksOnTheWay(t, dir)
}

func TestShowThatFailsLeavesTheOldName(t *testing.T) {
	t.Parallel()
	f, fsys, dir := openWrapped(t, nil)
	store(t, f, key(1), []byte("old"))
	store(t, f, key(2), []byte("new"))
	if err := f.Show(key(1), "grace/a"); err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"link", "rename", "lstat"} {
		fsys.Before = failing(syscall.EIO, call)
		if err := f.Show(key(2), "grace/a"); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: got %v, want EIO", call, err)
		}
		wantFile(t, filepath.Join(dir, "grace", "a"), []byte("old"))
	}
	fsys.Before = nil
	wantNoLinksOnTheWay(t, dir)
}

func TestShowOfWhatIsNotThereIsRefused(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	if err := f.Show(key(1), "grace/a"); err == nil {
		t.Error("got nil, want an error")
	}
	if _, err := os.Lstat(filepath.Join(dir, "grace", "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name stands there: %v", err)
	}
}

func TestPlantedLinksDoNotLeadOutside(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege on Windows")
	}
	f, dir := openFolder(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "precious"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	store(t, f, key(1), []byte("hello"))
	if err := os.Symlink(outside, filepath.Join(dir, "grace")); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"grace/precious", "grace/new", "grace/deep/new"} {
		if err := f.Show(key(1), p); err == nil {
			t.Errorf("Show(%q) through a link to the outside: got nil, want an error", p)
		}
	}
	if err := f.Show(key(1), "../escaped"); err == nil {
		t.Error("Show above the storage: got nil, want an error")
	}
	// As the last element it is replaced, not followed.
	if err := os.Symlink(filepath.Join(outside, "precious"), filepath.Join(dir, "last")); err != nil {
		t.Fatal(err)
	}
	if err := f.Show(key(1), "last"); err != nil {
		t.Error(err)
	}
	wantFile(t, filepath.Join(dir, "last"), []byte("hello"))
	wantFile(t, filepath.Join(outside, "precious"), []byte("precious"))
	if entries, err := os.ReadDir(outside); len(entries) != 1 || err != nil {
		t.Errorf("outside are %v, %v, want the one file", entries, err)
	}
}

func TestShowWhereAFileIsInTheWayIsRefused(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	store(t, f, key(1), []byte("one"))
	store(t, f, key(2), []byte("two"))
	if err := f.Show(key(1), "grace/a"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"grace/a/b", "grace/a/b/c", "grace"} {
		if err := f.Show(key(2), p); err == nil {
			t.Errorf("Show(%q): got nil, want an error", p)
		}
	}
	wantFile(t, filepath.Join(dir, "grace", "a"), []byte("one"))
}

func TestLabelTravelsWithItsObject(t *testing.T) {
	t.Parallel()
	for _, kept := range []bool{true, false} { // by the file system, or in a file beside
		t.Run(fmt.Sprint("kept by the file system ", kept), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fsys, err := storagetest.New(dir, func(call, _ string) error {
				if call == "setlabel" && !kept {
					return errors.ErrUnsupported
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			f, err := storage.OpenFolderOn(fsys, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.PutAll(t.Context(), storage.Small{Key: key(1), Data: [][]byte{[]byte("one")}, Label: []byte("first")}); err != nil {
				t.Fatal(err)
			}
			if got, err := f.Label(key(1)); err != nil || string(got) != "first" {
				t.Errorf("label: %q, %v", got, err)
			}
			if err := f.SetLabel(key(1), []byte("2")); err != nil {
				t.Fatal(err)
			}
			if got, err := f.Label(key(1)); err != nil || string(got) != "2" {
				t.Errorf("label set again: %q, %v", got, err)
			}
			var listed []storage.Listed
			err = f.Objects(func(o storage.Listed) error { listed = append(listed, o); return nil }, func(name string) error { return errors.New(name) })
			if want := []storage.Listed{{Key: key(1), Size: 3}}; err != nil || !slices.Equal(listed, want) {
				t.Errorf("objects: %v, %v; want %v", listed, err, want)
			}
			if err := f.Remove(key(1)); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Label(key(1)); !errors.Is(err, storage.ErrGone) {
				t.Errorf("after Remove: %v", err)
			}
			left, err := filepath.Glob(filepath.Join(dir, ".fenc", "objects", "*", "*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}
