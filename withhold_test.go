package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The identity in use, with its private key, was sent with the folder that it is in.
func TestIdentityStaysHere(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	me, link := filepath.Join(dir, "me.toml"), filepath.Join(dir, "link")
	if err := os.Link(me, link); err != nil {
		t.Skip(err)
	}
	write(t, filepath.Join(dir, "a.txt"), "a")
	write(t, me+".old", readFile(t, me))
	write(t, me+".XYZ.new", readFile(t, me))
	const why = "its private key stays on this machine"
	sent := fenc(t.Context(), nil, "send", "--config", settings, dir)
	sent.want(t, 0, "/a.txt  1 bytes", me+" skipped: is the identity in use, and "+why, link+" skipped", me+".old skipped: is kept beside", me+".XYZ.new skipped")
	fenc(t.Context(), nil, "send", "--config", settings, "--json", dir).want(t, 0, `{"message_type":"skipped","name":"`+me+`","reason":"is the identity in use, and `+why+`"}`)
	fenc(t.Context(), nil, "send", "--config", settings, me).want(t, 1, "me.toml  0 bytes", "not verified: is the identity in use, and "+why)
	fenc(t.Context(), strings.NewReader(me+"\n"), "send", "--config", settings, "--files-from", "-").want(t, 0, me+" skipped")
	once := fenc(t.Context(), nil, "watch", "--once", "--settle", "0s", "--config", settings, "--queue", filepath.Join(t.TempDir(), "queue"), dir)
	once.want(t, 0, "msg=skipped file="+me+" reason=", why)
	if list := fenc(t.Context(), nil, "list", "--config", settings); strings.Contains(list.out, "me.toml") || strings.Contains(list.out, "link") || !strings.Contains(list.out, "a.txt") {
		t.Errorf("the server has\n%s\nwant a.txt, and nothing that has the key", list.out)
	}

	t.Run("of protocol 3", func(t *testing.T) {
		t.Parallel()
		three := serve(t, t.TempDir())
		dir, settings := client(t, three.addr, "grace")
		fenc(t.Context(), nil, "send", "--config", settings, write(t, filepath.Join(dir, "a"), "a")).want(t, 0)
		fenc(t.Context(), nil, "send", "--config", settings, filepath.Join(dir, "me.toml")).want(t, 1, why)
	})
}

// The first contact writes me.toml while the folder is sent that it is written into.
func TestIdentityThatIsMadeStaysHere(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), "server = \""+d.addr+"\"\nname = \"grace\"\n")
	for range 2 {
		fenc(t.Context(), nil, "send", "--config", settings, "--accept-new", dir).want(t, 0)
	}
	if list := fenc(t.Context(), nil, "list", "--config", settings); strings.Contains(list.out, "me.toml") || !strings.Contains(list.out, "transfer.toml") {
		t.Errorf("the server has\n%s\nwant no me.toml", list.out)
	}
}

// The settings went with the folder that they are in: the next send knew no server.
func TestSettingsInUseAreNotRemoved(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	const skipped = "transfer.toml skipped: is the settings in use, which stay here"
	write(t, filepath.Join(dir, "a.txt"), "a")
	fenc(t.Context(), nil, "send", "--config", settings, "--remove-source-files", "--dry-run", dir).want(t, 0, skipped)
	fenc(t.Context(), nil, "send", "--config", settings, "--remove-source-files", dir).want(t, 0, "/a.txt  1 bytes", skipped)
	write(t, filepath.Join(dir, "b.txt"), "b")
	fenc(t.Context(), nil, "watch", "--once", "--settle", "2s", "--config", settings, "--queue", filepath.Join(t.TempDir(), "queue"), "--after", "remove", dir).
		want(t, 0, "b.txt", "msg=skipped file="+settings)
	for _, name := range []string{"a.txt", "b.txt"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still here", name)
		}
	}
	list := fenc(t.Context(), nil, "list", "--config", settings)
	list.want(t, 0, "a.txt", "b.txt")
	if strings.Contains(list.out, "transfer.toml") {
		t.Errorf("the server has\n%s\nwant no settings", list.out)
	}
	fenc(t.Context(), nil, "send", "--config", settings, dir).want(t, 0, "transfer.toml")
}
