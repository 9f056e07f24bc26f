//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// running starts a server of its own in dir with these settings, which stand in
// etc/server.toml.
func running(t *testing.T, dir, settings string) (server *child, file string) {
	t.Helper()
	file = filepath.Join(dir, "etc", "server.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, file, runningSettings+settings)
	return start(t, dir, nil, "serve", "--config", file), file
}

const runningSettings = "listen = \"127.0.0.1:0\"\nstorage = \"../files\"\ndatabase = \"../data/fenc.db\"\n"

func TestSessionsTellsWhoIsConnected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	server, file := running(t, dir, "")
	addr := server.address(t)
	ask := func(args ...string) result { return start(t, dir, nil, append(args, "--config", file)...).result(t) }
	ask("sessions").want(t, 0, "nobody is connected")
	ask("health").want(t, 0, "database: ok\nstorage: ok\naccepting: ok\n")
	if info, err := os.Stat(filepath.Join(dir, "data", "fenc.db.sock")); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket: got %v, %v, want mode 0600", info, err)
	}

	upload := beginFile(t, addr, "grace\u202e", "sub/big\u202e.bin")
	var r result
	eventually(t, "most of the file has been read", func() bool {
		r = ask("sessions")
		return regexp.MustCompile(`, (9\d|100) % of 32 MiB`).MatchString(r.out)
	})
	r.want(t, 0, "CLIENT", `grace\u202e`, upload.LocalAddr().String(), `  <- sub/big\u202e.bin, `)
	var open struct {
		Client    string    `json:"client"`
		Address   string    `json:"address"`
		Protocol  int       `json:"protocol"`
		Since     time.Time `json:"since"`
		Bytes     int64     `json:"bytes"`
		UnderWay  int       `json:"under_way"`
		Transfers []struct {
			Path  string `json:"path"`
			Bytes int64  `json:"bytes"`
			Done  int64  `json:"done"`
		} `json:"transfers"`
	}
	if err := json.Unmarshal([]byte(ask("sessions", "--json").out), &open); err != nil {
		t.Fatal(err)
	}
	if open.Client != "grace\u202e" || open.Address != upload.LocalAddr().String() || open.Protocol != 3 || time.Since(open.Since) > patience || open.UnderWay != 1 {
		t.Errorf("got %+v", open)
	}
	if f := open.Transfers[0]; f.Path != "sub/big\u202e.bin" || f.Bytes < 32<<20 || f.Bytes > 32<<20+16 || f.Done < 28<<20 || open.Bytes < 28<<20 {
		t.Errorf("got %+v", open)
	}
	upload.finish()
	eventually(t, "the session is over", func() bool { return strings.Contains(ask("sessions").errors, "nobody is connected") })

	if err := os.Rename(filepath.Join(dir, "files", ".fenc", "objects"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	ask("health").want(t, 1, "database: ok\nstorage: ", "the server is not ready")

	// One that is killed leaves its socket, which the next one replaces.
	server.signal(t, syscall.SIGKILL)
	server.result(t)
	for _, command := range []string{"sessions", "health", "reload"} {
		ask(command).want(t, 1, "fenc: "+command+": no server is running here: nothing answers at ", "fenc.db.sock; name another server with --database")
	}
	objects := filepath.Join(dir, "files", ".fenc", "objects")
	if err := errors.Join(os.RemoveAll(objects), os.Rename(filepath.Join(dir, "away"), objects)); err != nil { // which a probe may have made anew
		t.Fatal(err)
	}
	server = start(t, dir, nil, "serve", "--config", file)
	server.address(t)
	ask("health").want(t, 0)
	start(t, dir, nil, "serve", "--config", file).result(t).want(t, 1, "in use by another fenc serve") // and takes no socket
	ask("health").want(t, 0)
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	if _, err := os.Lstat(filepath.Join(dir, "data", "fenc.db.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket stays: %v", err)
	}
	ask("sessions", "extra").want(t, 2, "sessions takes no arguments")
}

// What is in the socket's place is left alone, and the server works without.
func TestServerWithoutASocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fenc.db.sock"), "precious")
	server := start(t, dir, nil, "serve", "--listen", "127.0.0.1:0")
	server.address(t)
	server.log.await(t, `fenc sessions, reload and health do not reach this server.*fenc.db.sock is in the way, and no socket`, server.ended)
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	if got := readFile(t, filepath.Join(dir, "fenc.db.sock")); got != "precious" {
		t.Errorf("the file holds %q", got)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	server, file := running(t, dir, "")
	addr := server.address(t)
	write(t, filepath.Join(home, "a.txt"), strings.Repeat("x", 100))
	send := func(name string) result {
		return start(t, home, nil, "send", "--server", addr, "--protocol", "3", "--name", name, "--me", name+".toml", "a.txt").result(t)
	}
	reload := func() result { return start(t, dir, nil, "reload", "--config", file).result(t) }
	change := func(settings string) { // as editors do it: another file, put in its place
		t.Helper()
		write(t, file+".new", runningSettings+settings)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	send("grace").want(t, 0, "verified")
	reload().want(t, 0, "nothing changed")

	change("registration = \"closed\"\nlog_format = \"json\"\n")
	server.signal(t, syscall.SIGHUP)
	server.log.await(t, `"msg":"settings read again","changed":\["registration","log_format"\]`, server.ended)
	send("ada").want(t, 3, "refused")
	send("grace").want(t, 0, "verified") // who is known stays known

	change("registration = \"open\"\nmax_file_size = 2\nlog_level = \"warn\"\nmetrics_listen = \":0\"\nkey = \"elsewhere.key\"\n")
	r := reload()
	r.want(t, 0, "changed: registration, max_file_size, log_level, log_format\n", "fenc: these hold after a restart: key, metrics_listen\n")
	send("ada").want(t, 1)
	server.log.await(t, `level=WARN msg=file .*max_file_size is 2`, server.ended)
	reload().want(t, 0, "nothing changed", "these hold after a restart: key, metrics_listen\n") // it still says so

	for _, wrong := range []struct{ settings, message string }{
		{"max_file_siz = 1\n", "did you mean `max_file_size`?"},
		{"idle_timeout = \"1ms\"\n", "under 1s"},
		{"idle_timeout = \n", "server.toml:4"},
	} {
		change(wrong.settings)
		server.signal(t, syscall.SIGHUP)
		server.log.await(t, `settings not read again: the old ones stay.*`+regexp.QuoteMeta(wrong.message), server.ended)
		reload().want(t, 2, wrong.message)
	}
	// The command's file is well, and the server's is not.
	write(t, filepath.Join(dir, "other.toml"), "database = \"data/fenc.db\"\n")
	start(t, dir, nil, "reload", "--config", "other.toml").result(t).want(t, 2, "fenc: reload: ", "server.toml:4", "the old settings stay")
	send("ada").want(t, 1)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	server.signal(t, syscall.SIGHUP)
	server.log.await(t, `settings not read again: the old ones stay.*does not exist`, server.ended)
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	if said := server.log.String(); strings.Contains(said, "permission denied") {
		t.Errorf("the log: got\n%s\nwant nothing denied", said)
	}
}

// A server.toml that was found, not named, and was gone or empty when it was read again,
// had the server go by the defaults: registration was open, and bounds were off.
func TestReloadKeepsTheSettingsOfALostFile(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	file := write(t, filepath.Join(dir, "server.toml"), "registration = \"invite\"\nmax_client_size = \"1MiB\"\n")
	env := []string{"XDG_CONFIG_HOME=" + home}
	server := start(t, dir, env, "serve", "--listen", "127.0.0.1:0")
	server.address(t)
	if err := os.Mkdir(filepath.Join(home, "fenc"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(home, "fenc", "server.toml")
	for _, lost := range []struct {
		how, message string
		lose         func()
	}{
		{"gone", "server.toml: the settings were read there, and it is gone: put it back, or restart", func() { remove(t, file) }},
		{"empty", "server.toml: no setting stands in it any more", func() { write(t, file, "") }},
		{"comments alone", "server.toml: no setting stands in it any more", func() { write(t, file, "\n# registration = \"invite\"\n") }},
		{"another is found", "the settings were read in server.toml before", func() {
			remove(t, file)
			write(t, other, "registration = \"open\"\n")
		}},
	} {
		lost.lose()
		server.signal(t, syscall.SIGHUP)
		server.log.await(t, `level=ERROR msg="settings not read again: the old ones stay".*`+regexp.QuoteMeta(lost.message), server.ended)
		r := start(t, dir, env, "reload", "--database", "fenc.db").result(t)
		r.want(t, 2, "fenc: reload: ", lost.message, "the old settings stay")
	}
	remove(t, other)
	write(t, file, "registration = \"invite\"\n") // the bound is taken away on purpose
	start(t, dir, env, "reload").result(t).want(t, 0, "changed: max_client_size\n")
}
