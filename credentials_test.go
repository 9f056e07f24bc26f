//go:build unix

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"fenc/config/need"
)

// credential puts a secret where systemd would, with the mode that it shows there.
func credential(t *testing.T, name, text string) (env []string) {
	t.Helper()
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, name), text)
	for path, mode := range map[string]os.FileMode{path: 0o440, dir: 0o550} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) })
	return []string{"CREDENTIALS_DIRECTORY=" + dir}
}

// Secrets come from files and credentials.
func TestSecretsFromCredentials(t *testing.T) {
	t.Parallel()
	address, err := need.Address() // for the next server as well
	if err != nil {
		t.Fatal(err)
	}
	d := serveInvitedAt(t, address, t.TempDir())
	key := d.log.await(t, `"server_key":"(SHA256:[^"]+)"`, d.ended)[1]
	invite := d.invite(t, "--name", "grace")
	d.stop(t)
	path := filepath.Join(d.dir, "server.key")
	text := readFile(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	server := start(t, d.dir, credential(t, "server.key", text), "serve", "--config", "server.toml")
	server.log.await(t, regexp.QuoteMeta(key), server.ended)
	if _, err := os.Stat(path); err == nil {
		t.Error("server.key is there again, want the credential used")
	}

	home := t.TempDir()
	run := func(env []string, args ...string) result { return start(t, home, env, args...).result(t) }
	run(nil, "join", "--file", "none.txt").want(t, 2, "--file none.txt: no such file")
	run(nil, "join", "--file", write(t, filepath.Join(home, "invite.txt"), "\n")).want(t, 2, "not a fenc invite")
	run(nil, "join", "--file", "invite.txt", invite).want(t, 2, "give one of the two")
	run(credential(t, "invite", invite+"\n"), "join", "--dir", "joined").want(t, 0, "joined "+d.addr+" as grace")
	write(t, filepath.Join(home, "invite.txt"), invite)
	run(nil, "join", "--dir", "joined", "--file", "invite.txt").want(t, 0, "as grace") // the same client again

	me := filepath.Join(home, "joined", "me.toml")
	secret := readFile(t, me)
	if err := os.Rename(me, filepath.Join(home, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(home, "a"), "abc")
	run(credential(t, "me.toml", secret), "send", "--config", "joined/transfer.toml", "a").want(t, 0, "a  3 bytes", "verified")
	// Whose mode counts everywhere else.
	if err := os.Chmod(filepath.Join(home, "elsewhere"), 0o440); err != nil {
		t.Fatal(err)
	}
	run(nil, "send", "--config", "joined/transfer.toml", "--me", "elsewhere", "a").want(t, 2, "mode 0440 lets others at the private key")
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	if strings.Contains(server.log.String(), strings.TrimSpace(text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:])) {
		t.Error("the log shows the key")
	}
}
