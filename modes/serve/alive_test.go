package serve

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"fenc/config/need"
)

// quiet is a listener that hands on what it is told to.
type quiet struct {
	net.Listener
	errs chan error
}

func (q *quiet) Accept() (net.Conn, error) {
	if err := <-q.errs; err != nil {
		return nil, err
	}
	return nil, net.ErrClosed
}
func (q *quiet) Close() error   { close(q.errs); return nil }
func (q *quiet) Addr() net.Addr { return &net.TCPAddr{Port: 7} }

func TestListenersAcceptFromAll(t *testing.T) {
	t.Parallel()
	var all []net.Listener
	for range 2 {
		all = append(all, need.Listen(t))
	}
	failing := &quiet{errs: make(chan error, 1)}
	l := Listeners(append(all, failing)...)
	if l.Addr() != all[0].Addr() {
		t.Errorf("got %v, want the first one's address", l.Addr())
	}
	for _, one := range all {
		client, err := net.Dial("tcp", one.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := l.Accept()
		if err != nil || got.RemoteAddr().String() != client.LocalAddr().String() {
			t.Errorf("got %v, %v, want the connection", got, err)
		}
		client.Close()
		got.Close()
	}
	passes := errors.New("no descriptors are left")
	failing.errs <- passes
	if _, err := l.Accept(); err != passes {
		t.Errorf("got %v, want the error of the one that has it", err)
	}
	waiting, err := net.Dial("tcp", all[1].Addr().String()) // accepted by nobody
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	if c, err := net.Dial("tcp", all[0].Addr().String()); err == nil {
		c.Close()
		t.Error("one still listens")
	}
	if single := Listeners(failing); single != net.Listener(failing) {
		t.Errorf("of one: got %v", single)
	}
}

func TestAliveWhileConnectionsAreAccepted(t *testing.T) {
	t.Parallel()
	var s Server
	if err := s.Alive(t.Context()); err != nil {
		t.Errorf("idle: %v", err)
	}
	s.handling.Store(time.Now().UnixNano())
	if err := s.Alive(t.Context()); err != nil {
		t.Errorf("busy for a moment: %v", err)
	}
	s.handling.Store(time.Now().Add(-longestHandling - time.Second).UnixNano())
	if err := s.Alive(t.Context()); err == nil {
		t.Error("standing still: no error")
	}
	s.handling.Store(0)
	s.mu.Lock()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Alive(over); !errors.Is(err, context.Canceled) {
		t.Errorf("locked for ever: got %v", err)
	}
	s.mu.Unlock()
}
