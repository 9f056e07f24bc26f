package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fenc/wire/fuzztest"
)

func TestServerKeyComesBack(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "server.key")
	key := testEdKey(t)
	if err := WriteServerKey(path, key); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadServerKey(path); err != nil || got != key {
		t.Errorf("got another key, %v", err)
	}
	if text, _ := os.ReadFile(path); !strings.HasPrefix(string(text), "# ") || !strings.Contains(string(text), "secret") {
		t.Error("no warning on top")
	}
	if got := names(t, filepath.Dir(path)); got != "server.key" {
		t.Errorf("left are %s, want server.key alone", got)
	}
}

// Without hard links a crash can leave the name alone: the server did not start any
// more, with a key that nobody had ever seen.
func TestEmptyServerKeyIsNone(t *testing.T) {
	t.Parallel()
	path := write(t, t.TempDir(), "server.key", "")
	if _, err := LoadServerKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	key := testEdKey(t)
	if err := WriteServerKey(path, key); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadServerKey(path); err != nil || got != key {
		t.Errorf("got another key, %v", err)
	}
}

func TestWriteServerKeyErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := write(t, dir, "server.key", "mine")
	err := WriteServerKey(old, testEdKey(t))
	wantError(t, err, dir, "write the server's key: DIR/server.key: file already exists; it is not replaced: use it, or move it away first")
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v does not wrap fs.ErrExist", err)
	}
	if text, _ := os.ReadFile(old); string(text) != "mine" {
		t.Errorf("server.key holds %q, want it untouched", text)
	}
	const remedy = "; write an Ed25519 key as base64 of PKCS#8"
	for key, want := range map[Secret]string{
		"":                  "private key: not a PKCS#8 key" + remedy,
		"!":                 "private key: not base64" + remedy,
		testKey(t):          "private key: not an Ed25519 key" + remedy,
		"\n" + testEdKey(t): "private key: more than a line" + remedy,
	} {
		wantError(t, WriteServerKey(filepath.Join(dir, "x"), key), dir, want)
	}
	if got := names(t, dir); got != "server.key" {
		t.Errorf("left are %s, want server.key alone", got)
	}
}

func TestLoadServerKeyErrors(t *testing.T) {
	t.Parallel()
	key := testEdKey(t).Reveal()
	const copied = "; restore the file from a copy"
	tests := []struct{ name, text, want string }{
		{"comments alone", "# a\r\n\n# b", ": no private key" + copied},
		{"not base64", "# a\n!" + key, ":2: private key: not base64" + copied},
		{"cut", key[:20], ":1: private key: not a PKCS#8 key" + copied},
		{"of protocol 3", "\n" + testKey(t).Reveal(), ":2: private key: not an Ed25519 key" + copied},
		{"twice", key + "\n" + key, ":2: a line below the private key" + copied},
		{"comment below", key + "\n\n# a", ":2: a line below the private key" + copied},
		{"not UTF-8", key + "\xff", ": not UTF-8" + copied},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := LoadServerKey(write(t, dir, "server.key", tc.text))
			wantError(t, err, dir, "DIR/server.key"+tc.want)
		})
	}
	dir := t.TempDir()
	_, err := LoadServerKey(filepath.Join(dir, "server.key"))
	wantError(t, err, dir, "DIR/server.key: file does not exist; check the path")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
}

func TestLoadServerKeyAsOthersSaveIt(t *testing.T) {
	t.Parallel()
	key := testEdKey(t)
	for _, text := range []string{key.Reveal(), "\xef\xbb\xbf# a\r\n\r\n#b\r\n  " + key.Reveal() + " \r\n\r\n"} {
		if got, err := LoadServerKey(write(t, t.TempDir(), "server.key", text)); err != nil || got != key {
			t.Errorf("%d bytes: got another key, %v", len(text), err)
		}
	}
}

func FuzzServerKey(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add("# a\n" + testEdKey(f).Reveal() + "\n")
	f.Add(testKey(f).Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		key, err := decodeServerKey("x.key", []byte(text))
		if err != nil {
			return
		}
		if again, err := decodeServerKey("x.key", []byte(serverKeyHead+key.Reveal())); err != nil || again != key || checkServerKey(key) != nil {
			t.Errorf("the key of %q does not come back: %v", text, err)
		}
	})
}
