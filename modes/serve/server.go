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
	"sync/atomic"
	"time"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/serve3"
	"fenc/modes/serve4"
	"fenc/modes/stats"
	"fenc/wire"
)

// Settings bound what peers may take of the server.
type Settings struct {
	MaxSessions   int // of admitted clients at once; more are closed unanswered
	MaxPerAddress int // connections at once from one address (IPv6: one /64); 0 is no bound
	MaxUnadmitted int // connections whose client is not admitted yet; 0 is no bound
	// MaxHandshakes is how many connections one address may begin in a second, averaged
	// over ten seconds; 0 is no bound.
	MaxHandshakes int
	IdleTimeout   time.Duration // longest silence, and longest a message may dribble
	ShutdownGrace time.Duration // how long files under way may go on after the end was asked for
	MaxFileSize   int64         // bytes; 0 is the protocol's own limit

	Protocol3     bool             // whether version 3 is spoken
	Registration3 bool             // whether new names may register by it
	Protocol4     *serve4.Settings // nil: version 4 is not spoken

	// ProxyFrom are the addresses whose connections begin with a PROXY header, which
	// says whom they are from.
	ProxyFrom []netip.Prefix

	Stats *stats.Stats // where sessions and uploads are counted; nil: nobody looks
}

// Server serves one archive.
type Server struct {
	settings atomic.Pointer[Settings]
	archive  *archive.Archive
	log      *slog.Logger
	stats    *stats.Stats
	v3       *serve3.Server // nil: not spoken
	v4       *serve4.Server // nil: not spoken

	handling atomic.Int64 // since when a connection that came is begun with, in nanoseconds since 1970; 0: none is

	mu         sync.Mutex
	places     *places
	sessions   map[*connection]struct{}
	stopping   bool
	waiting    sync.WaitGroup
	refused    int // connections over a limit since the last line about them
	introduced int // connections whose PROXY header is awaited
	lastLine   time.Time
}

// connection is one accepted connection, from its first byte to its last.
type connection struct {
	conn  *wire.Conn
	from  netip.Prefix
	begun time.Time
	place place
	stop  func() // asks the conversation to end after the file under way
}

// place is what a connection is counted as.
type place int

const (
	nowhere place = iota
	stranger
	client
)

// New makes a server of an opened archive.
func New(a *archive.Archive, settings Settings, log *slog.Logger) *Server {
	s := &Server{
		archive: a, log: log, stats: settings.Stats, sessions: make(map[*connection]struct{}), places: newPlaces(settings),
	}
	if s.stats == nil {
		s.stats = stats.New()
	}
	s.settings.Store(&settings)
	if settings.Protocol3 {
		s.v3 = serve3.New(a, settings.protocol3(), s.stats, log)
	}
	if settings.Protocol4 != nil {
		s.v4 = serve4.New(a, *settings.Protocol4, s.stats, log)
	}
	return s
}

func (s Settings) protocol3() serve3.Settings {
	return serve3.Settings{Registration: s.Registration3, MaxFileSize: s.MaxFileSize}
}

// Configure has connections that begin from now on follow other settings. The
// protocols that are spoken stay the same.
func (s *Server) Configure(settings Settings) {
	s.settings.Store(&settings)
	s.mu.Lock()
	s.places.limit(settings)
	s.mu.Unlock()
	if s.v3 != nil {
		s.v3.Configure(settings.protocol3())
	}
	if s.v4 != nil && settings.Protocol4 != nil {
		s.v4.Configure(*settings.Protocol4)
	}
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

// Stopping reports whether the server takes no connections any more.
func (s *Server) Stopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
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
		s.handling.Store(0)
		c, err := l.Accept()
		s.handling.Store(time.Now().UnixNano())
		if err == nil {
			pause = shortest
			s.begin(sessionCtx, c)
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

// begin starts a session, or closes the connection where there are too many.
func (s *Server) begin(ctx context.Context, c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if settings := s.settings.Load(); !s.stopping && settings.behind(c.RemoteAddr()) {
		s.await(ctx, c, settings)
		return
	}
	s.enter(ctx, c)
}

// enter is begin for a connection whose other end is known. s.mu is held.
func (s *Server) enter(ctx context.Context, c net.Conn) {
	if s.stopping {
		c.Close()
		return
	}
	settings := s.settings.Load()
	k := &connection{conn: wire.NewConn(c, settings.IdleTimeout), from: prefixOf(c.RemoteAddr()), begun: time.Now()}
	displaced, full, most := s.places.enter(k)
	if full != "" {
		s.turnAway(c, full, most)
		return
	}
	if displaced != nil {
		s.turnAway(displaced.conn, "max_unadmitted", settings.MaxUnadmitted)
	}
	k.stop = k.conn.Interrupt
	s.sessions[k] = struct{}{}
	s.waiting.Go(func() { s.hold(ctx, k) })
}

// admit notes that the client of k is known. It reports false where there is no
// place for one more.
func (s *Server) admit(k *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places.admit(k)
}

// turnAway closes a connection over a limit. Lines about that are kept to one a
// second. s.mu is held.
func (s *Server) turnAway(c net.Conn, limit string, most int) {
	c.Close()
	s.stats.TurnedAway(limit)
	s.refused++
	if now := time.Now(); now.Sub(s.lastLine) >= time.Second {
		s.log.Warn("connections refused", "number", s.refused, "address", c.RemoteAddr().String(),
			"reason", limit+" reached", limit, most)
		s.refused, s.lastLine = 0, now
	}
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
		s.places.leave(k)
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
		session = s.v3.NewSession(k.conn, func() bool { return s.admit(k) })
	case err == nil && kind == wire.KindTLS && s.v4 != nil:
		session = s.v4.NewSession(k.conn, func() bool { return s.admit(k) })
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
	s.stats.Stranger()
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
	grace := s.settings.Load().ShutdownGrace
	ended := make(chan struct{})
	go func() { s.waiting.Wait(); close(ended) }()
	select {
	case <-ended:
		return
	case <-time.After(grace):
	}
	cut()
	s.mu.Lock()
	s.log.Warn("files under way are cut off", "sessions", len(s.sessions), "shutdown_grace", grace)
	for k := range s.sessions {
		k.conn.Close()
	}
	s.mu.Unlock()
	<-ended
}
