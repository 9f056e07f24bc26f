// Package serve4 is the server's side of protocol 4. wire/v4/PROTOCOL.md says what
// travels; a session is one connection:
//
//	TLS handshake, 1100 → 2100, then any number of
//	1103 → 2105, 1108 …, 1110 → 2103    a file by blocks
//	1111 → 2103                         a whole small file
//	1112 → 2113, 1113 → 2114, 2115 …    reading back
package serve4

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/stats"
	"fenc/wire/v4"
)

// Limits of a session, granted in 2100.
const (
	windowFiles = 1024    // requests without an answer
	windowBytes = 8 << 20 // bytes of whole files without an answer
	// blocksAtOnce bounds the blocks in memory of all sessions together, at 1 MiB
	// each; more are not read.
	blocksAtOnce = 128
	waitEvery    = 5 * time.Second
)

// Settings are what the operator decides.
type Settings struct {
	Identity     v4.Identity
	RequirePQ    bool // refuse a key exchange that a quantum computer could undo
	Registration model.Registration
	MaxFileSize  int64        // bytes; 0 is no bound
	Bounds       model.Bounds // of each client
	Software     string       // what 2100 says that the server is
}

// Server is what all sessions of protocol 4 share.
type Server struct {
	settings atomic.Pointer[snapshot]
	archive  *archive.Archive
	stats    *stats.Stats
	log      *slog.Logger
	blocks   chan struct{} // one token a block in memory
	turns    chan struct{} // one token a handshake that computes

	mu        sync.Mutex
	instances map[instanceKey]*instance
	sessions  map[*Session]struct{} // admitted
	shares    map[model.ID]*share   // of clients that have a session
}

// New makes the server's side of an opened archive, whose sessions counts knows.
func New(a *archive.Archive, settings Settings, counts *stats.Stats, log *slog.Logger) *Server {
	s := &Server{
		archive: a, stats: counts, log: log, blocks: make(chan struct{}, blocksAtOnce), turns: make(chan struct{}, turnsAtOnce()),
		instances: make(map[instanceKey]*instance), sessions: make(map[*Session]struct{}),
		shares: make(map[model.ID]*share),
	}
	s.Configure(settings)
	return s
}

// snapshot is the settings, and what is made of them, at one time. It does not
// change.
type snapshot struct {
	Settings
	tls *tls.Config
}

// Configure has sessions that begin from now on follow other settings.
func (s *Server) Configure(settings Settings) {
	s.settings.Store(&snapshot{settings, v4.ServerTLS(settings.Identity, settings.RequirePQ, func(f v4.Fingerprint) error {
		revoked, err := s.archive.Catalogue.IsRevoked(model.Hash(f))
		if err != nil {
			return nil // admission asks again, and can say that it is the catalogue
		}
		if revoked {
			return model.ErrRevoked
		}
		return nil
	})})
}

// instanceKey names one run of one client.
type instanceKey struct {
	client   model.ID
	instance v4.ID
}

// instance is a run of a client: its latest session and the connections of it.
type instance struct {
	epoch    uint64
	sessions map[*Session]struct{}
	changed  chan struct{} // closed and made anew when a session leaves
}

var errSuperseded = errors.New("a later session of this client has begun")

// enter makes the session one of its instance. A session with a higher epoch, or
// one that opens the same anew, ends the older ones and waits until their commits
// have ended, so that nothing of theirs comes after it.
func (s *Server) enter(k *Session, key instanceKey, epoch uint64, stream uint8) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		in := s.instances[key]
		if in == nil {
			in = &instance{epoch: epoch, sessions: make(map[*Session]struct{}), changed: make(chan struct{})}
			s.instances[key] = in
		}
		if epoch < in.epoch {
			return errSuperseded
		}
		joins := epoch == in.epoch && stream > 0
		if joins || len(in.sessions) == 0 {
			in.epoch = epoch
			in.sessions[k] = struct{}{}
			s.sessions[k] = struct{}{}
			k.share = s.joinShare(key.client)
			return nil
		}
		in.epoch = epoch
		for old := range in.sessions {
			old.end(errSuperseded)
		}
		changed := in.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-k.ctx.Done():
		}
		s.mu.Lock()
		if err := k.ctx.Err(); err != nil {
			return err
		}
	}
}

// leave is the end of enter.
func (s *Server) leave(k *Session, key instanceKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, k)
	s.leaveShare(key.client)
	in := s.instances[key]
	if in == nil {
		return
	}
	delete(in.sessions, k)
	close(in.changed)
	in.changed = make(chan struct{})
	if len(in.sessions) == 0 {
		delete(s.instances, key)
	}
}

// Recheck ends the sessions of clients that have been revoked or have another
// key; other changes hold from the next request on.
func (s *Server) Recheck(changed []model.ID) {
	for id, sessions := range s.sessionsOf(changed) {
		client, known, err := s.archive.Catalogue.Client(id) // which may take its time
		for _, k := range sessions {
			if err != nil { // it begins anew, and is judged then
				k.end(err)
			} else if !known || !client.RevokedAt.IsZero() || client.Fingerprint != k.client.Fingerprint {
				k.end(model.ErrRevoked)
			}
		}
	}
}

// sessionsOf returns the sessions of clients that have any.
func (s *Server) sessionsOf(clients []model.ID) map[model.ID][]*Session {
	found := make(map[model.ID][]*Session)
	if len(clients) == 0 {
		return found
	}
	wanted := make(map[model.ID]bool, len(clients))
	for _, id := range clients {
		wanted[id] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.sessions {
		if wanted[k.client.ID] {
			found[k.client.ID] = append(found[k.client.ID], k)
		}
	}
	return found
}

// reasonOf numbers what prevents a request.
func reasonOf(err error) v4.Reason {
	for _, r := range []struct {
		err    error
		reason v4.Reason
	}{
		{model.ErrNotAllowed, v4.ReasonNotAllowed},
		{model.ErrRevoked, v4.ReasonRevoked},
		{model.ErrPathTaken, v4.ReasonPathTaken},
		{model.ErrQuota, v4.ReasonQuota},
		{model.ErrManyUploads, v4.ReasonManyUploads},
		{model.ErrManyFiles, v4.ReasonManyFiles},
		{model.ErrNoReplace, v4.ReasonNoReplace},
		{storage.ErrNoSpace, v4.ReasonNoSpace},
		{storage.ErrTooLarge, v4.ReasonTooLarge},
		{storage.ErrDegraded, v4.ReasonDegraded},
		{archive.ErrGateRefused, v4.ReasonGateRefused},
		{archive.ErrGateUnavailable, v4.ReasonGateSilent},
		{archive.ErrOfferAgain, v4.ReasonOfferAgain},
		{model.ErrNoUpload, v4.ReasonOfferAgain},
		{storage.ErrGone, v4.ReasonOfferAgain},
		{storage.ErrMarks, v4.ReasonOfferAgain},
		{model.ErrUnavailable, v4.ReasonUnavailable},
		{model.ErrClosed, v4.ReasonUnavailable},
		{model.ErrBroken, v4.ReasonUnavailable},
	} {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return v4.ReasonWriteFailed
}

// textOf is what the client's user reads: what it can act on in full, faults of the
// server in short, since their details are the operator's.
func textOf(reason v4.Reason, err error) string {
	switch reason {
	case v4.ReasonDegraded:
		return "the server's storage has failed; it is being watched and taken into use again when it works"
	case v4.ReasonUnavailable:
		return "the server's catalogue takes nothing for now"
	case v4.ReasonWriteFailed:
		return "the server could not store the content; its log says why"
	case v4.ReasonGateRefused:
		return "the operator's gate refuses this content: ask the server's operator why"
	case v4.ReasonGateSilent:
		return "the operator's gate was not available, so nothing was kept"
	case v4.ReasonNoSpace:
		return "the server's disk is full"
	case v4.ReasonTooLarge:
		if errors.Is(err, storage.ErrTooLarge) {
			return "no file of the server's disk can have so many bytes"
		}
	}
	return bounded(err.Error())
}

// bounded cuts a text to what a frame may have, between two characters: half a one
// would be no frame to the client.
func bounded(text string) string {
	if len(text) <= v4.MaxText {
		return text
	}
	at := v4.MaxText
	for !utf8.RuneStart(text[at]) {
		at--
	}
	return text[:at]
}
