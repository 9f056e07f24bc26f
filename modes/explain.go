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
	"fenc/model/storage"
	"fenc/modes/archive"
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
// Neither does a server make one where a storage tells of one that is lost.
func explainMissing(err error, settings config.Server) error {
	missing := errors.Is(err, fs.ErrNotExist) || errors.Is(err, model.ErrNoCatalogue)
	switch shared := settings.InPostgres(); {
	case missing && hasFiles(settings) && shared:
		return fmt.Errorf("%w, and %s has what clients sent: name its database with --database, or with --config its server.toml, or restore it from its backup", err, settings.Storage)
	case missing && hasFiles(settings):
		return fmt.Errorf("%w, and %s has what clients sent: name its database with --database, or with --config its server.toml, restore it from a backup, or make it anew with fenc check --rebuild", err, settings.Storage)
	case shared:
		return explainPostgres(err)
	case missing:
		return fmt.Errorf("%w: name the server's with --database, or with --config its server.toml; fenc serve makes it at its first start", err)
	}
	return explainDatabase(err, settings.Database)
}

// hasFiles reports whether there is a storage, in a folder, that clients have used.
func hasFiles(settings config.Server) bool {
	if settings.InBuckets() {
		return false
	}
	store, err := storage.OpenBeside(settings.Storage)
	if err != nil {
		return false
	}
	defer store.Close()
	used, err := archive.Used(store)
	return err == nil && used
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
