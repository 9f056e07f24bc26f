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
// One goroutine may read while another writes; Interrupt and Close may come from
// any.
type Conn struct {
	net.Conn
	idle  time.Duration
	first []byte // sniffed, to be read yet

	mu          sync.Mutex // orders Interrupt and the setting of read deadlines
	interrupted bool

	renew    bool  // the next Read sets a deadline
	progress int64 // bytes read since the last deadline
}

// NewConn wraps c. idle is the longest silence.
func NewConn(c net.Conn, idle time.Duration) *Conn { return &Conn{Conn: c, idle: idle, renew: true} }

// Expect says that a message is awaited: it has the whole idle time to begin and
// get going.
func (c *Conn) Expect() { c.renew = true }

// Read implements io.Reader. Where the time is over it returns an error that
// wraps os.ErrDeadlineExceeded.
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		if c.first = c.first[n:]; len(c.first) == 0 {
			c.first = nil
		}
		return n, nil
	}
	if c.renew || c.progress >= c.leastProgress() {
		if err := c.setReadDeadline(); err != nil {
			return 0, err
		}
		c.renew, c.progress = false, 0
	}
	n, err := c.Conn.Read(p)
	c.progress += int64(n)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.interrupted {
			return n, ErrInterrupted
		}
		if c.progress > 0 {
			return n, fmt.Errorf("only %d bytes in %s: %w", c.progress, c.idle, err)
		}
		return n, fmt.Errorf("silent for %s: %w", c.idle, err)
	}
	return n, err
}

// leastProgress is how many bytes earn another idle time.
func (c *Conn) leastProgress() int64 {
	return max(leastRate, int64(c.idle.Seconds()*leastRate))
}

func (c *Conn) setReadDeadline() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted {
		return ErrInterrupted
	}
	return c.SetReadDeadline(time.Now().Add(c.idle))
}

// Interrupt ends the Read under way, and every later one, with ErrInterrupted.
func (c *Conn) Interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupted = true
	c.SetReadDeadline(time.Unix(1, 0))
}

// Write implements io.Writer. Each 256 KiB must be taken within the idle time.
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
// read, and are returned for a log.
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
