package v4

import "fmt"

// Limits of what a frame carries.
const (
	MaxBlock   = 1 << 20 // bytes of content in one 1108, 1111 or 2115
	MaxPath    = 1024    // bytes
	MaxText    = 1024    // bytes of a refusal's text
	MaxEntries = 1000    // entries of one 2113
	maxChunks  = 16384   // chunks of a file
)

// ID is an upload's, a client's or an instance's: 16 random bytes.
type ID [16]byte

func (id ID) String() string { return fmt.Sprintf("%X", id[:]) }

// Digest is a BLAKE3 digest, or the chaining value of a chunk.
type Digest [32]byte

// String returns the 64 lower-case hexadecimal digits that b3sum prints.
func (d Digest) String() string { return fmt.Sprintf("%x", d[:]) }

// The messages, one struct a code: the fields in the order they travel. Numbers
// are little endian; text is its length as u16 and UTF-8; a list is its length as
// u32 and its elements; content is the rest of the payload.

// Hello is request 1100. It opens every session and is idempotent.
type Hello struct {
	Minor    uint8  // protocol's minor version
	Wishes   uint8  // rights that the session asks for: the bits of Welcome.Rights
	Stream   uint8  // 0 opens a session; 1 and on are further connections of it
	Instance ID     // random, one for each run of the client
	Epoch    uint64 // grows with each new session of the instance; its streams carry the session's
	Token    Token  // of an invite; zeros: none
	Name     string `max:"127"` // zero bytes: the one the server knows
	Software string `max:"64"`
}

// Rights a session has, as bits.
const (
	RightSend    = 1 << iota // offer new files
	RightRead                // list and fetch, and learn what is stored
	RightReplace             // put new content in the place of old
)

// Welcome is response 2100: the client is admitted.
type Welcome struct {
	Minor       uint8
	Rights      uint8    // what is granted: what was wished and what the client has
	ClientID    ID       // the client's, for people and logs
	WindowFiles uint32   // requests without an answer, at most
	WindowBytes uint32   // bytes of content in 1111 without an answer, at most
	MaxFileSize uint64   // bytes; 0: no bound
	Quota       uint64   // bytes; 0: no bound
	UsedBytes   uint64   // bytes of verified files; 0 without the right to read
	UsedFiles   uint64   // verified files; 0 without the right to read
	Name        string   `max:"127"`
	Software    string   `max:"64"`
	NextKeys    []Digest `max:"4"` // fingerprints of keys that the server will have after this one
}

// Refusal is response 2101: the session ends.
type Refusal struct {
	Reason Reason
	Again  bool   // whether trying again later can help
	Text   string `max:"1024"` // for people
}

// Offer flags.
const (
	OfferDigest = 1 << iota // Digest is known
	OfferWhole              // the content will come in one 1111, if at all
)

// Offer is request 1103. It is answered by 2105, 2103 or 2110.
type Offer struct {
	Number  uint32 // the client's number for it on this connection
	Flags   uint8
	Size    uint64 // bytes, below 2^63
	ModTime int64  // nanoseconds since 1970
	Mode    uint16 // permission bits, & 0777
	Digest  Digest // zeros where it is not known yet
	Path    string `max:"1024"`
}

// Accept flags.
const (
	AcceptWhole = 1 << iota // send the content in one 1111; no upload is open
)

// Accept is response 2105: send what is not held.
type Accept struct {
	Number    uint32
	Flags     uint8
	Upload    ID
	ChunkSize uint64     // bytes: a power of two from 1 MiB
	Held      []HeldHash `max:"16384"`
}

// HeldHash is a chunk that is durable at the server.
type HeldHash struct {
	Chunk uint32
	Hash  Digest
}

// Earlier is response 2106, before a 2105: the chunks of the verified version
// that stands under the path.
type Earlier struct {
	Number    uint32
	ChunkSize uint64
	Size      uint64
	Hashes    []Digest `max:"16384"`
}

// Attach is request 1107: this connection will send blocks of an upload that
// another connection of the same client has open. Answered by 2107 or 2110.
type Attach struct {
	Number uint32 // for this connection
	Upload ID
}

// Attached is response 2107.
type Attached struct{ Number uint32 }

// Block is request 1108: content of an upload. It is not answered.
type Block struct {
	Number uint32
	Offset uint64
	Data   []byte `rest:"1048576"`
}

// Barrier is request 1109: answered by 2112 once every block that came before it
// on this connection is written.
type Barrier struct{ Serial uint32 }

// Reached is response 2112.
type Reached struct{ Serial uint32 }

// Copy is request 1116: these chunks are as in the version that 2106 told of.
// It is not answered.
type Copy struct {
	Number uint32
	Chunks []uint32 `max:"16384"`
}

// Finish is request 1110: all is sent, and this is the digest of the whole file.
// It is answered by 2103, 2108, 2109 or 2110.
type Finish struct {
	Number uint32
	Digest Digest
}

// Received is response 2103: the content is durable, catalogued, and equal to
// what the client read.
type Received struct {
	Number    uint32
	Unchanged bool // it had been there before
	Size      uint64
	Digest    Digest
}

// Missing is response 2108: chunks that have not come.
type Missing struct {
	Number uint32
	Chunks []uint32 `max:"16384"`
}

// Differs is response 2109: the digest of what was stored is another one; these
// are its chunks' hashes.
type Differs struct {
	Number uint32
	Hashes []Digest `max:"16384"`
}

// Resend is request 1105: the client will send these chunks again, in another
// attempt. It is not answered.
type Resend struct {
	Number uint32
	Chunks []uint32 `max:"16384"`
}

// GiveUp is request 1106: the upload is to be forgotten. Answered by 2104.
type GiveUp struct{ Number uint32 }

// Ended is response 2104.
type Ended struct{ Number uint32 }

// Held is response 2111: so many bytes of the upload are durable.
type Held struct {
	Number uint32
	Bytes  uint64
}

// Wait is response 2118: the answer takes longer; it is sent every 5 s.
type Wait struct{ Number uint32 }

// Refused is response 2110: one request is refused, and what it opened is over.
type Refused struct {
	Number uint32
	Reason Reason
	Again  bool
	Text   string `max:"1024"`
}

// Small is request 1111: a whole file. Answered by 2103 or 2110.
type Small struct {
	Number  uint32
	ModTime int64
	Mode    uint16
	Digest  Digest
	Path    string `max:"1024"`
	Data    []byte `rest:"1048576"`
}

// List is request 1112: the client's own files below a folder, in the order of
// their paths' bytes. Answered by 2113 or 2110.
type List struct {
	Number uint32
	Limit  uint16 // entries at most, 1 to 1,000
	Prefix string `max:"1024"` // a file, or a folder without "/" at its end; empty: all
	After  string `max:"1024"` // the last path of the page before; empty: from the start
}

// Entries is response 2113.
type Entries struct {
	Number  uint32
	More    bool
	Entries []Entry `max:"1000"`
}

// Entry is one file of a list.
type Entry struct {
	Size     uint64
	ModTime  int64
	Received int64 // nanoseconds since 1970
	Mode     uint16
	Digest   Digest // zeros where the file came by version 3
	Path     string `max:"1024"`
}

// Fetch is request 1113: the content of one of the client's own files, from an
// offset on. Answered by 2114, 2115 … and 2116, or by 2110.
type Fetch struct {
	Number uint32
	Offset uint64
	Digest Digest // the version that is meant; zeros: the newest
	Path   string `max:"1024"`
}

// File is response 2114.
type File struct {
	Number  uint32
	Size    uint64
	ModTime int64
	Mode    uint16
	Digest  Digest
}

// Data is response 2115.
type Data struct {
	Number uint32
	Offset uint64
	Data   []byte `rest:"1048576"`
}

// DataEnd is response 2116.
type DataEnd struct{ Number uint32 }

// Ping is request 1114, at any time; answered by 2117 with the same value.
type Ping struct{ Value uint64 }

// Pong is response 2117.
type Pong struct{ Value uint64 }

// Bye is request 1115: the client is done. Answered by 2120.
type Bye struct{}

// Farewell is response 2120; the connection is closed after it.
type Farewell struct{}
