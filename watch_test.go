package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/modes"
)

// watcher is a fenc watch in this process.
type watcher struct {
	log    *output
	ended  chan struct{}
	status int // once ended is closed
	cancel context.CancelFunc
}

// watch starts fenc watch, and ends it with the test. errors, unless nil, is shown its
// log, too.
func watch(t testing.TB, settings string, errors io.Writer, args ...string) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{log: newOutput(), ended: make(chan struct{}), cancel: cancel}
	var log io.Writer = w.log
	if errors != nil {
		log = io.MultiWriter(errors, w.log)
	}
	args = append([]string{"fenc", "watch", "--config", settings, "--queue", queueOf(settings), "--rescan", "7d"}, args...)
	go func() {
		defer close(w.ended)
		w.status = run(ctx, args, modes.Streams{In: strings.NewReader(""), Out: io.Discard, Err: log})
	}()
	t.Cleanup(func() { w.stop(t) })
	return w
}

// queueOf is the queue of the tests of a client.
func queueOf(settings string) string {
	return filepath.Join(filepath.Dir(settings), "state", "watch.db")
}

// stop ends it as SIGTERM does and returns its status.
func (w *watcher) stop(t testing.TB) int {
	t.Helper()
	w.cancel()
	select {
	case <-w.ended:
	case <-time.After(patience):
		t.Fatalf("fenc watch does not end; it said:\n%s", w.log)
	}
	return w.status
}

// awaitVerified waits until a file of so many bytes was verified.
func (w *watcher) awaitVerified(t testing.TB, name string, size int) {
	t.Helper()
	w.log.await(t, fmt.Sprintf(`msg=verified \S* ?as=%s bytes=%d `, regexp.QuoteMeta(name), size), w.ended)
}

// put writes a file, and the folders that it is in, as if it had been left alone for a
// day.
func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(filepath.Dir(filepath.Dir(path)), fmt.Sprintf("put-%p", &content))
	write(t, aside, content)
	before := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(aside, before, before); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
}

// listed is what the server has of a client: lines of mode, size, time, digest and name.
func listed(t testing.TB, settings, prefix string) string {
	t.Helper()
	r := fenc(t.Context(), nil, "list", "--config", settings, prefix)
	r.want(t, 0)
	return r.out
}

func TestWatchSendsWhatAppearsAndChanges(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	at := func(below string) string { return filepath.Join(outbox, filepath.FromSlash(below)) }
	put(t, at("there/before"), "1")
	put(t, at("tmp/left out"), "22")
	w := watch(t, settings, nil, "--settle", "20ms", "--exclude", "/tmp/", outbox)
	w.awaitVerified(t, "outbox/there/before", 1)

	write(t, at("appears"), "333")
	w.awaitVerified(t, "outbox/appears", 3)
	write(t, at("appears"), "changed")
	w.awaitVerified(t, "outbox/appears", 7)
	put(t, at("moved in"), "55555")
	w.log.await(t, `as="outbox/moved in" bytes=5 `, w.ended)
	if err := os.MkdirAll(at("new/deep/deeper"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, at("new/deep/deeper/file"), "666666")
	w.awaitVerified(t, "outbox/new/deep/deeper/file", 6)

	// A folder of another name is watched on under that name.
	if err := os.Rename(at("new"), at("renamed")); err != nil {
		t.Fatal(err)
	}
	w.awaitVerified(t, "outbox/renamed/deep/deeper/file", 6)
	write(t, at("renamed/deep/deeper/later"), "7777777")
	w.awaitVerified(t, "outbox/renamed/deep/deeper/later", 7)

	write(t, at("half.part"), "88888888")
	if err := os.Rename(at("half.part"), at("whole")); err != nil {
		t.Fatal(err)
	}
	w.awaitVerified(t, "outbox/whole", 8)
	if got := w.stop(t); got != 0 {
		t.Errorf("status: got %d, want 0", got)
	}
	all := listed(t, settings, "outbox/")
	for _, not := range []string{"tmp", ".part", "put-"} {
		if strings.Contains(all, not) {
			t.Errorf("sent:\n%s\nwant nothing with %q", all, not)
		}
	}
	// A file that is made, or cut to be written anew, is an empty one until it is written to.
	if got := len(regexp.MustCompile(`msg=verified .* bytes=[1-9]`).FindAllString(w.log.String(), -1)); got != 8 {
		t.Errorf("verified %d times, want 8:\n%s", got, w.log)
	}
	// What was verified is remembered.
	again := fenc(t.Context(), nil, "watch", "--config", settings, "--queue", queueOf(settings), "--once", "--exclude", "/tmp/", outbox)
	again.want(t, 0)
	if strings.Contains(again.errors, "verified") {
		t.Errorf("again: got\n%s\nwant nothing sent", again.errors)
	}
}

// Files in folders that appear while folders are looked at are sent, without another
// look at everything.
func TestWatchMissesNothingInNewFolders(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	put(t, filepath.Join(outbox, "first"), "")
	w := watch(t, settings, nil, "--settle", "0s", outbox)
	w.awaitVerified(t, "outbox/first", 0)
	const folders = 60
	var making sync.WaitGroup
	for half := range 2 {
		making.Go(func() {
			for i := range folders / 2 {
				in := filepath.Join(outbox, fmt.Sprintf("%d-%02d", half, i), "a", "b")
				if err := os.MkdirAll(in, 0o755); err != nil {
					t.Error(err)
				}
				for _, name := range []string{"../../x", "../y", "z"} {
					write(t, filepath.Join(in, filepath.FromSlash(name)), "new")
				}
			}
		})
	}
	making.Wait()
	for half := range 2 {
		for i := range folders / 2 {
			for _, name := range []string{"x", "a/y", "a/b/z"} {
				w.awaitVerified(t, fmt.Sprintf("outbox/%d-%02d/%s", half, i, name), 3)
			}
		}
	}
}

func TestWatchOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	way := newRelay(t)
	d := serveInvited(t, t.TempDir())
	way.server.Store(&d.addr)
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	put(t, filepath.Join(outbox, "one"), "1")
	w := watch(t, settings, nil, "--server", way.Addr().String(), "--settle", "0s", outbox)
	w.awaitVerified(t, "outbox/one", 1)

	way.away()
	d.stop(t)
	write(t, filepath.Join(outbox, "two"), "22")
	w.log.await(t, `level=WARN msg="nothing is sent for now; it is tried again until it works" error="[^"]+"`, w.ended)
	write(t, filepath.Join(outbox, "three"), "333")
	status := fenc(t.Context(), nil, "watch", "--config", settings, "--queue", queueOf(settings), "--status")
	status.want(t, 0, "a fenc watch runs", "verified  1 file")

	d = serve(t, d.dir)
	way.server.Store(&d.addr)
	w.log.await(t, `msg="files are sent again" after=`, w.ended)
	w.awaitVerified(t, "outbox/two", 2)
	w.awaitVerified(t, "outbox/three", 3)
	if got := strings.Count(w.log.String(), "level=WARN"); got != 1 {
		t.Errorf("got %d warnings, want one for the outage:\n%s", got, w.log)
	}
}

// A server with another key gets nothing until fenc trust has been told of it; then it
// gets everything, without a restart.
func TestWatchWaitsUntilAChangedKeyIsTrusted(t *testing.T) {
	t.Parallel()
	way := newRelay(t)
	d := serveInvited(t, t.TempDir())
	way.server.Store(&d.addr)
	dir, settings := d.join(t, "--name", "grace")
	write(t, settings, strings.ReplaceAll(readFile(t, settings), d.addr, way.Addr().String()))
	outbox := filepath.Join(dir, "outbox")
	put(t, filepath.Join(outbox, "one"), "1")
	w := watch(t, settings, nil, "--settle", "0s", outbox)
	w.awaitVerified(t, "outbox/one", 1)

	other := serve(t, t.TempDir())
	way.server.Store(&other.addr)
	d.stop(t)
	put(t, filepath.Join(outbox, "two"), "22")
	key := w.log.await(t, `level=ERROR msg="nothing is sent until that is mended" error="THE SERVER'S KEY HAS CHANGED[^"]*run: fenc trust (SHA256:[^"]+)"`, w.ended)[1]
	fenc(t.Context(), nil, "trust", "--config", settings, key).want(t, 0)
	w.log.await(t, `msg="another client or server than before: what was sent before is offered again" files=1`, w.ended)
	w.awaitVerified(t, "outbox/two", 2)
	w.stop(t)
	if got := listed(t, settings, "outbox/"); !strings.Contains(got, "outbox/one") || !strings.Contains(got, "outbox/two") {
		t.Errorf("the new server has\n%s\nwant both files", got)
	}
}

func TestWatchRemovesOrMovesWhatWasVerified(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	for _, test := range []struct {
		after string
		args  []string
	}{{"removed", []string{"--after", "remove"}}, {"moved", []string{"--after", "move", "--move-to", filepath.Join(dir, "moved", "sent")}}} {
		outbox := filepath.Join(dir, test.after)
		put(t, filepath.Join(outbox, "a", "one"), "1")
		put(t, filepath.Join(outbox, "two"), "22")
		w := watch(t, settings, nil, append(test.args, "--settle", "2s", outbox)...)
		for _, name := range []string{"a/one", "two"} {
			w.log.await(t, fmt.Sprintf(`msg=%s file=\S*/%s/%s`, test.after, test.after, name), w.ended)
			if _, err := os.Lstat(filepath.Join(outbox, filepath.FromSlash(name))); err == nil {
				t.Errorf("%s: %s is there, want it gone", test.after, name)
			}
		}
		w.stop(t)
		if got := strings.Count(listed(t, settings, test.after+"/"), "\n"); got != 2 {
			t.Errorf("%s: the server has %d files, want 2", test.after, got)
		}
		r := fenc(t.Context(), nil, "watch", "--config", settings, "--queue", queueOf(settings), "--status")
		r.want(t, 0, "waiting   0 files", "verified  0 files")
	}
	for _, name := range []string{"a/one", "two"} { // in the watched folder, and not sent again
		if _, err := os.Lstat(filepath.Join(dir, "moved", "sent", filepath.FromSlash(name))); err != nil {
			t.Errorf("moved: %v", err)
		}
	}
}

// onLine calls do, once, before the line that holds text has been written.
type onLine struct {
	text string
	once sync.Once
	do   func()
}

func (o *onLine) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(o.text)) {
		o.once.Do(o.do)
	}
	return len(p), nil
}

// A file that is written to between its verification and its removal is kept, sent
// again, and only then removed.
func TestWatchKeepsWhatChangedSinceItWasVerified(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("size and time tell less there")
	}
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	file := filepath.Join(outbox, "file")
	put(t, file, "old")
	between := &onLine{text: "msg=verified", do: func() { write(t, file, "new content") }}
	w := watch(t, settings, between, "--settle", "2s", "--after", "remove", outbox)
	w.log.await(t, `msg="has changed since it was verified: it is kept, and sent again" file=\S*/file`, w.ended)
	if got := readFile(t, file); got != "new content" {
		t.Errorf("the file is %q, want what was written", got)
	}
	w.awaitVerified(t, "outbox/file", len("new content"))
	w.log.await(t, `msg=removed file=\S*/file`, w.ended)
	if !strings.Contains(listed(t, settings, "outbox/file"), fmt.Sprintf("  %d  ", len("new content"))) {
		t.Errorf("the server has\n%s\nwant the new content", listed(t, settings, "outbox/file"))
	}
}

func TestWatchOnce(t *testing.T) {
	t.Parallel()
	way := newRelay(t)
	d := serveInvited(t, t.TempDir())
	way.server.Store(&d.addr)
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	once := func(args ...string) result {
		t.Helper()
		return fenc(t.Context(), nil, append([]string{"watch", "--config", settings, "--queue", queueOf(settings), "--server", way.Addr().String(), "--once", "--settle", "20ms"}, append(args, outbox)...)...)
	}
	put(t, filepath.Join(outbox, "one"), "1")
	write(t, filepath.Join(outbox, "fresh"), "22")
	r := once()
	r.want(t, 0, "msg=verified", "as=outbox/one", "as=outbox/fresh")

	if runtime.GOOS != "windows" {
		bad := filepath.Join(outbox, "bad\nname")
		write(t, bad, "")
		r = once()
		r.want(t, 1, "cannot be sent", "control character", "rename it", "fenc: watch: 1 file not verified: fenc watch --status says why")
		status := func() result { // which said that nothing fails
			return fenc(t.Context(), nil, "watch", "--config", settings, "--queue", queueOf(settings), "--status")
		}
		status().want(t, 0, "waiting   0 files", "failing   1 file", `outbox/bad\nname: bad path`)
		os.Remove(bad)
		once().want(t, 0)
		if r := status(); strings.Contains(r.out, "failing") {
			t.Errorf("status: got\n%s\nwant nothing that fails", r.out)
		}
	}

	way.away()
	d.stop(t)
	write(t, filepath.Join(outbox, "while it was down"), "333")
	r = once("--retry-for", "0s")
	r.want(t, 1, "connection to "+way.Addr().String()+" lost")
	d = serve(t, d.dir)
	way.server.Store(&d.addr)
	once().want(t, 0, `as="outbox/while it was down"`)

	d.operator(t, "clients", "revoke", "grace").want(t, 0)
	d.log.await(t, `"msg":"client changed"`, d.ended)
	write(t, filepath.Join(outbox, "too late"), "4444")
	once().want(t, 3, "ask the server's operator")
}

func TestWatchStatus(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	queue := queueOf(settings)
	status := func(args ...string) result {
		return fenc(t.Context(), nil, append([]string{"watch", "--config", settings, "--queue", queue, "--status"}, args...)...)
	}
	status().want(t, 2, queue, "no such file", "fenc watch makes it when it first runs", "--queue")

	d.operator(t, "clients", "quota", "grace", "10").want(t, 0)
	outbox := filepath.Join(dir, "outbox")
	put(t, filepath.Join(outbox, "small"), "1")
	w := watch(t, settings, nil, "--settle", "0s", outbox)
	w.awaitVerified(t, "outbox/small", 1)
	put(t, filepath.Join(outbox, "large"), strings.Repeat("x", 1000))
	w.log.await(t, `level=WARN msg="not verified: it stays in the queue" file=\S*/large error="[^"]*quota`, w.ended)

	status().want(t, 0, "queue     "+queue+" (a fenc watch runs)", "waiting   1 file, 1000 B, the first since ", "verified  1 file",
		"failing   1 file", "  "+filepath.Join(outbox, "large")+": ", "quota", "(tried 1 times, again at ")
	var got struct {
		Running                    bool
		Waiting, Verified, Failing int
		WaitingBytes               int        `json:"waiting_bytes"`
		WaitingSince               *time.Time `json:"waiting_since"`
		Files                      []struct{ File, Reason string }
	}
	if err := json.Unmarshal([]byte(status("--json").out), &got); err != nil || !got.Running || got.Waiting != 1 || got.WaitingBytes != 1000 ||
		got.WaitingSince == nil || got.Verified != 1 || got.Failing != 1 || len(got.Files) != 1 || got.Files[0].File != filepath.Join(outbox, "large") {
		t.Errorf("--json: got %+v, %v", got, err)
	}

	second := fenc(t.Context(), nil, "watch", "--config", settings, "--queue", queue, outbox)
	second.want(t, 2, queue, "in use by another fenc watch", "one fenc watch can watch several folders", "--queue")
	if got := w.stop(t); got != 0 || !strings.Contains(w.log.String(), "msg=stopped") {
		t.Errorf("status: got %d, want 0 and a line that says stopped:\n%s", got, w.log)
	}
	status().want(t, 0, "(no fenc watch runs)")
}

// catalogueOf is the path of a stopped server's database.
func catalogueOf(t testing.TB) string {
	t.Helper()
	d := serve(t, t.TempDir())
	d.stop(t)
	return filepath.Join(d.dir, "fenc.db")
}

func TestWatchMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), "server = \"127.0.0.1:9\"\n")
	file := write(t, filepath.Join(dir, "file"), "")
	for _, below := range []string{"a/b", "x/a"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(below)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := filepath.Join(dir, "a")
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"nothing":                 {nil, []string{"nothing to watch", "name a DIR", "[[watch]]"}},
		"missing":                 {[]string{a + "x"}, []string{a + "x: no such file or directory: make the folder"}},
		"a file":                  {[]string{file}, []string{file + ": is a file", "fenc send"}},
		"one in the other":        {[]string{a, filepath.Join(a, "b")}, []string{"one in the other", "watch the outer one alone"}},
		"names alike":             {[]string{a, filepath.Join(dir, "x", "a")}, []string{"could have the same name", `"a"`, "as"}},
		"a name for two":          {[]string{"--as", "n", a, filepath.Join(dir, "x")}, []string{`--as "n" is for one DIR`}},
		"a name that climbs":      {[]string{"--as", "../n", a}, []string{"as: bad path"}},
		"a name and no folder":    {[]string{"--as", "n"}, []string{"--as is for folders that the command line names", "write as into"}},
		"move and no folder":      {[]string{"--after", "move", a}, []string{"move_to", "empty"}},
		"what":                    {[]string{"--after", "delete", a}, []string{`--after "delete": not known`, `write "keep", "remove" or "move"`}},
		"moved into itself":       {[]string{"--after", "move", "--move-to", a, a}, []string{"move_to is the folder itself"}},
		"too soon to tell":        {[]string{"--after", "remove", "--settle", "1s", a}, []string{"--settle \"1s\": under 2s"}},
		"unit missing":            {[]string{"--settle", "3", a}, []string{"--settle \"3\": unit missing"}},
		"a pattern that is none":  {[]string{"--exclude", "[a", a}, []string{"[a", "is no pattern"}},
		"nobody to trust the key": {[]string{"--no-input", a}, []string{"connect to 127.0.0.1:9"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"watch", "--config", settings, "--queue", filepath.Join(t.TempDir(), "watch.db")}, test.args...)
			status := 2
			if name == "nobody to trust the key" {
				status = 1
			}
			fenc(t.Context(), strings.NewReader(""), args...).want(t, status, test.want...)
		})
	}
	for name, text := range map[string]string{"precious.txt": "precious", "long.txt": strings.Repeat("precious\n", 1000), "catalogue": readFile(t, catalogueOf(t))} {
		at := t.TempDir()
		precious := write(t, filepath.Join(at, name), text) // which was called a damaged queue, to be removed
		for _, more := range []string{"--once", "--status"} {
			fenc(t.Context(), nil, "watch", "--config", settings, "--queue", precious, more, a).want(t, 2, precious+" is no queue of fenc watch; name another file with --queue")
		}
		if left, err := os.ReadDir(at); err != nil || len(left) != 1 || readFile(t, precious) != text {
			t.Errorf("%s: got %v, %v, want it as it was, and nothing beside it", name, left, err)
		}
	}
	three := write(t, filepath.Join(dir, "three.toml"), "protocol = 3\n")
	fenc(t.Context(), nil, "watch", "--config", three, a).want(t, 2, "protocol 4 alone", "protocol = 3")
}

// Folders of transfer.toml, ten thousand files at the start.
func TestWatchTenThousandFiles(t *testing.T) {
	t.Parallel()
	files := need.Rounds(0, 10_000, 500)
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	before := time.Now().Add(-time.Hour)
	for i := range files {
		in := filepath.Join(dir, "tree", fmt.Sprintf("%02d", i%100))
		if i < 100 {
			if err := os.MkdirAll(in, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		path := write(t, filepath.Join(in, fmt.Sprintf("%05d", i)), fmt.Sprint(i))
		if err := os.Chtimes(path, before, before); err != nil {
			t.Fatal(err)
		}
	}
	write(t, settings, readFile(t, settings)+"\nlog_level = \"warn\"\n[[watch]]\ndir = \"tree\"\nas = \"scans/2026\"\n")
	once := func(args ...string) result {
		return fenc(t.Context(), nil, append([]string{"watch", "--config", settings, "--queue", queueOf(settings), "--once"}, args...)...)
	}
	r := once()
	r.want(t, 0)
	if r.errors != "" {
		t.Errorf("log: got\n%s\nwant nothing below a warning", r.errors)
	}
	if got := strings.Count(listed(t, settings, "scans/2026/"), "\n"); got != files {
		t.Errorf("the server has %d files, want %d", got, files)
	}
	// What is remembered needs no connection.
	once("--server", need.DeadAddress(t)).want(t, 0)
}
