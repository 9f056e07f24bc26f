package hostile_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"fenc/wire/v4"
)

// answering lies where a client of the type M is answered.
func answering[M any](do func(s *told, m *M) bool) func(*told, any) bool {
	return func(s *told, message any) bool {
		m, is := message.(*M)
		return is && do(s, m)
	}
}

// instead sends a message in the place of the honest answer to an M.
func instead[M any](answer func(m *M) []any) func(*told, any) bool {
	return answering(func(s *told, m *M) bool {
		s.say(answer(m)...)
		return true
	})
}

// bytesFor sends bytes in the place of the honest answer to an M, and then nothing.
func bytesFor[M any](b []byte) func(*told, any) bool {
	return answering(func(s *told, _ *M) bool {
		s.put(b)
		return s.silence()
	})
}

// silentAt says nothing to an M, and nothing after it.
func silentAt[M any]() func(*told, any) bool {
	return answering(func(s *told, _ *M) bool { return s.silence() })
}

// closedAt closes where an M is to be answered.
func closedAt[M any]() func(*told, any) bool {
	return answering(func(s *told, _ *M) bool { return s.end() })
}

// speaking says something below TLS, and then nothing for as long as the client
// stands it.
func speaking(said string) func(net.Conn) {
	return func(c net.Conn) {
		c.Write([]byte(said))
		io.Copy(io.Discard, c)
	}
}

var (
	sendA     = []string{"send", "a"}
	sendLarge = []string{"send", "large"}
)

const evil = "\x1b]0;owned\x07\x1b[2J\u202e\u009b31m" // what must not reach a terminal

func refusal(reason v4.Reason, again bool, text string) func(*v4.Hello) []any {
	return func(*v4.Hello) []any { return []any{&v4.Refusal{Reason: reason, Again: again, Text: text}} }
}

func welcomed(change func(w *v4.Welcome)) func(*v4.Hello) []any {
	return func(*v4.Hello) []any {
		w := welcome()
		change(w)
		return []any{w}
	}
}

var channelLies = []lie{
	{name: "another key", args: sendA, config: func(c *tls.Config) {
		other, err := v4.NewIdentity()
		if err != nil {
			panic(err)
		}
		c.Certificates = v4.ServerTLS(other, false, nil).Certificates
	}, status: 4, says: "THE SERVER'S KEY HAS CHANGED"},
	{name: "a key of another kind", args: sendA, config: func(c *tls.Config) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		_, signer := edKey()
		certificate := certificateOf(&key.PublicKey, signer, 0)
		certificate.PrivateKey = key
		c.Certificates = []tls.Certificate{certificate}
	}, status: 1, says: "want Ed25519"},
	{name: "two certificates", args: sendA, config: func(c *tls.Config) {
		two := c.Certificates[0]
		two.Certificate = [][]byte{two.Certificate[0], two.Certificate[0]}
		c.Certificates = []tls.Certificate{two}
	}, status: 1, says: "2 certificates"},
	{name: "the pinned certificate without its key", args: sendA, config: func(c *tls.Config) {
		stolen := c.Certificates[0]
		_, stolen.PrivateKey = edKey()
		c.Certificates = []tls.Certificate{stolen}
	}, status: 1, says: "signature"},
	{name: "a certificate of 60 KiB", args: sendA, config: func(c *tls.Config) {
		public, key := edKey()
		c.Certificates = []tls.Certificate{certificateOf(public, key, 60<<10)}
	}, status: 1, says: "want 1024 at most"},
	{name: "no ALPN", args: sendA, config: func(c *tls.Config) { c.NextProtos = nil }, status: 1, says: `want "fenc/4"`},
	{name: "another ALPN", args: sendA, config: func(c *tls.Config) { c.NextProtos = []string{"h2"} }, status: 1, says: "agreeing on keys"},
	{name: "TLS 1.2", args: sendA, config: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, status: 1, says: "version"},
	{name: "no post-quantum key exchange", args: sendA, config: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, status: 1, says: "quantum computer"},
	{name: "a key exchange that begins anew with a classic group", args: []string{"get", "."}, config: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }, status: 1, says: "agreeing on keys"},
	{name: "HTTP", args: sendA, lower: speaking("HTTP/1.1 400 Bad Request\r\n\r\n"), status: 1, says: "agreeing on keys"},
	{name: "SSH", args: sendA, lower: speaking("SSH-2.0-OpenSSH_9.9\r\n"), status: 1, says: "agreeing on keys"},
	{name: "a server of protocol 3", args: sendA, lower: speaking("\x03\x34\x08\x10\x00\x00\x00" + strings.Repeat("x", 16)), status: 1, says: "agreeing on keys"},
	{name: "zeros", args: sendA, lower: speaking(strings.Repeat("\x00", 1<<20)), status: 1, says: "agreeing on keys"},
	{name: "an alert", args: sendA, lower: speaking("\x15\x03\x03\x00\x02\x02\x28"), status: 1, says: "handshake failure"},
	{name: "an alert that is none", args: sendA, lower: speaking("\x15\x03\x03\x00\x02\x02\xff"), status: 1, says: "agreeing on keys"},
	{name: "half a hello, then silence", args: sendA, lower: speaking("\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"), status: 1, says: "agreeing on keys: timed out after 11s"},
	{name: "a hello of 16 MiB announced", args: sendA, lower: speaking("\x16\x03\x03\x40\x00\x02\xff\xff\xff" + strings.Repeat("x", 0x4000)), status: 1, says: "agreeing on keys"},
	{name: "silence from the start", args: sendA, lower: speaking(""), status: 1, says: "agreeing on keys: timed out after 11s"},
	{name: "silence from the start, asked for a list", args: []string{"list"}, lower: speaking(""), status: 1, says: "agreeing on keys: timed out after 11s"},
	{name: "closed at once", args: sendA, lower: func(net.Conn) {}, status: 1, says: "agreeing on keys"},
	{name: "reset at the first byte", args: sendA, lower: func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.(*net.TCPConn).SetLinger(0)
	}, status: 1, says: "agreeing on keys"},
}

var welcomeLies = []lie{
	{name: "silence in the place of the welcome", args: sendA, frames: silentAt[v4.Hello](), status: 1, says: "being admitted: timed out after 10s"},
	{name: "closed in the place of the welcome", args: sendA, frames: closedAt[v4.Hello](), status: 1, says: "being admitted"},
	{name: "a frame of 4 GiB announced", args: sendA, frames: bytesFor[v4.Hello](header(4, 2100, 1<<32-1)), status: 1, says: "announces 4294967295 bytes"},
	{name: "a refusal of 64 KiB announced", args: sendA, frames: bytesFor[v4.Hello](header(4, 2101, 64<<10)), status: 1, says: "announces 65536 bytes"},
	{name: "a refusal whose text is longer than it", args: sendA, frames: bytesFor[v4.Hello](frame(2101, u16(1), u8(0), u16(500), []byte("short"))), status: 1, says: "too short"},
	{name: "a refusal that is not UTF-8", args: sendA, frames: bytesFor[v4.Hello](frame(2101, u16(1), u8(0), text("\xff\x1b[2J"))), status: 1, says: "not UTF-8"},
	{name: "a refusal that is again neither 0 nor 1", args: sendA, frames: bytesFor[v4.Hello](frame(2101, u16(1), u8(2), text(""))), status: 1, says: "where 0 or 1 belongs"},
	{name: "a refusal with escapes", args: sendA, frames: instead(refusal(1, false, evil)), status: 3, says: `\x1b]0;owned`},
	{name: "a refusal of 1,024 bytes", args: sendA, frames: instead(refusal(1, false, strings.Repeat("\x1b[2J", 256))), status: 3, says: `…`},
	{name: "a refusal of two lines", args: sendA, frames: instead(refusal(1, false, "no\nfenc: a  5 bytes  verified")), status: 3, says: `no\nfenc`},
	{name: "a refusal for no reason", args: sendA, frames: instead(refusal(0, false, "")), status: 3, says: "reason 0"},
	{name: "a refusal for a reason that is not", args: sendA, frames: instead(refusal(60000, false, "x")), status: 3, says: "reason 60000"},
	{name: "a refusal for now", args: sendA, frames: instead(refusal(9, true, "x")), status: 1, says: "reason 9"},
	{name: "revoked", args: []string{"get", "a"}, frames: instead(refusal(6, false, "x")), status: 3, says: "reason 6"},
	{name: "an answer of protocol 3", args: sendA, frames: bytesFor[v4.Hello](header(3, 2100, 66)), status: 1, says: "version 3"},
	{name: "a code that is not", args: sendA, frames: bytesFor[v4.Hello](frame(2199)), status: 1, says: "unknown code 2199"},
	{name: "the client's own hello", args: sendA, frames: instead(func(m *v4.Hello) []any { return []any{m} }), status: 1, says: "before 2100"},
	{name: "a received in the place of the welcome", args: sendA, frames: instead(func(*v4.Hello) []any { return []any{&v4.Received{}} }), status: 1, says: "before 2100"},
	{name: "a farewell in the place of the welcome", args: sendA, frames: instead(func(*v4.Hello) []any { return []any{&v4.Farewell{}} }), status: 1, says: "before 2100"},
	{name: "welcome twice", args: sendLarge, frames: instead(func(*v4.Hello) []any { return []any{welcome(), welcome()} }), status: 1, says: "is no answer"},
	{name: "a welcome with a byte too many", args: sendA, frames: bytesFor[v4.Hello](append(header(4, 2100, 67+11), append(v4.Append(nil, welcome())[7:], make([]byte, 3)...)...)), status: 1, says: "2100"},
	{name: "no rights", args: sendA, frames: instead(welcomed(func(w *v4.Welcome) { w.Rights = 0 })), status: 0, says: "verified"},
	{name: "rights that do not exist", args: sendA, frames: instead(welcomed(func(w *v4.Welcome) { w.Rights = 255 })), status: 0, says: "verified"},
	{name: "limits of nothing", args: []string{"send", "a", "large"}, frames: instead(welcomed(func(w *v4.Welcome) { w.WindowFiles, w.WindowBytes = 0, 0 })), status: 0, says: "verified"},
	{name: "limits of nothing, to get", args: []string{"get", "."}, frames: instead(welcomed(func(w *v4.Welcome) { w.WindowFiles, w.WindowBytes = 0, 0 })), status: 0, says: "verified",
		has: map[string]string{"to/a": "12345", "to/b": "b", "to/folder/": "drwxr-xr-x", "to/folder/c": "c"}},
	{name: "limits without limit", args: []string{"send", "a", "large"}, frames: instead(welcomed(func(w *v4.Welcome) {
		w.WindowFiles, w.WindowBytes, w.MaxFileSize, w.Quota, w.UsedBytes, w.UsedFiles = 1<<32-1, 1<<32-1, 1<<64-1, 1<<64-1, 1<<64-1, 1<<64-1
	})), status: 0, says: "verified"},
	{name: "a name with escapes", args: sendA, frames: instead(welcomed(func(w *v4.Welcome) { w.Name = evil })), status: 1, says: "control character"},
	{name: "software with escapes", args: sendA, frames: instead(welcomed(func(w *v4.Welcome) { w.Software = evil })), status: 0, says: "verified"},
	{name: "keys to come", args: sendA, frames: instead(welcomed(func(w *v4.Welcome) { w.NextKeys = make([]v4.Digest, 4) })), status: 0, says: "verified"},
}

var sendLies = []lie{
	{name: "silence about a small file", args: sendA, frames: silentAt[v4.Small](), status: 1, says: "timed out after 10s"},
	{name: "silence about an offer", args: sendLarge, frames: silentAt[v4.Offer](), status: 1, says: "timed out after 10s"},
	{name: "silence about a finish", args: sendLarge, frames: silentAt[v4.Finish](), status: 1, says: "timed out after 10s"},
	{name: "silence about a bye", args: sendA, frames: silentAt[v4.Bye](), status: 0, says: "verified"},
	{name: "silence about a further connection", args: []string{"send", "--streams", "large"}, status: 1, says: "timed out after 10s",
		frames: answering(func(s *told, m *v4.Hello) bool { return m.Stream > 0 && s.silence() })},
	{name: "reading no content", args: []string{"send", "larger"}, status: 1, says: "timed out after 10s",
		frames: silentAt[v4.Block](), beside: func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "larger"), make([]byte, 64<<20), 0o600))
		}},
	{name: "closed at an offer", args: sendLarge, frames: closedAt[v4.Offer](), status: 1, says: "connection to"},
	{name: "closed in the content", args: sendLarge, frames: closedAt[v4.Block](), status: 1, says: "connection to"},
	{name: "closed at a finish", args: sendLarge, frames: closedAt[v4.Finish](), status: 1, says: "closed the connection"},
	{name: "closed at a small file", args: sendA, frames: closedAt[v4.Small](), status: 1, says: "closed the connection"},
	{name: "a farewell in the place of a verdict", args: sendA, frames: instead(func(*v4.Small) []any { return []any{&v4.Farewell{}} }), status: 1, says: "session ended"},
	{name: "a farewell in the content", args: sendLarge, frames: instead(func(*v4.Block) []any { return []any{&v4.Farewell{}} }), status: 1, says: "session ended"},
	{name: "received with another digest", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Received{Number: m.Number, Size: 5, Digest: digestOf("54321")}}
	}), status: 1, says: "not verified"},
	{name: "received with another size", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Received{Number: m.Number, Size: 6, Digest: m.Digest}}
	}), status: 1, says: "not verified"},
	{name: "received with the size 2^64-1", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Received{Number: m.Number, Size: 1<<64 - 1, Digest: m.Digest}}
	}), status: 1, says: "not verified"},
	{name: "unchanged with another size", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Received{Number: m.Number, Unchanged: true, Size: 4, Digest: m.Digest}}
	}), status: 1, says: "not verified"},
	{name: "received of a request that never was", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Received{Number: m.Number + 1, Size: 5, Digest: m.Digest}}
	}), status: 1, says: "which was never made"},
	{name: "received of the number 0", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Received{Number: 0, Size: 5, Digest: m.Digest}}
	}), status: 1, says: "which was never made"},
	{name: "received twice", args: sendA, frames: instead(func(m *v4.Small) []any {
		r := &v4.Received{Number: m.Number, Size: 5, Digest: m.Digest}
		return []any{r, r, r}
	}), status: 0, says: "verified"},
	{name: "a list in the place of a verdict", args: sendA, frames: instead(func(m *v4.Small) []any { return []any{&v4.Entries{Number: m.Number}} }), status: 1, says: "Entries answers a small file"},
	{name: "content in the place of a verdict", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Data{Number: m.Number, Data: make([]byte, 1<<20)}}
	}), status: 1, says: "Data answers a small file"},
	{name: "an ended in the place of a verdict", args: sendA, frames: instead(func(m *v4.Small) []any { return []any{&v4.Ended{Number: m.Number}} }), status: 1, says: "Ended answers a small file"},
	{name: "accepted without end", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Accept{Number: m.Number, Flags: v4.AcceptWhole}}
	}), status: 1, says: "was not made, or twice"},
	{name: "refused with escapes", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Refused{Number: m.Number, Reason: 21, Text: evil}}
	}), status: 3, says: `\x1b]0;owned`},
	{name: "refused for a reason that is not", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Refused{Number: m.Number, Reason: 12345, Text: "x"}}
	}), status: 3, says: "reason 12345"},
	{name: "refused for now, again and again", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Refused{Number: m.Number, Reason: 25, Again: true, Text: "x"}}
	}), status: 1, says: "reason 25"},
	{name: "refused in the content", args: sendLarge, frames: instead(func(m *v4.Block) []any {
		return []any{&v4.Refused{Number: m.Number, Reason: 23, Text: "too large after all"}}
	}), status: 3, says: "too large after all"},
	{name: "pongs, reached and held that nobody asked for", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Pong{Value: 1}, &v4.Reached{Serial: 99}, &v4.Held{Number: m.Number, Bytes: 1<<64 - 1}, &v4.Wait{Number: m.Number},
			&v4.Received{Number: m.Number, Size: 5, Digest: m.Digest}}
	}), status: 0, says: "verified"},
	{name: "a frame of the client's in the place of an answer", args: sendA, frames: instead(func(m *v4.Small) []any { return []any{m} }), status: 1, says: "is no answer"},
	{name: "asked for a file that was not named", args: sendA, frames: instead(func(m *v4.Small) []any {
		return []any{&v4.Fetch{Number: m.Number, Path: unnamed}}
	}), status: 1, says: "is no answer"},
	{name: "asked for a list", args: sendLarge, frames: instead(func(m *v4.Offer) []any { return []any{&v4.List{Number: m.Number, Limit: 10}} }), status: 1, says: "is no answer"},
	{name: "accepted, and a file accepted that was not offered", args: sendLarge, frames: instead(func(m *v4.Offer) []any {
		return []any{&v4.Accept{Number: m.Number + 1, ChunkSize: mib}, &v4.Accept{Number: m.Number, ChunkSize: mib}}
	}), status: 1, says: "which was never made"},
	{name: "chunks of 0 bytes", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.ChunkSize = 0 }), status: 1, says: "chunks of 0 bytes"},
	{name: "chunks of 512 KiB", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.ChunkSize = 1 << 19 }), status: 1, says: "chunks of 524288 bytes"},
	{name: "chunks of no power of two", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.ChunkSize = mib + 1 }), status: 1, says: "chunks of 1048577 bytes"},
	{name: "chunks of 2^62 bytes", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.ChunkSize = 1 << 62 }), status: 0, says: "verified"},
	{name: "chunks of 2^63 bytes", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.ChunkSize = 1 << 63 }), status: 1, says: "chunks of 9223372036854775808 bytes"},
	{name: "a large file wanted whole", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.Flags = v4.AcceptWhole }), status: 1, says: "wanted whole"},
	{name: "held with hashes of nothing", args: sendLarge, frames: accepting(func(a *v4.Accept) {
		for i := range uint32(16384) {
			a.Held = append(a.Held, v4.HeldHash{Chunk: 1<<32 - 1 - i})
		}
	}), status: 0, says: "verified"},
	{name: "held what was never sent, then missing", args: sendLarge, frames: both(accepting(func(a *v4.Accept) {
		for i, h := range hashesOf(whole) {
			a.Held = append(a.Held, v4.HeldHash{Chunk: uint32(i), Hash: h})
		}
	}), answering(func(s *told, m *v4.Finish) bool {
		if len(s.content[m.Number]) > 0 {
			return false
		}
		s.say(&v4.Missing{Number: m.Number, Chunks: []uint32{0, 1, 2}})
		return true
	})), status: 0, says: "verified"},
	{name: "accepted twice", args: sendLarge, frames: instead(func(m *v4.Offer) []any {
		a := &v4.Accept{Number: m.Number, ChunkSize: mib}
		return []any{a, a}
	}), status: 1, says: "not verified"},
	{name: "earlier without end", args: sendLarge, frames: answering(func(s *told, m *v4.Offer) bool {
		earlier := v4.Append(nil, &v4.Earlier{Number: m.Number, ChunkSize: mib, Size: 16384 * mib, Hashes: make([]v4.Digest, 16384)})
		for range 1000 { // half a GiB
			if _, err := s.Write(earlier); err != nil {
				break
			}
		}
		return s.end()
	}), status: 1, says: "an earlier version told twice"},
	{name: "an earlier version with too few hashes", args: sendLarge, frames: instead(func(m *v4.Offer) []any {
		return []any{&v4.Earlier{Number: m.Number, ChunkSize: mib, Size: 5 * mib, Hashes: make([]v4.Digest, 4)}}
	}), status: 1, says: "4 hashes of chunks"},
	{name: "an earlier version of 2^64-1 bytes", args: sendLarge, frames: instead(func(m *v4.Offer) []any {
		return []any{&v4.Earlier{Number: m.Number, ChunkSize: 1 << 50, Size: 1<<64 - 1, Hashes: make([]v4.Digest, 4)}}
	}), status: 1, says: "hashes of chunks"},
	{name: "equal to what never was", args: sendLarge, frames: both(instead(func(m *v4.Offer) []any {
		return []any{&v4.Earlier{Number: m.Number, ChunkSize: mib, Size: 3 * mib, Hashes: hashesOf(whole)}, &v4.Accept{Number: m.Number, ChunkSize: mib}}
	}), instead(func(m *v4.Finish) []any { return []any{&v4.Differs{Number: m.Number, Hashes: make([]v4.Digest, 3)}} })), status: 1, says: "checksum did not match"},
	{name: "received before the content", args: sendLarge, frames: instead(func(m *v4.Offer) []any {
		return []any{&v4.Accept{Number: m.Number, ChunkSize: mib}, &v4.Received{Number: m.Number, Size: 3 * mib, Digest: digestOf("x")}}
	}), status: 1, says: "not verified"},
	{name: "received in the place of accepted", args: sendLarge, frames: instead(func(m *v4.Offer) []any {
		return []any{&v4.Received{Number: m.Number, Unchanged: true, Size: 3 * mib, Digest: v4.Digest{}}}
	}), status: 1, says: "not verified"},
	{name: "missing chunks that are not", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Missing{Number: m.Number, Chunks: []uint32{3}}}
	}), status: 1, says: "chunk 3 of 3 is missing"},
	{name: "missing one chunk 16,384 times", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Missing{Number: m.Number, Chunks: make([]uint32, 16384)}}
	}), status: 1, says: "told twice"},
	{name: "missing for ever", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Missing{Number: m.Number, Chunks: []uint32{1}}}
	}), status: 1, says: "checksum did not match"},
	{name: "missing nothing, for ever", args: sendLarge, frames: instead(func(m *v4.Finish) []any { return []any{&v4.Missing{Number: m.Number}} }), status: 1, says: "checksum did not match"},
	{name: "different with too few hashes", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Differs{Number: m.Number, Hashes: make([]v4.Digest, 2)}}
	}), status: 1, says: "2 hashes of 3 chunks"},
	{name: "different in nothing", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Differs{Number: m.Number, Hashes: hashesOf(whole)}}
	}), status: 1, says: "every chunk and another digest"},
	{name: "different for ever", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Differs{Number: m.Number, Hashes: make([]v4.Digest, 3)}}
	}), status: 1, says: "checksum did not match"},
	{name: "no answer to giving up", args: sendLarge, frames: both(instead(func(m *v4.Finish) []any {
		return []any{&v4.Differs{Number: m.Number, Hashes: hashesOf(whole)}}
	}), silentAt[v4.GiveUp]()), status: 1, says: "timed out after 10s"},
	{name: "a finish answered by an attached", args: sendLarge, frames: instead(func(m *v4.Finish) []any { return []any{&v4.Attached{Number: m.Number}} }), status: 1, says: "Attached answers 1110"},
	{name: "a verdict of another digest", args: sendLarge, frames: instead(func(m *v4.Finish) []any {
		return []any{&v4.Received{Number: m.Number, Size: 3 * mib, Digest: digestOf("x")}}
	}), status: 1, says: "checksum did not match"},
	{name: "a further connection refused", args: []string{"send", "--streams", "large", "larger"}, beside: larger, status: 3, says: "reason 1",
		frames: answering(func(s *told, m *v4.Hello) bool {
			if m.Stream == 0 {
				return false
			}
			s.say(&v4.Refusal{Reason: 1, Text: "no more"})
			return true
		})},
	{name: "a further connection's part refused", args: []string{"send", "--streams", "larger"}, beside: larger, status: 1, says: "reason 29",
		frames: instead(func(m *v4.Attach) []any {
			return []any{&v4.Refused{Number: m.Number, Reason: 29, Again: true, Text: "gone"}}
		})},
	{name: "a further connection's part answered by something else", args: []string{"send", "--streams", "larger"}, beside: larger, status: 1, says: "Ended answers 1107",
		frames: instead(func(m *v4.Attach) []any { return []any{&v4.Ended{Number: m.Number}} })},
	{name: "a barrier that is never reached", args: []string{"send", "--streams", "larger"}, beside: larger, status: 1, says: "timed out after 10s", frames: silentAt[v4.Barrier]()},
}

// larger is a file that is sent over several connections.
func larger(t *testing.T, dir string) {
	must(t, os.WriteFile(filepath.Join(dir, "larger"), []byte(pattern(8*mib)), 0o600))
}

// accepting changes the 2105 of an upload by blocks.
func accepting(change func(*v4.Accept)) func(*told, any) bool {
	return answering(func(s *told, m *v4.Offer) bool {
		a := &v4.Accept{Number: m.Number, ChunkSize: mib, Upload: v4.ID{7}}
		change(a)
		s.say(a)
		return true
	})
}

// both lies in two places.
func both(one, other func(*told, any) bool) func(*told, any) bool {
	return func(s *told, message any) bool { return one(s, message) || other(s, message) }
}

func tellAll(t *testing.T, lies []lie) {
	t.Helper()
	const atOnce = 16 // most of them wait, and -parallel counts processors
	room := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i := range lies {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			t.Run(lies[i].name, lies[i].tell)
		})
	}
	all.Wait()
}

func TestLiesOfTheChannel(t *testing.T) {
	t.Parallel()
	tellAll(t, channelLies)
}

func TestLiesAboutTheSession(t *testing.T) {
	t.Parallel()
	tellAll(t, welcomeLies)
}

func TestLiesToSenders(t *testing.T) {
	t.Parallel()
	tellAll(t, sendLies)
}
