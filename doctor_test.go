//go:build linux

package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"fenc/config/need"
)

// wantDiagnoses checks what fenc doctor says of each check: "check state" by lines,
// in order.
func wantDiagnoses(t *testing.T, r result, want string) {
	t.Helper()
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^  (ok|note|wrong) +(\w+) `).FindAllStringSubmatch(r.out, -1) {
		got = append(got, m[2]+" "+m[1])
	}
	if got := strings.Join(got, ", "); got != want {
		t.Errorf("got %s, want %s; it said:\n%s%s", got, want, r.out, r.errors)
	}
}

func TestDoctorOfAHealthySetUp(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	h.write("a", "abc")
	h.send("", "a").want(t, 0)
	r := h.run("", "doctor")
	r.want(t, 0, "client\n", "transfer.toml", "me.toml, mode 0600", `knows "grace": 1 file of 3 B`, h.addr+" answers")
	wantDiagnoses(t, r, "settings ok, identity ok, clock ok, cache ok, server ok, key ok, client ok")

	settings := filepath.Join(h.daemon.dir, "server.toml")
	r = h.run("", "doctor", "serve", "--config", settings)
	r.want(t, 0, "server\n", settings, "1 client, 1 file of 3 B", "the server that runs answers at "+h.addr)
	wantDiagnoses(t, r, "settings ok, storage ok, space ok, database ok, clock ok, key ok, listen ok")

	r = h.run("", "doctor", "--json")
	r.want(t, 0)
	for _, line := range strings.Split(strings.TrimSpace(r.out), "\n") {
		var d struct{ Side, Check, State, Text string }
		if err := json.Unmarshal([]byte(line), &d); err != nil || d.Side != "client" || d.State != "ok" || d.Check == "" || d.Text == "" {
			t.Errorf("got %s, %v, want a check of the client that is ok", line, err)
		}
	}
	h.daemon.stop(t)
	r = h.run("", "doctor", "serve", "--config", settings)
	r.want(t, 0, "no server runs on this storage; 127.0.0.1:0 is free for one")
	wantDiagnoses(t, r, "settings ok, storage ok, space ok, database ok, clock ok, key ok, listen note")
}

func TestDoctorFindsWhatIsWrongAtTheClient(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	stranger := newHabitual(t)
	doctor := func(t *testing.T, args ...string) result {
		t.Helper()
		r := start(t, h.dir, h.env, append([]string{"doctor", "send"}, args...)...).result(t)
		if !strings.Contains(r.errors, "wrong") && r.status != 2 {
			t.Errorf("stderr: got %q, want a count", r.errors)
		}
		return r
	}
	doctor(t, "--server", need.DeadAddress(t)).want(t, 1, "refused: nothing listens there; is fenc serve running", "doctor: 1 thing is wrong")
	doctor(t, "--server", greeter(t)).want(t, 1, "no fenc server of protocol 4: is the port right?")
	r := doctor(t, "--server", stranger.addr)
	r.want(t, 1, "the server shows SHA256:", "transfer.toml:", "fenc trust SHA256:")
	wantDiagnoses(t, r, "settings ok, identity ok, clock ok, cache ok, server ok, key wrong")
	// Another server's client is none here, and does not become one.
	doctor(t, "--me", filepath.Join(stranger.dir, "me.toml")).want(t, 1, "not admitted", "fenc join")
	h.operator(t, "clients", "--json").want(t, 0, `"name":"grace"`)
	if got := strings.Count(h.operator(t, "clients", "--json").out, "\n"); got != 1 {
		t.Errorf("the server has %d clients, want 1", got)
	}
	doctor(t, "--me", "none.toml").want(t, 1, "there is no none.toml: no server knows you", "fenc join makes it")
	doctor(t, "--config", h.write("slip.toml", "servr = \"x\"\n")).want(t, 1, "slip.toml:1", "did you mean `server`?")
	doctor(t, "--config", h.write("files.toml", "server = \""+h.addr+"\"\nfiles = [\"gone.txt\"]\n")).want(t, 1, "gone.txt: no such file", "no key is pinned", "fenc trust SHA256:")

	me := filepath.Join(h.dir, "me.toml")
	later := time.Now().Add(24 * time.Hour)
	if err := os.Chtimes(me, later, later); err != nil {
		t.Fatal(err)
	}
	doctor(t).want(t, 1, "set the clock")
	h.operator(t, "clients", "rights", "grace", "read").want(t, 0)
	h.log.await(t, `"rights":"read"`, h.ended)
	doctor(t).want(t, 1, "it may not send", "ask the server's operator")
	h.operator(t, "clients", "revoke", "grace").want(t, 0)
	h.log.await(t, `"revoked":true`, h.ended)
	doctor(t).want(t, 1, "revoked", "ask the server's operator")
	if err := os.Chmod(me, 0o644); err != nil {
		t.Fatal(err)
	}
	doctor(t).want(t, 1, "mode 0644 lets others at the private key; run: chmod 600 me.toml")
	start(t, h.dir, append(h.env, "FENC_SERVER="+h.addr), "doctor", "send").result(t).want(t, 1, "the environment wins over the file with FENC_SERVER")
	start(t, t.TempDir(), nil, "doctor").result(t).want(t, 1, "no transfer.toml, me.toml, server.toml or fenc.db", "fenc join")
	doctor(t, "serve").want(t, 2, "one SIDE")
}

func TestDoctorFindsWhatIsWrongAtTheServer(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	dir := h.daemon.dir
	settings := filepath.Join(dir, "server.toml")
	doctor := func(args ...string) result {
		t.Helper()
		return fenc(t.Context(), nil, append([]string{"doctor", "serve", "--config", settings}, args...)...)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h.daemon.stop(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer taken.Close()
	doctor("--listen", taken.Addr().String()).want(t, 1, "another program listens at "+taken.Addr().String(), "--listen")
	open := write(t, filepath.Join(t.TempDir(), "server.toml"), "listen = \":0\"\nprotocols = [3, 4]\n")
	fenc(t.Context(), nil, "doctor", "serve", "--config", open, "--storage", filepath.Join(filepath.Dir(open), "files"), "--database", filepath.Join(filepath.Dir(open), "fenc.db")).
		want(t, 0, "fenc serve makes it at its first start", "registration is open", "protocol 3 is served beyond this machine")

	files, database, key := filepath.Join(dir, "files"), filepath.Join(dir, "fenc.db"), filepath.Join(dir, "server.key")
	must(os.Chmod(files, 0o777))
	must(os.Chmod(database, 0o644))
	must(os.Chmod(key, 0o644))
	doctor().want(t, 1, "chmod go-w "+files, "chmod 600 "+database, "run: chmod 600 "+key, "doctor: 3 things are wrong")
	must(os.Chmod(files, 0o700))
	must(os.Chmod(database, 0o600))
	must(os.Chmod(key, 0o600))

	must(os.Rename(key, key+".lost"))
	doctor().want(t, 1, "the server's private key is not there, and clients know its fingerprint", "restore it from a backup")
	must(os.Rename(key+".lost", key))
	must(os.Rename(database, database+".lost"))
	doctor().want(t, 1, "there is no "+database+", and there is a storage", "fenc check --rebuild")
	write(t, database, strings.Repeat("no SQLite\n", 1000))
	doctor().want(t, 1, database, "not a database")
	must(os.Rename(database+".lost", database))
	must(os.Rename(files, files+".lost"))
	doctor().want(t, 1, "there is no "+files+", and there is a database", "is the disk mounted?")
	write(t, files, "")
	doctor().want(t, 1, files+" is no folder")
	must(os.Remove(files))
	must(os.Mkdir(files, 0o700))
	doctor().want(t, 1, files+" is empty, and there is a database", "is the disk mounted?", "is free for one")
	must(os.Remove(files))
	must(os.Rename(files+".lost", files))
	doctor("--database", filepath.Join(files, "fenc.db")).want(t, 1, "lies inside the storage")
	doctor().want(t, 0)

	// What a server refuses to start with was not looked at.
	more := func(setting string) result {
		t.Helper()
		write(t, settings+".more", strings.ReplaceAll(readFile(t, settings), "\nregistration", "\n"+setting+"\nregistration"))
		return fenc(t.Context(), nil, "doctor", "serve", "--config", settings+".more")
	}
	for setting, says := range map[string]string{
		`hook_command = ["/nonexistent/x"]`:                                   "hook_command: /nonexistent/x: stat /nonexistent/x: no such file or directory; name a program that may be run",
		`gate_command = ["/nonexistent/x"]`:                                   "gate_command: /nonexistent/x: stat /nonexistent/x: no such file or directory; name a program that may be run",
		`status_listen = "` + taken.Addr().String() + `"`:                     "choose another address with status_listen",
		`metrics_listen = "` + taken.Addr().String() + `"`:                    "choose another address with metrics_listen",
		"webhook_url = \"http://localhost/\"\nwebhook_secret_file = \"none\"": "webhook_secret_file: " + filepath.Join(dir, "none") + ": file does not exist",
	} {
		more(setting).want(t, 1, says, "doctor: 1 thing is wrong")
	}
	more(`hook_command = ["/bin/true"]`+"\nstatus_listen = \"127.0.0.1:0\"").want(t, 0, "what hooks and the gate take is there", "no server runs on this storage")
}

// As somebody who may not see whether a server runs, doctor said that none does.
func TestDoctorOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("takes two users")
	}
	d, dir := serve(t, t.TempDir()), t.TempDir()
	lend(t, dir)
	for path, mode := range map[string]os.FileMode{filepath.Dir(d.dir): 0o711, d.dir: 0o711, filepath.Join(d.dir, "server.toml"): 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	r := asNobody(t, dir, "doctor", "serve", "--config", filepath.Join(d.dir, "server.toml"))
	r.want(t, 1, "permission denied: fenc runs as user", "whether a server runs on this storage is not for this user to see", "run fenc doctor as the user that fenc serve runs as")
	if strings.Contains(r.out, "no server runs") {
		t.Errorf("got %s, want nothing of no server", r.out)
	}
}

// An identity of protocol 3 was called wrong, though protocol 3 is what was set.
func TestDoctorOfProtocol3(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir, settings := client(t, d.addr, "grace")
	file := write(t, filepath.Join(dir, "a"), "abc")
	doctor := func() result { return start(t, dir, nil, "doctor").result(t) }
	r := doctor()
	r.want(t, 0, "there is no me.toml yet", "the first fenc send makes it")
	wantDiagnoses(t, r, "settings ok, identity note, server note")
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0, "verified")
	r = doctor()
	r.want(t, 0, `me.toml, mode 0600: "grace", of protocol 3`)
	wantDiagnoses(t, r, "settings ok, identity ok, clock ok, server note")
	write(t, settings, strings.ReplaceAll(readFile(t, settings), "protocol = 3\n", ""))
	doctor().want(t, 1, "an identity of protocol 3, which protocol 4 cannot use")
	start(t, dir, []string{"FENC_PROTOCOL=3"}, "doctor").result(t).want(t, 0, `"grace", of protocol 3`)
}
