package hostile_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fenc/wire/v3"
	"fenc/wire/v4"
)

// client is a key, and the name that goes with it.
type client struct {
	target      *target
	name        string
	key         ed25519.PrivateKey
	certificate tls.Certificate
	instance    [16]byte
	token       [16]byte
	epoch       atomic.Uint64
}

// newClient makes a client that the server does not know yet.
func (s *target) newClient(t testing.TB, name string) *client {
	t.Helper()
	_, key := edKey()
	c := &client{target: s, name: name, key: key, certificate: certificateOf(key.Public(), key, 0)}
	rand.Read(c.instance[:])
	return c
}

// certificateOf is a certificate with about so many bytes more than it needs. The
// key that signs it need not belong to the public one.
func certificateOf(public any, signer ed25519.PrivateKey, more int) tls.Certificate {
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	if more > 0 {
		template.DNSNames = []string{strings.Repeat("x", more)}
	}
	issuer := x509.Certificate{SerialNumber: big.NewInt(2)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &issuer, public, signer)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}
}

// fingerprint is the client's, as the server logs it.
func (c *client) fingerprint() v4.Fingerprint {
	der, err := x509.MarshalPKIXPublicKey(c.key.Public())
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(der)
}

// config is how an honest client shakes hands.
func (c *client) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"fenc/4"}, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{c.certificate}, SessionTicketsDisabled: true,
	}
}

// dial is a connection on which nothing was said.
func (s *target) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// line is a connection of protocol 4.
type line struct {
	*tls.Conn
	t  testing.TB
	by *client
}

// connect does the handshake.
func (c *client) connect(t testing.TB) *line {
	t.Helper()
	conn := tls.Client(c.target.dial(t), c.config())
	must(t, conn.Handshake())
	return &line{conn, t, c}
}

// session is an admitted connection with all rights.
func (c *client) session(t testing.TB) *line {
	t.Helper()
	l := c.connect(t)
	l.hello()
	l.welcome()
	return l
}

var le = binary.LittleEndian

func u8(n int) []byte       { return []byte{byte(n)} }
func u16(n int) []byte      { return le.AppendUint16(nil, uint16(n)) }
func u32(n uint32) []byte   { return le.AppendUint32(nil, n) }
func u64(n uint64) []byte   { return le.AppendUint64(nil, n) }
func text(s string) []byte  { return append(u16(len(s)), s...) }
func numbered(n int) []byte { return u32(uint32(n)) }

// frame is a whole frame, whatever it may be worth.
func frame(code int, fields ...[]byte) []byte {
	payload := bytes.Join(fields, nil)
	return slices.Concat(u8(4), u16(code), u32(uint32(len(payload))), payload)
}

// says sends bytes as they are. A server that has ended the session takes the rest of
// them for a second only: what it has answered by then is what counts.
func (l *line) says(b ...[]byte) {
	l.t.Helper()
	if _, err := l.Write(bytes.Join(b, nil)); err != nil {
		l.t.Logf("say %d bytes: %v", len(bytes.Join(b, nil)), err)
	}
}

// hears reads the next frame that is no 2111 or 2118.
func (l *line) hears() (code int, payload []byte, err error) {
	for {
		var header [7]byte
		if _, err := io.ReadFull(l, header[:]); err != nil {
			return 0, nil, err
		}
		code, payload = int(le.Uint16(header[1:])), make([]byte, le.Uint32(header[3:]))
		if _, err := io.ReadFull(l, payload); err != nil {
			return 0, nil, err
		}
		if code != 2111 && code != 2118 {
			return code, payload, nil
		}
	}
}

// gets reads the next frame, which must have this code.
func (l *line) gets(want int) []byte {
	l.t.Helper()
	code, payload, err := l.hears()
	if err != nil || code != want {
		l.t.Fatalf("got %d (%.200q), %v, want %d", code, payload, err, want)
	}
	return payload
}

// helloOf is 1100 with fields of one's own.
func helloOf(rights, stream int, instance [16]byte, epoch uint64, token [16]byte, name string) []byte {
	return frame(1100, u8(0), u8(rights), u8(stream), instance[:], u64(epoch), token[:], text(name), text("attacker"))
}

func (l *line) hello() {
	l.t.Helper()
	l.says(helloOf(7, 0, l.by.instance, l.by.epoch.Add(1), l.by.token, l.by.name))
}

// welcome returns what 2100 grants.
func (l *line) welcome() v4.Welcome {
	l.t.Helper()
	m, err := v4.Unmarshal(v4.CodeWelcome, l.gets(2100))
	must(l.t, err)
	return *m.(*v4.Welcome)
}

// ended checks that the session is ended with 2101 for this reason, and closed.
// What was answered before is left out.
func (l *line) ended(reason int) {
	l.t.Helper()
	for {
		code, payload, err := l.hears()
		if err != nil {
			l.t.Fatalf("got the end of the connection (%v), want 2101 for the reason %d", err, reason)
		}
		if code != 2101 {
			continue
		}
		m, err := v4.Unmarshal(v4.CodeRefusal, payload)
		must(l.t, err)
		if got := m.(*v4.Refusal); int(got.Reason) != reason {
			l.t.Errorf("got 2101 for the reason %d (%q), want %d", got.Reason, got.Text, reason)
		}
		l.closed()
		return
	}
}

// refused checks that a request is refused for this reason, by its own 2110.
func (l *line) refused(number, reason int) {
	l.t.Helper()
	m, err := v4.Unmarshal(v4.CodeRefused, l.gets(2110))
	must(l.t, err)
	if got := m.(*v4.Refused); int(got.Number) != number || int(got.Reason) != reason {
		l.t.Errorf("got 2110 of %d for the reason %d (%q), want of %d for %d", got.Number, got.Reason, got.Text, number, reason)
	}
}

// closed checks that nothing more comes.
func (l *line) closed() {
	l.t.Helper()
	wantClosed(l.t, l.Conn)
}

func wantClosed(t testing.TB, c net.Conn) {
	t.Helper()
	rest, err := io.ReadAll(c)
	var timeout net.Error
	if len(rest) > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("got %d more bytes (%.100q), %v, want the connection closed", len(rest), rest, err)
	}
}

// alive checks that the session goes on.
func (l *line) alive() {
	l.t.Helper()
	l.says(frame(1114, u64(4711)))
	if got := le.Uint64(l.gets(2117)); got != 4711 {
		l.t.Errorf("got 2117 with %d", got)
	}
}

func (l *line) bye() {
	l.t.Helper()
	l.says(frame(1115))
	l.gets(2120)
	l.closed()
}

const modified, mode = 1767323045e9, 0o640

// small is 1111.
func small(number int, path, content string) []byte {
	digest := digestOf(content)
	return smallWith(number, path, content, digest)
}

func smallWith(number int, path, content string, digest v4.Digest) []byte {
	return frame(1111, numbered(number), u64(modified), u16(mode), digest[:], text(path), []byte(content))
}

// keeps sends a file whole, and has it verified.
func (l *line) keeps(number uint32, path, content string) {
	l.t.Helper()
	l.says(small(int(number), path, content))
	l.received(int(number), content)
}

// received checks 2103.
func (l *line) received(number int, content string) {
	l.t.Helper()
	m, err := v4.Unmarshal(v4.CodeReceived, l.gets(2103))
	must(l.t, err)
	if got := m.(*v4.Received); int(got.Number) != number || got.Size != uint64(len(content)) || got.Digest != digestOf(content) {
		l.t.Errorf("got 2103 of %d, %d bytes with the digest %s, want of %d, %d bytes with %s", got.Number, got.Size, got.Digest, number, len(content), digestOf(content))
	}
}

// offer is 1103.
func offer(number, flags int, size uint64, digest v4.Digest, path string) []byte {
	return frame(1103, numbered(number), u8(flags), u64(size), u64(modified), u16(mode), digest[:], text(path))
}

// offers opens an upload by blocks and returns its id.
func (l *line) offers(number int, size uint64, path string) (upload []byte) {
	l.t.Helper()
	l.says(offer(number, 0, size, v4.Digest{}, path))
	return l.accepted(number)
}

// accepted reads 2105, after a 2106 or none.
func (l *line) accepted(number int) (upload []byte) {
	l.t.Helper()
	code, payload, err := l.hears()
	if code == 2106 {
		code, payload, err = l.hears()
	}
	if err != nil || code != 2105 || int(le.Uint32(payload)) != number {
		l.t.Fatalf("got %d (%.100q), %v, want 2105 of %d", code, payload, err, number)
	}
	return payload[5:21]
}

// block is 1108.
func block(number int, offset uint64, content string) []byte {
	return frame(1108, numbered(number), u64(offset), []byte(content))
}

// blocks are all of a file.
func blocks(number int, content string) []byte {
	var all []byte
	for off := 0; off < len(content); off += v4.MaxBlock {
		all = append(all, block(number, uint64(off), content[off:min(len(content), off+v4.MaxBlock)])...)
	}
	return all
}

// finish is 1110.
func finish(number int, content string) []byte {
	digest := digestOf(content)
	return frame(1110, numbered(number), digest[:])
}

func list(number, limit int, prefix, after string) []byte {
	return frame(1112, numbered(number), u16(limit), text(prefix), text(after))
}

func fetch(number int, offset uint64, digest v4.Digest, path string) []byte {
	return frame(1113, numbered(number), u64(offset), digest[:], text(path))
}

// fetches gets a file back.
func (l *line) fetches(number int, path, content string) {
	l.t.Helper()
	l.says(fetch(number, 0, v4.Digest{}, path))
	l.gets(2114)
	var got []byte
	for {
		code, payload, err := l.hears()
		if err != nil {
			l.t.Fatalf("fetch %q: %v", path, err)
		}
		if code == 2116 {
			break
		}
		got = append(got, payload[12:]...)
	}
	if string(got) != content {
		l.t.Errorf("fetch %q: got %d bytes, want %d that are equal", path, len(got), len(content))
	}
}

// peer3 is a client of protocol 3.
type peer3 struct {
	net.Conn
	t       testing.TB
	id      v3.ClientID
	session v3.SessionKey
}

// greet3 registers and agrees on a key.
func (s *target) greet3(t testing.TB, name string) *peer3 {
	t.Helper()
	p := &peer3{Conn: s.dial(t), t: t}
	must(t, v3.WriteRegistration(p, name))
	var m v3.Registered
	p.answer(v3.CodeRegistered, &m)
	p.id = m.ClientID
	p.agree(name)
	return p
}

func (p *peer3) agree(name string) {
	p.t.Helper()
	der, err := v3.MarshalPublicKey(&rsaKey().PublicKey)
	must(p.t, err)
	must(p.t, v3.WriteRequest(p, p.id, v3.CodePublicKey, &v3.PublicKey{Name: named3(name), Key: der}, 0))
	var m v3.Key
	p.answer(v3.CodeKey, &m)
	p.session, err = v3.UnwrapKey(rsaKey(), m.Wrapped)
	must(p.t, err)
}

func (p *peer3) answer(code v3.Code, msg any) {
	p.t.Helper()
	h, err := v3.ReadResponseHeader(p)
	if err == nil {
		err = v3.ReadResponse(p, h, msg, code)
	}
	if err != nil {
		p.t.Fatalf("await %s: %v", code, err)
	}
}

func named3(name string) v3.Name {
	n, err := v3.NewName(name)
	if err != nil {
		panic(err)
	}
	return n
}

// file is a whole 1103 under a name, which may be anything of up to 255 bytes.
func (p *peer3) file(name, content string) []byte {
	buf := append([]byte(content), make([]byte, v3.BlockSize)...)
	ciphertext := v3.NewEncrypter(p.session).Final(buf, len(content))
	var b bytes.Buffer
	m := &v3.File{ClientID: p.id, ContentSize: uint32(len(ciphertext))}
	copy(m.FileName[:], name)
	must(p.t, v3.WriteRequest(&b, p.id, v3.CodeFile, m, m.ContentSize))
	return append(b.Bytes(), ciphertext...)
}

// keeps sends a file and has it verified.
func (p *peer3) keeps(name, content string) {
	p.t.Helper()
	_, err := p.Write(p.file(name, content))
	must(p.t, err)
	var m v3.FileReceived
	p.answer(v3.CodeFileReceived, &m)
	if m.Checksum != crc32.ChecksumIEEE([]byte(content)) {
		p.t.Errorf("%q: got the checksum %08x", name, m.Checksum)
	}
	must(p.t, v3.WriteRequest(p, p.id, v3.CodeValid, &v3.Verdict{ClientID: p.id, FileName: m.FileName}, 0))
	p.answer(v3.CodeReceived, nil)
}

// edKey makes a key.
func edKey() (ed25519.PublicKey, ed25519.PrivateKey) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return public, private
}
