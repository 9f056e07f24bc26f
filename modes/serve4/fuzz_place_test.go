package serve4

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/check"
	"fenc/modes/serve/servetest"
	"fenc/modes/stats"
	"fenc/wire"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

// What stands in a place before anybody says anything: the fuzzer's file old, which
// has oldContent, his upload half, of which the first chunk is held, and the bystander's
// file.
const (
	chunk     = tree.MinChunkSize
	untouched = "the bystander's"
)

var (
	oldContent = append(make([]byte, chunk), "the end of the old one"...)
	newContent = append(make([]byte, chunk), "the end of the new one"...)
	// opened stands in a 1107 for the id of the latest upload that is open.
	opened = v4.ID{0xa7, 0x7a, 0xc4}
)

// place is a server, with two clients.
type place struct {
	dir       string
	store     *storage.Folder
	catalogue *model.Catalogue
	archive   *archive.Archive
	server    *Server

	fuzzer, bystander client
	clients           int // that there are to be at the end
	epoch             uint64
}

// client is who says something.
type client struct {
	name string
	key  ed25519.PublicKey
}

func newPlace(t testing.TB) *place {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "fenc-test-")
	must(err)
	p, log := &place{dir: dir, clients: 2}, slog.New(slog.DiscardHandler)
	p.store, err = storage.OpenFolder(filepath.Join(dir, "files"))
	must(err)
	p.catalogue, err = model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	must(err)
	p.archive, err = archive.Open(p.catalogue, p.store, log)
	must(err)
	identity, err := v4.NewIdentity()
	must(err)
	bounds := model.Bounds{Uploads: 100, Files: 1000, Bytes: 64 << 20}
	p.archive.SetPolicy(archive.Policy{Bounds: bounds})
	p.server = New(p.archive, Settings{
		Identity: identity, Registration: model.RegistrationOpen, MaxFileSize: 4 * chunk, Bounds: bounds, Software: "fuzzed",
	}, stats.New(), log)
	for name, c := range map[string]*client{"fuzzer": &p.fuzzer, "bystander": &p.bystander} {
		public, _, err := ed25519.GenerateKey(nil)
		must(err)
		*c = client{name, public}
	}
	p.converse(t, p.bystander, conversation{first: said(&v4.Small{
		Number: 1, Mode: 0o600, Path: "a", Digest: blake3.Sum256([]byte(untouched)), Data: []byte(untouched),
	})}, waitsForAnswers)
	p.converse(t, p.fuzzer, conversation{first: said(
		offer(1, "old", oldContent), &v4.Block{Number: 1, Data: oldContent[:chunk]},
		&v4.Block{Number: 1, Offset: chunk, Data: oldContent[chunk:]}, finish(1, oldContent),
		offer(2, "half", newContent), &v4.Block{Number: 2, Data: newContent[:chunk]},
	)}, waitsForAnswers)
	fuzzer, _, err := p.catalogue.ClientNamed(p.fuzzer.name)
	must(err)
	if old, _, err := p.catalogue.File(fuzzer.ID, "old"); err != nil || !old.Verified {
		t.Fatalf("the fuzzer's file: got %+v, %v", old, err)
	}
	half, err := p.catalogue.OpenUploads(fuzzer.ID, "half")
	must(err)
	if len(half) != 1 {
		t.Fatalf("the fuzzer's interrupted upload: got %+v", half)
	}
	if held, err := p.catalogue.Chunks(half[0].ID); err != nil || len(held) != 1 {
		t.Fatalf("the fuzzer's interrupted upload: %d chunks are held, %v, want 1", len(held), err)
	}
	return p
}

// leave ends the place. It holds that nothing of its sessions is left over, that all
// content is still what the catalogue says, and that nobody was let in.
func (p *place) leave(t testing.TB) {
	t.Helper()
	defer os.RemoveAll(p.dir)
	p.server.mu.Lock()
	if s := p.server; len(s.sessions)+len(s.instances)+len(s.shares)+len(s.blocks) > 0 {
		t.Errorf("left over: %d sessions, %d instances, %d shares, %d blocks", len(s.sessions), len(s.instances), len(s.shares), len(s.blocks))
	}
	p.server.mu.Unlock()
	_, err := check.Run(context.Background(), p.catalogue, p.store, check.Options{Deep: true, Report: func(f check.Finding) {
		t.Errorf("what is stored is not what the catalogue says: %+v", f)
	}})
	if err != nil {
		t.Error(err)
	}
	owner, _, err := p.catalogue.ClientNamed(p.bystander.name)
	if err != nil {
		t.Error(err)
	}
	files, err := p.catalogue.List(owner.ID, "", "", 2)
	if err != nil || len(files) != 1 || files[0].Version != 1 || files[0].Digest != model.Hash(blake3.Sum256([]byte(untouched))) {
		t.Errorf("the bystander's files: %+v, %v", files, err)
	}
	clients, err := p.catalogue.Clients()
	if err != nil || len(clients) != p.clients {
		t.Errorf("%d clients, %v, want %d", len(clients), err, p.clients)
	}
	if invites, err := p.catalogue.Invites(); err != nil || len(invites) > 0 {
		t.Errorf("somebody was invited: %+v, %v", invites, err)
	}
	if err := p.archive.Close(); err != nil {
		t.Error(err)
	}
}

// plain is a channel of which the handshake was left out, which takes nine tenths of a
// session's time.
type plain struct {
	*servetest.Said
	state tls.ConnectionState
}

func (plain) Flush() error                           { return nil }
func (p plain) ConnectionState() tls.ConnectionState { return p.state }

// converse holds a session in which of says what c has. It returns what comes back over
// the session's connection, and over the further one if there is any.
func (p *place) converse(t testing.TB, of client, c conversation, patience uint8) (heard, heardAside []byte) {
	t.Helper()
	defer time.AfterFunc(2*servetest.Patience, func() { // wait, which fails one test alone, comes first
		panic(fmt.Sprintf("the session does not end: %q, aside %q, and %q, with patience %d", c.first, c.aside, c.last, patience))
	}).Stop()
	p.epoch++
	begin := p.session(t, of, 0, append(c.first[:len(c.first):len(c.first)], c.last...), patience)
	begin.expected, begin.after = c.answers, len(c.last)
	begin.then = func() {
		if len(c.aside) > 0 {
			further := p.session(t, of, 1, c.aside, patience)
			further.of, further.expected = begin.Session, c.asideAnswers
			heardAside = further.run()
		}
	}
	return begin.run(), heardAside
}

// talk is one connection of a client that says what it was told to.
type talk struct {
	*Session
	of       *Session // whose uploads it attaches to
	said     *servetest.Said
	patience uint8
	expected []v4.Code // all that are to come; it says bye when only the farewell is left
	next     int       // bytes that are left where the next frame begins
	after    int       // bytes that are left where then is called
	then     func()    // once
	t        testing.TB
}

func (p *place) session(t testing.TB, c client, stream uint8, said []byte, patience uint8) *talk {
	hello := v4.Append(nil, &v4.Hello{
		Wishes: v4.RightSend | v4.RightRead | v4.RightReplace, Stream: stream, Instance: v4.ID{1}, Epoch: p.epoch, Name: c.name,
	})
	w := &talk{said: servetest.NewSaid(append(hello, said...)), patience: patience, next: len(hello) + len(said), t: t}
	w.Session = p.server.NewSession(wire.NewConn(w.said, time.Minute), func() bool { return true })
	w.of = w.Session
	w.conn = plain{w.said, tls.ConnectionState{
		Version: tls.VersionTLS13, NegotiatedProtocol: v4.ALPN, PeerCertificates: []*x509.Certificate{{PublicKey: c.key}},
	}}
	w.reader = v4.NewReader(w.raw)
	w.said.Before = w.before
	w.counts = p.server.stats.Begin(v4.Version, w.said.RemoteAddr().String(), w.transfers)
	return w
}

// run holds the conversation to its end.
func (w *talk) run() []byte {
	defer w.counts.End()
	w.speak()
	w.said.Close()
	heard, _ := w.said.Heard()
	return heard
}

// before lets the server read a frame at a time, as patiently as the client is.
func (w *talk) before(left []byte) int {
	if len(left) > w.next {
		return len(left) - w.next // of the frame that was begun
	}
	bye := v4.Append(nil, &v4.Bye{})
	w.wait(func() bool {
		if bytes.Equal(left, bye) && len(w.expected) > 0 {
			if heard, _ := answers(w.said.SoFar(), w.expected); len(heard) < len(w.expected)-1 {
				return true
			}
		}
		return w.awaits(len(left) == 0)
	})
	if len(left) <= w.after && w.then != nil {
		w.then()
		w.then = nil
	}
	size := len(left)
	if size >= v4.HeaderSize {
		size = min(size, v4.HeaderSize+int(binary.LittleEndian.Uint32(left[3:])))
	}
	w.next = len(left) - size
	w.attach(left[:size])
	return size
}

// attach has a frame that attaches to an upload name one that there is.
func (w *talk) attach(frame []byte) {
	const at = v4.HeaderSize + 4
	if len(frame) != at+len(opened) || v4.Code(binary.LittleEndian.Uint16(frame[1:])) != v4.CodeAttach || v4.ID(frame[at:]) != opened {
		return
	}
	w.of.mu.Lock()
	defer w.of.mu.Unlock()
	var latest uint32
	for number, r := range w.of.active {
		if r.upload != nil && number > latest {
			latest = number
			id := r.upload.ID()
			copy(frame[at:], id[:])
		}
	}
}

// wait waits for what the server says while it is to.
func (w *talk) wait(more func() bool) {
	late := time.NewTimer(servetest.Patience)
	defer late.Stop()
	for more() {
		select {
		case <-w.said.Wrote:
		case <-w.ctx.Done():
			return
		case <-late.C:
			w.t.Error("an answer does not come")
			return
		}
	}
}

// awaits is whether the client waits for an answer; at its end, for all.
func (w *talk) awaits(end bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := end || w.patience >= waitsForAnswers
	for _, r := range w.active {
		switch {
		case r.kind == byBlocks && r.upload == nil && w.patience >= waitsForAccept:
			return true
		case all && (r.busy || r.kind == reading || r.kind == byBlocks && r.upload == nil):
			return true
		}
	}
	return all && len(w.answers)+len(w.replies) > 0
}
