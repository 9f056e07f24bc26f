package main

import (
	"cmp"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/modes"
	"fenc/wire/v3"
)

func TestSendStatus(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())

	// known makes a client that the server knows, with a file to send.
	known := func(t *testing.T) (dir, settings, file string) {
		dir, settings = client(t, d.addr, strings.ReplaceAll(t.Name(), "/", "-"))
		file = write(t, filepath.Join(dir, "a.txt"), "abc")
		fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0)
		return dir, settings, file
	}

	t.Run("1: one of two files is missing, the other is sent", func(t *testing.T) {
		t.Parallel()
		dir, settings, file := known(t)
		missing := filepath.Join(dir, "missing")
		r := fenc(t.Context(), nil, "send", "--config", settings, missing, file)
		r.want(t, 1, missing+"  0 bytes", "not verified: no such file", "a.txt  3 bytes", "  verified\n", "fenc: send: 1 of 2 files not verified\n")
	})
	t.Run("1: no file can be read, nothing is registered", func(t *testing.T) {
		t.Parallel()
		dir, settings := client(t, d.addr, "nobody")
		fenc(t.Context(), nil, "send", "--config", settings, dir).want(t, 1, "is a directory", "1 of 1 files not verified")
		if _, err := os.Stat(filepath.Join(dir, "me.toml")); err == nil {
			t.Error("me.toml is there, want no registration")
		}
	})
	t.Run("1: over the limit, no connection is made", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		dir, settings := client(t, l.Addr().String(), "grace")
		big := write(t, filepath.Join(dir, "big"), "")
		if err := os.Truncate(big, v3.MaxFileSize+1); err != nil {
			t.Skip(err)
		}
		fenc(t.Context(), nil, "send", "--config", settings, big).want(t, 1, "big", "over protocol 3's limit of 4294967007 bytes")
		l.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
		if c, err := l.Accept(); err == nil {
			c.Close()
			t.Error("a connection was made, want none")
		}
	})
	t.Run("1: nothing listens, each file is reported", func(t *testing.T) {
		t.Parallel()
		dead := need.DeadAddress(t)
		dir, settings := client(t, dead, "grace")
		a, b := write(t, filepath.Join(dir, "a"), ""), write(t, filepath.Join(dir, "b"), "")
		r := fenc(t.Context(), nil, "send", "--config", settings, a, b)
		r.want(t, 1, "fenc: send: connect to "+dead+": refused", "is fenc serve running")
		if got := strings.Count(r.out, "not verified: connect to "+dead); got != 2 {
			t.Errorf("stdout: got %q, want a line for each of 2 files", r.out)
		}
		// The key that was prepared for the registration must not stay.
		if left, _ := filepath.Glob(filepath.Join(dir, "me.toml*")); len(left) > 0 {
			t.Errorf("left behind: %q, want nothing", left)
		}
	})
	t.Run("3: name taken", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		other := filepath.Join(t.TempDir(), "other.toml")
		// This once ended in a panic.
		r := fenc(t.Context(), nil, "send", "--config", settings, "--me", other, file)
		r.want(t, 3, "is in use at "+d.addr, "--name", "--me", "a.txt  3 bytes")
		if left, _ := filepath.Glob(other + "*"); len(left) > 0 {
			t.Errorf("left behind: %q, want nothing", left)
		}
	})
	t.Run("3: unknown identity", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		stranger := serve(t, t.TempDir())
		r := fenc(t.Context(), nil, "send", "--config", settings, "--server", stranger.addr, file)
		r.want(t, 3, "does not know the client", stranger.addr, "--me")
	})
	t.Run("2: --name is not the identity's", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		fenc(t.Context(), nil, "send", "--config", settings, "--name", "ada", file).want(t, 2, `"ada"`, "me.toml", "drop the name", "--me")
	})
	t.Run("2: me.toml is readable by others", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("no modes")
		}
		dir, settings, file := known(t)
		me := filepath.Join(dir, "me.toml")
		if err := os.Chmod(me, 0o644); err != nil {
			t.Fatal(err)
		}
		fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 2, "0644", "chmod 600 "+me)
	})
	t.Run("2: two files of one name", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		twin := write(t, filepath.Join(t.TempDir(), "a.txt"), "other")
		fenc(t.Context(), nil, "send", "--config", settings, file, twin).want(t, 2, file, twin, "--as")
	})
	t.Run("2: --as for two files", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		fenc(t.Context(), nil, "send", "--config", settings, "--as", "x", file, settings).want(t, 2, "--as \"x\" names one file, and there are 2")
	})
	t.Run("0: --as names the file", func(t *testing.T) {
		t.Parallel()
		_, settings, file := known(t)
		fenc(t.Context(), nil, "send", "--config", settings, "--as", "other.txt", file).want(t, 0, "other.txt  3 bytes", "verified")
	})
	t.Run("0: files of transfer.toml", func(t *testing.T) {
		t.Parallel()
		_, settings, _ := known(t)
		text, err := os.ReadFile(settings)
		if err != nil {
			t.Fatal(err)
		}
		write(t, settings, string(text)+"files = [\"a.txt\"]\n")
		fenc(t.Context(), nil, "send", "--config", settings).want(t, 0, "a.txt  3 bytes", "verified")
	})
}

func TestUsageMistakesSayTheRemedy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := write(t, filepath.Join(dir, "transfer.toml"), "name = \"grace\"\nattemps = 3\n")
	empty := write(t, filepath.Join(dir, "empty.toml"), "")
	a := write(t, filepath.Join(dir, "a"), "")
	servers := write(t, filepath.Join(dir, "server.toml"), "lisen = \":1\"\n")
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"unknown command":            {[]string{"snd"}, []string{`"snd"`, `did you mean "fenc send"?`, "fenc --help"}},
		"unknown command, far off":   {[]string{"xyzzy"}, []string{"fenc: no such command \"xyzzy\": fenc --help lists them\n"}},
		"unknown option":             {[]string{"send", "--foo", a}, []string{"--foo", "fenc send --help"}},
		"unknown option of none":     {[]string{"--foo"}, []string{"--foo", "fenc --help"}},
		"option without its value":   {[]string{"send", "--name"}, []string{"no value", "--name"}},
		"option with a slip":         {[]string{"send", a, "--exlude", "x"}, []string{"no such option --exlude: did you mean --exclude? fenc send --help"}},
		"option before the command":  {[]string{"--server", "x", "send", a}, []string{"no such option --server: it is one of fenc send, "}},
		"option without value, last": {[]string{"send", a, "--name"}, []string{"no value for the option --name"}},
		"command by another word":    {[]string{"upload", a}, []string{`no such command "upload": did you mean "fenc send"?`}},
		"command of a command":       {[]string{"clients", "rekye", "x"}, []string{`no such command "clients rekye": did you mean "fenc clients rekey"?`}},
		"slip and an option":         {[]string{"sned", "--exclude", "x"}, []string{`no such command "sned": did you mean "fenc send"?`}},
		"help of a slip":             {[]string{"help", "clients", "revok"}, []string{`did you mean "fenc clients revoke"?`}},
		"key of the server's":        {[]string{"serve", "--config", servers}, []string{servers + ":1", "did you mean `listen`?"}},
		"nothing to send":            {[]string{"send", "--config", empty}, []string{"nothing to send", "FILE", "transfer.toml"}},
		"unknown key":                {[]string{"send", "--config", bad, a}, []string{bad + ":2", "attemps", "did you mean `attempts`?"}},
		"missing settings":           {[]string{"send", "--config", bad + "x", a}, []string{bad + "x"}},
		"wrong address":              {[]string{"send", "--server", "nowhere", a}, []string{"--server", `"nowhere"`, "host:port"}},
		"wrong protocol":             {[]string{"send", "--protocol", "5", a}, []string{"--protocol", "5", "write 3"}},
		"serve with an argument":     {[]string{"serve", "files"}, []string{"serve takes no arguments", `"files"`}},
		"serve at no address":        {[]string{"serve", "--listen", "1234"}, []string{"--listen", `"1234"`, "host:port"}},
		"invite for no duration":     {[]string{"invite", "--expires", "1x"}, []string{`--expires "1x": not a duration; write one from 1m to 365d`}},
		"invite for too long":        {[]string{"invite", "--expires", "9000h"}, []string{`--expires "9000h": write a duration from 1m to 365d`}},
		"invite with no size":        {[]string{"invite", "--quota", "10XB"}, []string{`--quota "10XB": not a size; write a number of bytes such as 10GiB`}},
		"command with an argument":   {[]string{"invite", "list", "x"}, []string{`invite list takes no arguments, got "x": fenc invite list --help`}},
		"import without DIR":         {[]string{"import"}, []string{"import takes one DIR"}},
		"import of nothing":          {[]string{"import", dir}, []string{dir, "no transfer.info, me.info or port.info"}},
		"version with an argument":   {[]string{"version", "x"}, []string{"version takes no arguments"}},
		"name of a control char":     {[]string{"send", "--me", filepath.Join(dir, "no.toml"), "--name", "a\x1bb", a}, []string{"--name", "control character"}},
		"name too long to be sent":   {[]string{"send", "--protocol", "3", "--as", strings.Repeat("n", 256), a}, []string{"protocol 3 cannot carry this name", "--as"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fenc(t.Context(), strings.NewReader(""), test.args...)
			r.want(t, 2, test.want...)
			if r.out != "" || !strings.HasPrefix(r.errors, "fenc: ") || strings.Count(r.errors, "\n") != 1 {
				t.Errorf("got stdout %q, stderr %q, want one line on stderr", r.out, r.errors)
			}
		})
	}
}

func TestHelpAndVersionAsPeopleTryThem(t *testing.T) {
	t.Parallel()
	for call, text := range map[string]string{
		"--version":   "fenc " + modes.Version,
		"version":     "fenc " + modes.Version,
		"help":        "COMMANDS:",
		"-h":          "COMMANDS:",
		"help send":   "fenc send --server",
		"send --help": "fenc send --server",
		"serve -h":    "fenc serve --listen",
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			r := fenc(t.Context(), nil, strings.Fields(call)...)
			r.want(t, 0, text)
			if r.errors != "" {
				t.Errorf("stderr: got %q, want nothing", r.errors)
			}
		})
	}
	fenc(t.Context(), nil, "help", "sned").want(t, 2, `no such command "sned"`)
}

func TestHelpHasAnExample(t *testing.T) {
	t.Parallel()
	for command, example := range map[string]string{
		"": "fenc join INVITE", "serve": "fenc serve --listen :1234 --storage",
		"send": "fenc send --server files.example.org:1234 --name grace report.pdf", "import": "fenc import ~/old-client", "version": "   fenc version", "files": "   fenc files",
	} {
		args := []string{command, "--help"}
		if command == "" {
			args = args[1:]
		}
		r := fenc(t.Context(), nil, args...)
		r.want(t, 0, example)
		if r.errors != "" {
			t.Errorf("%s: stderr: got %q, want nothing", command, r.errors)
		}
	}
	fenc(t.Context(), nil).want(t, 0, "COMMANDS:")
	fenc(t.Context(), nil, "version").want(t, 0, "fenc 0.", runtime.GOOS, "protocols: 3, 4\n")
}

func TestServeRefusals(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "server.toml"), "")
	shared, plain := filepath.Join(dir, "shared"), write(t, filepath.Join(dir, "plain"), "")
	if err := errorsOf(os.Mkdir(shared, 0o700), os.Chmod(shared, 0o777)); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, test := range map[string]struct {
		listen, storage, database string
		status                    int
		want                      []string
	}{
		"database inside the storage":       {"", in("s1"), in("s1/fenc.db"), 2, []string{"fenc.db lies inside the storage", "keep it elsewhere"}},
		"database is the storage":           {"", in("s2"), in("s2"), 2, []string{"lies inside the storage"}},
		"configuration inside the storage":  {"", dir, filepath.Join(t.TempDir(), "8.db"), 2, []string{"configuration " + settings + " lies inside the storage"}},
		"port in use":                       {d.addr, in("s3"), in("3.db"), 1, []string{d.addr, "address already in use", "--listen"}},
		"storage of another server":         {"", filepath.Join(d.dir, "files"), in("4.db"), 1, []string{filepath.Join(d.dir, "files"), "in use by another fenc serve"}},
		"storage that others may write":     {"", shared, in("5.db"), 1, []string{"mode 0777", "chmod go-w " + shared}},
		"storage is a file":                 {"", plain, in("6.db"), 1, []string{plain, "not a directory"}},
		"database in a folder that is none": {"", in("s7"), in("none/fenc.db"), 1, []string{in("none/fenc.db"), "no such file"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("other words and no modes")
			}
			r := fenc(t.Context(), nil, "serve", "--config", settings, "--listen", cmp.Or(test.listen, "127.0.0.1:0"), "--storage", test.storage, "--database", test.database)
			r.want(t, test.status, test.want...)
		})
	}
	t.Run("key inside the storage", func(t *testing.T) {
		dir := t.TempDir()
		settings := write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nkey = \"files/server.key\"\n")
		fenc(t.Context(), nil, "serve", "--config", settings).want(t, 2, "server.key lies inside the storage", "keep it elsewhere")
	})
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
