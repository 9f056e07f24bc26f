package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestListAndGet(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	tree := filepath.Join(dir, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "many"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := map[string]string{"tree/one": "1", "tree/empty": "", "tree/big": strings.Repeat("0123456789", 1<<20)}
	for i := range 60 {
		content[fmt.Sprintf("tree/many/%03d", i)] = strings.Repeat("x", i*7)
	}
	for name, text := range content {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	one := filepath.Join(tree, "one")
	if err := os.Chmod(one, 0o751); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(one, when, when); err != nil {
		t.Fatal(err)
	}
	fenc(t.Context(), nil, "send", "--config", settings, tree).want(t, 0)

	list := func(args ...string) result {
		return fenc(t.Context(), nil, append([]string{"list", "--config", settings}, args...)...)
	}
	get := func(args ...string) result {
		return fenc(t.Context(), nil, append([]string{"get", "--config", settings}, args...)...)
	}
	all := list()
	all.want(t, 0, "-rwxr-x--x", "2001-02-03T04:05:06Z", "tree/one", "tree/many/059", "10485760")
	if got := strings.Count(all.out, "\n"); got != len(content) {
		t.Errorf("list: got %d lines, want %d", got, len(content))
	}
	if got := strings.Count(list("tree/many/").out, "\n"); got != 60 {
		t.Errorf("list of a folder: got %d lines, want 60", got)
	}
	list("--json", "tree/one").want(t, 0, `{"path":"tree/one","bytes":1,"blake3":"`, `"mode":"0751"`)
	list("tree/on").want(t, 1, "nothing of yours there is called tree/on")
	list("../x").want(t, 2, "bad path")

	to := filepath.Join(t.TempDir(), "here")
	first := get("--dir", to, ".")
	first.want(t, 0, "tree/big  10485760 bytes", "tree/empty  0 bytes")
	if got := strings.Count(first.out, "  verified\n"); got != len(content) {
		t.Errorf("get: got %d lines verified, want %d:\n%s%s", got, len(content), first.out, first.errors)
	}
	same := func(t *testing.T, to string) {
		t.Helper()
		seen := 0
		filepath.WalkDir(to, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			seen++
			name, _ := filepath.Rel(to, path)
			if want, ok := content[filepath.ToSlash(name)]; !ok || readFile(t, path) != want {
				t.Errorf("%s: not what was sent", name)
			}
			return nil
		})
		if seen != len(content) {
			t.Errorf("got %d files, want %d and nothing else", seen, len(content))
		}
	}
	same(t, to)
	info, err := os.Stat(filepath.Join(to, "tree", "one"))
	if err != nil || !info.ModTime().Equal(when) || runtime.GOOS != "windows" && info.Mode().Perm() != 0o751 {
		t.Errorf("times and mode: got %v, %v, %v", info.ModTime(), info.Mode(), err)
	}
	if again := get("--dir", to, "tree"); strings.Count(again.out, "  unchanged\n") != len(content) {
		t.Errorf("again: got %s%s, want all unchanged", again.out, again.errors)
	}

	t.Run("another content is here", func(t *testing.T) {
		mine := write(t, filepath.Join(to, "tree", "empty"), "mine")
		get("--dir", to, "tree/empty", "tree/one").want(t, 1, "tree/empty  0 bytes", "here already with other content", "--replace", "tree/one  1 bytes", "1 of 2 files")
		if got := readFile(t, mine); got != "mine" {
			t.Errorf("the file here: got %q, want it untouched", got)
		}
		get("--dir", to, "--replace", "tree/empty").want(t, 0, "verified")
		same(t, to)
	})
	t.Run("not there", func(t *testing.T) {
		get("--dir", to, "gone", "tree/one").want(t, 1, "gone  0 bytes", "not on the server", "tree/one  1 bytes", "unchanged")
		get("--dir", to).want(t, 2, "nothing to get")
		get("--dir", to, "a/../b").want(t, 2, "bad path")
	})
	t.Run("links here lead nowhere else", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("links need a privilege")
		}
		outside, here := t.TempDir(), t.TempDir()
		os.Symlink(outside, filepath.Join(here, "tree"))
		get("--dir", here, "tree/one").want(t, 1, "tree is here already, and is no folder")
		os.Remove(filepath.Join(here, "tree"))
		os.Mkdir(filepath.Join(here, "tree"), 0o755)
		os.Symlink(filepath.Join(outside, "one"), filepath.Join(here, "tree", "one"))
		get("--dir", here, "--replace", "tree/one").want(t, 1, "is no file")
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("written outside: %v", left)
		}
	})
	t.Run("a client that may not read", func(t *testing.T) {
		_, settings := d.join(t, "--name", "ada", "--rights", "send")
		fenc(t.Context(), nil, "list", "--config", settings).want(t, 3, "no right to read")
		fenc(t.Context(), nil, "get", "--config", settings, "tree/one").want(t, 3, "no right to read")
	})
	t.Run("nothing of another client's", func(t *testing.T) {
		_, settings := d.join(t, "--name", "alan")
		if r := fenc(t.Context(), nil, "list", "--config", settings); r.status != 0 || r.out != "" {
			t.Errorf("got %d, %q, want an empty list", r.status, r.out)
		}
		fenc(t.Context(), nil, "get", "--config", settings, "--dir", to, "tree/one").want(t, 1, "not on the server")
	})
	t.Run("who is no client", func(t *testing.T) {
		stranger := write(t, filepath.Join(t.TempDir(), "transfer.toml"), "server = \""+d.addr+"\"\n")
		fenc(t.Context(), nil, "list", "--config", stranger).want(t, 2, "me.toml is not there", "fenc join")
	})
}

// A fetch that was cut goes on where it was.
func TestGetResumes(t *testing.T) {
	t.Parallel()
	way := newRelay(t)
	d := serve(t, t.TempDir())
	way.server.Store(&d.addr)
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = \"grace\"\n", way.Addr()))
	content := strings.Repeat("0123456789abcdef", 24<<20/16)
	file := write(t, filepath.Join(dir, "big"), content)
	fenc(t.Context(), nil, "send", "--config", settings, "--accept-new", file).want(t, 0, "verified")

	to := t.TempDir()
	way.cutBack(10 << 20)
	fenc(t.Context(), nil, "get", "--config", settings, "--dir", to, "--retry-for", "0s", "big").want(t, 1, "not verified", "lost")
	if _, err := os.Stat(filepath.Join(to, "big")); err == nil {
		t.Error("the file is there before it is verified")
	}
	back := way.back.Load()
	way.cutBack(5 << 20)
	fenc(t.Context(), nil, "get", "--config", settings, "--dir", to, "big").want(t, 0, "trying again", "big  25165824 bytes", "verified")
	if readFile(t, filepath.Join(to, "big")) != content {
		t.Error("what was got is not what was sent")
	}
	if again := way.back.Load() - back; again > 20<<20 {
		t.Errorf("%d bytes came after 10 MiB of 24 had come, want it gone on with", again)
	}

	// What an earlier run has left may be damaged.
	os.Remove(filepath.Join(to, "big"))
	way.cutBack(10 << 20)
	fenc(t.Context(), nil, "get", "--config", settings, "--dir", to, "--retry-for", "0s", "big").want(t, 1)
	left, _ := filepath.Glob(filepath.Join(to, ".fenc-*.part"))
	if len(left) != 1 {
		t.Fatalf("partial files: got %v, want one", left)
	}
	f, err := os.OpenFile(left[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("damaged"), 1<<20)
	f.Close()
	fenc(t.Context(), nil, "get", "--config", settings, "--dir", to, "big").want(t, 0, "verified (sent 2 times)")
	if readFile(t, filepath.Join(to, "big")) != content {
		t.Error("what was got is not what was sent")
	}
}
