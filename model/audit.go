package model

import (
	"errors"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// What an audit asks and mends, from a process of its own, beside the server or
// without it. Each change of a file is counted like an operator's other changes,
// so that a running server takes it over; see Reload.

const settingManagedFiles = "managed_files"

// manageFiles is manage for changes of files.
func (c *Catalogue) manageFiles(do func(tx *gorm.DB) error) error {
	return c.manage(func(tx *gorm.DB) error {
		if err := do(tx); err != nil {
			return err
		}
		n, err := settingValue(tx, settingManagedFiles)
		if err != nil {
			return err
		}
		return saveSetting(tx, settingManagedFiles, n+1)
	})
}

// reloadFiles takes over files that another process has changed.
func (c *Catalogue) reloadFiles() error {
	var managed int64
	err := c.read(func(db *gorm.DB) (err error) {
		managed, err = settingValue(db, settingManagedFiles)
		return err
	})
	if err != nil || managed == c.managedFiles.Load() {
		return err
	}
	for {
		files, err := c.FilesSince(c.filesSeen.Load(), 1000)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			c.managedFiles.Store(managed)
			return nil
		}
		c.mirrorFiles(files...)
		c.filesSeen.Store(files[len(files)-1].Change)
	}
}

// FilesAfter lists files by their rows' numbers, each with its client: those
// after the one numbered after, at most limit.
func (c *Catalogue) FilesAfter(after int64, limit int) ([]File, error) {
	var files []File
	err := c.read(func(db *gorm.DB) error {
		return db.Preload("Client").Order("id").Limit(limit).Find(&files, "id > ?", after).Error
	})
	return files, err
}

// Objects returns the ids of all objects that some row counts on: of files, packs
// and uploads being sealed. It holds them in memory, 16 bytes each and more.
func (c *Catalogue) Objects() (map[ID]struct{}, error) {
	all := make(map[ID]struct{})
	err := c.read(func(db *gorm.DB) error {
		for _, named := range objectRows(db) {
			rows, err := named.query.Select(named.column).Rows()
			if err != nil {
				return err
			}
			for rows.Next() {
				var id ID
				if err := rows.Scan(&id); err != nil {
					return errors.Join(err, rows.Close())
				}
				all[id] = struct{}{}
			}
			if err := errors.Join(rows.Err(), rows.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

type objectRow struct {
	query  *gorm.DB
	column string
}

// objectRows are where ids of objects stand that count.
func objectRows(tx *gorm.DB) []objectRow {
	return []objectRow{
		{tx.Model(&Upload{}).Where("state = ?", UploadSealing), "id"},
		{tx.Model(&Pack{}), "id"},
		{tx.Model(&File{}), "object"},
	}
}

// named reports whether some row counts on the object.
func named(tx *gorm.DB, object ID) (bool, error) {
	for _, row := range objectRows(tx) {
		var n int64
		if err := row.query.Where(row.column+" = ?", object).Limit(1).Count(&n).Error; err != nil || n > 0 {
			return n > 0, err
		}
	}
	return false, nil
}

// Standing says what the catalogue has about an object that was found.
type Standing struct {
	Named     bool      // a row counts on it
	Discarded time.Time // since when it is to be removed, or reserved; zero: it is neither
}

// Standing returns what the catalogue has about an object.
func (c *Catalogue) Standing(object ID) (s Standing, err error) {
	err = c.read(func(db *gorm.DB) (err error) {
		if s.Named, err = named(db, object); err != nil {
			return err
		}
		var rows []Garbage
		if err := db.Limit(1).Find(&rows, "object = ?", object).Error; err != nil || len(rows) == 0 {
			return err
		}
		s.Discarded = rows[0].Since.Time
		return nil
	})
	return s, err
}

// Supersedes reports whether the content of the label is better than what the
// catalogue has under its name: newer, and not the same.
func (c *Catalogue) Supersedes(l Label) (yes bool, err error) {
	err = c.read(func(db *gorm.DB) error {
		var files []File
		if err := db.Limit(1).Find(&files, "client_id = ? AND file_name = ?", l.Client, l.Name).Error; err != nil {
			return err
		}
		yes = len(files) == 0 || files[0].yields(l)
		return nil
	})
	return yes, err
}

// yields reports whether the label's content should take the file's place.
func (f File) yields(l Label) bool {
	return !f.Verified || f.Version < l.Version && !f.holds(l.Size, l.Digest)
}

// PathsKnown returns those of the paths below the storage at which a file of the
// catalogue stands.
func (c *Catalogue) PathsKnown(paths []string) (map[string]bool, error) {
	known := make(map[string]bool)
	err := c.read(func(db *gorm.DB) error {
		for part := range slices.Chunk(paths, 500) {
			var found []string
			if err := db.Model(&File{}).Where("file_path IN ?", part).Pluck("file_path", &found).Error; err != nil {
				return err
			}
			for _, p := range found {
				known[p] = true
			}
		}
		return nil
	})
	return known, err
}

// Judge records whether a file's content is there and right, unless the file has
// been replaced since f was read.
func (c *Catalogue) Judge(f File, verified bool) error {
	return c.manageFiles(func(tx *gorm.DB) error {
		change, err := nextChange(tx)
		if err != nil {
			return err
		}
		return tx.Model(&File{}).Where("id = ? AND change = ?", f.ID, f.Change).
			Updates(map[string]any{"verified": verified, "change": change}).Error
	})
}

// DiscardStray turns an object that no row names to garbage.
func (c *Catalogue) DiscardStray(object ID) error {
	return c.write(func(tx *gorm.DB) error {
		if yes, err := named(tx, object); err != nil || yes {
			return err
		}
		return discardObjects(tx, Time{c.now()}, object)
	})
}

// ErrOlder: the catalogue has a version of the file at least as new.
var ErrOlder = errors.New("a newer version is catalogued")

// Adopt makes content that no row names the verified file that its label says,
// whose digest the caller has proved. pack is where the content lies among that
// of others; nil: object has it. A client that the catalogue does not know is
// recorded without a key and revoked: see InviteRekey. Adopt returns ErrOlder
// where the catalogue has better, ErrNameTaken where the client's name or folder
// is another's, and ErrPathTaken.
func (c *Catalogue) Adopt(l Label, object ID, pack *ID) (File, error) {
	var file File
	err := c.manageFiles(func(tx *gorm.DB) error {
		if err := c.adoptClient(tx, l); err != nil {
			return err
		}
		file = File{}
		err := tx.Take(&file, "client_id = ? AND file_name = ?", l.Client, l.Name).Error
		switch {
		case errors.Is(err, gorm.ErrRecordNotFound):
			file = File{ClientID: l.Client, FileName: l.Name}
			if err := c.choosePath(tx, &file, Upload{Path: l.Path, Client: &Client{Folder: l.Folder}}); err != nil {
				return err
			}
		case err != nil:
			return err
		case !file.yields(l):
			return ErrOlder
		default:
			if err := discardObjects(tx, Time{c.now()}, file.Object); err != nil {
				return err
			}
		}
		if pack != nil {
			made := Pack{ID: *pack, MadeAt: Time{c.now()}}
			if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&made).Error; err != nil {
				return err
			}
		}
		change, err := nextChange(tx)
		if err != nil {
			return err
		}
		file.Object, file.Size, file.Checksum, file.Digest, file.Protocol = object, l.Size, l.Checksum, l.Digest, l.Protocol
		file.ModTime, file.Mode, file.Pack, file.PackOffset = l.ModTime, l.Mode, pack, l.Offset
		file.Verified, file.ReceivedAt, file.Change = true, Time{l.ReceivedAt}, change
		file.Version = max(file.Version, l.Version)
		// Rows that an older catalogue has of it, from before it was verified.
		holder := object
		if pack != nil {
			holder = *pack
		}
		if err := tx.Delete(&Garbage{}, "object = ?", holder).Error; err != nil {
			return err
		}
		if err := forgetUpload(tx, holder); err != nil {
			return err
		}
		return tx.Omit(clause.Associations).Save(&file).Error
	})
	return file, err
}

// adoptClient records the client of a label, where it is not known.
func (c *Catalogue) adoptClient(tx *gorm.DB, l Label) error {
	var known, taken int64
	if err := tx.Model(&Client{}).Where("id = ?", l.Client).Count(&known).Error; err != nil || known > 0 {
		return err
	}
	key := Fold(l.Folder)
	if err := tx.Model(&Client{}).Where("name = ? OR folder_key = ?", l.ClientName, key).Count(&taken).Error; err != nil {
		return err
	}
	if taken > 0 {
		return ErrNameTaken
	}
	now := Time{c.now()}
	return tx.Create(&Client{
		ID: l.Client, Name: l.ClientName, Protocol: l.Protocol, Rights: AllRights, RevokedAt: now,
		Folder: l.Folder, FolderKey: key, RegisteredAt: Time{l.ReceivedAt.Truncate(time.Second)}, LastSeen: now,
	}).Error
}

// settingValue returns the number that the catalogue keeps under a name, 0 if none.
func settingValue(tx *gorm.DB, name string) (int64, error) {
	var rows []setting
	if err := tx.Limit(1).Find(&rows, "name = ?", name).Error; err != nil || len(rows) == 0 {
		return 0, err
	}
	return rows[0].Value, nil
}
