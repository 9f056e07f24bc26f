package model

import (
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// Packed lists files whose content is still in a pack, those of one pack together,
// and earlier versions of files, each as the file that it was; at most limit.
func (c *Catalogue) Packed(limit int) ([]File, error) {
	var files []File
	err := c.read(func(db *gorm.DB) error {
		if err := db.Order("pack, pack_offset").Limit(limit).Find(&files, "pack IS NOT NULL").Error; err != nil || len(files) == limit {
			return err
		}
		var kept []KeptVersion
		if err := db.Order("pack, pack_offset").Limit(limit-len(files)).Find(&kept, "pack IS NOT NULL").Error; err != nil {
			return err
		}
		listed := make(map[ID]bool, len(files))
		for _, f := range files {
			listed[f.Object] = true
		}
		// One that has been replaced since the files were read is there already.
		kept = slices.DeleteFunc(kept, func(k KeptVersion) bool { return listed[k.Object] })
		var err error
		files, err = appendVersions(db, files, kept)
		return err
	})
	return files, err
}

// Unpacked records that each of the files has an object of its own now, durable.
// Of those that have been replaced meanwhile the object turns to garbage.
func (c *Catalogue) Unpacked(files []File) error {
	taken := make([]bool, len(files))
	err := c.write(ofFiles(files), func(tx *gorm.DB) error {
		for i, f := range files {
			done := tx.Model(&File{}).Where("id = ? AND object = ? AND pack = ?", f.ID, f.Object, *f.Pack).
				Updates(map[string]any{"pack": nil, "pack_offset": 0})
			if done.Error != nil {
				return done.Error
			}
			taken[i] = done.RowsAffected > 0
			if taken[i] {
				continue
			}
			kept := tx.Model(&KeptVersion{}).Where("file_id = ? AND object = ? AND pack = ?", f.ID, f.Object, *f.Pack).
				Updates(map[string]any{"pack": nil, "pack_offset": 0})
			if kept.Error != nil {
				return kept.Error
			}
			if kept.RowsAffected > 0 {
				continue
			}
			// It may have been unpacked already: listed as the present content, and then,
			// replaced meanwhile, as an earlier version.
			if still, err := named(tx, f.Object); err != nil {
				return err
			} else if !still {
				if err := discardObjects(tx, Time{c.now()}, f.Object); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, f := range files {
		if taken[i] {
			c.view.amendFile(f.ClientID, f.FileName, func(have *File) {
				if have.Object == f.Object {
					have.Pack, have.PackOffset = nil, 0
				}
			})
		}
	}
	return nil
}

// DropEmptyPacks turns packs that no file needs any more to garbage.
func (c *Catalogue) DropEmptyPacks() error {
	const limit = 500 // packs of a transaction
	for {
		var empty []ID
		err := c.write(nobody, func(tx *gorm.DB) error {
			empty = nil
			err := tx.Model(&Pack{}).Where("NOT EXISTS (SELECT 1 FROM files WHERE files.pack = packs.id)").
				Where("NOT EXISTS (SELECT 1 FROM versions WHERE versions.pack = packs.id)").Limit(limit).Pluck("id", &empty).Error
			if err != nil || len(empty) == 0 {
				return err
			}
			if err := discardObjects(tx, Time{c.now()}, empty...); err != nil {
				return err
			}
			return tx.Delete(&Pack{}, "id IN ?", empty).Error
		})
		if err != nil || len(empty) < limit {
			return err
		}
	}
}

// SparsePacks lists packs made before t of which less than half is needed still, at
// most limit.
func (c *Catalogue) SparsePacks(t time.Time, limit int) ([]ID, error) {
	var sparse []ID
	err := c.read(func(db *gorm.DB) error {
		return db.Model(&Pack{}).Where("made_at < ?", Time{t}).
			Where("packs.size > 2 * ((SELECT COALESCE(SUM(files.size), 0) FROM files WHERE files.pack = packs.id) + "+
				"(SELECT COALESCE(SUM(versions.size), 0) FROM versions WHERE versions.pack = packs.id))").
			Order("made_at").Limit(limit).Pluck("id", &sparse).Error
	})
	return sparse, err
}

// InPack lists what is still needed of a pack: files, and earlier versions, each as the
// file that it was.
func (c *Catalogue) InPack(pack ID) ([]File, error) {
	var files []File
	err := c.read(func(db *gorm.DB) error {
		if err := db.Order("pack_offset").Find(&files, "pack = ?", pack).Error; err != nil {
			return err
		}
		var kept []KeptVersion
		err := db.Order("pack_offset").Find(&kept, "pack = ?", pack).Error
		if err != nil {
			return err
		}
		files, err = appendVersions(db, files, kept)
		return err
	})
	return files, err
}

// Repack records that files of a pack lie in another now, durable, whose id is a
// reserved one, at these offsets. What has been replaced or moved meanwhile stays as it
// is. Repack returns ErrNoUpload where the reservation was too old.
func (c *Catalogue) Repack(files []File, to ID, offsets []int64) error {
	moved := make([]bool, len(files))
	err := c.write(ofFiles(files), func(tx *gorm.DB) error {
		made := Pack{ID: to, MadeAt: Time{c.now()}}
		some := false
		for i, f := range files {
			place := map[string]any{"pack": to, "pack_offset": offsets[i]}
			done := tx.Model(&File{}).Where("id = ? AND object = ? AND pack IN ?", f.ID, f.Object, []ID{*f.Pack, to}).Updates(place)
			if done.Error == nil && done.RowsAffected == 0 {
				done = tx.Model(&KeptVersion{}).Where("file_id = ? AND object = ? AND pack IN ?", f.ID, f.Object, []ID{*f.Pack, to}).Updates(place)
			}
			if done.Error != nil {
				return done.Error
			}
			moved[i] = done.RowsAffected > 0
			some = some || moved[i]
			made.Size = max(made.Size, offsets[i]+f.Size)
		}
		if !some {
			return nil // its reservation lapses
		}
		created := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&made)
		if created.Error != nil || created.RowsAffected == 0 { // a try before this one did it
			return created.Error
		}
		taken := tx.Delete(&Garbage{}, "object = ? AND since > ?", to, Time{c.now().Add(-ReservedFor)})
		if taken.Error == nil && taken.RowsAffected == 0 {
			return ErrNoUpload
		}
		return taken.Error
	})
	if err != nil {
		return err
	}
	for i, f := range files {
		if moved[i] {
			c.view.amendFile(f.ClientID, f.FileName, func(have *File) {
				if have.Object == f.Object {
					have.Pack, have.PackOffset = &to, offsets[i]
				}
			})
		}
	}
	return nil
}
