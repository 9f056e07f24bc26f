package storage

import (
	"context"
	"errors"
	"io"
	"sync"
	"unsafe"
)

// BlockSize is the bytes of a Block.
const BlockSize = blockSize

// Block is a buffer of BlockSize bytes, aligned so that it can be written past
// the page cache. NewBlock takes one from a pool, FreeBlock gives it back.
type Block = []byte

// NewBlock returns a block; its content is whatever it was.
func NewBlock() *Block { return blockPool.Get().(*[]byte) }

// FreeBlock gives a block back, which must not be used any more.
func FreeBlock(b *Block) { blockPool.Put(b) }

const (
	blockSize = 1 << 20 // bytes written at once, and the length of a pooled buffer
	blocks    = 2       // buffers of one copy: one is filled while one is written
	pushEvery = 8 << 20 // bytes after which buffered content is pushed out
)

// blockPool keeps buffers between copies, aligned for direct writes.
var blockPool = sync.Pool{New: func() any {
	raw := make([]byte, blockSize+directAlign)
	skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & (directAlign - 1)
	b := raw[skip : skip+blockSize : skip+blockSize]
	return &b
}}

// block is a filled buffer on its way to the disk.
type block struct {
	buf *[]byte
	n   int
	off int64
}

// copyAt copies r to w from offset off on. A goroutine of its own writes, so
// that reading (and whatever r does to its bytes) and the disk keep each other
// busy. Whole blocks go past the page cache where the file system allows it: a
// server that only stores has no use for the copy, and the disk works while the
// rest still arrives.
func copyAt(ctx context.Context, w *output, off int64, r io.Reader, limit int64) (n int64, readErr, writeErr error) {
	filled, free := make(chan block, blocks), make(chan *[]byte, blocks)
	for range blocks - 1 {
		free <- nil // taken from the pool when they are needed: small files need one
	}
	failed := make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- writeBlocks(w, filled, free, failed) }()

	buf := blockPool.Get().(*[]byte)
	for readErr == nil {
		if readErr = ctx.Err(); readErr != nil {
			break
		}
		var got int
		got, readErr = fill(r, *buf)
		if n+int64(got) > limit {
			readErr = ErrTooLong
			break
		}
		if got == 0 {
			break
		}
		filled <- block{buf, got, off + n}
		n += int64(got)
		buf = nil
		if readErr != nil {
			break
		}
		select {
		case buf = <-free:
		case <-failed:
			readErr = io.EOF // the writer says why
		}
		if buf == nil && readErr == nil {
			buf = blockPool.Get().(*[]byte)
		}
	}
	if buf != nil {
		blockPool.Put(buf)
	}
	close(filled)
	writeErr = <-done
	for {
		select {
		case b := <-free:
			if b != nil {
				blockPool.Put(b)
			}
		default:
			if readErr == io.EOF {
				readErr = nil
			}
			return n, readErr, writeErr
		}
	}
}

// fill reads until p is full or r gives an error, which it returns as it is.
// io.ReadFull would make one of an end within p that r itself may mean as a fault.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = r.Read(p[n:])
		n += got
	}
	return n, err
}

// writeBlocks writes what arrives on filled and hands the buffers back on free.
// At the first error it closes failed and takes the rest unwritten.
func writeBlocks(w *output, filled <-chan block, free chan<- *[]byte, failed chan<- struct{}) error {
	var err error
	var unpushed int64
	for b := range filled {
		direct := false
		if err == nil {
			direct, err = w.write(b)
			if err != nil {
				close(failed)
			}
		}
		if unpushed += int64(b.n); !direct && unpushed >= pushEvery {
			w.Push(b.off+int64(b.n)-unpushed, unpushed)
			unpushed = 0
		}
		free <- b.buf
	}
	return err
}

// output is a file and the mode of its descriptor, which the writers of several
// chunks share.
type output struct {
	File

	mu      sync.Mutex
	direct  bool // the descriptor writes past the page cache
	refused bool // the file system does no such writes
}

// write writes one block and reports whether it went past the page cache. A file
// system that takes the flag for direct writes and then refuses the write itself
// gets it the other way.
func (o *output) write(b block) (direct bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	whole := b.n == blockSize && b.off%directAlign == 0
	if want := whole && !o.refused; want != o.direct {
		switch err := o.Direct(want); {
		case err == nil:
			o.direct = want
		case want:
			o.refused = true
		default:
			return false, err
		}
	}
	_, err = o.WriteAt((*b.buf)[:b.n], b.off)
	if o.direct && errors.Is(err, errInvalid) {
		if err := o.Direct(false); err != nil {
			return false, err
		}
		o.direct, o.refused = false, true
		_, err = o.WriteAt((*b.buf)[:b.n], b.off)
	}
	return o.direct, err
}
