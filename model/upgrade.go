package model

import (
	"fmt"

	"gorm.io/gorm"
)

// upgrade brings the tables of an older version to this program's, inside the
// transaction tx: after a crash they are of the one or of the other.
func upgrade(tx *gorm.DB) error {
	var have setting
	if err := tx.Select("name", "value").Take(&have, "name = ?", settingSchema).Error; err != nil {
		return fmt.Errorf("read the schema's version (is it a catalogue of fenc?): %w", err)
	}
	if have.Value != 1 {
		return nil
	}
	if err := addProtocol4(tx); err != nil {
		return fmt.Errorf("upgrade the tables from version 1: %w", err)
	}
	return saveSetting(tx, settingSchema, 2)
}

// addProtocol4 makes version 2 of the tables of version 1.
func addProtocol4(tx *gorm.DB) error {
	columns := []struct {
		table any
		names []string
	}{
		{&setting{}, []string{"Text"}},
		{&Client{}, []string{"Fingerprint", "Rights", "Quota", "RevokedAt"}},
		{&File{}, []string{"Digest", "ModTime", "Mode", "Pack", "PackOffset"}},
		{&Upload{}, []string{"Digest", "ChunkSize", "ModTime", "Mode", "TouchedAt"}},
	}
	for _, c := range columns {
		for _, name := range c.names {
			if err := tx.Migrator().AddColumn(c.table, name); err != nil {
				return err
			}
		}
	}
	for _, index := range []struct {
		table any
		name  string
	}{{&Client{}, "Fingerprint"}, {&File{}, "Pack"}} {
		if err := tx.Migrator().CreateIndex(index.table, index.name); err != nil {
			return err
		}
	}
	return tx.AutoMigrate(&Chunk{}, &Tree{}, &Pack{}, &Invite{})
}
