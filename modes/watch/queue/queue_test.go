package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fenc/modes/send"
)

var noon = time.Unix(1_800_000_000, 0)

func openNew(t *testing.T) (*Queue, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state", "watch.db")
	return reopen(t, path), path
}

func reopen(t *testing.T, path string) *Queue {
	t.Helper()
	q, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func file(path string, size int64) File {
	return File{Key: Key{"/outbox", path}, State: send.State{Size: size, MTime: 1, CTime: 2, Device: 3, Inode: 4}}
}

// waiting lists what waits at a time.
func waiting(t *testing.T, q *Queue, now time.Time) string {
	t.Helper()
	files, err := q.Waiting(now, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, fmt.Sprintf("%s:%d", f.Path, f.State.Size))
	}
	return strings.Join(names, " ")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func take(t *testing.T, q *Queue, path string) File {
	t.Helper()
	files, err := q.Known("/outbox", "other", path)
	if f, known := files[path]; err == nil && known && len(files) == 1 {
		return f
	}
	t.Fatalf("%s: got %v, %v, want it known", path, files, err)
	return File{}
}

func TestQueueOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	q, path := openNew(t)
	must(t, q.Add(noon, file("b", 1), file("a", 2), file("c", 3)))
	done := take(t, q, "a")
	done.State.Size, done.Digest = 20, "blake3 00"
	must(t, q.Verified(noon.Add(time.Hour), done))
	failed := take(t, q, "b")
	failed.Tries, failed.NotBefore, failed.Reason = 3, noon.Add(time.Minute), "no"
	must(t, q.Failed(failed))
	if got := waiting(t, q, noon); got != "c:3" {
		t.Errorf("waiting before b's time: got %q, want c", got)
	}
	if at, ok, err := q.Next(); !ok || err != nil || at.UnixNano() != 0 {
		t.Errorf("next: got %v, %t, %v, want at once", at, ok, err)
	}
	must(t, q.Close())

	q = reopen(t, path)
	if got := waiting(t, q, noon); got != "b:1 c:3" {
		t.Errorf("waiting after a restart: got %q, want b, which is tried at once, and c", got)
	}
	a := take(t, q, "a")
	if a.Waiting || a.State != done.State || a.Digest != "blake3 00" || !a.Since.Equal(noon.Add(time.Hour)) {
		t.Errorf("a after a restart: got %+v, want it verified", a)
	}
	must(t, q.Add(noon, file("d", 4)))
	if got := waiting(t, q, noon); got != "b:1 c:3 d:4" {
		t.Errorf("waiting: got %q, want d behind the others", got)
	}
	s, err := q.Summary()
	if want := (Summary{Waiting: 3, WaitingBytes: 8, Oldest: noon, Verified: 1, Failing: 1}); err != nil || s.Waiting != want.Waiting ||
		s.WaitingBytes != want.WaitingBytes || !s.Oldest.Equal(want.Oldest) || s.Verified != want.Verified || s.Failing != want.Failing {
		t.Errorf("summary: got %+v, %v, want %+v", s, err, want)
	}
	failing, err := q.Failing(10)
	if err != nil || len(failing) != 1 || failing[0].Path != "b" || failing[0].Reason != "no" || failing[0].Tries != 3 {
		t.Errorf("failing: got %+v, %v, want b", failing, err)
	}
}

// What was written to a file while it was sent is sent, too.
func TestWhatIsAddedAgainIsNotVerifiedByAnOlderState(t *testing.T) {
	t.Parallel()
	q, _ := openNew(t)
	must(t, q.Add(noon, file("a", 1)))
	taken := take(t, q, "a")
	must(t, q.Add(noon, file("a", 2)))
	must(t, q.Verified(noon, taken))
	must(t, q.Failed(taken))
	must(t, q.Forget(taken))
	if got := waiting(t, q, noon); got != "a:2" {
		t.Errorf("got %q waiting, want a in its new state", got)
	}
	taken.State.Size = 2 // what was read was the new state
	must(t, q.Verified(noon, taken))
	if got := waiting(t, q, noon); got != "" {
		t.Errorf("got %q waiting, want nothing", got)
	}
}

func TestAnotherClientBeginsAnew(t *testing.T) {
	t.Parallel()
	q, _ := openNew(t)
	must(t, q.Add(noon, file("a", 1), file("b", 2)))
	must(t, q.Verified(noon, take(t, q, "a")))
	for _, test := range []struct {
		client string
		again  int64
		want   string
	}{{"one", 0, "b:2"}, {"one", 0, "b:2"}, {"two", 1, "a:1 b:2"}} {
		again, err := q.For(test.client)
		if got := waiting(t, q, noon); err != nil || again != test.again || got != test.want {
			t.Errorf("client %s: got %d again, %v, waiting %q, want %d, %q", test.client, again, err, got, test.again, test.want)
		}
	}
}

func TestOneProcessHasTheQueue(t *testing.T) {
	t.Parallel()
	q, path := openNew(t)
	if _, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("second: got %v, want ErrInUse", err)
	}
	must(t, q.Add(noon, file("a", 1)))
	looking, err := Look(path)
	must(t, err)
	defer looking.Close()
	if s, err := looking.Summary(); err != nil || s.Waiting != 1 || !InUse(path) {
		t.Errorf("beside: got %+v, %v, in use %t, want one file, in use", s, err, InUse(path))
	}
	if err := looking.Add(noon, file("b", 1)); err == nil {
		t.Error("beside: added a file, want refused")
	}
	must(t, q.Close())
	if InUse(path) {
		t.Error("closed: in use, want not")
	}
}

func TestQueueThatIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Look(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: got %v, want fs.ErrNotExist", err)
	}
	path := filepath.Join(dir, "text")
	must(t, os.WriteFile(path, []byte(strings.Repeat("no database", 1000)), 0o600))
	for what, open := range map[string]func(string) (*Queue, error){"Open": Open, "Look": Look} {
		if _, err := open(path); !errors.Is(err, ErrNoQueue) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want ErrNoQueue and the path", what, err)
		}
	}
}

// A folder that is not watched any more keeps what waits in it, for when it is again.
func TestOtherRootsStay(t *testing.T) {
	t.Parallel()
	q, _ := openNew(t)
	other := file("x", 7)
	other.Root = "/other"
	must(t, q.Add(noon, other))
	q.Serve([]string{"/outbox", "/third"})
	if _, ok, err := q.Next(); ok || err != nil || waiting(t, q, noon) != "" {
		t.Errorf("got next %t, %v, waiting %q, want nothing of another root", ok, err, waiting(t, q, noon))
	}
	if s, err := q.Summary(); s.Waiting != 0 || err != nil {
		t.Errorf("summary: got %+v, %v, want nothing", s, err)
	}
	q.Serve([]string{"/other"})
	if got := waiting(t, q, noon); got != "x:7" {
		t.Errorf("got %q waiting, want x", got)
	}
}

func TestFilesOfARoot(t *testing.T) {
	t.Parallel()
	q, _ := openNew(t)
	other := file("b", 1)
	other.Root = "/other"
	must(t, q.Add(noon, file("c", 1), file("a", 1), file("b", 1), other))
	var got []string
	for after := ""; ; {
		files, err := q.Files("/outbox", after, 2)
		must(t, err)
		if len(files) == 0 {
			break
		}
		for _, f := range files {
			got = append(got, f.Path)
			after = f.Path
		}
	}
	if strings.Join(got, " ") != "a b c" {
		t.Errorf("got %q, want a, b, c", got)
	}
	must(t, q.Forget(take(t, q, "a")))
	if files, err := q.Known("/outbox", "a"); len(files) > 0 || err != nil {
		t.Errorf("forgotten: got %v, %v, want it unknown", files, err)
	}
}
