package main

import (
	"bytes"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"fenc/modes"
)

// unwritable is a standard output that takes nothing.
type unwritable struct{ err error }

func (u unwritable) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: "/dev/stdout", Err: u.err}
}

// A full disk behind standard output went unnoticed: results were lost with exit status
// 0, and with them the secrets of invites.
func TestResultsThatCannotBePrinted(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	file := write(t, filepath.Join(dir, "a.txt"), "abc")
	server := filepath.Join(d.dir, "server.toml")
	to := func(out unwritable, args ...string) result {
		var errors bytes.Buffer
		status := run(t.Context(), append([]string{"fenc"}, args...), modes.Streams{In: strings.NewReader(""), Out: out, Err: &errors})
		return result{status, "", errors.String()}
	}
	full, closed := unwritable{syscall.ENOSPC}, unwritable{syscall.EPIPE}
	for _, args := range [][]string{
		{"--help"}, {"version"}, {"man"}, {"completion", "bash"},
		{"send", "--config", settings, file}, {"send", "--json", "--config", settings, file}, {"send", "--dry-run", "--config", settings, file},
		{"list", "--config", settings}, {"list", "--json", "--config", settings},
		{"get", "--config", settings, "--dir", filepath.Join(dir, "back"), "a.txt"},
		{"check", "--config", server}, {"files", "--config", server}, {"uploads", "--config", server}, {"clients", "--config", server},
		{"clients", "--config", server, "quota", "grace", "1MiB"}, {"invite", "list", "--config", server},
		{"health", "--config", server}, {"reload", "--config", server}, {"doctor", "serve", "--config", server},
	} {
		r := to(full, args...)
		r.want(t, 1, "no space left on device")
		if strings.Count(r.errors, "no space left") != 1 {
			t.Errorf("fenc %q: it said\n%s\nwant the error once", args, r.errors)
		}
	}
	to(full, "send", "--config", settings, file).want(t, 1, "fenc: not all results could be printed: write /dev/stdout: no space left on device: make room, or have them go elsewhere; what was done stays done\n")
	to(full, "send", "--config", settings, filepath.Join(dir, "none")).want(t, 1, "not all results could be printed")
	to(closed, "send", "--config", settings, file).want(t, 0) // head has read what it wanted
	fenc(t.Context(), nil, "list", "--config", settings).want(t, 0, "a.txt")

	for _, args := range [][]string{{"invite", "--config", server, "--name", "ada"}, {"clients", "rekey", "--config", server, "grace"}} {
		r := to(full, args...)
		r.want(t, 1, "the invite was made, and could not be printed: write /dev/stdout: no space left on device")
		back := regexp.MustCompile(`fenc (invite revoke [0-9a-f]{8}), and make another`).FindStringSubmatch(r.errors)
		if back == nil {
			t.Fatalf("it said %s, want how to take the invite back", r.errors)
		}
		d.operator(t, strings.Fields(back[1])...).want(t, 0, "taken back: invite "+back[1][len("invite revoke "):])
	}
}
