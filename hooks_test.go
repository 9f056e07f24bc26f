//go:build unix

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hooked is a server of its own process with hooks, and its one client.
type hooked struct {
	t        *testing.T
	dir      string // the server's; its hooks write there
	home     string // the client's
	settings string
	server   *child
	addr     string
}

// newHooked starts a server with settings, in which DIR is its folder; script is
// what DIR/hook.sh does.
func newHooked(t *testing.T, script string, settings ...string) *hooked {
	t.Helper()
	h := &hooked{t: t, dir: t.TempDir(), home: t.TempDir()}
	h.settings = filepath.Join(h.dir, "server.toml")
	if err := os.WriteFile(filepath.Join(h.dir, "hook.sh"), []byte("#!/bin/sh\ncd "+h.dir+"\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, h.settings, strings.ReplaceAll("listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nprotocols = [3, 4]\n"+strings.Join(settings, "\n"), "DIR", h.dir))
	h.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server said:\n%s", h.server.log)
		}
	})
	return h
}

func (h *hooked) start() {
	h.t.Helper()
	h.server = start(h.t, h.dir, []string{"PATH=" + os.Getenv("PATH")}, "serve", "--config", h.settings)
	h.addr = h.server.address(h.t)
}

func (h *hooked) kill() {
	h.t.Helper()
	h.server.signal(h.t, syscall.SIGKILL)
	h.server.await(h.t)
}

// stop ends the server, which must have no fault.
func (h *hooked) stop() {
	h.t.Helper()
	h.server.signal(h.t, syscall.SIGTERM)
	h.server.result(h.t).want(h.t, 0, "msg=stopped")
}

// send sends files of the client's folder.
func (h *hooked) send(args ...string) result {
	h.t.Helper()
	return start(h.t, h.home, nil, append([]string{"send", "--server", h.addr, "--accept-new", "--name", "grace"}, args...)...).result(h.t)
}

// put writes a file of the client's and sends it.
func (h *hooked) put(name, content string) {
	h.t.Helper()
	write(h.t, filepath.Join(h.home, name), content)
	h.send("./"+name).want(h.t, 0, "verified")
}

// await waits until the hook has written text that matches into a file, and returns
// the match.
func (h *hooked) await(file, pattern string) []string {
	h.t.Helper()
	re, late := regexp.MustCompile(pattern), time.Now().Add(patience)
	for {
		text, _ := os.ReadFile(filepath.Join(h.dir, file))
		if m := re.FindStringSubmatch(string(text)); m != nil {
			return m
		}
		if time.Now().After(late) {
			h.t.Fatalf("%s: got %q, want %s; the server said:\n%s", file, text, pattern, h.server.log)
		}
		time.Sleep(10 * time.Millisecond) // nobody tells of another process's file
	}
}

func (h *hooked) operator(args ...string) result {
	h.t.Helper()
	at := 1
	if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
		at = 2
	}
	return fenc(h.t.Context(), nil, slices.Concat(args[:at], []string{"--config", h.settings}, args[at:])...)
}

type listedEvent struct {
	ID, Kind, Destination, State, Client, Name, Error string
	Attempts                                          int
}

func (h *hooked) events(args ...string) []listedEvent {
	h.t.Helper()
	return lines[listedEvent](h.t, h.operator(append([]string{"events", "--json"}, args...)...))
}

// awaitEvents waits until the list of events is as wanted.
func (h *hooked) awaitEvents(want func([]listedEvent) bool, args ...string) []listedEvent {
	h.t.Helper()
	for late := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := h.events(args...)
		if want(got) {
			return got
		}
		if time.Now().After(late) {
			h.t.Fatalf("events: got %+v; the server said:\n%s", got, h.server.log)
		}
	}
}

func none(events []listedEvent) bool { return len(events) == 0 }

func atoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func awaitEndOf(t *testing.T, pid string) {
	t.Helper()
	n := atoi(t, pid)
	for late := time.Now().Add(patience); syscall.Kill(n, 0) == nil && !isZombie(n); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("process %d goes on", n)
		}
	}
}

// isZombie: it has ended, and its new parent, which may be anybody, does not look.
func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && regexp.MustCompile(`\) Z `).Match(text)
}

// No character of a name, nor of an argument in the configuration, means anything
// to a shell.
func TestHookGetsNoShell(t *testing.T) {
	t.Parallel()
	const evil = "$(touch pwned); `touch pwned`; '\"|touch pwned&.txt"
	h := newHooked(t, `printf '%s\n' "$#" "$1" "$2" "$FENC_NAME" "$FENC_PATH" "$FENC_SIZE" "$FENC_DIGEST" "$FENC_CLIENT" "$FENC_EVENT" "$FENC_VERSION" "$FENC_CRC32" "$FENC_ATTEMPT" "$(cat "$FENC_PATH")" "$(env)" "$(ls -l /proc/$$/fd /proc/$PPID/fd 2>/dev/null)" > part
mv part got`,
		`hook_command = ["/bin/sh", "DIR/hook.sh", "$(touch pwned)", "a b; touch pwned"]`)
	h.put(evil, "content\n")
	got := strings.Split(h.await("got", `(?s)^(.+)$`)[1], "\n")
	want := []string{"2", "$(touch pwned)", "a b; touch pwned", evil, filepath.Join(h.dir, "files", "grace", evil), "8",
		regexp.MustCompile(`[0-9a-f]{64}`).FindString(h.operator("files", "--json").out), "grace", "file.verified", "1", "", "1", "content"}
	if !slices.Equal(got[:len(want)], want) {
		t.Errorf("the hook got\n%q\nwant\n%q", got[:len(want)], want)
	}
	for _, dir := range []string{h.dir, h.home, "/", filepath.Join(h.dir, "files"), "."} {
		if _, err := os.Lstat(filepath.Join(dir, "pwned")); err == nil {
			t.Errorf("a shell ran what a name says, in %s", dir)
		}
	}
	for _, v := range got[len(want):] {
		if strings.HasPrefix(v, "XDG_") {
			t.Errorf("the hook's environment has the server's %s", v)
		}
		if strings.Contains(v, "fenc.db") || strings.Contains(v, "server.key") || strings.Contains(v, "lock") || strings.Contains(v, "socket:") {
			t.Errorf("the hook, or the process that runs it, has a file of the server's: %s", v)
		}
	}
	h.awaitEvents(none)
	if said := h.server.log.String(); strings.Contains(said, "confined by Landlock") == strings.Contains(said, "not confined: ") {
		t.Errorf("the log says not whether the server is confined beside its hooks:\n%s", said)
	}
	h.stop()
}

// What is run, with which arguments, stands in the configuration alone, whoever
// sends what.
func TestHookNameFromConfigOnly(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `printf '%s %s\n' "${0##*/}" "$*" >> got`, `hook_command = ["./hook.sh", "fixed"]`)
	for _, name := range []string{"hook.sh", "--version", "-c", "FENC_HOOK_COMMAND=x"} {
		h.put(name, name)
	}
	start(t, h.home, nil, "send", "--server", h.addr, "--protocol", "3", "--name", "ada", "--me", "ada.toml", "--as", "hook.sh", "./-c").result(t).want(t, 0, "verified")
	h.await("got", `(?:.*\n){5}`)
	if got := readFile(t, filepath.Join(h.dir, "got")); strings.Trim(strings.ReplaceAll(got, "hook.sh fixed\n", ""), "\n") != "" {
		t.Errorf("got %q, want what is configured, five times", got)
	}
	h.stop()
}

// An event is delivered, though the server is killed while its hook runs, and the
// hook ends with the server.
func TestEventsSurviveKills(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `echo "begun $FENC_EVENT_ID $$" >> got
[ -e go ] || exec sleep 1000
echo "done $FENC_EVENT_ID $FENC_NAME" >> got`, `hook_command = ["/bin/sh", "DIR/hook.sh"]`)
	h.put("a.txt", "abc")
	begun := h.await("got", `begun (\w+) (\d+)\n`)
	for range 2 {
		h.kill()
		awaitEndOf(t, h.await("got", `begun \w+ (\d+)\n$`)[1])
		if got := h.events(); len(got) != 1 || got[0].State != "waiting" || !strings.EqualFold(got[0].ID, begun[1]) {
			t.Fatalf("events after a kill: got %+v, want the one that waits", got)
		}
		before := len(readFile(t, filepath.Join(h.dir, "got")))
		h.start()
		h.await("got", fmt.Sprintf(`(?s)^.{%d}.*begun %s \d+\n$`, before, begun[1]))
	}
	h.kill()
	write(t, filepath.Join(h.dir, "go"), "")
	h.start()
	h.await("got", "done "+begun[1]+" a.txt\n")
	h.awaitEvents(none)
	h.stop()
}

// The events of one file come in the order of its versions, though the first fails;
// those of others do not wait for it. Files of a group are in the tree when their
// hook runs.
func TestEventsComeInOrderOfAFile(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `[ "$FENC_NAME" = a.txt ] && [ "$FENC_VERSION" = 1 ] && [ "$FENC_ATTEMPT" = 1 ] && echo "$FENC_NAME" > failed && exit 3
[ "$FENC_NAME" = a.txt ] || [ "$(wc -c < "$FENC_PATH")" = "$FENC_SIZE" ] || echo "not there: $FENC_PATH" >> got
echo "$FENC_NAME $FENC_VERSION" >> got`, `hook_command = ["/bin/sh", "DIR/hook.sh"]`, "hook_parallel = 8")
	h.put("a.txt", "1")
	h.await("failed", "a.txt\n")
	for i := 2; i <= 4; i++ {
		h.put("a.txt", strings.Repeat("x", i))
	}
	const many = 60
	for i := range many {
		if err := os.MkdirAll(filepath.Join(h.home, "many"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(h.home, "many", fmt.Sprint(i)), strings.Repeat("y", i))
	}
	h.send("many").want(t, 0)
	h.awaitEvents(none)
	got := readFile(t, filepath.Join(h.dir, "got"))
	if versions := regexp.MustCompile(`(?m)^a\.txt .*$`).FindAllString(got, -1); !slices.Equal(versions, []string{"a.txt 1", "a.txt 2", "a.txt 3", "a.txt 4"}) {
		t.Errorf("got %q, want the versions in order", versions)
	}
	if n := len(regexp.MustCompile(`(?m)^many/\d+ 1$`).FindAllString(got, -1)); n != many || strings.Contains(got, "not there") {
		t.Errorf("%d files of the group were told of, want %d:\n%s", n, many, got)
	}
	h.stop()
	if said := h.server.log.String(); !strings.Contains(said, `msg="event not delivered"`) || !strings.Contains(said, `reason="hook_command: exit status 3"`) {
		t.Errorf("the log says not what failed:\n%s", said)
	}
}

// An event that nobody takes is dead after its time, and waits for the operator.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `[ -e mended ] || { echo "\\033[31mred" >&2; exit 7; }
echo "$FENC_NAME $FENC_ATTEMPT" >> got`, `hook_command = ["/bin/sh", "DIR/hook.sh"]`, `hook_retry_for = "2s"`)
	h.put("a.txt", "a")
	h.put("b.txt", "b")
	dead := h.awaitEvents(func(e []listedEvent) bool { return len(e) == 2 }, "--dead")
	for _, e := range dead {
		if e.State != "dead" || e.Kind != "file.verified" || e.Destination != "command" || e.Client != "grace" || e.Attempts < 1 || e.Error != "hook_command: exit status 7" {
			t.Errorf("got %+v, want it dead, and why", e)
		}
	}
	h.operator("events").want(t, 0, "file.verified  command  dead", "hook_command: exit status 7")
	h.server.log.await(t, `event is dead.*\\x1b\[31mred`, h.server.ended)
	if said := h.server.log.String(); strings.Contains(said, "\x1b") {
		t.Errorf("the log: got\n%s\nwant the hook's output quoted", said)
	}
	h.operator("events", "retry", "00ff").want(t, 1, `no event is called "00ff"`)
	h.operator("events", "retry", "xy").want(t, 1, `no event is called "xy"`)
	h.operator("events", "retry").want(t, 2, "one ID, or --dead")
	h.operator("events", "drop", "--dead", dead[0].ID).want(t, 2, "not both")
	h.operator("events", "bury").want(t, 2, `"events bury"`)
	write(t, filepath.Join(h.dir, "mended"), "")
	h.operator("events", "retry", dead[0].ID[:20]).want(t, 0, "1 will be delivered")
	h.await("got", "^"+dead[0].Name+" 1\n$")
	h.awaitEvents(func(e []listedEvent) bool { return len(e) == 1 && e[0].ID == dead[1].ID })
	h.operator("events", "drop", "--dead").want(t, 0, "1 forgotten")
	h.awaitEvents(none)
	h.stop()
}

// A hook that never ends is killed with all it has started, and holds up no upload.
func TestHangingHookIsKilled(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `sleep 1000 &
echo "$$ $!" >> got
wait`, `hook_command = ["/bin/sh", "DIR/hook.sh"]`, `hook_timeout = "1s"`, `hook_retry_for = "0s"`, "hook_parallel = 1")
	for i := range 3 {
		h.put(fmt.Sprint(i), "x") // none of them waits for a hook
	}
	m := h.await("got", `(\d+) (\d+)\n`)
	awaitEndOf(t, m[1])
	awaitEndOf(t, m[2])
	dead := h.awaitEvents(func(e []listedEvent) bool { return len(e) > 0 }, "--dead")
	if dead[0].Error != "hook_command: no end within 1s" {
		t.Errorf("got %q, want what it was", dead[0].Error)
	}
	h.stop() // in the middle of the next one
}

// Without the process that runs hooks the server cannot do what it is configured
// to: it ends, to be started again, and the event waits.
func TestServerEndsWithItsRunner(t *testing.T) {
	t.Parallel()
	h := newHooked(t, `[ -e killed ] && echo "$FENC_NAME" >> got && exit
touch killed
kill -9 $PPID`, `hook_command = ["DIR/hook.sh"]`)
	h.put("a.txt", "abc")
	h.server.result(t).want(t, 1, "fenc: serve: the process that runs hooks has ended")
	h.start()
	h.await("got", "^a.txt\n$")
	h.awaitEvents(none)
	h.stop()
}

func TestHookSettingsThatCannotBe(t *testing.T) {
	t.Parallel()
	loose := write(t, filepath.Join(t.TempDir(), "loose"), "whsec_"+strings.Repeat("A", 32))
	if err := os.Chmod(loose, 0o644); err != nil {
		t.Fatal(err)
	}
	short := write(t, filepath.Join(t.TempDir(), "short"), "whsec_AAAA")
	for settings, want := range map[string]string{
		`hook_command = ["no-such-program"]`:                                             "hook_command: no-such-program: executable file not found in $PATH; name a program",
		`gate_command = ["./nothing"]`:                                                   "gate_command: ",
		`hook_command = [""]`:                                                            "hook_command: no program",
		`webhook_url = "ftp://example.org"`:                                              "neither http:// nor https://",
		`webhook_url = "https://a:b@example.org"`:                                        "holds a user",
		`webhook_url = "https://example.org"`:                                            "webhook_secret_file",
		"webhook_url = \"https://example.org\"\nwebhook_secret_file = \"" + loose + "\"": "chmod 600",
		"webhook_url = \"https://example.org\"\nwebhook_secret_file = \"" + short + "\"": "3 bytes; write whsec_",
	} {
		dir := t.TempDir()
		path := write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\n"+settings+"\n")
		r := fenc(t.Context(), nil, "serve", "--config", path)
		r.want(t, 2)
		if !strings.Contains(r.errors, want) && !strings.Contains(r.errors, strings.Replace(want, ": no program", "", 1)) {
			t.Errorf("%s: got %s, want %q", settings, r.errors, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "files")); err == nil {
			t.Errorf("%s: the server opened its storage", settings)
		}
	}
}

// webhook is a receiver that answers as tests want.
type webhook struct {
	*httptest.Server
	secret []byte

	mu     sync.Mutex
	calls  []call
	answer func(n int, w http.ResponseWriter) // the n-th call, from 0
	came   *output
}

type call struct {
	id, path string
	body     struct {
		Type string
		Data struct {
			Client, Name, Path, BLAKE3 string
			Bytes, Version             int64
		}
	}
}

func newWebhook(t *testing.T, answer func(n int, w http.ResponseWriter)) (w *webhook, settings string) {
	t.Helper()
	w = &webhook{secret: []byte("0123456789abcdef0123456789abcdef"), answer: answer, came: newOutput()}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.take(t, rw, r) }))
	t.Cleanup(w.Close)
	file := write(t, filepath.Join(t.TempDir(), "secret"), "whsec_"+base64.StdEncoding.EncodeToString(w.secret)+"\n")
	return w, fmt.Sprintf("webhook_url = %q\nwebhook_secret_file = %q\n", w.URL+"/fenc?x=1", file)
}

func (w *webhook) take(t *testing.T, rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, w.secret)
	mac.Write([]byte(id + "." + at + "." + string(body)))
	if got, want := r.Header.Get("webhook-signature"), "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)); got != want {
		t.Errorf("webhook-signature: got %q, want %q", got, want)
	}
	if seconds, err := strconv.ParseInt(at, 10, 64); err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		t.Errorf("webhook-timestamp: got %q, %v, want now", at, err)
	}
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s of %s, want POST of JSON", r.Method, r.Header.Get("Content-Type"))
	}
	c := call{id: id, path: r.URL.String()}
	if err := json.Unmarshal(body, &c.body); err != nil {
		t.Errorf("%v: %s", err, body)
	}
	w.mu.Lock()
	n := len(w.calls)
	w.calls = append(w.calls, c)
	w.mu.Unlock()
	w.answer(n, rw)
	fmt.Fprintf(w.came, "call %d\n", n)
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	w, settings := newWebhook(t, func(n int, w http.ResponseWriter) {
		switch n {
		case 0:
			w.WriteHeader(http.StatusInternalServerError)
		case 1:
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2:
			http.Redirect(w, &http.Request{}, "http://"+w.Header().Get("x")+"/elsewhere", http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	d := serveInvited(t, t.TempDir(), settings)
	dir, client := d.join(t, "--name", "grace")
	fenc(t.Context(), nil, "send", "--config", client, write(t, filepath.Join(dir, "a.txt"), "abc")).want(t, 0, "verified")
	w.came.await(t, "call 3", d.ended)
	d.log.await(t, `"msg":"event delivered"`, d.ended)
	for i, c := range w.calls {
		if c.id != w.calls[0].id || c.path != "/fenc?x=1" || c.body.Type != "file.verified" || c.body.Data.Client != "grace" || c.body.Data.Name != "a.txt" ||
			c.body.Data.Path != "grace/a.txt" || c.body.Data.Bytes != 3 || c.body.Data.Version != 1 || len(c.body.Data.BLAKE3) != 64 {
			t.Errorf("call %d: got %+v, want the event, the same each time", i, c)
		}
	}
	d.log.await(t, `"reason":"the webhook answers 500 Internal Server Error"`, d.ended)
	d.log.await(t, `"reason":"the webhook answers 429 Too Many Requests","again_in":"2`, d.ended)
	d.log.await(t, `"reason":"the webhook answers 307 Temporary Redirect: redirects are not followed`, d.ended)
	if got := lines[listedEvent](t, d.operator(t, "events", "--json")); len(got) != 0 {
		t.Errorf("events: got %+v, want none", got)
	}
	if strings.Contains(d.log.String(), base64.StdEncoding.EncodeToString(w.secret)) {
		t.Error("the log has the webhook's secret")
	}
}

// A webhook that is gone is not called any more; the hook goes on.
func TestWebhookThatIsGone(t *testing.T) {
	t.Parallel()
	w, settings := newWebhook(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusGone) })
	d := serveInvited(t, t.TempDir(), settings, `hook_command = ["/bin/echo", "arrived"]`)
	dir, client := d.join(t, "--name", "grace")
	fenc(t.Context(), nil, "send", "--config", client, write(t, filepath.Join(dir, "a.txt"), "abc")).want(t, 0, "verified")
	d.log.await(t, `deliveries stop until the next start`, d.ended)
	fenc(t.Context(), nil, "send", "--config", client, write(t, filepath.Join(dir, "b.txt"), "abc")).want(t, 0, "verified")
	d.log.await(t, `"msg":"event delivered".*"destination":"command".*"file":"b.txt".*"output":"arrived"`, d.ended)
	var events []listedEvent
	for late := time.Now().Add(patience); len(events) != 2 && time.Now().Before(late); time.Sleep(10 * time.Millisecond) { // that what the hook took is forgotten
		events = lines[listedEvent](t, d.operator(t, "events", "--json"))
	}
	if len(events) != 2 || events[0].State != "dead" || events[1].State != "waiting" || events[1].Destination != "webhook" || len(w.calls) != 1 {
		t.Errorf("got %+v after %d calls, want one dead, one waiting, and one call", events, len(w.calls))
	}
	d.operator(t, "events", "drop", "--to", "webhok").want(t, 2, `--to "webhok"`, "write command or webhook")
	d.operator(t, "events", "drop", "--dead", "--to", "command").want(t, 0, "0 forgotten")
	d.operator(t, "events", "drop", "--to", "webhook").want(t, 0, "2 forgotten")
}

// fenc in a hook takes what the event says for no setting.
func TestHookRunsFenc(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	h := newHooked(t, `"`+path+`" files --config server.toml --json > part 2>&1; mv part got`, `hook_command = ["/bin/sh", "DIR/hook.sh"]`)
	h.put("a.txt", "abc")
	h.await("got", `^\{"client":"grace","name":"a.txt"`)
	h.stop()
}
