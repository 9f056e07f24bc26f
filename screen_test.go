//go:build unix

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fenc/model/storage/s3/s3test"
	"fenc/modes/progress/screentest"
)

// watched is a fenc on a terminal, with a client that its server knows and a way
// there that can be held up.
type watched struct {
	t      *testing.T
	dir    string   // of the client
	env    []string // besides what every terminal has
	server *child
	way    *relay
	screen *screentest.Screen
	fenc   *exec.Cmd
	ended  chan struct{}
	open   chan struct{} // ends what holds the way up
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir(), way: newRelay(t)}
	w.server = start(t, t.TempDir(), []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
	address := w.server.address(t)
	w.way.server.Store(&address)
	write(t, filepath.Join(w.dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = \"grace\"\n", w.way.Addr()))
	start(t, w.dir, nil, "send", "--accept-new", write(t, filepath.Join(w.dir, "first"), "")).result(t).want(t, 0)
	return w
}

// file makes a file of so many MiB.
func (w *watched) file(name string, size int) {
	w.t.Helper()
	write(w.t, filepath.Join(w.dir, name), string(bytes.Repeat([]byte("0123456789abcdef"), size<<16)))
}

// holdUp has the way let so many MiB more pass, and nothing behind them until
// release.
func (w *watched) holdUp(size int64) {
	open := make(chan struct{})
	w.open = open
	w.way.after(size<<20, func() { <-open })
}

func (w *watched) release() {
	if w.open != nil {
		close(w.open)
		w.open = nil
	}
}

// run runs fenc on a terminal.
func (w *watched) run(columns, rows int, args ...string) {
	w.t.Helper()
	path, err := binary()
	if err != nil {
		w.t.Fatal(err)
	}
	w.screen = screentest.New(w.t, columns, rows)
	w.fenc, w.ended = exec.Command(path, args...), make(chan struct{})
	w.fenc.Dir, w.fenc.Stdin, w.fenc.Stdout, w.fenc.Stderr = w.dir, w.screen.TTY, w.screen.TTY, w.screen.TTY
	w.fenc.Env = []string{"HOME=" + w.dir, "XDG_CONFIG_HOME=" + filepath.Join(w.dir, "config"), "TERM=xterm", "TMPDIR=" + w.t.TempDir()}
	w.fenc.Env = append(w.fenc.Env, w.env...)
	w.fenc.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := w.fenc.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		w.fenc.Wait()
		close(w.ended)
	}()
	w.t.Cleanup(func() {
		w.release()
		w.fenc.Process.Kill()
		<-w.ended
	})
}

// wantEnd waits for the end and checks the status.
func (w *watched) wantEnd(status int) {
	w.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(patience):
		w.t.Fatalf("fenc does not end; the screen:\n%s", w.screen.Text())
	}
	w.screen.Settle()
	if got := w.fenc.ProcessState.ExitCode(); got != status {
		w.t.Errorf("exit status: got %d, want %d; the screen:\n%s", got, status, w.screen.Text())
	}
}

// On a terminal a server that nobody has confirmed is asked about, unless nothing may
// be asked.
func TestUnknownServerOnATerminal(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	unknown := fmt.Sprintf("server = %q\nname = \"grace\"\n", w.way.Addr())
	write(t, filepath.Join(w.dir, "transfer.toml"), unknown)
	w.run(200, 24, "send", "--no-input", "first")
	w.wantEnd(2)
	if text := w.screen.Text(); strings.Contains(text, "[yes/no]") || !strings.Contains(text, "--accept-new") {
		t.Errorf("with --no-input, the screen:\n%s", text)
	}
	w.run(200, 24, "send", "first")
	w.screen.Await(`Is it this one\? \[yes/no\]`, w.ended)
	if _, err := w.screen.PTY.WriteString("yes\n"); err != nil {
		t.Fatal(err)
	}
	w.wantEnd(0)
}

// The first Ctrl-C at a question did nothing: it was read on.
func TestInterruptAtAQuestion(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	write(t, filepath.Join(w.dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = \"grace\"\n", w.way.Addr()))
	for _, question := range []struct{ command, asks string }{
		{"join", "Paste the invite:"}, {"send first", `Is it this one\? \[yes/no\]`}, {"trust", `Is it this one\? \[yes/no\]`},
	} {
		w.run(200, 24, strings.Fields(question.command)...)
		w.screen.Await(question.asks, w.ended)
		if _, err := w.screen.PTY.Write([]byte("\x03")); err != nil {
			t.Fatal(err)
		}
		w.wantEnd(130)
		w.screen.Await(`\nfenc: \w+: interrupted: nothing was done`, w.ended)
	}
}

// A transfer as it is seen: what is held, a cut, going on there, and verified only at
// the end.
func TestScreenOfASendThatIsCut(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{80, 30} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			t.Parallel()
			w := newWatched(t)
			w.file("big", 10)
			w.holdUp(6)
			w.run(columns, 24, "send", "big")
			text := w.screen.Await(`^big .*[56]0%`, w.ended)
			bar, row := columns >= 50, strings.SplitN(text, "\n", 2)[0]
			if strings.Contains(row, "[####") != bar {
				t.Errorf("got the row %q, want a bar: %t", row, bar)
			}
			w.screen.Await(`^held [56]\.0 MiB of 10 MiB`, w.ended)

			held := w.open
			w.holdUp(1)
			w.way.cut()
			close(held)
			w.screen.Await(`trying\s+again in`, w.ended)
			if bar {
				w.screen.Await(`^big .*[56]0%  resuming at [56]0%`, w.ended)
			}
			w.release()
			w.wantEnd(0)
			text = w.screen.Await(`^big  .*verified`, w.ended)
			if strings.Contains(text, "held ") || strings.Contains(text, "%") {
				t.Errorf("at the end:\n%s\nwant no bars", text)
			}
			if seen := w.screen.Percents("big"); seen[len(seen)-1] == 100 {
				t.Errorf("percentages: got %v, want 100 to be said by verified alone", seen)
			}
		})
	}
}

func TestInterruptSaysWhatTheServerHolds(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.file("big", 10)
	w.holdUp(6)
	w.run(80, 24, "send", "big")
	w.screen.Await(`^big .*[56]0%`, w.ended)
	w.screen.PTY.Write([]byte("\x03"))
	w.wantEnd(130)
	w.screen.Await(`^fenc: send: interrupted: 0 files verified; the server holds [56]0 % of big: send`, w.ended)
	w.way.cut() // the rest is on the way, perhaps all of it, and would still arrive
	w.release()
	w.run(80, 24, "send", "big")
	w.wantEnd(0)
	w.screen.Await(`^big  10 MiB .*verified$`, w.ended)
}

// A fenc that cannot end, because its terminal takes no more, ends by a second
// interrupt.
func TestSecondInterruptAborts(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.file("big", 10)
	w.holdUp(6)
	w.run(80, 24, "send", "big")
	w.screen.Await(`^big .*[56]0%`, w.ended)
	w.screen.Stall()
	late := time.After(patience)
	for again := time.NewTicker(100 * time.Millisecond); ; {
		w.fenc.Process.Signal(syscall.SIGINT)
		select {
		case <-again.C:
			continue
		case <-w.ended:
		case <-late:
			t.Fatal("fenc does not end")
		}
		break
	}
	if status := w.fenc.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("got %v, want ended by the signal", w.fenc.ProcessState)
	}
}

func TestScreenOfAGet(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.file("big", 10)
	start(t, w.dir, nil, "send", "big").result(t).want(t, 0)
	os.Remove(filepath.Join(w.dir, "big"))
	w.way.cutBack(4 << 20)
	w.run(80, 24, "get", "--explain", "big")
	w.wantEnd(0)
	w.screen.Await(`lost while reading`, nil)
	w.screen.Await(`^big  10 MiB .*verified$`, nil)
	w.screen.Await(`held it back: of \d+\.\d s,`, nil)
	w.screen.Await(`pauses before`, nil)
}

// An error in the middle of a run is told above the bars, and the others go on.
func TestScreenWithAnErrorInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.file("big", 10)
	if err := os.Mkdir(filepath.Join(w.dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(w.dir, "folder", "socket"))
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	w.holdUp(6)
	// first is offered while big is sent: not so fast that the way is held up before.
	w.run(80, 24, "send", "--bwlimit", "2M", "folder", "gone", "first", "big")
	w.screen.Await(`^gone  not verified: no such file or directory$`, w.ended)
	w.screen.Await(`^fenc: folder/socket skipped: is a socket`, w.ended)
	w.screen.Await(`^big .*[56]0%`, w.ended)
	w.screen.Await(`^total .*\d%`, w.ended)
	w.screen.Await(`1/2 files  1 failed`, w.ended)
	w.release()
	w.wantEnd(1)
	w.screen.Await(`^first  0 B .*unchanged$`, w.ended)
	w.screen.Await(`^fenc: 2 files verified \(1 unchanged\), 1 not; 10 MiB in`, w.ended)
	w.screen.Await(`^fenc: send: 1 of 3 files not verified$`, w.ended)
}

// Reading all content takes long: a terminal shows how far it is, and nothing else has
// more than the result.
func TestScreenOfADeepCheck(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	way := s3test.Between(t, store)
	w := &watched{t: t, dir: t.TempDir()}
	w.env = inBuckets(t, store, filepath.Join(w.dir, "server.toml"), way.Endpoint)
	address := start(t, w.dir, append(w.env, "FENC_REGISTRATION=open"), "serve", "--config", "server.toml").address(t)
	w.file("big", 20)
	start(t, w.dir, nil, "send", "--server", address, "--name", "grace", "--accept-new", "big").result(t).want(t, 0)

	open := make(chan struct{})
	release := sync.OnceFunc(func() { close(open) })
	t.Cleanup(release)
	way.Set(func(answer http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method == http.MethodGet && r.URL.RawQuery == "" { // an object
			answer = &heldUp{answer, 10 << 20, open}
		}
		pass.ServeHTTP(answer, r)
	})
	w.run(80, 24, "check", "--config", "server.toml", "--deep")
	w.screen.Await(`^reading [0-9]+\.[0-9] MiB of 20\.0 MiB .* [1-9][0-9] %`, w.ended)
	release()
	w.wantEnd(0)
	if text := w.screen.Await(`compared 1 file of 20971520 bytes with .*: 0 differences`, w.ended); strings.Contains(text, "reading") {
		t.Errorf("at the end, the screen:\n%s\nwant no bar", text)
	}
	piped := start(t, w.dir, w.env, "check", "--config", "server.toml", "--deep").result(t)
	piped.want(t, 0, "0 differences")
	if strings.Contains(piped.out+piped.errors, "reading") || strings.ContainsAny(piped.out+piped.errors, "\r\x1b%") || strings.Count(piped.out, "\n") != 1 {
		t.Errorf("into a pipe: got %q, %q, want the result alone", piped.out, piped.errors)
	}
}

// heldUp is an answer of which no more than so many bytes come until open is closed.
type heldUp struct {
	http.ResponseWriter
	left int
	open chan struct{}
}

func (h *heldUp) Write(p []byte) (int, error) {
	if h.left -= len(p); h.left < 0 {
		h.ResponseWriter.(http.Flusher).Flush()
		<-h.open
	}
	return h.ResponseWriter.Write(p)
}
