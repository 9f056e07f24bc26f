package model

import (
	"bytes"
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

func (id ID) compare(other ID) int { return bytes.Compare(id[:], other[:]) }

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

// Hash is a digest of 32 bytes: BLAKE3 of content, SHA-256 of a key or a token.
// The zero Hash stands for none, and is NULL in its column.
type Hash [32]byte

// IsZero reports whether h is unset.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the 64 hexadecimal digits of h, lower-case as b3sum and
// sha256sum print them.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Value implements driver.Valuer.
func (h Hash) Value() (driver.Value, error) {
	if h.IsZero() {
		return nil, nil
	}
	return h[:], nil
}

// Scan implements sql.Scanner.
func (h *Hash) Scan(src any) error {
	*h = Hash{}
	var b []byte
	switch v := src.(type) {
	case nil:
		return nil
	case []byte:
		b = v
	case string:
		b = []byte(v)
	}
	if len(b) != len(h) {
		return fmt.Errorf("digest column holds %T of %d bytes, want %d", src, len(b), len(h))
	}
	copy(h[:], b)
	return nil
}

// GormDBDataType implements gorm's schema.GormDataTypeInterface.
func (Hash) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	return binaryType(db, len(Hash{}))
}
