package model

import (
	"errors"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// A catalogue is copied into another one, which has nothing else in it and is marked
// until the copy is complete. Numbers of rows and changes stay as they are. A copy that
// was interrupted is gone on with: what has changed in between is copied again.

var (
	// ErrNotEmpty: the catalogue that a copy should go to has something in it.
	ErrNotEmpty = errors.New("the catalogue is not empty")
	// ErrOtherCopy: the catalogue is an unfinished copy of another one.
	ErrOtherCopy = errors.New("the catalogue is an unfinished copy of another one")
	// ErrUnfinished: the catalogue is an unfinished copy.
	ErrUnfinished = errors.New("the catalogue is an unfinished copy")
	// ErrOneName: the storage takes two paths for the same.
	ErrOneName = errors.New("the storage's file system takes two paths for one")
)

func init() { refusals = append(refusals, ErrNotEmpty, ErrOtherCopy, ErrUnfinished, ErrOneName) }

// settingCopying stands in an unfinished copy; its text is the Identity of what is
// copied.
const settingCopying = "copying"

// copyAtOnce is how many rows are read and written at once.
const copyAtOnce = 500

// Identity tells catalogues apart: by the client that registered first, whose id no
// other has.
func (c *Catalogue) Identity() (string, error) {
	var first []Client
	err := c.read(func(db *gorm.DB) error { return db.Order("registered_at, id").Limit(1).Find(&first).Error })
	if err != nil || len(first) == 0 {
		return "no clients", err
	}
	return first[0].ID.String(), nil
}

// Copying returns the Identity of what this catalogue is an unfinished copy of; empty
// where it is none.
func (c *Catalogue) Copying() (of string, err error) {
	err = c.read(func(db *gorm.DB) error {
		var marks []setting
		err := db.Limit(1).Find(&marks, "name = ?", settingCopying).Error
		if len(marks) > 0 {
			of = marks[0].Text
		}
		return err
	})
	return of, err
}

// BeginCopy marks the catalogue as an unfinished copy of the one with this Identity. It
// returns ErrNotEmpty or ErrOtherCopy where it cannot be.
func (c *Catalogue) BeginCopy(of string) error {
	return c.write(everybody, func(tx *gorm.DB) error {
		var marks []setting
		if err := tx.Limit(1).Find(&marks, "name = ?", settingCopying).Error; err != nil {
			return err
		}
		if len(marks) > 0 {
			if marks[0].Text != of {
				return ErrOtherCopy
			}
			return nil
		}
		for _, table := range []any{&Client{}, &File{}, &Upload{}, &Pack{}, &Invite{}, &KeptVersion{}, &Event{}} {
			if yes, err := stands(tx, table, "1 = 1"); err != nil {
				return err
			} else if yes {
				return ErrNotEmpty
			}
		}
		return tx.Create(&setting{Name: settingCopying, Text: of}).Error
	})
}

// CopyState is what changes when a catalogue does.
type CopyState struct{ Change, Managed, Files int64 }

// CopyState returns what a copy compares, to see that nobody serves what it reads.
func (c *Catalogue) CopyState() (s CopyState, err error) {
	err = c.read(func(db *gorm.DB) (err error) {
		if s.Change, err = newestChange(db); err != nil {
			return err
		}
		if s.Managed, err = managed(db); err != nil {
			return err
		}
		return db.Model(&File{}).Count(&s.Files).Error
	})
	return s, err
}

// CopyTotals is what there is to copy, and what is not: open uploads.
type CopyTotals struct{ Clients, Files, Versions, Bytes, Uploads int64 }

// CopyTotals counts what a copy takes over.
func (c *Catalogue) CopyTotals() (t CopyTotals, err error) {
	err = c.read(func(db *gorm.DB) error {
		return db.Raw(`SELECT (SELECT COUNT(*) FROM clients) AS clients, (SELECT COUNT(*) FROM files) AS files,
			(SELECT COUNT(*) FROM versions) AS versions, (SELECT COUNT(*) FROM uploads) AS uploads,
			(SELECT COALESCE(SUM(size), 0) FROM files) + (SELECT COALESCE(SUM(size), 0) FROM versions) AS bytes`).Scan(&t).Error
	})
	return t, err
}

// othersFor and look are how long, and how often, Served looks.
const (
	othersFor = 1500 * time.Millisecond // servers ask for changes twice a second
	look      = 250 * time.Millisecond
)

// Served reports whether another process works with the catalogue at this moment, as
// far as that can be seen: in PostgreSQL, where it shows the connections of fenc.
func (c *Catalogue) Served() (yes bool, err error) {
	if !c.Shared() {
		return false, nil
	}
	var since Time
	if err := c.read(func(db *gorm.DB) (err error) { since, err = c.engine.clock(db); return err }); err != nil {
		return false, err
	}
	for end := time.Now().Add(othersFor); !yes && time.Now().Before(end); time.Sleep(look) {
		err = c.read(func(db *gorm.DB) error {
			return db.Raw("SELECT COUNT(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = ? AND state_change > ?",
				programName, since).Row().Scan(&yes)
		})
		if err != nil {
			return false, err
		}
	}
	return yes, nil
}

// Retract removes from an unfinished copy what its source has not, or not any more,
// and brings what it has up to date. Objects turn to garbage. hide is called with each
// file before it goes.
func (c *Catalogue) Retract(from *Catalogue, hide func(File) error) error {
	if err := c.retractFiles(from, hide); err != nil {
		return err
	}
	for _, retract := range []func(*Catalogue) error{c.retractVersions, c.retractClients} {
		if err := retract(from); err != nil {
			return err
		}
	}
	return c.DropEmptyPacks()
}

func (c *Catalogue) retractFiles(from *Catalogue, hide func(File) error) error {
	for after := int64(0); ; {
		var have []File
		if err := c.read(func(db *gorm.DB) error {
			return db.Order("id").Limit(copyAtOnce).Find(&have, "id > ?", after).Error
		}); err != nil || len(have) == 0 {
			return err
		}
		ids := make([]int64, len(have))
		for i, f := range have {
			ids[i] = f.ID
		}
		after = ids[len(ids)-1]
		var files []File
		if err := from.read(func(db *gorm.DB) error { return db.Find(&files, "id IN ?", ids).Error }); err != nil {
			return err
		}
		source := make(map[int64]File, len(files))
		for _, f := range files {
			source[f.ID] = f
		}
		var gone []int64
		var objects []ID
		var changed []File
		for _, f := range have {
			now, there := source[f.ID]
			if !there || now.Object != f.Object || !now.Verified || !f.Verified {
				if err := hide(f); err != nil {
					return err
				}
				gone, objects = append(gone, f.ID), append(objects, f.Object)
				continue
			}
			now.Pack, now.PackOffset, now.PathKey, now.Client = f.Pack, f.PackOffset, f.PathKey, nil
			if now.ModTime != f.ModTime || now.Mode != f.Mode || now.Change != f.Change {
				changed = append(changed, now)
			}
		}
		if len(gone)+len(changed) == 0 {
			continue
		}
		err := c.write(everybody, func(tx *gorm.DB) error {
			for i := range changed {
				if err := tx.Omit(clause.Associations).Save(&changed[i]).Error; err != nil {
					return err
				}
			}
			if err := tx.Delete(&File{}, "id IN ?", gone).Error; err != nil {
				return err
			}
			return discardObjects(tx, Time{c.now()}, objects...)
		})
		if err != nil {
			return err
		}
	}
}

func (c *Catalogue) retractVersions(from *Catalogue) error {
	type at struct{ file, version int64 }
	for last := (at{}); ; {
		var have []KeptVersion
		if err := c.read(func(db *gorm.DB) error {
			return db.Order("file_id, version").Limit(copyAtOnce).
				Find(&have, "file_id > ? OR file_id = ? AND version > ?", last.file, last.file, last.version).Error
		}); err != nil || len(have) == 0 {
			return err
		}
		ids := make([]int64, len(have))
		for i, k := range have {
			ids[i], last = k.FileID, at{k.FileID, k.Version}
		}
		var kept []KeptVersion
		if err := from.read(func(db *gorm.DB) error { return db.Find(&kept, "file_id IN ?", ids).Error }); err != nil {
			return err
		}
		source := make(map[at]ID, len(kept))
		for _, k := range kept {
			source[at{k.FileID, k.Version}] = k.Object
		}
		err := c.write(everybody, func(tx *gorm.DB) error {
			for _, k := range have {
				if object, there := source[at{k.FileID, k.Version}]; there && object == k.Object {
					continue
				}
				if err := tx.Delete(&KeptVersion{}, "file_id = ? AND version = ?", k.FileID, k.Version).Error; err != nil {
					return err
				}
				if err := discardObjects(tx, Time{c.now()}, k.Object); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

func (c *Catalogue) retractClients(from *Catalogue) error {
	for after := (ID{}); ; {
		var have, still []ID
		if err := c.read(func(db *gorm.DB) error {
			return db.Model(&Client{}).Order("id").Limit(copyAtOnce).Where("id > ?", after).Pluck("id", &have).Error
		}); err != nil || len(have) == 0 {
			return err
		}
		after = have[len(have)-1]
		if err := from.read(func(db *gorm.DB) error {
			return db.Model(&Client{}).Where("id IN ?", have).Pluck("id", &still).Error
		}); err != nil {
			return err
		}
		if len(still) == len(have) {
			continue
		}
		err := c.write(everybody, func(tx *gorm.DB) error {
			return tx.Where("id IN ? AND id NOT IN ?", have, append(still, ID{})).Delete(&Client{}).Error
		})
		if err != nil {
			return err
		}
	}
}
