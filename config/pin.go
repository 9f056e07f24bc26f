package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// WriteTransfer writes a new transfer.toml for a server, host:port, that has
// one of the keys, given by their fingerprints, whole and durable or not at
// all. A file that is there already is an error that wraps fs.ErrExist.
func WriteTransfer(path, server string, keys []string) error {
	if err := checkAddress(server, false); err != nil {
		return complaint("server = "+shown(server), "server", err)
	}
	if err := checkPins(keys); err != nil {
		return err
	}
	err := create(path, fmt.Sprintf(`# Where fenc send sends. What is not set here has its default.

# The server's address, host:port.
server = %s

%sserver_key = %s
`, quote(server), pinComment, pinValue(keys)), 0o644)
	if err != nil {
		return fmt.Errorf("write the client's settings: %w", err)
	}
	return nil
}

const pinComment = "# The fingerprint of the server's key: a server with another key gets nothing.\n"

// checkPins refuses what PinServerKey and WriteTransfer can't write: no keys,
// or what is no fingerprint.
func checkPins(keys []string) error {
	err := checkFingerprints(keys)
	if len(keys) == 0 {
		err = errors.New("empty")
	}
	if err != nil {
		return complaint("server_key = "+shown(keys), "server_key", err)
	}
	return nil
}

// pinValue returns keys as TOML writes them.
func pinValue(keys []string) string {
	if len(keys) == 1 {
		return quote(keys[0])
	}
	quoted := make([]string, len(keys))
	for i, k := range keys {
		quoted[i] = quote(k)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// PinServerKey makes keys, given by their fingerprints, the server_key of the
// transfer.toml at path, in the place of those it has. All else in the file
// stays as it is, comments among the old keys move above the new ones, and the
// file is replaced whole and durably or not at all. It must exist and be free
// of errors.
func PinServerKey(path string, keys []string) error {
	if err := checkPins(keys); err != nil {
		return err
	}
	data, err := readFile(path, "")
	if err != nil {
		return err
	}
	text, err := pinned(path, string(data), keys)
	if err != nil {
		return err
	}
	if text == string(data) {
		return nil
	}
	real, err := filepath.EvalSymlinks(path) // a link stays a link
	if err != nil {
		return err
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	temp, err := writeBeside(real, text, info.Mode().Perm())
	if err != nil {
		return err
	}
	if err := os.Chmod(temp, info.Mode().Perm()); err != nil { // what the umask took
		return errors.Join(fmt.Errorf("%s: keep its mode: %w", path, err), os.Remove(temp))
	}
	return renameOnto(temp, real)
}

// pinned returns the text of a transfer.toml with its server_key set to keys.
func pinned(path, text string, keys []string) (string, error) {
	before, _, err := parseTransfer(path, text)
	if err != nil {
		return "", err
	}
	edited := setServerKey(text, keys)
	after, now, err := parseTransfer(path, edited)
	delete(before, "server_key")
	delete(after, "server_key")
	switch {
	case err == nil && (!slices.Equal(now, keys) || !reflect.DeepEqual(after, before)):
		err = errors.New("other settings would change")
	case err == nil && len(edited) > maxFile:
		err = fmt.Errorf("over %v", Size(maxFile))
	}
	if err != nil {
		return "", fmt.Errorf("%s: set server_key: %w; write it by hand: server_key = %s", path, err, pinValue(keys))
	}
	return edited, nil
}

// parseTransfer returns the values of a transfer.toml by key, and its pins.
func parseTransfer(path, text string) (values map[string]any, pins []string, err error) {
	var c Transfer
	keys := keysOf(&c)
	doc, err := parse(path, []byte(text), keys)
	if err != nil {
		return nil, nil, err
	}
	err = doc.fill(keys, &c.origins)
	return doc.values, c.ServerKey, err
}
