package config

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fenc/wire/fuzztest"
)

// Two fingerprints, of keys that nobody has.
var (
	pinA = "SHA256:" + strings.Repeat("A", 43)
	pinB = "SHA256:" + strings.Repeat("b/+9", 10) + "b/8"
)

func TestWriteTransfer(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]string{{pinA}, {pinA, pinB}} {
		path := filepath.Join(t.TempDir(), "fenc", "transfer.toml")
		if err := WriteTransfer(path, "files.example.org:1234", keys); err != nil {
			t.Fatal(err)
		}
		c, _, err := LoadTransfer(path)
		if err == nil {
			err = c.Validate()
		}
		want := DefaultTransfer()
		want.Server, want.ServerKey, want.origins = "files.example.org:1234", keys, c.origins
		if err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("got %+v, %v; want %+v", c, err, want)
		}
		text, _ := os.ReadFile(path)
		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n\n")[1:] {
			if !strings.HasPrefix(line, "# ") {
				t.Errorf("%q has no comment", line)
			}
		}
		err = WriteTransfer(path, "other.example.org:1234", keys)
		wantError(t, err, filepath.Dir(path), "write the client's settings: DIR/transfer.toml: file already exists; it is not replaced: use it, or move it away first")
		if now, _ := os.ReadFile(path); !errors.Is(err, fs.ErrExist) || string(now) != string(text) {
			t.Errorf("%v, and the file holds %q", err, now)
		}
		if got := names(t, filepath.Dir(path)); got != "transfer.toml" {
			t.Errorf("left are %s, want transfer.toml alone", got)
		}
	}
}

func TestWriteTransferErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const fingerprint = `; write the fingerprint that the server shows, "SHA256:" and 43 characters, or a list of them`
	path := filepath.Join(dir, "transfer.toml")
	wantError(t, WriteTransfer(path, ":1", []string{pinA}), dir, `server = ":1": no host; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`)
	wantError(t, WriteTransfer(path, "h:1", nil), dir, `server_key = []: empty`+fingerprint)
	wantError(t, WriteTransfer(path, "h:1", []string{pinA, "x"}), dir, `server_key = ["`+pinA+`", "x"]: fingerprint 2: no SHA256: in front`+fingerprint)
	if got := names(t, dir); got != "" {
		t.Errorf("left are %s, want nothing", got)
	}
}

func TestPinServerKey(t *testing.T) {
	t.Parallel()
	added := "# The fingerprint of the server's key: a server with another key gets nothing.\nserver_key = \"" + pinA + "\"\n"
	one, both := []string{pinA}, []string{pinA, pinB}
	tests := []struct {
		name, text string
		keys       []string
		want       string
	}{
		{"empty file", "", one, added},
		{"added below", "server = \"h:1\"\n", one, "server = \"h:1\"\n\n" + added},
		{"no end of line", "server = \"h:1\" # mine", one, "server = \"h:1\" # mine\n\n" + added},
		{"added with CRLF", "# x\r\nserver = \"h:1\"", one, "# x\r\nserver = \"h:1\"\r\n\r\n" + strings.ReplaceAll(added, "\n", "\r\n")},
		{"commented out is not set", "#server_key = \"x\"\n", one, "#server_key = \"x\"\n\n" + added},
		{"in a text is not set", "name = '# server_key = \"x\"'\nfiles = ['''\nserver_key = \"x\"\n''']\n", one, "name = '# server_key = \"x\"'\nfiles = ['''\nserver_key = \"x\"\n''']\n\n" + added},
		{"a text", "# a\n\tserver_key=\"" + pinB + "\"\t# b\nstreams = 2 # c\n", one, "# a\n\tserver_key=\"" + pinA + "\"\t# b\nstreams = 2 # c\n"},
		{"text that is no fingerprint", "server_key = 'x'", one, "server_key = \"" + pinA + "\""},
		{"text over lines", "server_key = \"\"\"\na\\\"\"\"b\"\"\"\"\" # c\nname = \"n\"\n", one, "server_key = \"" + pinA + "\" # c\nname = \"n\"\n"},
		{"one to several", "server_key = \"" + pinA + "\"\r\n", both, "server_key = [\"" + pinA + "\", \"" + pinB + "\"]\r\n"},
		{"empty list", "server_key = []\n", both, "server_key = [\"" + pinA + "\", \"" + pinB + "\"]\n"},
		{"list over lines", "server = \"h:1\" # [\nserver_key = [ # old ones\n  \"" + pinB + "\", # the \"first\"]\n  'x',\n\n] # end\nname = \"n\"\n", one,
			"server = \"h:1\" # [\n# old ones\n# the \"first\"]\nserver_key = \"" + pinA + "\" # end\nname = \"n\"\n"},
		{"after a byte order mark", "\xef\xbb\xbfserver_key = [ # a\n]", one, "\xef\xbb\xbf# a\nserver_key = \"" + pinA + "\""},
		{"key in quotes", "'server' = \"h:1\"\n\"server\\u005fkey\" = 'x'\n", one, "'server' = \"h:1\"\n\"server\\u005fkey\" = \"" + pinA + "\"\n"},
		{"already so", "server_key = [\"" + pinA + "\"]\n", one, "server_key = \"" + pinA + "\"\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := write(t, dir, "transfer.toml", tc.text)
			for range 2 { // the second time changes nothing
				if err := PinServerKey(path, tc.keys); err != nil {
					t.Fatal(err)
				}
				if got, _ := os.ReadFile(path); string(got) != tc.want {
					t.Fatalf("got\n%q, want\n%q", got, tc.want)
				}
			}
			if got := names(t, dir); got != "transfer.toml" {
				t.Errorf("left are %s, want transfer.toml alone", got)
			}
		})
	}
}

func TestPinServerKeyErrors(t *testing.T) {
	t.Parallel()
	const fingerprint = `; write the fingerprint that the server shows, "SHA256:" and 43 characters, or a list of them`
	tests := []struct {
		name, text string
		keys       []string
		want       string
	}{
		{"no keys", "", nil, "server_key = []: empty" + fingerprint},
		{"no fingerprint", "", []string{"SHA256:x"}, `server_key = ["SHA256:x"]: fingerprint 1: 1 characters after SHA256: in place of 43` + fingerprint},
		{"not TOML", "\nserver = x", []string{pinA}, "DIR/transfer.toml:2: server = x: not TOML (expected value but found \"x\" instead); put text, sizes and durations in quotes, one setting a line"},
		{"wrong type", "attempts = \"3\"", []string{pinA}, `DIR/transfer.toml:1: attempts = "3": text where a whole number belongs; write a whole number from 0 to 100`},
		{"a table", "[a]", []string{pinA}, "DIR/transfer.toml:1: [a]: unknown table; keys stand outside tables, as in server = …"},
		{"dotted", "server_key.a = 1", []string{pinA}, "DIR/transfer.toml:1: server_key = {…}: a table where a list of texts belongs" + fingerprint},
		{"quotes that only the library takes", "server_key = \"\"\", \"" + sixQuotes + " # a\nexclude = [\"\"\"\"b\"\"\"\"\", \"\\\\\"]", []string{pinA}, "DIR/transfer.toml: set server_key: other settings would change; write it by hand: server_key = \"" + pinA + "\""},
		{"too large", strings.Repeat("#", maxFile), []string{pinA}, "DIR/transfer.toml: set server_key: over 1MiB; write it by hand: server_key = \"" + pinA + "\""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := write(t, dir, "transfer.toml", tc.text)
			wantError(t, PinServerKey(path, tc.keys), dir, tc.want)
			if got, _ := os.ReadFile(path); string(got) != tc.text || names(t, dir) != "transfer.toml" {
				t.Errorf("the file is not as it was, or not alone: %s", names(t, dir))
			}
		})
	}
	dir := t.TempDir()
	err := PinServerKey(filepath.Join(dir, "transfer.toml"), []string{pinA})
	wantError(t, err, dir, "DIR/transfer.toml: file does not exist; check the path")
	if !errors.Is(err, fs.ErrNotExist) || names(t, dir) != "" {
		t.Errorf("%v, and left are %q", err, names(t, dir))
	}
}

// sixQuotes end no text of TOML, which ends at the third, or at the fifth at most. The
// library takes them behind a backslash that is itself escaped; the editor does not, and
// tells to write by hand.
const sixQuotes = "\\\\\"\"\"\"\"\""

func FuzzPinServerKey(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, seed := range []string{
		"", "\ufeff\ufeff\n", "\ufeffserver_key=[#\n]", "server = \"h:1\"\r\n# c\r\nserver_key = [ 'x', # d\r\n]",
		"name = '''\nserver_key = 1'''\n\"server\\u005fkey\" = \"\"\"a\\\"\"\"\"\"\"\nfiles=[\"]\", '[', \"#\"]",
		"server_key = \"\"\"\"\"\" # a\nexclude = [\"\"\"\"b\"\"\"\"\", \"\\\\\"]",
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, two bool) {
		keys := []string{pinA}
		if two {
			keys = append(keys, pinB)
		}
		load := func(text string) (map[string]any, error) {
			var c Transfer
			doc, err := parse("x.toml", []byte(text), keysOf(&c))
			if err == nil {
				err = doc.fill(keysOf(&c), &c.origins)
			}
			if err != nil {
				return nil, err
			}
			return doc.values, nil
		}
		if strings.Contains(text, sixQuotes) {
			return
		}
		before, sound := load(text)
		got, err := pinned("x.toml", text, keys)
		if (err == nil) != (sound == nil) {
			t.Fatalf("got %v, loading it says %v", err, sound)
		}
		if err != nil {
			return
		}
		after, err := load(got)
		if err != nil {
			t.Fatalf("%v in %q", err, got)
		}
		want := maps.Clone(before)
		want["server_key"] = any(pinA)
		if two {
			want["server_key"] = []any{pinA, pinB}
		}
		if !reflect.DeepEqual(after, want) {
			t.Errorf("got %v, want %v", after, want)
		}
		if again, err := pinned("x.toml", got, keys); err != nil || again != got {
			t.Errorf("pinned again %q becomes %q, %v", got, again, err)
		}
	})
}
