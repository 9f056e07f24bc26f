// Package session4 is the client's side of a session of protocol 4: the channel
// to the pinned server, 1100 and 2100, and requests with their answers. What is
// asked for is the business of send4 and get4.
package session4

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"fenc/modes/bandwidth"
	"fenc/modes/send"
	"fenc/wire"
	"fenc/wire/v4"
)

// Settings say which server to talk to, and how patiently.
type Settings struct {
	Server         string           // host:port
	Pins           []v4.Fingerprint // keys that the server may have
	RequirePQ      bool             // refuse a key exchange that a quantum computer could undo
	ConnectTimeout time.Duration    // for the connection, and again for the handshake
	Timeout        time.Duration    // longest silence of the server
	Software       string           // what 1100 says that the client is
	// Waits is told where time goes; nil: nothing is.
	Waits *send.Waits
	// Dial makes a connection; nil: net.Dialer's.
	Dial  func(ctx context.Context, network, address string) (net.Conn, error)
	Limit *bandwidth.Limit // of bytes a second; nil: none
	// Insist is whether Retry tries a server again that was never reached.
	Insist bool
}

// Identity is who the client is.
type Identity struct {
	Name  string // may be empty where the server knows the key or the invite has a name
	Key   v4.Identity
	Token v4.Token // of an invite, at the first contact
}

// Run is one run of the program, whose sessions follow one another.
type Run struct {
	instance v4.ID
	epoch    uint64
}

// NewRun begins a run.
func NewRun() *Run {
	r := &Run{}
	rand.Read(r.instance[:]) // never fails, see crypto/rand
	return r
}

// RefusalError is a 2101 or 2110: the server's reason and words.
type RefusalError struct {
	Reason v4.Reason
	Again  bool // trying again later can help
	Text   string
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("the server refuses (reason %d): %s", e.Reason, wire.Printable(e.Text))
}

// Unwrap makes a refusal that nothing will change one of send.ErrRefused.
func (e *RefusalError) Unwrap() error {
	if e.Again {
		return nil
	}
	return send.ErrRefused
}

// ConnectionError is the loss of the connection to a server, or that there was
// none.
type ConnectionError struct {
	Server string
	// Reached is whether there was a connection.
	Reached bool
	Err     error // in words
}

func (e *ConnectionError) Error() string {
	switch {
	case !e.Reached:
		return fmt.Sprintf("connect to %s: %v", e.Server, e.Err)
	case errors.Is(e.Err, v4.ErrFrame):
		return fmt.Sprintf("server %s broke the protocol while %v", e.Server, e.Err)
	}
	return fmt.Sprintf("connection to %s lost while %v", e.Server, e.Err)
}
func (e *ConnectionError) Unwrap() error { return e.Err }

// NotReached is the error of a failed attempt to connect.
func (s *Settings) NotReached(err error) error {
	return &ConnectionError{Server: s.Server, Err: send.InWords(err, s.ConnectTimeout)}
}

// Lost is the error of a connection that failed while doing.
func (s *Settings) Lost(doing string, err error) error {
	return &ConnectionError{Server: s.Server, Reached: true, Err: fmt.Errorf("%s: %w", doing, send.InWords(err, s.Timeout))}
}

// pingEvery is how often the server is asked for a sign of life.
const pingEvery = 20 * time.Second

// Session is an admitted connection. Its methods may be called from any
// goroutine.
type Session struct {
	Welcome v4.Welcome

	settings Settings
	raw      *wire.Conn
	limited  net.Conn // raw, kept to the limit
	conn     *v4.Conn

	writing sync.Mutex // one frame at a time
	buf     []byte
	dirty   chan struct{}

	data []byte // of the last 2115

	mu       sync.Mutex
	number   uint32
	handlers map[uint32]func(message any)
	barriers map[uint32]chan struct{}

	done chan struct{} // closed when the session is over
	err  error         // why; set before done is closed
	over sync.Once
	ends sync.WaitGroup
}

// Open connects, proves both sides' keys and is admitted. stream is 0 for the
// first connection of a session, which ends those of the run before it; 1 and on
// for further ones. The error is a *ConnectionError, a *RefusalError or a
// *v4.ServerKeyError.
func Open(ctx context.Context, settings Settings, me Identity, run *Run, stream uint8) (*Session, error) {
	if stream == 0 {
		run.epoch++
	}
	dial := settings.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: settings.ConnectTimeout}).DialContext
	}
	c, err := dial(ctx, "tcp", settings.Server)
	if err != nil {
		return nil, settings.NotReached(err)
	}
	if settings.Waits == nil {
		settings.Waits = new(send.Waits)
	}
	raw := wire.NewConn(&timedConn{c, settings.Waits}, settings.Timeout)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var limited net.Conn = raw
	if settings.Limit != nil {
		limited = settings.Limit.Conn(raw, settings.Waits)
	}
	s, err := admit(ctx, raw, limited, settings, me, run, stream)
	if err != nil {
		limited.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	s.ends.Go(s.read)
	s.ends.Go(s.flush)
	return s, nil
}

func admit(ctx context.Context, raw *wire.Conn, limited net.Conn, settings Settings, me Identity, run *Run, stream uint8) (*Session, error) {
	handshake, cancel := context.WithTimeout(ctx, settings.ConnectTimeout)
	defer cancel()
	conn, err := v4.Secure(handshake, limited, v4.ClientTLS(me.Key, settings.RequirePQ, settings.Pins...), tls.Client)
	if err != nil {
		var key *v4.ServerKeyError
		if errors.As(err, &key) {
			return nil, key
		}
		settings.Timeout = settings.ConnectTimeout // which is the limit that it met, if any
		return nil, settings.Lost("agreeing on keys", err)
	}
	hello := v4.Hello{
		Minor: v4.Minor, Wishes: v4.RightSend | v4.RightRead | v4.RightReplace, Stream: stream,
		Instance: run.instance, Epoch: run.epoch, Token: me.Token, Name: me.Name, Software: settings.Software,
	}
	if _, err = conn.Write(v4.Append(nil, &hello)); err == nil {
		err = conn.Flush()
	}
	if err != nil {
		return nil, settings.Lost("introducing itself", err)
	}
	raw.Expect()
	reader := v4.NewReader(conn)
	message, err := next(reader)
	if isAlert(err) { // the handshake ends here before it does at the server, which judges the client's key last
		return nil, &RefusalError{Reason: v4.ReasonRevoked, Text: fmt.Sprintf("it does not take this client's key (%v); it may have been revoked", err)}
	}
	if err != nil {
		return nil, settings.Lost("being admitted", err)
	}
	switch m := message.(type) {
	case *v4.Welcome:
		if err := wire.CheckName(m.Name); err != nil {
			return nil, settings.Lost("being admitted", fmt.Errorf("%w: welcome with a %w", v4.ErrFrame, err))
		}
		s := &Session{
			Welcome: *m, settings: settings, raw: raw, limited: limited, conn: conn, dirty: make(chan struct{}, 1), done: make(chan struct{}),
			handlers: make(map[uint32]func(any)), barriers: make(map[uint32]chan struct{}),
		}
		return s, nil
	case *v4.Refusal:
		return nil, &RefusalError{m.Reason, m.Again, m.Text}
	}
	return nil, settings.Lost("being admitted", fmt.Errorf("%w: %T before 2100", v4.ErrFrame, message))
}

// isAlert reports whether the server ended the TLS connection by an alert (RFC
// 8446, section 6.2), which it does not do without a reason that stays.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func next(r *v4.Reader) (any, error) {
	h, err := r.Next()
	if err != nil {
		return nil, err
	}
	return r.Message(h)
}

// nextOrData is next, with the content of a file in a buffer that is used again: a
// new one for each frame costs as much as all else that reading does.
func (s *Session) nextOrData(r *v4.Reader) (any, error) {
	h, err := r.Next()
	if err != nil {
		return nil, err
	}
	if h.Code != v4.CodeData {
		return r.Message(h)
	}
	number, offset, n, err := r.BlockHead(h)
	if err != nil {
		return nil, err
	}
	if cap(s.data) < n {
		s.data = make([]byte, n)
	}
	return &v4.Data{Number: number, Offset: offset, Data: s.data[:n]}, r.ReadContent(s.data[:n])
}

// Done is closed when the session is over; Err says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session is over, nil while it is not.
func (s *Session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// fail ends the session.
func (s *Session) fail(err error) {
	s.over.Do(func() {
		s.err = err
		close(s.done)
		s.limited.Close()
	})
}

// Number begins a request: each answer to it is given to handle, which must not
// wait, until Forget. Content in an answer is valid until handle returns. Numbers
// must be sent in the order they are given: begin calls the function that sends
// the request before the next number is given.
func (s *Session) Begin(handle func(message any), send func(number uint32) any) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	s.number++
	number := s.number
	s.handlers[number] = handle
	s.mu.Unlock()
	return s.write(send(number))
}

// Forget ends a request.
func (s *Session) Forget(number uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.handlers, number)
}

// Send sends a message that belongs to a request.
func (s *Session) Send(message any) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.write(message)
}

func (s *Session) write(message any) error {
	s.settings.Waits.Enter(send.Sending)
	defer s.settings.Waits.Leave(send.Sending)
	s.buf = v4.Append(s.buf[:0], message)
	_, err := s.conn.Write(s.buf)
	if cap(s.buf) > 1<<17 {
		s.buf = nil
	}
	return s.wrote(err)
}

// SendBlock sends n bytes of content as a 1108. They stand in b behind
// v4.BlockHeadSize bytes for the frame's head.
func (s *Session) SendBlock(number uint32, off int64, b []byte, n int) error {
	v4.PutBlockHead(b, v4.CodeBlock, number, off, n)
	s.settings.Waits.Enter(send.Sending)
	defer s.settings.Waits.Leave(send.Sending)
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.conn.Write(b[:v4.BlockHeadSize+n])
	return s.wrote(err)
}

// wrote has the frame sent, together with what follows it at once.
func (s *Session) wrote(err error) error {
	if err != nil {
		select {
		case <-s.done: // the reader may know better why
		case <-time.After(100 * time.Millisecond):
			s.fail(s.settings.Lost("sending", err))
		}
		return s.Err()
	}
	select {
	case s.dirty <- struct{}{}:
	default:
	}
	return nil
}

// flush sends what was written, and pings while nothing is.
func (s *Session) flush() {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.dirty:
			if err := s.conn.Flush(); err != nil {
				s.fail(s.settings.Lost("sending", err))
				return
			}
		case <-tick.C:
			if s.Send(&v4.Ping{}) != nil {
				return
			}
		case <-s.done:
			return
		}
	}
}

// Barrier returns when the server has written everything that was sent before.
func (s *Session) Barrier(ctx context.Context) error {
	reached := make(chan struct{})
	s.mu.Lock()
	s.number++ // serials need only differ
	serial := s.number
	s.barriers[serial] = reached
	s.mu.Unlock()
	if err := s.Send(&v4.Barrier{Serial: serial}); err != nil {
		return err
	}
	select {
	case <-reached:
		return nil
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// read gives each answer to its handler, until the session is over.
func (s *Session) read() {
	reader := v4.NewReader(s.conn)
	for {
		s.raw.Expect()
		message, err := s.nextOrData(reader)
		if err == nil {
			err = s.dispatch(message)
		} else {
			err = s.settings.Lost("reading", err)
		}
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// errFarewell ends a session that said bye.
var errFarewell = errors.New("session ended")

func (s *Session) dispatch(message any) error {
	var number uint32
	switch m := message.(type) {
	case *v4.Refusal:
		return &RefusalError{m.Reason, m.Again, m.Text}
	case *v4.Farewell:
		return errFarewell
	case *v4.Pong:
		return nil
	case *v4.Reached:
		s.mu.Lock()
		defer s.mu.Unlock()
		if reached := s.barriers[m.Serial]; reached != nil {
			delete(s.barriers, m.Serial)
			close(reached)
		}
		return nil
	case *v4.Received:
		number = m.Number
	case *v4.Ended:
		number = m.Number
	case *v4.Accept:
		number = m.Number
	case *v4.Earlier:
		number = m.Number
	case *v4.Attached:
		number = m.Number
	case *v4.Missing:
		number = m.Number
	case *v4.Differs:
		number = m.Number
	case *v4.Refused:
		number = m.Number
	case *v4.Held:
		number = m.Number
	case *v4.Wait:
		number = m.Number
	case *v4.Entries:
		number = m.Number
	case *v4.File:
		number = m.Number
	case *v4.Data:
		number = m.Number
	case *v4.DataEnd:
		number = m.Number
	default:
		return s.settings.Lost("reading", fmt.Errorf("%w: %T is no answer", v4.ErrFrame, message))
	}
	s.mu.Lock()
	handle, known := s.handlers[number]
	given := number > 0 && number <= s.number
	s.mu.Unlock()
	if !known && !given {
		return s.settings.Lost("reading", fmt.Errorf("%w: an answer to request %d, which was never made", v4.ErrFrame, number))
	}
	if known {
		handle(message)
	}
	return nil
}

// ErrCut ends a session that Cut ended.
var ErrCut = errors.New("session cut off")

// Cut ends the session at once.
func (s *Session) Cut() { s.fail(ErrCut) }

// Close says bye, waits a moment for the answer, and closes the connection.
func (s *Session) Close() {
	if s.Err() == nil && s.Send(&v4.Bye{}) == nil {
		select {
		case <-s.done:
		case <-time.After(2 * time.Second):
		}
	}
	s.fail(errFarewell)
	s.ends.Wait()
}
