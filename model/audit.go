package model

import (
	"cmp"
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
		{tx.Model(&KeptVersion{}), "object"},
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

// Unknown reports whether the catalogue has nothing about an upload or an object, so that
// it can be removed. A database whose place its standby has taken does not know that.
func (c *Catalogue) Unknown(id ID) (unknown bool, err error) {
	look := func(db *gorm.DB) error {
		open, err := stands(db, &Upload{}, "id = ?", id)
		if err != nil {
			return err
		}
		discarded, err := stands(db, &Garbage{}, "object = ?", id)
		if err != nil {
			return err
		}
		counts, err := named(db, id)
		unknown = !open && !discarded && !counts
		return err
	}
	if err = c.read(look); err == nil && unknown {
		err = c.engine.confirm(look)
	}
	return unknown && err == nil, err
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
		change, err := c.engine.numbers(tx, 1)
		if err != nil {
			return err
		}
		return tx.Model(&File{}).Where("id = ? AND change = ?", f.ID, f.Change).
			Updates(map[string]any{"verified": verified, "change": change[0]}).Error
	})
}

// DiscardStray turns an object that no row names to garbage.
func (c *Catalogue) DiscardStray(object ID) error {
	return c.write(everybody, func(tx *gorm.DB) error {
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
// is another's, and ErrPathTaken. Where the catalogue has better and earlier
// versions are kept, the content becomes one of them: earlier is true.
func (c *Catalogue) Adopt(l Label, object ID, pack *ID) (file File, earlier bool, err error) {
	err = c.manageFiles(func(tx *gorm.DB) error {
		if err := c.adoptClient(tx, l); err != nil {
			return err
		}
		file, earlier = File{}, false
		err := tx.Take(&file, "client_id = ? AND file_name = ?", l.Client, l.Name).Error
		switch {
		case errors.Is(err, gorm.ErrRecordNotFound):
			file = File{ClientID: l.Client, FileName: l.Name}
			if err := c.choosePath(tx, &file, Upload{Path: l.Path, Client: &Client{Folder: l.Folder}}); err != nil {
				return err
			}
		case err != nil:
			return err
		case file.Object == object:
			return nil // by a try whose outcome nobody was told
		case !file.yields(l):
			if earlier, err = c.adoptEarlier(tx, file, l, object, pack); err != nil || !earlier {
				return cmp.Or(err, ErrOlder)
			}
			return nil
		default:
			var client Client
			if err := tx.Take(&client, "id = ?", l.Client).Error; err != nil {
				return err
			}
			if err := c.supersede(tx, client, file); err != nil {
				return err
			}
		}
		change, err := c.engine.numbers(tx, 1)
		if err != nil {
			return err
		}
		file.Object, file.Size, file.Checksum, file.Digest, file.Protocol = object, l.Size, l.Checksum, l.Digest, l.Protocol
		file.ModTime, file.Mode, file.Pack, file.PackOffset = l.ModTime, l.Mode, pack, l.Offset
		file.Verified, file.ReceivedAt, file.Change = true, Time{l.ReceivedAt}, change[0]
		file.Version = max(file.Version, l.Version)
		if err := c.holdAdopted(tx, object, pack); err != nil {
			return err
		}
		return tx.Omit(clause.Associations).Save(&file).Error
	})
	return file, earlier, err
}

// holdAdopted records the pack that adopted content lies in, and forgets the rows
// that an older catalogue has of it, from before it was verified.
func (c *Catalogue) holdAdopted(tx *gorm.DB, object ID, pack *ID) error {
	holder := object
	if pack != nil {
		holder = *pack
		made := Pack{ID: *pack, MadeAt: Time{c.now()}}
		if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&made).Error; err != nil {
			return err
		}
	}
	if err := tx.Delete(&Garbage{}, "object = ?", holder).Error; err != nil {
		return err
	}
	return forgetUpload(tx, holder)
}

// adoptEarlier makes content an earlier version of the file that stands under its
// name, if such are kept of its client and this one is not there.
func (c *Catalogue) adoptEarlier(tx *gorm.DB, file File, l Label, object ID, pack *ID) (bool, error) {
	var client Client
	if err := tx.Take(&client, "id = ?", l.Client).Error; err != nil {
		return false, err
	}
	if c.keeps(client) == 0 || l.Version >= file.Version {
		return false, nil
	}
	kept := KeptVersion{
		FileID: file.ID, Version: l.Version, ClientID: l.Client, Size: l.Size, Checksum: l.Checksum, Digest: l.Digest, ModTime: l.ModTime, Mode: l.Mode,
		Object: object, Pack: pack, PackOffset: l.Offset, Protocol: l.Protocol, ReceivedAt: Time{l.ReceivedAt}, ReplacedAt: Time{c.now()},
	}
	made := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&kept)
	if made.Error != nil {
		return false, made.Error
	}
	if made.RowsAffected == 0 { // unless by a try whose outcome nobody was told
		return stands(tx, &KeptVersion{}, "file_id = ? AND version = ? AND object = ?", file.ID, l.Version, object)
	}
	return true, c.holdAdopted(tx, object, pack)
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
