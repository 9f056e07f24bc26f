package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// privateKey is what the secret in me.toml and in the server's key is called.
const privateKey = "the private key"

// maxFile is the size of a settings file, in bytes.
const maxFile = 1 << 20

// readFile returns the content of a settings file. One that holds a secret, which is
// what it is called, must be a regular file that only its owner may read.
func readFile(path, secret string) ([]byte, error) {
	flag := os.O_RDONLY
	if secret != "" && runtime.GOOS != "windows" {
		flag |= syscall.O_NONBLOCK // or opening a FIFO would wait for its writer
	}
	f, err := os.OpenFile(path, flag, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w; check the path", path, fs.ErrNotExist)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: %w; make it readable for the user who runs fenc", path, fs.ErrPermission)
	case err != nil:
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the descriptor: the path may lead elsewhere by now
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		return nil, fmt.Errorf("%s: a directory; name a file", path)
	case secret != "" && !mode.IsRegular():
		return nil, fmt.Errorf("%s: not a regular file; name one", path)
	case secret != "" && runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 && !isCredential(path):
		return nil, fmt.Errorf("%s: mode %#o lets others at %s; run: chmod 600 %s", path, mode.Perm(), secret, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: over %v; this is no settings file", path, Size(maxFile))
	}
	return data, nil
}

// credentialsDirectory is the variable by which systemd tells a service where its
// credentials are.
const credentialsDirectory = "CREDENTIALS_DIRECTORY"

// isCredential reports whether path is one of systemd's credentials. Their folder is
// the service's alone, and their mode shows rights to the group where systemd has
// given the user access by an ACL.
func isCredential(path string) bool {
	dir := os.Getenv(credentialsDirectory)
	info, err := os.Stat(dir)
	return err == nil && info.Mode().Perm()&0o022 == 0 && filepath.IsAbs(dir) && filepath.Dir(path) == filepath.Clean(dir)
}
