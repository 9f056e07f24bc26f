// Package serve3 is the server's side of protocol 3: one conversation per
// connection, from top to bottom as the specification's flow chart has it.
//
//	first contact:   1100 → 2100 | 2101            then as below
//	each session:    1101 → 2102
//	each attempt:    1103 → 2103, then one of 1104 | 1105 | 1106 → 2104
package serve3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/stats"
	"fenc/wire"
	"fenc/wire/v3"
)

var (
	// ErrRefused: the client asked for something that it is not given.
	ErrRefused = errors.New("refused")
	// ErrProtocol: the client broke the protocol.
	ErrProtocol = errors.New("protocol broken")
	// ErrTooMany: the server has as many sessions as it takes.
	ErrTooMany = errors.New("too many sessions")
	// ErrStopping: the server is shutting down.
	ErrStopping = errors.New("server is stopping")
)

// Settings are what the operator decides.
type Settings struct {
	// Registration is whether names that are new may register.
	Registration bool
	// MaxFileSize is the longest file taken, in bytes of plaintext; 0 means the
	// protocol's own limit.
	MaxFileSize int64
}

// Server is what all sessions of protocol 3 share.
type Server struct {
	settings atomic.Pointer[Settings]
	archive  *archive.Archive
	stats    *stats.Stats
	log      *slog.Logger
}

// New makes the server's side of an opened archive, whose sessions counts knows.
func New(a *archive.Archive, settings Settings, counts *stats.Stats, log *slog.Logger) *Server {
	s := &Server{archive: a, stats: counts, log: log}
	s.Configure(settings)
	return s
}

// Configure has sessions that begin from now on follow other settings.
func (s *Server) Configure(settings Settings) { s.settings.Store(&settings) }

// Session is one connection's conversation.
type Session struct {
	server   *Server
	settings Settings // as they were when the session began
	conn     *wire.Conn
	admit    func() bool
	log      *slog.Logger
	counts   *stats.Session

	client    model.Client
	key       v3.SessionKey
	files     int   // verified in this session
	bytes     int64 // of plaintext in those files
	begun     time.Time
	greetedAs string // "returned" or "registered"

	mu       sync.Mutex
	busy     bool      // a file is under way, from its 1103 to its 2104
	underWay *transfer // that file
	stopping bool
}

// NewSession prepares a session on a connection whose first bytes are of
// protocol 3. Run holds it. admit is called when the client is known; where it
// reports false there is no place for the session.
func (s *Server) NewSession(conn *wire.Conn, admit func() bool) *Session {
	return &Session{
		server: s, settings: *s.settings.Load(), conn: conn, admit: admit, begun: time.Now(),
		log: s.log.With("protocol", v3.Version, "address", conn.RemoteAddr().String()),
	}
}

// Stop ends the session: at once if it is between two files, otherwise when the
// file under way has its last answer.
func (s *Session) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if !s.busy {
		s.conn.Interrupt()
	}
}

// setBusy marks the begin and the end of a file. It returns ErrStopping where
// no file may begin any more.
func (s *Session) setBusy(busy bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return ErrStopping
	}
	s.busy = busy
	return nil
}

// Run holds the conversation until either side ends it, and writes its line to
// the log. It does not close the connection.
func (s *Session) Run(ctx context.Context) {
	s.counts = s.server.stats.Begin(v3.Version, s.conn.RemoteAddr().String(), s.transfers)
	defer s.counts.End()
	err := s.converse(ctx)
	if s.key != (v3.SessionKey{}) {
		if err := s.server.archive.Catalogue.CloseSession(s.client.ID, s.key.Hex()); err != nil {
			s.log.Error("the session's key stays in the catalogue until the next start", "error", err)
		}
	}
	level, reason := s.verdict(err)
	s.log.Log(ctx, level, "session ended", "contact", s.greetedAs, "files", s.files, "bytes", s.bytes,
		"seconds", time.Since(s.begun).Seconds(), "reason", reason)
}

// verdict says how a session's end is to be called, and how loudly.
func (s *Session) verdict(err error) (slog.Level, string) {
	switch {
	case err == nil:
		return slog.LevelInfo, "client closed"
	case errors.Is(err, ErrStopping), errors.Is(err, wire.ErrInterrupted):
		return slog.LevelInfo, ErrStopping.Error()
	default:
		return slog.LevelWarn, err.Error()
	}
}

func (s *Session) converse(ctx context.Context) error {
	h, err := s.nextRequest()
	if err != nil {
		return fmt.Errorf("await registration or key: %w", err)
	}
	s.greetedAs = "returned"
	if h.Code == v3.CodeRegister {
		s.greetedAs = "registered"
		if err := s.register(h); err != nil { // 1100 → 2100 | 2101
			return fmt.Errorf("register: %w", err)
		}
		if h, err = s.nextRequest(); err != nil {
			return fmt.Errorf("await key: %w", err)
		}
	}
	if err := s.agreeKey(h); err != nil { // 1101 → 2102
		return fmt.Errorf("agree on a key: %w", err)
	}
	for {
		h, err := s.nextRequest()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("await file: %w", err)
		}
		if h.ClientID != v3.ClientID(s.client.ID) {
			return fmt.Errorf("%w: id %s in a header of client %s", ErrProtocol, h.ClientID, s.client.ID)
		}
		switch h.Code {
		case v3.CodeFile: // 1103 → 2103, 1104 | 1105 | 1106 → 2104
			err = s.takeFile(ctx, h)
		case v3.CodeGiveUp: // the first client's, after a 1105 that no file followed
			err = s.acknowledgeGivingUp(h)
		default:
			err = outOfOrder(h.Code, v3.CodeFile)
		}
		if err != nil {
			return err
		}
	}
}

// nextRequest reads a header. An end of the connection before its first byte is
// io.EOF itself.
func (s *Session) nextRequest() (v3.RequestHeader, error) {
	s.conn.Expect()
	h, err := v3.ReadRequestHeader(s.conn)
	if err == nil && !s.client.ID.IsZero() {
		s.server.archive.Catalogue.Touch(s.client.ID)
	}
	return h, err
}

// register answers 1100: a new client gets its id, any other name is refused.
func (s *Session) register(h v3.RequestHeader) error {
	name, err := v3.ReadRegistration(s.conn, h)
	if err == nil {
		err = wire.CheckName(name)
	}
	if err != nil {
		return s.refuse(err)
	}
	if !s.settings.Registration {
		return s.refuse(fmt.Errorf("name %q: registration is closed", name))
	}
	client, err := s.server.archive.Catalogue.Register(name, v3.Version)
	if errors.Is(err, model.ErrNameTaken) {
		return s.refuse(fmt.Errorf("name %q: %w", name, err))
	}
	if err != nil {
		return err
	}
	s.client = client
	return v3.WriteResponse(s.conn, v3.CodeRegistered, &v3.Registered{ClientID: v3.ClientID(client.ID)})
}

// refuse answers 2101 and returns why, as an ErrRefused.
func (s *Session) refuse(reason error) error {
	err := fmt.Errorf("%w: %w", ErrRefused, reason)
	return errors.Join(err, v3.WriteResponse(s.conn, v3.CodeRefused, &v3.Registered{}))
}

// agreeKey answers 1101: a client that is known by this key gets a fresh session
// key under it. Anybody else hears 2101 and nothing of whom the id belongs to.
func (s *Session) agreeKey(h v3.RequestHeader) error {
	if h.Code != v3.CodePublicKey {
		return outOfOrder(h.Code, v3.CodePublicKey)
	}
	registered := s.client.ID
	if !registered.IsZero() && h.ClientID != v3.ClientID(registered) {
		return fmt.Errorf("%w: id %s in a header of client %s", ErrProtocol, h.ClientID, registered)
	}
	var request v3.PublicKey
	if err := v3.ReadPayload(s.conn, h, &request); err != nil {
		return err
	}
	name, err := request.Name.Text()
	if err != nil {
		return s.refuse(err)
	}
	public, err := v3.ParsePublicKey(request.Key)
	if err != nil {
		return s.refuse(err)
	}
	key := v3.NewSessionKey()
	wrapped, err := v3.WrapKey(public, key)
	if err != nil {
		return s.refuse(err)
	}
	client, err := s.server.archive.Catalogue.OpenSession(model.ID(h.ClientID), name, v3.Version, request.Key[:], key.Hex())
	if errors.Is(err, model.ErrUnknownClient) || errors.Is(err, model.ErrOtherKey) {
		return s.refuse(fmt.Errorf("id %s, name %q: %w", h.ClientID, name, err))
	}
	if err != nil {
		return err
	}
	s.client, s.key = client, key
	s.log = s.log.With("client", wire.Printable(client.Name))
	if !s.admit() {
		return ErrTooMany
	}
	s.counts.Admitted(client.Name)
	s.server.archive.Catalogue.Touch(client.ID)
	return v3.WriteResponse(s.conn, v3.CodeKey, &v3.Key{ClientID: h.ClientID, Wrapped: wrapped})
}

func outOfOrder(got, want v3.Code) error {
	return fmt.Errorf("%w: got %s where %s must come", ErrProtocol, got, want)
}
