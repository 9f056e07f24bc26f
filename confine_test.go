//go:build unix

package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
