package config

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"fenc/wire/fuzztest"
)

// write puts text into a new file of dir and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// env is an environment of these variables.
func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

// wantError checks err's text, in which DIR stands for dir.
func wantError(t *testing.T, err error, dir, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if got := strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(dir), "DIR"); got != want {
		t.Errorf("error\n got %s\nwant %s", got, want)
	}
}

func TestNoFileIsDefaults(t *testing.T) {
	t.Parallel()
	l := Lookup{WorkDir: ".", ConfigDir: t.TempDir()}
	s, src, err := l.LoadServer("")
	if err == nil {
		err = s.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultServer()
	want.origins = s.origins
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if src.Path != "" || src.Dir() != "." {
		t.Errorf("source %q in %q, want none in the working directory", src.Path, src.Dir())
	}
	tr, _, err := l.LoadTransfer("")
	if err == nil {
		err = tr.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	if tr.Server != "127.0.0.1:1234" || tr.Protocol != 4 || tr.Attempts != 3 || tr.Timeout != Duration(2*time.Minute) {
		t.Errorf("got %+v, want the defaults", tr)
	}
}

// serverKeys lists the keys of server.toml as an error does.
func serverKeys() string {
	var names []string
	for _, k := range keysOf(&Server{}) {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

func TestServerFileErrors(t *testing.T) {
	t.Parallel()
	const addr = `; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`
	const reached = `; write the host:port that clients reach, such as "files.example.org:1234", or leave the key out`
	const keep = `; write a duration from 1h to 365d, such as "7d"`
	const idle = `; write a duration from 1s to 24h, such as "60s"`
	const size = `; write a size such as "4GiB", or 0 for the protocol's own limit`
	tests := []struct{ name, text, want string }{
		{"unknown key", "\nlisen = \"x\"\n", "2: lisen = \"x\": unknown key; did you mean `listen`?"},
		{"unknown key in capitals", "Listen = \"x\"", "1: Listen = \"x\": unknown key; did you mean `listen`?"},
		{"unknown key with dashes", "idle-timeout = \"1s\"", "1: idle-timeout = \"1s\": unknown key; did you mean `idle_timeout`?"},
		{"first of two unknown keys", "log_level = \"info\"\nstorag = 1\nlisten2 = 2", "2: storag = 1: unknown key; did you mean `storage`?"},
		{"unknown key like none", "password = true", "1: password = true: unknown key; the keys are " + serverKeys()},
		{"unknown odd key", "\"a\\nb c\" = 1", `1: "a\nb c" = 1: unknown key; the keys are ` + serverKeys()},
		{"table", "\n\n[serve]\nlisten = \":1\"", "3: [serve]: unknown table; keys stand outside tables, as in listen = …"},
		{"dotted key", "\n\nserve.a.listen = \":1\"", "3: [serve]: unknown table; keys stand outside tables, as in listen = …"},
		{"list of tables", "\n[[serve]]\nlisten = 1", "2: [serve]: unknown table; keys stand outside tables, as in listen = …"},
		{"known key as a table", "\n[listen]\nx = 1", "2: listen = {…}: a table where text in quotes belongs" + addr},
		{"number for text", "listen = 5", "1: listen = 5: a number where text in quotes belongs" + addr},
		{"text for number", "max_sessions = \"5\"", "1: max_sessions = \"5\": text where a whole number belongs; write a whole number from 1 to 1000000"},
		{"fraction for number", "max_sessions = 1.5", "1: max_sessions = 1.5: a fraction where a whole number belongs; write a whole number from 1 to 1000000"},
		{"number too large for any", "max_sessions = 4294967297", "1: max_sessions = 4294967297: out of range; write a whole number from 1 to 1000000"},
		{"date for size", "max_file_size = 2026-01-02", "1: max_file_size = 2026-01-02T00:00:00Z: a date where a size belongs" + size},
		{"number for list", "\nprotocols = 3", "2: protocols = 3: a number where a list of whole numbers belongs; write [4], [3] or [3, 4], or leave the key out"},
		{"text in list", "protocols = [3, \"4\"]", "1: protocols = [3, \"4\"]: entry 2: text where a whole number belongs; write [4], [3] or [3, 4], or leave the key out"},
		{"list in list", "protocols = [3, [4]]", "1: protocols = [3, […]]: entry 2: a list where a whole number belongs; write [4], [3] or [3, 4], or leave the key out"},
		{"duration without unit", "idle_timeout = 30", "1: idle_timeout = 30: unit missing, as in \"30s\"" + idle},
		{"duration text without unit", "idle_timeout = \"30\"", "1: idle_timeout = \"30\": unit missing, as in \"30s\"" + idle},
		{"no duration", "idle_timeout = \"soon\"", "1: idle_timeout = \"soon\": not a duration" + idle},
		{"boolean duration", "idle_timeout = true", "1: idle_timeout = true: true or false where a duration in quotes belongs" + idle},
		{"duration too short", "\n\nidle_timeout = \"30ns\"", "3: idle_timeout = \"30ns\": under 1s" + idle},
		{"duration too long", "idle_timeout = \"25h\"", "1: idle_timeout = \"25h\": over 24h" + idle},
		{"grace negative", "shutdown_grace = \"-1s\"", "1: shutdown_grace = \"-1s\": under 0s; write a duration from 0s to 1h, such as \"30s\""},
		{"no size", "max_file_size = \"4 Gigs\"", "1: max_file_size = \"4 Gigs\": not a size" + size},
		{"size with comma", "max_file_size = \"1,5GiB\"", "1: max_file_size = \"1,5GiB\": not a size" + size},
		{"size over int64", "max_file_size = \"9EiB\"", "1: max_file_size = \"9EiB\": over 9223372036854775807 bytes" + size},
		{"size negative", "max_file_size = -5", "1: max_file_size = -5: under 0" + size},
		{"size fraction", "max_file_size = 1.5", "1: max_file_size = 1.5: a fraction where a size belongs" + size},
		{"sessions none", "max_sessions = 0", "1: max_sessions = 0: under 1; write a whole number from 1 to 1000000"},
		{"sessions too many", "max_sessions = 1000001", "1: max_sessions = 1000001: over 1000000; write a whole number from 1 to 1000000"},
		{"protocol unknown", "protocols = [3, 5]", "1: protocols = [3, 5]: protocol 5 is not known; write [4], [3] or [3, 4], or leave the key out"},
		{"protocol twice", "protocols = [3, 3]", "1: protocols = [3, 3]: 3 stands there twice; write [4], [3] or [3, 4], or leave the key out"},
		{"protocols empty", "protocols = []", "1: protocols = []: empty; write [4], [3] or [3, 4], or leave the key out"},
		{"require_pq a text", "require_pq = \"false\"", "1: require_pq = \"false\": text where true or false belongs; write true or false"},
		{"require_pq a number", "require_pq = 0", "1: require_pq = 0: a number where true or false belongs; write true or false"},
		{"key with NUL", "key = \"a\\u0000b\"", "1: key = \"a\\x00b\": holds a NUL; write a path, such as \"server.key\""},
		{"advertised port free", "advertise = \"h:0\"", "1: advertise = \"h:0\": port \"0\" is not a number from 1 to 65535" + reached},
		{"advertised host empty", "advertise = \":1\"", "1: advertise = \":1\": no host" + reached},
		{"handshakes none", "max_handshakes_per_address = 0", "1: max_handshakes_per_address = 0: under 1; write a whole number from 1 to 1000000"},
		{"unadmitted none", "max_unadmitted = 0", "1: max_unadmitted = 0: under 1; write a whole number from 1 to 1000000"},
		{"sessions per address none", "max_sessions_per_address = 0", "1: max_sessions_per_address = 0: under 1; write a whole number from 1 to 1000000"},
		{"sessions per address too many", "max_sessions_per_address = 1000001", "1: max_sessions_per_address = 1000001: over 1000000; write a whole number from 1 to 1000000"},
		{"open uploads none", "max_open_uploads = 0", "1: max_open_uploads = 0: under 1; write a whole number from 1 to 10000"},
		{"open uploads too many", "max_open_uploads = 10001", "1: max_open_uploads = 10001: over 10000; write a whole number from 1 to 10000"},
		{"client size negative", "max_client_size = -1", "1: max_client_size = -1: under 0; write a size such as \"100GiB\", or 0 for no bound"},
		{"client files negative", "max_client_files = -1", "1: max_client_files = -1: under 0; write a whole number up to 2147483647, or 0 for no bound"},
		{"client files too many", "max_client_files = 2147483648", "1: max_client_files = 2147483648: out of range; write a whole number up to 2147483647, or 0 for no bound"},
		{"partial files gone at once", "keep_partial = \"59m\"", "1: keep_partial = \"59m\": under 1h" + keep},
		{"partial files for ever", "keep_partial = \"8761h\"", "1: keep_partial = \"8761h\": over 365d" + keep},
		{"registration unknown", "registration = \"maybe\"", "1: registration = \"maybe\": not known; write \"open\", \"invite\" or \"closed\""},
		{"log level unknown", "log_level = \"loud\"", "1: log_level = \"loud\": not known; write \"debug\", \"info\", \"warn\" or \"error\""},
		{"log format empty", "log_format = \"\"", "1: log_format = \"\": empty; write \"text\" or \"json\""},
		{"storage empty", "storage = \"\"", "1: storage = \"\": empty; write a directory, such as \"files\", or a bucket, such as \"s3://bucket/prefix\""},
		{"database with NUL", "database = \"a\\u0000b\"", "1: database = \"a\\x00b\": holds a NUL; write a path, such as \"fenc.db\", or an address such as \"postgres://fenc@db.example.org/fenc\""},
		{"database with a password", "database = \"postgres://fenc:se/cret@db/fenc\"", "1: database = \"postgres://…\": no address, or one in which a special character of name or password stands as itself and not as %-escape; write a path, such as \"fenc.db\", or an address such as \"postgres://fenc@db.example.org/fenc\""},
		{"database of no name", "database = \"postgresql://fenc:secret@db\"", "1: database = \"postgresql://…\": no name of a database behind the host; write a path, such as \"fenc.db\", or an address such as \"postgres://fenc@db.example.org/fenc\""},
		{"database of another kind", "database = \"mysql://fenc@db/fenc\"", "1: database = \"mysql://fenc@db/fenc\": mysql:// is not known; write a path, such as \"fenc.db\", or an address such as \"postgres://fenc@db.example.org/fenc\""},
		{"listen without port", "listen = \"localhost\"", "1: listen = \"localhost\": missing port in address" + addr},
		{"set twice", "listen = \":1\"\n\nlisten = \":2\"", "3: listen = \":2\": set twice; keep one of the two"},
		{"text without quotes", "\nlisten = localhost:1\n", "2: listen = localhost:1: not TOML (expected value but found \"localhost\" instead); put text, sizes and durations in quotes, one setting a line"},
		{"size without quotes", "max_file_size = 4GiB", "1: max_file_size = 4GiB: not TOML (expected a top-level item to end with a newline, comment, or EOF, but got 'G' instead); put text, sizes and durations in quotes, one setting a line"},
		{"backslash", "storage = \"C:\\data\"", `1: storage = "C:\data": not TOML (invalid escape in string '\d'); write \\ for \, or single quotes around the text`},
		{"quotes open", "listen = \":1\n", "1: listen = \":1: not TOML (strings cannot contain newlines); close the quotes"},
		{"no setting", "\n\n}{", "3: }{: not TOML (expected '.' or '=', but got '}' instead); write one setting a line, as in key = \"text\" or key = 3"},
		{"not UTF-8", "\nstorage = \"\xff\"", "2: byte 0xff is not UTF-8; save the file as UTF-8"},
		{"UTF-16", "\xff\xfel\x00", "1: byte 0xff is not UTF-8; save the file as UTF-8"},
		{"after a byte order mark", "\xef\xbb\xbf\nmax_sessions = 0", "2: max_sessions = 0: under 1; write a whole number from 1 to 1000000"},
		{"with CRLF", "listen = \":1\"\r\n\r\nmax_sessions = 0\r\n", "3: max_sessions = 0: under 1; write a whole number from 1 to 1000000"},
		// The library counts one line too few here.
		{"quotes open at CRLF", "\r\nlisten = \":1\r\nmax_sessions = 1\r\n", "2: listen = \":1: not TOML (strings cannot contain newlines); close the quotes"},
		{"after lines of text", "storage = \"\"\"\na\nb\"\"\"\nmax_sessions = 0", "4: max_sessions = 0: under 1; write a whole number from 1 to 1000000"},
		{"text over lines", "\nregistration = \"\"\"\na\nb\"\"\"", "2: registration = \"a\\nb\": not known; write \"open\", \"invite\" or \"closed\""},
		{"long value", "registration = \"" + strings.Repeat("é", 99) + "\"", "1: registration = \"" + strings.Repeat("é", 40) + "…\": not known; write \"open\", \"invite\" or \"closed\""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := write(t, dir, "server.toml", tc.text)
			s, _, err := Lookup{WorkDir: dir}.LoadServer(path)
			if err == nil {
				err = s.Validate()
			}
			wantError(t, err, dir, "DIR/server.toml:"+tc.want)
		})
	}
}

func TestTransferFileErrors(t *testing.T) {
	t.Parallel()
	const fingerprint = "; write the fingerprint that the server shows, \"SHA256:\" and 43 characters, or a list of them"
	const name = "; write 1 to 127 bytes of text without control characters"
	tests := []struct{ name, text, want string }{
		{"server without host", "server = \":1234\"", "1: server = \":1234\": no host; write host:port, such as \"127.0.0.1:1234\" or \"[::1]:1234\""},
		{"name too long", "name = \"" + strings.Repeat("x", 128) + "\"", "1: name = \"" + strings.Repeat("x", 80) + "…\": 128 bytes, over 127" + name},
		{"name with newline", "name = \"a\\nb\"", "1: name = \"a\\nb\": holds a control character" + name},
		{"files a text", "\nfiles = \"a\"", "2: files = \"a\": text where a list of texts belongs; write a list of paths, such as [\"report.pdf\"]"},
		{"file without name", "files = [\n\"a\",\n\"\"]", "1: files = [\"a\", \"\"]: path 2: empty; write a list of paths, such as [\"report.pdf\"]"},
		{"protocol unknown", "protocol = 5", "1: protocol = 5: protocol 5 is not known; write 3 or 4"},
		{"server key empty", "server_key = \"\"", "1: server_key = \"\": fingerprint 1: empty" + fingerprint},
		{"server key of another kind", "server_key = \"MD5:00\"", "1: server_key = \"MD5:00\": fingerprint 1: no SHA256: in front" + fingerprint},
		{"server key short", "server_key = \"SHA256:AA\"", "1: server_key = \"SHA256:AA\": fingerprint 1: 2 characters after SHA256: in place of 43" + fingerprint},
		{"server key padded", "server_key = \"" + pinA + "=\"", "1: server_key = \"" + pinA + "=\": fingerprint 1: 44 characters after SHA256: in place of 43" + fingerprint},
		{"server key with bits to spare", "server_key = \"" + pinA[:49] + "B\"", "1: server_key = \"" + pinA[:49] + "B\": fingerprint 1: not base64" + fingerprint},
		{"server key over lines", "server_key = \"" + pinA[:48] + "\\nA\"", "1: server_key = \"" + pinA[:48] + "\\nA\": fingerprint 1: not base64" + fingerprint},
		{"second server key", "server_key = [\n\"" + pinA + "\",\n\"x\"]", "1: server_key = [\"" + pinA + "\", \"x\"]: fingerprint 2: no SHA256: in front" + fingerprint},
		{"server key a number", "server_key = 5", "1: server_key = 5: a number where a list of texts belongs" + fingerprint},
		{"streams none", "streams = 0", "1: streams = 0: under 1; write a whole number from 1 to 16"},
		{"streams too many", "streams = 17", "1: streams = 17: over 16; write a whole number from 1 to 16"},
		{"retry negative", "retry_for = \"-1s\"", "1: retry_for = \"-1s\": under 0s; write a duration from 0s to 7d, such as \"10m\"; 0s never tries again"},
		{"retry too long", "retry_for = \"169h\"", "1: retry_for = \"169h\": over 7d; write a duration from 0s to 7d, such as \"10m\"; 0s never tries again"},
		{"exclude a text", "exclude = \"*.tmp\"", "1: exclude = \"*.tmp\": text where a list of texts belongs; write a list of patterns, such as [\"*.tmp\"]"},
		{"exclude nothing", "exclude = [\"a\", \"\"]", "1: exclude = [\"a\", \"\"]: pattern 2: empty; write a list of patterns, such as [\"*.tmp\"]"},
		{"exclude two lines", "exclude = [\"a\\nb\"]", "1: exclude = [\"a\\nb\"]: pattern 1: holds a line break; write a list of patterns, such as [\"*.tmp\"]"},
		{"exclude_from without name", "exclude_from = [\"\"]", "1: exclude_from = [\"\"]: path 1: empty; write a list of paths, such as [\".gitignore\"]"},
		{"follow_links a text", "follow_links = \"yes\"", "1: follow_links = \"yes\": text where true or false belongs; write true or false"},
		{"attempts negative", "attempts = -1", "1: attempts = -1: under 0; write a whole number from 0 to 100"},
		{"attempts too many", "attempts = 101", "1: attempts = 101: over 100; write a whole number from 0 to 100"},
		{"timeout too short", "timeout = \"999ms\"", "1: timeout = \"999ms\": under 1s; write a duration from 1s to 24h, such as \"2m\""},
		{"connect timeout too short", "connect_timeout = \"1ms\"", "1: connect_timeout = \"1ms\": under 100ms; write a duration from 100ms to 1h, such as \"10s\""},
		{"me with NUL", "me = \"\\u0000\"", "1: me = \"\\x00\": holds a NUL; write a path, such as \"me.toml\", or leave the key out"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := write(t, dir, "transfer.toml", tc.text)
			c, _, err := Lookup{}.LoadTransfer(path)
			if err == nil {
				err = c.Validate()
			}
			wantError(t, err, dir, "DIR/transfer.toml:"+tc.want)
		})
	}
}

func TestUnreadableFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := Lookup{WorkDir: dir}
	_, _, err := l.LoadServer(filepath.Join(dir, "none.toml"))
	wantError(t, err, dir, "DIR/none.toml: file does not exist; check the path")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
	_, _, err = l.LoadServer(dir)
	wantError(t, err, dir, "DIR: a directory; name a file")
	large := write(t, dir, "large.toml", strings.Repeat("#", maxFile+1))
	_, _, err = l.LoadServer(large)
	wantError(t, err, dir, "DIR/large.toml: over 1MiB; this is no settings file")
	largest := write(t, dir, "largest.toml", strings.Repeat("#", maxFile))
	if _, _, err = l.LoadServer(largest); err != nil {
		t.Error(err)
	}
	if os.Geteuid() <= 0 {
		return // root reads everything, and Windows has no modes
	}
	closed := write(t, dir, "closed.toml", "")
	if err := os.Chmod(closed, 0); err != nil {
		t.Fatal(err)
	}
	_, _, err = l.LoadServer(closed)
	wantError(t, err, dir, "DIR/closed.toml: permission denied; make it readable for the user who runs fenc")
}

func TestEnvironmentErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ variable, value, want string }{
		{"FENC_LISTEN", "x", `FENC_LISTEN="x": missing port in address; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`},
		{"FENC_IDLE_TIMEOUT", "30", `FENC_IDLE_TIMEOUT="30": unit missing, as in "30s"; write a duration from 1s to 24h, such as "60s"`},
		{"FENC_IDLE_TIMEOUT", "30ns", `FENC_IDLE_TIMEOUT="30ns": under 1s; write a duration from 1s to 24h, such as "60s"`},
		{"FENC_MAX_SESSIONS", "many", `FENC_MAX_SESSIONS="many": not a whole number; write a whole number from 1 to 1000000`},
		{"FENC_MAX_SESSIONS", "99999999999999999999", `FENC_MAX_SESSIONS="99999999999999999999": out of range; write a whole number from 1 to 1000000`},
		{"FENC_MAX_FILE_SIZE", "-1", `FENC_MAX_FILE_SIZE="-1": not a size; write a size such as "4GiB", or 0 for the protocol's own limit`},
		{"FENC_PROTOCOLS", "3,x", `FENC_PROTOCOLS="3,x": entry 2: not a whole number; write [4], [3] or [3, 4], or leave the key out`},
		{"FENC_REQUIRE_PQ", "1", `FENC_REQUIRE_PQ="1": neither true nor false; write true or false`},
		{"FENC_STORAGE", "\xff", `FENC_STORAGE="\xff": not UTF-8; write a directory, such as "files", or a bucket, such as "s3://bucket/prefix"`},
	}
	for _, tc := range tests {
		t.Run(tc.variable+" "+tc.value, func(t *testing.T) {
			t.Parallel()
			l := Lookup{WorkDir: t.TempDir(), Getenv: env(map[string]string{tc.variable: tc.value})}
			s, _, err := l.LoadServer("")
			if err == nil {
				err = s.Validate()
			}
			wantError(t, err, l.WorkDir, tc.want)
		})
	}
}

func TestFlagErrors(t *testing.T) {
	t.Parallel()
	tests := []struct{ key, value, want string }{
		{"listen", "x", `--listen "x": missing port in address; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`},
		{"idle_timeout", "30", `--idle-timeout "30": unit missing, as in "30s"; write a duration from 1s to 24h, such as "60s"`},
		{"storage", "", `--storage "": empty; write a directory, such as "files", or a bucket, such as "s3://bucket/prefix"`},
		{"colour", "red", `--colour "red": unknown key`},
	}
	for _, tc := range tests {
		t.Run(tc.key, func(t *testing.T) {
			t.Parallel()
			s := DefaultServer()
			err := s.Override(tc.key, tc.value)
			if err == nil {
				err = s.Validate()
			}
			wantError(t, err, "DIR", tc.want)
		})
	}
	s := DefaultServer()
	wantError(t, s.Override("listen"), "DIR", `--listen: not one value; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`)
}

func TestValidateSetInCode(t *testing.T) {
	t.Parallel()
	s := DefaultServer()
	s.IdleTimeout = 30
	wantError(t, s.Validate(), "DIR", `idle_timeout = "30ns": under 1s; write a duration from 1s to 24h, such as "60s"`)
	c := DefaultTransfer()
	c.Files = []string{""}
	wantError(t, c.Validate(), "DIR", `files = [""]: path 1: empty; write a list of paths, such as ["report.pdf"]`)
	s = DefaultServer()
	s.Protocols = []int{9}
	wantError(t, s.Validate(), "DIR", `protocols = [9]: protocol 9 is not known; write [4], [3] or [3, 4], or leave the key out`)
}

func TestFlagOverEnvironmentOverFileOverDefault(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "server.toml", "listen = \":1\"\nmax_sessions = 1\nlog_level = \"warn\"\nmax_file_size = \"4GiB\"")
	vars := map[string]string{"FENC_LISTEN": ":2", "FENC_MAX_SESSIONS": "2", "FENC_LOG_LEVEL": "", "FENC_IDLE_TIMEOUT": "1m30s", "FENC_PROTOCOLS": "3"}
	s, src, err := Lookup{WorkDir: dir, Getenv: env(vars)}.LoadServer("")
	if err != nil {
		t.Fatal(err)
	}
	loaded := s
	if err := s.Override("listen", ":3"); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.Listen != ":3" || s.MaxSessions != 2 || s.LogLevel != "warn" || s.LogFormat != "text" ||
		s.MaxFileSize != 4<<30 || s.IdleTimeout != Duration(90*time.Second) || !reflect.DeepEqual(s.Protocols, []int{3}) {
		t.Errorf("got %+v, want flag over environment over file over default", s)
	}
	if src.Path != filepath.Join(dir, "server.toml") || src.Dir() != dir {
		t.Errorf("source %q in %q, want server.toml in %q", src.Path, src.Dir(), dir)
	}
	loaded.Listen = "x"
	wantError(t, loaded.Validate(), dir, `FENC_LISTEN=":2": missing port in address; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`)
}

// A flag mends what the file has wrong, as long as it can be read at all.
func TestFlagMendsValueOutOfRange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "server.toml", "listen = \"x\"")
	s, _, err := Lookup{WorkDir: dir}.LoadServer("")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Override("listen", "localhost:1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

func TestEveryKeyHasAVariableAndARemedy(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	l := Lookup{WorkDir: t.TempDir(), Getenv: func(name string) string { asked[name] = true; return "" }}
	if _, _, err := l.LoadServer(""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.LoadTransfer(""); err != nil {
		t.Fatal(err)
	}
	for _, k := range append(keysOf(&Server{}), keysOf(&Transfer{})...) {
		if v := "FENC_" + strings.ToUpper(k.name); !asked[v] {
			t.Errorf("%s was not asked for", v)
		}
		if remedies[k.name] == "" {
			t.Errorf("%s has no remedy", k.name)
		}
	}
}

func TestWorkingDirectoryBeforeConfigurationDirectory(t *testing.T) {
	t.Parallel()
	l := Lookup{WorkDir: t.TempDir(), ConfigDir: t.TempDir()}
	write(t, l.ConfigDir, "server.toml", "max_sessions = 2")
	s, src, err := l.LoadServer("")
	if err != nil || s.MaxSessions != 2 || src.Dir() != l.ConfigDir {
		t.Errorf("got %d from %q, %v; want 2 from the configuration directory", s.MaxSessions, src.Path, err)
	}
	write(t, l.WorkDir, "server.toml", "max_sessions = 1")
	s, src, err = l.LoadServer("")
	if err != nil || s.MaxSessions != 1 || src.Dir() != l.WorkDir {
		t.Errorf("got %d from %q, %v; want 1 from the working directory", s.MaxSessions, src.Path, err)
	}
	named := write(t, t.TempDir(), "other.toml", "max_sessions = 3")
	s, src, err = l.LoadServer(named)
	if err != nil || s.MaxSessions != 3 || src.Path != named {
		t.Errorf("got %d from %q, %v; want 3 from the named file", s.MaxSessions, src.Path, err)
	}
}

func TestRelativePaths(t *testing.T) {
	t.Parallel()
	work, conf := t.TempDir(), t.TempDir()
	abs := filepath.Join(work, "abs")
	l := Lookup{WorkDir: work, ConfigDir: conf}

	s, _, err := l.LoadServer("")
	if s.KeyPath() != filepath.Join(work, "server.key") {
		t.Errorf("defaults: got key %q, want it in the working directory", s.KeyPath())
	}
	if err != nil || s.Storage != filepath.Join(work, "files") || s.Database != filepath.Join(work, "fenc.db") {
		t.Errorf("defaults: got %q and %q, %v; want them in the working directory", s.Storage, s.Database, err)
	}
	write(t, conf, "server.toml", "storage = \"a/b\"\ndatabase = \"x.db\"")
	s, _, err = l.LoadServer("")
	if err != nil || s.Storage != filepath.Join(conf, "a", "b") || s.Database != filepath.Join(conf, "x.db") {
		t.Errorf("file: got %q and %q, %v; want them beside it", s.Storage, s.Database, err)
	}
	l.Getenv = env(map[string]string{"FENC_STORAGE": "c", "FENC_FILES": "f, -, " + abs, "FENC_ME": "m"})
	s, _, err = l.LoadServer("")
	if err != nil || s.Storage != filepath.Join(work, "c") {
		t.Errorf("environment: got %q, %v; want it in the working directory", s.Storage, err)
	}
	if err := s.Override("storage", "d"); err != nil || s.Storage != filepath.Join(work, "d") {
		t.Errorf("flag: got %q, %v; want it in the working directory", s.Storage, err)
	}
	for _, dsn := range []string{"file:x.db?mode=ro", ":memory:", "postgres://host/db", abs} {
		if err := s.Override("database", dsn); err != nil || s.Database != dsn {
			t.Errorf("database: got %q, %v; want %q untouched", s.Database, err, dsn)
		}
	}
	c, _, err := l.LoadTransfer("")
	if want := []string{filepath.Join(work, "f"), "-", abs}; err != nil || !reflect.DeepEqual(c.Files, want) {
		t.Errorf("environment: got %q, %v; want %q", c.Files, err, want)
	}
	if c.Me != filepath.Join(work, "m") {
		t.Errorf("environment: got me %q, want it in the working directory", c.Me)
	}
	l.Getenv = nil
	write(t, conf, "transfer.toml", "files = [\"f\", \"-\"]\nme = \"id/me.toml\"\nexclude = [\"/a\"]\nexclude_from = [\"-\"]")
	c, _, err = l.LoadTransfer("")
	if want := []string{filepath.Join(conf, "f"), "-"}; err != nil || !reflect.DeepEqual(c.Files, want) || c.Me != filepath.Join(conf, "id", "me.toml") {
		t.Errorf("file: got %q and %q, %v; want them beside it", c.Files, c.Me, err)
	}
	if !reflect.DeepEqual(c.Exclude, []string{"/a"}) || !reflect.DeepEqual(c.ExcludeFrom, []string{filepath.Join(conf, "-")}) {
		t.Errorf("file: got %q and %q, want the pattern as it is and the path beside the file", c.Exclude, c.ExcludeFrom)
	}
	if err := c.Override("files", "p,q", "-"); err != nil || !reflect.DeepEqual(c.Files, []string{filepath.Join(work, "p,q"), "-"}) {
		t.Errorf("arguments: got %q, %v", c.Files, err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		addr             string
		listen, transfer string // what is wrong, "" for nothing
	}{
		{"127.0.0.1:1234", "", ""},
		{"localhost:65535", "", ""},
		{"[::1]:1", "", ""},
		{"[fe80::1%eth0]:1", "", ""},
		{"böse.example:1", "", ""},
		{":1234", "", "no host"},
		{"host:0", "", `port "0" is not a number from 1 to 65535`},
		{"", "empty", "empty"},
		{"host:", `port "" is not a number from 0 to 65535`, `port "" is not a number from 1 to 65535`},
		{"host:65536", `port "65536" is not a number from 0 to 65535`, `port "65536" is not a number from 1 to 65535`},
		{"host:http", `port "http" is not a number from 0 to 65535`, `port "http" is not a number from 1 to 65535`},
		{"host:+1", `port "+1" is not a number from 0 to 65535`, `port "+1" is not a number from 1 to 65535`},
		{"::1", "an IPv6 address needs brackets and a port", "an IPv6 address needs brackets and a port"},
		{"a:b:1", "too many colons in address", "too many colons in address"},
		{"[::1", "missing ']' in address", "missing ']' in address"},
		{"http://host:1", "holds a scheme", "holds a scheme"},
		{"127.0.0.256:1", `"127.0.0.256" is not an IP address`, `"127.0.0.256" is not an IP address`},
		{"[1:2]:1", `"1:2" is not an IP address`, `"1:2" is not an IP address`},
		{"ho st:1", `"ho st" is not a host name`, `"ho st" is not a host name`},
		{"u@host:1", `"u@host" is not a host name`, `"u@host" is not a host name`},
		{strings.Repeat("a", 254) + ":1", `"` + strings.Repeat("a", 254) + `" is not a host name`, `"` + strings.Repeat("a", 254) + `" is not a host name`},
	}
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	for _, tc := range tests {
		if got := text(checkAddress(tc.addr, true)); got != tc.listen {
			t.Errorf("listen on %q: %q, want %q", tc.addr, got, tc.listen)
		}
		if got := text(checkAddress(tc.addr, false)); got != tc.transfer {
			t.Errorf("send to %q: %q, want %q", tc.addr, got, tc.transfer)
		}
	}
}

func TestBoundsThemselvesAreAllowed(t *testing.T) {
	t.Parallel()
	for _, edge := range []func(*Server){
		func(s *Server) { s.MaxSessions = 1 },
		func(s *Server) { s.MaxSessions = 1_000_000 },
		func(s *Server) { s.IdleTimeout = second },
		func(s *Server) { s.IdleTimeout = day },
		func(s *Server) { s.ShutdownGrace = 0 },
		func(s *Server) { s.ShutdownGrace = hour },
		func(s *Server) { s.MaxFileSize = 1 },
		func(s *Server) { s.MaxFileSize = math.MaxInt64 },
		func(s *Server) {
			s.MaxSessionsPerAddress, s.MaxOpenUploads, s.MaxClientFiles, s.MaxClientSize = 1, 1, 1, 1
		},
		func(s *Server) { s.MaxSessionsPerAddress, s.MaxOpenUploads = 1_000_000, 10_000 },
		func(s *Server) { s.MaxClientFiles, s.MaxClientSize = math.MaxInt32, math.MaxInt64 },
		func(s *Server) { s.KeepPartial = hour },
		func(s *Server) { s.KeepPartial = 365 * day },
		func(s *Server) { s.Advertise = "files.example.org:65535" },
		func(s *Server) { s.Registration = "invite" },
		func(s *Server) { s.Registration = "closed" },
	} {
		s := DefaultServer()
		if edge(&s); s.Validate() != nil {
			t.Error(s.Validate())
		}
	}
	c := DefaultTransfer()
	c.Name, c.Attempts, c.Streams, c.RetryFor = strings.Repeat("x", 127), 100, 16, 7*day
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.RetryFor, c.Protocol, c.ServerKey = 0, 3, []string{pinA, pinB}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzServer(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add("listen = \":1\"\nidle_timeout = \"30s\"\nmax_file_size = \"4GiB\"\nprotocols = [3]")
	f.Add("\xef\xbb\xbf[a]\nb.c = {d = [[1], 1979-05-27]}\n[[e]]")
	f.Add("\n\na = [0b\x00") // the library's message once went out with the NUL
	f.Add("storage = '''\n\\'''\nstorage = 1e3")
	f.Fuzz(func(t *testing.T, text string) {
		c := DefaultServer()
		fuzzFile(t, text, &c, &c.origins, func() error { return c.Validate() })
	})
}

func FuzzTransfer(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add("server = \"h:1\"\nfiles = [\"a\", \"-\"]\nname = \"x\"\nattempts = 0\ntimeout = \"1m\"")
	f.Add("files = [[]]\nme = nan")
	f.Add("server_key = \"" + pinA + "\"\nexclude = [\"*\"]\nfollow_links = true\nstreams = 2\nretry_for = \"0s\"")
	f.Fuzz(func(t *testing.T, text string) {
		c := DefaultTransfer()
		fuzzFile(t, text, &c, &c.origins, func() error { return c.Validate() })
	})
}

// fuzzFile loads text into c: it is valid, or there is an error that names a
// line of it.
func fuzzFile(t *testing.T, text string, c any, from *origins, validate func() error) {
	keys := keysOf(c)
	doc, err := parse("x.toml", []byte(text), keys)
	if err == nil {
		err = doc.fill(keys, from)
	}
	if err == nil {
		err = validate()
	}
	if err == nil {
		return
	}
	number, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "x.toml:"), ":")
	var line int
	if err := (key{field: reflect.ValueOf(&line).Elem()}).assignText([]string{number}); err != nil || line < 1 || line > 1+strings.Count(text, "\n") {
		t.Errorf("no line of the %d in %q", 1+strings.Count(text, "\n"), number)
	}
	if strings.ContainsAny(err.Error(), "\x00\x1b\n") {
		t.Errorf("%q prints control characters", err)
	}
}

func TestServedProtocols(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		set      []int
		loopback bool
		want     []int
	}{
		{nil, true, []int{3, 4}},
		{nil, false, []int{4}},
		{[]int{3}, true, []int{3}},
		{[]int{4, 3}, false, []int{4, 3}},
	} {
		s := DefaultServer()
		s.Protocols = tc.set
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
		if got := s.ServedProtocols(tc.loopback); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v, loopback %t: got %v, want %v", tc.set, tc.loopback, got, tc.want)
		}
	}
}

func TestNewKeysFromEveryPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "transfer.toml", "server_key = \""+pinA+"\"\nrequire_pq = false\nfollow_links = true")
	l := Lookup{WorkDir: dir}
	c, _, err := l.LoadTransfer("")
	if err != nil || c.RequirePQ || !c.FollowLinks || !reflect.DeepEqual(c.ServerKey, []string{pinA}) {
		t.Errorf("file: got %+v, %v", c, err)
	}
	l.Getenv = env(map[string]string{"FENC_SERVER_KEY": pinA + ", " + pinB, "FENC_REQUIRE_PQ": "true", "FENC_FOLLOW_LINKS": "false",
		"FENC_EXCLUDE": "*.tmp,/b", "FENC_RETRY_FOR": "0s", "FENC_STREAMS": "4", "FENC_PROTOCOL": "3"})
	c, _, err = l.LoadTransfer("")
	if err == nil {
		err = c.Validate()
	}
	if err != nil || !c.RequirePQ || c.FollowLinks || !reflect.DeepEqual(c.ServerKey, []string{pinA, pinB}) ||
		!reflect.DeepEqual(c.Exclude, []string{"*.tmp", "/b"}) || c.RetryFor != 0 || c.Streams != 4 || c.Protocol != 3 {
		t.Errorf("environment: got %+v, %v", c, err)
	}
	if err := c.Override("follow_links", "true"); err != nil || !c.FollowLinks {
		t.Errorf("flag: got %t, %v", c.FollowLinks, err)
	}
	wantError(t, c.Override("follow_links", "TRUE"), dir, `--follow-links "TRUE": neither true nor false; write true or false`)
	if err := c.Override("server_key", pinB); err != nil || !reflect.DeepEqual(c.ServerKey, []string{pinB}) {
		t.Errorf("flag: got %q, %v", c.ServerKey, err)
	}
}

func TestHome(t *testing.T) {
	t.Parallel()
	if got := (Lookup{WorkDir: "w", ConfigDir: "c"}).Home(); got != "c" {
		t.Errorf("got %q, want the configuration directory", got)
	}
	if got := (Lookup{WorkDir: "w"}).Home(); got != "w" {
		t.Errorf("got %q, want the working directory", got)
	}
}
