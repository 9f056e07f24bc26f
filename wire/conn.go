package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// ErrInterrupted: reading was ended by Interrupt.
var ErrInterrupted = errors.New("interrupted")

const (
	leastRate  = 1 << 10   // bytes a second inside a message
	writePiece = 256 << 10 // bytes that one write deadline is for
)

// Conn is a connection on which neither silence nor dribbling lasts: a message
// must begin within the idle time, and then go on at 1 KiB a second or faster.
// Only time spent waiting in Read counts: what this side does between two reads
// is not held against the peer. One goroutine may read while another writes;
// Interrupt and Close may come from any.
//
// It holds no bytes but those that Sniff has looked at.
type Conn struct {
	net.Conn
	idle  time.Duration
	first []byte // sniffed, to be read yet

	mu          sync.Mutex // orders Interrupt and the setting of read deadlines
	interrupted bool

	renew    bool          // the next Read begins a new idle time
	patience time.Duration // what is left of the idle time
	progress int64         // bytes read in this idle time
}

// NewConn wraps c. idle is the longest silence, and the longest that 256 KiB may
// take to be written.
func NewConn(c net.Conn, idle time.Duration) *Conn { return &Conn{Conn: c, idle: idle, renew: true} }

// Expect says that a message is awaited: it has the whole idle time to begin and
// get going.
func (c *Conn) Expect() { c.renew = true }

// Read implements io.Reader. Where the time is over it returns an error that
// wraps os.ErrDeadlineExceeded, and after Interrupt ErrInterrupted.
func (c *Conn) Read(p []byte) (int, error) {
	if c.renew || c.progress >= c.leastProgress() {
		c.renew, c.patience, c.progress = false, c.idle, 0
	}
	begun := time.Now()
	if err := c.setReadDeadline(begun.Add(c.patience)); err != nil {
		return 0, err
	}
	if len(c.first) > 0 {
		n := copy(p, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.patience -= time.Since(begun)
	c.progress += int64(n)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return n, c.whyOver(err)
	}
	return n, err
}

// leastProgress is how many bytes earn another idle time.
func (c *Conn) leastProgress() int64 {
	return max(leastRate, int64(c.idle.Seconds()*leastRate))
}

// setReadDeadline sets the next read's deadline, unless reading was interrupted.
func (c *Conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted {
		return ErrInterrupted
	}
	return c.SetReadDeadline(t)
}

// whyOver says what a read that met its deadline was ended by.
func (c *Conn) whyOver(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.interrupted:
		return ErrInterrupted
	case c.progress > 0:
		return fmt.Errorf("only %d bytes in %s: %w", c.progress, c.idle, err)
	default:
		return fmt.Errorf("silent for %s: %w", c.idle, err)
	}
}

// Interrupt ends the Read under way, and every later one, with ErrInterrupted.
// Writes go on.
func (c *Conn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	c.SetReadDeadline(time.Unix(1, 0))
}

// Write implements io.Writer. Each 256 KiB must be taken within the idle time;
// after that it returns an error that wraps os.ErrDeadlineExceeded, and the
// connection is of no more use. Up to 256 KiB are one write of the connection
// below.
func (c *Conn) Write(p []byte) (int, error) {
	written := 0
	for {
		if err := c.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
			return written, err
		}
		piece := p[written:min(len(p), written+writePiece)]
		n, err := c.Conn.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Sniff reads until the first bytes tell what is spoken. The bytes stay to be
// read, and are returned for a log. An end of the connection before the first
// byte is io.EOF, later io.ErrUnexpectedEOF; other errors are Read's.
func (c *Conn) Sniff() (Kind, []byte, error) {
	buf := make([]byte, 0, SniffLen)
	for {
		kind, decided := Sniff(buf)
		if decided {
			c.first = buf
			return kind, buf, nil
		}
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 && err != nil {
			if err == io.EOF && len(buf) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return KindUnknown, buf, err
		}
	}
}

// Linger tells the peer that nothing more will be written, and reads and throws
// away what still comes until its end, for as long as d. Closing a connection with
// unread bytes would take from the peer what it has not read yet.
func (c *Conn) Linger(d time.Duration) {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.Conn.SetReadDeadline(time.Now().Add(d))
	io.Copy(io.Discard, io.LimitReader(c.Conn, 64<<20))
}
