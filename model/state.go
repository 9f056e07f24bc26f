package model

import (
	"context"
	"fmt"

	"gorm.io/gorm"
)

// Ping asks the database whether it answers. Its error, of ctx where that is over,
// harms nothing.
func (c *Catalogue) Ping(ctx context.Context) error {
	if err := c.Err(); err != nil {
		return err
	}
	// Past judge: that ctx is over says nothing of the database.
	pool, err := c.db.DB()
	if err != nil {
		return err
	}
	var version int64
	if err := pool.QueryRowContext(ctx, "SELECT value FROM settings WHERE name = 'schema'").Scan(&version); err != nil {
		return fmt.Errorf("ask the catalogue: %w", err)
	}
	return nil
}

// Shared reports whether the database is no part of this process, and other servers
// may use it: that it does not answer is then no fault of this one.
func (c *Catalogue) Shared() bool {
	_, shared := c.engine.(*shared)
	return shared
}

// Faults returns how many errors of the database there have been, of either kind.
func (c *Catalogue) Faults() int64 { return c.faults.Load() }

// Partials returns how many uploads are open, and the bytes that are recorded as
// held of them.
func (c *Catalogue) Partials() (uploads int, bytes int64, err error) {
	var found struct {
		Uploads int
		Bytes   int64
	}
	err = c.read(func(db *gorm.DB) error {
		return db.Raw(`SELECT
			(SELECT COUNT(*) FROM uploads WHERE state = ?) AS uploads,
			(SELECT COALESCE(SUM(CASE WHEN u.size - c.number * u.chunk_size < u.chunk_size THEN u.size - c.number * u.chunk_size ELSE u.chunk_size END), 0)
				FROM uploads u JOIN chunks c ON c.upload_id = u.id WHERE u.state = ?) AS bytes`, UploadOpen, UploadOpen).Scan(&found).Error
	})
	return found.Uploads, found.Bytes, err
}
