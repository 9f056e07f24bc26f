// Package bandwidth has connections keep to a bound of bytes a second, which may
// change by the time of the day while they run.
package bandwidth

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fenc/modes/send"
)

// piece is how many bytes are let pass at once: little enough that the least bound
// is kept within a second, and a change of it is followed within seconds.
const piece = 16 << 10

// Limit is a bound that any number of connections share, for each way.
type Limit struct {
	at   func(time.Time) int64
	now  func() time.Time
	up   way
	down way
}

type way struct {
	mu      sync.Mutex
	bound   int64 // that limiter has
	limiter *rate.Limiter
}

// New makes a limit of at(t) bytes a second each way at the time t; 0 is no bound.
func New(at func(t time.Time) int64) *Limit {
	return &Limit{at: at, now: time.Now}
}

// Conn is c, kept to the limit. Only what is read and written through it counts.
// What it waits for, w is told.
func (l *Limit) Conn(c net.Conn, w *send.Waits) net.Conn {
	ctx, cancel := context.WithCancel(context.Background())
	return &conn{Conn: c, limit: l, waits: w, ctx: ctx, cancel: cancel}
}

// wait returns when n more bytes, at most a piece, may pass.
func (l *Limit) wait(ctx context.Context, w *way, n int) error {
	bound := l.at(l.now())
	w.mu.Lock()
	if w.limiter == nil || bound != w.bound {
		w.bound = bound
		limit := rate.Limit(bound)
		if bound == 0 {
			limit = rate.Inf
		}
		if w.limiter == nil {
			w.limiter = rate.NewLimiter(limit, piece)
		} else {
			w.limiter.SetLimit(limit)
		}
	}
	limiter := w.limiter
	w.mu.Unlock()
	return limiter.WaitN(ctx, n)
}

type conn struct {
	net.Conn
	limit  *Limit
	waits  *send.Waits
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
}

// Write implements io.Writer. Each piece has the deadline of a Write of its own.
func (c *conn) Write(p []byte) (int, error) {
	written := 0
	for {
		part := p[written:min(len(p), written+piece)]
		if err := c.wait(&c.limit.up, send.Writing, len(part)); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(part)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Read implements io.Reader. It waits behind reading, so that the peer, whose
// sending the network holds back then, is waited for no longer than else.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), piece)])
	if n > 0 {
		if waited := c.wait(&c.limit.down, send.Reading, n); err == nil {
			err = waited
		}
	}
	return n, err
}

func (c *conn) wait(w *way, as send.Stage, n int) error {
	c.waits.Enter(as)
	defer c.waits.Leave(as)
	c.waits.Enter(send.Limited)
	defer c.waits.Leave(send.Limited)
	if c.limit.wait(c.ctx, w, n) != nil {
		return net.ErrClosed
	}
	return nil
}

// Close closes the connection, and ends waiting.
func (c *conn) Close() error {
	c.cancel()
	return c.Conn.Close()
}
