package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"fenc/config/need"
)

// relay is a way to a server that can be another one from one connection to the
// next, and that counts what clients send.
type relay struct {
	net.Listener
	server  atomic.Pointer[string]
	nowhere string
	sent    atomic.Int64
	back    atomic.Int64 // what servers send

	mu    sync.Mutex
	cutAt int64  // back at which a connection is cut, once; 0: never
	at    int64  // sent bytes at which
	event func() // happens, once
	ends  sync.WaitGroup

	carried int        // connections, guarded by mu
	left    *sync.Cond // one of them has ended
	live    []net.Conn
}

func newRelay(t testing.TB) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: l, nowhere: need.DeadAddress(t)}
	r.left = sync.NewCond(&r.mu)
	r.away()
	r.ends.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.count(1)
			go func() {
				defer r.count(-1)
				r.carry(c)
			}()
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.ends.Wait()
		r.idle()
	})
	return r
}

func (r *relay) count(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.carried += by
	r.left.Broadcast()
}

// idle waits until no connection is carried. Others may come meanwhile, which a
// WaitGroup does not allow.
func (r *relay) idle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.carried > 0 {
		r.left.Wait()
	}
}

func (r *relay) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", *r.server.Load())
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	r.live = append(r.live, client, server)
	r.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(&sending{server, r}, client)
		server.(*net.TCPConn).CloseWrite()
	})
	both.Go(func() {
		io.Copy(client, &counted{server, r, client})
		client.(*net.TCPConn).CloseWrite()
		client.(*net.TCPConn).CloseRead()
	})
	both.Wait()
}

// sending counts what a client sends.
type sending struct {
	net.Conn
	relay *relay
}

// Write counts before it passes on, or whom the server answers might end, and look, first.
func (s *sending) Write(p []byte) (int, error) {
	r := s.relay
	sent := r.sent.Add(int64(len(p)))
	n, err := s.Conn.Write(p)
	if err != nil {
		return n, err
	}
	r.mu.Lock()
	var event func()
	if sent >= r.at {
		event, r.event = r.event, nil
	}
	r.mu.Unlock()
	if event != nil {
		event() // which may hold up what clients send, and not what servers answer
	}
	return n, nil
}

// counted counts what a server sends.
type counted struct {
	net.Conn
	relay  *relay
	client net.Conn
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	back := c.relay.back.Add(int64(n))
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	if at := c.relay.cutAt; at > 0 && back >= at {
		c.relay.cutAt = 0
		c.Conn.Close()
		c.client.Close()
	}
	return n, err
}

// cutBack cuts a connection when servers have sent so many bytes more.
func (r *relay) cutBack(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutAt = r.back.Load() + bytes
}

// away has new connections lead nowhere until server is stored: for a server that is about
// to end, whose port anybody may be given then.
func (r *relay) away() { r.server.Store(&r.nowhere) }

// cut cuts all connections now.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.live {
		c.Close()
	}
	r.live = nil
}

// after has event happen when so many more bytes have been sent.
func (r *relay) after(bytes int64, event func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at, r.event = r.sent.Load()+bytes, event
}
