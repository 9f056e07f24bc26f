//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Mistakes whose message once named no way out, or one that there is not.
func TestRemediesOfTheClient(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t)
	file, outbox := write(t, filepath.Join(dir, "a"), "a"), filepath.Join(dir, "outbox")
	if err := os.Mkdir(outbox, 0o700); err != nil {
		t.Fatal(err)
	}
	open := serve(t, t.TempDir())
	dir3, settings3 := client(t, open.addr, "three")
	fenc(t.Context(), nil, "send", "--config", settings3, file).want(t, 0)
	write(t, filepath.Join(dir3, "four.toml"), "server = \""+open.addr+"\"\n")
	four := filepath.Join(dir3, "four.toml")
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"patterns that are not there": {[]string{"send", "--config", settings, "--exclude-from", "nope", file}, "--exclude-from nope: no such file or directory: name a file of patterns"},
		"patterns of watch":           {[]string{"watch", "--config", settings, "--exclude-from", "nope", outbox}, "--exclude-from nope: no such file or directory: name a file of patterns"},
		"JSON of what runs":           {[]string{"watch", "--config", settings, "--json", outbox}, "--json is for --status: --log-format json has the log as JSON"},
		"list as a client of 3":       {[]string{"list", "--config", four}, "this works by protocol 4 alone: become a client of it"},
		"get as a client of 3":        {[]string{"get", "--config", four, "a"}, "this works by protocol 4 alone"},
		"watch as a client of 3":      {[]string{"watch", "--config", four, "--queue", filepath.Join(dir3, "queue"), outbox}, "this works by protocol 4 alone"},
		"send as a client of 3":       {[]string{"send", "--config", four, file}, "add --protocol 3"},
		"one file twice, protocol 3":  {[]string{"send", "--config", settings3, file, filepath.Join(dir, "outbox", "..") + "/./a"}, "are one file: name it once"},
		"join where 3 is":             {[]string{"join", "--dir", dir3, strings.TrimSpace(open.invite(t, "--name", "ada"))}, "choose another directory with --dir"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fenc(t.Context(), strings.NewReader(""), test.args...)
			r.want(t, 2, test.want)
			if !strings.HasPrefix(name, "send") && strings.Contains(r.errors, "add --protocol") {
				t.Errorf("got\n%s\nwant no option that is none here", r.errors)
			}
		})
	}
	twice := fenc(t.Context(), nil, "send", "--config", settings, file, dir+"/./a")
	twice.want(t, 0, "are the same, which is sent once")
	if got := strings.Count(twice.out, "a  1 bytes"); got != 1 {
		t.Errorf("a file that is named twice: got\n%s\nwant it once", twice.out)
	}
	start(t, dir, []string{"TMPDIR=/nowhere"}, "send", "--config", settings, "-").result(t).want(t, 1, "spool standard input into /nowhere: no such file or directory: have TMPDIR name a folder with room that you may write")
	bad := write(t, filepath.Join(dir, "bad\nname"), "b")
	fenc(t.Context(), nil, "send", "--config", settings, bad).want(t, 1, "control character U+000A: rename it, or send it alone with fenc send --as NAME")
	fenc(t.Context(), nil, "send", "--config", settings, "--as", "good", bad).want(t, 0, "good  1 bytes", "verified")
}
