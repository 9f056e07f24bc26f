//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model"
	"fenc/wire/v4"
)

// What a new user meets first: every message says what was being done, to what, what
// went wrong, and what to do next.
func TestErrorsHelpTheClient(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	h.write("a.txt", "abc")
	if err := os.Mkdir(filepath.Join(h.dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	secured := httptest.NewUnstartedServer(nil)
	secured.Config.ErrorLog = log.New(io.Discard, "", 0)
	secured.StartTLS()
	t.Cleanup(secured.Close)
	other := "SHA256:" + strings.Repeat("B", 42) + "A"
	for name, test := range map[string]struct {
		args   []string
		status int
		want   []string
	}{
		"wrong port or server down":  {[]string{"send", "a.txt", "--server", need.DeadAddress(t)}, 1, []string{"connect to 127.0.0.1:", "refused: nothing listens there; is fenc serve running, and is the port right?"}},
		"no such host":               {[]string{"send", "a.txt", "--server", "nowhere.invalid:1234"}, 1, []string{`connect to nowhere.invalid:1234: no address found for host "nowhere.invalid": is the name right`}},
		"another program's port":     {[]string{"send", "a.txt", "--server", greeter(t)}, 1, []string{"what answers there is no fenc server of protocol 4: is the port right?"}},
		"a web server's port":        {[]string{"send", "a.txt", "--server", secured.Listener.Addr().String()}, 1, []string{"what answers there is no fenc server of protocol 4: is the port right?"}},
		"wrong fingerprint":          {[]string{"send", "a.txt", "--server-key", other}, 4, []string{"THE SERVER'S KEY HAS CHANGED", h.addr, other + "   (--server-key)", "Nothing was sent", "fenc trust SHA256:"}},
		"fingerprint to trust":       {[]string{"trust", other}, 1, []string{"shows another key", "nothing was changed", "ask the server's operator"}},
		"folder as settings":         {[]string{"send", "--config", "folder", "a.txt"}, 2, []string{"folder: a directory; name a file"}},
		"folder as identity":         {[]string{"send", "--me", "folder", "a.txt"}, 2, []string{"folder: a directory; name a file"}},
		"folder as list of patterns": {[]string{"send", "--exclude-from", "folder", "a.txt"}, 2, []string{"--exclude-from folder: is a directory: name a file of patterns, one a line"}},
		"file as folder to get to":   {[]string{"get", ".", "--dir", "a.txt"}, 1, []string{"a.txt: not a directory: choose another with --dir"}},
		"no settings there":          {[]string{"send", "--config", "none.toml", "a.txt"}, 2, []string{"none.toml: file does not exist; check the path"}},
		"half an invite":             {[]string{"join", "fenc4-example.org:1234/abc"}, 2, []string{"not a fenc invite", "cut short", "copy the whole line that fenc invite printed"}},
		"no invite":                  {[]string{"join", "--dir", "x"}, 2, []string{"not a fenc invite: it begins with fenc4-", "copy the whole line"}},
		"name that is not the key's": {[]string{"send", "a.txt", "--name", "ada"}, 2, []string{`the name "ada" is asked for and me.toml is of "grace": drop the name, or use --me`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := *h
			h.t = t
			r := h.run("", append(test.args[:1:1], test.args[1:]...)...)
			r.want(t, test.status, test.want...)
			if !strings.HasPrefix(r.errors, "fenc: ") {
				t.Errorf("stderr: got %q, want it to begin with the program's name", r.errors)
			}
		})
	}
}

// greeter is the address of a server that speaks something else.
func greeter(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
			c.Close()
		}
	}()
	return l.Addr().String()
}

func TestErrorsOfInvites(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	invite, err := v4.ParseInvite(d.invite(t))
	if err != nil {
		t.Fatal(err)
	}
	invite.Token = v4.NewToken()
	catalogue, err := model.Open(filepath.Join(d.dir, "fenc.db"), model.Options{Beside: true})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	if err := catalogue.Invite(model.Invite{TokenHash: invite.Token.Hash(), Rights: model.AllRights, ExpiresAt: model.Time{Time: time.Now().Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	fenc(t.Context(), nil, "join", "--dir", home, invite.Line()).want(t, 3, "the invite", "expired", "ask the server's operator for a new invite")
	if left, _ := os.ReadDir(home); len(left) > 0 {
		t.Errorf("left behind: %v, want nothing", left)
	}
	used := d.invite(t, "--name", "grace")
	fenc(t.Context(), nil, "join", "--dir", home, used).want(t, 0)
	fenc(t.Context(), nil, "join", "--dir", t.TempDir(), used).want(t, 3, "the invite has been used", "ask the server's operator for a new invite")

	open := serve(t, t.TempDir())
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "a"), "a")
	fenc(t.Context(), nil, "send", file, "--server", open.addr, "--me", filepath.Join(dir, "me.toml"), "--accept-new", "--name", "ada").want(t, 0)
	key := open.log.await(t, `"server_key":"(SHA256:[^"]+)"`, open.ended)[1]
	fenc(t.Context(), nil, "send", file, "--server", open.addr, "--server-key", key, "--me", filepath.Join(dir, "other.toml"), "--name", "ada").
		want(t, 3, "name in use", `somebody is "ada" at `+open.addr+` already: choose another name with --name`, "--me")
}

// asNobody is fenc as a user who may do little, in a folder of his own.
func asNobody(t *testing.T, dir string, args ...string) result {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "fenc")
	if err := os.Link(path, own); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	command := exec.Command(own, args...)
	if os.Geteuid() == 0 {
		if err := os.Chmod(own, 0o755); err != nil {
			t.Fatal(err)
		}
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	return startCommand(t, dir, nil, command).result(t)
}

func TestErrorsNamePathUserAndMode(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("takes two users")
	}
	dir := t.TempDir()
	lend(t, dir)
	locked := filepath.Join(dir, "locked")
	for _, folder := range []string{locked, filepath.Join(locked, "files")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	closed := write(t, filepath.Join(dir, "closed"), "x")
	who := fmt.Sprintf("(%d), and %s has mode 0700 and is of user root (0): give that user access, or choose another place", nobody, locked)
	asNobody(t, dir, "serve", "--listen", "127.0.0.1:0", "--storage", "locked/files").want(t, 1, "storage", "permission denied: fenc runs as user", who)
	asNobody(t, dir, "serve", "--listen", "127.0.0.1:0", "--storage", "s", "--database", "locked/fenc.db").want(t, 1, "database", "permission denied: fenc runs as user", who)
	asNobody(t, dir, "check", "--storage", "locked/files").want(t, 1, "permission denied", who, "--storage")
	asNobody(t, dir, "files", "--database", closed).want(t, 1, closed+": permission denied", closed+" has mode 0600 and is of user root (0)")
	asNobody(t, dir, "send", "--config", "closed", "fenc").want(t, 2, "closed: permission denied; make it readable for the user who runs fenc")
	asNobody(t, dir, "send", "closed", "--dry-run").want(t, 0, "closed  would be sent") // to open it is for sending
	d := serve(t, t.TempDir())
	asNobody(t, dir, "send", "closed", "--server", d.addr, "--accept-new", "--name", "nobody").want(t, 1, "closed  0 bytes", "not verified: permission denied: you may not read it")
	asNobody(t, dir, "join", "--dir", "locked/client", d.invite(t)).want(t, 2, "permission denied", "choose a directory that you may write with --dir")
	asNobody(t, dir, "watch", "--once", "--queue", "locked/queue", "--server", d.addr, ".").want(t, 2, "permission denied: name a file that you may write with --queue")
	if err := os.Mkdir(filepath.Join(dir, "shut"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(write(t, filepath.Join(dir, "open"), "x"), 0o644); err != nil {
		t.Fatal(err)
	}
	asNobody(t, dir, "send", "open", "--server", d.addr).want(t, 0, "open  1 bytes", "verified")
	asNobody(t, dir, "get", "open", "--dir", "shut", "--server", d.addr).want(t, 1, "not verified: write into shut: permission denied: choose a folder that you may write with --dir")
	asNobody(t, dir, "get", "open", "--dir", "locked", "--server", d.addr).want(t, 1, "locked: permission denied: choose another with --dir")
	asNobody(t, dir, "send", "--me", "closed", "fenc").want(t, 2, "closed: permission denied; make it readable")
}

// A full disk, here a small file system that only the process under test sees.
func TestErrorsOfAFullDisk(t *testing.T) {
	t.Parallel()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	on := func(size string, args ...string) *exec.Cmd {
		script := `mkdir -p small && mount -t tmpfs -o size=` + size + ` none small && exec "$0" "$@"`
		return exec.Command("unshare", append([]string{"-rm", "sh", "-c", script, path}, args...)...)
	}
	if err := on("1m", "version").Run(); err != nil {
		t.Skip("no file system of its own to be had: ", err)
	}
	if err := os.Remove("small"); err != nil {
		t.Error(err)
	}
	server := startCommand(t, dir, nil, on("4m", "serve", "--listen", "127.0.0.1:0", "--storage", "small/files"))
	addr, home := server.address(t), t.TempDir()
	write(t, filepath.Join(home, "big"), strings.Repeat("x", 8<<20))
	write(t, filepath.Join(home, "less"), strings.Repeat("y", 1<<20))
	run := func(args ...string) result { return start(t, home, nil, args...).result(t) }
	run("send", "big", "--server", addr, "--name", "grace", "--accept-new", "--retry-for", "0s").want(t, 1, "big  8388608 bytes", "not verified",
		"the server's disk is full", "the server's operator finds more in its log")
	server.log.await(t, `verdict=refused .*not enough space`, server.ended)
	run("send", "less", "--server", addr).want(t, 0, "less  1048576 bytes", "verified")
	startCommand(t, home, nil, on("64k", "get", "less", "--dir", "small", "--retry-for", "0s")).result(t).want(t, 1, "less  1048576 bytes", "not verified: write into small: no space left on device: make room there, or choose another folder with --dir")
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
}

func TestErrorsHelpTheOperator(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), "")
	in := func(name string) string { return filepath.Join(dir, name) }
	settings := write(t, in("server.toml"), "listen = \"127.0.0.1:0\"\n")
	for name, test := range map[string]struct {
		args   []string
		status int
		want   []string
	}{
		"address in use":            {[]string{"--listen", d.addr, "--storage", in("1"), "--database", in("1.db")}, 1, []string{"another program listens at " + d.addr, "end it, if it is an old fenc serve, or choose another address with --listen, or listen in server.toml"}},
		"no address of this one":    {[]string{"--listen", "192.0.2.1:0", "--storage", in("2"), "--database", in("2.db")}, 1, []string{"192.0.2.1:0", "this machine has no such address: choose another address with --listen"}},
		"storage of another server": {[]string{"--storage", filepath.Join(d.dir, "files"), "--database", in("3.db")}, 1, []string{filepath.Join(d.dir, "files"), "in use by another fenc serve"}},
		"storage is a file":         {[]string{"--storage", file, "--database", in("4.db")}, 1, []string{file + " is no folder: name one with --storage"}},
		"database is a folder":      {[]string{"--storage", in("5"), "--database", dir}, 1, []string{dir + " is a folder: name a file with --database"}},
		"database in no folder":     {[]string{"--storage", in("6"), "--database", in("none/6.db")}, 1, []string{"there is no folder " + in("none") + ": make it, or name another file with --database"}},
		"database of others":        {[]string{"--storage", in("7"), "--database", write(t, in("7.db"), strings.Repeat("no SQLite\n", 200))}, 1, []string{in("7.db"), "not a database"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience) // should it serve after all
			defer cancel()
			fenc(ctx, nil, append([]string{"serve", "--config", settings}, test.args...)...).want(t, test.status, test.want...)
		})
	}
	fenc(t.Context(), nil, "serve", "--config", in("none.toml")).want(t, 2, in("none.toml")+": file does not exist; check the path")
}

// PostgreSQL that is not there was three lines of the driver's.
func TestErrorsOfPostgresThatIsNotReached(t *testing.T) {
	t.Parallel()
	one, two := need.DeadAddress(t), need.DeadAddress(t)
	r := fenc(t.Context(), nil, "clients", "--database", "postgres://grace:secret@"+one+","+two+"/files")
	r.want(t, 1, "fenc: clients: open database postgres://"+one+","+two+"/files: catalogue unavailable: no connection to the database \"files\" as \"grace\": "+
		one+": connection refused; "+two+": connection refused: is it up, and may this user connect? database in server.toml, or FENC_DATABASE, says where it is")
	if strings.Count(r.errors, "\n") != 1 || strings.Contains(r.errors, "secret") {
		t.Errorf("got\n%s\nwant one line, each address once, and no password", r.errors)
	}
}

func TestServerKeyThatOthersMayRead(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	d.stop(t)
	if err := os.Chmod(filepath.Join(d.dir, "server.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	fenc(t.Context(), nil, "serve", "--config", filepath.Join(d.dir, "server.toml")).want(t, 2, "server.key: mode 0644 lets others at the private key; run: chmod 600")
}
