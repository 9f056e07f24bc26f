package postgrestest

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Line is a way to a database that a test can break.
type Line struct {
	Address string // of the database, through the line

	listens []net.Listener

	mu      sync.Mutex
	commit  func(done bool) (broken bool)
	cut     bool
	carried map[net.Conn]struct{} // connections of clients
	pending sync.WaitGroup
}

// NewLine starts a line to a new, empty database, as Database makes one.
func NewLine(t testing.TB) *Line {
	t.Helper()
	return Between(t, Own(t).Create(t), Own(t))
}

// Between starts a line to a database of a cluster, and to those that may take the
// cluster's place, until the test ends.
func Between(t testing.TB, database string, clusters ...*Cluster) *Line {
	t.Helper()
	l := &Line{carried: make(map[net.Conn]struct{})}
	t.Cleanup(func() {
		for _, listen := range l.listens {
			listen.Close()
		}
		l.Cut(true)
		l.pending.Wait()
	})
	var hosts []string
	for _, c := range clusters {
		listen, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal("postgrestest: ", err)
		}
		l.listens = append(l.listens, listen)
		hosts = append(hosts, listen.Addr().String())
		l.pending.Go(func() { l.accept(listen, c.dir+"/.s.PGSQL.5432") })
	}
	l.Address = fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", role, strings.Join(hosts, ","), database)
	if len(clusters) > 1 {
		l.Address += writable
	}
	return l
}

// OnCommit has do called at each COMMIT: before the database hears of it and, with done,
// when it has answered and nobody has been told. Where do returns true, the connection
// breaks. It is called by several connections at once.
func (l *Line) OnCommit(do func(done bool) (broken bool)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commit = do
}

// Cut breaks all connections, and those to come until it is called with false.
func (l *Line) Cut(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut = yes; yes {
		for near := range l.carried {
			near.Close()
		}
	}
}

func (l *Line) accept(listen net.Listener, target string) {
	for {
		near, err := listen.Accept()
		if err != nil {
			return
		}
		l.pending.Go(func() { l.serve(near, target) })
	}
}

// take notes a connection, unless the line is cut.
func (l *Line) take(near net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.carried[near] = struct{}{}
	}
	return !l.cut
}

func (l *Line) leave(near net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.carried, near)
}

// breaks asks whether to break a connection at a COMMIT.
func (l *Line) breaks(done bool) bool {
	l.mu.Lock()
	do := l.commit
	l.mu.Unlock()
	return do != nil && do(done)
}

var commitQuery = []byte("commit\x00")

func (l *Line) serve(near net.Conn, target string) {
	defer near.Close()
	if !l.take(near) {
		return
	}
	defer l.leave(near)
	far, err := net.Dial("unix", target)
	if err != nil {
		return
	}
	defer far.Close()
	var committing atomic.Bool
	go func() {
		defer near.Close()
		defer far.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := near.Read(buffer)
			if bytes.Contains(bytes.ToLower(buffer[:n]), commitQuery) {
				if l.breaks(false) {
					return
				}
				committing.Store(true)
			}
			if n > 0 {
				if _, err := far.Write(buffer[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := far.Read(buffer)
		if n > 0 && committing.Swap(false) && l.breaks(true) {
			return
		}
		if n > 0 {
			if _, err := near.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
