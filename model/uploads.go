package model

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Begin writes the row of a new upload of protocol 3, in state open, before any byte
// of it arrives. u names the client, the file, its paths, the size at most and the
// protocol; Begin gives it its id. It returns ErrRevoked, ErrNotAllowed, ErrQuota or
// ErrManyFiles where the client may not.
func (c *Catalogue) Begin(u Upload, bounds Bounds) (Upload, error) {
	u.ID, u.State, u.StartedAt = NewID(), UploadOpen, Time{c.now()}
	err := c.write(of(u.ClientID), once(func(tx *gorm.DB) error {
		if err := admitUpload(tx, u, bounds); err != nil {
			return err
		}
		return tx.Create(&u).Error
	}, func(tx *gorm.DB) (bool, error) { return stands(tx, &Upload{}, "id = ?", u.ID) }))
	if err != nil {
		return Upload{}, begun(err)
	}
	return u, nil
}

// Sums are the checksums of content, each zero where the protocol has none of
// its kind.
type Sums struct {
	CRC32  uint32 // IEEE; protocol 3
	BLAKE3 Hash   // protocol 4
}

// Abandon forgets an upload whose bytes are gone. It does not touch one that its
// sender has verified; forgetting one that is not there is no error.
func (c *Catalogue) Abandon(id ID) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		gone := tx.Delete(&Upload{}, "id = ? AND state = ?", id, UploadOpen)
		if gone.Error != nil || gone.RowsAffected == 0 {
			return gone.Error
		}
		return tx.Delete(&Chunk{}, "upload_id = ?", id).Error
	})
}

// Discard forgets an open upload, as Abandon does, and turns what the storage has of
// it to garbage in the same transaction. One that has been sealed stays as it is. gone
// is false as well where a try whose outcome nobody was told may have done it: that may
// have been at another database.
func (c *Catalogue) Discard(id ID) (gone bool, err error) {
	err = c.write(nobody, func(tx *gorm.DB) error {
		deleted := tx.Delete(&Upload{}, "id = ? AND state = ?", id, UploadOpen)
		if gone = deleted.RowsAffected > 0; !gone || deleted.Error != nil {
			return deleted.Error
		}
		if err := tx.Delete(&Chunk{}, "upload_id = ?", id).Error; err != nil {
			return err
		}
		return discardObjects(tx, Time{c.now()}, id)
	})
	return gone && err == nil, err
}

// Upload returns the row of an upload, open or sealed; ok is false where there is none.
func (c *Catalogue) Upload(id ID) (u Upload, ok bool, err error) {
	var found []Upload
	err = c.read(func(db *gorm.DB) error { return db.Limit(1).Find(&found, "id = ?", id).Error })
	if err != nil || len(found) == 0 {
		return Upload{}, false, err
	}
	return found[0], true, nil
}

// OpenStreams lists open uploads of protocol 3 that were begun before t, each with its
// client, at most limit.
func (c *Catalogue) OpenStreams(t time.Time, limit int) ([]Upload, error) {
	var uploads []Upload
	err := c.read(func(db *gorm.DB) error {
		return db.Preload("Client").Order("started_at, id").Limit(limit).
			Find(&uploads, "state = ? AND protocol < 4 AND started_at < ?", UploadOpen, Time{t}).Error
	})
	return uploads, err
}

// Seal records that the sender has verified the upload: from here on a crash
// completes it. epoch is the number of the caller's lease, 0 without one. Seal
// returns ErrNoUpload unless the upload is open, or sealed already with the same
// sums, and not leased by somebody else.
func (c *Catalogue) Seal(id ID, size int64, sums Sums, epoch int64) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		open := tx.Model(&Upload{}).Where("id = ? AND state = ?", id, UploadOpen)
		if epoch != 0 {
			open = open.Where("epoch = ?", epoch)
		}
		done := open.Updates(map[string]any{"state": UploadSealing, "size": size, "checksum": sums.CRC32, "digest": sums.BLAKE3})
		if done.Error != nil || done.RowsAffected > 0 {
			return done.Error
		}
		u, err := uploadOf(tx, id)
		if err != nil {
			return err
		}
		same := u.State == UploadSealing && u.Size == size && u.Checksum == sums.CRC32 && u.Digest == sums.BLAKE3
		if !same || epoch != 0 && u.Epoch != epoch {
			return ErrNoUpload
		}
		return nil
	})
}

// Commit is the commit point: in one transaction the sealed upload becomes the
// file of its name, its content takes the place of the one before, which turns to
// garbage, and the upload's row goes. The content must be durable already. tree,
// unless nil, is kept with the content. epoch is the number of the caller's lease, 0
// without one.
//
// A file that has a path in the tree keeps it; a new one gets the upload's path or
// its spare one. Commit returns ErrPathTaken if other files hold both,
// ErrNoUpload unless the upload is sealed and not leased by somebody else, ErrRevoked if its client was revoked
// meanwhile, and ErrNoReplace if another content stands under the name and the
// client may not replace it. The same content under the same name is no error: the
// file stays, and the upload's object turns to garbage. An upload that has been
// committed before is no error either: Commit returns what it became.
func (c *Catalogue) Commit(id ID, tree *Tree, epoch int64) (File, error) {
	return c.commitUpload(id, tree, epoch, false)
}

// CommitInterrupted is Commit for an upload whose sender was never answered: what
// has been written under its name since it began stays. Then it returns ErrOlder.
func (c *Catalogue) CommitInterrupted(id ID, tree *Tree, epoch int64) (File, error) {
	return c.commitUpload(id, tree, epoch, true)
}

func (c *Catalogue) commitUpload(id ID, tree *Tree, epoch int64, interrupted bool) (File, error) {
	var file File
	var seen Upload // by a try whose outcome nobody was told
	err := c.write(ofUpload(id), func(tx *gorm.DB) error {
		file = File{}
		var u Upload
		err := tx.Preload("Client").Take(&u, "id = ? AND state = ?", id, UploadSealing).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			file, err = became(tx, id, seen)
			return err
		}
		if err != nil {
			return err
		}
		if epoch != 0 && u.Epoch != epoch {
			return ErrNoUpload
		}
		seen = u
		if !u.Client.RevokedAt.IsZero() {
			return ErrRevoked
		}
		err = tx.Take(&file, "client_id = ? AND file_name = ?", u.ClientID, u.FileName).Error
		switch {
		case errors.Is(err, gorm.ErrRecordNotFound):
			file = File{ClientID: u.ClientID, FileName: u.FileName}
			if err := c.choosePath(tx, &file, u); err != nil {
				return err
			}
		case err != nil:
			return err
		case interrupted && file.ReceivedAt.After(u.StartedAt.Time):
			return ErrOlder
		case file.holds(u.Size, u.Digest):
			return c.keepStanding(tx, &file, u)
		case u.Client.Rights&RightReplace == 0:
			return ErrNoReplace
		default:
			if err := c.supersede(tx, *u.Client, file); err != nil {
				return err
			}
		}
		change, err := c.engine.numbers(tx, 1)
		if err != nil {
			return err
		}
		file.Object, file.Size, file.Checksum, file.Protocol = u.ID, u.Size, u.Checksum, u.Protocol
		file.Digest, file.ModTime, file.Mode, file.Pack, file.PackOffset = u.Digest, u.ModTime, u.Mode, nil, 0
		file.Verified, file.ReceivedAt = true, Time{c.now()}
		file.Version++
		file.Change = change[0]
		if err := tx.Omit(clause.Associations).Save(&file).Error; err != nil {
			return err
		}
		if tree != nil {
			if err := tx.Create(&Tree{Object: u.ID, ChunkSize: tree.ChunkSize, Hashes: tree.Hashes}).Error; err != nil {
				return err
			}
		}
		if err := c.record(tx, EventVerified, file.ReceivedAt, map[ID]Client{u.ClientID: *u.Client}, file); err != nil {
			return err
		}
		return forgetUpload(tx, id)
	})
	if err != nil {
		return File{}, fmt.Errorf("commit upload: %w", err)
	}
	c.view.putFiles(file)
	c.announce()
	return file, nil
}

// became returns the file that an upload was committed as, or whose content it was
// the same as; ErrNoUpload where it was not committed. seen is the upload as it was,
// where that is known.
func became(tx *gorm.DB, id ID, seen Upload) (File, error) {
	var files []File
	if err := tx.Limit(1).Find(&files, "object = ?", id).Error; err != nil || len(files) > 0 {
		return append(files, File{})[0], err
	}
	var kept []KeptVersion
	if err := tx.Limit(1).Find(&kept, "object = ?", id).Error; err != nil {
		return File{}, err
	}
	if len(kept) > 0 {
		if err := tx.Limit(1).Find(&files, "id = ?", kept[0].FileID).Error; err != nil || len(files) > 0 {
			return kept[0].as(append(files, File{})[0]), err
		}
	}
	if !seen.ID.IsZero() {
		err := tx.Limit(1).Find(&files, "client_id = ? AND file_name = ?", seen.ClientID, seen.FileName).Error
		if err != nil || len(files) > 0 && files[0].holds(seen.Size, seen.Digest) {
			return append(files, File{})[0], err
		}
	}
	return File{}, ErrNoUpload
}

// holds reports whether the file is verified content of this size and BLAKE3
// digest.
func (f File) holds(size int64, digest Hash) bool {
	return f.Verified && !digest.IsZero() && f.Digest == digest && f.Size == size
}

// keepStanding ends an upload of what is there already: its times and mode are
// taken, its object is garbage.
func (c *Catalogue) keepStanding(tx *gorm.DB, file *File, u Upload) error {
	file.ModTime, file.Mode = u.ModTime, u.Mode
	err := tx.Model(&File{}).Where("id = ?", file.ID).Updates(map[string]any{"mod_time": u.ModTime, "mode": u.Mode}).Error
	if err != nil {
		return err
	}
	if err := discardObjects(tx, Time{c.now()}, u.ID); err != nil {
		return err
	}
	return forgetUpload(tx, u.ID)
}

// settingChange is the number of the newest change when files were last removed,
// with which its row may have gone: numbers are not used again.
const settingChange = "change"

func newestChange(tx *gorm.DB) (int64, error) {
	var newest int64
	if err := tx.Model(&File{}).Select("COALESCE(MAX(change), 0)").Scan(&newest).Error; err != nil {
		return 0, err
	}
	removed, err := settingValue(tx, settingChange)
	return max(newest, removed), err
}

// forgetUpload removes the row of an upload and those of its chunks.
func forgetUpload(tx *gorm.DB, id ID) error {
	if err := tx.Delete(&Chunk{}, "upload_id = ?", id).Error; err != nil {
		return err
	}
	return tx.Delete(&Upload{}, "id = ?", id).Error
}

// choosePath sets the first of the upload's paths that no other file holds and
// that needs no file to be a folder as well.
func (c *Catalogue) choosePath(tx *gorm.DB, file *File, u Upload) error {
	for _, p := range []string{u.Path, u.SparePath} {
		if p == "" {
			continue
		}
		whole := path.Join(u.Client.Folder, p)
		key := c.fold(whole)
		from, to := below(key)
		var clashes int64
		err := tx.Model(&File{}).
			Where("path_key IN ? OR path_key >= ? AND path_key < ?", append(ancestors(key), key), from, to).
			Count(&clashes).Error
		if err != nil {
			return err
		}
		if clashes == 0 {
			file.FilePath, file.PathKey = whole, key
			return nil
		}
	}
	return ErrPathTaken
}

// Uploads lists the uploads in a state, oldest first, each with its client.
func (c *Catalogue) Uploads(state UploadState) ([]Upload, error) {
	var uploads []Upload
	err := c.read(func(db *gorm.DB) error {
		return db.Preload("Client").Order("started_at, id").Find(&uploads, "state = ?", state).Error
	})
	return uploads, err
}

// FilesSince lists the files committed after the change numbered after, in the
// order of their commits, at most limit of them.
func (c *Catalogue) FilesSince(after int64, limit int) ([]File, error) {
	var files []File
	err := c.read(func(db *gorm.DB) error {
		return db.Order("change").Limit(limit).Find(&files, "change > ?", after).Error
	})
	return files, err
}

// Settled returns the number of the last change that is known to stand in the
// storage as the catalogue says.
func (c *Catalogue) Settled() (int64, error) {
	var s []setting
	err := c.read(func(db *gorm.DB) error { return db.Limit(1).Find(&s, "name = ?", settingSettled).Error })
	if err != nil || len(s) == 0 {
		return 0, err
	}
	return s[0].Value, nil
}

// LastChange returns the number of the newest change.
func (c *Catalogue) LastChange() (int64, error) {
	var newest int64
	err := c.read(func(db *gorm.DB) (err error) {
		newest, err = newestChange(db)
		return err
	})
	return newest, err
}

// SetSettled records that all changes up to the one numbered change stand in the
// storage, durably.
func (c *Catalogue) SetSettled(change int64) error {
	return c.write(nobody, func(tx *gorm.DB) error { return saveSetting(tx, settingSettled, change) })
}

// Lost marks a file whose content is gone or damaged as not verified, unless it
// has been replaced since (change is the commit that was looked at).
func (c *Catalogue) Lost(f File) error {
	err := c.write(of(f.ClientID), func(tx *gorm.DB) error {
		return tx.Model(&File{}).Where("id = ? AND change = ?", f.ID, f.Change).Update("verified", false).Error
	})
	if err != nil {
		return err
	}
	c.view.amendFile(f.ClientID, f.FileName, func(have *File) {
		if have.Change == f.Change {
			have.Verified = false
		}
	})
	return nil
}

// GarbageBefore lists objects that turned to garbage before t, at most limit. A database
// whose place its standby has taken lists none: what was reserved there may be a file's
// by now.
func (c *Catalogue) GarbageBefore(t time.Time, limit int) ([]ID, error) {
	var objects []ID
	look := func(db *gorm.DB) error {
		return db.Model(&Garbage{}).Where("since < ?", Time{t}).Order("since").Limit(limit).Pluck("object", &objects).Error
	}
	err := c.read(look)
	if err == nil && len(objects) > 0 {
		err = c.engine.confirm(look)
	}
	if err != nil {
		return nil, err
	}
	return objects, nil
}

// Removed forgets garbage that has been removed from the storage.
func (c *Catalogue) Removed(objects []ID) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		for part := range slices.Chunk(objects, 500) { // a statement takes 32,766 parameters at most
			if err := tx.Delete(&Garbage{}, "object IN ?", part).Error; err != nil {
				return err
			}
		}
		return nil
	})
}

func discardObjects(tx *gorm.DB, since Time, objects ...ID) error {
	for part := range slices.Chunk(objects, 500) {
		rows := make([]Garbage, len(part))
		for i, o := range part {
			rows[i] = Garbage{Object: o, Since: since}
		}
		err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&rows).Error
		if err == nil {
			err = tx.Delete(&Tree{}, "object IN ?", part).Error
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Delay has garbage that could not be removed tried again later than the rest.
func (c *Catalogue) Delay(objects []ID) error {
	if len(objects) == 0 {
		return nil
	}
	return c.write(nobody, func(tx *gorm.DB) error {
		for part := range slices.Chunk(objects, 500) {
			if err := tx.Model(&Garbage{}).Where("object IN ?", part).Update("since", Time{c.now()}).Error; err != nil {
				return err
			}
		}
		return nil
	})
}

// Unseal turns a sealed upload that cannot become a file into garbage. One that
// is not there, or not sealed, or leased by somebody else than who has the number
// epoch (0: no matter who), is left as it is. gone is as Discard's.
func (c *Catalogue) Unseal(id ID, epoch int64) (gone bool, err error) {
	err = c.write(ofUpload(id), func(tx *gorm.DB) error {
		deleted := tx.Where("? = 0 OR epoch = ?", epoch, epoch).Delete(&Upload{}, "id = ? AND state = ?", id, UploadSealing)
		if gone = deleted.RowsAffected > 0; !gone || deleted.Error != nil {
			return deleted.Error
		}
		if err := tx.Delete(&Chunk{}, "upload_id = ?", id).Error; err != nil {
			return err
		}
		return discardObjects(tx, Time{c.now()}, id)
	})
	return gone && err == nil, err
}
