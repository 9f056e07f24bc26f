package servetest

import (
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Said is the server's end of a connection whose client has said everything: reading
// gives that, and then the end. What the server says is kept.
type Said struct {
	// Before, unless it is nil, is called before each read with what has not been read
	// yet, nothing before the end; at most so many bytes as it returns are read.
	Before func(left []byte) int
	// Wrote has an element when the server has said more, and nobody has taken it yet.
	Wrote chan struct{}

	said []byte // and not read

	mu     sync.Mutex
	heard  []byte
	closed bool
	done   chan struct{}
}

// NewSaid returns the server's end of a connection whose client has said b.
func NewSaid(b []byte) *Said {
	return &Said{said: b, done: make(chan struct{}), Wrote: make(chan struct{}, 1)}
}

// Heard waits until the server has closed the connection, and returns what it said. It
// reports false where that takes too long.
func (c *Said) Heard() ([]byte, bool) {
	late := time.NewTimer(Patience)
	defer late.Stop()
	select {
	case <-c.done:
	case <-late.C:
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard), true
}

// SoFar returns what the server has said by now.
func (c *Said) SoFar() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard)
}

// Read implements net.Conn.
func (c *Said) Read(p []byte) (int, error) {
	left := len(c.said)
	if c.Before != nil {
		left = c.Before(c.said)
	}
	if left == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.said[:left])
	c.said = c.said[n:]
	return n, nil
}

// Write implements net.Conn.
func (c *Said) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.heard = append(c.heard, p...)
	select {
	case c.Wrote <- struct{}{}:
	default:
	}
	return len(p), nil
}

// Close implements net.Conn.
func (c *Said) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		close(c.done)
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *Said) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// RemoteAddr implements net.Conn.
func (c *Said) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

// SetDeadline implements net.Conn: nothing here waits.
func (c *Said) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (c *Said) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (c *Said) SetWriteDeadline(time.Time) error { return nil }

// Brought is a listener whose connections come from Bring.
type Brought struct {
	next chan net.Conn
	shut chan struct{}
	once sync.Once
}

// NewBrought returns a listener that nobody connects to yet.
func NewBrought() *Brought { return &Brought{next: make(chan net.Conn), shut: make(chan struct{})} }

// Bring has Accept return c.
func (l *Brought) Bring(c net.Conn) {
	select {
	case l.next <- c:
	case <-l.shut:
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *Brought) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.shut:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Brought) Close() error {
	l.once.Do(func() { close(l.shut) })
	return nil
}

// Addr implements net.Listener.
func (l *Brought) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
