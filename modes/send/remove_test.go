package send

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func stateAt(t *testing.T, path string) State {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return StateOf(info)
}

// names lists a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// chmodLater changes a file's permissions at another time than that of the change before:
// the clock that many systems take that from stands still for milliseconds.
func chmodLater(path string, mode os.FileMode) error {
	before, err := os.Lstat(path)
	for now := before; err == nil && StateOf(now).CTime == StateOf(before).CTime; now, err = os.Lstat(path) {
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return err
}

func TestRemoveTakesWhatIsAsItWasSent(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "verified")
	if err := Remove(path, stateAt(t, path)); err != nil {
		t.Fatal(err)
	}
	if got := names(t, filepath.Dir(path)); len(got) > 0 {
		t.Errorf("left: %q, want nothing", got)
	}
}

func TestRemoveLeavesWhatHasChanged(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("nothing there tells files apart")
	}
	for name, test := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"longer":     {func(path string) error { return os.Truncate(path, 99) }, "8 bytes, then 99"},
		"modified":   {func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }, "it was modified"},
		"its mode":   {func(path string) error { return chmodLater(path, 0o640) }, "permissions"},
		"a pipe now": {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "no regular file"},
		"another of the same size and time": {func(path string) error {
			info, err := os.Stat(path)
			return errors.Join(err, os.WriteFile(path+"2", []byte("replaced"), 0o600), os.Chtimes(path+"2", time.Time{}, info.ModTime()), os.Rename(path+"2", path))
		}, "another file of that name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, "verified")
			sent := stateAt(t, path)
			if err := test.change(path); err != nil {
				t.Fatal(err)
			}
			now := stateAt(t, path)
			for what, err := range map[string]error{"Remove": Remove(path, sent), "Move": Move(path, sent, path+"-moved")} {
				if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("%s: got %v, want ErrChanged with %q", what, err, test.want)
				}
			}
			if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"a.txt"}) || stateAt(t, path) != now {
				t.Errorf("left: %q, want a.txt as it was", got)
			}
		})
	}
}

func TestRemoveLeavesWhatSomebodyWritesTo(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells")
	}
	path := writeFile(t, "verified")
	writer, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	before := stateAt(t, path)
	if err := Remove(path, before); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "open for writing") || stateAt(t, path) != before {
		t.Errorf("got %v, want ErrChanged, open for writing, and the file as it was", err)
	}
	if _, err := writer.WriteString(", and more"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); string(got) != "verified, and more" || err != nil {
		t.Errorf("got %q, %v, want what was written all there", got, err)
	}
	// Readers are no reason to keep it.
	writer.Close()
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := Remove(path, stateAt(t, path)); err != nil {
		t.Errorf("with a reader: got %v, want removed", err)
	}
}

// Whatever a program puts at the path while the file is removed is still there, under
// that name or one with a number.
func TestRemoveLosesNothingToARace(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has what it takes")
	}
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "a"), t.TempDir()
	for round := range 300 {
		if err := os.WriteFile(path, []byte("verified"), 0o600); err != nil {
			t.Fatal(err)
		}
		sent := stateAt(t, path)
		var racing sync.WaitGroup
		start := make(chan struct{})
		var kept []string
		appended := false
		racing.Go(func() {
			<-start
			for i := range 3 {
				content := fmt.Sprintf("new %d %d", round, i)
				next := filepath.Join(elsewhere, fmt.Sprint(round, i))
				if err := errors.Join(os.WriteFile(next, []byte(content), 0o600), renameNew(next, path)); err != nil {
					kept = append(kept, next) // the place was taken, so that it is here
				}
			}
		})
		racing.Go(func() {
			<-start
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err == nil {
				fmt.Fprintf(f, " appended %d", round)
				f.Close()
				appended = true
			}
		})
		close(start)
		Remove(path, sent) // may be refused
		racing.Wait()
		found := ""
		for _, name := range names(t, dir) {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			found += string(content) + "\n"
			os.Remove(filepath.Join(dir, name))
		}
		if appended && !strings.Contains(found, fmt.Sprintf(" appended %d", round)) {
			t.Fatalf("round %d: what was appended is gone; there is:\n%s", round, found)
		}
		placed := 3 - len(kept)
		if got := strings.Count(found, fmt.Sprintf("new %d ", round)); got != placed {
			t.Fatalf("round %d: %d files were put there, %d are:\n%s", round, placed, got, found)
		}
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	to := filepath.Join(t.TempDir(), "done", "2026", "a.txt")
	for range 3 {
		path := writeFile(t, "verified")
		if err := Move(path, stateAt(t, path), to); err != nil {
			t.Fatal(err)
		}
		if got := names(t, filepath.Dir(path)); len(got) > 0 {
			t.Errorf("left: %q, want nothing", got)
		}
	}
	if got, want := names(t, filepath.Dir(to)), []string{"a.txt", "a.txt.~1~", "a.txt.~2~"}; !slices.Equal(got, want) {
		t.Errorf("moved: got %q, want %q", got, want)
	}
}

func TestMoveThatFailsLeavesTheFile(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "verified")
	inTheWay := writeFile(t, "a file where a folder belongs")
	if err := Move(path, stateAt(t, path), filepath.Join(inTheWay, "a.txt")); err == nil || !strings.Contains(err.Error(), "make the folder to move to") {
		t.Errorf("got %v, want that the folder cannot be made", err)
	}
	if got := names(t, filepath.Dir(path)); !slices.Equal(got, []string{"a.txt"}) {
		t.Errorf("left: %q, want a.txt", got)
	}
}

// A process that ends in the middle leaves the file where PutBack finds it.
func TestPutBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i, name := range []string{"a", "a", "b"} {
		aside, err := os.MkdirTemp(dir, asideDir)
		if err == nil {
			err = os.WriteFile(filepath.Join(aside, name), []byte{byte('0' + i)}, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !IsAside(filepath.Base(aside)) {
			t.Errorf("IsAside(%q): got false, want true", filepath.Base(aside))
		}
		if err := PutBack(aside); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := names(t, dir), []string{"a", "a.~1~", "b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if IsAside("a") {
		t.Error(`IsAside("a"): got true, want false`)
	}
}
