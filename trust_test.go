package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fenc/config"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

// serveInvited starts a server that takes invited clients of protocol 4 alone.
func serveInvited(t testing.TB, dir string, more ...string) *daemon {
	t.Helper()
	return serveInvitedAt(t, "127.0.0.1:0", dir, more...)
}

// serveInvitedAt is serveInvited at an address.
func serveInvitedAt(t testing.TB, address, dir string, more ...string) *daemon {
	t.Helper()
	write(t, filepath.Join(dir, "server.toml"), fmt.Sprintf("listen = %q\n", address)+"storage = \"files\"\ndatabase = \"fenc.db\"\nlog_format = \"json\"\n"+
		"registration = \"invite\"\nprotocols = [4]\n"+strings.Join(more, "\n"))
	return serve(t, dir)
}

// operator runs fenc on the server's machine.
func (d *daemon) operator(t testing.TB, args ...string) result {
	t.Helper()
	at := 1
	if len(args) > 1 && slices.Contains([]string{"clients", "invite", "files", "events"}, args[0]) && !strings.HasPrefix(args[1], "-") {
		at = 2
	}
	full := append(append(append([]string{}, args[:at]...), "--config", filepath.Join(d.dir, "server.toml")), args[at:]...)
	return fenc(t.Context(), nil, full...)
}

// invite returns the line of a new invite.
func (d *daemon) invite(t testing.TB, args ...string) string {
	t.Helper()
	r := d.operator(t, append([]string{"invite"}, args...)...)
	r.want(t, 0, "fenc4-"+d.addr)
	return strings.TrimSpace(r.out)
}

// join makes a client of the server in a folder of its own.
func (d *daemon) join(t testing.TB, args ...string) (dir, settings string) {
	t.Helper()
	dir = t.TempDir()
	fenc(t.Context(), strings.NewReader(d.invite(t, args...)+"\n"), "join", "--dir", dir).want(t, 0, "joined "+d.addr)
	return dir, filepath.Join(dir, "transfer.toml")
}

func TestInviteJoinSend(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	line := d.invite(t, "--name", "grace", "--quota", "1MiB")
	d.operator(t, "invite", "list").want(t, 0, "grace", "open", "1MiB")
	d.operator(t, "invite", "--name", "grace").want(t, 1, "exists already", "fenc invite revoke")

	home := t.TempDir()
	joined := fenc(t.Context(), nil, "join", "--dir", home, line)
	joined.want(t, 0, "joined "+d.addr+" as grace; from now on: fenc send FILE")
	settings := filepath.Join(home, "transfer.toml")
	file := write(t, filepath.Join(home, "a.txt"), "hello\n")
	sent := fenc(t.Context(), nil, "send", "--config", settings, file)
	sent.want(t, 0)
	if line := regexp.MustCompile(`^a\.txt  6 bytes  \d+\.\d\d s  blake3 [0-9a-f]{64}  verified\n$`); !line.MatchString(sent.out) || sent.errors != "" {
		t.Errorf("send: got %q and %q, want %s and nothing", sent.out, sent.errors, line)
	}
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0, "unchanged")

	t.Run("the same client again", func(t *testing.T) {
		fenc(t.Context(), nil, "join", "--dir", home, line).want(t, 0, "joined", "as grace")
	})
	t.Run("another client with the same invite", func(t *testing.T) {
		other := t.TempDir()
		fenc(t.Context(), nil, "join", "--dir", other, line).want(t, 3, "the invite has been used", "ask the server's operator for a new invite")
		if left, _ := os.ReadDir(other); len(left) > 0 {
			t.Errorf("left behind: %v, want nothing", left)
		}
	})
	t.Run("a slip", func(t *testing.T) {
		fenc(t.Context(), nil, "join", "--dir", t.TempDir(), line[:len(line)-3]+"xyz").want(t, 2, "mistyped")
		fenc(t.Context(), strings.NewReader("hello\n"), "join", "--dir", t.TempDir()).want(t, 2, "not a fenc invite")
	})
	t.Run("a folder of another server's", func(t *testing.T) {
		other := serveInvited(t, t.TempDir())
		fenc(t.Context(), nil, "join", "--dir", home, other.invite(t)).want(t, 2, "another server", "--dir")
	})
	t.Run("without an invite", func(t *testing.T) {
		dir := t.TempDir()
		a := write(t, filepath.Join(dir, "a"), "a")
		r := fenc(t.Context(), nil, "send", "--config", write(t, filepath.Join(dir, "transfer.toml"), "server = \""+d.addr+"\"\n"), "--accept-new", "--name", "ada", a)
		r.want(t, 3, "not admitted", "fenc join")
		if _, err := os.Stat(filepath.Join(dir, "me.toml")); err == nil {
			t.Error("me.toml is there, want no registration")
		}
	})
	t.Run("an invite taken back", func(t *testing.T) {
		line := d.invite(t, "--name", "ada")
		d.operator(t, "invite", "revoke", "ada").want(t, 0, "taken back")
		d.operator(t, "invite", "revoke", "ada").want(t, 1, "no open invite")
		fenc(t.Context(), nil, "join", "--dir", t.TempDir(), line).want(t, 3, "taken back")
	})
	t.Run("mistakes", func(t *testing.T) {
		d.operator(t, "invite", "--expires", "1s").want(t, 2, "--expires", "1m to 365d")
		d.operator(t, "invite", "--rights", "write").want(t, 2, "--rights", `"write"`, "send, read and replace")
		d.operator(t, "invite", "--quota", "much").want(t, 2, "--quota")
		d.operator(t, "invite", "--name", "grace").want(t, 1, "name in use", "fenc clients rekey")
		fenc(t.Context(), nil, "invite", "ada").want(t, 2, "--name")
		fenc(t.Context(), nil, "clients", "remove", "ada").want(t, 2, "revoke")
		fenc(t.Context(), nil, "clients", "--database", filepath.Join(t.TempDir(), "none.db")).want(t, 1, "no such file", "--database")
		d.operator(t, "clients", "quota", "grace").want(t, 2, "clients quota takes NAME SIZE")
		d.operator(t, "clients", "quota", "grace", "10XB").want(t, 2, `"10XB": not a size; write a number of bytes such as 10GiB`)
		d.operator(t, "clients", "revoke", "nobody").want(t, 1, `no client is called "nobody"`)
	})
	d.stop(t)
	wantStored(t, d, "grace", "a.txt", "hello\n")
}

// What replaced a file counted on top of it, so that a client whose quota was nearly full
// could not change its files, nor send again what the server had.
func TestReplacementsWithinTheQuota(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	for protocol, size := range map[string]int{"4, whole": 30_000, "4, by blocks": 3_000_000, "3": 30_000} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			name := fmt.Sprintf("grace-%d-%s", size, protocol[:1])
			send := func(file, content string) result {
				args := []string{"send", "--server", d.addr, "--name", name, "--me", filepath.Join(dir, "me.toml"), write(t, filepath.Join(dir, file), content)}
				if protocol == "3" {
					return fenc(t.Context(), nil, append(args, "--protocol", "3")...)
				}
				return fenc(t.Context(), nil, append(args, "--accept-new")...)
			}
			of := func(text string, size int) string { return strings.Repeat(text, size)[:size] }
			for _, file := range []string{"a", "b", "c"} {
				send(file, of(file, size)).want(t, 0, "verified")
			}
			quota := fmt.Sprint(3*size + 100)
			d.operator(t, "clients", "quota", name, quota).want(t, 0)
			d.log.await(t, `"client":"`+name+`","rights":"send,read,replace","quota":`+quota, d.ended)
			send("a", of("changed", size+50)).want(t, 0, "verified")
			send("b", of("changed", size)).want(t, 0, "verified")
			send("b", of("changed", size)).want(t, 0) // written anew, and the same
			r := send("c", of("changed", size+500))
			if protocol == "3" {
				r.want(t, 1) // it has no words for it
			} else {
				r.want(t, 3, "over the client's quota: 500 bytes more, "+fmt.Sprint(3*size+50)+" are taken of "+quota)
			}
			if strings.Contains(r.out+r.errors, "begin upload") {
				t.Errorf("got %s%s, want it in users' words", r.out, r.errors)
			}
			send("d", of("new", 500))
			d.operator(t, "clients", "--json").want(t, 0, fmt.Sprintf(`"quota":%s,"files":3,"bytes":%d`, quota, 3*size+50))
		})
	}
}

func TestClientsAreManagedBesideTheServer(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	send := func(name, content string) result {
		return fenc(t.Context(), nil, "send", "--config", settings, "--retry-for", "1m", write(t, filepath.Join(dir, name), content))
	}
	follow := func(change string, args ...string) {
		t.Helper()
		d.operator(t, append([]string{"clients"}, args...)...).want(t, 0, "grace: ")
		d.log.await(t, change, d.ended)
	}
	send("a", "one").want(t, 0, "verified")
	follow(`"rights":"send","quota":0`, "rights", "grace", "send")
	send("a", "two").want(t, 3, "may not be replaced")
	send("a", "one").want(t, 0, "verified") // an honest retry, which learns nothing
	follow(`"rights":"none"`, "rights", "grace", "none")
	send("b", "one").want(t, 3, "no right to send")
	follow(`"rights":"send,read,replace","quota":0`, "rights", "grace", "send,read,replace")
	follow(`"quota":5`, "quota", "grace", "5")
	send("a", "sixsix").want(t, 3, "over the client's quota: 3 bytes more, 3 are taken of 5")
	send("b", strings.Repeat("x", 2<<20)).want(t, 3, "over the client's quota")
	follow(`"rights":"send,read,replace","quota":0,"revoked":false`, "quota", "grace", "0")
	send("a", "four").want(t, 0, "verified")
	d.operator(t, "clients").want(t, 0, "grace  send,read,replace  1      4B     -")
	d.operator(t, "clients", "--json").want(t, 0, `"name":"grace"`, `"files":1,"bytes":4`, `"fingerprint":"SHA256:`)

	live := openSession(t, d, dir)
	follow(`"revoked":true`, "revoke", "grace")
	select {
	case <-live.Done():
	case <-time.After(patience):
		t.Fatal("a revoked client's session goes on")
	}
	var refusal *session4.RefusalError
	if !errors.As(live.Err(), &refusal) || refusal.Reason != v4.ReasonRevoked || refusal.Again {
		t.Errorf("revoked client's session: got %v, want it refused as revoked", live.Err())
	}
	send("c", "one").want(t, 3, "revoked", "ask the server's operator")
	d.operator(t, "clients").want(t, 0, "REVOKED")

	line := strings.TrimSpace(d.operator(t, "clients", "rekey", "grace").out)
	again := t.TempDir()
	fenc(t.Context(), nil, "join", "--dir", again, line).want(t, 0, "as grace")
	fenc(t.Context(), nil, "send", "--config", filepath.Join(again, "transfer.toml"), filepath.Join(dir, "a")).want(t, 0, "unchanged")
}

// A key that was lost or stolen works until its client has come back with another one,
// and opens nothing from then on.
func TestOldKeyOpensNothingAfterARekey(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	stolen, old := d.join(t, "--name", "grace")
	a := write(t, filepath.Join(stolen, "a"), "one")
	send := func(settings, file string) result {
		return fenc(t.Context(), nil, "send", "--config", settings, file)
	}
	send(old, a).want(t, 0, "verified")
	line := strings.TrimSpace(d.operator(t, "clients", "rekey", "grace").out)
	send(old, a).want(t, 0, "unchanged") // the invite alone changes nothing
	live := openSession(t, d, stolen)

	dir := t.TempDir()
	fenc(t.Context(), nil, "join", "--dir", dir, line).want(t, 0, "as grace")
	select {
	case <-live.Done():
	case <-time.After(patience):
		t.Fatal("a session by the old key goes on")
	}
	var refusal *session4.RefusalError
	if !errors.As(live.Err(), &refusal) || refusal.Again {
		t.Errorf("the session by the old key: got %v, want it refused for good", live.Err())
	}
	send(old, a).want(t, 3, "not admitted")
	fenc(t.Context(), nil, "list", "--config", old).want(t, 3, "not admitted")
	fenc(t.Context(), nil, "get", "--config", old, "--dir", t.TempDir(), "a").want(t, 3, "not admitted")
	fenc(t.Context(), nil, "join", "--dir", stolen, line).want(t, 3, "the invite has been used")
	now := filepath.Join(dir, "transfer.toml")
	send(now, a).want(t, 0, "unchanged")
	fenc(t.Context(), nil, "list", "--config", now).want(t, 0, "a")
	d.operator(t, "clients").want(t, 0, "grace  send,read,replace  1      3B     -")
}

// Join once went to the server with the key that was there, which may have been stolen: the
// server took that one, and the invite to another key stayed open.
func TestJoinByAnInviteToAnotherKey(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	me := filepath.Join(dir, "me.toml")
	file := write(t, filepath.Join(dir, "a"), "a")
	send := func(more ...string) result {
		return fenc(t.Context(), nil, append([]string{"send", "--config", settings, file}, more...)...)
	}
	rekey := func() string {
		t.Helper()
		r := d.operator(t, "clients", "rekey", "grace")
		r.want(t, 0, "fenc4-")
		return strings.TrimSpace(r.out)
	}
	stolen, invite := readFile(t, me), rekey()
	fenc(t.Context(), nil, "join", "--dir", dir, invite).want(t, 0, "joined "+d.addr+" as grace", `"grace" has another key at `+d.addr, me+".old")
	if readFile(t, me) == stolen || readFile(t, me+".old") != stolen {
		t.Error("me.toml has the old key, or me.toml.old has not")
	}
	d.operator(t, "invite", "list").want(t, 0, "used")
	send().want(t, 0, "verified")
	send("--me", me+".old").want(t, 3, "does not know the key in "+me+".old", "fenc clients rekey")

	present := readFile(t, me)
	fenc(t.Context(), nil, "join", "--dir", dir, invite).want(t, 0, "joined "+d.addr+" already as grace", "the invite has been used")
	if readFile(t, me) != present {
		t.Error("a used invite: me.toml has changed")
	}
	taken := d.invite(t, "--name", "ada")
	d.operator(t, "invite", "revoke", "ada").want(t, 0, "taken back")
	fenc(t.Context(), nil, "join", "--dir", dir, taken).want(t, 3, "taken back", `"grace" is a client there already`)
	send().want(t, 0, "unchanged")

	d.operator(t, "clients", "revoke", "grace").want(t, 0)
	d.log.await(t, `"revoked":true`, d.ended)
	send("--retry-for", "0s").want(t, 3, "revoked", "fenc clients rekey")
	invite = rekey()
	fenc(t.Context(), nil, "join", "--dir", dir, invite).want(t, 0, "joined "+d.addr+" as grace", me+".2.old")
	send().want(t, 0, "unchanged")

	elsewhere := t.TempDir()
	fenc(t.Context(), nil, "join", "--dir", elsewhere, rekey()).want(t, 0, "as grace")
	send().want(t, 3, "does not know the key in "+me)
	fenc(t.Context(), nil, "join", "--dir", dir, invite).want(t, 3, "has been used", "does not know the key in "+me)

	fenc(t.Context(), nil, "join", "--dir", dir, d.invite(t, "--name", "ada")).want(t, 0, `registered as "ada"`, `of "grace", which was there, is in `+me+".3.old", "joined "+d.addr+" as ada")
	if left, _ := filepath.Glob(me + ".*.new"); len(left) > 0 {
		t.Errorf("left behind: %q, want nothing", left)
	}
}

// openSession opens a session as the client whose files are in dir.
func openSession(t testing.TB, d *daemon, dir string) *session4.Session {
	t.Helper()
	file, err := config.LoadMe(filepath.Join(dir, "me.toml"))
	if err != nil {
		t.Fatal(err)
	}
	transfer, _, err := config.LoadTransfer(filepath.Join(dir, "transfer.toml"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := v4.ParseFingerprint(transfer.ServerKey[0])
	if err != nil {
		t.Fatal(err)
	}
	me := session4.Identity{Name: file.Name}
	if me.Key, err = v4.ParseIdentity(file.PrivateKey.Reveal()); err != nil {
		t.Fatal(err)
	}
	to := session4.Settings{Server: d.addr, Pins: []v4.Fingerprint{pin}, ConnectTimeout: patience, Timeout: patience, Software: "test"}
	s, err := session4.Open(context.Background(), to, me, session4.NewRun(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Cut)
	return s
}

func TestFirstContactWithoutAnInvite(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	key := d.log.await(t, `"server_key":"(SHA256:[^"]+)"`, d.ended)[1]
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), "# mine\nserver = \""+d.addr+"\"\nname = \"grace\"\n")
	file := write(t, filepath.Join(dir, "a"), "abc")
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 2, key, "--server-key", "--accept-new")
	if _, err := os.Stat(filepath.Join(dir, "me.toml")); err == nil {
		t.Error("me.toml is there, want nothing said to a server that was not confirmed")
	}
	wrong := v4.Fingerprint{1}.String()
	fenc(t.Context(), nil, "send", "--config", settings, "--server-key", wrong, file).want(t, 4, "THE SERVER'S KEY HAS CHANGED", wrong, key, "fenc trust "+key)
	fenc(t.Context(), nil, "send", "--config", settings, "--accept-new", file).want(t, 0, "is kept in "+settings, "verified")
	if text, err := os.ReadFile(settings); err != nil || !strings.HasPrefix(string(text), "# mine\n") || !strings.Contains(string(text), `server_key = "`+key+`"`) {
		t.Errorf("transfer.toml: got %q, %v, want the key in it and the rest as it was", text, err)
	}
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0, "unchanged")

	t.Run("the server is set up anew", func(t *testing.T) {
		other := serve(t, t.TempDir())
		otherKey := other.log.await(t, `"server_key":"(SHA256:[^"]+)"`, other.ended)[1]
		text := strings.Replace(readFile(t, settings), d.addr, other.addr, 1)
		moved := write(t, filepath.Join(t.TempDir(), "transfer.toml"), text)
		me := filepath.Join(dir, "me.toml")
		for _, args := range [][]string{{}, {"--accept-new"}} {
			all := append(append([]string{"send", "--config", moved, "--me", me}, args...), file)
			fenc(t.Context(), nil, all...).want(t, 4, "THE SERVER'S KEY HAS CHANGED", key, otherKey)
		}
		fenc(t.Context(), nil, "trust", "--config", moved).want(t, 2, otherKey, "fenc trust")
		fenc(t.Context(), nil, "trust", "--config", moved, wrong).want(t, 1, "shows another key", otherKey, "nothing was changed")
		fenc(t.Context(), nil, "trust", "--config", moved, otherKey).want(t, 0, "trusted from now on: "+otherKey)
		fenc(t.Context(), nil, "trust", "--config", moved, otherKey).want(t, 0, "trusted already")
		fenc(t.Context(), nil, "send", "--config", moved, "--me", me, file).want(t, 0, "verified") // open registration
	})
	t.Run("identities of one version are not served under the other", func(t *testing.T) {
		fenc(t.Context(), nil, "send", "--config", settings, "--protocol", "3", file).want(t, 2, "protocol 4")
		dir3, settings3 := client(t, d.addr, "three")
		fenc(t.Context(), nil, "send", "--config", settings3, file).want(t, 0, "crc32")
		fenc(t.Context(), nil, "send", "--config", settings3, "--protocol", "4", file).want(t, 2, "identity of protocol 3")
		fenc(t.Context(), nil, "send", "--config", settings, "--me", filepath.Join(dir3, "x.toml"), "--name", "three", file).want(t, 3, "in use")
	})
	t.Run("a client of protocol 4 never speaks 3", func(t *testing.T) {
		three := t.TempDir()
		write(t, filepath.Join(three, "server.toml"), "listen = \"127.0.0.1:0\"\nlog_format = \"json\"\nprotocols = [3]\n")
		old := serve(t, three)
		fenc(t.Context(), nil, "send", "--config", settings, "--server", old.addr, "--retry-for", "0s", file).want(t, 1, old.addr, "agreeing on keys")
	})
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A server whose key is gone does not make up another: its clients would take it
// for an attack.
func TestServerWithoutItsKeyDoesNotStart(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	d.join(t)
	d.stop(t)
	if err := os.Remove(filepath.Join(d.dir, "server.key")); err != nil {
		t.Fatal(err)
	}
	fenc(t.Context(), nil, "serve", "--config", filepath.Join(d.dir, "server.toml")).want(t, 2, "server.key", "restore it from a backup")
}
