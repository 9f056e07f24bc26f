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
	"runtime/debug"
	"sync"
	"time"

	"fenc/modes/archive"
	"fenc/modes/serve3"
	"fenc/wire"
)

// Settings bound what peers may take of the server.
type Settings struct {
	MaxSessions   int           // connections at once; more are closed unanswered
	IdleTimeout   time.Duration // longest silence, and longest a message may dribble
	ShutdownGrace time.Duration // how long files under way may go on after the end was asked for
	Registration  bool          // whether new names may register
	MaxFileSize   int64         // bytes; 0 is the protocol's own limit
}

// Server serves one archive.
type Server struct {
	settings Settings
	archive  *archive.Archive
	log      *slog.Logger
	v3       *serve3.Server

	mu       sync.Mutex
	sessions map[*connection]struct{}
	stopping bool
	waiting  sync.WaitGroup
	refused  int // connections over MaxSessions since the last line about them
	lastLine time.Time
}

// connection is one accepted connection, from its first byte to its last.
type connection struct {
	conn *wire.Conn
	stop func() // asks the conversation to end after the file under way
}

// New makes a server of an opened archive.
func New(a *archive.Archive, settings Settings, log *slog.Logger) *Server {
	return &Server{
		settings: settings, archive: a, log: log, sessions: make(map[*connection]struct{}),
		v3: &serve3.Server{Archive: a, Log: log, Registration: settings.Registration, MaxFileSize: settings.MaxFileSize},
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
	if len(s.sessions) >= s.settings.MaxSessions {
		c.Close()
		s.refused++
		if now := time.Now(); now.Sub(s.lastLine) >= time.Second {
			s.log.Warn("connections refused", "number", s.refused, "address", c.RemoteAddr().String(),
				"reason", "max_sessions reached", "max_sessions", s.settings.MaxSessions)
			s.refused, s.lastLine = 0, now
		}
		return
	}
	k := &connection{conn: wire.NewConn(c, s.settings.IdleTimeout)}
	k.stop = k.conn.Interrupt
	s.sessions[k] = struct{}{}
	s.waiting.Go(func() { s.hold(ctx, k) })
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
		s.mu.Unlock()
	}()
	k.conn.Expect()
	kind, first, err := k.conn.Sniff()
	if err != nil || kind != wire.KindV3 {
		s.logStranger(k, first, err)
		return
	}
	session := s.v3.NewSession(k.conn)
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
