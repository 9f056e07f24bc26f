package model

import (
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// CopyClients takes over who the clients of another catalogue are, and its invites.
func (c *Catalogue) CopyClients(from *Catalogue) error {
	for after := (ID{}); ; {
		var clients []Client
		if err := from.read(func(db *gorm.DB) error {
			return db.Order("id").Limit(copyAtOnce).Find(&clients, "id > ?", after).Error
		}); err != nil {
			return err
		}
		if len(clients) == 0 {
			break
		}
		for i := range clients {
			clients[i].SharedKey = "" // of a session that has ended
		}
		after = clients[len(clients)-1].ID
		err := c.write(everybody, func(tx *gorm.DB) error {
			// Not Create alone: it would take rights of none for the column's default.
			return tx.Clauses(clause.OnConflict{UpdateAll: true}).Select("*").Create(&clients).Error
		})
		if err != nil {
			return err
		}
	}
	err := c.write(everybody, func(tx *gorm.DB) error { return tx.Where("1 = 1").Delete(&Invite{}).Error })
	for after := []byte{}; err == nil; {
		var invites []Invite
		err = from.read(func(db *gorm.DB) error {
			return db.Order("token_hash").Limit(copyAtOnce).Find(&invites, "token_hash > ?", after).Error
		})
		if err != nil || len(invites) == 0 {
			break
		}
		after = invites[len(invites)-1].TokenHash[:]
		err = c.write(everybody, func(tx *gorm.DB) error {
			return tx.Clauses(clause.OnConflict{DoNothing: true}).Select("*").Create(&invites).Error
		})
	}
	return err
}

// Copied is content that a copy takes over.
type Copied struct {
	File File         // the file, with its client; of an earlier version, the file that it was
	Kept *KeptVersion // the earlier version; nil: the content is the file's present one
	Tree *Tree        // its chunks' hashes, where they are kept
}

// CopyAfter lists content by the numbers of its files: of those after the one numbered
// after, at most limit, with their earlier versions. last is the number of the last.
func (c *Catalogue) CopyAfter(after int64, limit int) (content []Copied, last int64, err error) {
	files, err := c.FilesAfter(after, limit)
	if err != nil || len(files) == 0 {
		return nil, after, err
	}
	of, ids := make(map[int64]File, len(files)), make([]int64, len(files))
	for i, f := range files {
		of[f.ID], ids[i] = f, f.ID
		content = append(content, Copied{File: f})
	}
	var kept []KeptVersion
	err = c.read(func(db *gorm.DB) error { return db.Order("file_id, version").Find(&kept, "file_id IN ?", ids).Error })
	for _, k := range kept {
		content = append(content, Copied{File: k.as(of[k.FileID]), Kept: &k})
	}
	return content, ids[len(ids)-1], err
}

// NotCopied returns what the copy has no rows of yet.
func (c *Catalogue) NotCopied(content []Copied) (left []Copied, err error) {
	ids := make([]int64, 0, len(content))
	for _, k := range content {
		if k.Kept == nil {
			ids = append(ids, k.File.ID)
		}
	}
	type at struct{ file, version int64 }
	files, versions := make(map[int64]bool), make(map[at]bool)
	err = c.read(func(db *gorm.DB) error {
		var found []int64
		if err := db.Model(&File{}).Where("id IN ?", ids).Pluck("id", &found).Error; err != nil {
			return err
		}
		for _, id := range found {
			files[id] = true
		}
		var kept []KeptVersion
		if err := db.Select("file_id", "version").Find(&kept, "file_id IN ?", ids).Error; err != nil {
			return err
		}
		for _, k := range kept {
			versions[at{k.FileID, k.Version}] = true
		}
		return nil
	})
	for _, k := range content {
		if k.Kept == nil && !files[k.File.ID] || k.Kept != nil && !versions[at{k.Kept.FileID, k.Kept.Version}] {
			left = append(left, k)
		}
	}
	return left, err
}

// StageCopy records objects that are about to be written: they are garbage until
// CommitCopy takes them, so that what an interrupted copy leaves is removed.
func (c *Catalogue) StageCopy(objects ...ID) error {
	return c.write(everybody, func(tx *gorm.DB) error { return discardObjects(tx, Time{c.now()}, objects...) })
}

// CommitCopy takes content over that is durable: in objects of their own, or all in the
// pack of these bytes. What is not verified has no object.
func (c *Catalogue) CommitCopy(content []Copied, pack *ID, packed int64) error {
	var files []File
	var kept []KeptVersion
	var trees []Tree
	var taken []ID
	for _, k := range content {
		f := k.File
		f.PathKey, f.Client = c.fold(f.FilePath), nil
		switch {
		case k.Kept == nil:
			files = append(files, f)
		default:
			v := *k.Kept
			v.Pack, v.PackOffset = f.Pack, f.PackOffset
			kept = append(kept, v)
		}
		if f.Verified && f.Pack == nil {
			taken = append(taken, f.Object)
		}
		if k.Tree != nil {
			trees = append(trees, *k.Tree)
		}
	}
	err := c.write(everybody, func(tx *gorm.DB) error {
		known := clause.OnConflict{DoNothing: true} // by a try whose outcome nobody was told
		if pack != nil {
			taken = append(taken, *pack)
			if err := tx.Clauses(known).Create(&Pack{ID: *pack, MadeAt: Time{c.now()}, Size: packed}).Error; err != nil {
				return err
			}
		}
		if err := c.refuseOneName(tx, files); err != nil {
			return err
		}
		if len(files) > 0 {
			if err := tx.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoNothing: true}).Omit(clause.Associations).Create(&files).Error; err != nil {
				return err
			}
		}
		if len(kept) > 0 {
			if err := tx.Clauses(known).Create(&kept).Error; err != nil {
				return err
			}
		}
		if len(trees) > 0 {
			if err := tx.Clauses(known).Create(&trees).Error; err != nil {
				return err
			}
		}
		return tx.Delete(&Garbage{}, "object IN ?", append(taken, ID{})).Error
	})
	if err != nil {
		return fmt.Errorf("commit to the copy: %w", err)
	}
	return nil
}

// refuseOneName refuses files whose paths the storage's file system takes for others'.
func (c *Catalogue) refuseOneName(tx *gorm.DB, files []File) error {
	owner := make(map[string]int64, len(files))
	keys := make([]string, len(files))
	for i, f := range files {
		keys[i] = f.PathKey
		if owner[f.PathKey] != 0 {
			return fmt.Errorf("%w: %q and another", ErrOneName, f.FilePath)
		}
		owner[f.PathKey] = f.ID
	}
	if len(keys) == 0 {
		return nil
	}
	var others []File
	if err := tx.Find(&others, "path_key IN ?", keys).Error; err != nil {
		return err
	}
	for _, f := range others {
		if f.ID != owner[f.PathKey] {
			return fmt.Errorf("%w: %q and another", ErrOneName, f.FilePath)
		}
	}
	return nil
}

// CopyNews takes over the events of another catalogue, and what it knows of itself:
// numbers that were given out are not given out again.
func (c *Catalogue) CopyNews(from *Catalogue) error {
	err := c.write(everybody, func(tx *gorm.DB) error { return tx.Where("1 = 1").Delete(&Event{}).Error })
	for after := int64(0); err == nil; {
		var events []Event
		err = from.read(func(db *gorm.DB) error {
			return db.Order("seq").Limit(copyAtOnce).Find(&events, "seq > ?", after).Error
		})
		if err != nil || len(events) == 0 {
			break
		}
		after = events[len(events)-1].Seq
		err = c.write(everybody, func(tx *gorm.DB) error {
			return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&events).Error
		})
	}
	if err != nil {
		return err
	}
	state, err := from.CopyState()
	if err != nil {
		return err
	}
	var latest int64
	if err := from.read(func(db *gorm.DB) (err error) { latest, err = settingValue(db, settingLatest); return err }); err != nil {
		return err
	}
	return c.write(everybody, func(tx *gorm.DB) error {
		for name, value := range map[string]int64{settingChange: state.Change, settingManaged: state.Managed, settingLatest: latest} {
			if err := saveSetting(tx, name, value); err != nil {
				return err
			}
		}
		return c.engine.advance(tx, state.Change)
	})
}

// advance implements engine: SQLite's own numbers follow from the rows.
func (l *local) advance(*gorm.DB, int64) error { return nil }

// advance implements engine.
func (s *shared) advance(tx *gorm.DB, change int64) error {
	return tx.Exec(`SELECT setval('changes', GREATEST(?, 1)),
		setval(pg_get_serial_sequence('files', 'id'), GREATEST((SELECT MAX(id) FROM files), (SELECT MAX(file_id) FROM events), 1)),
		setval(pg_get_serial_sequence('events', 'seq'), GREATEST((SELECT MAX(seq) FROM events), 1))`, change).Error
}

// EndCopy removes the mark of an unfinished copy: servers may start on the catalogue.
func (c *Catalogue) EndCopy() error {
	return c.write(everybody, func(tx *gorm.DB) error {
		return tx.Delete(&setting{}, "name = ?", settingCopying).Error
	})
}

// RefuseUnfinished returns ErrUnfinished where the catalogue is an unfinished copy.
func (c *Catalogue) RefuseUnfinished() error {
	of, err := c.Copying()
	if err == nil && of != "" {
		err = ErrUnfinished
	}
	return err
}
