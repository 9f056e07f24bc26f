package serve_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/serve"
	"fenc/modes/serve/servetest"
	"fenc/wire/v3"
)

const patience = 3 * time.Minute // after which a test is stuck, not slow

// server is a server under test.
type server struct {
	dir, addr string
	log       *servetest.Log
	settings  serve.Settings
	wrap      func(storage.FS) storage.FS
	listener  net.Listener
	archive   *archive.Archive
	cancel    context.CancelFunc
	ended     chan error
}

// option changes a server before it starts.
type option func(*server)

func withSettings(change func(*serve.Settings)) option {
	return func(s *server) { change(&s.settings) }
}

func withFS(wrap func(storage.FS) storage.FS) option { return func(s *server) { s.wrap = wrap } }

func withListener(l net.Listener) option { return func(s *server) { s.listener = l } }

// start runs a server over dir on a free port of the loopback address.
func start(t testing.TB, dir string, options ...option) *server {
	t.Helper()
	s := &server{
		dir: dir, log: servetest.NewLog(), ended: make(chan error, 1),
		settings: serve.Settings{MaxSessions: 4096, IdleTimeout: patience, ShutdownGrace: patience, Protocol3: true, Registration3: true},
	}
	for _, o := range options {
		o(s)
	}
	log := slog.New(slog.NewJSONHandler(s.log, nil))
	store, err := s.openStore()
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.archive, err = archive.Open(catalogue, store, log); err != nil {
		t.Fatal(err)
	}
	if s.listener == nil {
		if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s.addr = s.listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() { s.ended <- serve.New(s.archive, s.settings, log).Serve(ctx, s.listener) }()
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *server) openStore() (*storage.Folder, error) {
	files := filepath.Join(s.dir, "files")
	if s.wrap == nil {
		return storage.OpenFolder(files)
	}
	if err := os.MkdirAll(files, 0o700); err != nil {
		return nil, err
	}
	root, err := storage.RootFS(files)
	if err != nil {
		return nil, err
	}
	return storage.OpenFolderOn(s.wrap(root), files)
}

// stop ends the server as SIGTERM does. A second call does nothing.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if s.archive == nil {
		return
	}
	s.cancel()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(patience):
		t.Fatalf("the server does not end:\n%s", s.log)
	}
	if err := s.archive.Close(); err != nil {
		t.Errorf("close the archive: %v", err)
	}
	s.archive = nil
}

// stored reads a file of the tree.
func (s *server) stored(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, "files", path))
	if err != nil {
		t.Errorf("stored file: %v", err)
	}
	return string(content)
}

// wantFiles checks which files the tree has, and that nothing else is in the
// storage: no upload, no object that is not shown or garbage.
func (s *server) wantFiles(t testing.TB, want ...string) {
	t.Helper()
	var tree, objects, parts []string
	root := filepath.Join(s.dir, "files")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir() {
			return nil
		}
		rel, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(rel, ".fenc/objects/"):
			objects = append(objects, rel)
		case strings.HasPrefix(rel, ".fenc/part/"):
			parts = append(parts, rel)
		case !strings.HasPrefix(rel, ".fenc/"):
			tree = append(tree, rel)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if fmt.Sprint(tree) != fmt.Sprint(want) {
		t.Errorf("the tree has %q, want %q", tree, want)
	}
	garbage, err := s.archive.Catalogue.GarbageBefore(time.Now().Add(time.Hour), 1<<20)
	objects = slices.DeleteFunc(objects, func(object string) bool {
		return slices.ContainsFunc(garbage, func(id model.ID) bool { return id.String() == filepath.Base(object) })
	})
	if err != nil || len(objects) != len(want) || len(parts) != 0 {
		t.Errorf("%d objects that are no garbage, and parts %v, %v, want %d objects and no part", len(objects), parts, err, len(want))
	}
	for _, state := range []model.UploadState{model.UploadOpen, model.UploadSealing} {
		if uploads, err := s.archive.Catalogue.Uploads(state); err != nil || len(uploads) != 0 {
			t.Errorf("uploads %s: %d, %v, want none", state, len(uploads), err)
		}
	}
}

// key is the key of every test client: making one takes a while.
var key = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := v3.GenerateKey()
	if err != nil {
		panic(err)
	}
	return k
})

// peer is a client that does as it is told.
type peer struct {
	net.Conn
	t       testing.TB
	id      v3.ClientID
	session v3.SessionKey
}

func dial(t testing.TB, s *server) *peer {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &peer{Conn: c, t: t}
}

// hello connects, registers name and agrees on a key.
func hello(t testing.TB, s *server, name string) *peer {
	t.Helper()
	p := dial(t, s)
	p.register(name)
	p.agree(name)
	return p
}

// back connects as the client that p is, and agrees on a key.
func (p *peer) back(t testing.TB, s *server, name string) *peer {
	t.Helper()
	again := dial(t, s)
	again.id = p.id
	again.agree(name)
	return again
}

func (p *peer) register(name string) {
	p.t.Helper()
	if err := v3.WriteRegistration(p, name); err != nil {
		p.t.Fatal(err)
	}
	var m v3.Registered
	p.answer(v3.CodeRegistered, &m)
	p.id = m.ClientID
}

func (p *peer) sendKey(name string) {
	p.t.Helper()
	n, err := v3.NewName(name)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := v3.MarshalPublicKey(&key().PublicKey)
	if err != nil {
		p.t.Fatal(err)
	}
	p.request(v3.CodePublicKey, &v3.PublicKey{Name: n, Key: der})
}

func (p *peer) agree(name string) {
	p.t.Helper()
	p.sendKey(name)
	var m v3.Key
	p.answer(v3.CodeKey, &m)
	session, err := v3.UnwrapKey(key(), m.Wrapped)
	if err != nil {
		p.t.Fatal(err)
	}
	p.session = session
}

func (p *peer) request(code v3.Code, msg any) {
	p.t.Helper()
	if err := v3.WriteRequest(p, p.id, code, msg, 0); err != nil {
		p.t.Fatal(err)
	}
}

// answer reads a response of this code into msg.
func (p *peer) answer(code v3.Code, msg any) {
	p.t.Helper()
	h, err := v3.ReadResponseHeader(p)
	if err == nil {
		err = v3.ReadResponse(p, h, msg, code)
	}
	if err != nil {
		p.t.Fatalf("await %s: %v", code, err)
	}
}

// encrypted is content as it travels.
func (p *peer) encrypted(content string) []byte {
	buf := append([]byte(content), make([]byte, v3.BlockSize)...)
	return v3.NewEncrypter(p.session).Final(buf, len(content))
}

func named(name string) v3.Name {
	n, err := v3.NewName(name)
	if err != nil {
		panic(err)
	}
	return n
}

// file is a whole 1103 for ciphertext.
func (p *peer) file(name string, ciphertext []byte) []byte {
	var b bytes.Buffer
	m := &v3.File{ClientID: p.id, ContentSize: uint32(len(ciphertext)), FileName: named(name)}
	if err := v3.WriteRequest(&b, p.id, v3.CodeFile, m, m.ContentSize); err != nil {
		panic(err)
	}
	return append(b.Bytes(), ciphertext...)
}

// verdict is a whole 1104, 1105 or 1106.
func (p *peer) verdict(code v3.Code, name string) []byte {
	var b bytes.Buffer
	if err := v3.WriteRequest(&b, p.id, code, &v3.Verdict{ClientID: p.id, FileName: named(name)}, 0); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (p *peer) send(message []byte) {
	p.t.Helper()
	if _, err := p.Write(message); err != nil {
		p.t.Fatal(err)
	}
}

// offer sends ciphertext as a file and returns the checksum that comes back.
func (p *peer) offer(name string, ciphertext []byte) uint32 {
	p.t.Helper()
	p.send(p.file(name, ciphertext))
	var m v3.FileReceived
	p.answer(v3.CodeFileReceived, &m)
	if m.ClientID != p.id || m.FileName != named(name) || m.ContentSize != uint32(len(ciphertext)) {
		p.t.Errorf("2103 about %v, %q, %d bytes", m.ClientID, m.FileName.String(), m.ContentSize)
	}
	return m.Checksum
}

// conclude sends a verdict and awaits 2104.
func (p *peer) conclude(code v3.Code, name string) {
	p.t.Helper()
	p.send(p.verdict(code, name))
	p.answer(v3.CodeReceived, nil)
}

// keep sends content and has it verified.
func (p *peer) keep(name, content string) {
	p.t.Helper()
	if got, want := p.offer(name, p.encrypted(content)), crc32.ChecksumIEEE([]byte(content)); got != want {
		p.t.Errorf("checksum of %q: got %08x, want %08x", name, got, want)
	}
	p.conclude(v3.CodeValid, name)
}

// wantClosed checks that the server sends nothing more and closes.
func (p *peer) wantClosed() {
	p.t.Helper()
	rest, err := io.ReadAll(p)
	var timeout net.Error
	if len(rest) > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		p.t.Errorf("got %d more bytes (%x), %v, want the connection closed", len(rest), rest[:min(len(rest), 64)], err)
	}
}

// patched is message with bytes replaced.
func patched(message []byte, at int, with ...byte) []byte {
	m := bytes.Clone(message)
	copy(m[at:], with)
	return m
}

func u32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }
