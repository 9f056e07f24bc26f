package config

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const serverKeyHead = `# The private key of this fenc server. Keep it secret: whoever has this file can
# pose as the server. Keep a copy: without it no client trusts the server again.

`

// LoadServerKey returns the server's private key, base64 of PKCS#8, Ed25519.
// The file has it in one line, below comments at most. There being no file, or an
// empty one, is an error that wraps fs.ErrNotExist; a file that others may read is
// refused.
func LoadServerKey(path string) (Secret, error) {
	data, err := readFile(path, privateKey)
	if err == nil && len(data) == 0 {
		// Where there are no links, a name is taken by an empty file first: see place.
		// A crash may leave that.
		err = fmt.Errorf("%s: it is empty: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	return decodeServerKey(path, data)
}

const serverKeyRemedy = "restore the file from a copy"

func decodeServerKey(path string, data []byte) (Secret, error) {
	if err := checkUTF8(path, data); err != nil {
		return "", fmt.Errorf("%s: not UTF-8; %s", path, serverKeyRemedy) // err quotes a byte
	}
	var key Secret
	for i, line := range splitLines(data) {
		line = strings.TrimSpace(line)
		switch {
		case key == "" && (line == "" || strings.HasPrefix(line, "#")):
			continue
		case key != "":
			return "", fmt.Errorf("%s:%d: a line below the private key; %s", path, i+1, serverKeyRemedy)
		}
		key = Secret(line)
		if err := checkServerKey(key); err != nil {
			return "", fmt.Errorf("%s:%d: private key: %w; %s", path, i+1, err, serverKeyRemedy)
		}
	}
	if key == "" {
		return "", fmt.Errorf("%s: no private key; %s", path, serverKeyRemedy)
	}
	return key, nil
}

func checkServerKey(key Secret) error {
	parsed, err := parseKey(key)
	if err != nil {
		return err
	}
	if _, ok := parsed.(ed25519.PrivateKey); !ok {
		return errors.New("not an Ed25519 key")
	}
	return nil
}

// WriteServerKey writes the server's private key, base64 of PKCS#8, Ed25519,
// into a new file at path that only its owner may read, whole and durable or
// not at all. A file that is there already is an error that wraps fs.ErrExist.
func WriteServerKey(path string, key Secret) error {
	err := checkServerKey(key)
	if err == nil && strings.ContainsAny(key.Reveal(), "\r\n") { // which base64 skips
		err = errors.New("more than a line")
	}
	if err != nil {
		return fmt.Errorf("private key: %w; write an Ed25519 key as base64 of PKCS#8", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("write the server's key: %w", err)
		}
	}
	if err := create(path, serverKeyHead+key.Reveal()+"\n", 0o600); err != nil {
		return fmt.Errorf("write the server's key: %w", err)
	}
	return nil
}
