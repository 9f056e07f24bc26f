package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// imported is one file that Import is going to write.
type imported struct {
	path string
	text string
	mode fs.FileMode
}

// Import turns the first client's transfer.info and me.info and the first
// server's port.info, as far as dir has them, into transfer.toml, me.toml and
// server.toml beside them and returns the paths written. All are read and
// checked before any is written; one that exists is an error unless force.
func Import(dir string, force bool) (written []string, err error) {
	var todo []imported
	for _, old := range []struct {
		name, becomes string
		mode          fs.FileMode
		translate     func(path string, lines []string) (string, error)
	}{
		{"transfer.info", TransferFile, 0o644, importTransfer},
		{"me.info", MeFileName, 0o600, importMe},
		{"port.info", ServerFile, 0o644, importPort},
	} {
		path := filepath.Join(dir, old.name)
		if !isThere(path) {
			continue
		}
		data, err := readFile(path, "")
		if err != nil {
			return nil, err
		}
		if err := checkUTF8(path, data); err != nil {
			return nil, err
		}
		text, err := old.translate(path, splitLines(data))
		if err != nil {
			return nil, err
		}
		todo = append(todo, imported{filepath.Join(dir, old.becomes), text, old.mode})
	}
	if len(todo) == 0 {
		return nil, fmt.Errorf("%s: no transfer.info, me.info or port.info there; name the directory that has them", dir)
	}
	for _, f := range todo {
		if !force && isThere(f.path) {
			return nil, importExists(f.path)
		}
	}
	for _, f := range todo {
		if err := f.write(force); err != nil {
			return written, err
		}
		written = append(written, f.path)
	}
	return written, nil
}

func importExists(path string) error {
	return fmt.Errorf("%s: %w; move it away, or import with --force to replace it", path, fs.ErrExist)
}

func (f imported) write(force bool) error {
	if force {
		return replace(f.path, f.text, f.mode)
	}
	return create(f.path, f.text, f.mode)
}

// splitLines returns the lines without their ends and without the empty ones
// at the end of the file.
func splitLines(data []byte) []string {
	text := string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// lineError says what is wrong with line n, counted from 1.
func lineError(path string, n int, what, line string, err error, remedy string) error {
	return fmt.Errorf("%s:%d: %s %s: %w; %s", path, n, what, shown(line), err, remedy)
}

func importTransfer(path string, lines []string) (string, error) {
	const form = "the lines are ip:port, name, path of the file"
	if len(lines) != 3 {
		return "", fmt.Errorf("%s:%d: %d lines in place of 3; %s", path, max(1, min(len(lines), 4)), len(lines), form)
	}
	server, name, file := strings.TrimSpace(lines[0]), lines[1], lines[2]
	if err := checkAddress(server, false); err != nil {
		return "", lineError(path, 1, "address", server, err, remedies["server"])
	}
	if err := checkName(name, false); err != nil {
		return "", lineError(path, 2, "name", name, err, remedies["name"])
	}
	if err := checkPath(file); err != nil {
		return "", lineError(path, 3, "file", file, err, "write the path of a file")
	}
	return fmt.Sprintf(`# Where fenc send sends, as whom, and what. Imported from transfer.info.

# The server's address, host:port.
server = %s

# The name to register under.
name = %s

# What to send where the command line names no file. Relative paths start here.
files = [%s]

# Who this client is once it is registered.
me = %s

# The version of the protocol that this server and this identity speak.
protocol = 3
`, quote(server), quote(name), quote(file), quote(MeFileName)), nil
}

func importMe(path string, lines []string) (string, error) {
	if len(lines) < 3 {
		return "", fmt.Errorf("%s:%d: %d lines in place of 3; the lines are name, id in hex, private key in base64", path, max(1, len(lines)), len(lines))
	}
	name, id := lines[0], strings.TrimSpace(lines[1])
	if err := checkName(name, false); err != nil {
		return "", lineError(path, 1, "name", name, err, remedies["name"])
	}
	if err := checkID(id); err != nil {
		return "", lineError(path, 2, "id", id, err, remedies["id"])
	}
	key := Secret(strings.Join(strings.Fields(strings.Join(lines[2:], " ")), ""))
	if _, err := (Me{PrivateKey: key}).RSA(); err != nil {
		return "", fmt.Errorf("%s:3: private key: %w; write an RSA key as base64 of PKCS#8", path, err)
	}
	return encodeMe(name, id, key), nil
}

func importPort(path string, lines []string) (string, error) {
	const remedy = "write one line, a port from 1 to 65535"
	if len(lines) != 1 {
		return "", fmt.Errorf("%s:%d: %d lines in place of 1; %s", path, max(1, min(len(lines), 2)), len(lines), remedy)
	}
	port := strings.TrimSpace(lines[0])
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || n > math.MaxUint16 {
		return "", lineError(path, 1, "port", port, errors.New("not a port"), remedy)
	}
	return fmt.Sprintf(`# How fenc serve listens. Imported from port.info.

# The address to listen on, host:port. An empty host is every address.
listen = %s
`, quote(fmt.Sprintf("127.0.0.1:%d", n))), nil
}

// quote returns s as a TOML string.
func quote(s string) string {
	var b strings.Builder
	// The encoder writes: s = "..."
	if err := toml.NewEncoder(&b).Encode(map[string]string{"s": s}); err != nil {
		panic(err) // a string always has a form
	}
	return strings.TrimSpace(strings.TrimPrefix(b.String(), "s = "))
}
