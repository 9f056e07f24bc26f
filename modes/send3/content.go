package send3

import (
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"fenc/wire/v3"
)

const (
	pieceSize = 256 << 10 // bytes read, encrypted and written at once; they stay in a processor's cache
	pieces    = 6         // on their way at most: read ahead, being encrypted, being written
)

// piecePool keeps buffers between files; each has room for the padding.
var piecePool = sync.Pool{New: func() any {
	b := make([]byte, pieceSize+v3.BlockSize)
	return &b
}}

// piece is a part of the content in a buffer from the pool.
type piece struct {
	buf  *[]byte
	n    int  // bytes of it that count
	last bool // the padding goes here
}

func (p piece) free() { piecePool.Put(p.buf) }

// readError is a source that cannot be read on in the middle of its content.
type readError struct{ err error }

func (e *readError) Error() string { return fmt.Sprintf("read the file: %v", e.err) }
func (e *readError) Unwrap() error { return e.err }

// pipeline is one file's content on its way from the source to the connection.
// Reading, encrypting and writing are three goroutines: encrypting is what takes
// longest and cannot be divided, so nothing else is done beside it.
type pipeline struct {
	plain, sealed chan piece
	slots         chan struct{} // one for each piece on its way
	failed        chan struct{} // closed by the writer when nothing more can be written

	// Of the reader, once plain is closed:
	checksum uint32
	missing  int64 // bytes made up
	readErr  error
}

// writeContent reads size bytes of r, encrypts them, and writes the ciphertext to
// w. It returns the plaintext's checksum.
//
// The length was announced, so a source that ends early is filled up with zeros:
// the conversation stays in step, and missing says how many bytes were made up.
func writeContent(w io.Writer, r io.Reader, size int64, key v3.SessionKey) (checksum uint32, missing int64, err error) {
	p := &pipeline{
		plain: make(chan piece, pieces), sealed: make(chan piece, pieces),
		slots: make(chan struct{}, pieces), failed: make(chan struct{}),
	}
	written := make(chan error, 1)
	go p.read(r, size)
	go func() { written <- p.write(w) }()

	encrypt := v3.NewEncrypter(key)
	for piece := range p.plain {
		if piece.last {
			piece.n = len(encrypt.Final(*piece.buf, piece.n))
		} else {
			encrypt.Blocks((*piece.buf)[:piece.n])
		}
		p.sealed <- piece // has room for all there are
	}
	close(p.sealed)
	if err := <-written; err != nil {
		return 0, 0, err
	}
	return p.checksum, p.missing, p.readErr
}

// read fills pieces and computes the checksum. The last piece, which takes the
// padding, is the one that is not full: after an exact multiple it is empty.
func (p *pipeline) read(r io.Reader, size int64) {
	defer close(p.plain)
	for left, last := size, false; !last; {
		select {
		case p.slots <- struct{}{}:
		case <-p.failed:
			return
		}
		next := piece{buf: piecePool.Get().(*[]byte), n: int(min(left, pieceSize))}
		buf := (*next.buf)[:next.n]
		got, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			p.readErr = &readError{err}
			next.free()
			return
		}
		clear(buf[got:])
		p.missing += int64(next.n - got)
		p.checksum = crc32.Update(p.checksum, crc32.IEEETable, buf)
		left -= int64(next.n)
		last = next.n < pieceSize
		next.last = last
		p.plain <- next
	}
}

// write writes what arrives and gives the buffers back. At the first error it
// closes failed and takes the rest unwritten.
func (p *pipeline) write(w io.Writer) error {
	var err error
	for piece := range p.sealed {
		if err == nil {
			if _, err = w.Write((*piece.buf)[:piece.n]); err != nil {
				close(p.failed)
			}
		}
		piece.free()
		<-p.slots
	}
	return err
}
