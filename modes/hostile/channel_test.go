package hostile_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/modes/serve/servetest"
)

// pretender says that it has a key, and signs with noise.
type pretender struct {
	public crypto.PublicKey
	size   int
}

func (p pretender) Public() crypto.PublicKey { return p.public }
func (p pretender) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, p.size), nil
}

// showing has a client show certificates, whatever the server asks for.
func showing(certificate tls.Certificate) func(*tls.Config) {
	return func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
}

// rsaCertificate has a public key of which nobody has the private one.
func (a *attacker) rsaCertificate(bits int) tls.Certificate {
	n := make([]byte, bits/8)
	rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}
	certificate := certificateOf(public, a.key, 0)
	certificate.PrivateKey = pretender{public, bits / 8}
	return certificate
}

// hello is the ClientHello of an honest client, in its record.
func (a *attacker) clientHello() []byte {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	go tls.Client(near, a.config()).Handshake()
	far.SetDeadline(time.Now().Add(patience))
	header := make([]byte, 5)
	_, err := io.ReadFull(far, header)
	must(a.T, err)
	body := make([]byte, int(header[3])<<8|int(header[4]))
	_, err = io.ReadFull(far, body)
	must(a.T, err)
	return append(header, body...)
}

var channelAttacks = []attack{
	{name: "no certificate", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.Certificates = nil })
	}, log: "didn't provide a certificate"},
	{name: "two certificates", do: func(a *attacker) {
		two := a.certificate
		two.Certificate = append([][]byte{}, two.Certificate[0], a.target.bystander.certificate.Certificate[0])
		a.turnedAway(showing(two))
	}, log: "2 certificates"},
	{name: "a hundred certificates", do: func(a *attacker) {
		many := a.certificate
		many.Certificate = nil
		for range 100 {
			many.Certificate = append(many.Certificate, a.certificate.Certificate[0])
		}
		a.turnedAway(showing(many))
	}, log: "100 certificates"},
	{name: "an RSA-8192 key", do: func(a *attacker) { a.turnedAway(showing(a.rsaCertificate(8192))) }, log: "want 1024 at most"},
	{name: "an RSA key of 64 Kibit", do: func(a *attacker) { a.turnedAway(showing(a.rsaCertificate(1 << 16))) }, log: "handshake"},
	{name: "an RSA-2048 key", do: func(a *attacker) { a.turnedAway(showing(a.rsaCertificate(2048))) }, log: "want Ed25519"},
	{name: "an ECDSA key", do: func(a *attacker) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(a.T, err)
		certificate := certificateOf(&key.PublicKey, a.key, 0)
		certificate.PrivateKey = key
		a.turnedAway(showing(certificate))
	}, log: "want Ed25519"},
	{name: "a certificate of 2 KiB", do: func(a *attacker) {
		a.turnedAway(showing(certificateOf(a.key.Public(), a.key, 2000)))
	}, log: "want 1024 at most"},
	{name: "a certificate of 250 KiB", do: func(a *attacker) {
		a.turnedAway(showing(certificateOf(a.key.Public(), a.key, 250<<10)))
	}, log: "want 1024 at most"},
	{name: "a certificate of 1 MiB", do: func(a *attacker) {
		a.turnedAway(showing(certificateOf(a.key.Public(), a.key, 1<<20)))
	}, log: "handshake"},
	{name: "a certificate of no bytes", do: func(a *attacker) {
		a.turnedAway(showing(tls.Certificate{Certificate: [][]byte{{}}, PrivateKey: a.key}))
	}, log: "handshake"},
	{name: "a certificate of noise", do: func(a *attacker) {
		noise := make([]byte, 300)
		rand.Read(noise)
		a.turnedAway(showing(tls.Certificate{Certificate: [][]byte{noise}, PrivateKey: a.key}))
	}, log: "handshake"},
	{name: "the bystander's certificate without its key", do: func(a *attacker) {
		a.turnedAway(showing(tls.Certificate{Certificate: a.target.bystander.certificate.Certificate, PrivateKey: a.key}))
	}, log: "signature"},
	{name: "the server's own certificate without its key", do: func(a *attacker) {
		l, err := a.shake(nil)
		must(a.T, err)
		server := l.ConnectionState().PeerCertificates[0].Raw
		l.Close()
		a.turnedAway(showing(tls.Certificate{Certificate: [][]byte{server}, PrivateKey: a.key}))
	}, log: "signature"},
	{name: "a key of zeros", do: func(a *attacker) { // a point of small order: some verifiers take any signature by it
		certificate := certificateOf(ed25519.PublicKey(make([]byte, 32)), a.key, 0)
		certificate.PrivateKey = pretender{ed25519.PublicKey(make([]byte, 32)), 64}
		a.turnedAway(showing(certificate)) // whose signature, of zeros, holds for every fourth handshake
	}, log: "a weak key"},
	{name: "TLS 1.2", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })
	}, log: "version"},
	{name: "TLS 1.0", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 })
	}, log: "speaks no protocol that is served here: TLS"},
	{name: "no ALPN", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.NextProtos = nil })
	}, log: `want \"fenc/4\"`},
	{name: "h2", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} })
	}, log: "protocol"},
	{name: "an older protocol of this name", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.NextProtos = []string{"fenc/3"} })
	}, log: "protocol"},
	{name: "fenc/4 among many", do: func(a *attacker) {
		l, err := a.shake(func(c *tls.Config) {
			c.NextProtos = nil
			for i := range 200 {
				c.NextProtos = append(c.NextProtos, fmt.Sprint("x", i))
			}
			c.NextProtos = append(c.NextProtos, "fenc/4")
		})
		must(a.T, err)
		l.hello()
		l.welcome()
		l.bye()
	}, log: "session ended"},
	{name: "no post-quantum key exchange", do: func(a *attacker) {
		a.turnedAway(func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP521} })
	}, log: "quantum computer"},
	{name: "a ticket of another server's", do: func(a *attacker) {
		cache := tls.NewLRUClientSessionCache(1)
		remember := func(c *tls.Config) {
			c.SessionTicketsDisabled, c.ClientSessionCache, c.ServerName = false, cache, "a name"
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(a.T, err)
		defer l.Close()
		var other sync.WaitGroup
		other.Go(func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			config := &tls.Config{NextProtos: []string{"fenc/4"}, Certificates: []tls.Certificate{a.certificate}}
			conn := tls.Server(c, config)
			conn.Write([]byte{1})
			io.Copy(io.Discard, conn)
			conn.Close()
		})
		config := a.config()
		remember(config)
		conn, err := tls.Dial("tcp", l.Addr().String(), config)
		must(a.T, err)
		_, err = conn.Read(make([]byte, 1))
		must(a.T, err)
		conn.Close()
		other.Wait()
		if _, there := cache.Get("a name"); !there {
			a.Fatal("there is no ticket to offer")
		}
		line, err := a.shake(remember)
		must(a.T, err)
		if line.ConnectionState().DidResume {
			a.Error("the server has resumed what it never began")
		}
		line.hello()
		line.welcome()
		line.bye()
	}, log: "session ended"},
	{name: "the name of another host, with escapes", do: func(a *attacker) {
		l, err := a.shake(func(c *tls.Config) { c.ServerName = "../../\x1b[2J" + strings.Repeat("x", 200) })
		must(a.T, err)
		l.hello()
		l.welcome()
		l.bye()
	}, log: "session ended"},
	{name: "key updates without end, reading none", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		for range 1000 {
			if r.put(r.keyUpdate(1)) != nil {
				break
			}
		}
	}, log: "too many"},
	{name: "key updates without end, reading all", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		var reading sync.WaitGroup
		reading.Go(func() { io.Copy(io.Discard, r.line) })
		for range 1000 {
			if r.put(r.keyUpdate(1)) != nil {
				break
			}
		}
		reading.Wait()
	}, log: "too many"},
	{name: "a key update before each frame", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		for range 500 {
			must(a.T, r.put(r.keyUpdate(1)))
			r.says(frame(1114, u64(9)))
			r.gets(2117)
		}
		r.says(frame(1115))
		r.gets(2120)
	}, log: "session ended"},
	{name: "a key update of another kind", do: func(a *attacker) {
		r := a.byHand()
		must(a.T, r.put(r.keyUpdate(7)))
		wantClosed(a.T, r.NetConn())
	}, log: "session ended"},
	{name: "records of nothing without end", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		for range 1000 {
			if r.put(r.seal(recordApplication, nil)) != nil {
				break
			}
		}
	}, log: "too many"},
	{name: "every byte in a record of its own", do: func(a *attacker) {
		r := a.byHand()
		for _, b := range helloOf(7, 0, r.by.instance, 1, [16]byte{}, r.by.name) {
			r.says([]byte{b})
		}
		r.welcome()
		for _, b := range small(1, "a", "byte by byte") {
			r.says([]byte{b})
		}
		r.received(1, "byte by byte")
		r.says(frame(1115))
		r.gets(2120)
	}, log: "session ended", keeps: map[string]string{"a": "byte by byte"}},
	{name: "a byte that has changed on the way", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		record := r.seal(recordApplication, small(1, "a", "changed"))
		record[len(record)-30] ^= 1
		must(a.T, r.put(record))
		wantClosed(a.T, r.NetConn())
	}, log: "bad record MAC"},
	{name: "a record twice", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		record := r.seal(recordApplication, small(1, "a", "once"))
		must(a.T, r.put(record))
		r.received(1, "once")
		must(a.T, r.put(record))
		wantClosed(a.T, r.NetConn())
	}, log: "bad record MAC", keeps: map[string]string{"a": "once"}},
	{name: "a record left out", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		r.seal(recordApplication, small(1, "a", "kept back"))
		must(a.T, r.put(r.seal(recordApplication, small(2, "b", "behind it"))))
		wantClosed(a.T, r.NetConn())
	}, log: "bad record MAC"},
	{name: "a record over the limit of TLS", do: func(a *attacker) {
		r := a.byHand()
		must(a.T, r.put([]byte{recordApplication, 3, 3, 0xff, 0xff}, make([]byte, 0xffff)))
		wantClosed(a.T, r.NetConn())
	}, log: "oversized record"},
	{name: "content that nothing protects", do: func(a *attacker) {
		r := a.byHand()
		must(a.T, r.put([]byte{recordApplication, 3, 3, 0, 7}, frame(1115)))
		wantClosed(a.T, r.NetConn())
	}, log: "session ended"},
	{name: "another handshake within the channel", do: func(a *attacker) {
		r := a.byHand()
		must(a.T, r.put(r.seal(recordHandshake, a.clientHello()[5:])))
		wantClosed(a.T, r.NetConn())
	}, log: "unexpected handshake message"},
	{name: "a ticket from the client", do: func(a *attacker) {
		r := a.byHand()
		must(a.T, r.put(r.seal(recordHandshake, append([]byte{messageTicket, 0, 0, 20}, make([]byte, 20)...))))
		wantClosed(a.T, r.NetConn())
	}, log: "error decoding message"},
	{name: "a message of 16 MiB announced within the channel", do: func(a *attacker) {
		r := a.byHand()
		must(a.T, r.put(r.seal(recordHandshake, append([]byte{messageKeyUpdate, 0xff, 0xff, 0xff}, make([]byte, 1000)...))))
		wantClosed(a.T, r.NetConn())
	}, log: "session ended"},
	{name: "an end of TLS within a frame", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		r.says(small(1, "a", strings.Repeat("x", 1000))[:500])
		must(a.T, r.put(r.seal(recordAlert, []byte{1, 0})))
		wantClosed(a.T, r.NetConn())
	}, log: "session ended"},
	{name: "warnings without end", do: func(a *attacker) {
		r := a.byHand()
		r.admitted()
		for range 100 {
			if r.put(r.seal(recordAlert, []byte{1, 90})) != nil {
				break
			}
		}
		io.Copy(io.Discard, r.NetConn())
	}, log: "session ended"},
	{name: "HTTP", do: func(a *attacker) { a.strange("GET / HTTP/1.1\r\nHost: x\r\n\r\n") }, log: "HTTP"},
	{name: "HTTP/2", do: func(a *attacker) { a.strange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") }, log: "HTTP"},
	{name: "SSH", do: func(a *attacker) { a.strange("SSH-2.0-OpenSSH_9.9\r\n") }, log: "SSH"},
	{name: "SMTP", do: func(a *attacker) { a.strange("EHLO files.example\r\n\r\nxxxxxxxxxxx") }, log: "unknown bytes"},
	{name: "random bytes", do: func(a *attacker) {
		noise := make([]byte, 64<<10)
		mathrand.NewChaCha8([32]byte{3}).Read(noise)
		noise[0], noise[16] = 0x47, 0xee
		a.strange(string(noise))
	}, log: "unknown bytes"},
	{name: "64 KiB of zeros", do: func(a *attacker) { a.strange(string(make([]byte, 64<<10))) }, log: "unknown bytes"},
	{name: "a header of version 3 whose id begins as TLS", do: func(a *attacker) {
		a.strange("\x16\x03\x01" + strings.Repeat("\x07", 13) + "\x03\x4c\x04\x05\x00\x00\x00grace")
	}, log: `"sent":"TLS"`},
	{name: "an alert in place of a hello", do: func(a *attacker) { a.strange("\x15\x03\x01\x00\x02\x02\x28" + strings.Repeat("x", 20)) }, log: "unknown bytes"},
	{name: "content in place of a hello", do: func(a *attacker) { a.strange("\x17\x03\x03\x00\x14" + strings.Repeat("x", 20)) }, log: "unknown bytes"},
	{name: "a hello that is cut to its first bytes", do: func(a *attacker) {
		c := a.dial()
		must(a.T, write(c, a.clientHello()[:200]))
		must(a.T, c.(*net.TCPConn).CloseWrite())
		wantClosed(a.T, c)
	}, log: "handshake"},
	{name: "a hello that is longer than it says", do: func(a *attacker) {
		hello := a.clientHello()
		hello[8] -= 50
		c := a.dial()
		must(a.T, write(c, hello))
		must(a.T, c.(*net.TCPConn).CloseWrite())
		io.Copy(io.Discard, c)
	}, log: "handshake"},
	{name: "a hello of 16 MiB announced", do: func(a *attacker) {
		hello := a.clientHello()
		copy(hello[6:], "\xff\xff\xff")
		c := a.dial()
		must(a.T, write(c, hello))
		io.Copy(io.Discard, c)
	}, log: "handshake"},
	{name: "closed unused", do: func(a *attacker) { a.dial().Close() }, log: "EOF"},
	{name: "reset in the middle of the handshake", do: func(a *attacker) {
		c := a.dial()
		must(a.T, write(c, a.clientHello()))
		_, err := c.Read(make([]byte, 100))
		must(a.T, err)
		must(a.T, c.(*net.TCPConn).SetLinger(0))
		c.Close()
	}, log: "handshake"},
	{name: "reset after the hello", do: func(a *attacker) {
		l := a.session()
		must(a.T, l.NetConn().(*net.TCPConn).SetLinger(0))
		l.NetConn().Close()
	}, log: "session ended"},
	{name: "closed in the middle of a frame", do: func(a *attacker) {
		l := a.session()
		l.says(small(1, "a", strings.Repeat("x", 100<<10))[:50<<10])
		l.NetConn().Close()
	}, log: "unexpected EOF"},
	{name: "closed in the middle of a block", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 2<<20, "a")
		l.says(block(1, 0, strings.Repeat("x", 1<<20))[:100<<10])
		l.NetConn().Close()
	}, log: "unexpected EOF"},
}

// strange says what is no protocol of the server's, and must hear nothing.
func (a *attacker) strange(said string) {
	a.Helper()
	c := a.dial()
	write(c, []byte(said)) // which it may not take to the end
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n > 0 || errors.As(err, &timeout) && timeout.Timeout() {
		a.Errorf("got %d bytes, %v, want the connection closed", n, err)
	}
}

func write(c net.Conn, b []byte) error {
	_, err := io.Copy(c, bytes.NewReader(b))
	return err
}

func TestAttacksOnTheChannel(t *testing.T) {
	t.Parallel()
	withstand(t, serveTarget(t), channelAttacks)
}

// patientAttacks hold on to a connection until the server has had enough.
var patientAttacks = []attack{
	{name: "silence", do: func(a *attacker) { wantClosed(a.T, a.dial()) }, log: "silent for"},
	{name: "half a hello, then silence", do: func(a *attacker) {
		c := a.dial()
		hello := a.clientHello()
		must(a.T, write(c, hello[:len(hello)/2]))
		wantClosed(a.T, c)
	}, log: "handshake"},
	{name: "five bytes of a hello, then silence", do: func(a *attacker) {
		c := a.dial()
		must(a.T, write(c, a.clientHello()[:5]))
		wantClosed(a.T, c)
	}, log: "only 5 bytes in"},
	{name: "a hello byte by byte", do: func(a *attacker) {
		c := a.dial()
		a.dribble(c, a.clientHello())
		wantClosed(a.T, c)
	}, log: "session ended"},
	{name: "silence after the handshake", do: func(a *attacker) { a.connect().ended(12) }, log: "silent for"},
	{name: "silence after the hello", do: func(a *attacker) { a.session().ended(12) }, log: "silent for"},
	{name: "silence in the middle of a frame", do: func(a *attacker) {
		l := a.session()
		l.says(small(1, "a", strings.Repeat("x", 1000))[:500])
		l.ended(12)
	}, log: "i/o timeout"},
	{name: "silence in the middle of a block", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3<<20, "a")
		l.says(block(1, 0, strings.Repeat("x", 1<<20))[:100<<10])
		l.ended(12)
	}, log: "i/o timeout"},
	{name: "one byte at a time of a block", do: func(a *attacker) {
		l := a.session()
		l.offers(1, 3<<20, "a")
		a.dribble(l, block(1, 0, strings.Repeat("x", 1<<20)))
	}, log: "bytes in"},
	{name: "one byte at a time of a small file", do: func(a *attacker) {
		l := a.session()
		a.dribble(l, small(1, "a", strings.Repeat("x", 100<<10)))
	}, log: "bytes in"},
	{name: "pings without end, reading none", do: func(a *attacker) {
		l := a.session()
		for range 10_000_000 {
			if _, err := l.Write(bytes.Repeat(frame(1114, u64(1)), 1000)); err != nil {
				break
			}
		}
	}, log: "session ended"},
	{name: "barriers without end, reading none", do: func(a *attacker) {
		l := a.session()
		for range 10_000_000 {
			if _, err := l.Write(bytes.Repeat(frame(1109, u32(1)), 1000)); err != nil {
				break
			}
		}
	}, log: "session ended"},
	{name: "fetches without end, reading none", do: func(a *attacker) {
		l := a.session()
		content := pattern(4 << 20)
		l.offers(1, uint64(len(content)), "a")
		l.says(blocks(1, content), finish(1, content))
		l.received(1, content)
		for number := 2; number < 100_000; number++ {
			if _, err := l.Write(fetch(number, 0, digestOf(content), "a")); err != nil {
				break
			}
		}
	}, log: "session ended", keeps: map[string]string{"a": pattern(4 << 20)}},
}

// dribble sends a byte at a time until the server has had enough.
func (a *attacker) dribble(to net.Conn, b []byte) {
	tick := time.NewTicker(50 * time.Millisecond) // which with all that TLS adds is less than 1 KiB a second
	defer tick.Stop()
	for i := range b {
		<-tick.C
		if _, err := to.Write(b[i : i+1]); err != nil {
			return
		}
		if strings.Contains(servetest.LinesWith(a.target.log.String(), a.last), `"session ended"`) {
			return
		}
	}
	a.Error("all of it was taken")
}

func TestAttacksByPatience(t *testing.T) {
	t.Parallel()
	// All of them wait at once. A busy machine must not take as long for what is honest.
	withstand(t, serveTarget(t, func(s *target) { s.settings.IdleTimeout = 10 * time.Second }), patientAttacks)
}

// 2,000 connections that get no further than half a hello, many more than there are
// places for, keep neither anybody elsewhere out nor those who are in.
func TestHalfOpenConnectionsKeepNobodyOut(t *testing.T) {
	const places = 100
	s := serveTarget(t, func(s *target) { s.settings.MaxUnadmitted = places })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	if c, err := dialer.Dial("tcp", s.addr); err == nil {
		c.Close()
	} else if runtime.GOOS != "linux" {
		t.Skipf("no second address: %v", err)
	}
	a := &attacker{T: t, client: s.newClient(t, "attacker")}
	before := s.newClient(t, "before").session(t)
	half := a.clientHello()[:300]
	for range 2000 {
		c, err := dialer.Dial("tcp", s.addr)
		must(t, err)
		defer c.Close()
		write(c, half) // which finds it closed where there is no place
	}
	s.log.Await(t, "connections refused", "127.0.0.2", "max_unadmitted reached")
	s.serves(t)
	before.alive()
}
