package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"fenc/config"
	"fenc/config/need"
	"fenc/wire/v3"
)

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
