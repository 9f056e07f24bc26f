package serve4

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"lukechampine.com/blake3"

	"fenc/wire"
	"fenc/wire/v4"
)

// dial begins a session with the place's server. The test is in a bubble of synctest.
func (p *place) dial(t *testing.T) net.Conn {
	client, server := net.Pipe()
	s := p.server.NewSession(wire.NewConn(server, time.Minute), func() bool { return true })
	go func() {
		s.Run(t.Context())
		server.Close()
	}()
	return client
}

// handshake does the client's part of it. What it returns has an element when it is over.
func (p *place) handshake(t *testing.T, c net.Conn) (*tls.Conn, chan error) {
	t.Helper()
	identity, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	secured := tls.Client(c, v4.ClientTLS(identity, true, p.server.settings.Load().Identity.Fingerprint()))
	over := make(chan error, 1)
	go func() { over <- secured.Handshake() }()
	return secured, over
}

// wantOver waits for everybody, and checks that the handshake is over by then, and well.
func wantOver(t *testing.T, over chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-over:
		if err != nil {
			t.Errorf("the handshake: %v", err)
		}
	default:
		t.Error("the handshake waits for a turn that is free")
	}
}

// unread is a connection of which nothing is read.
type unread struct{ net.Conn }

func (unread) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// Costly work before anybody has proved a key: OpenSSH's. Handshakes compute on half of
// the cores at the most, whoever is slow or gone gives his turn back, and who is
// admitted needs none.
func TestHandshakesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		here := newPlace(t)
		defer here.leave(t)
		turns := here.server.turns
		if want := max(1, runtime.GOMAXPROCS(0)/2); cap(turns) != want {
			t.Errorf("%d handshakes compute at once, want %d", cap(turns), want)
		}
		admitted, over := here.handshake(t, here.dial(t))
		wantOver(t, over)
		hears := v4.NewReader(admitted)
		asks := func(message any) any {
			t.Helper()
			_, err := admitted.Write(v4.Append(nil, message))
			if err != nil {
				t.Fatal(err)
			}
			h, err := hears.Next()
			if err != nil {
				t.Fatal(err)
			}
			answer, err := hears.Message(h)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		if m, ok := asks(&v4.Hello{Wishes: v4.RightSend, Instance: v4.ID{2}, Epoch: 1, Name: "admitted"}).(*v4.Welcome); !ok {
			t.Fatalf("the hello is answered by %+v", m)
		}
		here.clients++

		for range cap(turns) {
			turns <- struct{}{}
		}
		next, over := here.handshake(t, here.dial(t))
		gone, _ := here.handshake(t, here.dial(t))
		gone.NetConn().Close()
		synctest.Wait()
		if len(over) > 0 {
			t.Errorf("a handshake is over that had no turn: %v", <-over)
		}
		content := []byte("meanwhile")
		if m, ok := asks(&v4.Small{Number: 1, Mode: 0o600, Path: "b", Digest: blake3.Sum256(content), Data: content}).(*v4.Received); !ok {
			t.Errorf("while handshakes wait, an admitted client's file is answered by %+v", m)
		}
		for range cap(turns) {
			<-turns
		}
		wantOver(t, over)
		next.NetConn().Close()

		var slow []net.Conn
		for range 2 * cap(turns) {
			silent, half, cut := here.dial(t), here.dial(t), here.dial(t)
			// One says all of its hello and no more, one a piece of it, and one nothing.
			if err := tls.Client(unread{half}, v4.ClientTLS(here.server.settings.Load().Identity, true)).Handshake(); err == nil {
				t.Fatal("half a handshake is a whole one")
			}
			go io.Copy(io.Discard, half)
			if _, err := cut.Write([]byte{22, 3, 1, 2, 0, 1, 0}); err != nil {
				t.Fatal(err)
			}
			cut.Close()
			slow = append(slow, silent, half)
		}
		synctest.Wait()
		if len(turns) > 0 {
			t.Errorf("%d turns are held by who is slow or gone", len(turns))
		}
		last, over := here.handshake(t, here.dial(t))
		wantOver(t, over)
		last.NetConn().Close()
		for _, c := range slow {
			c.Close()
		}
		if m, ok := asks(&v4.Bye{}).(*v4.Farewell); !ok {
			t.Errorf("the bye is answered by %+v", m)
		}
		admitted.NetConn().Close()
		synctest.Wait()
	})
}
