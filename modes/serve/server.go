// Package serve accepts connections, tells the protocols apart by their first
// bytes, and bounds and ends sessions. What is said on a connection is the
// business of the protocol's own package.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/serve3"
	"fenc/modes/serve4"
	"fenc/wire"
)

// Settings bound what peers may take of the server.
type Settings struct {
	MaxSessions   int           // connections at once; more are closed unanswered
	MaxPerAddress int           // connections at once from one address (IPv6: one /64); 0 is no bound
	IdleTimeout   time.Duration // longest silence, and longest a message may dribble
	ShutdownGrace time.Duration // how long files under way may go on after the end was asked for
	MaxFileSize   int64         // bytes; 0 is the protocol's own limit

	Protocol3     bool             // whether version 3 is spoken
	Registration3 bool             // whether new names may register by it
	Protocol4     *serve4.Settings // nil: version 4 is not spoken
}

// Server serves one archive.
type Server struct {
	settings Settings
	archive  *archive.Archive
	log      *slog.Logger
	v3       *serve3.Server // nil: not spoken
	v4       *serve4.Server // nil: not spoken

	mu       sync.Mutex
	from     map[netip.Prefix]int // sessions by address
	sessions map[*connection]struct{}
	stopping bool
	waiting  sync.WaitGroup
	refused  int // connections over MaxSessions since the last line about them
	lastLine time.Time
}

// connection is one accepted connection, from its first byte to its last.
type connection struct {
	conn *wire.Conn
	from netip.Prefix
	stop func() // asks the conversation to end after the file under way
}

// New makes a server of an opened archive.
func New(a *archive.Archive, settings Settings, log *slog.Logger) *Server {
	s := &Server{
		settings: settings, archive: a, log: log, sessions: make(map[*connection]struct{}), from: make(map[netip.Prefix]int),
	}
	if settings.Protocol3 {
		s.v3 = &serve3.Server{Archive: a, Log: log, Registration: settings.Registration3, MaxFileSize: settings.MaxFileSize}
	}
	if settings.Protocol4 != nil {
		s.v4 = serve4.New(a, *settings.Protocol4, log)
	}
	return s
}

// Serve accepts connections from l until ctx ends or the catalogue breaks, lets
// files under way finish within the grace, and closes l and every connection. It
// returns nil after an end that was asked for.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.archive.Catalogue.Broken():
			cancel(s.archive.Catalogue.Err())
		case <-ctx.Done():
		}
		l.Close()
	}()
	// Sessions outlive ctx by the grace.
	sessionCtx, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()

	err := s.accept(ctx, sessionCtx, l)
	s.drain(cut)
	if broken := s.archive.Catalogue.Err(); broken != nil {
		return broken
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Recheck ends the sessions of clients that have been revoked, or have another
// key, since they began.
func (s *Server) Recheck(changed []model.ID) {
	if s.v4 != nil {
		s.v4.Recheck(changed)
	}
}

// accept hands each connection to a goroutine of its own. Running out of
// descriptors passes: it waits and goes on.
func (s *Server) accept(ctx, sessionCtx context.Context, l net.Listener) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	pause := shortest
	for {
		c, err := l.Accept()
		if err == nil {
			pause = shortest
			s.admit(sessionCtx, c)
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept connections: %w", err)
		}
		s.log.Error("connection not accepted", "error", err, "again_in", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, longest)
	}
}

// admit starts a session, or closes the connection where there are too many.
func (s *Server) admit(ctx context.Context, c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		c.Close()
		return
	}
	from := prefixOf(c.RemoteAddr())
	if len(s.sessions) >= s.settings.MaxSessions {
		s.turnAway(c, "max_sessions", s.settings.MaxSessions)
		return
	}
	if most := s.settings.MaxPerAddress; most > 0 && s.from[from] >= most {
		s.turnAway(c, "max_sessions_per_address", most)
		return
	}
	k := &connection{conn: wire.NewConn(c, s.settings.IdleTimeout), from: from}
	k.stop = k.conn.Interrupt
	s.sessions[k] = struct{}{}
	s.from[from]++
	s.waiting.Go(func() { s.hold(ctx, k) })
}

// turnAway closes a connection over a limit. Lines about that are kept to one a
// second. s.mu is held.
func (s *Server) turnAway(c net.Conn, limit string, most int) {
	c.Close()
	s.refused++
	if now := time.Now(); now.Sub(s.lastLine) >= time.Second {
		s.log.Warn("connections refused", "number", s.refused, "address", c.RemoteAddr().String(),
			"reason", limit+" reached", limit, most)
		s.refused, s.lastLine = 0, now
	}
}

// prefixOf is what counts as one address: an IPv4 address, or the /64 that one
// site of IPv6 has.
func prefixOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// hold runs a connection's conversation to its end.
func (s *Server) hold(ctx context.Context, k *connection) {
	defer func() {
		if p := recover(); p != nil { // a mistake of ours ends one session, not all
			s.log.Error("session crashed", "address", k.conn.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
		}
		k.conn.Close()
		s.mu.Lock()
		delete(s.sessions, k)
		if s.from[k.from]--; s.from[k.from] == 0 {
			delete(s.from, k.from)
		}
		s.mu.Unlock()
	}()
	k.conn.Expect()
	kind, first, err := k.conn.Sniff()
	var session interface {
		Run(context.Context)
		Stop()
	}
	switch {
	case err == nil && kind == wire.KindV3 && s.v3 != nil:
		session = s.v3.NewSession(k.conn)
	case err == nil && kind == wire.KindTLS && s.v4 != nil:
		session = s.v4.NewSession(k.conn)
	default:
		s.logStranger(k, first, err)
		return
	}
	s.mu.Lock()
	k.stop = session.Stop
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		session.Stop()
	}
	session.Run(ctx)
}

// logStranger writes the line of a connection that spoke no protocol of ours.
func (s *Server) logStranger(k *connection, first []byte, err error) {
	reason := "speaks no protocol that is served here: " + wire.Guess(first)
	if err != nil {
		reason = err.Error()
	}
	s.log.Warn("session ended", "address", k.conn.RemoteAddr().String(), "sent", wire.Guess(first), "reason", reason)
}

// drain asks every session to end, waits for files under way as long as the
// grace lasts, then closes what is left.
func (s *Server) drain(cut context.CancelFunc) {
	s.mu.Lock()
	s.stopping = true
	stops := make([]func(), 0, len(s.sessions))
	for k := range s.sessions {
		stops = append(stops, k.stop)
	}
	s.mu.Unlock()
	for _, stop := range stops {
		stop()
	}
	ended := make(chan struct{})
	go func() { s.waiting.Wait(); close(ended) }()
	select {
	case <-ended:
		return
	case <-time.After(s.settings.ShutdownGrace):
	}
	cut()
	s.mu.Lock()
	s.log.Warn("files under way are cut off", "sessions", len(s.sessions), "shutdown_grace", s.settings.ShutdownGrace)
	for k := range s.sessions {
		k.conn.Close()
	}
	s.mu.Unlock()
	<-ended
}
