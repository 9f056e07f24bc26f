package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Options stand where people put them.
func TestOptionsBehindArguments(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	file := write(t, filepath.Join(dir, "a.txt"), "abc")
	send := func(args ...string) result {
		return fenc(t.Context(), strings.NewReader("piped"), append([]string{"send"}, args...)...)
	}
	send(file, "--config", settings, "--as", "behind").want(t, 0, "behind  3 bytes", "verified")
	send(file, "--config="+settings, "-", "--exclude", "-x").want(t, 0, "a.txt  3 bytes", "stdin  5 bytes")
	send("--config", settings, file, "--as", "-dashed").want(t, 0, "-dashed  3 bytes", "verified")
	dashed := "--" + filepath.Base(dir)
	write(t, filepath.Join(dir, dashed), "of a dashed name")
	send("--config", settings, "--", dashed).want(t, 1, dashed+"  0 bytes", "no such file") // it is not in this folder
	send("--config", settings, "--as", "x", "--", filepath.Join(dir, dashed)).want(t, 0, "x  16 bytes", "verified")
	fenc(t.Context(), nil, "list", "behind", "--config", settings).want(t, 0, "behind")
	fenc(t.Context(), nil, "get", ".", "--config", settings, "--dir", filepath.Join(dir, "back")).want(t, 0, "behind", "-dashed")
	server := filepath.Join(d.dir, "server.toml")
	fenc(t.Context(), nil, "clients", "quota", "grace", "1GiB", "--config", server).want(t, 0, "grace: quota 1GiB")
	fenc(t.Context(), nil, "clients", "--config", server, "quota", "grace", "2GiB").want(t, 0, "grace: quota 2GiB")
	fenc(t.Context(), nil, "send", file, "--help").want(t, 0, "fenc send [--config")
	fenc(t.Context(), nil, "help", "clients", "revoke").want(t, 0, "fenc clients revoke NAME")

	t.Run("a file with the name of an option", func(t *testing.T) {
		if err := os.WriteFile("--quiett", nil, 0o600); err != nil { // in the folder that the tests run in
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove("--quiett") })
		send("--config", settings, "--quiett").want(t, 2, "no such option --quiett", "the file of that name is ./--quiett")
	})
}
