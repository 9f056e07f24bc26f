package model

import (
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

var (
	// ErrQuota: the client's files and open uploads would take more bytes than it
	// may.
	ErrQuota = errors.New("over the client's quota")
	// ErrManyUploads: the client has as many open uploads as it may.
	ErrManyUploads = errors.New("too many open uploads")
	// ErrManyFiles: the client has as many files as it may.
	ErrManyFiles = errors.New("too many files")
	// ErrNoReplace: another content stands under the name, and the client may not
	// replace it.
	ErrNoReplace = errors.New("another content stands under this name and may not be replaced")
	// ErrRevoked: the client has been revoked.
	ErrRevoked = errors.New("client revoked")
	// ErrNotAllowed: the client lacks the right.
	ErrNotAllowed = errors.New("not allowed")
)

func init() {
	refusals = append(refusals, ErrQuota, ErrManyUploads, ErrManyFiles, ErrNoReplace, ErrRevoked, ErrNotAllowed)
}

// Bounds are what each client may take, where its own quota says nothing else.
// Zero is no bound.
type Bounds struct {
	Uploads int   // open uploads
	Files   int   // verified files
	Bytes   int64 // of verified files and open uploads together
}

// Offer is Begin for an upload of protocol 4: of exactly u.Size bytes, which are
// reserved in the client's quota from here on, but for those of the file that it
// replaces. It returns ErrRevoked, ErrNotAllowed,
// ErrQuota, ErrManyUploads or ErrManyFiles where the client may not.
func (c *Catalogue) Offer(u Upload, bounds Bounds) (Upload, error) {
	u.ID, u.State, u.StartedAt, u.TouchedAt = NewID(), UploadOpen, Time{c.now()}, Time{c.now()}
	err := c.write(of(u.ClientID), once(func(tx *gorm.DB) error {
		if err := admitUpload(tx, u, bounds); err != nil {
			return err
		}
		if bounds.Uploads > 0 {
			var open int64
			err := tx.Model(&Upload{}).Where("client_id = ? AND protocol = ?", u.ClientID, u.Protocol).Count(&open).Error
			if err != nil {
				return err
			}
			if open >= int64(bounds.Uploads) {
				return fmt.Errorf("%w: %d, which is the most for one client", ErrManyUploads, open)
			}
		}
		return tx.Create(&u).Error
	}, func(tx *gorm.DB) (bool, error) { return stands(tx, &Upload{}, "id = ?", u.ID) }))
	if err != nil {
		return Upload{}, begun(err)
	}
	return u, nil
}

// OpenUploads lists the open uploads of protocol 4 that a client has under a
// name, the newest first.
func (c *Catalogue) OpenUploads(client ID, name string) ([]Upload, error) {
	var uploads []Upload
	err := c.read(func(db *gorm.DB) error {
		return db.Order("started_at DESC, id").
			Find(&uploads, "client_id = ? AND file_name = ? AND state = ? AND protocol >= 4", client, name, UploadOpen).Error
	})
	return uploads, err
}

// Chunks lists the durable chunks of an upload, in order.
func (c *Catalogue) Chunks(upload ID) ([]Chunk, error) {
	var chunks []Chunk
	err := c.read(func(db *gorm.DB) error { return db.Order("number").Find(&chunks, "upload_id = ?", upload).Error })
	return chunks, err
}

// HoldChunks records chunks of an open upload that are durable. It returns
// ErrNoUpload unless the upload is open.
func (c *Catalogue) HoldChunks(upload ID, chunks []Chunk) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		touched := tx.Model(&Upload{}).Where("id = ? AND state = ?", upload, UploadOpen).Update("touched_at", Time{c.now()})
		if touched.Error == nil && touched.RowsAffected == 0 {
			return ErrNoUpload
		}
		if touched.Error != nil || len(chunks) == 0 {
			return touched.Error
		}
		return tx.Clauses(clause.OnConflict{UpdateAll: true}).CreateInBatches(chunks, 1000).Error
	})
}

// ReleaseChunks forgets chunks of an upload that will be written again. Their rows
// go before a byte of them changes.
func (c *Catalogue) ReleaseChunks(upload ID, numbers []int64) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		for part := range slices.Chunk(numbers, 1000) {
			if err := tx.Delete(&Chunk{}, "upload_id = ? AND number IN ?", upload, part).Error; err != nil {
				return err
			}
		}
		return nil
	})
}

// Tree returns the chunks' hashes of an object, if they are kept.
func (c *Catalogue) Tree(object ID) (Tree, bool, error) {
	var trees []Tree
	err := c.read(func(db *gorm.DB) error { return db.Limit(1).Find(&trees, "object = ?", object).Error })
	if err != nil || len(trees) == 0 {
		return Tree{}, false, err
	}
	return trees[0], true, nil
}

// Resume takes up an open upload again, with the times and mode that its file has
// now. It returns ErrNoUpload unless the upload is open, ErrRevoked or
// ErrNotAllowed where its client may not.
func (c *Catalogue) Resume(u Upload) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		if _, err := maySend(tx, u.ClientID); err != nil {
			return err
		}
		done := tx.Model(&Upload{}).Where("id = ? AND state = ?", u.ID, UploadOpen).
			Updates(map[string]any{"touched_at": Time{c.now()}, "mod_time": u.ModTime, "mode": u.Mode})
		if done.Error == nil && done.RowsAffected == 0 {
			return ErrNoUpload
		}
		return done.Error
	})
}

// List returns a client's verified files: the file named prefix and those below
// the folder of that name (all, where prefix is empty), by the bytes of their
// names, those after the name after, at most limit.
func (c *Catalogue) List(client ID, prefix, after string, limit int) ([]File, error) {
	var files []File
	err := c.read(func(db *gorm.DB) error {
		q := db.Where("client_id = ? AND verified = ?", client, true)
		if prefix != "" {
			from, to := below(prefix)
			q = q.Where("(file_name = ? OR file_name >= ? AND file_name < ?)", prefix, from, to)
		}
		if after != "" {
			q = q.Where("file_name > ?", after)
		}
		return q.Order("file_name").Limit(limit).Find(&files).Error
	})
	return files, err
}

// Retime gives the file of a name the times and mode that its sender has for it
// now, if it is verified content of this size and digest. It reports whether it
// is.
func (c *Catalogue) Retime(client ID, name string, size int64, digest Hash, modTime int64, mode uint32) (same bool, err error) {
	f, ok, err := c.File(client, name)
	if err != nil || !ok || !f.holds(size, digest) {
		return false, err
	}
	// Where two databases have gone apart, rows have the same numbers in both, and are of
	// different files.
	const still = "id = ? AND change = ? AND object = ? AND verified"
	if f.ModTime == modTime && f.Mode == mode {
		same = true
		err := c.engine.confirm(func(db *gorm.DB) (err error) {
			same, err = stands(db, &File{}, still, f.ID, f.Change, f.Object)
			return err
		})
		return same && err == nil, err
	}
	err = c.write(of(client), func(tx *gorm.DB) error {
		done := tx.Model(&File{}).Where(still, f.ID, f.Change, f.Object).
			Updates(map[string]any{"mod_time": modTime, "mode": mode})
		same = done.RowsAffected > 0
		return done.Error
	})
	if err != nil || !same {
		return false, err
	}
	f.ModTime, f.Mode = modTime, mode
	c.view.putFiles(f)
	return true, nil
}
