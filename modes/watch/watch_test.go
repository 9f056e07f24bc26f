package watch_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"fenc/config"
	"fenc/modes"
	"fenc/modes/send/walk"
	"fenc/modes/send4"
	"fenc/modes/session4"
	"fenc/modes/watch"
	"fenc/modes/watch/queue"
	"fenc/wire/v4"
)

const patience = 3 * time.Minute // after which a test is stuck, not slow

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fenc-watch-test-")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"} {
		os.Setenv(name, filepath.Join(dir, name))
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// lines is what was logged so far, and a way to wait for more.
type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newLines() *lines { return &lines{changed: make(chan struct{})} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) await(t *testing.T, pattern string) []string {
	t.Helper()
	re, late := regexp.MustCompile(pattern), time.After(patience)
	for {
		l.mu.Lock()
		text, changed := l.text.String(), l.changed
		l.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("nothing matched %q in %s; the log is:\n%s", pattern, patience, text)
		}
	}
}

// target is a server, and a client that it knows.
func target(t *testing.T) (dir string, connect func() (watch.Target, error)) {
	t.Helper()
	dir = t.TempDir()
	settings := filepath.Join(dir, "server.toml")
	put(t, settings, "listen = \"127.0.0.1:0\"\nstorage = \"srv/files\"\ndatabase = \"srv/fenc.db\"\n")
	if err := os.Mkdir(filepath.Join(dir, "srv"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log, ended := newLines(), make(chan struct{})
	go func() {
		defer close(ended)
		modes.Run(ctx, []string{"fenc", "serve", "--config", settings}, modes.Streams{In: strings.NewReader(""), Out: log, Err: log})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	address := log.await(t, `msg=listening address=(\S+)`)[1]
	client := filepath.Join(dir, "transfer.toml")
	put(t, client, fmt.Sprintf("server = %q\nname = \"grace\"\n", address))
	said := newLines()
	err := modes.Run(t.Context(), []string{"fenc", "send", "--config", client, "--accept-new", client}, modes.Streams{In: strings.NewReader(""), Out: said, Err: said})
	if err != nil {
		t.Fatalf("register: %v\n%s", err, said)
	}
	loaded, _, err := config.LoadTransfer(client)
	if err != nil {
		t.Fatal(err)
	}
	me, err := config.LoadMe(filepath.Join(dir, "me.toml"))
	if err != nil {
		t.Fatal(err)
	}
	to := watch.Target{Client: me.ID, Me: session4.Identity{Name: me.Name}, Settings: send4.Settings{
		Streams: 1, Attempts: 3, Settings: session4.Settings{Server: address, RequirePQ: true, ConnectTimeout: patience, Timeout: patience, Software: "test"},
	}}
	pin, err := v4.ParseFingerprint(loaded.ServerKey[0])
	if err == nil {
		to.Pins = []v4.Fingerprint{pin}
		to.Me.Key, err = v4.ParseIdentity(me.PrivateKey.Reveal())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, func() (watch.Target, error) { return to, nil }
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// running is a run of watch, with what tells it of changes.
type running struct {
	log    *lines
	notify *fsnotify.Watcher
	stop   func() error
}

// run watches outbox below dir, with no look at everything but those that are asked
// for. change, unless nil, changes the settings.
func run(t *testing.T, dir string, connect func() (watch.Target, error), change func(*watch.Settings)) *running {
	t.Helper()
	outbox := filepath.Join(dir, "outbox")
	if err := os.MkdirAll(outbox, 0o700); err != nil {
		t.Fatal(err)
	}
	kept, err := queue.Open(filepath.Join(dir, "watch.db"))
	if err != nil {
		t.Fatal(err)
	}
	r := &running{log: newLines()}
	notifying := make(chan struct{})
	settings := watch.Settings{
		Folders: []watch.Folder{{Dir: outbox, Name: "outbox", Rescan: 1000 * time.Hour, After: watch.Keep}},
		Queue:   kept, Connect: connect, Explain: func(err error) error { return err }, Notify: func(string) {},
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Notifier: func() (w *fsnotify.Watcher, err error) {
			defer close(notifying)
			r.notify, err = fsnotify.NewWatcher()
			return r.notify, err
		},
	}
	if change != nil {
		change(&settings)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(watch.Run(ctx, settings), kept.Close()) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	if change == nil {
		<-notifying
	}
	r.log.await(t, `msg="looked through"`)
	return r
}

// Where the system could not tell of everything, all is looked through.
func TestOverflowIsMadeUpFor(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	r := run(t, dir, connect, nil)
	if err := r.notify.Remove(filepath.Join(dir, "outbox")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "outbox", "a"), "lost")
	r.notify.Errors <- fsnotify.ErrEventOverflow
	r.log.await(t, `msg=verified file=\S*/outbox/a `)
	if got := strings.Count(r.log.String(), "more changes than the system could tell of"); got != 1 {
		t.Errorf("got %d warnings, want 1:\n%s", got, r.log)
	}
	// The folders are watched again.
	put(t, filepath.Join(dir, "outbox", "b"), "told")
	r.log.await(t, `msg=verified file=\S*/outbox/b `)
}

func TestExcludedFoldersAreNotWatched(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	outbox := filepath.Join(dir, "outbox")
	for _, below := range []string{"kept/deep", "node_modules/a/b", "build/x", ".cache"} {
		if err := os.MkdirAll(filepath.Join(outbox, filepath.FromSlash(below)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := run(t, dir, connect, func(s *watch.Settings) {
		s.Folders[0].Walk = walk.Options{Exclude: []string{"node_modules/", "/build", ".*"}, Prune: func(path string) bool { return filepath.Base(path) == "pruned" }}
	})
	for _, below := range []string{"kept/node_modules/c", "kept/pruned/d", "kept/new"} {
		if err := os.MkdirAll(filepath.Join(outbox, filepath.FromSlash(below)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(outbox, "kept", "node_modules", "c", "not"), "")
	put(t, filepath.Join(outbox, "kept", "new", "file"), "")
	r.log.await(t, `msg=verified file=\S*/kept/new/file `)
	watched := r.notify.WatchList()
	for _, path := range watched {
		if below, _ := filepath.Rel(outbox, path); strings.Contains(below, "node_modules") || strings.Contains(below, "build") || strings.Contains(below, ".cache") || strings.Contains(below, "pruned") {
			t.Errorf("%s is watched, want not", below)
		}
	}
	if len(watched) != 4 {
		t.Errorf("watched: got %q, want the folder, kept, kept/deep and kept/new", watched)
	}
}

// A folder that was moved tells of changes under its new path, one that was moved away
// of none.
func TestMovedFoldersAreWatchedWhereTheyAre(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	outbox := filepath.Join(dir, "outbox")
	at := func(below string) string { return filepath.Join(outbox, filepath.FromSlash(below)) }
	if err := errors.Join(os.MkdirAll(at("a/b/c"), 0o700), os.MkdirAll(at("x/y"), 0o700)); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, connect, nil)
	for i := range 5 { // events and watches meet at different moments
		from, to := fmt.Sprintf("a/b%d", i), fmt.Sprintf("a/b%d", i+1)
		if i == 0 {
			from = "a/b"
		}
		if err := os.Rename(at(from), at(to)); err != nil {
			t.Fatal(err)
		}
		put(t, at(fmt.Sprintf("%s/c/file%d", to, i)), "moved")
		r.log.await(t, fmt.Sprintf(`msg=verified file=\S*/%s/c/file%d `, to, i))
	}
	if err := os.Rename(at("x"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "away", "y", "not"), "")
	put(t, at("last"), "")
	r.log.await(t, `msg=verified file=\S*/outbox/last `)
	for _, path := range r.notify.WatchList() {
		if path == at("x") || path == at("x/y") {
			t.Errorf("%s is watched, want not: it was moved away", path)
		}
	}
}

// Where the system has no watch to give, everything is looked through instead.
func TestWithoutWatchesFoldersAreLookedThrough(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	r := run(t, dir, connect, func(s *watch.Settings) {
		s.Folders[0].Rescan = 10 * time.Millisecond
		s.Notifier = func() (*fsnotify.Watcher, error) { return nil, os.NewSyscallError("inotify_init1", syscall.EMFILE) }
	})
	r.log.await(t, `level=WARN msg="the system does not tell of changes: folders are looked through instead" every=1m0s error="inotify_init1: too many open files" remedy="raise fs.inotify.max_user_instances`)
	put(t, filepath.Join(dir, "outbox", "a"), "seen")
	r.log.await(t, `msg=verified file=\S*/outbox/a `)
}

// A queue that waits is sent by the next process, before it has looked at anything and
// though the file is not as old as settle.
func TestQueueIsSentByTheNextProcess(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	down := errors.New("the server is down")
	r := run(t, dir, func() (watch.Target, error) { return watch.Target{}, down }, nil)
	put(t, filepath.Join(dir, "outbox", "a"), "waits")
	r.log.await(t, `level=ERROR msg="nothing is sent until that is mended" error="the server is down"`)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = run(t, dir, connect, func(s *watch.Settings) { s.Folders[0].Settle = 1000 * time.Hour })
	r.log.await(t, `msg=verified file=\S*/outbox/a `)
}

// What a process that was killed has taken aside to remove it is put back by the next,
// and removed once it was verified.
func TestFileTakenAsideIsPutBack(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	aside := filepath.Join(dir, "outbox", "sub", ".fenc-removing-123")
	if err := os.MkdirAll(aside, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(aside, "report"), "not yet sent")
	r := run(t, dir, connect, func(s *watch.Settings) { s.Folders[0].After = watch.Remove })
	r.log.await(t, `msg="put back what was taken aside`)
	r.log.await(t, `msg=verified file=\S*/outbox/sub/report as=outbox/sub/report bytes=12 `)
	r.log.await(t, `msg=removed file=\S*/outbox/sub/report`)
	if left, err := os.ReadDir(filepath.Join(dir, "outbox", "sub")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v, want nothing", left, err)
	}
}

// A folder that vanishes and comes back, as a disk does that is mounted late, is no
// reason to forget what was verified.
func TestFolderThatComesAndGoes(t *testing.T) {
	t.Parallel()
	dir, connect := target(t)
	outbox := filepath.Join(dir, "outbox")
	if err := os.Mkdir(outbox, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(outbox, "a"), "once")
	r := run(t, dir, connect, func(s *watch.Settings) { s.Folders[0].Rescan = 10 * time.Millisecond })
	r.log.await(t, `msg=verified file=\S*/outbox/a `)
	if err := os.Rename(outbox, outbox+"-away"); err != nil {
		t.Fatal(err)
	}
	r.log.await(t, `level=WARN msg="cannot be sent" file=\S*/outbox error="no such file or directory"`)
	if err := os.Rename(outbox+"-away", outbox); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(outbox, "b"), "then")
	r.log.await(t, `msg=verified file=\S*/outbox/b `)
	if got := strings.Count(r.log.String(), "msg=verified"); got != 2 {
		t.Errorf("verified %d times, want a and b once:\n%s", got, r.log)
	}
}

// A file that somebody has open for writing, or that a link leads to, is sent once and
// kept, which is said once. It was once sent again and again.
func TestWhatCannotBeRemovedIsKeptQuietly(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who writes")
	}
	dir, connect := target(t)
	outbox := filepath.Join(dir, "outbox")
	if err := os.Mkdir(outbox, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "linked"), "elsewhere")
	if err := os.Symlink("../linked", filepath.Join(outbox, "link")); err != nil {
		t.Fatal(err)
	}
	writer, err := os.Create(filepath.Join(outbox, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	r := run(t, dir, connect, func(s *watch.Settings) {
		s.Folders[0].Walk.FollowLinks, s.Folders[0].After, s.Folders[0].Rescan = true, watch.Remove, 10*time.Millisecond
	})
	r.log.await(t, `msg="verified, and kept for now" file=\S*/open reason="[^"]*open for writing`)
	r.log.await(t, `msg="verified, and kept for now" file=\S*/link reason="[^"]*no regular file`)
	for i := range 3 { // looks at everything, the last of which began after both
		r.log.await(t, fmt.Sprintf(`(?s)kept for now.*kept for now(.*msg="looked through"){%d}`, i+1))
	}
	for what, want := range map[string]int{`msg=verified`: 2, "kept for now": 2} {
		if got := strings.Count(r.log.String(), what); got != want {
			t.Errorf("%s: got %d lines, want %d:\n%s", what, got, want, r.log)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	r.log.await(t, `msg=removed file=\S*/open`)
}
