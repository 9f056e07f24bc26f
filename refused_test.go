package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of one file the server's refusal was exit status 3, and of several 1.
func TestAllFilesRefused(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace", "--quota", "1KiB")
	send := func(names ...string) result {
		args := []string{"send", "--config", settings}
		for _, name := range names {
			args = append(args, filepath.Join(dir, name))
		}
		return fenc(t.Context(), nil, args...)
	}
	for _, name := range []string{"a", "b"} {
		write(t, filepath.Join(dir, name), strings.Repeat(name, 2<<10))
	}
	write(t, filepath.Join(dir, "small"), "s")
	send("a").want(t, 3, "over the client's quota")
	send("a", "b").want(t, 3, "fenc: send: 2 of 2 files not verified: refused by the server")
	send("a", "b", "missing").want(t, 1, "3 of 3 files not verified")
	send("small").want(t, 0)
	send("a", "b", "small").want(t, 1, "2 of 3 files not verified")
}

// A FILE that is none was skipped, and the exit status was 0 with nothing sent.
func TestNamedFileThatIsNone(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Skip(err)
	}
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t)
	file := write(t, filepath.Join(dir, "a"), "a")
	fenc(t.Context(), nil, "send", "--config", settings, "/dev/null").want(t, 1, "/dev/null  0 bytes", "not verified: is a device", "fenc send - --as NAME")
	fenc(t.Context(), nil, "send", "--config", settings, file, "/dev/null").want(t, 1, "a  1 bytes", "  verified", "1 of 2 files not verified")
}
