package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenc/config"
	"fenc/wire/v4"
)

// nobody is a user without rights: a process's files in /proc are its user's as
// long as it may be dumped, and root's when it may not.
const nobody = 65534

// atWork starts what holds keys, as far as it goes without an answer, as a user
// who is not root. What is typed is in the environment of the test alone.
func atWork(t *testing.T, name string) (c *child, secrets []string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	server := silent.Addr().String()
	identity, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	invite := v4.Invite{Address: server, Server: identity.Fingerprint(), Token: v4.NewToken()}

	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.txt"), "abc")
	me, err := config.PrepareMe(filepath.Join(dir, "me.toml"), config.Secret(identity.Text()), "grace")
	if err == nil {
		err = me.Commit(strings.Repeat("0a", 16))
	}
	if err != nil {
		t.Fatal(err)
	}
	secrets = []string{identity.Text()}
	args := map[string][]string{
		"serve":            {"serve", "--listen", "127.0.0.1:0"},
		"send":             {"send", "--server", server, "a.txt"},
		"send, protocol 3": {"send", "--server", server, "--protocol", "3", "--name", "ada", "--me", "ada.toml", "a.txt"},
		"get":              {"get", "--server", server, "a.txt"},
		"join":             {"join", "--dir", "joined"},
	}[name]
	// The shell raises its limit of core files, so that there is something to take away.
	command := exec.Command("/bin/sh", append([]string{"-c", `ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"`, filepath.Join(dir, "fenc")}, args...)...)
	if name == "join" {
		command.Stdin = strings.NewReader(invite.Line() + "\n")
		_, data, _ := strings.Cut(invite.Line(), "/")
		secrets = []string{data}
	}
	if os.Geteuid() == 0 {
		lend(t, dir)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	own := filepath.Join(dir, "fenc")
	if err := errors.Join(os.Link(path, own), os.Chmod(own, 0o755)); err != nil {
		t.Fatal(err)
	}
	c = startCommand(t, dir, []string{"GOTRACEBACK=crash"}, command)
	if name == "serve" {
		c.address(t)
		lines := strings.Split(strings.TrimSpace(readFile(t, filepath.Join(dir, "server.key"))), "\n")
		return c, lines[len(lines)-1:]
	}
	silent.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := silent.Accept()
	if err != nil {
		t.Fatalf("%v; it said:\n%s", err, c.log)
	}
	t.Cleanup(func() { conn.Close() })
	return c, secrets
}

var working = []string{"serve", "send", "send, protocol 3", "get", "join"}

// lend gives a folder of the test's to nobody, and lets him through to it.
func lend(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(os.Chmod(filepath.Dir(dir), 0o711), filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	}))
	if err != nil {
		t.Fatal(err)
	}
}

// A crash of what holds keys leaves no picture of its memory, and no other process
// of the user may look at it.
func TestNoCoreDumps(t *testing.T) {
	t.Parallel()
	for _, name := range working {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := atWork(t, name)
			proc := fmt.Sprintf("/proc/%d/", c.Process.Pid)
			if limits := readFile(t, proc+"limits"); !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).MatchString(limits) {
				t.Errorf("limits: got\n%s\nwant no core files", limits)
			}
			info, err := os.Stat(proc + "environ")
			if err != nil {
				t.Fatal(err)
			}
			user := uint32(os.Geteuid())
			if user == 0 {
				user = nobody
			}
			if owner := info.Sys().(*syscall.Stat_t).Uid; owner == user {
				t.Error("its files in /proc are its user's: it may be dumped and looked into")
			}
			c.signal(t, syscall.SIGQUIT)
			c.result(t)
			status := c.ProcessState.Sys().(syscall.WaitStatus)
			if !status.Signaled() || status.CoreDump() {
				t.Errorf("it ended by %v, core dumped: %t, want a crash without one", c.ProcessState, status.CoreDump())
			}
			if left, _ := filepath.Glob(filepath.Join(c.Dir, "core*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// Whatever anybody on the machine may see of a process (its arguments), and what its
// own user may (its environment), has no secret in it, and neither has what it says.
func TestNoSecretInProc(t *testing.T) {
	t.Parallel()
	for _, name := range working {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, secrets := atWork(t, name)
			var shown strings.Builder
			for _, file := range []string{"cmdline", "environ", "comm"} {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", c.Process.Pid, file))
				if err != nil && (file != "environ" || os.Geteuid() == 0) { // which is root's to read alone
					t.Fatal(err)
				}
				shown.Write(text)
			}
			c.signal(t, syscall.SIGTERM)
			c.result(t)
			shown.WriteString(c.out.String() + c.log.String())
			if !strings.Contains(shown.String(), strings.Fields(name)[0][:3]) {
				t.Fatalf("got %q, want the arguments", shown.String())
			}
			for _, secret := range secrets {
				if len(secret) < 32 {
					t.Fatalf("no secret: %q", secret)
				}
				if strings.Contains(shown.String(), secret) || strings.Contains(shown.String(), secret[len(secret)-24:]) {
					t.Errorf("a secret shows in\n%q", shown.String())
				}
			}
		})
	}
}

// A server that the kernel confines does all that it is there for, also when it is
// started again.
func TestConfinedServerServes(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	settings := filepath.Join(dir, "etc", "server.toml")
	if err := errors.Join(os.Mkdir(filepath.Dir(settings), 0o700), os.MkdirAll(filepath.Join(home, "tree", "below"), 0o700)); err != nil {
		t.Fatal(err)
	}
	write(t, settings, "listen = \"127.0.0.1:0\"\nstorage = \"../data/files\"\ndatabase = \"../catalogue/fenc.db\"\nkey = \"server.key\"\n")
	if err := os.Mkdir(filepath.Join(dir, "catalogue"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		write(t, filepath.Join(home, "tree", "below", fmt.Sprint(i)), strings.Repeat("x", i))
	}
	write(t, filepath.Join(home, "tree", "big"), strings.Repeat("0123456789abcdef", 20<<20/16))
	client := func(args ...string) result { return start(t, home, nil, args...).result(t) }

	for _, run := range []string{"first", "second"} {
		server := start(t, dir, nil, "serve", "--config", settings)
		addr := server.address(t)
		said := server.log.String()
		confined := strings.Contains(said, "confined by Landlock ABI ")
		if !confined && !strings.Contains(said, "not confined: the kernel has ") {
			t.Fatalf("the log does not say what the server is held to:\n%s", said)
		}
		if below := fmt.Sprintf(`writes_below="[%s/data/files %[1]s/catalogue]" reads=[%[1]s/etc]`, dir); confined && !strings.Contains(said, below) {
			t.Errorf("got\n%s\nwant %s", said, below)
		}
		wantNoNewPrivileges(t, server, confined)

		write(t, filepath.Join(home, "tree", "changes"), run)
		client("send", "--server", addr, "--accept-new", "--name", "grace", "tree").want(t, 0)
		client("send", "--server", addr, "--protocol", "3", "--name", "ada", "--me", "ada.toml", "tree/changes").want(t, 0, "verified")
		client("list", "--server", addr, "--json", "tree/big").want(t, 0, `"bytes":20971520`)
		client("get", "--server", addr, "--replace", "--dir", "back", "tree").want(t, 0)
		if got := readFile(t, filepath.Join(home, "back", "tree", "changes")); got != run {
			t.Errorf("got back %q, want %q", got, run)
		}
		start(t, dir, nil, "invite", "--config", settings, "--name", run).result(t).want(t, 0, "fenc4-")
		wantNoNewPrivileges(t, server, confined) // threads that came since
		server.signal(t, syscall.SIGTERM)
		server.result(t).want(t, 0, "msg=stopped")
		if said := server.log.String(); strings.Contains(said, "permission denied") || strings.Contains(said, "level=ERROR") {
			t.Errorf("the log: got\n%s\nwant nothing denied", said)
		}
		os.RemoveAll(filepath.Join(home, "transfer.toml")) // the next server listens at another port
	}
}

func TestConfinementCanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	server := start(t, t.TempDir(), []string{"FENC_CONFINE=false"}, "serve", "--listen", "127.0.0.1:0")
	server.address(t)
	server.log.await(t, `not confined.*confine = false`, server.ended)
	wantNoNewPrivileges(t, server, false)
}

// wantNoNewPrivileges looks at each thread: to be confined, it must have given up
// that programs which it runs have more rights than it has.
func wantNoNewPrivileges(t *testing.T, c *child, want bool) {
	t.Helper()
	all, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", c.Process.Pid))
	if err != nil || len(all) < 2 {
		t.Fatalf("threads: got %q, %v", all, err)
	}
	const given = "NoNewPrivs:\t1"
	if !want && strings.Contains(readFile(t, "/proc/self/status"), given) {
		return // the child has it from whoever runs the tests
	}
	for _, thread := range all {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		if got := strings.Contains(string(text), given); got != want {
			t.Errorf("%s: confined: got %t, want %t", thread, got, want)
		}
	}
}
