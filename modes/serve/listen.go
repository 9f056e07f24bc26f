package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Listeners makes one listener of several, whose address is that of the first.
func Listeners(all ...net.Listener) net.Listener {
	if len(all) == 1 {
		return all[0]
	}
	l := &listeners{all: all, came: make(chan accepted), closed: make(chan struct{})}
	for _, one := range all {
		l.running.Go(func() { l.accept(one) })
	}
	return l
}

type listeners struct {
	all     []net.Listener
	came    chan accepted
	closed  chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// accept hands on what one listener accepts, errors too; one at a time, so that who
// takes them sets the pace.
func (l *listeners) accept(from net.Listener) {
	for {
		conn, err := from.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case l.came <- accepted{conn, err}:
		case <-l.closed:
			if err == nil {
				conn.Close()
			}
			return
		}
	}
}

// Accept implements net.Listener.
func (l *listeners) Accept() (net.Conn, error) {
	select {
	case a := <-l.came:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listeners) Close() error {
	var err error
	l.once.Do(func() {
		close(l.closed)
		for _, one := range l.all {
			err = errors.Join(err, one.Close())
		}
		l.running.Wait()
	})
	return err
}

// Addr implements net.Listener.
func (l *listeners) Addr() net.Addr { return l.all[0].Addr() }

// longestHandling is how long the loop that accepts connections may be busy with
// one.
const longestHandling = 10 * time.Second

// Alive reports whether connections are accepted, and places for them given, as
// they should be.
func (s *Server) Alive(ctx context.Context) error {
	if since := s.handling.Load(); since != 0 {
		if busy := time.Since(time.Unix(0, since)); busy > longestHandling {
			return fmt.Errorf("accepting connections has stood still for %s", busy.Round(time.Second))
		}
	}
	free := make(chan struct{})
	go func() {
		defer close(free)
		s.mu.Lock()
		defer s.mu.Unlock()
	}()
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sessions are not given places: %w", ctx.Err())
	}
}
