package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// What the container has is enough: the static binary serves in a root folder with
// nothing beside it, as the container's user, by the container's settings, and its
// health check, invites and signal to stop work.
func TestServerAloneInItsRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may change the root folder")
	}
	_, last := container(t)
	steps := make(map[string]string)
	for _, s := range last {
		steps[s.what] = s.args
	}
	root := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(root, "fenc"), ".")
	build.Dir, build.Env = sourceDir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	user, group, _ := strings.Cut(steps["USER"], ":")
	uid, err := strconv.Atoi(user)
	if err != nil || user != group || uid == 0 {
		t.Fatalf("USER %q", steps["USER"])
	}
	data := filepath.Join(root, steps["VOLUME"])
	for _, err := range []error{os.Mkdir(data, 0o700), os.Chown(data, uid, uid), os.Chmod(root, 0o555), os.Chmod(filepath.Join(root, "fenc"), 0o555)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	env := strings.Fields(strings.ReplaceAll(steps["ENV"], ":1234", "127.0.0.1:0"))
	inside := func(args ...string) *child {
		t.Helper()
		command := exec.Command(words(steps["ENTRYPOINT"])[0], args...)
		command.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		command.Dir = steps["WORKDIR"]
		return startIn(t, env, command)
	}
	server := inside(words(steps["CMD"])...)
	addr := server.address(t)
	_, check, _ := strings.Cut(steps["HEALTHCHECK"], " CMD ")
	health := words(check)
	if health[0] != words(steps["ENTRYPOINT"])[0] {
		t.Fatalf("HEALTHCHECK %q", check)
	}
	inside(health[1:]...).result(t).want(t, 0, "accepting: ok")
	line := strings.TrimSpace(inside("invite", "--name", "grace").result(t).out)

	home := t.TempDir()
	write(t, filepath.Join(home, "a.txt"), "abc")
	join := exec.Command(mustBinary(t), "join", "--dir", home)
	join.Stdin = strings.NewReader(line + "\n")
	startCommand(t, home, nil, join).result(t).want(t, 0, "joined "+addr+" as grace")
	start(t, home, nil, "send", "a.txt").result(t).want(t, 0, "verified")
	if got := readFile(t, filepath.Join(data, "files", "grace", "a.txt")); got != "abc" {
		t.Errorf("stored: %q", got)
	}
	if steps["STOPSIGNAL"] != "SIGTERM" {
		t.Fatalf("STOPSIGNAL %q", steps["STOPSIGNAL"])
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0, "msg=stopped")
	inside(health[1:]...).result(t).want(t, 1, "no server is running here")
}

// words are those of a container file's list.
func words(list string) []string {
	var all []string
	for _, w := range strings.Split(strings.Trim(list, "[]"), ",") {
		all = append(all, strings.Trim(strings.TrimSpace(w), `"`))
	}
	return all
}

// startIn starts a command with env and nothing else in its environment.
func startIn(t *testing.T, env []string, command *exec.Cmd) *child {
	t.Helper()
	c := &child{Cmd: command, out: newOutput(), log: newOutput(), ended: make(chan struct{})}
	c.Stdout, c.Stderr, c.Env = c.out, c.log, env
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
	})
	return c
}

func mustBinary(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
