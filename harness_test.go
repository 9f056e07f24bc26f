package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model"
	"fenc/model/postgrestest"
	"fenc/modes"
)

const patience = 60 * time.Second // after which a test is stuck, not slow

// sourceDir is where the tests were started: the folder of package main.
var sourceDir string

// TestMain keeps the tests apart from the settings of whoever runs them: his
// environment, his configuration directory, and files beside the source.
func TestMain(m *testing.M) {
	if step := os.Getenv(crashVariable); step != "" {
		os.Exit(serveUntilCrash(step))
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "FENC_") && name != need.Variable {
			os.Unsetenv(name)
		}
	}
	dir, err := os.MkdirTemp("", "fenc-test-")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	goCache, _ := exec.Command("go", "env", "GOCACHE").Output()
	os.Setenv("GOCACHE", strings.TrimSpace(string(goCache))) // which is below the next one unless it is said
	os.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	os.Setenv("XDG_STATE_HOME", filepath.Join(dir, "state"))
	if sourceDir, err = os.Getwd(); err != nil {
		panic(err)
	}
	if err := os.Chdir(dir); err != nil {
		panic(err)
	}
	status := postgrestest.Main(m)
	os.RemoveAll(dir)
	os.Exit(status)
}

// output is what a stream got so far, and a way to wait for more.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await returns the first match of pattern, with its groups. It gives up where
// ended is closed without one.
func (o *output) await(t testing.TB, pattern string, ended <-chan struct{}) []string {
	t.Helper()
	re, late := regexp.MustCompile(pattern), time.After(patience)
	for {
		o.mu.Lock()
		text, changed := o.text.String(), o.changed
		o.mu.Unlock()
		if m := re.FindStringSubmatch(text); m != nil {
			return m
		}
		select {
		case <-changed:
		case <-ended:
			if m := re.FindStringSubmatch(o.String()); m != nil {
				return m
			}
			t.Fatalf("ended without %q; it said:\n%s", pattern, o)
		case <-late:
			t.Fatalf("nothing matched %q in %s; it said:\n%s", pattern, patience, o)
		}
	}
}

// result is what a call of fenc came to.
type result struct {
	status      int
	out, errors string
}

// fenc runs fenc in this process to its end. Where it comes to none, the test binary
// ends, and says what it was and where it stood.
func fenc(ctx context.Context, stdin io.Reader, args ...string) result {
	stuck := time.AfterFunc(5*patience, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("fenc %q does not end", args))
	})
	defer stuck.Stop()
	var out, errors bytes.Buffer
	status := run(ctx, append([]string{"fenc"}, args...), modes.Streams{In: stdin, Out: &out, Err: &errors})
	return result{status, out.String(), errors.String()}
}

// want checks a status and texts in what was said.
func (r result) want(t testing.TB, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("exit status: got %d, want %d; it said:\n%s%s", r.status, status, r.out, r.errors)
	}
	for _, text := range texts {
		if !strings.Contains(r.out+r.errors, text) {
			t.Errorf("output: got\n%s%s\nwant %q in it", r.out, r.errors, text)
		}
	}
}

// daemon is a fenc serve in this process.
type daemon struct {
	addr, dir string
	log       *output
	ended     chan struct{}
	status    int // once ended is closed
	cancel    context.CancelFunc
}

// serve starts a server whose files are in dir, and ends it with the test.
func serve(t testing.TB, dir string, args ...string) *daemon {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{dir: dir, log: newOutput(), ended: make(chan struct{}), cancel: cancel}
	path := filepath.Join(dir, "server.toml")
	if _, err := os.Stat(path); err != nil {
		write(t, path, "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nlog_format = \"json\"\n")
	}
	go func() {
		defer close(d.ended)
		d.status = run(ctx, append([]string{"fenc", "serve", "--config", path}, args...), modes.Streams{In: strings.NewReader(""), Out: io.Discard, Err: d.log})
	}()
	t.Cleanup(func() { d.stop(t) })
	d.addr = d.log.await(t, `"msg":"listening","address":"([^"]+)"`, d.ended)[1]
	return d
}

// stop ends the server as SIGTERM does and returns its status.
func (d *daemon) stop(t testing.TB) int {
	t.Helper()
	d.cancel()
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Fatalf("the server does not end; it said:\n%s", d.log)
	}
	return d.status
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// client is the folder of a client with a transfer.toml for the server.
func client(t testing.TB, server, name string) (dir, settings string) {
	t.Helper()
	dir = t.TempDir()
	return dir, write(t, filepath.Join(dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = %q\nprotocol = 3\n", server, name))
}

// wantStored looks a file up in a stopped server's catalogue and storage.
func wantStored(t *testing.T, d *daemon, owner, name, content string) {
	t.Helper()
	catalogue, err := model.Open(filepath.Join(d.dir, "fenc.db"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	c, ok, _ := catalogue.ClientNamed(owner)
	if !ok {
		t.Fatalf("the catalogue has no client %q", owner)
	}
	f, ok, _ := catalogue.File(c.ID, name)
	if !ok || !f.Verified || f.Size != int64(len(content)) {
		t.Errorf("row of %q: got %+v, %t, want %d bytes verified", name, f, ok, len(content))
	}
	got, err := os.ReadFile(filepath.Join(d.dir, "files", filepath.FromSlash(f.FilePath)))
	if err != nil || string(got) != content {
		t.Errorf("stored file: got %.50q, %v, want %.50q", got, err, content)
	}
}
