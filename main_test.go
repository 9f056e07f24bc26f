package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/config"
	"fenc/config/need"
	"fenc/model"
	"fenc/model/postgrestest"
	"fenc/modes"
	"fenc/wire/v3"
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

func TestFirstSendRegistersAndSecondReturns(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir, settings := client(t, d.addr, "grace")
	report := write(t, filepath.Join(dir, "report.txt"), "hello\n")
	me := filepath.Join(dir, "me.toml")

	first := fenc(t.Context(), nil, "send", "--config", settings, report)
	first.want(t, 0)
	line := regexp.MustCompile(`^report\.txt  6 bytes  \d+\.\d\d s  crc32 363a3020  verified\n$`)
	if !line.MatchString(first.out) {
		t.Errorf("stdout: got %q, want %s", first.out, line)
	}
	if want := fmt.Sprintf("fenc: registered as \"grace\" at %s; your identity is in %s: keep it secret, keep a copy\n", d.addr, me); first.errors != want {
		t.Errorf("stderr: got %q, want %q", first.errors, want)
	}
	info, err := os.Stat(me)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); runtime.GOOS != "windows" && got != 0o600 {
		t.Errorf("mode of me.toml: got %04o, want 0600", got)
	}

	write(t, report, "hello again\n")
	second := fenc(t.Context(), strings.NewReader("piped"), "send", "--config", settings, report, "-")
	second.want(t, 0, "report.txt  12 bytes", "stdin  5 bytes")
	if got := strings.Count(second.out, "  verified\n"); got != 2 || second.errors != "" {
		t.Errorf("second send: got %q and %q, want two lines verified and nothing on stderr", second.out, second.errors)
	}

	if got := d.stop(t); got != 0 {
		t.Errorf("status of the server: got %d, want 0", got)
	}
	var last struct{ Msg string }
	lines := strings.Split(strings.TrimSpace(d.log.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Msg != "stopped" {
		t.Errorf("last line of the log: got %q, %v, want stopped", lines[len(lines)-1], err)
	}
	wantStored(t, d, "grace", "report.txt", "hello again\n")
	wantStored(t, d, "grace", "stdin", "piped")
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

func TestServerIsStartedAgainBetweenTwoSends(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir, settings := client(t, d.addr, "grace")
	report := write(t, filepath.Join(dir, "report.txt"), "one")
	fenc(t.Context(), nil, "send", "--config", settings, report).want(t, 0)
	d.stop(t)

	d = serve(t, d.dir)
	write(t, report, "two")
	r := fenc(t.Context(), nil, "send", "--config", settings, "--server", d.addr, report)
	r.want(t, 0, "verified")
	if strings.Contains(r.errors, "registered") {
		t.Errorf("stderr: got %q, want no second registration", r.errors)
	}
	d.stop(t)
	wantStored(t, d, "grace", "report.txt", "two")
}

func TestSendStatus(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())

	// known makes a client that the server knows, with a file to send.
	known := func(t *testing.T) (dir, settings, file string) {
		dir, settings = client(t, d.addr, strings.ReplaceAll(t.Name(), "/", "-"))
		file = write(t, filepath.Join(dir, "a.txt"), "abc")
		fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0)
		return dir, settings, file
	}

	t.Run("1: one of two files is missing, the other is sent", func(t *testing.T) {
		t.Parallel()
		dir, settings, file := known(t)
		missing := filepath.Join(dir, "missing")
		r := fenc(t.Context(), nil, "send", "--config", settings, missing, file)
		r.want(t, 1, missing+"  0 bytes", "not verified: no such file", "a.txt  3 bytes", "  verified\n", "fenc: send: 1 of 2 files not verified\n")
	})
	t.Run("1: no file can be read, nothing is registered", func(t *testing.T) {
		t.Parallel()
		dir, settings := client(t, d.addr, "nobody")
		fenc(t.Context(), nil, "send", "--config", settings, dir).want(t, 1, "is a directory", "1 of 1 files not verified")
		if _, err := os.Stat(filepath.Join(dir, "me.toml")); err == nil {
			t.Error("me.toml is there, want no registration")
		}
	})
	t.Run("1: over the limit, no connection is made", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dir, settings := client(t, l.Addr().String(), "grace")
		big := write(t, filepath.Join(dir, "big"), "")
		if err := os.Truncate(big, v3.MaxFileSize+1); err != nil {
			t.Skip(err)
		}
		fenc(t.Context(), nil, "send", "--config", settings, big).want(t, 1, "big", "over protocol 3's limit of 4294967007 bytes")
		l.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
		if c, err := l.Accept(); err == nil {
			c.Close()
			t.Error("a connection was made, want none")
		}
	})
	t.Run("1: nothing listens, each file is reported", func(t *testing.T) {
		t.Parallel()
		dead := need.DeadAddress(t)
		dir, settings := client(t, dead, "grace")
		a, b := write(t, filepath.Join(dir, "a"), ""), write(t, filepath.Join(dir, "b"), "")
		r := fenc(t.Context(), nil, "send", "--config", settings, a, b)
		r.want(t, 1, "fenc: send: connect to "+dead+": refused", "is fenc serve running")
		if got := strings.Count(r.out, "not verified: connect to "+dead); got != 2 {
			t.Errorf("stdout: got %q, want a line for each of 2 files", r.out)
		}
		// The key that was prepared for the registration must not stay.
		if left, _ := filepath.Glob(filepath.Join(dir, "me.toml*")); len(left) > 0 {
			t.Errorf("left behind: %q, want nothing", left)
		}
	})
	t.Run("3: name taken", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		other := filepath.Join(t.TempDir(), "other.toml")
		// This once ended in a panic.
		r := fenc(t.Context(), nil, "send", "--config", settings, "--me", other, file)
		r.want(t, 3, "is in use at "+d.addr, "--name", "--me", "a.txt  3 bytes")
		if left, _ := filepath.Glob(other + "*"); len(left) > 0 {
			t.Errorf("left behind: %q, want nothing", left)
		}
	})
	t.Run("3: unknown identity", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		stranger := serve(t, t.TempDir())
		r := fenc(t.Context(), nil, "send", "--config", settings, "--server", stranger.addr, file)
		r.want(t, 3, "does not know the client", stranger.addr, "--me")
	})
	t.Run("2: --name is not the identity's", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		fenc(t.Context(), nil, "send", "--config", settings, "--name", "ada", file).want(t, 2, `"ada"`, "me.toml", "drop the name", "--me")
	})
	t.Run("2: me.toml is readable by others", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("no modes")
		}
		dir, settings, file := known(t)
		me := filepath.Join(dir, "me.toml")
		if err := os.Chmod(me, 0o644); err != nil {
			t.Fatal(err)
		}
		fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 2, "0644", "chmod 600 "+me)
	})
	t.Run("2: two files of one name", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		twin := write(t, filepath.Join(t.TempDir(), "a.txt"), "other")
		fenc(t.Context(), nil, "send", "--config", settings, file, twin).want(t, 2, file, twin, "--as")
	})
	t.Run("2: --as for two files", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		fenc(t.Context(), nil, "send", "--config", settings, "--as", "x", file, settings).want(t, 2, "--as \"x\" names one file, and there are 2")
	})
	t.Run("0: --as names the file", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		fenc(t.Context(), nil, "send", "--config", settings, "--as", "other.txt", file).want(t, 0, "other.txt  3 bytes", "verified")
	})
	t.Run("0: files of transfer.toml", func(t *testing.T) {
		t.Parallel()
		_, settings, _ := known(t)
		text, err := os.ReadFile(settings)
		if err != nil {
			t.Fatal(err)
		}
		write(t, settings, string(text)+"files = [\"a.txt\"]\n")
		fenc(t.Context(), nil, "send", "--config", settings).want(t, 0, "a.txt  3 bytes", "verified")
	})
}

func TestUsageMistakesSayTheRemedy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := write(t, filepath.Join(dir, "transfer.toml"), "name = \"grace\"\nattemps = 3\n")
	empty := write(t, filepath.Join(dir, "empty.toml"), "")
	a := write(t, filepath.Join(dir, "a"), "")
	servers := write(t, filepath.Join(dir, "server.toml"), "lisen = \":1\"\n")
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"unknown command":            {[]string{"snd"}, []string{`"snd"`, `did you mean "fenc send"?`, "fenc --help"}},
		"unknown command, far off":   {[]string{"xyzzy"}, []string{"fenc: no such command \"xyzzy\": fenc --help lists them\n"}},
		"unknown option":             {[]string{"send", "--foo", a}, []string{"--foo", "fenc send --help"}},
		"unknown option of none":     {[]string{"--foo"}, []string{"--foo", "fenc --help"}},
		"option without its value":   {[]string{"send", "--name"}, []string{"no value", "--name"}},
		"option with a slip":         {[]string{"send", a, "--exlude", "x"}, []string{"no such option --exlude: did you mean --exclude? fenc send --help"}},
		"option before the command":  {[]string{"--server", "x", "send", a}, []string{"no such option --server: it is one of fenc send, "}},
		"option without value, last": {[]string{"send", a, "--name"}, []string{"no value for the option --name"}},
		"command by another word":    {[]string{"upload", a}, []string{`no such command "upload": did you mean "fenc send"?`}},
		"command of a command":       {[]string{"clients", "rekye", "x"}, []string{`no such command "clients rekye": did you mean "fenc clients rekey"?`}},
		"slip and an option":         {[]string{"sned", "--exclude", "x"}, []string{`no such command "sned": did you mean "fenc send"?`}},
		"help of a slip":             {[]string{"help", "clients", "revok"}, []string{`did you mean "fenc clients revoke"?`}},
		"key of the server's":        {[]string{"serve", "--config", servers}, []string{servers + ":1", "did you mean `listen`?"}},
		"nothing to send":            {[]string{"send", "--config", empty}, []string{"nothing to send", "FILE", "transfer.toml"}},
		"unknown key":                {[]string{"send", "--config", bad, a}, []string{bad + ":2", "attemps", "did you mean `attempts`?"}},
		"missing settings":           {[]string{"send", "--config", bad + "x", a}, []string{bad + "x"}},
		"wrong address":              {[]string{"send", "--server", "nowhere", a}, []string{"--server", `"nowhere"`, "host:port"}},
		"wrong protocol":             {[]string{"send", "--protocol", "5", a}, []string{"--protocol", "5", "write 3"}},
		"serve with an argument":     {[]string{"serve", "files"}, []string{"serve takes no arguments", `"files"`}},
		"serve at no address":        {[]string{"serve", "--listen", "1234"}, []string{"--listen", `"1234"`, "host:port"}},
		"invite for no duration":     {[]string{"invite", "--expires", "1x"}, []string{`--expires "1x": not a duration; write one from 1m to 365d`}},
		"invite for too long":        {[]string{"invite", "--expires", "9000h"}, []string{`--expires "9000h": write a duration from 1m to 365d`}},
		"invite with no size":        {[]string{"invite", "--quota", "10XB"}, []string{`--quota "10XB": not a size; write a number of bytes such as 10GiB`}},
		"command with an argument":   {[]string{"invite", "list", "x"}, []string{`invite list takes no arguments, got "x": fenc invite list --help`}},
		"import without DIR":         {[]string{"import"}, []string{"import takes one DIR"}},
		"import of nothing":          {[]string{"import", dir}, []string{dir, "no transfer.info, me.info or port.info"}},
		"version with an argument":   {[]string{"version", "x"}, []string{"version takes no arguments"}},
		"name of a control char":     {[]string{"send", "--me", filepath.Join(dir, "no.toml"), "--name", "a\x1bb", a}, []string{"--name", "control character"}},
		"name too long to be sent":   {[]string{"send", "--protocol", "3", "--as", strings.Repeat("n", 256), a}, []string{"protocol 3 cannot carry this name", "--as"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fenc(t.Context(), strings.NewReader(""), test.args...)
			r.want(t, 2, test.want...)
			if r.out != "" || !strings.HasPrefix(r.errors, "fenc: ") || strings.Count(r.errors, "\n") != 1 {
				t.Errorf("got stdout %q, stderr %q, want one line on stderr", r.out, r.errors)
			}
		})
	}
}

func TestHelpAndVersionAsPeopleTryThem(t *testing.T) {
	t.Parallel()
	for call, text := range map[string]string{
		"--version":   "fenc " + modes.Version,
		"version":     "fenc " + modes.Version,
		"help":        "COMMANDS:",
		"-h":          "COMMANDS:",
		"help send":   "fenc send --server",
		"send --help": "fenc send --server",
		"serve -h":    "fenc serve --listen",
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			r := fenc(t.Context(), nil, strings.Fields(call)...)
			r.want(t, 0, text)
			if r.errors != "" {
				t.Errorf("stderr: got %q, want nothing", r.errors)
			}
		})
	}
	fenc(t.Context(), nil, "help", "sned").want(t, 2, `no such command "sned"`)
}

func TestHelpHasAnExample(t *testing.T) {
	t.Parallel()
	for command, example := range map[string]string{
		"": "fenc join INVITE", "serve": "fenc serve --listen :1234 --storage",
		"send": "fenc send --server files.example.org:1234 --name grace report.pdf", "import": "fenc import ~/old-client", "version": "   fenc version", "files": "   fenc files",
	} {
		args := []string{command, "--help"}
		if command == "" {
			args = args[1:]
		}
		r := fenc(t.Context(), nil, args...)
		r.want(t, 0, example)
		if r.errors != "" {
			t.Errorf("%s: stderr: got %q, want nothing", command, r.errors)
		}
	}
	fenc(t.Context(), nil).want(t, 0, "COMMANDS:")
	fenc(t.Context(), nil, "version").want(t, 0, "fenc 0.", runtime.GOOS, "protocols: 3, 4\n")
}

// TestInterruptEndsTheTransfer: ctx ends in the middle of each kind of contact.
func TestInterruptEndsTheTransfer(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	for name, returns := range map[string]bool{"first contact": false, "returning": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				if c, err := l.Accept(); err == nil {
					io.ReadFull(c, make([]byte, 23)) // the client is in the middle of it now
					cancel()
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			dir, settings := client(t, d.addr, strings.ReplaceAll(name, " ", "-"))
			a := write(t, filepath.Join(dir, "a"), "abc")
			if returns {
				fenc(t.Context(), nil, "send", "--config", settings, a).want(t, 0)
			}
			r := fenc(ctx, nil, "send", "--config", settings, "--server", l.Addr().String(), a)
			r.want(t, 130, "fenc: send: interrupted in the middle of", "a  3 bytes")
			if strings.Contains(r.out+r.errors, "context canceled") {
				t.Errorf("got %q, want plain words", r.out+r.errors)
			}
		})
	}
	t.Run("standard input that does not end", func(t *testing.T) {
		t.Parallel()
		_, settings := client(t, d.addr, "pipe")
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		defer w.Close()
		go func() {
			io.WriteString(w, "some")
			cancel()
		}()
		fenc(ctx, r, "send", "--config", settings, "-").want(t, 130, "interrupted while standard input was read", "fenc: send: interrupted: 0 files verified")
	})
}

// recordedMe is the identity of the first client's recordings.
func recordedMe(t *testing.T) (name, id, key string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sourceDir, "modes", "send3", "testdata", "reconnect-and-send.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Me struct {
			Name string
			ID   string `json:"client_id"`
			Key  string `json:"private_key_base64"`
		} `json:"me_info"`
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r.Me.Name, r.Me.ID, r.Me.Key
}

func TestImportedClientLoads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name, id, key := recordedMe(t)
	dead := need.DeadAddress(t)
	write(t, filepath.Join(dir, "me.info"), name+"\n"+id+"\n"+key) // the first client's has no newline at its end
	write(t, filepath.Join(dir, "transfer.info"), dead+"\n"+name+"\na.txt\n")
	write(t, filepath.Join(dir, "port.info"), "4321\n")
	write(t, filepath.Join(dir, "a.txt"), "abc")
	r := fenc(t.Context(), nil, "import", dir)
	r.want(t, 0)
	var want string
	for _, f := range []string{"transfer.toml", "me.toml", "server.toml"} {
		want += filepath.Join(dir, f) + "\n"
	}
	if r.out != want {
		t.Errorf("stdout: got %q, want %q", r.out, want)
	}
	me, err := config.LoadMe(filepath.Join(dir, "me.toml"))
	if err != nil || me.Name != name || me.ID != id || me.PrivateKey.Reveal() != key {
		t.Errorf("me.toml: got %q, %q, %v, want %q, %q and the key", me.Name, me.ID, err, name, id)
	}
	server, _, err := config.LoadServer(filepath.Join(dir, "server.toml"))
	if err != nil || server.Listen != "127.0.0.1:4321" {
		t.Errorf("server.toml: got %q, %v, want 127.0.0.1:4321", server.Listen, err)
	}
	// All of it is enough for fenc send, which finds nobody there.
	fenc(t.Context(), nil, "send", "--config", filepath.Join(dir, "transfer.toml")).want(t, 1, "a.txt  3 bytes", "connect to "+dead)
	// A second import replaces nothing unless it is told to.
	fenc(t.Context(), nil, "import", dir).want(t, 2, "transfer.toml", "--force")
	fenc(t.Context(), nil, "import", "--force", dir).want(t, 0)

	// A server that does not know the identity refuses it.
	d := serve(t, t.TempDir())
	fenc(t.Context(), nil, "send", "--config", filepath.Join(dir, "transfer.toml"), "--server", d.addr).want(t, 3, `"Grace Hopper"`)
}

func TestServeRefusals(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "server.toml"), "")
	shared, plain := filepath.Join(dir, "shared"), write(t, filepath.Join(dir, "plain"), "")
	if err := errorsOf(os.Mkdir(shared, 0o700), os.Chmod(shared, 0o777)); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, test := range map[string]struct {
		listen, storage, database string
		status                    int
		want                      []string
	}{
		"database inside the storage":       {"", in("s1"), in("s1/fenc.db"), 2, []string{"fenc.db lies inside the storage", "keep it elsewhere"}},
		"database is the storage":           {"", in("s2"), in("s2"), 2, []string{"lies inside the storage"}},
		"configuration inside the storage":  {"", dir, filepath.Join(t.TempDir(), "8.db"), 2, []string{"configuration " + settings + " lies inside the storage"}},
		"port in use":                       {d.addr, in("s3"), in("3.db"), 1, []string{d.addr, "address already in use", "--listen"}},
		"storage of another server":         {"", filepath.Join(d.dir, "files"), in("4.db"), 1, []string{filepath.Join(d.dir, "files"), "in use by another fenc serve"}},
		"storage that others may write":     {"", shared, in("5.db"), 1, []string{"mode 0777", "chmod go-w " + shared}},
		"storage is a file":                 {"", plain, in("6.db"), 1, []string{plain, "not a directory"}},
		"database in a folder that is none": {"", in("s7"), in("none/fenc.db"), 1, []string{in("none/fenc.db"), "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("other words and no modes")
			}
			r := fenc(t.Context(), nil, "serve", "--config", settings, "--listen", cmp.Or(test.listen, "127.0.0.1:0"), "--storage", test.storage, "--database", test.database)
			r.want(t, test.status, test.want...)
		})
	}
	t.Run("key inside the storage", func(t *testing.T) {
		dir := t.TempDir()
		settings := write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nkey = \"files/server.key\"\n")
		fenc(t.Context(), nil, "serve", "--config", settings).want(t, 2, "server.key lies inside the storage", "keep it elsewhere")
	})
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestClosedRegistrationRefusesNewNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nregistration = \"closed\"\nlog_format = \"json\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\n")
	d := serve(t, dir)
	home, settings := client(t, d.addr, "grace")
	a := write(t, filepath.Join(home, "a"), "")
	fenc(t.Context(), nil, "send", "--config", settings, a).want(t, 3, "takes no new names")
}

func TestTwoClientsKeepTheirFilesOfOneName(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	for _, name := range []string{"grace", "ada"} {
		dir, settings := client(t, d.addr, name)
		fenc(t.Context(), nil, "send", "--config", settings, write(t, filepath.Join(dir, "report.txt"), "by "+name)).want(t, 0)
	}
	d.stop(t)
	wantStored(t, d, "grace", "report.txt", "by grace")
	wantStored(t, d, "ada", "report.txt", "by ada")
	// Nothing but objects, the tree and the lock is left.
	if parts, err := fs.Glob(os.DirFS(filepath.Join(d.dir, "files")), ".*/part/*"); err != nil || len(parts) > 0 {
		t.Errorf("partial files: got %q, %v, want none", parts, err)
	}
}

func TestFileOverMaxFileSizeIsNamedByTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nmax_file_size = \"1KiB\"\nlog_format = \"json\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\n")
	d := serve(t, dir)
	home, settings := client(t, d.addr, "grace")
	big := write(t, filepath.Join(home, "big"), strings.Repeat("x", 100_000))
	small := write(t, filepath.Join(home, "small"), "x")
	r := fenc(t.Context(), nil, "send", "--config", settings, big, small)
	r.want(t, 1, "big  100000 bytes", "its log says why", "small  1 bytes", "  verified\n", "1 of 2 files not verified")
	d.log.await(t, `max_file_size is 1024`, d.ended)
}

// TestRegistrationStandsWhenTheConnectionIsLostAfterIt: the notice about me.toml
// was once left out then.
func TestRegistrationStandsWhenTheConnectionIsLostAfterIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if h, err := v3.ReadRequestHeader(c); err == nil {
			io.CopyN(io.Discard, c, int64(h.PayloadSize))
		}
		v3.WriteResponse(c, v3.CodeRegistered, &v3.Registered{ClientID: v3.ClientID{1}})
		io.CopyN(io.Discard, c, 23+255+160)
	}()
	dir, settings := client(t, l.Addr().String(), "grace")
	a := write(t, filepath.Join(dir, "a"), "abc")
	r := fenc(t.Context(), nil, "send", "--config", settings, a)
	r.want(t, 1, "a  3 bytes", "closed the connection in the middle of agreeing on a key", "registered as \"grace\"", "keep it secret")
	me, err := config.LoadMe(filepath.Join(dir, "me.toml"))
	if err != nil || me.Name != "grace" || me.ID != "01"+strings.Repeat("0", 30) {
		t.Errorf("me.toml: got %q, %q, %v, want grace and its id", me.Name, me.ID, err)
	}
}

func TestFilesListsTheCatalogueBesideTheServer(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir, settings := client(t, d.addr, "grace")
	path := write(t, filepath.Join(dir, "a\u202e.txt"), "abc")
	fenc(t.Context(), nil, "send", "--config", settings, path).want(t, 0)
	database := filepath.Join(d.dir, "fenc.db")
	for args, want := range map[string]string{
		"":                    `(?m)^grace +a\\u202e\.txt +3 +352441c2 +yes +1 +\S+ +grace/a\\u202e\.txt$`,
		"--client grace":      `(?m)^grace +a`,
		"--json":              `^{"client":"grace","name":"a.*\.txt","path":"grace/a.*\.txt","bytes":3,"crc32":"352441c2","verified":true,"version":1,"received_at":"[^"]+"}\n$`,
		"--unverified":        `^CLIENT.*\n$`,
		"--unverified --json": `^$`,
	} {
		r := fenc(t.Context(), nil, append([]string{"files", "--database", database}, strings.Fields(args)...)...)
		r.want(t, 0)
		if !regexp.MustCompile(want).MatchString(r.out) {
			t.Errorf("files %s: got\n%s\nwant %s", args, r.out, want)
		}
	}
	fenc(t.Context(), nil, "files", "--database", database, "--client", "ada").want(t, 1, `no client is called "ada"`)
	fenc(t.Context(), nil, "files", "--database", filepath.Join(dir, "fenc.db")).want(t, 1, "no such file", "--database")
	if d.stop(t) != 0 {
		t.Errorf("the server ended by a fault:\n%s", d.log)
	}
}
