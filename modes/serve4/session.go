package serve4

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/wire"
	"fenc/wire/v4"
)

const (
	handshakeTimeout = 10 * time.Second
	lingerTime       = time.Second // for a client to read why its session ended
)

// errProtocol: the client broke the protocol.
var errProtocol = errors.New("protocol broken")

// errStopping: the server is shutting down.
var errStopping = errors.New("the server is shutting down")

// errEnded is the cause of a session's end where nothing else is.
var errEnded = errors.New("session ended")

// Session is one connection's conversation.
type Session struct {
	server *Server
	raw    *wire.Conn
	conn   *v4.Conn
	reader *v4.Reader
	log    *slog.Logger
	begun  time.Time

	client model.Client // as admitted; its rights are looked up at each request
	wishes model.Rights
	hello  v4.Hello

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

// request is one that waits for its final answer.
type request struct {
	upload  *archive.Upload
	earlier *archive.Earlier
	offer   v4.Offer
	begun   time.Time
	busy    bool // a goroutine is making the answer
	size    int  // bytes in the window

	inFlight int  // blocks in the pipeline
	over     bool // answered; the upload is left when nothing is in flight
}

// NewSession prepares a session on a connection whose first bytes are TLS.
func (s *Server) NewSession(c *wire.Conn) *Session {
	k := &Session{
		server: s, raw: c, begun: time.Now(), log: s.log.With("address", c.RemoteAddr().String(), "protocol", v4.Version),
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
	err := k.secure()
	if err != nil {
		k.log.Warn("session ended", "seconds", time.Since(k.begun).Seconds(), "reason", "handshake: "+plainReason(err))
		k.raw.Linger(lingerTime) // the alert says why
		return
	}
	go k.write()
	err = k.converse()
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

// secure does the TLS handshake.
func (k *Session) secure() error {
	ctx, cancel := context.WithTimeout(k.ctx, handshakeTimeout)
	defer cancel()
	conn, err := v4.Secure(ctx, k.raw, k.server.tls, tls.Server)
	if err != nil {
		return err
	}
	k.conn, k.reader = conn, v4.NewReader(conn)
	return nil
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
		message, err := k.reader.Message(h)
		if err != nil {
			return err
		}
		if _, done := message.(*v4.Bye); done {
			return nil
		}
		if err := k.take(message); err != nil {
			return err
		}
	}
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
		Key: spki, Fingerprint: model.Hash(fingerprint), Name: k.hello.Name, Registration: k.server.settings.Registration,
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
	k.client = client
	k.log = k.log.With("client", wire.Printable(client.Name))
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
	if k.server.archive.Catalogue.IsRevoked(model.Hash(fingerprint)) { // since it was admitted: Recheck may have come before enter
		k.server.leave(k, key)
		return instanceKey{}, model.ErrRevoked
	}
	k.log.Debug("session begun", "stream", k.hello.Stream, "software", wire.Printable(k.hello.Software),
		"key_exchange", k.conn.ConnectionState().CurveID.String())
	k.reply(k.welcome())
	return key, nil
}

func (k *Session) welcome() *v4.Welcome {
	w := &v4.Welcome{
		Minor: v4.Minor, Rights: uint8(k.rights()), ClientID: v4.ID(k.client.ID), Name: k.client.Name,
		WindowFiles: windowFiles, WindowBytes: windowBytes, MaxFileSize: uint64(max(0, k.server.settings.MaxFileSize)),
		Software: k.server.settings.Software,
	}
	w.Quota = uint64(max(k.client.Quota, 0))
	if w.Quota == 0 {
		w.Quota = uint64(max(k.server.settings.Bounds.Bytes, 0))
	}
	if k.rights()&model.RightRead != 0 {
		files, bytes := k.server.archive.Catalogue.Used(k.client.ID)
		w.UsedFiles, w.UsedBytes = uint64(files), uint64(bytes)
	}
	return w
}

// rights are what the session may do now.
func (k *Session) rights() model.Rights {
	client, ok := k.server.archive.Catalogue.Client(k.client.ID)
	if !ok || !client.RevokedAt.IsZero() {
		return 0
	}
	return client.Rights & k.wishes
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

// open makes a new request active. Numbers grow, so that what comes late for one
// that is over is known.
func (k *Session) open(number uint32) (*request, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if number <= k.last {
		return nil, fmt.Errorf("%w: number %d after %d", errProtocol, number, k.last)
	}
	k.last = number
	if len(k.active) >= windowFiles {
		return nil, fmt.Errorf("%w: more than the window of %d requests without an answer", errProtocol, windowFiles)
	}
	r := &request{begun: time.Now()}
	k.active[number] = r
	return r, nil
}

// find returns an active request; nil where it is over, so that what its sender
// could not know is passed over.
func (k *Session) find(number uint32) (*request, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.active[number]
	if r == nil && number > k.last {
		return nil, fmt.Errorf("%w: number %d was never given", errProtocol, number)
	}
	return r, nil
}

// grow counts content that came for a request into the window.
func (k *Session) grow(r *request, size int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.pending+size > windowBytes+v4.MaxBlock {
		return fmt.Errorf("%w: more than the window of %d bytes without an answer", errProtocol, windowBytes)
	}
	r.size += size
	k.pending += size
	return nil
}

// answer sends the final answer to a request and makes it inactive.
func (k *Session) answer(number uint32, message any) {
	if k.settle(number, func() { k.answers <- message }) { // has room for every active request
		k.end(errStopping)
	}
}

// settle makes a request inactive, once, and sends its answer. It reports whether
// that was the last one that the session was to end after.
func (k *Session) settle(number uint32, send func()) (last bool) {
	k.mu.Lock()
	r := k.active[number]
	if r == nil {
		k.mu.Unlock()
		return false
	}
	delete(k.active, number)
	k.pending -= r.size
	r.over = true
	leave := r.upload != nil && r.inFlight == 0
	last = k.stopping && len(k.active) == 0
	k.mu.Unlock()
	if leave {
		r.upload.Detach(k)
	}
	send()
	return last
}

// landed notes that a block of the request has left the pipeline.
func (k *Session) landed(r *request) {
	k.mu.Lock()
	r.inFlight--
	leave := r.over && r.inFlight == 0
	k.mu.Unlock()
	if leave {
		r.upload.Detach(k)
	}
}

// refuse answers a request with what prevents it.
func (k *Session) refuse(number uint32, reason v4.Reason, err error) {
	k.mu.Lock()
	r := k.active[number]
	k.mu.Unlock()
	if r == nil {
		return
	}
	k.log.Warn("file", "file", wire.Printable(r.offer.Path), "bytes", r.offer.Size, "seconds", time.Since(r.begun).Seconds(),
		"verdict", "refused", "number", uint16(reason), "reason", err.Error())
	k.answer(number, &v4.Refused{Number: number, Reason: reason, Again: reason.Again(), Text: textOf(reason, err)})
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
		if data, isData := message.(*dataFrame); isData {
			err = data.send(k.conn)
		} else {
			buf = v4.Append(buf[:0], message)
			_, err = k.conn.Write(buf)
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
		delete(k.active, number)
	}
}

// farewell says why the session ends, and gives the client time to read it.
func (k *Session) farewell(err error) {
	<-k.wrote
	buf := k.unsent()
	var last any
	switch {
	case err == nil:
		last = &v4.Farewell{}
	default:
		reason := finalReason(err)
		if reason == 0 {
			return // the connection is gone
		}
		last = &v4.Refusal{Reason: reason, Again: reason.Again(), Text: finalText(reason, err)}
	}
	buf = v4.Append(buf, last)
	if _, err := k.conn.Write(buf); err != nil {
		return
	}
	if k.conn.Flush() != nil {
		return
	}
	// Closing with unread bytes would take the farewell away from the client.
	k.raw.Linger(lingerTime)
}

// unsent takes the final answers that the writer had no time for, and gives back
// what the other messages hold.
func (k *Session) unsent() []byte {
	var buf []byte
	for {
		select {
		case message := <-k.answers:
			buf = v4.Append(buf, message)
		case message := <-k.replies:
			if data, isData := message.(*dataFrame); isData {
				data.release()
			}
		default:
			return buf
		}
	}
}

// finalReason numbers the end of a session; 0 where there is nobody to tell.
func finalReason(err error) v4.Reason {
	switch {
	case errors.Is(err, errProtocol), errors.Is(err, v4.ErrFrame), errors.Is(err, archive.ErrBlock):
		return v4.ReasonProtocol
	case errors.Is(err, errStopping):
		return v4.ReasonStopping
	case errors.Is(err, errSuperseded):
		return v4.ReasonSuperseded
	case errors.Is(err, model.ErrRevoked):
		return v4.ReasonRevoked
	case errors.Is(err, model.ErrNameTaken):
		return v4.ReasonNameInUse
	case errors.Is(err, model.ErrInviteUnknown):
		return v4.ReasonInviteUnknown
	case errors.Is(err, model.ErrInviteUsed):
		return v4.ReasonInviteUsed
	case errors.Is(err, model.ErrInviteExpired), errors.Is(err, model.ErrInviteRevoked):
		return v4.ReasonInviteExpired
	case errors.Is(err, model.ErrNotAdmitted):
		return v4.ReasonNotAdmitted
	case errors.Is(err, model.ErrUnknownClient):
		return v4.ReasonOtherName
	case errors.Is(err, os.ErrDeadlineExceeded):
		return v4.ReasonSilence
	case errors.Is(err, model.ErrUnavailable), errors.Is(err, model.ErrBroken):
		return v4.ReasonFault
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return 0
	}
	return 0
}

func finalText(reason v4.Reason, err error) string {
	if reason == v4.ReasonFault {
		return "a fault of the server; its log says which"
	}
	text := err.Error()
	return text[:min(len(text), v4.MaxText)]
}

func (k *Session) logEnd(err error) {
	k.mu.Lock()
	files, bytes := k.files, k.bytes
	k.mu.Unlock()
	attributes := []any{"seconds", time.Since(k.begun).Seconds(), "files", files, "bytes", bytes}
	switch {
	case err == nil, errors.Is(err, io.EOF):
		k.log.Info("session ended", attributes...)
	default:
		k.log.Warn("session ended", append(attributes, "reason", plainReason(err))...)
	}
}

// plainReason is an error in a line of the log.
func plainReason(err error) string {
	return wire.Printable(strings.ReplaceAll(err.Error(), "\n", "; "))
}
