package model

import (
	"gorm.io/gorm"
)

// Packed lists files whose content is still in a pack, those of the oldest pack
// first, at most limit.
func (c *Catalogue) Packed(limit int) ([]File, error) {
	var files []File
	err := c.read(func(db *gorm.DB) error {
		return db.Order("pack, pack_offset").Limit(limit).Find(&files, "pack IS NOT NULL").Error
	})
	return files, err
}

// Unpacked records that each of the files has an object of its own now, durable.
// Of those that have been replaced meanwhile the object turns to garbage.
func (c *Catalogue) Unpacked(files []File) error {
	taken := make([]bool, len(files))
	err := c.write(func(tx *gorm.DB) error {
		for i, f := range files {
			done := tx.Model(&File{}).Where("id = ? AND object = ? AND pack = ?", f.ID, f.Object, *f.Pack).
				Updates(map[string]any{"pack": nil, "pack_offset": 0})
			if done.Error != nil {
				return done.Error
			}
			taken[i] = done.RowsAffected > 0
			if !taken[i] {
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
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	for i, f := range files {
		if have, ok := c.mirror.files[f.ClientID][f.FileName]; ok && taken[i] && have.Object == f.Object {
			have.Pack, have.PackOffset = nil, 0
			c.mirror.putFile(have)
		}
	}
	return nil
}

// DropEmptyPacks turns packs that no file needs any more to garbage.
func (c *Catalogue) DropEmptyPacks() error {
	return c.write(func(tx *gorm.DB) error {
		var empty []ID
		err := tx.Model(&Pack{}).Where("NOT EXISTS (SELECT 1 FROM files WHERE files.pack = packs.id)").Pluck("id", &empty).Error
		if err != nil || len(empty) == 0 {
			return err
		}
		if err := discardObjects(tx, Time{c.now()}, empty...); err != nil {
			return err
		}
		return tx.Delete(&Pack{}, "id IN ?", empty).Error
	})
}
