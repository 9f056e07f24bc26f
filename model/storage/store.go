package storage

import (
	"context"
	"io"
)

// Store is where content is kept: as immutable objects under random keys, each of
// which counts from the moment the catalogue says so. Folder is one; package s3 has
// another. Its methods may be called from any number of goroutines.
//
// Errors are those of this package where one fits: ErrDegraded where the store does
// not work at the moment, ErrNoSpace, ErrTooLarge, ErrGone.
type Store interface {
	// Limits returns what uploads must keep to.
	Limits() Limits

	// Begin opens an upload under key that comes as one stream of at most size bytes,
	// for WriteStream.
	Begin(ctx context.Context, key string, size int64) (Partial, error)
	// BeginBlocks opens an upload under key of exactly size bytes in chunks of chunk
	// bytes, of which the last may be shorter, for WriteBlock.
	BeginBlocks(ctx context.Context, key string, size, chunk int64) (Partial, error)
	// ResumeBlocks opens an upload again that BeginBlocks began, perhaps in another
	// process or on another machine, from the token that it had there. It returns
	// ErrGone unless the upload is there with its size.
	ResumeBlocks(ctx context.Context, key, token string, size, chunk int64) (Partial, error)
	// Settle completes an upload whose sealing was interrupted: it is an object,
	// durable, when Settle returns. Where the store cannot tell from marks that the
	// content is whole, read is called with it, and its error is returned. ErrGone:
	// there is nothing, or not all of it.
	Settle(ctx context.Context, s Sealed, read func(io.Reader) error) error
	// PutAll makes small objects, durable when it returns. After an error none of them
	// counts; Remove takes away what is there.
	PutAll(ctx context.Context, objects ...Small) error

	// Open opens an object for reading. It returns ErrGone if there is none.
	Open(key string) (Reader, error)
	// Has reports whether there is an object of this size under key.
	Has(key string, size int64) (bool, error)
	// Remove removes objects and open uploads; absent is fine.
	Remove(keys ...string) error
	// Purge is Remove for good: once it has returned, no power cut brings them back.
	Purge(keys ...string) error

	// Degraded returns why the store takes nothing new, nil while it does; Probe asks
	// a degraded store whether it works again.
	Degraded() error
	Probe() error
	// Reach looks whether the store answers.
	Reach() error
	// Free returns the bytes that are free; math.MaxInt64 where nobody can tell.
	Free() (int64, error)
	Close() error
}

type senderKey struct{}

// For returns a context for the uploads of a sender: where a store has less room than
// all want, none gets it at the cost of all others.
func For(ctx context.Context, sender string) context.Context {
	return context.WithValue(ctx, senderKey{}, sender)
}

// Sender returns the sender of For, empty without one.
func Sender(ctx context.Context) string {
	sender, _ := ctx.Value(senderKey{}).(string)
	return sender
}

// Limits are what a store asks of uploads.
type Limits struct {
	MinChunk  int64 // bytes of the smallest chunk, a power of two; a file's only or last one may be shorter
	MaxChunks int   // of one upload
	// Marks: Sync gives marks, and Seal, Holds and Settle go by them.
	Marks bool
	// Shared: several processes may write to the store at once.
	Shared bool
	// PackAll: small files stay in packs, however few come together, since each object
	// costs the store as much as many bytes.
	PackAll bool
}

// Partial is an open upload. Its content counts only from Seal on, and then only if
// the catalogue says so.
type Partial interface {
	// Token is what ResumeBlocks needs beside the key: empty where it needs nothing,
	// and until the first chunk is durable.
	Token() string
	// WriteStream reads from r until its end and writes what comes: at most limit
	// bytes, one more and it returns ErrTooLong. It returns how many came; an error of
	// r is returned as it is. Writing overlaps with reading.
	WriteStream(ctx context.Context, r io.Reader, limit int64) (int64, error)
	// WriteBlock writes the first n bytes of a block at off. The blocks of a chunk come
	// in order, its first at the chunk's beginning, which starts the chunk afresh;
	// those of different chunks come in any order, and at once. It may wait for room,
	// of which the sender's other uploads take some as well (For).
	WriteBlock(b *Block, n int, off int64) error
	// Forget drops what was written of a chunk that is not whole.
	Forget(chunk int)
	// Sync makes durable every chunk that is whole, and returns the marks of those
	// that have any: what the store knows a chunk's content by. After an error the
	// upload can only be discarded.
	Sync() (marks map[int]string, err error)
	// Holds reports whether a chunk that was durable once, with this mark, still is.
	// A store without marks has prove read it, whose error means that it is not.
	Holds(chunk int, mark string, prove func(io.Reader) error) (bool, error)
	// SetLabel keeps a label with the object that it will be, where the store can.
	SetLabel(label []byte) error
	// Seal makes the upload an object of exactly size bytes, durable under its key, of
	// the chunks that have these marks, one a chunk; nil where there are none. It is
	// final: later writes fail. After an error the upload can only be discarded.
	Seal(ctx context.Context, size int64, marks []string) error
	// Discard removes the upload's bytes; of a sealed one as well.
	Discard() error
	// Close gives back what the process holds of it; the bytes stay.
	Close() error
}

// Sealed is an upload that its sender has verified.
type Sealed struct {
	Key, Token string
	Size       int64
	Chunk      int64    // bytes of a chunk; 0 for one that came as a stream
	Marks      []string // of all its chunks, where the catalogue has them
}

// Reader is an open object.
type Reader interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

var _ Store = (*Folder)(nil)
