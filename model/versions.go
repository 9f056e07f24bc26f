package model

import (
	"errors"

	"gorm.io/gorm"
)

// keeps returns how many earlier versions of a client's files are kept.
func (c *Catalogue) keeps(client Client) int64 {
	if client.KeepVersions != nil {
		return *client.KeepVersions
	}
	return c.keepVersions.Load()
}

// SetKeepVersions has what is replaced from now on follow another KeepVersions than
// that of Options.
func (c *Catalogue) SetKeepVersions(n int64) { c.keepVersions.Store(n) }

// supersede says where content of a client goes whose place is taken: it becomes an
// earlier version, or garbage. What is not verified is no version.
func (c *Catalogue) supersede(tx *gorm.DB, client Client, files ...File) error {
	now := Time{c.now()}
	var kept []KeptVersion
	var gone []ID
	for _, f := range files {
		if !f.Verified || c.keeps(client) == 0 {
			gone = append(gone, f.Object)
			continue
		}
		kept = append(kept, KeptVersion{
			FileID: f.ID, Version: f.Version, ClientID: f.ClientID, Size: f.Size, Checksum: f.Checksum, Digest: f.Digest, ModTime: f.ModTime, Mode: f.Mode,
			Object: f.Object, Pack: f.Pack, PackOffset: f.PackOffset, Protocol: f.Protocol, ReceivedAt: f.ReceivedAt, ReplacedAt: now,
		})
	}
	if len(kept) > 0 {
		if err := tx.CreateInBatches(kept, 500).Error; err != nil {
			return err
		}
	}
	return discardObjects(tx, now, gone...)
}

// as returns the version as the file that it was, with the name and path that
// the file has now.
func (k KeptVersion) as(now File) File {
	return File{
		ID: k.FileID, FileName: now.FileName, FilePath: now.FilePath, PathKey: now.PathKey, ClientID: k.ClientID, Client: now.Client, Verified: true,
		Size: k.Size, Checksum: k.Checksum, Digest: k.Digest, ModTime: k.ModTime, Mode: k.Mode,
		Object: k.Object, Pack: k.Pack, PackOffset: k.PackOffset, Version: k.Version, Protocol: k.Protocol, ReceivedAt: k.ReceivedAt,
	}
}

// Versions returns the earlier versions that are kept of files, the newest first,
// by the file's row.
func (c *Catalogue) Versions(files []File) (map[int64][]File, error) {
	of := make(map[int64]File, len(files))
	ids := make([]int64, len(files))
	for i, f := range files {
		of[f.ID], ids[i] = f, f.ID
	}
	versions := make(map[int64][]File)
	var kept []KeptVersion
	err := c.read(func(db *gorm.DB) error {
		return db.Order("file_id, version DESC").Find(&kept, "file_id IN ?", ids).Error
	})
	for _, k := range kept {
		versions[k.FileID] = append(versions[k.FileID], k.as(of[k.FileID]))
	}
	return versions, err
}

// ForgetVersion forgets an earlier version, whose content is lost.
func (c *Catalogue) ForgetVersion(f File) error {
	return c.write(of(f.ClientID), func(tx *gorm.DB) error { return forgetVersions(tx, Time{c.now()}, f) })
}

// forgetVersions turns earlier versions to garbage. Of what lies in a pack the
// pack takes care.
func forgetVersions(tx *gorm.DB, since Time, versions ...File) error {
	for _, v := range versions {
		gone := tx.Delete(&KeptVersion{}, "file_id = ? AND version = ?", v.ID, v.Version)
		if gone.Error != nil {
			return gone.Error
		}
		if gone.RowsAffected == 0 {
			continue
		}
		if err := discardObjects(tx, since, v.Object); err != nil {
			return err
		}
	}
	return nil
}

// EachFile calls do with every file, a client's after another's by their names, and
// a client's by the bytes of theirs, without holding all in memory. client, unless
// empty, is the name of the only one: ErrUnknownClient if there is none.
func (c *Catalogue) EachFile(client string, do func(page []File) error) error {
	const limit = 1000 // files of a page
	var clients []Client
	err := c.read(func(db *gorm.DB) error {
		q := db.Order("name")
		if client != "" {
			q = q.Where("name = ?", client)
		}
		return q.Find(&clients).Error
	})
	if err == nil && client != "" && len(clients) == 0 {
		err = ErrUnknownClient
	}
	if err != nil {
		return err
	}
	for i := range clients {
		for after := ""; ; {
			var page []File
			err := c.read(func(db *gorm.DB) error {
				return db.Where("client_id = ? AND file_name > ?", clients[i].ID, after).Order("file_name").Limit(limit).Find(&page).Error
			})
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			for j := range page {
				page[j].Client = &clients[i]
			}
			if err := do(page); err != nil {
				return err
			}
			after = page[len(page)-1].FileName
		}
	}
	return nil
}

// ErrNoFile: there is no such file, or no such version of it.
var ErrNoFile = errors.New("no such file")

// FileNamed finds a file of the client of a name, with the number of a version, or
// the present one where that is 0.
func (c *Catalogue) FileNamed(client, name string, version int64) (File, error) {
	var found File
	err := c.read(func(db *gorm.DB) error {
		owner, err := clientNamed(db, client)
		if err != nil {
			return err
		}
		var files []File
		if err := db.Limit(1).Find(&files, "client_id = ? AND file_name = ?", owner.ID, name).Error; err != nil {
			return err
		}
		if len(files) == 0 {
			return ErrNoFile
		}
		found = files[0]
		found.Client = &owner
		if version == 0 || version == found.Version {
			return nil
		}
		var kept []KeptVersion
		if err := db.Limit(1).Find(&kept, "file_id = ? AND version = ?", found.ID, version).Error; err != nil {
			return err
		}
		if len(kept) == 0 {
			return ErrNoFile
		}
		found = kept[0].as(found)
		return nil
	})
	return found, err
}
