package send4_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// network is a network in memory whose delays, cuts and silences follow from a seed:
// each connection draws its own from the seed and its number, so that what happens to
// one does not depend on how goroutines take turns. Its time is that of time, and so of
// the bubble it is used in.
//
// A write never waits for the reader. One that did, with a lock held as TLS has it,
// would stop the bubble's clock, which does not know a wait for a lock.
type network struct {
	seed   uint64
	dialed atomic.Uint64
	left   atomic.Int64 // cuts and silences that may still happen

	mu       sync.Mutex
	listener *listener // nil: nobody listens
}

func newNetwork(seed uint64, faults int64) *network {
	n := &network{seed: seed}
	n.left.Store(faults)
	return n
}

// listener accepts connections of a network.
type listener struct {
	n      *network
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// listen is the server's begin, or that of its successor.
func (n *network) listen() *listener {
	l := &listener{n: n, conns: make(chan net.Conn, 64), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = l
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.n.mu.Lock()
		defer l.n.mu.Unlock()
		if l.n.listener == l {
			l.n.listener = nil
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 4} }

// dial is net.Dialer's DialContext.
func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	number := n.dialed.Add(1)
	random := rand.New(rand.NewPCG(n.seed, number))
	client, server := n.pair(random, number)
	select {
	case <-time.After(2 * client.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	l := n.listener
	n.mu.Unlock()
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
}

// fate is what happens to a connection.
type fate int

const (
	lives  fate = iota
	resets      // both ends hear of it
	ends        // one direction ends, the other one is reset later
	fades       // nothing arrives any more, and nobody hears of it
)

// pair makes a connection: its delay, its rate, and its fate.
func (n *network) pair(random *rand.Rand, number uint64) (client, server *conn) {
	delay := time.Duration(random.ExpFloat64() * float64(20*time.Millisecond))
	rate := 100e3 * (1 + random.ExpFloat64()*100) // bytes a second
	address := func(last byte) net.Addr {
		return &net.TCPAddr{IP: net.IPv4(10, 0, 1, last), Port: int(1000 + number%60000)}
	}
	shared := &life{}
	client = &conn{life: shared, delay: delay, rate: rate, local: address(2), remote: address(1), random: rand.New(rand.NewPCG(random.Uint64(), 1))}
	server = &conn{life: shared, delay: delay, rate: rate, local: address(1), remote: address(2), random: rand.New(rand.NewPCG(random.Uint64(), 2))}
	client.peer, server.peer = server, client
	client.changed, server.changed = make(chan struct{}), make(chan struct{})
	client.until, server.until = -1, -1
	if random.IntN(4) > 0 && n.left.Add(-1) >= 0 {
		shared.fate = resets + fate(random.IntN(3))
		doomed := client
		if random.IntN(2) == 0 {
			doomed = server
		}
		doomed.until = int64(random.ExpFloat64() * 500e3)
		if random.IntN(3) == 0 { // within the handshake and the first messages
			doomed.until = random.Int64N(4000)
		}
	}
	return client, server
}

// life is what both ends of a connection share.
type life struct {
	mu    sync.Mutex
	fate  fate
	dead  bool // reset, or faded
	reset bool
}

// segment is bytes on their way.
type segment struct {
	at   time.Time // when they arrive
	data []byte
	end  bool
}

// conn is one end of a connection.
type conn struct {
	*life
	delay         time.Duration
	rate          float64
	local, remote net.Addr
	random        *rand.Rand // of what this end writes; under mu
	peer          *conn
	until         int64 // bytes that this end may write before the fate comes; -1: it does not

	// Under mu.
	queue    []segment
	last     time.Time // when the last segment that was sent here arrives
	changed  chan struct{}
	deadline time.Time
	closed   bool
	ended    bool // this end writes no more
}

var errReset = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}

// wake has the reader of c look again. c.mu is held.
func (c *conn) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		now := time.Now()
		var next time.Time
		switch {
		case c.closed:
			c.mu.Unlock()
			return 0, net.ErrClosed
		case c.reset:
			c.mu.Unlock()
			return 0, errReset
		case !c.deadline.IsZero() && !now.Before(c.deadline):
			c.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case len(c.queue) > 0 && !now.Before(c.queue[0].at):
			defer c.mu.Unlock()
			s := &c.queue[0]
			if s.end {
				return 0, io.EOF
			}
			n := copy(p, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				c.queue = c.queue[1:]
			}
			return n, nil
		case len(c.queue) > 0:
			next = c.queue[0].at
		}
		if !c.deadline.IsZero() && (next.IsZero() || c.deadline.Before(next)) {
			next = c.deadline
		}
		changed := c.changed
		c.mu.Unlock()
		if next.IsZero() {
			<-changed
			continue
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed || c.ended:
		return 0, net.ErrClosed
	case c.reset:
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: os.NewSyscallError("write", syscall.EPIPE)}
	}
	written := len(p)
	for len(p) > 0 && !c.dead {
		n := min(len(p), 1+c.random.IntN(64<<10))
		if c.until >= 0 && int64(n) >= c.until {
			n = int(c.until)
			c.send(segment{data: bytes.Clone(p[:n])})
			c.meet()
			break
		}
		if c.until >= 0 {
			c.until -= int64(n)
		}
		c.send(segment{data: bytes.Clone(p[:n])})
		p = p[n:]
	}
	return written, nil
}

// send puts a segment on its way, behind those before it. c.mu is held.
func (c *conn) send(s segment) {
	jitter := time.Duration(c.random.ExpFloat64() * float64(c.delay) / 4)
	takes := time.Duration(float64(len(s.data)) / c.rate * float64(time.Second))
	s.at = time.Now().Add(c.delay + jitter)
	if c.peer.last.After(s.at) {
		s.at = c.peer.last
	}
	s.at = s.at.Add(takes)
	c.peer.last = s.at
	c.peer.queue = append(c.peer.queue, s)
	c.peer.wake()
}

// meet is what happens where a doomed end has written what it may. c.mu is held.
func (c *conn) meet() {
	c.dead = true
	switch c.fate {
	case resets:
		c.hangUp()
	case ends:
		c.send(segment{end: true})
		later := c.delay + time.Duration(c.random.ExpFloat64()*float64(10*time.Second))
		time.AfterFunc(later, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.hangUp()
		})
	}
}

// hangUp resets both ends. c.mu is held.
func (c *conn) hangUp() {
	c.dead, c.reset = true, true
	c.wake()
	c.peer.wake()
}

// Close ends the connection; the peer reads what is on its way, and then the end, or a
// reset where bytes were unread here.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	c.wake()
	switch {
	case c.dead:
	case len(c.queue) > 0 && !c.queue[0].end:
		c.hangUp()
	case !c.ended:
		c.send(segment{end: true})
	}
	return nil
}

// CloseWrite is the end of what this end writes.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.ended {
		return net.ErrClosed
	}
	c.ended = true
	if !c.dead {
		c.send(segment{end: true})
	}
	return nil
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.deadline = t
	c.wake()
	return nil
}

// SetWriteDeadline does nothing: a write does not wait.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }
