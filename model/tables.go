package model

import (
	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// Limits of the specification's columns, in bytes.
const (
	MaxClientName = 127
	MaxFileName   = 255
)

// Client is a row of the specification's table clients.
type Client struct {
	ID        ID        `gorm:"primaryKey"`
	Name      string    `gorm:"type:varchar(127);not null;uniqueIndex"`
	PublicKey PublicKey // the first key this id came with; empty until then
	LastSeen  Time
	SharedKey string `gorm:"type:varchar(32);not null;default:''"` // the session's key in hex while it lasts, empty otherwise

	Protocol     int    `gorm:"not null"`                               // version the client registered with; its id serves no other
	Folder       string `gorm:"type:varchar(255);not null"`             // the client's folder in the storage
	FolderKey    string `gorm:"type:varchar(255);not null;uniqueIndex"` // Folder as a case-folding file system sees it
	RegisteredAt Time   `gorm:"not null"`
}

// PublicKey is a client's public key as DER SubjectPublicKeyInfo (RFC 5280,
// section 4.1.2.7), 160 bytes for version 3.
type PublicKey []byte

// GormDBDataType implements gorm's schema.GormDataTypeInterface.
func (PublicKey) GormDBDataType(db *gorm.DB, _ *schema.Field) string { return binaryType(db, 160) }

// File is a row of the specification's table files: the newest content that
// its client said was right.
type File struct {
	ID       int64  `gorm:"primaryKey;autoIncrement"`
	FileName string `gorm:"type:varchar(255);not null;uniqueIndex:client_file,priority:2"` // as it was sent
	FilePath string `gorm:"type:varchar(255);not null"`                                    // below the storage, "/"-separated
	ClientID ID     `gorm:"not null;uniqueIndex:client_file,priority:1"`
	Verified bool   `gorm:"not null"` // false: once verified, since found lost or damaged

	PathKey    string `gorm:"type:varchar(255);not null;uniqueIndex"` // FilePath as the storage's file system tells names apart
	Size       int64  `gorm:"not null"`                               // bytes of plaintext
	Checksum   uint32 `gorm:"not null"`                               // CRC-32 (IEEE) of the plaintext
	Object     ID     `gorm:"not null"`                               // what holds the content
	Version    int64  `gorm:"not null"`                               // 1, and one more with each replacement
	Protocol   int    `gorm:"not null"`                               // version it came by
	ReceivedAt Time   `gorm:"not null"`
	Change     int64  `gorm:"not null;index"` // grows with every commit of any file; see Catalogue.Settled

	Client *Client `gorm:"foreignKey:ClientID;references:ID;constraint:OnDelete:RESTRICT"`
}

// UploadState says how far an upload has come.
type UploadState string

const (
	// UploadOpen is an upload whose bytes may still arrive.
	UploadOpen UploadState = "open"
	// UploadSealing is an upload that its sender has verified: size and
	// checksum are final, and whatever interrupts its commit, it is completed.
	UploadSealing UploadState = "sealing"
)

// Upload is content on its way in. Its row is written before the first byte and
// leaves in the transaction that makes it a File, so that whatever lies in the
// storage is known to some row.
type Upload struct {
	ID        ID          `gorm:"primaryKey"` // of the object that it will be
	ClientID  ID          `gorm:"not null;index"`
	FileName  string      `gorm:"type:varchar(255);not null"` // as it was sent
	Size      int64       `gorm:"not null"`                   // bytes of plaintext: the most there can be while open, exact from sealing on
	Checksum  uint32      `gorm:"not null"`                   // CRC-32 (IEEE), from sealing on
	Protocol  int         `gorm:"not null"`
	State     UploadState `gorm:"type:varchar(16);not null"`
	Path      string      `gorm:"type:varchar(255);not null"`            // where the file should stand in the client's folder
	SparePath string      `gorm:"type:varchar(255);not null;default:''"` // where, if another file stands there; empty: nowhere
	StartedAt Time        `gorm:"not null"`

	Client *Client `gorm:"foreignKey:ClientID;references:ID;constraint:OnDelete:RESTRICT"`
}

// Garbage is an object that no file names any more. It is removed once nobody
// can still be reading it.
type Garbage struct {
	Object ID   `gorm:"primaryKey"`
	Since  Time `gorm:"not null;index"`
}

// TableName implements gorm's schema.Tabler.
func (Garbage) TableName() string { return "garbage" }

// setting is a value the catalogue keeps about itself.
type setting struct {
	Name  string `gorm:"primaryKey;type:varchar(64)"`
	Value int64  `gorm:"not null"`
}
