//go:build unix

package main

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model"
	"fenc/wire/v3"
)

// binary builds fenc once for all tests that need real signals, a real
// environment or a working directory of their own. It has the race detector where the
// tests have it.
var binary = sync.OnceValues(func() (string, error) {
	runtime.KeepAlive(main) // else the cache of test results would not notice that it has changed
	path := filepath.Join(filepath.Dir(os.Getenv("XDG_CONFIG_HOME")), "fenc")
	build := exec.Command("go", "build", "-race="+strconv.FormatBool(raceDetector()), "-o", path, ".")
	build.Dir = sourceDir
	out, err := build.CombinedOutput()
	return path, errors.Join(err, textError(out))
})

// raceDetector reports whether this is go test -race.
func raceDetector() bool {
	about, _ := debug.ReadBuildInfo()
	return about != nil && slices.Contains(about.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func textError(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	return errors.New(string(text))
}

// child is a fenc of its own.
type child struct {
	*exec.Cmd
	out, log *output
	ended    chan struct{}
}

// start runs the binary in dir with env and nothing else in its environment.
func start(t *testing.T, dir string, env []string, args ...string) *child {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, dir, env, exec.Command(path, args...))
}

// startCommand is start for a command that becomes fenc.
func startCommand(t *testing.T, dir string, env []string, command *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: command, out: newOutput(), log: newOutput(), ended: make(chan struct{})}
	c.Dir, c.Stdout, c.Stderr = dir, c.out, c.log
	c.Env = append([]string{"HOME=" + dir, "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"), "TMPDIR=" + t.TempDir()}, env...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		c.Process.Kill()
		c.await(t)
		if said := c.log.String(); strings.Contains(said, "WARNING: DATA RACE") {
			t.Errorf("%s has a race; it said:\n%s", c.Args, said)
		}
	})
	return c
}

// signal sends it to the child and to nobody else.
func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// await waits for the end. A child that does not come to it says where it stands.
func (c *child) await(t *testing.T) {
	t.Helper()
	select {
	case <-c.ended:
		return
	case <-time.After(patience):
	}
	c.Process.Signal(syscall.SIGQUIT)
	select {
	case <-c.ended:
	case <-time.After(patience / 6):
	}
	t.Fatalf("%s does not end; it said:\n%s%s", c.Args, c.out, c.log)
}

// result waits for the end.
func (c *child) result(t *testing.T) result {
	t.Helper()
	c.await(t)
	return result{c.ProcessState.ExitCode(), c.out.String(), c.log.String()}
}

func (c *child) address(t *testing.T) string {
	t.Helper()
	return c.log.await(t, `msg=listening address=(\S+)`, c.ended)[1]
}

func TestBinaryWorksOnTheDefaultsInAnEmptyFolder(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, home := t.TempDir(), t.TempDir()
			server := start(t, dir, nil, "serve", "--listen", "127.0.0.1:0")
			addr := server.address(t)
			write(t, filepath.Join(home, "a.txt"), "abc")
			for _, contact := range []string{"first", "second"} {
				r := start(t, home, nil, "send", "--protocol", "3", "--server", addr, "--name", "grace", "a.txt").result(t)
				r.want(t, 0, "a.txt  3 bytes", "verified")
				if got, want := strings.Contains(r.errors, "your identity is in me.toml"), contact == "first"; got != want {
					t.Errorf("%s contact: stderr: got %q, want notice %t", contact, r.errors, want)
				}
			}
			server.signal(t, s)
			server.result(t).want(t, 0, "msg=stopped")
			if got, err := os.ReadFile(filepath.Join(dir, "files", "grace", "a.txt")); string(got) != "abc" {
				t.Errorf("stored file: got %q, %v, want abc", got, err)
			}
			if info, err := os.Stat(filepath.Join(dir, "fenc.db")); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("fenc.db: got %v, %v, want mode 0600", info, err)
			}
		})
	}
}

func TestBinaryRegistersAsUserAtHostWithoutAName(t *testing.T) {
	t.Parallel()
	server := start(t, t.TempDir(), nil, "serve", "--listen", "127.0.0.1:0")
	home := t.TempDir()
	write(t, filepath.Join(home, "a.txt"), "abc")
	r := start(t, home, nil, "send", "--protocol", "3", "--server", server.address(t), "a.txt").result(t)
	host, err := os.Hostname()
	if err != nil {
		t.Skip(err)
	}
	r.want(t, 0, "@"+host+`" at `)
}

// TestSIGTERMInTheMiddleOfAnUploadFinishesIt sends most of a file, more than any
// buffer between the two holds, and the rest when the server is stopping.
func TestSIGTERMInTheMiddleOfAnUploadFinishesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := start(t, dir, nil, "serve", "--listen", "127.0.0.1:0")
	addr := server.address(t)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	answer := func(msg any, want v3.Code) {
		t.Helper()
		h, err := v3.ReadResponseHeader(conn)
		if err == nil {
			err = v3.ReadResponse(conn, h, msg, want)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var registered v3.Registered
	must(v3.WriteRegistration(conn, "grace"))
	answer(&registered, v3.CodeRegistered)
	id := registered.ClientID
	private, err := v3.GenerateKey()
	must(err)
	public, err := v3.MarshalPublicKey(&private.PublicKey)
	must(err)
	name, err := v3.NewName("grace")
	must(err)
	must(v3.WriteRequest(conn, id, v3.CodePublicKey, &v3.PublicKey{Name: name, Key: public}, 0))
	var wrapped v3.Key
	answer(&wrapped, v3.CodeKey)
	key, err := v3.UnwrapKey(private, wrapped.Wrapped)
	must(err)

	plain := bytes.Repeat([]byte("sixteen bytes..\n"), 3<<20)
	sum := crc32.ChecksumIEEE(plain)
	want := bytes.Clone(plain)
	ciphertext := v3.NewEncrypter(key).Final(append(plain, make([]byte, v3.BlockSize)...), len(plain))
	file, err := v3.NewName("big")
	must(err)
	request := &v3.File{ClientID: id, ContentSize: uint32(len(ciphertext)), FileName: file}
	must(v3.WriteRequest(conn, id, v3.CodeFile, request, request.ContentSize))
	rest := len(ciphertext) - 100
	_, err = conn.Write(ciphertext[:rest])
	must(err)

	server.signal(t, syscall.SIGTERM)
	for late := time.Now().Add(patience); ; { // until it accepts no more
		c, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(late) {
			t.Fatal("the server goes on accepting after SIGTERM")
		}
	}
	select {
	case <-server.ended:
		t.Fatalf("the server ended in the middle of the file; it said:\n%s", server.log)
	default:
	}
	_, err = conn.Write(ciphertext[rest:])
	must(err)
	var got v3.FileReceived
	answer(&got, v3.CodeFileReceived)
	if got.Checksum != sum {
		t.Errorf("checksum: got %08x, want %08x", got.Checksum, sum)
	}
	must(v3.WriteRequest(conn, id, v3.CodeValid, &v3.Verdict{ClientID: id, FileName: file}, 0))
	answer(nil, v3.CodeReceived)
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the file: got %d bytes, %v, want the connection closed", n, err)
	}
	server.result(t).want(t, 0, "verdict=verified", "msg=stopped")
	stored, err := os.ReadFile(filepath.Join(dir, "files", "grace", "big"))
	if err != nil || !bytes.Equal(stored, want) {
		t.Errorf("stored file: got %d bytes, %v, want the %d that were sent", len(stored), err, len(want))
	}
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	must(err)
	defer catalogue.Close()
	if f, ok, _ := catalogue.File(model.ID(id), "big"); !ok || !f.Verified || f.Checksum != sum {
		t.Errorf("row: got %+v, %t, want verified with checksum %08x", f, ok, sum)
	}
}

func TestSIGINTEndsASendWith130(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.txt"), "abc")
	c := start(t, dir, nil, "send", "--protocol", "3", "--server", l.Addr().String(), "--name", "grace", "a.txt")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, v3.RequestHeaderSize)); err != nil {
		t.Fatal(err)
	}
	c.signal(t, syscall.SIGINT)
	c.result(t).want(t, 130, "fenc: send: interrupted in the middle of registering")
	if left, _ := filepath.Glob(filepath.Join(dir, "me.toml*")); len(left) > 0 {
		t.Errorf("left behind: %q, want nothing", left)
	}
}

func TestFlagWinsOverEnvironmentWinsOverFile(t *testing.T) {
	t.Parallel()
	file, env, flag := need.DeadAddress(t), need.DeadAddress(t), need.DeadAddress(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "transfer.toml"), "server = \""+file+"\"\n")
	write(t, filepath.Join(dir, "a.txt"), "abc")
	setting := "FENC_SERVER=" + env
	for name, test := range map[string]struct {
		env, args []string
		want      string
	}{
		"file":                      {nil, nil, file},
		"environment":               {[]string{setting}, nil, env},
		"flag":                      {[]string{setting}, []string{"--server", flag}, flag},
		"flag, without environment": {nil, []string{"--server", flag}, flag},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, dir, test.env, append(append([]string{"send"}, test.args...), "a.txt")...).result(t)
			r.want(t, 1, "connect to "+test.want+": refused")
		})
	}
	t.Run("wrong environment", func(t *testing.T) {
		t.Parallel()
		r := start(t, dir, []string{"FENC_ATTEMPTS=many"}, "send", "a.txt").result(t)
		r.want(t, 2, `FENC_ATTEMPTS="many"`, "not a whole number", "0 to 100")
	})
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:1\"\nstorage = \"of-file\"\ndatabase = \"of-file.db\"\n")
		c := start(t, dir, []string{"FENC_LISTEN=127.0.0.1:0", "FENC_STORAGE=of-environment"}, "serve", "--storage", "of-flag")
		c.address(t)
		c.log.await(t, `storage=\S*of-flag database=\S*of-file.db`, c.ended)
		c.signal(t, syscall.SIGTERM)
		c.result(t).want(t, 0)
	})
	t.Run("configuration directory", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "darwin" {
			t.Skip("another directory")
		}
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "config", "fenc"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "config", "fenc", "transfer.toml"), "server = \""+file+"\"\n")
		write(t, filepath.Join(dir, "a.txt"), "abc")
		start(t, dir, nil, "send", "--protocol", "3", "a.txt").result(t).want(t, 1, "connect to "+file+": refused")
	})
}
