package confine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// The kernel confines a process for good, so the test is one's child: this test
// program, started anew with childVariable set.
const childVariable = "CONFINE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := json.NewEncoder(os.Stdout).Encode(confined(dir)); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(m.Run())
}

// findings are what a confined process found out, by thread and attempt.
type findings struct {
	Held    Held
	Error   string
	Allowed []map[string]string // what went wrong, or ""
	Denied  []map[string]string
}

const threads = 4

// confined is what the child does in dir: it has threads before it is confined, and
// then each of them tries what is allowed and what is not.
func confined(dir string) (f findings) {
	inside, outside := filepath.Join(dir, "inside"), filepath.Join(dir, "outside")
	begin := make(chan struct{})
	var ready, done sync.WaitGroup
	var mu sync.Mutex
	ready.Add(threads)
	for i := range threads {
		done.Go(func() {
			runtime.LockOSThread()
			ready.Done()
			<-begin
			allowed, denied := attempts(inside, outside, i)
			mu.Lock()
			defer mu.Unlock()
			f.Allowed, f.Denied = append(f.Allowed, allowed), append(f.Denied, denied)
		})
	}
	ready.Wait()
	open, err := os.Open(filepath.Join(outside, "secret"))
	if err != nil {
		panic(err)
	}
	store, err := netip.ParseAddrPort(os.Getenv(childVariable + "_STORE"))
	if err != nil {
		panic(err)
	}
	f.Held, err = Files(Allowed{Write: []string{inside}, Read: []string{filepath.Join(outside, "settings")}, Connect: []uint16{store.Port()}})
	if err != nil {
		f.Error = err.Error()
		if !errors.Is(err, ErrUnconfined) {
			f.Error = "of another kind: " + f.Error
		}
	} else if _, err := open.Read(make([]byte, 1)); err != nil {
		f.Error = "what was open: " + err.Error()
	}
	close(begin)
	done.Wait()
	return f
}

func attempts(inside, outside string, n int) (allowed, denied map[string]string) {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	in := func(name string) string { return filepath.Join(inside, fmt.Sprint(n), name) }
	out := func(name string) string { return filepath.Join(outside, name) }
	read := func(path string) string { _, err := os.ReadFile(path); return text(err) }
	write := func(path string) string { return text(os.WriteFile(path, []byte("x"), 0o600)) }
	allowed = map[string]string{}
	for _, attempt := range []struct {
		what string
		came string
	}{ // one builds on the other
		{"make folders", text(os.MkdirAll(in("a"), 0o700)) + text(os.Mkdir(in("b"), 0o700))},
		{"write", write(in("a/file"))},
		{"write again, cut", write(in("a/file"))},
		{"link into another folder", text(os.Link(in("a/file"), in("b/link")))},
		{"rename into another folder", text(os.Rename(in("a/file"), in("b/file")))},
		{"replace", write(in("a/new")) + text(os.Rename(in("a/new"), in("b/file")))},
		{"symbolic link", text(os.Symlink("file", in("b/symbolic")))},
		{"read", read(in("b/symbolic"))},
		{"list", func() string { _, err := os.ReadDir(in("b")); return text(err) }()},
		{"a file without a name", unnamed(in("a"))},
		{"remove", text(os.RemoveAll(in("")))},
		{"connect to a port that is named", dial(os.Getenv(childVariable + "_STORE"))},
		{"look names up", read("/etc/hosts")},
		{"read the settings", read(out("settings"))},
		{"random numbers", read1("/dev/urandom")},
	} {
		allowed[attempt.what] = attempt.came
	}
	os.Mkdir(in(""), 0o700)
	os.WriteFile(in("mine"), nil, 0o600)
	os.Symlink(out("secret"), in("way out"))
	denied = map[string]string{
		"read":               read(out("secret")),
		"read by a link":     read(in("way out")),
		"read the system's":  read("/etc/passwd"),
		"write":              write(out("secret")),
		"write the settings": write(out("settings")),
		"make":               write(out("new")),
		"make a folder":      text(os.Mkdir(out("folder"), 0o700)),
		"remove":             text(os.Remove(out("secret"))),
		"link in":            text(os.Link(out("secret"), in("linked"))),
		"link out":           text(os.Link(in("mine"), out("linked"))),
		"rename out":         text(os.Rename(in("mine"), out("renamed"))),
		"list":               func() string { _, err := os.ReadDir(outside); return text(err) }(),
		"run a program":      text(exec.Command("/bin/true").Run()),
		"make a pipe":        mkfifo(in("pipe")),
		"cut":                text(os.Truncate(out("secret"), 0)),
		"connect":            dial(os.Getenv(childVariable + "_ADDRESS")),
		"listen anew":        listen(),
	}
	return allowed, denied
}

func unnamed(dir string) string {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return ""
	}
	if err == nil {
		_, err = f.Write([]byte("x"))
		f.Close()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func read1(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	f.Close()
	return ""
}

func mkfifo(path string) string {
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return err.Error()
	}
	return ""
}

func dial(address string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err.Error()
	}
	conn.Close()
	return ""
}

// listen listens by TCP itself: of the multipath kind, which Go takes by itself,
// Landlock knows nothing.
func listen() string {
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err.Error()
	}
	l.Close()
	return ""
}

// A confined process reaches what it is allowed to in every way that the server
// needs, and nothing else, whichever of its threads tries.
func TestConfinedProcessOpensNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, folder := range []string{"inside", "outside"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"secret", "settings"} {
		if err := os.WriteFile(filepath.Join(dir, "outside", name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	store, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir, childVariable+"_ADDRESS="+l.Addr().String(), childVariable+"_STORE="+store.Addr().String())
	child.Stderr = os.Stderr
	text, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	var f findings
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if strings.HasPrefix(f.Error, ErrUnconfined.Error()+": the kernel has ") {
		t.Skip(f.Error)
	}
	if f.Error != "" || len(f.Allowed) != threads || len(f.Denied) != threads {
		t.Fatalf("got %s", text)
	}
	for i := range threads {
		for what, came := range f.Allowed[i] {
			if came != "" {
				t.Errorf("thread %d: %s: got %s, want it allowed", i, what, came)
			}
		}
		for what, came := range f.Denied[i] {
			switch {
			case what == "cut" && !f.Held.Truncating, (what == "connect" || what == "listen anew") && !f.Held.Connecting:
			case !strings.Contains(came, "permission denied") && !strings.Contains(came, "invalid cross-device link"):
				t.Errorf("thread %d: %s: got %q, want it denied", i, what, came)
			}
		}
	}
	if secret, err := os.ReadFile(filepath.Join(dir, "outside", "secret")); string(secret) != "secret" {
		t.Errorf("the file outside: got %q, %v, want it as it was", secret, err)
	}
}

// What is denied depends on the kernel, and is never silently nothing.
func TestConfigurationByABI(t *testing.T) {
	t.Parallel()
	for kernel, want := range map[int]int{-1: 0, 0: 0, 1: 0, 2: 2, 3: 3, 4: 4, 5: 5, 6: 5, 7: 5, 12: 5} {
		c, abi, err := configuration(kernel)
		if abi != want || (err == nil) != (want > 0) || err != nil && !errors.Is(err, ErrUnconfined) {
			t.Errorf("ABI %d: got %d, %v, want %d", kernel, abi, err, want)
		}
		if want == 0 {
			continue
		}
		if c.HandledAccessFS&writing != writing {
			t.Errorf("ABI %d: got %v, want all of %v denied", kernel, c.HandledAccessFS, writing)
		}
		if got := c.HandledAccessFS&ll.AccessFSTruncate != 0; got != (want >= 3) {
			t.Errorf("ABI %d: cutting files is denied: %t", kernel, got)
		}
		if got := c.HandledAccessNet&ll.AccessNetConnectTCP != 0; got != (want >= 4) {
			t.Errorf("ABI %d: connecting is denied: %t", kernel, got)
		}
		if c.Scoped != 0 {
			t.Errorf("ABI %d: got %v, want signals left alone", kernel, c.Scoped)
		}
	}
}
