package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fenc/wire/fuzztest"
)

const testID = "A0BA8A12189C4E049B42316ECA2E0A12"

// testKey returns the example's key, which is public.
func testKey(t testing.TB) Secret {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", MeFileName))
	if err != nil {
		t.Fatal(err)
	}
	m, err := decodeMe(MeFileName, text)
	if err != nil {
		t.Fatal(err)
	}
	return m.PrivateKey
}

// testEdKey returns a key of protocol 4 that everyone can make.
func testEdKey(t testing.TB) Secret {
	t.Helper()
	return pkcs8(t, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
}

func pkcs8(t testing.TB, key any) Secret {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Secret(base64.StdEncoding.EncodeToString(der))
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return strings.Join(list, " ")
}

func TestMeErrors(t *testing.T) {
	t.Parallel()
	key := testKey(t).Reveal()
	rest := "id = \"" + testID + "\"\nprivate_key = \"" + key + "\"\n"
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := pkcs8(t, ec).Reveal()
	const anew = "; restore the file from a copy, or move it away and register anew"
	const keyRemedy = "; write an RSA or Ed25519 key as base64 of PKCS#8"
	tests := []struct{ name, text, want string }{
		{"empty", "", ": no name" + anew},
		{"no id", "name = \"n\"", ": no id" + anew},
		{"no key", "name = \"n\"\nid = \"" + testID + "\"", ": no private_key" + anew},
		{"name empty", "name = \"\"\n" + rest, ":1: name: empty; write 1 to 127 bytes of text without control characters"},
		{"id not there yet", encodeMe("n", noID, Secret(key)), ":5: id: not hex; write the 32 hex digits that the server gave"},
		{"id short", "name = \"n\"\nid = \"A0\"\nprivate_key = \"" + key + "\"", ":2: id: 2 hex digits; write the 32 hex digits that the server gave"},
		{"key not base64", "name = \"n\"\nid = \"" + testID + "\"\nprivate_key = \"!" + key + "\"", ":3: private_key: not base64" + keyRemedy},
		{"key cut", "name = \"n\"\nid = \"" + testID + "\"\nprivate_key = \"" + key[:400] + "\"", ":3: private_key: not a PKCS#8 key" + keyRemedy},
		{"key of another kind", "name = \"n\"\nid = \"" + testID + "\"\nprivate_key = \"" + other + "\"", ":3: private_key: neither an RSA nor an Ed25519 key" + keyRemedy},
		{"key a number", "name = \"n\"\nid = \"" + testID + "\"\nprivate_key = 77", ":3: private_key: a number where text in quotes belongs" + keyRemedy},
		{"unknown key", "name = \"n\"\nprivat_key = \"" + key + "\"", ":2: privat_key: unknown key; did you mean `private_key`?"},
		{"key without quotes", "name = \"n\"\nprivate_key = " + key, ":2: not TOML; put text, sizes and durations in quotes, one setting a line"},
		{"key twice", "private_key = \"" + key + "\"\nprivate_key = \"" + key + "\"", ":2: set twice; keep one of the two"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := LoadMe(write(t, dir, "me.toml", tc.text))
			wantError(t, err, dir, "DIR/me.toml"+tc.want)
		})
	}
}

func TestMeMayFoldItsKey(t *testing.T) {
	t.Parallel()
	key := testKey(t)
	folded := key.Reveal()[:64] + "\n  " + key.Reveal()[64:]
	m, err := LoadMe(write(t, t.TempDir(), "me.toml", "name = \"n\"\nid = \""+testID+"\"\nprivate_key = \"\"\"\n"+folded+"\n\"\"\""))
	if err != nil {
		t.Fatal(err)
	}
	rsa, err := m.RSA()
	if m.PrivateKey != key || err != nil || rsa.E != 17 {
		t.Errorf("got another key, %v", err)
	}
}

func TestMeLookup(t *testing.T) {
	t.Parallel()
	l := Lookup{WorkDir: t.TempDir(), ConfigDir: t.TempDir()}
	beside := Source{Path: filepath.Join(t.TempDir(), "transfer.toml")}
	want := func(named string, used Source, path string, exists bool) {
		t.Helper()
		if p, e := l.MePath(named, used); p != path || e != exists {
			t.Errorf("got %q, %t; want %q, %t", p, e, path, exists)
		}
	}
	inWork, inConf, inBeside := filepath.Join(l.WorkDir, "me.toml"), filepath.Join(l.ConfigDir, "me.toml"), filepath.Join(beside.Dir(), "me.toml")
	_, err := l.LoadMe("")
	wantError(t, err, l.WorkDir, "me.toml: file does not exist; the first fenc send writes it")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
	want("", Source{}, inWork, false)
	want("", beside, inBeside, false)
	want("x.toml", beside, "x.toml", false)
	write(t, l.ConfigDir, "me.toml", encodeMe("conf", testID, testKey(t)))
	want("", beside, inConf, true)
	write(t, beside.Dir(), "me.toml", "")
	want("", beside, inBeside, true)
	if m, err := l.LoadMe(""); err != nil || m.Name != "conf" {
		t.Errorf("got %q, %v; want conf", m.Name, err)
	}
	write(t, l.WorkDir, "me.toml", encodeMe("work", testID, testKey(t)))
	want("", beside, inWork, true)
	if m, err := l.LoadMe(""); err != nil || m.Name != "work" {
		t.Errorf("got %q, %v; want work", m.Name, err)
	}
	want(inConf, beside, inConf, true)
}

func TestMeFileCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "er", "me.toml")
	const name = "Grace \"\\\" Höpper\u202e id = x"
	m, err := PrepareMe(path, testKey(t), name)
	if err != nil {
		t.Fatal(err)
	}
	early, err := os.ReadFile(m.temp.Name())
	if err != nil || !strings.Contains(string(early), testKey(t).Reveal()) {
		t.Errorf("the key is not on disk before the id: %v", err)
	}
	if isThere(path) {
		t.Error("me.toml is there before Commit")
	}
	wantError(t, m.Commit("xyz"), dir, `id "xyz": not hex; write the 32 hex digits that the server gave`)
	if err := m.Commit(testID); err != nil {
		t.Fatal(err)
	}
	got, err := LoadMe(path)
	if want := (Me{name, testID, testKey(t)}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	text, _ := os.ReadFile(path)
	if !strings.HasPrefix(string(text), "# ") || !strings.Contains(string(text), "secret") {
		t.Errorf("no warning on top of:\n%s", text)
	}
	if err := m.Discard(); err != nil {
		t.Error(err)
	}
	wantError(t, m.Commit(testID), dir, "DIR/deep/er/me.toml: committed or discarded before")
	if got := names(t, filepath.Dir(path)); got != "me.toml" {
		t.Errorf("left are %s, want me.toml alone", got)
	}
}

func TestMeOfEitherProtocol(t *testing.T) {
	t.Parallel()
	for want, key := range map[int]Secret{3: testKey(t), 4: testEdKey(t)} {
		path := filepath.Join(t.TempDir(), "me.toml")
		f, err := PrepareMe(path, key, "n")
		if err == nil {
			err = f.Commit(testID)
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := LoadMe(path)
		if err != nil || m.PrivateKey != key || m.Protocol() != want {
			t.Errorf("got protocol %d, %v; want %d", m.Protocol(), err, want)
		}
		if _, err := m.RSA(); (err == nil) != (want == 3) {
			t.Errorf("protocol %d: RSA says %v", want, err)
		}
	}
	if got := (Me{}).Protocol(); got != 0 {
		t.Errorf("no key is of protocol %d, want 0", got)
	}
}

func TestMeFileDiscard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m, err := PrepareMe(filepath.Join(dir, "me.toml"), testKey(t), "n")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Discard(); err != nil {
			t.Error(err)
		}
	}
	if got := names(t, dir); got != "" {
		t.Errorf("left are %s, want nothing", got)
	}
}

func TestMeFileReplacesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "me.toml")
	m, err := PrepareMe(path, testKey(t), "n")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "me.toml", "mine") // another fenc was faster
	err = m.Commit(testID)
	if err == nil {
		t.Fatal("replaced a file")
	}
	kept := m.path + regexp.MustCompile(`\.\w+\.new$`).FindString(err.Error())
	wantError(t, err, dir, "DIR/me.toml: file already exists; it is not replaced: use it, or move it away first; the new identity "+testID+" is kept in "+strings.ReplaceAll(filepath.ToSlash(kept), filepath.ToSlash(dir), "DIR"))
	if err := m.Discard(); err != nil {
		t.Error(err)
	}
	if got, err := LoadMe(kept); err != nil || got.ID != testID {
		t.Errorf("the new identity is lost: %+v, %v", got, err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("me.toml holds %q, want it untouched", text)
	}
}

func TestPrepareMeErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, dir, "me.toml", "")
	key := testKey(t)
	tests := []struct {
		name, path, me string
		key            Secret
		want           string
	}{
		{"exists", file, "n", key, "DIR/me.toml: file already exists; it is not replaced: use it, or move it away first"},
		{"no path", "", "n", key, "identity file: no path"},
		{"name empty", filepath.Join(dir, "x"), "", key, `name "": empty; write 1 to 127 bytes of text without control characters`},
		{"key wrong", filepath.Join(dir, "x"), "n", "AAAA", `private key: not a PKCS#8 key; write an RSA or Ed25519 key as base64 of PKCS#8`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := PrepareMe(tc.path, tc.key, tc.me)
			wantError(t, err, dir, tc.want)
		})
	}
	t.Run("directory is a file", func(t *testing.T) {
		t.Parallel()
		if _, err := PrepareMe(filepath.Join(file, "me.toml"), key, "n"); err == nil {
			t.Error("no error")
		}
	})
	if got := names(t, dir); got != "me.toml" {
		t.Errorf("left are %s, want me.toml alone", got)
	}
}

func FuzzMe(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add(encodeMe("n", testID, testKey(f)))
	f.Add(encodeMe("n", testID, testEdKey(f)))
	f.Add("name = 1\nid = []\nprivate_key = {}")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := decodeMe("x.toml", []byte(text))
		if err != nil {
			return
		}
		if again, err := decodeMe("x.toml", []byte(encodeMe(m.Name, m.ID, m.PrivateKey))); err != nil || again != m {
			t.Errorf("%+v comes back as %+v, %v", m, again, err)
		}
	})
}
