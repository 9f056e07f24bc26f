package serve4

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"

	"fenc/wire/v4"
)

// secure does the TLS handshake.
func (k *Session) secure() error {
	ctx, cancel := context.WithTimeout(k.ctx, handshakeTimeout)
	defer cancel()
	t := &turn{Conn: k.raw, turns: k.server.turns, ctx: ctx}
	defer t.end()
	if err := t.take(); err != nil {
		return err
	}
	conn, err := v4.Secure(ctx, t, k.settings.tls, tls.Server)
	if err != nil {
		return err
	}
	k.conn, k.reader = conn, v4.NewReader(conn)
	return nil
}

// turnsAtOnce is how many handshakes may compute at once, each on a core of its own:
// whatever strangers do, the other cores are for files.
func turnsAtOnce() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// turn is a connection whose handshake computes only in its turn. The turn is given
// up while the peer is waited for, so that a slow one delays nobody.
type turn struct {
	net.Conn
	turns chan struct{} // a token each handshake that computes
	ctx   context.Context
	held  bool
	over  bool // the handshake is
}

func (t *turn) take() error {
	select {
	case t.turns <- struct{}{}:
		t.held = true
		return nil
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

func (t *turn) giveUp() {
	if t.held {
		t.held = false
		<-t.turns
	}
}

// end is the end of the handshake.
func (t *turn) end() {
	t.giveUp()
	t.over = true
}

// Read implements io.Reader.
func (t *turn) Read(p []byte) (int, error) {
	if t.over {
		return t.Conn.Read(p)
	}
	t.giveUp()
	n, err := t.Conn.Read(p)
	if waited := t.take(); waited != nil && err == nil {
		err = waited
	}
	return n, err
}
