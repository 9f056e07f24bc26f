// Package v3 is protocol 3 as it is on the wire: its messages, their bounds, its
// content encryption and its keys.
//
// All integers are little-endian, all fixed text fields NUL-padded.
//
//	request header, 23 bytes:  client id [16] · version u8 = 3 · code u16 · payload size u32
//	response header, 7 bytes:  version u8 = 3 · code u16 · payload size u32
//
//	first contact:   1100 → 2100 | 2101 (name in use; server closes)      then as below
//	each session:    1101 → 2102
//	each attempt:    1103 → 2103, then one of 1104 | 1105 | 1106 → 2104
//
// A returning client opens with 1101 under its id. After 1105 it sends the file
// again; after 1104 it may go on with the next file. The first client, after its
// third mismatch, sends 1105, gets 2104, and then sends 1106 with no 1103 before
// it, and gets 2104 again.
package v3

// Version is the protocol's number in every header.
const Version = 3

// Sizes of the tables, in bytes.
const (
	RequestHeaderSize  = 23
	ResponseHeaderSize = 7
	NameSize           = 255 // every name field
	PublicKeySize      = 160 // DER of an RSA-1024 key with e = 17
	WrappedKeySize     = 128 // one RSA-1024 block
)

// FileFixedSize is the length of 1103's fixed fields, before its content, in
// bytes: client id, content size u32, file name.
const FileFixedSize int64 = int64(len(ClientID{})) + 4 + NameSize
