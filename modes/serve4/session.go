package serve4

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"fenc/model"
	"fenc/modes/stats"
	"fenc/wire"
	"fenc/wire/v4"
)

const (
	handshakeTimeout = 10 * time.Second
	lingerTime       = time.Second // for a client to read why its session ended
)

// errProtocol: the client broke the protocol.
var errProtocol = errors.New("protocol broken")

// errTooMany: the server has as many sessions as it takes.
var errTooMany = errors.New("the server has as many sessions as it takes (max_sessions)")

// errStopping: the server is shutting down.
var errStopping = errors.New("the server is shutting down")

// errEnded is the cause of a session's end where nothing else is.
var errEnded = errors.New("session ended")

// channel is a connection behind its handshake, a *v4.Conn.
type channel interface {
	io.Writer
	Flush() error
	ConnectionState() tls.ConnectionState
}

// Session is one connection's conversation.
type Session struct {
	server   *Server
	settings *snapshot // as they were when the session began
	raw      *wire.Conn
	admits   func() bool
	conn     channel
	reader   *v4.Reader
	log      *slog.Logger
	counts   *stats.Session
	begun    time.Time

	client model.Client // as admitted; its rights are looked up at each request
	wishes model.Rights
	hello  v4.Hello
	share  *share // from admission on

	ctx     context.Context // ends when the session does; its cause says why
	cancel  context.CancelCauseFunc
	answers chan any // one for each request of the window
	replies chan any // the reader's own; it waits where they are not taken
	wrote   chan struct{}
	work    sync.WaitGroup // requests that are answered by goroutines of their own
	blocks  pipeline

	mu       sync.Mutex
	active   map[uint32]*request // without a final answer
	last     uint32              // highest number so far: lower ones that are not active are over
	pending  int                 // bytes of whole files without an answer
	stopping bool
	files    int
	bytes    int64
}

// NewSession prepares a session on a connection whose first bytes are TLS. admits
// is called when the client is known; where it reports false there is no place for
// the session.
func (s *Server) NewSession(c *wire.Conn, admits func() bool) *Session {
	k := &Session{
		server: s, settings: s.settings.Load(), raw: c, admits: admits, begun: time.Now(), log: s.log.With("address", c.RemoteAddr().String(), "protocol", v4.Version),
		answers: make(chan any, windowFiles+1), replies: make(chan any, 16), wrote: make(chan struct{}),
		active: make(map[uint32]*request),
	}
	k.ctx, k.cancel = context.WithCancelCause(context.Background())
	return k
}

// Stop asks the session to end after the files under way.
func (k *Session) Stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopping = true
	if len(k.active) == 0 {
		k.end(errStopping)
	}
}

// end ends the session now, for the given reason.
func (k *Session) end(why error) {
	k.cancel(why)
	k.raw.Interrupt()
}

// Run holds the conversation.
func (k *Session) Run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { k.end(errStopping) })
	defer stop()
	defer k.cancel(errEnded)
	k.counts = k.server.stats.Begin(v4.Version, k.raw.RemoteAddr().String(), k.transfers)
	defer k.counts.End()
	if err := k.secure(); err != nil {
		k.log.Warn("session ended", "seconds", time.Since(k.begun).Seconds(), "reason", "handshake: "+plainReason(err))
		k.raw.Linger(lingerTime) // the alert says why
		return
	}
	k.speak()
}

// speak holds the conversation behind the handshake.
func (k *Session) speak() {
	go k.write()
	err := k.converse()
	if cause := context.Cause(k.ctx); cause != nil && cause != errEnded {
		err = cause
	}
	k.cancel(errEnded)
	k.work.Wait()
	k.blocks.close()
	k.detachAll()
	k.farewell(err)
	k.logEnd(err)
}

// converse admits the client and takes its requests until one of the two ends
// the session. It returns nil after a bye.
func (k *Session) converse() error {
	key, err := k.admit()
	if err != nil {
		return err
	}
	defer func() {
		// After everything of this session has come to its end.
		k.cancel(errEnded)
		k.work.Wait()
		k.blocks.close()
		k.detachAll()
		k.server.leave(k, key)
	}()
	for {
		k.raw.Expect()
		h, err := k.reader.Next()
		if err != nil {
			return err
		}
		k.server.archive.Catalogue.Touch(k.client.ID)
		if h.Code == v4.CodeBlock {
			if err := k.takeBlock(h); err != nil {
				return err
			}
			continue
		}
		if done, err := k.takeMessage(h); done || err != nil {
			return err
		}
	}
}

// takeMessage reads a message other than a block, and takes it. What is long has
// room, as a block has, before there is memory for it.
func (k *Session) takeMessage(h v4.Header) (done bool, err error) {
	if h.Size > keepBuffer {
		giveBack, err := k.takeRoom()
		if err != nil {
			return false, err
		}
		defer giveBack()
	}
	message, err := k.reader.Message(h)
	if err != nil {
		return false, err
	}
	if _, done := message.(*v4.Bye); done {
		return true, nil
	}
	return false, k.take(message)
}

// admit reads 1100 and answers with 2100.
func (k *Session) admit() (instanceKey, error) {
	k.raw.Expect()
	h, err := k.reader.Next()
	if err != nil {
		return instanceKey{}, err
	}
	if h.Code != v4.CodeHello {
		return instanceKey{}, fmt.Errorf("%w: %s before %s", errProtocol, h.Code, v4.CodeHello)
	}
	message, err := k.reader.Message(h)
	if err != nil {
		return instanceKey{}, err
	}
	k.hello = *message.(*v4.Hello)
	k.wishes = model.Rights(k.hello.Wishes)
	fingerprint, spki, err := v4.Peer(k.conn.ConnectionState())
	if err != nil {
		return instanceKey{}, err
	}
	admission := model.Admission{
		Key: spki, Fingerprint: model.Hash(fingerprint), Name: k.hello.Name, Registration: k.settings.Registration,
	}
	if k.hello.Token != (v4.Token{}) {
		admission.Token = k.hello.Token.Hash()
	}
	if admission.Name != "" {
		if err := wire.CheckName(admission.Name); err != nil {
			return instanceKey{}, fmt.Errorf("%w: %w", errProtocol, err)
		}
	}
	client, how, err := k.server.archive.Catalogue.Admit(admission)
	if err != nil {
		return instanceKey{}, err
	}
	if !k.admits() {
		return instanceKey{}, errTooMany
	}
	k.client = client
	k.log = k.log.With("client", wire.Printable(client.Name))
	k.counts.Admitted(client.Name)
	key := instanceKey{client.ID, k.hello.Instance}
	if err := k.server.enter(k, key, k.hello.Epoch, k.hello.Stream); err != nil {
		return instanceKey{}, err
	}
	switch how {
	case model.Registered:
		k.log.Info("client registered", "fingerprint", fingerprint.String(), "rights", client.Rights.String())
	case model.Rekeyed:
		k.log.Info("client has another key", "fingerprint", fingerprint.String())
		k.server.Recheck([]model.ID{client.ID})
	}
	revoked, err := k.server.archive.Catalogue.IsRevoked(model.Hash(fingerprint)) // since it was admitted: Recheck may have come before enter
	if err == nil && revoked {
		err = model.ErrRevoked
	}
	var welcome *v4.Welcome
	if err == nil {
		welcome, err = k.welcome()
	}
	if err != nil {
		k.server.leave(k, key)
		return instanceKey{}, err
	}
	k.log.Debug("session begun", "stream", k.hello.Stream, "software", wire.Printable(k.hello.Software),
		"key_exchange", k.conn.ConnectionState().CurveID.String())
	k.reply(welcome)
	return key, nil
}

func (k *Session) welcome() (*v4.Welcome, error) {
	rights, err := k.rights()
	if err != nil {
		return nil, err
	}
	w := &v4.Welcome{
		Minor: v4.Minor, Rights: uint8(rights), ClientID: v4.ID(k.client.ID), Name: k.client.Name,
		WindowFiles: windowFiles, WindowBytes: windowBytes, MaxFileSize: uint64(max(0, k.settings.MaxFileSize)),
		Software: k.settings.Software,
	}
	w.Quota = uint64(max(k.client.Quota, 0))
	if w.Quota == 0 {
		w.Quota = uint64(max(k.settings.Bounds.Bytes, 0))
	}
	if rights&model.RightRead != 0 {
		files, bytes, err := k.server.archive.Catalogue.Used(k.client.ID)
		if err != nil {
			return nil, err
		}
		w.UsedFiles, w.UsedBytes = uint64(files), uint64(bytes)
	}
	return w, nil
}

// rights are what the session may do now.
func (k *Session) rights() (model.Rights, error) {
	rights, err := k.server.archive.Catalogue.Rights(k.client.ID)
	return rights & k.wishes, err
}

// may reports whether the session may do what right is for, nil, or refused, which
// says so.
func (k *Session) may(right model.Rights, refused error) error {
	rights, err := k.rights()
	if err == nil && rights&right == 0 {
		err = refused
	}
	return err
}

// take handles one request other than a block.
func (k *Session) take(message any) error {
	switch m := message.(type) {
	case *v4.Ping:
		k.reply(&v4.Pong{Value: m.Value})
	case *v4.Barrier:
		return k.blocks.put(k.ctx, step{barrier: func() { k.tell(&v4.Reached{Serial: m.Serial}) }})
	case *v4.Offer:
		return k.takeOffer(*m)
	case *v4.Attach:
		return k.takeAttach(*m)
	case *v4.Copy:
		return k.takeCopy(*m)
	case *v4.Resend:
		return k.takeResend(*m)
	case *v4.Finish:
		return k.takeFinish(*m)
	case *v4.GiveUp:
		return k.takeGiveUp(*m)
	case *v4.Small:
		return k.takeSmall(*m)
	case *v4.List:
		return k.takeList(*m)
	case *v4.Fetch:
		return k.takeFetch(*m)
	default:
		return fmt.Errorf("%w: %T may not come now", errProtocol, message)
	}
	return nil
}

// reply queues what the reader itself answers.
func (k *Session) reply(message any) {
	select {
	case k.replies <- message:
	case <-k.ctx.Done():
	}
}

// tell queues something that may be left out where the client does not read.
func (k *Session) tell(message any) {
	select {
	case k.replies <- message:
	case <-k.ctx.Done():
	case <-time.After(handshakeTimeout):
	}
}

// keepBuffer is the longest buffer, in bytes, that a session keeps between answers.
const keepBuffer = 64 << 10

// write sends what is queued, until the session ends.
func (k *Session) write() {
	defer close(k.wrote)
	var buf []byte
	for {
		var message any
		select {
		case message = <-k.answers:
		case message = <-k.replies:
		case <-k.ctx.Done():
			return
		}
		var err error
		switch m := message.(type) {
		case *dataFrame:
			err = m.send(k.conn)
		case *page:
			err = m.send(k.conn)
		default:
			buf = v4.Append(buf[:0], message)
			_, err = k.conn.Write(buf)
			if cap(buf) > keepBuffer {
				buf = nil
			}
		}
		if err == nil && len(k.answers) == 0 && len(k.replies) == 0 {
			err = k.conn.Flush()
		}
		if err != nil {
			k.end(fmt.Errorf("write: %w", err))
			return
		}
	}
}

// detachAll gives up what is still open: it stays, to be resumed.
func (k *Session) detachAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for number, r := range k.active {
		if r.upload != nil {
			r.upload.Detach(k)
		}
		k.count(r, stats.Interrupted, "the session ended")
		delete(k.active, number)
	}
}
