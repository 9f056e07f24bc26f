package send3

import (
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"fenc/modes/send"
	"fenc/wire/v3"
)

const (
	pieceSize = 512 << 10 // bytes read, encrypted and written at once
	pieces    = 3         // one is read and encrypted, one waits, one is written
)

// piecePool keeps buffers between files; each has room for the padding.
var piecePool = sync.Pool{New: func() any {
	b := make([]byte, pieceSize+v3.BlockSize)
	return &b
}}

// readError is a source that cannot be read on in the middle of its content.
type readError struct{ err error }

func (e *readError) Error() string { return fmt.Sprintf("read the file: %v", e.err) }
func (e *readError) Unwrap() error { return e.err }

// writeContent reads size bytes of r, encrypts them, and writes the ciphertext to
// w. It returns the plaintext's checksum. Reading and encrypting go on while a
// goroutine writes, which tells sent of each piece.
//
// The length was announced, so a source that ends early is filled up with zeros:
// the conversation stays in step, and missing says how many bytes were made up.
func writeContent(w io.Writer, r io.Reader, size int64, key v3.SessionKey, waits *send.Waits, sent func(n int64)) (checksum uint32, missing int64, err error) {
	ready, done := make(chan *[]byte, pieces-2), make(chan error, 1)
	failed := make(chan struct{})
	go func() { done <- writePieces(w, ready, failed, waits, sent) }()
	defer func() {
		close(ready)
		if writeErr := <-done; err == nil {
			err = writeErr
		}
	}()

	encrypt := v3.NewEncrypter(key)
	for left, last := size, false; !last; {
		buf := piecePool.Get().(*[]byte)
		n := int(min(left, pieceSize))
		waits.Enter(send.Disk)
		got, err := io.ReadFull(r, (*buf)[:n])
		waits.Leave(send.Disk)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return 0, 0, &readError{err}
		}
		clear((*buf)[got:n])
		missing += int64(n - got)
		left -= int64(n)
		waits.Enter(send.Hashing)
		checksum = crc32.Update(checksum, crc32.IEEETable, (*buf)[:n])
		// The last piece is the one that takes the padding: of an exact
		// multiple, an empty one follows.
		if last = n < pieceSize; last {
			*buf = encrypt.Final(*buf, n)
		} else {
			*buf = (*buf)[:n]
			encrypt.Blocks(*buf)
		}
		waits.Leave(send.Hashing)
		select {
		case ready <- buf:
		case <-failed:
			return 0, 0, nil // the writer's error goes out
		}
	}
	return checksum, missing, nil
}

// writePieces writes what arrives on ready and gives the buffers back. At the
// first error it closes failed and ends.
func writePieces(w io.Writer, ready <-chan *[]byte, failed chan<- struct{}, waits *send.Waits, sent func(n int64)) error {
	for buf := range ready {
		waits.Enter(send.Writing)
		n, err := w.Write(*buf)
		waits.Leave(send.Writing)
		sent(int64(n))
		*buf = (*buf)[:pieceSize+v3.BlockSize]
		piecePool.Put(buf)
		if err != nil {
			close(failed)
			return err
		}
	}
	return nil
}
