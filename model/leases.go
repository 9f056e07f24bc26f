package model

import (
	"errors"
	"time"

	"gorm.io/gorm"
)

// ErrLeased: another process has taken the upload to complete it.
var ErrLeased = errors.New("another process completes the upload")

func init() { refusals = append(refusals, ErrLeased) }

// SetToken records by what a store that is not a folder knows the upload. The first
// one stays: SetToken returns the token that the upload has, ErrNoUpload where there
// is no such upload.
func (c *Catalogue) SetToken(id ID, token string) (kept string, err error) {
	err = c.write(nobody, func(tx *gorm.DB) error {
		if err := tx.Model(&Upload{}).Where("id = ? AND token = ''", id).Update("token", token).Error; err != nil {
			return err
		}
		u, err := uploadOf(tx, id)
		kept = u.Token
		return err
	})
	return kept, err
}

// Lease takes an upload for so long, to complete it, and returns by which number.
// Seal, Renew and Commit ask for the number, and it is good until somebody else
// leases the upload. Lease returns ErrLeased while another one's time is not over,
// ErrNoUpload where there is no such upload.
func (c *Catalogue) Lease(id ID, length time.Duration) (epoch int64, err error) {
	err = c.write(ofUpload(id), func(tx *gorm.DB) error {
		mine := epoch // of a try whose outcome nobody was told
		now, err := c.engine.clock(tx)
		if err != nil {
			return err
		}
		taken := tx.Model(&Upload{}).Where("id = ? AND (lease_until IS NULL OR lease_until <= ?)", id, now).
			Updates(map[string]any{"epoch": gorm.Expr("epoch + 1"), "lease_until": Time{now.Add(length)}})
		if taken.Error != nil {
			return taken.Error
		}
		u, err := uploadOf(tx, id)
		if err != nil {
			return err
		}
		if taken.RowsAffected == 0 && (mine == 0 || u.Epoch != mine) {
			return ErrLeased
		}
		epoch = u.Epoch
		return nil
	})
	if err != nil {
		return 0, err
	}
	return epoch, nil
}

// Renew has a lease last for so long from now on. It returns ErrNoUpload where the
// upload is gone or somebody else has leased it since.
func (c *Catalogue) Renew(id ID, epoch int64, length time.Duration) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		now, err := c.engine.clock(tx)
		if err != nil {
			return err
		}
		done := tx.Model(&Upload{}).Where("id = ? AND epoch = ?", id, epoch).Update("lease_until", Time{now.Add(length)})
		if done.Error == nil && done.RowsAffected == 0 {
			return ErrNoUpload
		}
		return done.Error
	})
}

// SealingUnleased lists sealed uploads that nobody has leased, or not any more, the
// oldest first, at most limit.
func (c *Catalogue) SealingUnleased(limit int) ([]Upload, error) {
	var uploads []Upload
	err := c.read(func(db *gorm.DB) error {
		now, err := c.engine.clock(db)
		if err != nil {
			return err
		}
		return db.Preload("Client").Order("started_at, id").Limit(limit).
			Find(&uploads, "state = ? AND (lease_until IS NULL OR lease_until <= ?)", UploadSealing, now).Error
	})
	return uploads, err
}

// uploadOf reads an upload's row: ErrNoUpload where there is none.
func uploadOf(tx *gorm.DB, id ID) (u Upload, err error) {
	err = tx.Take(&u, "id = ?", id).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		err = ErrNoUpload
	}
	return u, err
}
