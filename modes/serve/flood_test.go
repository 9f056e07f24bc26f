package serve_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"fenc/model"
	"fenc/modes/serve"
	"fenc/modes/serve4"
	"fenc/modes/session4"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

func newIdentity(t testing.TB) v4.Identity {
	t.Helper()
	id, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// withProtocol4 has the server speak protocol 4 as well, under id, with anybody.
func withProtocol4(id v4.Identity) option {
	return withSettings(func(c *serve.Settings) {
		c.Protocol4 = &serve4.Settings{Identity: id, RequirePQ: true, Registration: model.RegistrationOpen, Software: "test"}
	})
}

// dialFrom connects from an address of the loopback network, of which there are many.
func dialFrom(t testing.TB, s *server, ip string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := dialer.Dial("tcp", s.addr)
	if err != nil {
		if runtime.GOOS != "linux" {
			t.Skipf("no address %s: %v", ip, err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// newcomer is a client of protocol 4 at an address.
type newcomer struct {
	session4.Settings
	me session4.Identity
}

func newNewcomer(t testing.TB, s *server, id v4.Identity, ip, name string) *newcomer {
	return &newcomer{
		session4.Settings{
			Server: s.addr, Pins: []v4.Fingerprint{id.Fingerprint()}, RequirePQ: true, ConnectTimeout: patience, Timeout: patience, Software: "test",
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) { return dialFrom(t, s, ip), nil },
		},
		session4.Identity{Name: name, Key: newIdentity(t)},
	}
}

// open is admitted.
func (n *newcomer) open(t testing.TB) *session4.Session {
	t.Helper()
	s, err := session4.Open(t.Context(), n.Settings, n.me, session4.NewRun(), 0)
	if err != nil {
		t.Fatalf("%s is not served: %v", n.me.Name, err)
	}
	t.Cleanup(s.Close)
	return s
}

// keep sends a small file and has it verified.
func keep(t testing.TB, s *session4.Session, path string) {
	t.Helper()
	answer := make(chan any, 1)
	content := []byte("content of " + path)
	err := s.Begin(func(m any) { answer <- m }, func(number uint32) any {
		return &v4.Small{Number: number, Path: path, Digest: v4.Digest(tree.Sum(content, 0, true)), Data: content}
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-answer:
		if r, ok := m.(*v4.Received); !ok || r.Size != uint64(len(content)) {
			t.Fatalf("%s is answered by %+v", path, m)
		}
	case <-s.Done():
		t.Fatal(s.Err())
	}
}

// wantClosedUnanswered checks that the server closes without a byte.
func wantClosedUnanswered(t testing.TB, c net.Conn) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n > 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("got %d bytes, %v, want the connection closed", n, err)
	}
}

// halfHandshake sends a ClientHello, reads the server's answer, and stops there.
func halfHandshake(t testing.TB, c net.Conn) {
	t.Helper()
	config := v4.ClientTLS(newIdentity(t), true)
	if err := tls.Client(hello4{c}, config).Handshake(); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("half a handshake: %v", err)
	}
	if _, err := io.ReadFull(c, make([]byte, 600)); err != nil {
		t.Fatalf("the server's answer: %v", err)
	}
}

// hello4 is a connection on which nothing is read.
type hello4 struct{ net.Conn }

func (hello4) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// A flood of connections that say nothing, or half of what they should, takes no
// place from those who are admitted, and none from a newcomer at another address.
func TestFloodFromOneAddressHurtsNoOther(t *testing.T) {
	t.Parallel()
	const places = 8
	id := newIdentity(t)
	s := start(t, t.TempDir(), withProtocol4(id), withSettings(func(c *serve.Settings) {
		c.MaxSessions, c.MaxUnadmitted = 4, places
		c.IdleTimeout = time.Hour // what is closed is closed for the flood
	}))
	dialFrom(t, s, "127.0.0.2").Close() // or there is no such address
	before := newNewcomer(t, s, id, "127.0.0.1", "before").open(t)
	ctx, stop := context.WithCancel(t.Context())
	var flood []net.Conn
	var flooding sync.WaitGroup
	flooding.Go(func() {
		for ctx.Err() == nil && len(flood) < 4000 {
			c := dialFrom(t, s, "127.0.0.2")
			if len(flood) < places/2 { // the others' own ends may be closed by then
				halfHandshake(t, c)
			}
			flood = append(flood, c)
		}
	})
	s.log.Await(t, "connections refused", "127.0.0.2", "max_unadmitted reached")
	for _, name := range []string{"one", "two", "three"} {
		n := newNewcomer(t, s, id, "127.0.0.3", name).open(t)
		keep(t, n, "a")
		n.Close()
	}
	keep(t, before, "b")
	stop()
	flooding.Wait()
	closed := make(chan struct{}, len(flood))
	var reading sync.WaitGroup
	for _, c := range flood {
		c.SetReadDeadline(time.Now().Add(patience))
		reading.Go(func() {
			var timeout net.Error
			if _, err := io.Copy(io.Discard, c); !errors.As(err, &timeout) || !timeout.Timeout() {
				closed <- struct{}{}
			}
		})
	}
	late := time.After(patience)
	for n := range len(flood) - places {
		select {
		case <-closed:
		case <-late:
			t.Fatalf("%d connections of the flood are open, want %d at most", len(flood)-n, places)
		}
	}
	for _, c := range flood {
		c.SetReadDeadline(time.Now())
	}
	reading.Wait()
	t.Logf("a flood of %d, %d of it closed at the end", len(flood), len(flood)-places+len(closed))
}

func TestHandshakesOfOneAddressAreHeldBack(t *testing.T) {
	t.Parallel()
	const perSecond = 1 // and ten times as many at once; a slow machine must not take a second for each
	id := newIdentity(t)
	s := start(t, t.TempDir(), withProtocol4(id), withSettings(func(c *serve.Settings) { c.MaxHandshakes = perSecond }))
	begun, served := time.Now(), 0
	for range 60 {
		c := dialFrom(t, s, "127.0.0.2")
		config := v4.ClientTLS(newIdentity(t), true, id.Fingerprint())
		if tls.Client(c, config).Handshake() == nil {
			served++
		}
		c.Close()
	}
	if most := 10*perSecond + int(time.Since(begun).Seconds()*perSecond) + 1; served < 10*perSecond || served > most {
		t.Errorf("%d handshakes of one address, want %d to %d", served, 10*perSecond, most)
	}
	s.log.Await(t, "connections refused", "127.0.0.2", "max_handshakes_per_address reached")
	keep(t, newNewcomer(t, s, id, "127.0.0.3", "elsewhere").open(t), "a")
}

// Clients that are admitted while others come may be more than there are places for:
// who comes last hears why, and that trying again helps.
func TestFullServerSaysSo(t *testing.T) {
	t.Parallel()
	id := newIdentity(t)
	s := start(t, t.TempDir(), withProtocol4(id), withSettings(func(c *serve.Settings) { c.MaxSessions = 1 }))
	second := newNewcomer(t, s, id, "127.0.0.1", "second")
	early := dialFrom(t, s, "127.0.0.1")
	second.Dial = func(context.Context, string, string) (net.Conn, error) { return early, nil }
	first := newNewcomer(t, s, id, "127.0.0.1", "first").open(t)
	_, err := session4.Open(t.Context(), second.Settings, second.me, session4.NewRun(), 0)
	var refusal *session4.RefusalError
	if !errors.As(err, &refusal) || refusal.Reason != v4.ReasonTooMany || !refusal.Again {
		t.Errorf("second: got %v, want reason %d and to try again", err, v4.ReasonTooMany)
	}
	wantClosedUnanswered(t, dialFrom(t, s, "127.0.0.1"))
	keep(t, first, "a")
}

// What a stranger has the server hold is little, however far he goes.
func TestStrangersCostLittle(t *testing.T) {
	const strangers = 256
	id := newIdentity(t)
	s := start(t, t.TempDir(), withProtocol4(id))
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	for range strangers {
		halfHandshake(t, dialFrom(t, s, "127.0.0.2"))
	}
	grown := int64(used()) - int64(before)
	if t.Logf("%d KiB a stranger, both ends", grown/strangers>>10); grown > strangers<<17 { // 57 KiB measured, and 69 under the race detector
		t.Errorf("%d strangers take %d KiB each, with their own ends", strangers, grown/strangers>>10)
	}
}
