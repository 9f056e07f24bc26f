package serve_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model/storage/storagetest"
	"fenc/modes/serve"
	"fenc/wire/v3"
)

var time0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Each of these ends its own session with a line in the log, leaves nothing, and
// the next client is served.
func TestBadInputEndsItsOwnSession(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), withSettings(func(c *serve.Settings) { c.MaxFileSize = 1 << 20 }))
	const version, code, size, payload = 16, 17, 19, 23
	type attack struct {
		outcome string
		send    func(p *peer)
		word    string // in the log
	}
	file := func(p *peer) []byte { return p.file("a", p.encrypted("content")) }
	other := v3.ClientID{9, 9}
	attacks := []attack{
		{"version 2", func(p *peer) { p.send(patched(file(p), version, 2)) }, "wrong version"},
		{"version 4", func(p *peer) { p.send(patched(file(p), version, 4)) }, "wrong version"},
		{"unknown code", func(p *peer) { p.send(patched(file(p), code, 0x4e, 4)) }, "unexpected code"},
		{"a response's code", func(p *peer) { p.send(patched(file(p), code, 0x34, 8)) }, "unexpected code"},
		{"valid with no file", func(p *peer) { p.send(p.verdict(v3.CodeValid, "a")) }, "protocol broken"},
		{"resend with no file", func(p *peer) { p.send(p.verdict(v3.CodeResend, "a")) }, "protocol broken"},
		{"registration again", func(p *peer) { p.send(registration("again")) }, "in a header of client"},
		{"registration again under the id", func(p *peer) {
			r := registration("again")
			copy(r, p.id[:])
			p.send(r)
		}, "protocol broken"},
		{"key again", func(p *peer) { p.sendKey("again") }, "protocol broken"},
		{"another file instead of the verdict", func(p *peer) {
			p.offer("a", p.encrypted("x"))
			p.send(file(p))
		}, "protocol broken"},
		{"foreign id in the file's header", func(p *peer) { p.send(patched(file(p), 0, other[:]...)) }, "in a header of client"},
		{"foreign id in the file's payload", func(p *peer) { p.send(patched(file(p), payload, other[:]...)) }, "in a message of client"},
		{"foreign id in the verdict's header", func(p *peer) {
			p.offer("a", p.encrypted("x"))
			p.send(patched(p.verdict(v3.CodeValid, "a"), 0, other[:]...))
		}, "in a message of client"},
		{"foreign id in the verdict's payload", func(p *peer) {
			p.offer("a", p.encrypted("x"))
			p.send(patched(p.verdict(v3.CodeValid, "a"), payload, other[:]...))
		}, "in a message of client"},
		{"verdict about another file", func(p *peer) {
			p.offer("a", p.encrypted("x"))
			p.send(p.verdict(v3.CodeValid, "b"))
		}, "is about"},
		{"content size that lies", func(p *peer) { p.send(patched(file(p), payload+16, u32(32)...)) }, "wrong size"},
		{"content in half blocks", func(p *peer) { p.send(patched(file(p), size, u32(275+24)...)) }, "whole blocks"},
		{"no content", func(p *peer) { p.send(patched(file(p), size, u32(275)...)) }, "wrong size"},
		{"4 GiB announced", func(p *peer) { p.send(patched(file(p), size, u32((1<<32-1-275)/16*16+275)...)) }, "max_file_size"},
		{"a block over max_file_size", func(p *peer) { p.send(patched(file(p), size, u32(275+1<<20+32)...)) }, "max_file_size"},
		{"verdict of another size", func(p *peer) { p.send(patched(p.verdict(v3.CodeGiveUp, "a"), size, u32(1<<31)...)) }, "wrong size"},
		{"empty file name", func(p *peer) { p.send(patched(file(p), payload+20, make([]byte, 255)...)) }, "bad name"},
		{"file name with a NUL inside", func(p *peer) { p.send(patched(file(p), payload+20, 'a', 0, 'b')) }, "bad name"},
		{"cut within the content", func(p *peer) { f := file(p); p.send(f[:len(f)-1]); p.Close() }, "receive content"},
	}
	for i, a := range attacks {
		t.Run(a.outcome, func(t *testing.T) {
			p := hello(t, s, fmt.Sprintf("attacker %d", i))
			address := p.LocalAddr().String()
			a.send(p)
			s.log.Await(t, `"session ended"`, `"level":"WARN"`, fmt.Sprintf("%q", address), a.word)
			hello(t, s, fmt.Sprintf("honest %d", i)).keep("a", "served")
		})
	}
	files, err := s.archive.Catalogue.Files()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(files); n != len(attacks) {
		t.Errorf("%d files, want the honest ones alone", n)
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Client, "honest") {
			t.Errorf("%s has a file", f.Client)
		}
	}
	if strings.Contains(s.log.String(), "panic") {
		t.Error("a session crashed")
	}
}

func TestStrangersAreClosedUnanswered(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	noise := make([]byte, 4096)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	noise[0], noise[16] = 0x47, 0xee
	p := dial(t, s)
	for outcome, c := range map[string]struct {
		sent []byte
		word string
	}{
		"HTTP":                          {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), `"sent":"HTTP"`},
		"SSH":                           {[]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), `"sent":"SSH"`},
		"random bytes":                  {noise, "unknown bytes"},
		"a file before registration":    {p.file("a", make([]byte, 16)), "unknown bytes"},
		"a verdict before registration": {p.verdict(v3.CodeValid, "a"), "unknown bytes"},
		"version 3 with a TLS-like id":  {append([]byte{0x16, 3, 1}, registration("x")[3:]...), `"sent":"TLS"`},
	} {
		t.Run(outcome, func(t *testing.T) {
			p := dial(t, s)
			p.send(c.sent)
			p.wantNothing()
			s.log.Await(t, `"session ended"`, p.LocalAddr().String(), c.word)
		})
	}
	t.Run("TLS", func(t *testing.T) {
		p := dial(t, s)
		if err := tls.Client(p, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
			t.Error("a TLS handshake succeeded")
		}
		s.log.Await(t, `"session ended"`, p.LocalAddr().String(), `"sent":"TLS"`)
	})
	hello(t, s, "honest").keep("a", "served")
}

// wantNothing checks that not a byte is answered before the end.
func (p *peer) wantNothing() {
	p.t.Helper()
	if n, _ := p.Read(make([]byte, 1)); n != 0 {
		p.t.Error("a stranger got an answer")
	}
}

// Every message cut short at every byte.
func TestCutAtEveryByteLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	owner := hello(t, s, "grace")
	owner.keep("kept", "untouched")
	der, _ := v3.MarshalPublicKey(&key().PublicKey)
	var keyRequest bytes.Buffer
	if err := v3.WriteRequest(&keyRequest, owner.id, v3.CodePublicKey, &v3.PublicKey{Name: named("grace"), Key: der}, 0); err != nil {
		t.Fatal(err)
	}
	cut := func(p *peer, message []byte, n int) {
		p.send(message[:n])
		p.Close()
		s.log.Await(t, `"session ended"`, fmt.Sprintf("%q", p.LocalAddr().String()))
	}
	var group sync.WaitGroup
	limit := make(chan struct{}, 16)
	each := func(n int, do func(n int)) {
		for i := 0; i < n; i += need.Rounds(0, 1, 23) {
			limit <- struct{}{}
			group.Go(func() { do(i); <-limit })
		}
	}
	registering := registration("somebody")
	each(len(registering), func(n int) { cut(dial(t, s), registering, n) })
	each(keyRequest.Len(), func(n int) { cut(dial(t, s), keyRequest.Bytes(), n) })
	length := len(owner.file("kept", owner.encrypted("replacement")))
	each(length, func(n int) {
		p := owner.back(t, s, "grace")
		cut(p, p.file("kept", p.encrypted("replacement")), n)
	})
	each(len(owner.verdict(v3.CodeValid, "kept")), func(n int) {
		p := owner.back(t, s, "grace")
		p.offer("kept", p.encrypted("replacement"))
		cut(p, p.verdict(v3.CodeValid, "kept"), n)
	})
	group.Wait()
	s.wantFiles(t, "grace/kept")
	if got := s.stored(t, "grace/kept"); got != "untouched" {
		t.Errorf("the verified file holds %q", got)
	}
	if f, err := s.archive.Catalogue.Files(); err != nil || len(f) != 1 || f[0].File.Version != 1 {
		t.Errorf("catalogue: %+v", f)
	}
}

// Wrong padding must look like a wrong checksum, and never be kept.
func TestBadPaddingIsAnsweredLikeABadChecksum(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	plain := []byte(strings.Repeat("x", 31) + "\x11") // whole blocks whose last byte is no padding
	ciphertext := bytes.Clone(plain)
	v3.NewEncrypter(p.session).Blocks(ciphertext)
	got := p.offer("a", ciphertext)
	for n := range len(plain) + 1 {
		if got == crc32.ChecksumIEEE(plain[:n]) {
			t.Errorf("the answer matches the first %d bytes", n)
		}
	}
	p.conclude(v3.CodeResend, "a")
	p.keep("a", "right")
	p.offer("a", ciphertext)
	p.send(p.verdict(v3.CodeValid, "a"))
	p.wantClosed()
	s.log.Await(t, "session ended", "cannot be decrypted")
	if got := s.stored(t, "grace/a"); got != "right" {
		t.Errorf("the verified file holds %q", got)
	}
	s.wantFiles(t, "grace/a")
}

func TestSilenceAndDribblingEndWithinTheIdleTimeout(t *testing.T) {
	t.Parallel()
	// All of them wait at once. A busy machine must not take as long for what is honest.
	s := start(t, t.TempDir(), withSettings(func(c *serve.Settings) { c.IdleTimeout = 10 * time.Second }))
	// dribble sends a byte at a time, which goes on for longer than the server waits.
	dribble := func(p *peer, message []byte) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for _, b := range message {
			<-tick.C
			if _, err := p.Write([]byte{b}); err != nil {
				break
			}
			if strings.Contains(s.log.String(), p.LocalAddr().String()) {
				break
			}
		}
	}
	var all sync.WaitGroup
	for name, test := range map[string]struct {
		do   func(t *testing.T) *peer
		says string
	}{
		"silent from the start": {func(t *testing.T) *peer {
			p := dial(t, s)
			p.wantNothing()
			return p
		}, "silent for 10s"},
		"silent after the key": {func(t *testing.T) *peer {
			p := hello(t, s, "silent")
			p.wantClosed()
			return p
		}, "silent for 10s"},
		"silent within the content": {func(t *testing.T) *peer {
			p := hello(t, s, "stuck")
			p.send(p.file("a", p.encrypted(strings.Repeat("x", 100_000)))[:50_000])
			p.wantClosed()
			return p
		}, "10s"},
		"dribbling header": {func(t *testing.T) *peer {
			p := dial(t, s)
			dribble(p, registration(strings.Repeat("x", 127)))
			return p
		}, "bytes in 10s"},
		"dribbling content": {func(t *testing.T) *peer {
			p := hello(t, s, "dribbler")
			dribble(p, p.file("a", p.encrypted(strings.Repeat("x", 100_000))))
			return p
		}, "bytes in 10s"},
	} {
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				s.log.Await(t, "session ended", test.do(t).LocalAddr().String(), test.says)
			})
		})
	}
	all.Wait()
	s.wantFiles(t)
}

func TestSessionsOverTheLimitAreClosed(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), withSettings(func(c *serve.Settings) { c.MaxSessions = 2 }))
	first, second := hello(t, s, "first"), hello(t, s, "second")
	dial(t, s).wantNothing()
	s.log.Await(t, "connections refused", "max_sessions")
	second.Close()
	s.log.Await(t, "session ended", `"client":"second"`)
	// The place is free once the session has left the table, right after its line.
	for {
		p := dial(t, s)
		if _, err := p.Write(registration("third")); err == nil {
			if h, err := v3.ReadResponseHeader(p); err == nil && h.Code == v3.CodeRegistered {
				break
			}
		}
		p.Close()
	}
	first.keep("a", "1")
}

func TestIdleConnectionsCostLittle(t *testing.T) {
	const connections = 1000
	s := start(t, t.TempDir())
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	for i := range connections {
		p := dial(t, s)
		p.send(registration(fmt.Sprintf("client %d", i)))
		p.answer(v3.CodeRegistered, &v3.Registered{})
	}
	if grown := int64(used()) - int64(before); grown > 100<<20 {
		t.Errorf("%d idle connections take %d MiB, with their clients' ends", connections, grown>>20)
	} else {
		t.Logf("%d KiB a connection, both ends", grown/connections>>10)
	}
}

func TestMemoryStaysConstantWhileReceiving(t *testing.T) {
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	const size = 256 << 20
	head := p.file("a", make([]byte, 16))
	m := patched(head, 19, u32(275+size)...)
	m = patched(m, 23+16, u32(size)...)
	p.send(m[:len(m)-16])
	var peak uint64
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	before := stats.HeapInuse
	piece := make([]byte, 1<<20)
	for i := range size / len(piece) {
		p.send(piece)
		if i%32 == 0 {
			runtime.ReadMemStats(&stats)
			peak = max(peak, stats.HeapInuse)
		}
	}
	p.answer(v3.CodeFileReceived, &v3.FileReceived{})
	if grown := int64(peak) - int64(before); grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	p.conclude(v3.CodeGiveUp, "a")
	s.wantFiles(t)
}

// "Received" is never said of what did not reach the disk, what was verified
// stays, and uploads go on when the fault is gone.
func TestFaultsOfTheDiskAreNeverAnsweredAsReceived(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		call    string
		err     error
		word    string
		verdict bool // the fault shows only after the verdict
	}{
		{"reserve", syscall.ENOSPC, "not enough space", false},
		{"write", syscall.ENOSPC, "not enough space", false},
		{"write", syscall.EIO, "storage degraded", false},
		{"sync", syscall.EIO, "storage degraded", true},
		{"rename", syscall.EIO, "storage degraded", true},
	} {
		t.Run(c.call+" "+c.err.Error(), func(t *testing.T) {
			t.Parallel()
			var failing storagetest.Failing
			s := start(t, t.TempDir(), withFS(failing.On))
			p := hello(t, s, "grace")
			p.keep("a", "verified")
			failing.Set(c.call, "content", c.err)
			if c.verdict {
				p.offer("a", p.encrypted("lost"))
				p.send(p.verdict(v3.CodeValid, "a"))
			} else {
				p.send(p.file("a", p.encrypted("lost")))
			}
			if h, err := v3.ReadResponseHeader(p); err == nil {
				t.Errorf("got %s", h.Code)
			}
			s.log.Await(t, "session ended", c.word)
			if got := s.stored(t, "grace/a"); got != "verified" {
				t.Errorf("the verified file holds %q", got)
			}
			failing.End()
			s.archiveProbe(t)
			p.back(t, s, "grace").keep("a", "second")
			s.wantFiles(t, "grace/a")
		})
	}
}

// archiveProbe runs the archive's upkeep until a degraded storage is trusted
// again.
func (s *server) archiveProbe(t *testing.T) {
	t.Helper()
	if err := s.archive.Probe(); err != nil {
		t.Errorf("probe: %v", err)
	}
}

func BenchmarkHandshake(b *testing.B) {
	s := start(b, b.TempDir())
	owner := hello(b, s, "grace")
	for b.Loop() {
		owner.back(b, s, "grace").Close()
	}
}
