//go:build unix

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// startLoosely is start under an umask that takes nothing.
func startLoosely(t *testing.T, dir string, env []string, args ...string) *child {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, dir, env, exec.Command("/bin/sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, path}, args...)...))
}

// Under whatever umask fenc is started, nothing that it makes is for others, but
// for a file that was got, which has the mode that it was sent with.
func TestUmask(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	server := startLoosely(t, dir, nil, "serve", "--listen", "127.0.0.1:0", "--storage", "new/files", "--database", "new/fenc.db")
	addr := server.address(t)
	modes := map[string]fs.FileMode{"a.txt": 0o640, "run": 0o751, "all": 0o666}
	if err := os.Mkdir(filepath.Join(home, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range modes {
		if err := os.Chmod(write(t, filepath.Join(home, "tree", name), name), mode); err != nil {
			t.Fatal(err)
		}
	}
	startLoosely(t, home, nil, "send", "--server", addr, "--accept-new", "--name", "grace", "tree").result(t).want(t, 0)
	startLoosely(t, home, nil, "send", "--protocol", "3", "--server", addr, "--name", "ada", "--me", "ada.toml", "tree/a.txt").result(t).want(t, 0)
	startLoosely(t, home, nil, "get", "--server", addr, "--dir", "back/here", "tree").result(t).want(t, 0)

	seen := 0
	for _, root := range []string{filepath.Join(dir, "new"), home} {
		filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				t.Fatal(err)
			}
			info, err := e.Info()
			if err != nil {
				return nil // a file of SQLite's that was there for a moment
			}
			mode := info.Mode()
			relative, _ := filepath.Rel(home, path)
			switch sent, got := modes[e.Name()]; {
			case path == root && root == home, relative == "tree", strings.HasPrefix(relative, "tree/"):
			case mode&fs.ModeSymlink != 0:
			case got && strings.HasPrefix(relative, "back/"):
				seen++
				if mode.Perm() != sent {
					t.Errorf("%s: got mode %04o, want %04o as it was sent", path, mode.Perm(), sent)
				}
			case mode.Perm()&0o077 != 0:
				t.Errorf("%s: got mode %v, want nothing for others", path, mode)
			case !e.IsDir():
				seen++
			}
			return nil
		})
	}
	if seen < 10 {
		t.Errorf("looked at %d files, want those of a server and a client", seen)
	}
}

func TestServerKeepsToMemoryLimit(t *testing.T) {
	t.Parallel()
	server := start(t, t.TempDir(), []string{"GOMEMLIMIT=300MiB"}, "serve", "--listen", "127.0.0.1:0")
	server.address(t)
	server.log.await(t, `msg="memory limited" bytes=314572800 from=GOMEMLIMIT`, server.ended)
	unlimited := start(t, t.TempDir(), []string{"GOMEMLIMIT=off"}, "serve", "--listen", "127.0.0.1:0")
	unlimited.log.await(t, `msg="memory not limited" from=GOMEMLIMIT`, unlimited.ended)
}

// Whatever clients send, and by whichever way it comes, the storage holds plain files
// that nobody can run and nobody else can read.
func TestStorageHoldsNothingExecutable(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	server := startLoosely(t, dir, nil, "serve", "--listen", "127.0.0.1:0")
	addr := server.address(t)
	if err := os.MkdirAll(filepath.Join(home, "tree", "bin"), 0o777); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\ntrue\n"
	for i := range 40 { // some of which go in one message
		if err := os.Chmod(write(t, filepath.Join(home, "tree", "bin", fmt.Sprint(i)), script+strings.Repeat("# \n", i)), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(write(t, filepath.Join(home, "tree", "large"), script+strings.Repeat("# \n", 4<<20)), 0o777); err != nil {
		t.Fatal(err)
	}
	for range 2 { // new, and replaced
		startLoosely(t, home, nil, "send", "--server", addr, "--accept-new", "--name", "grace", "tree").result(t).want(t, 0)
		startLoosely(t, home, nil, "send", "--server", addr, "--protocol", "3", "--name", "ada", "--me", "ada.toml", "tree/bin/7").result(t).want(t, 0)
		write(t, filepath.Join(home, "tree", "bin", "7"), script+"changed")
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)

	objects := 0
	filepath.WalkDir(filepath.Join(dir, "files"), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		switch mode := info.Mode(); {
		case mode.IsDir() && mode.Perm() != 0o700, mode.IsRegular() && mode != 0o600:
			t.Errorf("%s: got mode %v, want 0700 for folders and 0600 for files", path, mode)
		case mode.IsRegular():
			objects++
		case !mode.IsDir():
			t.Errorf("%s: got %v, want files and folders alone", path, mode)
		}
		return nil
	})
	if objects < 40 {
		t.Errorf("looked at %d files, want what was sent", objects)
	}
}
