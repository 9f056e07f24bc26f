package config

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Me is me.toml: who this client is to its server.
type Me struct {
	Name       string `toml:"name"`        // as registered, 1 to 127 bytes
	ID         string `toml:"id"`          // 32 hex digits, given by the server
	PrivateKey Secret `toml:"private_key"` // base64 of PKCS#8: RSA for protocol 3, Ed25519 for protocol 4
}

// RSA returns the private key of an identity of protocol 3.
func (m Me) RSA() (*rsa.PrivateKey, error) {
	parsed, err := parseKey(m.PrivateKey)
	if err != nil {
		return nil, err
	}
	k, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return k, nil
}

// Protocol returns the version that the identity is of, by the kind of its key:
// 3 for RSA, 4 for Ed25519, 0 where there is no such key.
func (m Me) Protocol() int {
	switch k, _ := parseKey(m.PrivateKey); k.(type) {
	case *rsa.PrivateKey:
		return 3
	case ed25519.PrivateKey:
		return 4
	}
	return 0
}

// parseKey returns what base64 of PKCS#8 holds. Its errors quote nothing of it.
func parseKey(key Secret) (any, error) {
	der, err := base64.StdEncoding.DecodeString(key.Reveal())
	if err != nil {
		return nil, errors.New("not base64")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("not a PKCS#8 key")
	}
	return parsed, nil
}

func checkKey(key Secret) error {
	if key == "" {
		return errors.New("empty")
	}
	parsed, err := parseKey(key)
	if err != nil {
		return err
	}
	switch parsed.(type) {
	case *rsa.PrivateKey, ed25519.PrivateKey:
		return nil
	}
	return errors.New("neither an RSA nor an Ed25519 key")
}

func checkID(id string) error {
	switch raw, err := hex.DecodeString(id); {
	case id == "":
		return errors.New("empty")
	case err != nil:
		return errors.New("not hex")
	case len(raw) != 16:
		return fmt.Errorf("%d hex digits", len(id))
	}
	return nil
}

func readMe(path string) (Me, error) {
	data, err := readFile(path, privateKey)
	if err != nil {
		return Me{}, err
	}
	return decodeMe(path, data)
}

func decodeMe(path string, data []byte) (Me, error) {
	var m Me
	var from origins
	keys := keysOf(&m)
	doc, err := parse(path, data, keys)
	if err != nil {
		return Me{}, err
	}
	for _, k := range keys {
		if _, ok := doc.values[k.name]; !ok {
			return Me{}, fmt.Errorf("%s: no %s; restore the file from a copy, or move it away and register anew", path, k.name)
		}
	}
	if err := doc.fill(keys, &from); err != nil {
		return Me{}, err
	}
	m.PrivateKey = Secret(strings.Join(strings.Fields(m.PrivateKey.Reveal()), "")) // may be folded
	err = from.first([]check{
		{"name", m.Name, checkName(m.Name, false)},
		{"id", m.ID, checkID(m.ID)},
		{"private_key", m.PrivateKey, checkKey(m.PrivateKey)},
	})
	if err != nil {
		return Me{}, err
	}
	return m, nil
}

// noID keeps the place of the id until Commit knows it.
var noID = strings.Repeat("-", 32)

const meHead = `# Who this client is to its fenc server. Keep it secret: whoever has this file
# can send as you. Keep a copy: without it the name is lost to you.

`

func encodeMe(name, id string, key Secret) string {
	return meHead + fmt.Sprintf("name = %s\nid = %s\nprivate_key = %s\n", quote(name), quote(id), quote(key.Reveal()))
}

// MeFile is a me.toml in the making. It has the private key on disk before the
// server is asked for an id, under another name than its own.
type MeFile struct {
	path     string
	temp     *os.File // nil once Commit or Discard has begun
	id       int64    // offset of the id's place
	replaces bool     // what is at path
	kept     string   // see Kept
}

// PrepareMe starts the identity file at path, which must not exist yet: it
// creates the directory and a temporary file beside path that only its owner
// may read and that holds name and key already. Commit or Discard ends it.
func PrepareMe(path string, key Secret, name string) (*MeFile, error) {
	if isThere(path) {
		return nil, existsError(path)
	}
	return prepareMe(path, key, name)
}

// PrepareMeInstead is PrepareMe for an identity in the place of the one at path. Commit
// keeps that one beside it first: see Kept.
func PrepareMeInstead(path string, key Secret, name string) (*MeFile, error) {
	m, err := prepareMe(path, key, name)
	if err == nil {
		m.replaces = true
	}
	return m, err
}

func prepareMe(path string, key Secret, name string) (*MeFile, error) {
	if err := checkName(name, false); err != nil {
		return nil, complaint("name "+shown(name), "name", err)
	}
	if err := checkKey(key); err != nil {
		return nil, complaint("private key", "private_key", err)
	}
	if path == "" {
		return nil, errors.New("identity file: no path")
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("%s: make its directory: %w", path, err)
	}
	temp, err := createBeside(path, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; make the directory writable or choose another with --me", path, err)
	}
	text := encodeMe(name, noID, key)
	m := &MeFile{path: path, temp: temp, id: int64(strings.LastIndex(text, "\nid = ") + len("\nid = \""))}
	if _, err := temp.WriteString(text); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), m.Discard())
	}
	if err := temp.Sync(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), m.Discard())
	}
	syncDir(filepath.Dir(path))
	return m, nil
}

// Commit fills in the id, 32 hex digits, and gives the file its name once all
// of it is on disk. It replaces no file but for PrepareMeInstead. After an error the
// temporary file stays, for the server knows its key by now; the error names it.
func (m *MeFile) Commit(id string) error {
	if m.temp == nil {
		return fmt.Errorf("%s: committed or discarded before", m.path)
	}
	if err := checkID(id); err != nil {
		return complaint("id "+shown(id), "id", err)
	}
	f := m.temp
	m.temp = nil
	_, err := f.WriteAt([]byte(id), m.id) // in place: what is there is never at risk
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	switch {
	case err != nil:
	case !m.replaces:
		err = place(f.Name(), m.path)
	default:
		if m.kept, err = keepOld(m.path); err == nil {
			err = os.Rename(f.Name(), m.path)
			syncDir(filepath.Dir(m.path))
		}
	}
	if err != nil {
		return fmt.Errorf("%w; the new identity %s is kept in %s", err, id, f.Name())
	}
	return nil
}

// CommitAs is Commit under another name than PrepareMe was given: the one that
// the server registered.
func (m *MeFile) CommitAs(name, id string) error {
	if m.temp == nil {
		return m.Commit(id)
	}
	text, err := os.ReadFile(m.temp.Name())
	if err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	var was Me
	if was, err = decodeMe(m.path, bytes.Replace(text, []byte(noID), []byte(strings.Repeat("0", len(noID))), 1)); err != nil {
		return err
	}
	if was.Name == name {
		return m.Commit(id)
	}
	prepare := PrepareMe
	if m.replaces {
		prepare = PrepareMeInstead
	}
	renamed, err := prepare(m.path, was.PrivateKey, name)
	if err != nil {
		return err
	}
	if err := renamed.Commit(id); err != nil {
		return err
	}
	m.kept = renamed.kept
	return m.Discard()
}

// Kept is where Commit has kept the identity that it has replaced; empty where it has
// replaced none.
func (m *MeFile) Kept() string { return m.kept }

// keepOld copies the file at path to a name of its own beside it: path with .old behind
// it, or .2.old and so on where there is one already.
func keepOld(path string) (kept string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	temp, err := writeBeside(path, string(data), 0o600)
	if err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		kept = path + ".old"
		if n > 1 {
			kept = fmt.Sprintf("%s.%d.old", path, n)
		}
		if err = place(temp, kept); err == nil || !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", errors.Join(err, removeIfThere(temp))
	}
	return kept, nil
}

// Discard removes the temporary file unless Commit was called: nothing of the
// identity is left. It may be called more than once.
func (m *MeFile) Discard() error {
	if m.temp == nil {
		return nil
	}
	f := m.temp
	m.temp = nil
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
