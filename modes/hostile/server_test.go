package hostile_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
)

// attack is what a client does to a server, and what must come of it. That the
// attacker's connection has its line in the log, that the next honest client is
// served and that nothing of others has changed is checked of all.
type attack struct {
	name  string
	do    func(a *attacker)
	log   string            // in the line about the end of the attacker's last connection
	keeps map[string]string // what the attacker's folder holds at the end
}

// attacker is the client that attacks.
type attacker struct {
	*testing.T
	*client
	last string            // address of the last connection
	kept map[string]string // what its folder holds, where that is known only at the end
}

// withstand runs attacks, all at once, against one server.
func withstand(t *testing.T, s *target, attacks []attack) {
	t.Helper()
	const atOnce = 16 // most of them wait, and -parallel counts processors
	room := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, attack := range attacks {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			t.Run(attack.name, func(t *testing.T) {
				a := &attacker{T: t, client: s.newClient(t, fmt.Sprintf("attacker %d", i))}
				attack.do(a)
				s.log.Await(t, fmt.Sprintf("%q", a.last), `"session ended"`, attack.log)
				if a.kept == nil {
					a.kept = attack.keeps
				}
				s.wantFolder(t, a.name, a.kept)
				s.serves(t)
			})
		})
	}
	all.Wait()
	must(t, s.end())
	s.wantNothingStray(t)
}

// dial opens a connection and says nothing.
func (a *attacker) dial() net.Conn {
	a.Helper()
	c := a.target.dial(a.T)
	a.last = c.LocalAddr().String()
	return c
}

// shake does a handshake with a configuration of one's own.
func (a *attacker) shake(change func(*tls.Config)) (*line, error) {
	a.Helper()
	config := a.config()
	if change != nil {
		change(config)
	}
	conn := tls.Client(a.dial(), config)
	err := conn.Handshake()
	return &line{conn, a.T, a.client}, err
}

// turnedAway checks that such a handshake leads to nothing: not a byte of content
// comes, and the connection ends.
func (a *attacker) turnedAway(change func(*tls.Config)) {
	a.Helper()
	l, err := a.shake(change)
	if err == nil { // with TLS 1.3 a client is done before the server has judged it
		var n int
		n, err = l.Read(make([]byte, 1))
		if n > 0 {
			a.Errorf("got content over a channel that must not be")
		}
	}
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		a.Errorf("got %v, want the handshake refused", err)
	}
}

// connect shakes hands as everybody.
func (a *attacker) connect() *line {
	a.Helper()
	l, err := a.shake(nil)
	must(a.T, err)
	return l
}

// session is an admitted connection.
func (a *attacker) session() *line {
	a.Helper()
	l := a.connect()
	l.hello()
	l.welcome()
	return l
}

// byHand shakes hands, and goes on record by record.
func (a *attacker) byHand() *records {
	a.Helper()
	r := a.client.byHand(a.T)
	a.last = r.LocalAddr().String()
	return r
}
