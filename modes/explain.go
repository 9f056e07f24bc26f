package modes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"fenc/config"
	"fenc/model"
	"fenc/modes/send"
)

// explainStorage adds to an error of opening the storage what to do about it.
func explainStorage(err error, path string) error {
	if config.AreBuckets(path) {
		return err
	}
	if info, statErr := os.Stat(path); statErr == nil && !info.IsDir() {
		return fmt.Errorf("%w: %s is no folder: name one with --storage, or storage in server.toml", err, path)
	}
	return explainPermission(err, path)
}

// explainDatabase adds to an error of opening the catalogue what to do about it.
func explainDatabase(err error, path string) error {
	if model.IsShared(path) {
		return explainPostgres(err)
	}
	info, statErr := os.Stat(path)
	if statErr == nil && info.IsDir() {
		return fmt.Errorf("%w: %s is a folder: name a file with --database, or database in server.toml", err, path)
	}
	if statErr == nil && !errors.Is(err, fs.ErrPermission) {
		// SQLite says of a file that may not be opened that it has no memory.
		f, openErr := os.OpenFile(path, os.O_RDWR, 0)
		if openErr == nil {
			f.Close()
		} else if errors.Is(openErr, fs.ErrPermission) {
			err = fmt.Errorf("database: %w", openErr)
		}
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		if dir := filepath.Dir(path); !isFolder(dir) {
			return fmt.Errorf("%w: there is no folder %s: make it, or name another file with --database, or database in server.toml", err, dir)
		}
	}
	return explainPermission(err, path)
}

// explainMissing is explainDatabase for a command beside the server, which makes none.
func explainMissing(err error, path string) error {
	if model.IsShared(path) {
		return explainPostgres(err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: name the server's with --database, or with --config its server.toml; fenc serve makes it at its first start", err)
	}
	return explainDatabase(err, path)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// explainListen adds to an error of listening what to do about it.
func explainListen(err error, address string) error {
	choose := "choose another address with --listen, or listen in server.toml"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = send.Reworded(err, fmt.Sprintf("another program listens at %s (address already in use)", address))
		return fmt.Errorf("%w: end it, if it is an old fenc serve, or %s", err, choose)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine has no such address: %s", err, choose)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: fenc runs as %s, who may not listen at this port: %s", err, whoami(), choose)
	}
	return fmt.Errorf("%w: %s", err, choose)
}

// explainPermission says who was denied what, and what denies it, when the file
// system said no. path is what was to be opened, and relative names in the error
// are below it.
func explainPermission(err error, path string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		if below := filepath.Join(path, at.Path); !filepath.IsAbs(at.Path) && exists(below) {
			path = below
		} else if filepath.IsAbs(at.Path) {
			path = at.Path
		}
	}
	return fmt.Errorf("%w: fenc runs as %s, and %s: give that user access, or choose another place", err, whoami(), denying(path))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// denying describes the file or folder at path or, where that cannot be looked at,
// the nearest one above it: it is what says no.
func denying(path string) string {
	path, err := filepath.Abs(path)
	for err == nil {
		info, statErr := os.Stat(path)
		if statErr == nil {
			return fmt.Sprintf("%s has mode %04o%s", path, info.Mode().Perm(), ownerOf(info))
		}
		above := filepath.Dir(path)
		if above == path {
			break
		}
		path = above
	}
	return path + " cannot be looked at"
}

// whoami is the user that this process runs as.
func whoami() string { return userText(os.Getuid()) }

// userText is a user's name and number.
func userText(uid int) string {
	number := strconv.Itoa(uid)
	if u, err := user.LookupId(number); err == nil && u.Username != "" {
		return fmt.Sprintf("user %s (%s)", u.Username, number)
	}
	return "user " + number
}
