package config

import (
	"crypto/rand"
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
	PrivateKey Secret `toml:"private_key"` // base64 of PKCS#8, RSA
}

// RSA returns the private key.
func (m Me) RSA() (*rsa.PrivateKey, error) { return parseKey(m.PrivateKey) }

func parseKey(key Secret) (*rsa.PrivateKey, error) {
	der, err := base64.StdEncoding.DecodeString(key.Reveal())
	if err != nil {
		return nil, errors.New("not base64")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("not a PKCS#8 key")
	}
	k, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return k, nil
}

func checkKey(key Secret) error {
	if key == "" {
		return errors.New("empty")
	}
	_, err := parseKey(key)
	return err
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
	data, err := readFile(path, true)
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
	path string
	temp *os.File // nil once Commit or Discard has begun
	id   int64    // offset of the id's place
}

// PrepareMe starts the identity file at path, which must not exist yet: it
// creates the directory and a temporary file beside path that only its owner
// may read and that holds name and key already. Commit or Discard ends it.
func PrepareMe(path string, key Secret, name string) (*MeFile, error) {
	if err := checkName(name, false); err != nil {
		return nil, complaint("name "+shown(name), "name", err)
	}
	if err := checkKey(key); err != nil {
		return nil, complaint("private key", "private_key", err)
	}
	if path == "" {
		return nil, errors.New("identity file: no path")
	}
	if isThere(path) {
		return nil, existsError(path)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
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
	syncDir(dir)
	return m, nil
}

// Commit fills in the id, 32 hex digits, and gives the file its name once all
// of it is on disk. It never replaces a file. After an error the temporary
// file stays, for the server knows its key by now; the error names it.
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
	if err == nil {
		err = place(f.Name(), m.path)
	}
	if err != nil {
		return fmt.Errorf("%w; the new identity %s is kept in %s", err, id, f.Name())
	}
	return nil
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

// createBeside creates a file in path's directory that has its mode, less the
// umask, from the start.
func createBeside(path string, mode fs.FileMode) (*os.File, error) {
	return os.OpenFile(path+"."+rand.Text()+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
}

// place gives temp the name path, which must be free, for good.
func place(temp, path string) error {
	err := os.Link(temp, path) // unlike a rename it replaces nothing
	switch {
	case err == nil:
		err = os.Remove(temp)
	case errors.Is(err, fs.ErrExist):
		return existsError(path)
	default: // a file system without links: take the name, then rename onto it
		var claim *os.File
		claim, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return existsError(path)
		}
		if err != nil {
			return err
		}
		if err = errors.Join(claim.Close(), os.Rename(temp, path)); err != nil {
			return errors.Join(err, os.Remove(path))
		}
	}
	syncDir(filepath.Dir(path))
	return err
}

func existsError(path string) error {
	return fmt.Errorf("%s: %w; it is not replaced: use it, or move it away first", path, fs.ErrExist)
}

// syncDir makes the names in dir durable where the system knows how to.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync() // which Windows refuses
		d.Close()
	}
}
