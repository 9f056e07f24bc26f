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
	steps := []func(*gorm.DB) error{addProtocol4, addRetention, addReplicas}
	for version := have.Value; version >= 1 && version <= int64(len(steps)); version++ {
		if err := steps[version-1](tx); err != nil {
			return fmt.Errorf("upgrade the tables from version %d: %w", version, err)
		}
		if err := saveSetting(tx, settingSchema, version+1); err != nil {
			return err
		}
	}
	return nil
}

// addReplicas makes version 4 of the tables of version 3: what several servers on one
// catalogue tell each other by.
func addReplicas(tx *gorm.DB) error {
	columns := []struct {
		table any
		names []string
	}{
		{&Client{}, []string{"Changed"}},
		{&Upload{}, []string{"Token", "Epoch", "LeaseUntil"}},
		{&Chunk{}, []string{"Mark"}},
		{&Pack{}, []string{"Size"}},
	}
	for _, c := range columns {
		for _, name := range c.names {
			if tx.Migrator().HasColumn(c.table, name) { // its table was made on the way from version 1
				continue
			}
			if err := tx.Migrator().AddColumn(c.table, name); err != nil {
				return err
			}
		}
	}
	return tx.Migrator().CreateIndex(&Client{}, "Changed")
}

// addRetention makes version 3 of the tables of version 2: retention and events.
func addRetention(tx *gorm.DB) error {
	for _, name := range []string{"KeepVersions", "ExpireAfter", "KeepPartial"} {
		if err := tx.Migrator().AddColumn(&Client{}, name); err != nil {
			return err
		}
	}
	if err := tx.Migrator().CreateIndex(&File{}, "ReceivedAt"); err != nil {
		return err
	}
	return tx.AutoMigrate(&KeptVersion{}, &Event{})
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
