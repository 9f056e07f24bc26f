// Package send3 is the client's side of protocol 3: one conversation, from top
// to bottom as the specification's flow chart has it.
//
//	first contact:   1100 → 2100 | 2101            then as below
//	each session:    1101 → 2102
//	each attempt:    1103 → 2103, then one of 1104 | 1105 | 1106 → 2104
package send3

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"fenc/modes/send"
	"fenc/wire"
	"fenc/wire/v3"
)

// Identity is who the client is to its server.
type Identity struct {
	Name string
	ID   v3.ClientID
	Key  *rsa.PrivateKey
}

// Format prints the name alone.
func (i Identity) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%q, with a key", i.Name) }

// LogValue logs the name alone.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.Name) }

// MarshalText returns the name alone.
func (i Identity) MarshalText() ([]byte, error) { return []byte(i.Name), nil }

// Settings say where to send and how patient to be.
type Settings struct {
	Server         string        // host:port
	ConnectTimeout time.Duration // longest wait for the connection
	Timeout        time.Duration // longest silence of the server
	Attempts       int           // resends of a file after a mismatch
	Waits          *send.Waits   // is told where time goes; nil: nothing is
}

// Session is a connection to the server.
type Session struct {
	settings Settings
	conn     *wire.Conn
	me       Identity
	key      v3.SessionKey
	release  func() bool // ends the watch on the context
}

// Connect opens a connection to the server. It is closed when ctx ends.
func Connect(ctx context.Context, settings Settings) (*Session, error) {
	dialer := net.Dialer{Timeout: settings.ConnectTimeout}
	c, err := dialer.DialContext(ctx, "tcp", settings.Server)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", settings.Server, inWords(err, settings.ConnectTimeout))
	}
	if settings.Waits == nil {
		settings.Waits = new(send.Waits)
	}
	return &Session{
		settings: settings, conn: wire.NewConn(c, settings.Timeout),
		release: context.AfterFunc(ctx, func() { c.Close() }),
	}, nil
}

// Close closes the connection.
func (s *Session) Close() error {
	s.release()
	return s.conn.Close()
}

// Register takes name at the server and returns the id that goes with it:
// 1100 → 2100. A refusal, 2101, is send.ErrRefused.
func (s *Session) Register(name string) (v3.ClientID, error) {
	if err := v3.WriteRegistration(s.conn, name); err != nil {
		return v3.ClientID{}, s.cutOff("registering", err)
	}
	var answer v3.Registered
	code, err := s.answer(&answer, v3.CodeRegistered, v3.CodeRefused)
	if err != nil {
		return v3.ClientID{}, s.cutOff("registering", err)
	}
	if code == v3.CodeRefused {
		return v3.ClientID{}, fmt.Errorf("%w: the name %q is in use at %s, or it takes no new names: "+
			"choose another with --name, or bring the me.toml that it was registered with (--me)",
			send.ErrRefused, name, s.settings.Server)
	}
	if answer.ClientID.IsZero() {
		return v3.ClientID{}, fmt.Errorf("register: server %s gave an id of zeros", s.settings.Server)
	}
	return answer.ClientID, nil
}

// AgreeKey gets the session's key for a registered identity: 1101 → 2102. A
// server that does not know the identity refuses with 2101: send.ErrRefused.
func (s *Session) AgreeKey(me Identity) error {
	const doing = "agreeing on a key"
	name, err := v3.NewName(me.Name)
	if err != nil {
		return err
	}
	public, err := v3.MarshalPublicKey(&me.Key.PublicKey)
	if err != nil {
		return err
	}
	request := &v3.PublicKey{Name: name, Key: public}
	if err := v3.WriteRequest(s.conn, me.ID, v3.CodePublicKey, request, 0); err != nil {
		return s.cutOff(doing, err)
	}
	answer, err := s.keyAnswer()
	if errors.Is(err, send.ErrRefused) {
		return fmt.Errorf("%w: %s does not know the client %q by this id and key: was it registered with another server? "+
			"Use --me to name another file to register anew", err, s.settings.Server, me.Name)
	}
	if err != nil {
		return s.cutOff(doing, err)
	}
	if answer.ClientID != me.ID {
		return fmt.Errorf("server %s answered with the key of another client", s.settings.Server)
	}
	if s.key, err = v3.UnwrapKey(me.Key, answer.Wrapped); err != nil {
		return fmt.Errorf("server %s sent a key that this client cannot open: %w", s.settings.Server, err)
	}
	s.me = me
	return nil
}

// keyAnswer reads 2102, or 2101 as send.ErrRefused.
func (s *Session) keyAnswer() (v3.Key, error) {
	s.conn.Expect()
	h, err := v3.ReadResponseHeader(s.conn)
	if err != nil {
		return v3.Key{}, err
	}
	if h.Code == v3.CodeRefused {
		return v3.Key{}, send.ErrRefused
	}
	var answer v3.Key
	return answer, v3.ReadResponse(s.conn, h, &answer, v3.CodeKey)
}

// answer reads a response of one of codes, all with msg's layout.
func (s *Session) answer(msg any, codes ...v3.Code) (v3.Code, error) {
	s.conn.Expect()
	h, err := v3.ReadResponseHeader(s.conn)
	if err != nil {
		return 0, err
	}
	return h.Code, v3.ReadResponse(s.conn, h, msg, codes...)
}

// connectionError is the end of the connection in the middle of something; the
// session cannot go on.
type connectionError struct{ err error }

func (e *connectionError) Error() string { return e.err.Error() }
func (e *connectionError) Unwrap() error { return e.err }

// cutOff says in plain words what was being done when the connection failed.
func (s *Session) cutOff(doing string, err error) error {
	err = inWords(err, s.settings.Timeout)
	if errors.Is(err, context.Canceled) {
		return &connectionError{fmt.Errorf("%w in the middle of %s", err, doing)}
	}
	return &connectionError{fmt.Errorf("server %s %w in the middle of %s", s.settings.Server, err, doing)}
}

// inWords says what happened to a connection.
func inWords(err error, timeout time.Duration) error {
	switch {
	case errors.Is(err, v3.ErrVersion):
		return send.Reworded(err, fmt.Sprintf("does not speak protocol 3 (%v): is the port right?", err))
	case errors.Is(err, v3.ErrCode), errors.Is(err, v3.ErrSize):
		return send.Reworded(err, fmt.Sprintf("broke the protocol (%v)", err))
	}
	return send.InWords(err, timeout)
}
