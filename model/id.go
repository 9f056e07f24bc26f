package model

import (
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// ID names a client or an object: 16 random bytes, shaped as a version 4 UUID
// (RFC 9562, section 5.4). The column holds the raw bytes.
type ID [16]byte

// NewID makes a random ID. It never begins with 0x16, the first byte of a TLS
// record: on a connection the first bytes of a version 3 client are its id, and
// the server tells the protocols apart by them.
func NewID() ID {
	var id ID
	for id[0] == 0 || id[0] == 0x16 {
		rand.Read(id[:]) // never fails, see crypto/rand
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads the 32 hexadecimal digits that String writes, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return ID{}, fmt.Errorf("id %q: want %d hexadecimal digits", s, 2*len(id))
	}
	return ID(b), nil
}

// IsZero reports whether id is unset.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the 32 hexadecimal digits of id, upper-case as the first
// client writes them.
func (id ID) String() string { return fmt.Sprintf("%X", id[:]) }

// Value implements driver.Valuer.
func (id ID) Value() (driver.Value, error) { return id[:], nil }

// Scan implements sql.Scanner.
func (id *ID) Scan(src any) error {
	b, ok := src.([]byte)
	if s, isString := src.(string); isString {
		b, ok = []byte(s), true
	}
	if !ok || len(b) != len(id) {
		return fmt.Errorf("id column holds %T of %d bytes, want %d", src, len(b), len(id))
	}
	copy(id[:], b)
	return nil
}

// GormDBDataType implements gorm's schema.GormDataTypeInterface.
func (ID) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	return binaryType(db, len(ID{}))
}

// binaryType is the column type for n raw bytes: SQLite keeps bytes in any
// column, PostgreSQL only in bytea.
func binaryType(db *gorm.DB, n int) string {
	if db.Name() == "postgres" {
		return "bytea"
	}
	return fmt.Sprintf("varchar(%d)", n)
}
