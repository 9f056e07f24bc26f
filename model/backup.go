package model

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// Backup writes a copy of the catalogue, as it stands at one moment, into a new
// file at path, mode 0600, beside whoever writes the catalogue. The copy is
// checked and durable when Backup returns; after an error there is none. A file
// that is there already, or another backup under way to the same path, is an error
// that wraps fs.ErrExist.
//
// See https://sqlite.org/lang_vacuum.html, VACUUM INTO.
func (c *Catalogue) Backup(path string) (err error) {
	unfinished := path + ".part"
	f, err := os.OpenFile(unfinished, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) // SQLite would make it for everybody; it takes an empty one
	if err != nil {
		return fmt.Errorf("back up the catalogue: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("back up the catalogue: %w", errors.Join(err, os.Remove(unfinished)))
		}
	}()
	defer f.Close()
	if err := c.db.Exec("VACUUM INTO ?", unfinished).Error; err != nil {
		return err
	}
	if err := checkCopy(unfinished); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Link(unfinished, path); err != nil { // unlike a rename it replaces nothing
		if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if _, err := os.Lstat(path); err == nil {
			return &fs.PathError{Op: "back up", Path: path, Err: fs.ErrExist}
		}
		if err := os.Rename(unfinished, path); err != nil {
			return err
		}
		return syncFolder(filepath.Dir(path))
	}
	return errors.Join(os.Remove(unfinished), syncFolder(filepath.Dir(path)))
}

// checkCopy reads the whole copy.
func checkCopy(path string) error {
	db, err := gorm.Open(sqlite.Open(sqliteDSN(path, true)), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	var verdicts []string
	err = errors.Join(db.Raw("PRAGMA integrity_check(1)").Scan(&verdicts).Error, pool.Close())
	if err == nil && strings.Join(verdicts, "") != "ok" {
		err = fmt.Errorf("the copy is damaged: %s", strings.Join(verdicts, "; "))
	}
	return err
}

// syncFolder makes a folder's entries durable; where a folder cannot be synced,
// the system does so itself.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
