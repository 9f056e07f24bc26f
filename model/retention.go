package model

import (
	"time"

	"gorm.io/gorm"
)

// Retention says how long content stays.
type Retention struct {
	KeepVersions int64         // earlier versions of a file that are kept
	ExpireAfter  time.Duration // from a file's receipt to its removal; 0 is never
	KeepPartial  time.Duration // that an upload waits which does not get on; 0 is for ever
}

// RetentionChange is what an operator sets for one client. Of each pair, the first
// says whether it is set, and nil in the second leaves it to the server's.
type RetentionChange struct {
	SetVersions, SetExpire, SetPartial bool
	KeepVersions                       *int64
	ExpireAfter, KeepPartial           *time.Duration
}

// SetRetention gives a client a retention of its own.
func (c *Catalogue) SetRetention(name string, change RetentionChange) error {
	columns := make(map[string]any)
	if change.SetVersions {
		columns["keep_versions"] = change.KeepVersions
	}
	if change.SetExpire {
		columns["expire_after"] = change.ExpireAfter
	}
	if change.SetPartial {
		columns["keep_partial"] = change.KeepPartial
	}
	return c.manage(func(tx *gorm.DB) error {
		client, err := clientNamed(tx, name)
		if err != nil || len(columns) == 0 {
			return err
		}
		return changeClient(tx, client.ID, columns)
	})
}

// Retention returns a client's retention, where the server's is own.
func (k Client) Retention(own Retention) Retention {
	if k.KeepVersions != nil {
		own.KeepVersions = *k.KeepVersions
	}
	if k.ExpireAfter != nil {
		own.ExpireAfter = time.Duration(*k.ExpireAfter)
	}
	if k.KeepPartial != nil {
		own.KeepPartial = time.Duration(*k.KeepPartial)
	}
	return own
}

// eachPolicy calls do for each value that a column of retention has: the server's
// own, and those of clients that have theirs. clients selects the ids of whom it
// holds for.
func eachPolicy(db *gorm.DB, column string, own int64, do func(value int64, clients *gorm.DB) error) error {
	var values []int64
	if err := db.Model(&Client{}).Where(column+" IS NOT NULL").Distinct().Pluck(column, &values).Error; err != nil {
		return err
	}
	if err := do(own, db.Model(&Client{}).Select("id").Where(column+" IS NULL")); err != nil {
		return err
	}
	for _, v := range values {
		if err := do(v, db.Model(&Client{}).Select("id").Where(column+" = ?", v)); err != nil {
			return err
		}
	}
	return nil
}

// Expired lists files, each with its client, and earlier versions whose time is
// over, the oldest first, at most about limit.
func (c *Catalogue) Expired(own Retention, limit int) (files, versions []File, err error) {
	err = c.read(func(db *gorm.DB) error {
		files, versions = nil, nil
		return eachPolicy(db, "expire_after", int64(own.ExpireAfter), func(after int64, clients *gorm.DB) error {
			if after <= 0 || len(files)+len(versions) >= limit {
				return nil
			}
			before := Time{c.now().Add(-time.Duration(after))}
			var some []File
			err := db.Preload("Client").Where("received_at < ? AND client_id IN (?)", before, clients).
				Order("received_at").Limit(limit).Find(&some).Error
			if err != nil {
				return err
			}
			files = append(files, some...)
			var kept []KeptVersion
			err = db.Where("received_at < ? AND client_id IN (?)", before, clients).Order("received_at").Limit(limit).Find(&kept).Error
			if err != nil {
				return err
			}
			versions, err = appendVersions(db, versions, kept)
			return err
		})
	})
	return files, versions, err
}

// Excess lists earlier versions beyond those that are kept, at most about limit.
// While a file's present content is not verified, its versions stay.
func (c *Catalogue) Excess(own Retention, limit int) (versions []File, err error) {
	err = c.read(func(db *gorm.DB) error {
		versions = nil
		return eachPolicy(db, "keep_versions", own.KeepVersions, func(n int64, clients *gorm.DB) error {
			if len(versions) >= limit {
				return nil
			}
			var kept []KeptVersion
			crowded := db.Model(&KeptVersion{}).Select("file_id").Where("client_id IN (?)", clients).Group("file_id").Having("COUNT(*) > ?", n)
			err := db.Where("file_id IN (?)", crowded).
				Where("EXISTS (SELECT 1 FROM files WHERE files.id = versions.file_id AND files.verified)").
				Where("(SELECT COUNT(*) FROM versions AS newer WHERE newer.file_id = versions.file_id AND newer.version > versions.version) >= ?", n).
				Limit(limit).Find(&kept).Error
			if err != nil {
				return err
			}
			versions, err = appendVersions(db, versions, kept)
			return err
		})
	})
	return versions, err
}

// appendVersions adds to versions what is kept, each with its file's name and client,
// unless its file has been removed since kept was read.
func appendVersions(db *gorm.DB, versions []File, kept []KeptVersion) ([]File, error) {
	for _, k := range kept {
		var now []File
		if err := db.Preload("Client").Limit(1).Find(&now, "id = ?", k.FileID).Error; err != nil {
			return nil, err
		}
		if len(now) > 0 {
			versions = append(versions, k.as(now[0]))
		}
	}
	return versions, nil
}

// Expire forgets files whose time is over, with their earlier versions, each in
// so far as it is still the content that was looked at. What they hold turns to
// garbage. It reports which are gone.
func (c *Catalogue) Expire(files []File) (gone []bool, err error) {
	gone = make([]bool, len(files))
	err = c.write(ofFiles(files), func(tx *gorm.DB) error {
		newest, err := newestChange(tx)
		if err != nil {
			return err
		}
		if err := saveSetting(tx, settingChange, newest); err != nil {
			return err
		}
		for i, f := range files {
			expired, err := c.expire(tx, f)
			if err != nil {
				return err
			}
			gone[i] = gone[i] || expired // by a try whose outcome nobody was told
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if gone[i] {
			c.view.removeFile(f)
		}
	}
	c.announce()
	return gone, nil
}

func (c *Catalogue) expire(tx *gorm.DB, f File) (bool, error) {
	now := Time{c.now()}
	deleted := tx.Delete(&File{}, "id = ? AND change = ? AND object = ?", f.ID, f.Change, f.Object)
	if deleted.Error != nil || deleted.RowsAffected == 0 {
		return false, deleted.Error
	}
	var kept []KeptVersion
	if err := tx.Find(&kept, "file_id = ?", f.ID).Error; err != nil {
		return false, err
	}
	objects := []ID{f.Object}
	for _, k := range kept {
		objects = append(objects, k.Object)
	}
	if err := tx.Delete(&KeptVersion{}, "file_id = ?", f.ID).Error; err != nil {
		return false, err
	}
	if err := discardObjects(tx, now, objects...); err != nil {
		return false, err
	}
	var owners []Client
	if err := tx.Find(&owners, "id = ?", f.ClientID).Error; err != nil || len(owners) == 0 {
		return true, err
	}
	return true, c.record(tx, EventExpired, now, map[ID]Client{f.ClientID: owners[0]}, f)
}

// DropVersions turns earlier versions to garbage.
func (c *Catalogue) DropVersions(versions []File) error {
	return c.write(ofFiles(versions), func(tx *gorm.DB) error { return forgetVersions(tx, Time{c.now()}, versions...) })
}

// Stalled lists open uploads of protocol 4 that have not got on for as long as
// they wait, each with its client, at most about limit.
func (c *Catalogue) Stalled(own Retention, limit int) (uploads []Upload, err error) {
	err = c.read(func(db *gorm.DB) error {
		uploads = nil
		return eachPolicy(db, "keep_partial", int64(own.KeepPartial), func(keep int64, clients *gorm.DB) error {
			if keep <= 0 || len(uploads) >= limit {
				return nil
			}
			var some []Upload
			err := db.Preload("Client").Order("touched_at").Limit(limit).
				Find(&some, "state = ? AND protocol >= 4 AND touched_at < ? AND client_id IN (?)",
					UploadOpen, Time{c.now().Add(-time.Duration(keep))}, clients).Error
			uploads = append(uploads, some...)
			return err
		})
	})
	return uploads, err
}

// OpenUpload is an upload under way, for people.
type OpenUpload struct {
	Upload
	Held int64 // bytes that are durable
}

// EachUpload calls do with every upload that is not a file yet, the oldest first,
// with its client. client, unless empty, is the name of the only one.
func (c *Catalogue) EachUpload(client string, do func(OpenUpload) error) error {
	var uploads []Upload
	var held []struct {
		UploadID ID
		Chunks   int64
		Last     int64
	}
	err := c.read(func(db *gorm.DB) error {
		q := db.Preload("Client").Order("started_at, id")
		if client != "" {
			owner, err := clientNamed(db, client)
			if err != nil {
				return err
			}
			q = q.Where("client_id = ?", owner.ID)
		}
		if err := q.Find(&uploads).Error; err != nil {
			return err
		}
		return db.Model(&Chunk{}).Select("upload_id, COUNT(*) AS chunks, MAX(number) AS last").Group("upload_id").Scan(&held).Error
	})
	if err != nil {
		return err
	}
	bytes := make(map[ID]int64)
	sizes := make(map[ID]Upload)
	for _, u := range uploads {
		sizes[u.ID] = u
	}
	for _, h := range held {
		u := sizes[h.UploadID]
		bytes[h.UploadID] = h.Chunks * u.ChunkSize
		if end := (h.Last + 1) * u.ChunkSize; end > u.Size { // the last chunk may be shorter
			bytes[h.UploadID] -= end - u.Size
		}
	}
	for _, u := range uploads {
		if err := do(OpenUpload{u, bytes[u.ID]}); err != nil {
			return err
		}
	}
	return nil
}
