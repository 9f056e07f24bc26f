// A second client of protocol 4, written from wire/v4/PROTOCOL.md alone: of fenc's
// code it uses nothing but a server to talk to. The parts in comments are that
// file's.
package serve4_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"math/bits"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/serve"
	"fenc/modes/serve4"
	"fenc/wire/v4"
)

const patience = 3 * time.Minute // after which the test is stuck, not slow

// startServer runs a server of fenc's and returns an invite to it, for "grace".
func startServer(t *testing.T) string {
	t.Helper()
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := storage.OpenFolder(filepath.Join(dir, "files"))
	check(err)
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	check(err)
	kept, err := archive.Open(catalogue, store, log)
	check(err)
	identity, err := v4.NewIdentity()
	check(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	invite := v4.Invite{Address: listener.Addr().String(), Server: identity.Fingerprint(), Token: v4.NewToken()}
	check(catalogue.Invite(model.Invite{
		TokenHash: invite.Token.Hash(), Name: "grace", Rights: model.AllRights, ExpiresAt: model.Time{Time: time.Now().Add(time.Hour)},
	}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	server := serve.New(kept, serve.Settings{
		MaxSessions: 16, IdleTimeout: patience, ShutdownGrace: patience,
		Protocol4: &serve4.Settings{Identity: identity, RequirePQ: true, Registration: model.RegistrationInvite, Software: "test"},
	}, log)
	go func() { ended <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, kept.Close()); err != nil {
			t.Error(err)
		}
	})
	return invite.Line()
}

var le = binary.LittleEndian

// Parts 2 and 3: the key, its certificate, and what an invite says.

func tinyCertificate(key ed25519.PrivateKey) tls.Certificate {
	algorithm := "300506032b6570"
	body, err := hex.DecodeString("3061a003020102020101" + algorithm + "3000" +
		"3020170d" + hex.EncodeToString([]byte("000101000000Z")) + "180f" + hex.EncodeToString([]byte("99991231235959Z")) +
		"3000" + "302a" + algorithm + "032100" + hex.EncodeToString(key.Public().(ed25519.PublicKey)))
	if err != nil {
		panic(err)
	}
	der := append([]byte{0x30, 0x81, 0xad}, body...)
	der = append(der, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x41, 0)
	return tls.Certificate{Certificate: [][]byte{append(der, ed25519.Sign(key, body)...)}, PrivateKey: key}
}

func tinyInvite(t *testing.T, line string) (address string, pin, token []byte) {
	t.Helper()
	address, data, ok := strings.Cut(strings.TrimPrefix(line, "fenc4-"), "/")
	b, err := base64.RawURLEncoding.DecodeString(data)
	if !ok || err != nil || len(b) != 52 {
		t.Fatalf("invite %q: %d bytes, %v", line, len(b), err)
	}
	if sum := sha256.Sum256(append([]byte(address), b[:48]...)); !bytes.Equal(sum[:4], b[48:]) {
		t.Fatal("the invite's checksum differs")
	}
	return address, b[:32], b[32:48]
}

// tiny is one connection.
type tiny struct {
	*tls.Conn
	t *testing.T
}

func tinyDial(t *testing.T, address string, key ed25519.PrivateKey, pin []byte) *tiny {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"fenc/4"}, SessionTicketsDisabled: true, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{tinyCertificate(key)},
		VerifyConnection: func(cs tls.ConnectionState) error {
			raw := cs.PeerCertificates[0].RawSubjectPublicKeyInfo
			if sum := sha256.Sum256(raw); len(cs.PeerCertificates) != 1 || cs.NegotiatedProtocol != "fenc/4" || !bytes.Equal(sum[:], pin) {
				return errors.New("not the server that is pinned")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &tiny{c, t}
}

// Parts 4 and 5: frames and what they are made of.

func text(s string) []byte { return append(le.AppendUint16(nil, uint16(len(s))), s...) }
func u8(n int) []byte      { return []byte{byte(n)} }
func u16(n int) []byte     { return le.AppendUint16(nil, uint16(n)) }
func u32(n int) []byte     { return le.AppendUint32(nil, uint32(n)) }
func u64(n int) []byte     { return le.AppendUint64(nil, uint64(n)) }

func (c *tiny) send(code int, fields ...[]byte) {
	c.t.Helper()
	payload := bytes.Join(fields, nil)
	if _, err := c.Write(bytes.Join([][]byte{u8(4), u16(code), u32(len(payload)), payload}, nil)); err != nil {
		c.t.Fatalf("send %d: %v", code, err)
	}
}

// payload takes fields off the front of an answer.
type payload struct {
	t *testing.T
	b []byte
}

func (p *payload) bytes(n int) []byte {
	p.t.Helper()
	if n > len(p.b) {
		p.t.Fatalf("a field of %d bytes, %d are left", n, len(p.b))
	}
	f := p.b[:n]
	p.b = p.b[n:]
	return f
}
func (p *payload) u8() int      { return int(p.bytes(1)[0]) }
func (p *payload) u16() int     { return int(le.Uint16(p.bytes(2))) }
func (p *payload) u32() int     { return int(le.Uint32(p.bytes(4))) }
func (p *payload) u64() int     { return int(le.Uint64(p.bytes(8))) }
func (p *payload) text() string { return string(p.bytes(p.u16())) }
func (p *payload) end() {
	p.t.Helper()
	if len(p.b) > 0 {
		p.t.Errorf("%d bytes too many: %x", len(p.b), p.b)
	}
}

// end4 is the number that an answer consists of.
func (p *payload) end4(number int) {
	p.t.Helper()
	if got := p.u32(); got != number {
		p.t.Errorf("an answer to %d, want one to %d", got, number)
	}
	p.end()
}

// await reads the next frame, 2111 and 2118 left out; it must have this code.
func (c *tiny) await(want int) *payload {
	c.t.Helper()
	for {
		var header [7]byte
		if _, err := io.ReadFull(c, header[:]); err != nil {
			c.t.Fatalf("await %d: %v", want, err)
		}
		code, b := int(le.Uint16(header[1:])), make([]byte, le.Uint32(header[3:]))
		if _, err := io.ReadFull(c, b); err != nil || header[0] != 4 {
			c.t.Fatalf("await %d: version %d, %v", want, header[0], err)
		}
		if code == want {
			return &payload{c.t, b}
		}
		if code != 2111 && code != 2118 {
			c.t.Fatalf("await %d: got %d, %q", want, code, b[:min(len(b), 200)])
		}
	}
}

// hello is 1100 and 2100.
func (c *tiny) hello(instance string, epoch, stream int, token []byte, name string) {
	c.t.Helper()
	c.send(1100, u8(0), u8(7), u8(stream), []byte(instance), u64(epoch), token, text(name), text("tiny/1"))
	w := c.await(2100)
	minor, rights, id, files, size := w.u8(), w.u8(), w.bytes(16), w.u32(), w.u32()
	w.bytes(4 * 8) // bounds and use
	if got := w.text(); got != "grace" || minor != 0 || rights != 7 || bytes.Equal(id, make([]byte, 16)) || files == 0 || size < 1<<20 {
		c.t.Errorf("2100: name %q, minor %d, rights %d, id %x, windows %d and %d", got, minor, rights, id, files, size)
	}
	w.text()
	w.bytes(32 * w.u32())
	w.end()
}

// received is 2103 about a file.
func (c *tiny) received(number int, unchanged int, content []byte) {
	c.t.Helper()
	m := c.await(2103)
	if n, u, size, digest := m.u32(), m.u8(), m.u64(), m.bytes(32); n != number || u != unchanged || size != len(content) || !bytes.Equal(digest, digestOf(content)) {
		c.t.Errorf("2103: number %d, unchanged %d, %d bytes, digest %x", n, u, size, digest)
	}
	m.end()
}

func digestOf(content []byte) []byte { sum := blake3.Sum256(content); return sum[:] }

const modified, mode = 1767323045e9, 0o640

func (c *tiny) offer(number, flags int, path string, content []byte) {
	digest := make([]byte, 32)
	if flags&1 != 0 {
		digest = digestOf(content)
	}
	c.send(1103, u32(number), u8(flags), u64(len(content)), u64(modified), u16(mode), digest, text(path))
}

// accepted is 2105: the upload, the chunk size, and the hashes of what is held.
func (c *tiny) accepted(number int) (upload []byte, chunkSize int, held map[int]string) {
	c.t.Helper()
	m := c.await(2105)
	if n, flags := m.u32(), m.u8(); n != number || flags != 0 {
		c.t.Errorf("2105: number %d, flags %d", n, flags)
	}
	upload, chunkSize, held = m.bytes(16), m.u64(), make(map[int]string)
	for range m.u32() {
		held[m.u32()] = string(m.bytes(32))
	}
	m.end()
	return upload, chunkSize, held
}

// sendRange sends content from an offset to another, in blocks of so many bytes
// that end where chunks do.
func (c *tiny) sendRange(number int, content []byte, from, to, block, chunkSize int) {
	c.t.Helper()
	for from < to {
		n := min(block, to-from, chunkSize-from%chunkSize)
		c.send(1108, u32(number), u64(from), content[from:from+n])
		from += n
	}
}

// barrier is 1109 and 2112.
func (c *tiny) barrier(serial int) {
	c.t.Helper()
	c.send(1109, u32(serial))
	if got := c.await(2112).u32(); got != serial {
		c.t.Errorf("2112 with serial %d, want %d", got, serial)
	}
}

// listed is 2113 with one entry.
func (c *tiny) listed(number, more int, path string, content []byte) {
	c.t.Helper()
	m := c.await(2113)
	if n, more2, entries := m.u32(), m.u8(), m.u32(); n != number || more2 != more || entries != 1 {
		c.t.Fatalf("2113: number %d, more %d, %d entries", n, more2, entries)
	}
	size, at, received, bits, digest, got := m.u64(), m.u64(), m.u64(), m.u16(), m.bytes(32), m.text()
	if got != path || size != len(content) || at != modified || received < 1e18 || bits != mode || !bytes.Equal(digest, digestOf(content)) {
		c.t.Errorf("2113: %q, %d bytes, modified %d, received %d, mode %o, digest %x", got, size, at, received, bits, digest)
	}
	m.end()
}

// fetch is 1113, 2114, 2115 and 2116.
func (c *tiny) fetch(number, from int, path string, content []byte) {
	c.t.Helper()
	c.send(1113, u32(number), u64(from), digestOf(content), text(path))
	m := c.await(2114)
	if n, size, at, bits, digest := m.u32(), m.u64(), m.u64(), m.u16(), m.bytes(32); n != number || size != len(content) || at != modified || bits != mode || !bytes.Equal(digest, digestOf(content)) {
		c.t.Errorf("2114: number %d, %d bytes, modified %d, mode %o, digest %x", n, size, at, bits, digest)
	}
	for from < len(content) {
		m := c.await(2115)
		if n, off := m.u32(), m.u64(); n != number || off != from || len(m.b) == 0 || !bytes.HasPrefix(content[from:], m.b) {
			c.t.Fatalf("2115: number %d, %d bytes at %d, want them at %d", n, len(m.b), off, from)
		}
		from += len(m.b)
	}
	c.await(2116).end4(number)
}

func (c *tiny) bye() {
	c.t.Helper()
	c.send(1115)
	c.await(2120).end()
}

// Part 8: BLAKE3's tree, as it is told there.

var iv = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

func compress(h [8]uint32, block []byte, t uint64, flags uint32) [8]uint32 {
	var m [16]uint32
	var padded [64]byte
	copy(padded[:], block)
	for i := range m {
		m[i] = le.Uint32(padded[4*i:])
	}
	v := [16]uint32{h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], iv[0], iv[1], iv[2], iv[3], uint32(t), uint32(t >> 32), uint32(len(block)), flags}
	g := func(a, b, c, d int, x, y uint32) {
		v[a] += v[b] + x
		v[d] = bits.RotateLeft32(v[d]^v[a], -16)
		v[c] += v[d]
		v[b] = bits.RotateLeft32(v[b]^v[c], -12)
		v[a] += v[b] + y
		v[d] = bits.RotateLeft32(v[d]^v[a], -8)
		v[c] += v[d]
		v[b] = bits.RotateLeft32(v[b]^v[c], -7)
	}
	for range 7 {
		g(0, 4, 8, 12, m[0], m[1])
		g(1, 5, 9, 13, m[2], m[3])
		g(2, 6, 10, 14, m[4], m[5])
		g(3, 7, 11, 15, m[6], m[7])
		g(0, 5, 10, 15, m[8], m[9])
		g(1, 6, 11, 12, m[10], m[11])
		g(2, 7, 8, 13, m[12], m[13])
		g(3, 4, 9, 14, m[14], m[15])
		m = [16]uint32{m[2], m[6], m[3], m[10], m[7], m[0], m[4], m[13], m[1], m[11], m[12], m[5], m[9], m[14], m[15], m[8]}
	}
	for i := range h {
		h[i] = v[i] ^ v[i+8]
	}
	return h
}

// chunkHash is the value of the tree over content that begins at leaf t; root is
// 8 where it is the whole file.
func chunkHash(content []byte, t uint64, root uint32) string {
	if len(content) > 1024 {
		left := 1024 << (bits.Len(uint(len(content)-1)/1024) - 1)
		return parent(chunkHash(content[:left], t, 0), chunkHash(content[left:], t+uint64(left/1024), 0), root)
	}
	h, flags := iv, uint32(1)
	for len(content) > 64 {
		h, content, flags = compress(h, content[:64], t, flags), content[64:], 0
	}
	return value(compress(h, content, t, flags|2|root))
}

func parent(left, right string, root uint32) string {
	return value(compress(iv, []byte(left+right), 0, 4|root))
}

func value(h [8]uint32) string {
	var b []byte
	for _, w := range h {
		b = le.AppendUint32(b, w)
	}
	return string(b)
}

// merge is the digest of a file with these chunk hashes, root being 8.
func merge(hashes []string, root uint32) string {
	if len(hashes) == 1 {
		return hashes[0]
	}
	k := 1 << (bits.Len(uint(len(hashes)-1)) - 1)
	return parent(merge(hashes[:k], 0), merge(hashes[k:], 0), root)
}

func hashesOf(content []byte, chunkSize int) (hashes []string) {
	root := uint32(0)
	if len(content) <= chunkSize {
		root = 8
	}
	for off := 0; off < len(content); off += chunkSize {
		hashes = append(hashes, chunkHash(content[off:min(len(content), off+chunkSize)], uint64(off/1024), root))
	}
	return hashes
}

func pattern(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251 * seed)
	}
	return b
}

func TestTreesOfTheSpecificationByHand(t *testing.T) {
	t.Parallel()
	specification, err := os.ReadFile("../../wire/v4/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for size, parents := range map[int][][2]int{1 << 20: nil, 2097153: {{0, 1}}, 5259265: {{0, 1}, {2, 3}, {0, 3}, {4, 5}}} {
		content := pattern(size, 1)
		hashes := hashesOf(content, 1<<20)
		want := []string{"digest    " + hex.EncodeToString([]byte(merge(hashes, 8)))}
		for i, h := range hashes {
			want = append(want, "chunk "+string(rune('0'+i))+"   "+hex.EncodeToString([]byte(h)))
		}
		for _, p := range parents {
			want = append(want, "p "+string(rune('0'+p[0]))+"-"+string(rune('0'+p[1]))+"     "+hex.EncodeToString([]byte(merge(hashes[p[0]:p[1]+1], 0))))
		}
		for _, line := range want {
			if !bytes.Contains(specification, []byte("\n"+line)) {
				t.Errorf("%d bytes: the specification lacks %s", size, line)
			}
		}
		if !bytes.Equal([]byte(merge(hashes, 8)), digestOf(content)) {
			t.Errorf("%d bytes: digest %x, BLAKE3 says %x", size, merge(hashes, 8), digestOf(content))
		}
	}
}

func TestTinyClientSendsResumesAndReadsBack(t *testing.T) {
	t.Parallel()
	address, pin, token := tinyInvite(t, startServer(t))
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	const instance = "0123456789abcdef"
	none := make([]byte, 16)

	c := tinyDial(t, address, key, pin)
	c.hello(instance, 1, 0, token, "grace")
	small, large := []byte("hello"), pattern(5<<20+7, 3)
	c.send(1111, u32(1), u64(modified), u16(mode), digestOf(small), text("a/small"), small)
	c.received(1, 0, small)
	c.offer(2, 3, "a/small", small)
	c.received(2, 1, small)

	// The large file, until the connection breaks in the middle of a block of chunk 4.
	c.offer(3, 0, "a/large", large)
	_, chunkSize, held := c.accepted(3)
	if chunkSize != 1<<20 || len(held) > 0 {
		t.Errorf("2105: chunks of %d bytes, %d held", chunkSize, len(held))
	}
	c.sendRange(3, large, 2<<20, 3<<20, 1<<20, chunkSize)
	c.sendRange(3, large, 0, 1<<20, 300_001, chunkSize)
	c.sendRange(3, large, 4<<20, 4<<20+5000, 1000, chunkSize)
	c.barrier(1)
	if _, err := c.Write(bytes.Join([][]byte{u8(4), u16(1108), u32(12 + 1000), u32(3), u64(4<<20 + 5000), make([]byte, 10)}, nil)); err != nil {
		t.Fatal(err)
	}
	c.NetConn().Close()

	c = tinyDial(t, address, key, pin)
	c.hello(instance, 2, 0, none, "")
	c.offer(1, 0, "a/large", large)
	upload, chunkSize, held := c.accepted(1)
	hashes := hashesOf(large, chunkSize)
	if len(held) != 2 || held[0] != hashes[0] || held[2] != hashes[2] {
		t.Errorf("resumed: %d chunks held, want 0 and 2 with their hashes", len(held))
	}
	// Chunk 5, of 7 bytes, is left out at first; chunk 3 goes over a second connection.
	other := tinyDial(t, address, key, pin)
	other.hello(instance, 2, 1, none, "grace")
	other.send(1107, u32(1), upload)
	other.await(2107).end4(1)
	other.sendRange(1, large, 3<<20, 4<<20, 1<<19, chunkSize)
	c.sendRange(1, large, 1<<20, 2<<20, 1<<20, chunkSize)
	c.sendRange(1, large, 4<<20, 5<<20, 1<<20, chunkSize)
	other.barrier(7)
	c.send(1110, u32(1), digestOf(large))
	m := c.await(2108)
	if n, chunks, first := m.u32(), m.u32(), m.u32(); n != 1 || chunks != 1 || first != 5 {
		t.Errorf("2108: number %d, %d chunks, the first is %d", n, chunks, first)
	}
	// Damaged on its way, it is found, forgotten and sent again.
	c.send(1108, u32(1), u64(5<<20), []byte("damaged"))
	c.send(1110, u32(1), digestOf(large))
	m = c.await(2109)
	if n, chunks := m.u32(), m.u32(); n != 1 || chunks != 6 {
		t.Fatalf("2109: number %d, %d hashes", n, chunks)
	}
	for i, h := range hashes {
		if same := string(m.bytes(32)) == h; same != (i != 5) {
			t.Errorf("2109: chunk %d is the same: %v", i, same)
		}
	}
	c.send(1105, u32(1), u32(1), u32(5))
	c.sendRange(1, large, 5<<20, len(large), 1<<20, chunkSize)
	c.send(1110, u32(1), []byte(merge(hashes, 8)))
	c.received(1, 0, large)

	// A changed version: what is as before is copied.
	changed := bytes.Clone(large)
	changed[3<<20] ^= 1
	c.offer(2, 0, "a/large", changed)
	m = c.await(2106)
	if n, chunk, size, number := m.u32(), m.u64(), m.u64(), m.u32(); n != 2 || chunk != 1<<20 || size != len(large) || number != 6 {
		t.Errorf("2106: number %d, chunks of %d bytes, size %d, %d hashes", n, chunk, size, number)
	}
	if got := string(m.bytes(6 * 32)); got != strings.Join(hashes, "") {
		t.Error("2106 has other hashes")
	}
	c.accepted(2)
	c.send(1116, u32(2), u32(5), u32(0), u32(1), u32(2), u32(4), u32(5))
	c.sendRange(2, changed, 3<<20, 4<<20, 1<<20, 1<<20)
	c.send(1110, u32(2), digestOf(changed))
	c.received(2, 0, changed)
	other.bye()

	c.send(1114, u64(42))
	if got := c.await(2117).u64(); got != 42 {
		t.Errorf("2117 with %d", got)
	}
	c.offer(3, 0, "a/never", large)
	c.accepted(3)
	c.send(1106, u32(3))
	c.await(2104).end4(3)

	c.send(1112, u32(4), u16(1), text("a"), text(""))
	c.listed(4, 1, "a/large", changed)
	c.send(1112, u32(5), u16(1), text("a"), text("a/large"))
	c.listed(5, 0, "a/small", small)
	c.fetch(6, 0, "a/large", changed)
	c.fetch(7, 3<<20+5, "a/large", changed)
	c.send(1113, u32(8), u64(0), make([]byte, 32), text("a/never"))
	m = c.await(2110)
	if n, reason, again := m.u32(), m.u16(), m.u8(); n != 8 || reason != 31 || again != 0 {
		t.Errorf("2110: number %d, reason %d, again %d", n, reason, again)
	}
	c.bye()
}
