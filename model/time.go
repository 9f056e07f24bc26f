package model

import (
	"database/sql/driver"
	"fmt"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// timeLayout is the form that SQLite's own date functions read
// (https://sqlite.org/lang_datefunc.html, time values).
const timeLayout = "2006-01-02 15:04:05.999999999-07:00"

// Time is a point in time as the catalogue keeps it: UTC, in a text that the
// database's own date functions understand.
type Time struct{ time.Time }

// Value implements driver.Valuer. The zero Time is NULL.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UTC().Format(timeLayout), nil
}

// Scan implements sql.Scanner.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = Time{}
	case time.Time:
		*t = Time{v.UTC()}
	case string:
		parsed, err := time.Parse(timeLayout, v)
		if err != nil {
			return fmt.Errorf("time column: %w", err)
		}
		*t = Time{parsed.UTC()}
	default:
		return fmt.Errorf("time column holds %T", src)
	}
	return nil
}

// GormDBDataType implements gorm's schema.GormDataTypeInterface.
func (Time) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	if db.Name() == "postgres" {
		return "timestamptz"
	}
	return "datetime"
}
