package v4

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
)

// bufferSize is the bytes that are read or written by one system call while
// content moves: one TLS record of 16 KiB each would cost a quarter of the speed.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// Buffered is what TLS stands on: it moves several records by one
// system call either way. What is written stays in memory until Flush, or until
// the buffer is full. Its buffers are held only while content moves.
//
// One goroutine may read while another writes.
type Buffered struct {
	net.Conn

	in      *[]byte // nil while the connection idles
	pending []byte  // of in, read from the connection and not yet by the caller
	busy    bool    // the last read filled the caller's buffer: more is waiting

	mu   sync.Mutex // guards what follows: TLS may write on its own, to answer a key update
	hold bool       // false during the handshake, which waits for answers
	out  *[]byte    // nil while nothing is held back
	n    int        // bytes of out that are held back
}

// Conn is a TLS connection whose handshake is done. Written bytes go out at
// Flush, or as the buffer below fills.
type Conn struct {
	*tls.Conn
	below *Buffered
}

// Secure puts TLS on c, as the server (tls.Server) or the client (tls.Client),
// and does the handshake. c's deadlines are the caller's.
func Secure(ctx context.Context, c net.Conn, config *tls.Config, as func(net.Conn, *tls.Config) *tls.Conn) (*Conn, error) {
	below := &Buffered{Conn: c}
	secured := as(below, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	below.mu.Lock()
	below.hold = true
	below.mu.Unlock()
	return &Conn{Conn: secured, below: below}, nil
}

// Flush sends what was written.
func (c *Conn) Flush() error { return c.below.Flush() }

// Read implements io.Reader.
func (b *Buffered) Read(p []byte) (int, error) {
	if len(b.pending) == 0 {
		if !b.busy || len(p) >= bufferSize {
			// While little comes, straight to the caller: no buffer is held while waiting.
			n, err := b.Conn.Read(p)
			b.busy = n == len(p)
			return n, err
		}
		if b.in == nil {
			b.in = buffers.Get().(*[]byte)
		}
		n, err := b.Conn.Read(*b.in)
		b.pending = (*b.in)[:n]
		if n == 0 {
			b.release()
			return 0, err
		}
	}
	n := copy(p, b.pending)
	b.pending = b.pending[n:]
	if len(b.pending) == 0 {
		b.release()
	}
	return n, nil
}

// release gives the buffer back unless it is about to be needed again.
func (b *Buffered) release() {
	b.pending = nil
	if b.in != nil {
		buffers.Put(b.in)
		b.in = nil
	}
	b.busy = false
}

// Write implements io.Writer.
func (b *Buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.hold {
		return b.Conn.Write(p)
	}
	written := 0
	for {
		if b.out == nil {
			b.out = buffers.Get().(*[]byte)
		}
		n := copy((*b.out)[b.n:], p[written:])
		b.n += n
		written += n
		if written == len(p) {
			return written, nil
		}
		if err := b.flush(); err != nil {
			return written, err
		}
	}
}

// Flush sends what is held back.
func (b *Buffered) Flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flush()
}

func (b *Buffered) flush() error {
	if b.out == nil {
		return nil
	}
	_, err := b.Conn.Write((*b.out)[:b.n])
	buffers.Put(b.out)
	b.out, b.n = nil, 0
	return err
}
