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

	Protocol     int    `gorm:"not null"`           // version the client registered with; its id serves no other
	Fingerprint  Hash   `gorm:"uniqueIndex"`        // of the public key, by which protocol 4 finds its client; zero in version 3
	Rights       Rights `gorm:"not null;default:7"` // what it may do
	Quota        int64  `gorm:"not null;default:0"` // bytes that its files and open uploads may take; 0 is no bound
	RevokedAt    Time   // when it was revoked; zero while it is not
	Folder       string `gorm:"type:varchar(255);not null"`             // the client's folder in the storage
	FolderKey    string `gorm:"type:varchar(255);not null;uniqueIndex"` // Folder as a case-folding file system sees it
	RegisteredAt Time   `gorm:"not null"`

	// Retention of its own, where it has one; nil leaves it to the server's.
	KeepVersions *int64 // earlier versions of a file that are kept
	ExpireAfter  *int64 // nanoseconds from a file's receipt to its removal; 0 is never
	KeepPartial  *int64 // nanoseconds that an upload waits which does not get on

	Changed int64 `gorm:"not null;default:0;index"` // number of the operator's change that last concerned it; see Catalogue.Reload
}

// PublicKey is a client's public key as DER SubjectPublicKeyInfo (RFC 5280,
// section 4.1.2.7), 160 bytes for version 3.
type PublicKey []byte

// GormDBDataType implements gorm's schema.GormDataTypeInterface.
func (PublicKey) GormDBDataType(db *gorm.DB, _ *schema.Field) string { return binaryType(db, 160) }

// Rights is a set of what a client may do.
type Rights uint8

const (
	// RightSend: send files under new names.
	RightSend Rights = 1 << iota
	// RightRead: list and fetch its own files, and learn what of them is stored.
	RightRead
	// RightReplace: put new content in the place of what it sent before.
	RightReplace

	// AllRights is what a client has unless it was given less.
	AllRights = RightSend | RightRead | RightReplace
)

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
	Checksum   uint32 `gorm:"not null"`                               // CRC-32 (IEEE) of the plaintext; 0 where it came by protocol 4
	Digest     Hash   // BLAKE3 of the plaintext; zero where it came by protocol 3
	ModTime    int64  `gorm:"not null;default:0"` // of the file at its sender: nanoseconds since 1970; 0 where it came by protocol 3
	Mode       uint32 `gorm:"not null;default:0"` // of the file at its sender: permission bits & 0777; 0 where it came by protocol 3
	Object     ID     `gorm:"not null"`           // what holds the content, unless Pack does
	Pack       *ID    `gorm:"index"`              // object that still holds the content, among that of others
	PackOffset int64  `gorm:"not null;default:0"` // where in the pack the content begins
	Version    int64  `gorm:"not null"`           // 1, and one more with each replacement
	Protocol   int    `gorm:"not null"`           // version it came by
	ReceivedAt Time   `gorm:"not null;index"`
	Change     int64  `gorm:"not null;index"` // grows with every commit of any file; see Catalogue.Settled

	Client *Client `gorm:"foreignKey:ClientID;references:ID;constraint:OnDelete:RESTRICT"`
}

// KeptVersion is verified content that stood under a file's name before the
// present one, and is kept.
type KeptVersion struct {
	FileID     int64  `gorm:"primaryKey;autoIncrement:false"`
	Version    int64  `gorm:"primaryKey;autoIncrement:false"`
	ClientID   ID     `gorm:"not null;index"`
	Size       int64  `gorm:"not null"` // this and what follows is as in File
	Checksum   uint32 `gorm:"not null"`
	Digest     Hash
	ModTime    int64  `gorm:"not null"`
	Mode       uint32 `gorm:"not null"`
	Object     ID     `gorm:"not null;index"`
	Pack       *ID    `gorm:"index"`
	PackOffset int64  `gorm:"not null"`
	Protocol   int    `gorm:"not null"`
	ReceivedAt Time   `gorm:"not null;index"`
	ReplacedAt Time   `gorm:"not null"`
}

// TableName implements gorm's schema.Tabler.
func (KeptVersion) TableName() string { return "versions" }

// EventKind says what an event is about.
type EventKind string

const (
	// EventVerified: a file is verified, with new content.
	EventVerified EventKind = "file.verified"
	// EventExpired: a file has been removed, since its time was over.
	EventExpired EventKind = "file.expired"
)

// EventState says what becomes of an event.
type EventState string

const (
	// EventWaiting is an event that will be delivered, again if need be.
	EventWaiting EventState = "waiting"
	// EventDead is an event that nobody took in time. It stays for the operator.
	EventDead EventState = "dead"
)

// Event is news of a file for one destination. It is written in the transaction
// that changes the file, and leaves when it has been delivered.
type Event struct {
	Seq         int64      `gorm:"primaryKey;autoIncrement;index:event_file,priority:3"` // in the order of the changes
	EventID     ID         `gorm:"not null;index"`                                       // the same for all destinations
	Destination string     `gorm:"type:varchar(16);not null;index:event_due,priority:1;index:event_file,priority:1"`
	Kind        EventKind  `gorm:"type:varchar(32);not null"`
	State       EventState `gorm:"type:varchar(16);not null;index:event_due,priority:2"`
	Attempts    int        `gorm:"not null"`                             // deliveries that failed
	Since       Time       `gorm:"not null"`                             // what the time for retries counts from
	DueAt       Time       `gorm:"not null;index:event_due,priority:3"`  // when to deliver it, while it waits
	Error       string     `gorm:"type:varchar(1024);not null"`          // of the last failure
	FileID      int64      `gorm:"not null;index:event_file,priority:2"` // events of one file are delivered in order
	ClientID    ID         `gorm:"not null"`
	ClientName  string     `gorm:"type:varchar(127);not null"`
	FileName    string     `gorm:"type:varchar(255);not null"`
	FilePath    string     `gorm:"type:varchar(255);not null"`
	Size        int64      `gorm:"not null"`
	Checksum    uint32     `gorm:"not null"`
	Digest      Hash
	ModTime     int64 `gorm:"not null"`
	Version     int64 `gorm:"not null"`
	Protocol    int   `gorm:"not null"`
	Object      ID    `gorm:"not null"`
	At          Time  `gorm:"not null"` // of the change
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
	Size      int64       `gorm:"not null"`                   // bytes of plaintext: protocol 3: the most there can be while open; protocol 4: exact
	Checksum  uint32      `gorm:"not null"`                   // CRC-32 (IEEE), from sealing on, by protocol 3
	Digest    Hash        // BLAKE3, from sealing on, by protocol 4
	ChunkSize int64       `gorm:"not null;default:0"` // bytes of a chunk, the last may be shorter; 0 by protocol 3
	ModTime   int64       `gorm:"not null;default:0"`
	Mode      uint32      `gorm:"not null;default:0"`
	Protocol  int         `gorm:"not null"`
	State     UploadState `gorm:"type:varchar(16);not null"`
	Path      string      `gorm:"type:varchar(255);not null"`            // where the file should stand in the client's folder
	SparePath string      `gorm:"type:varchar(255);not null;default:''"` // where, if another file stands there; empty: nowhere
	StartedAt Time        `gorm:"not null"`
	TouchedAt Time        // when it was last resumed or got on; zero by protocol 3

	Token      string `gorm:"type:varchar(1024);not null;default:''"` // by which a store that is not a folder knows the upload; empty until it has one
	Epoch      int64  `gorm:"not null;default:0"`                     // how often a process has taken it to complete it
	LeaseUntil Time   // until when the last of these has it for itself

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

// Chunk is a chunk of an open upload that is durable in the storage.
type Chunk struct {
	UploadID ID     `gorm:"primaryKey"`
	Number   int64  `gorm:"primaryKey;autoIncrement:false"`        // 0 is the first
	Hash     Hash   `gorm:"not null"`                              // its BLAKE3 chaining value, or the root's of a file of one chunk
	Mark     string `gorm:"type:varchar(255);not null;default:''"` // by which a store that is not a folder knows that it is this chunk
}

// Tree is the chunks' hashes of an object of two or more chunks, so that a
// changed file can be sent by its changed chunks alone.
type Tree struct {
	Object    ID     `gorm:"primaryKey"`
	ChunkSize int64  `gorm:"not null"`
	Hashes    []byte `gorm:"not null"` // 32 bytes a chunk, in order
}

// Pack is an object that holds the content of many small files until each has
// an object of its own.
type Pack struct {
	ID     ID    `gorm:"primaryKey"`
	MadeAt Time  `gorm:"not null"`
	Size   int64 `gorm:"not null;default:0"` // bytes of the content that it was made of; 0 where that is not known
}

// Invite lets one key register, once, or take the place of a client's key.
type Invite struct {
	TokenHash Hash   `gorm:"primaryKey"`                 // SHA-256 of the token; the token itself is nowhere
	Name      string `gorm:"type:varchar(127);not null"` // that the client gets; empty: the one it asks for
	Rights    Rights `gorm:"not null"`
	Quota     int64  `gorm:"not null"` // bytes; 0 is no bound
	CreatedAt Time   `gorm:"not null"`
	ExpiresAt Time   `gorm:"not null"`
	RevokedAt Time
	UsedAt    Time
	UsedBy    Hash // fingerprint of the key that used it
	ClientID  *ID  // the client that it made; from the beginning, if it is to rekey that client
	Rekey     bool `gorm:"not null"` // whether it gives ClientID another key
}

// setting is a value the catalogue keeps about itself.
type setting struct {
	Name  string `gorm:"primaryKey;type:varchar(64)"`
	Value int64  `gorm:"not null"`
	Text  string `gorm:"type:varchar(1024);not null;default:''"`
}
