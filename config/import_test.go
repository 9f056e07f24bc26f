package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"fenc/wire/fuzztest"
)

func TestImport(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	folded := key.Reveal()[:64] + "\n" + key.Reveal()[64:200] + "\n" + key.Reveal()[200:]
	tests := []struct{ name, transfer, me, port string }{
		{"as the first client writes them", "10.0.0.1:1256\nGrace Hopper\nC:\\data\\my \"file\".txt\n", "Grace Hopper\n" + testID + "\n" + key.Reveal(), "1357"},
		{"key over several lines", "10.0.0.1:1256\nGrace Hopper\nC:\\data\\my \"file\".txt", "Grace Hopper\n" + testID + "\n" + folded + "\n", "1357\n"},
		{"CRLF and empty lines at the end", "10.0.0.1:1256\r\nGrace Hopper\r\nC:\\data\\my \"file\".txt\r\n\r\n", "Grace Hopper\r\n" + testID + "\r\n" + strings.ReplaceAll(folded, "\n", "\r\n") + "\r\n", "1357\r\n\r\n"},
		{"byte order marks", "\xef\xbb\xbf10.0.0.1:1256\nGrace Hopper\nC:\\data\\my \"file\".txt", "\xef\xbb\xbfGrace Hopper\n" + testID + "\n" + key.Reveal(), "\xef\xbb\xbf1357"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "transfer.info", tc.transfer)
			write(t, dir, "me.info", tc.me)
			write(t, dir, "port.info", tc.port)
			written, err := Import(dir, false)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{filepath.Join(dir, "transfer.toml"), filepath.Join(dir, "me.toml"), filepath.Join(dir, "server.toml")}
			if !reflect.DeepEqual(written, want) {
				t.Errorf("wrote %q, want %q", written, want)
			}
			if got := names(t, dir); got != "me.info me.toml port.info server.toml transfer.info transfer.toml" {
				t.Errorf("the directory holds %s", got)
			}
			l := Lookup{WorkDir: dir}
			c, src, err := l.LoadTransfer("")
			if err == nil {
				err = c.Validate()
			}
			if err != nil {
				t.Fatal(err)
			}
			file := resolve(dir, `C:\data\my "file".txt`)
			if c.Server != "10.0.0.1:1256" || c.Protocol != 3 || c.Name != "Grace Hopper" || !reflect.DeepEqual(c.Files, []string{file}) {
				t.Errorf("got %+v", c)
			}
			path, exists := l.MePath(c.Me, src)
			m, err := LoadMe(path)
			if want := (Me{"Grace Hopper", testID, key}); err != nil || !exists || m != want {
				t.Errorf("got %+v, %v; want %+v", m, err, want)
			}
			s, _, err := l.LoadServer("")
			if err == nil {
				err = s.Validate()
			}
			if err != nil || s.Listen != "127.0.0.1:1357" {
				t.Errorf("listens on %q, %v; want 127.0.0.1:1357", s.Listen, err)
			}
		})
	}
}

func TestImportErrors(t *testing.T) {
	t.Parallel()
	key := testKey(t).Reveal()
	const transferForm = "; the lines are ip:port, name, path of the file"
	const portForm = "; write one line, a port from 1 to 65535"
	tests := []struct{ name, file, text, want string }{
		{"nothing there", "other.info", "", "DIR: no transfer.info, me.info or port.info there; name the directory that has them"},
		{"transfer empty", "transfer.info", "", "DIR/transfer.info:1: 0 lines in place of 3" + transferForm},
		{"transfer short", "transfer.info", "a:1\nb\n", "DIR/transfer.info:2: 2 lines in place of 3" + transferForm},
		{"transfer long", "transfer.info", "a:1\nb\nc\nd\ne", "DIR/transfer.info:4: 5 lines in place of 3" + transferForm},
		{"address", "transfer.info", "a\nb\nc", `DIR/transfer.info:1: address "a": missing port in address; write host:port, such as "127.0.0.1:1234" or "[::1]:1234"`},
		{"name", "transfer.info", "a:1\n\nc", `DIR/transfer.info:2: name "": empty; write 1 to 127 bytes of text without control characters`},
		{"path", "transfer.info", "a:1\nb\nc\x00", `DIR/transfer.info:3: file "c\x00": holds a NUL; write the path of a file`},
		{"not UTF-8", "transfer.info", "a:1\n\xe9\nc", "DIR/transfer.info:2: byte 0xe9 is not UTF-8; save the file as UTF-8"},
		{"me short", "me.info", "n\n" + testID + "\n", "DIR/me.info:2: 2 lines in place of 3; the lines are name, id in hex, private key in base64"},
		{"me name", "me.info", "a\tb\n" + testID + "\n" + key, `DIR/me.info:1: name "a\tb": holds a control character; write 1 to 127 bytes of text without control characters`},
		{"me id", "me.info", "n\nA0\n" + key, `DIR/me.info:2: id "A0": 2 hex digits; write the 32 hex digits that the server gave`},
		{"me key", "me.info", "n\n" + testID + "\n" + key[4:], "DIR/me.info:3: private key: not a PKCS#8 key; write an RSA key as base64 of PKCS#8"},
		{"me key of protocol 4", "me.info", "n\n" + testID + "\n" + testEdKey(t).Reveal(), "DIR/me.info:3: private key: not an RSA key; write an RSA key as base64 of PKCS#8"},
		{"port", "port.info", "0", `DIR/port.info:1: port "0": not a port` + portForm},
		{"port large", "port.info", "65536", `DIR/port.info:1: port "65536": not a port` + portForm},
		{"port lines", "port.info", "1\n2", "DIR/port.info:2: 2 lines in place of 1" + portForm},
		{"port empty", "port.info", "", "DIR/port.info:1: 0 lines in place of 1" + portForm},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, tc.file, tc.text)
			if tc.file != "transfer.info" && tc.file != "other.info" {
				write(t, dir, "transfer.info", "a:1\nb\nc") // sound, and not written all the same
			}
			written, err := Import(dir, true)
			wantError(t, err, dir, tc.want)
			if got := names(t, dir); len(written) > 0 || strings.Contains(got, ".toml") {
				t.Errorf("wrote %q, there are %s; want nothing written", written, got)
			}
		})
	}
}

func TestImportReplacesOnlyByForce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "transfer.info", "a:1\nb\nc")
	write(t, dir, "port.info", "7")
	old := write(t, dir, "server.toml", "# mine")
	written, err := Import(dir, false)
	wantError(t, err, dir, "DIR/server.toml: file already exists; move it away, or import with --force to replace it")
	if text, _ := os.ReadFile(old); string(text) != "# mine" || len(written) > 0 || isThere(filepath.Join(dir, "transfer.toml")) {
		t.Errorf("wrote %q, server.toml is %q; want all as it was", written, text)
	}
	if _, err := Import(dir, true); err != nil {
		t.Fatal(err)
	}
	if s, _, err := (Lookup{}).LoadServer(old); err != nil || s.Listen != "127.0.0.1:7" {
		t.Errorf("listens on %q, %v; want it replaced", s.Listen, err)
	}
}

func FuzzImport(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add("10.0.0.1:1\nname\nC:\\f\"\n", "n\r\n"+testID+"\r\n"+testKey(f).Reveal(), "1234\n")
	f.Add("[::1]:1\n\u202e\n\x7f", "", "99999")
	f.Fuzz(func(t *testing.T, transfer, me, port string) {
		if data := []byte(transfer); checkUTF8("", data) == nil {
			if text, err := importTransfer("x", splitLines(data)); err == nil {
				c := DefaultTransfer()
				loads(t, text, &c, &c.origins, c.Validate)
				if lines := splitLines(data); c.Name != lines[1] {
					t.Errorf("name %q became %q", lines[1], c.Name)
				}
			}
		}
		if data := []byte(me); checkUTF8("", data) == nil {
			if text, err := importMe("x", splitLines(data)); err == nil {
				if _, err := decodeMe("x", []byte(text)); err != nil {
					t.Errorf("%v in %q", err, text)
				}
			}
		}
		if data := []byte(port); checkUTF8("", data) == nil {
			if text, err := importPort("x", splitLines(data)); err == nil {
				c := DefaultServer()
				loads(t, text, &c, &c.origins, c.Validate)
			}
		}
	})
}

// loads fails the test unless text is a sound file of c's keys.
func loads(t *testing.T, text string, c any, from *origins, validate func() error) {
	t.Helper()
	keys := keysOf(c)
	doc, err := parse("x", []byte(text), keys)
	if err == nil {
		err = doc.fill(keys, from)
	}
	if err == nil {
		err = validate()
	}
	if err != nil {
		t.Errorf("%v in %q", err, text)
	}
}
