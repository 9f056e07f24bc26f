package send3

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fenc/modes/send"
	"fenc/wire/v3"
)

const patience = 3 * time.Minute // after which a test is stuck, not slow

// server is a server of scripts: the n-th connection is held by the n-th.
type server struct {
	addr     string
	accepted atomic.Int32
}

func newServer(t *testing.T, scripts ...func(p *peer)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(s.accepted.Add(1))
			if n > len(scripts) {
				t.Errorf("connection %d, want %d at most", n, len(scripts))
				c.Close()
				continue
			}
			c.SetDeadline(time.Now().Add(patience))
			running.Go(func() {
				p := &peer{Conn: c, t: t, key: v3.NewSessionKey(), id: theID}
				defer p.Close()
				scripts[n-1](p)
			})
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return s
}

// peer is the server's end of one connection.
type peer struct {
	net.Conn
	t    *testing.T
	key  v3.SessionKey
	id   v3.ClientID
	sent []v3.Code // what the client sent
}

// fail ends the script.
func (p *peer) fail(format string, args ...any) {
	p.t.Helper()
	p.t.Errorf(format, args...)
	p.Close()
	runtime.Goexit()
}

// request reads a header and the fixed fields the way the first server does: one
// recv for each, which must get the whole of it.
func (p *peer) request(want v3.Code, msg any) v3.RequestHeader {
	p.t.Helper()
	raw := make([]byte, v3.RequestHeaderSize)
	if n, err := p.Read(raw); n != len(raw) {
		p.fail("header of %s: one read got %d bytes (%v), want %d", want, n, err, len(raw))
	}
	h, err := v3.ReadRequestHeader(bytes.NewReader(raw))
	if err != nil || h.Code != want {
		p.fail("request: got %v, %v, want %s", h.Code, err, want)
	}
	p.sent = append(p.sent, h.Code)
	size := int(h.PayloadSize)
	if msg != nil {
		size = binary.Size(msg)
	}
	raw = make([]byte, size)
	if n, err := p.Read(raw); n != size {
		p.fail("fixed fields of %s: one read got %d bytes (%v), want %d", want, n, err, size)
	}
	if msg != nil {
		if err := v3.Unmarshal(raw, msg); err != nil {
			p.fail("%s: %v", want, err)
		}
	}
	return h
}

func (p *peer) respond(code v3.Code, msg any) {
	p.t.Helper()
	if err := v3.WriteResponse(p, code, msg); err != nil {
		p.fail("write %s: %v", code, err)
	}
}

// register: 1100 → 2100.
func (p *peer) register() {
	p.t.Helper()
	p.request(v3.CodeRegister, nil)
	p.respond(v3.CodeRegistered, &v3.Registered{ClientID: p.id})
}

// askedKey: 1101, and the answer to it.
func (p *peer) askedKey() *v3.Key {
	p.t.Helper()
	var request v3.PublicKey
	h := p.request(v3.CodePublicKey, &request)
	if h.ClientID != p.id || request.Name.String() != theName {
		p.fail("1101: got id %s, name %q, want %s, %q", h.ClientID, request.Name.String(), p.id, theName)
	}
	public, err := v3.ParsePublicKey(request.Key)
	if err != nil {
		p.fail("1101: %v", err)
	}
	wrapped, err := v3.WrapKey(public, p.key)
	if err != nil {
		p.fail("%v", err)
	}
	return &v3.Key{ClientID: p.id, Wrapped: wrapped}
}

// agreeKey: 1101 → 2102.
func (p *peer) agreeKey() {
	p.t.Helper()
	p.respond(v3.CodeKey, p.askedKey())
}

// fileHead: 1103 without its content.
func (p *peer) fileHead() v3.File {
	p.t.Helper()
	var f v3.File
	h := p.request(v3.CodeFile, &f)
	if h.ClientID != p.id || f.ClientID != p.id || int64(h.PayloadSize) != v3.FileFixedSize+int64(f.ContentSize) {
		p.fail("1103: got ids %s, %s, payload %d, content %d", h.ClientID, f.ClientID, h.PayloadSize, f.ContentSize)
	}
	return f
}

// content reads and decrypts what follows.
func (p *peer) content(f v3.File) []byte {
	p.t.Helper()
	b := make([]byte, f.ContentSize)
	if _, err := io.ReadFull(p, b); err != nil {
		p.fail("content: %v", err)
	}
	v3.NewDecrypter(p.key).Blocks(b)
	n, ok := v3.Unpad(b[len(b)-v3.BlockSize:])
	if !ok {
		p.fail("content of %d bytes: padding is wrong", len(b))
	}
	return b[:len(b)-v3.BlockSize+n]
}

func received(f v3.File, checksum uint32) *v3.FileReceived {
	return &v3.FileReceived{ClientID: f.ClientID, ContentSize: f.ContentSize, FileName: f.FileName, Checksum: checksum}
}

// answered: 1103 → 2103 with the right checksum, changed by wrong.
func (p *peer) answered(wrong uint32) []byte {
	p.t.Helper()
	f := p.fileHead()
	plain := p.content(f)
	p.respond(v3.CodeFileReceived, received(f, crc32.ChecksumIEEE(plain)^wrong))
	return plain
}

// concluded: want → 2104.
func (p *peer) concluded(want v3.Code) {
	p.t.Helper()
	var v v3.Verdict
	if h := p.request(want, &v); h.ClientID != p.id || v.ClientID != p.id {
		p.fail("%s: got ids %s, %s, want %s", want, h.ClientID, v.ClientID, p.id)
	}
	p.respond(v3.CodeReceived, nil)
}

// ended waits for the client to close.
func (p *peer) ended() {
	p.t.Helper()
	if n, err := p.Read(make([]byte, 1)); n > 0 {
		p.fail("more from the client (%v)", err)
	}
}

// reset closes so that the client hears a reset.
func (p *peer) reset() {
	p.Conn.(*net.TCPConn).SetLinger(0)
	p.Close()
}

const theName = "grace"

var (
	theID  = v3.ClientID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	theKey = sync.OnceValues(v3.GenerateKey)
)

func me(t *testing.T) Identity {
	t.Helper()
	key, err := theKey()
	if err != nil {
		t.Fatal(err)
	}
	return Identity{Name: theName, ID: theID, Key: (*rsa.PrivateKey)(key)}
}

func (s *server) settings() Settings {
	return Settings{Server: s.addr, ConnectTimeout: patience, Timeout: patience, Attempts: 3}
}

// tempFile makes a file of content and a source of it.
func tempFile(t *testing.T, name string, content []byte) *send.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := send.NewSource(path, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// pattern is n bytes that differ from block to block.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*13 + i>>16*29)
	}
	return b
}

// runAll sends the files and returns the results.
func runAll(ctx context.Context, t *testing.T, settings Settings, files ...*send.Source) ([]send.Result, error) {
	t.Helper()
	var results []send.Result
	err := Run(ctx, settings, me(t), nil, files, send.Results(func(r send.Result) { results = append(results, r) }))
	if len(results) != len(files) {
		t.Errorf("results: got %d, want one for each of %d files", len(results), len(files))
	}
	return results, err
}
