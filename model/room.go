package model

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"gorm.io/gorm"
)

// maySend returns a client, and refuses unless it may send now.
func maySend(tx *gorm.DB, client ID) (who Client, err error) {
	err = tx.Select("id", "rights", "quota", "revoked_at").Take(&who, "id = ?", client).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return who, ErrUnknownClient
	case err != nil:
		return who, err
	case !who.RevokedAt.IsZero():
		return who, ErrRevoked
	case who.Rights&RightSend == 0:
		return who, fmt.Errorf("%w: the client has no right to send", ErrNotAllowed)
	}
	return who, nil
}

// room is what a client has taken of what it may, as a transaction sees it.
//
// A name takes what its file has, or what the open uploads under it have together, where
// that is more: so a replacement counts by what it is longer, and of several only one
// does. What is taken grows by offers alone: whichever of the uploads becomes the file,
// and whichever is given up, it is no more afterwards.
type room struct {
	files, bytes       int64 // taken
	maxFiles, maxBytes int64 // 0: no bound
	names              map[string]uses
}

// uses is what one name takes.
type uses struct {
	known  bool  // there is a file or an open upload of the name
	stands int64 // bytes of the file
	opened int64 // bytes of the open uploads, all together
}

func (u uses) bytes() int64 { return max(u.stands, u.opened) }

func (u uses) with(size int64) uses {
	u.known, u.opened = true, plus(u.opened, size)
	return u
}

// plus adds sizes, which clients make up.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// roomOf looks up what a client has taken. own are the names that it will be asked
// about.
func roomOf(tx *gorm.DB, who Client, bounds Bounds, own ...string) (*room, error) {
	r := &room{maxFiles: int64(bounds.Files), maxBytes: bounds.Bytes, names: make(map[string]uses)}
	if who.Quota > 0 {
		r.maxBytes = who.Quota
	}
	if r.maxFiles == 0 && r.maxBytes == 0 {
		return r, nil
	}
	var all struct{ Number, Bytes int64 }
	err := tx.Model(&File{}).Select("COUNT(*) AS number, COALESCE(SUM(size), 0) AS bytes").Where("client_id = ?", who.ID).Scan(&all).Error
	if err != nil {
		return nil, err
	}
	r.files, r.bytes = all.Number, all.Bytes
	var opened []struct {
		FileName string
		Bytes    int64
	}
	err = tx.Model(&Upload{}).Select("file_name, SUM(size) AS bytes").Where("client_id = ?", who.ID).Group("file_name").Scan(&opened).Error
	if err != nil {
		return nil, err
	}
	names := slices.Clone(own)
	for _, u := range opened {
		names = append(names, u.FileName)
	}
	for part := range slices.Chunk(names, 1000) {
		var files []File
		if err := tx.Select("file_name", "size").Find(&files, "client_id = ? AND file_name IN ?", who.ID, part).Error; err != nil {
			return nil, err
		}
		for _, f := range files {
			r.names[f.FileName] = uses{known: true, stands: f.Size}
		}
	}
	for _, u := range opened {
		r.take(u.FileName, u.Bytes)
	}
	return r, nil
}

// take counts an upload.
func (r *room) take(name string, size int64) {
	before := r.names[name]
	after := before.with(size)
	if !before.known {
		r.files++
	}
	r.bytes = plus(r.bytes, after.bytes()-before.bytes())
	r.names[name] = after
}

// refuses returns ErrManyFiles or ErrQuota where there is no room for an upload. One
// that takes nothing more is never refused.
func (r *room) refuses(name string, size int64) error {
	before := r.names[name]
	if !before.known && r.maxFiles > 0 && r.files >= r.maxFiles {
		return fmt.Errorf("%w: %d with those under way, the most is %d", ErrManyFiles, r.files, r.maxFiles)
	}
	more := before.with(size).bytes() - before.bytes()
	if r.maxBytes > 0 && more > 0 && (more > r.maxBytes || r.bytes > r.maxBytes-more) {
		return fmt.Errorf("%w: %d bytes more, %d are taken of %d", ErrQuota, more, r.bytes, r.maxBytes)
	}
	return nil
}

// admitUpload refuses an upload unless its client may send it now.
func admitUpload(tx *gorm.DB, u Upload, bounds Bounds) error {
	who, err := maySend(tx, u.ClientID)
	if err != nil {
		return err
	}
	r, err := roomOf(tx, who, bounds, u.FileName)
	if err != nil {
		return err
	}
	return r.refuses(u.FileName, u.Size)
}

// begun is the error of beginning an upload: a refusal as it is, since its client reads
// it.
func begun(err error) error {
	if err == nil || isRefusal(err) {
		return err
	}
	return fmt.Errorf("begin upload: %w", err)
}
