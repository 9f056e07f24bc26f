package serve4

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/serve/servetest"
	"fenc/modes/stats"
	"fenc/wire"
	"fenc/wire/fuzztest"
	"fenc/wire/v4"
)

// plain is a channel of which the handshake was left out, which takes nine tenths of a
// session's time.
type plain struct {
	*servetest.Said
	state tls.ConnectionState
}

func (plain) Flush() error                           { return nil }
func (p plain) ConnectionState() tls.ConnectionState { return p.state }

// answering is whether a goroutine is making an answer.
func (k *Session) answering() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range k.active {
		if r.busy {
			return true
		}
	}
	return false
}

// FuzzRequests says anything at all after a hello. The session ends, all that comes back
// is frames, and no file of others changes.
func FuzzRequests(tf *testing.F) {
	f := fuzztest.New(tf)
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	dir, log := f.TempDir(), slog.New(slog.DiscardHandler)
	files := filepath.Join(dir, "files")
	store, err := storage.OpenFolder(files)
	must(err)
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	must(err)
	kept, err := archive.Open(catalogue, store, log)
	must(err)
	f.Cleanup(func() { must(kept.Close()) })
	identity, err := v4.NewIdentity()
	must(err)
	bounds := model.Bounds{Uploads: 16, Files: 1000, Bytes: 16 << 20}
	kept.SetPolicy(archive.Policy{Bounds: bounds})
	server := New(kept, Settings{
		Identity: identity, Registration: model.RegistrationOpen, MaxFileSize: 1 << 20, Bounds: bounds, Software: "fuzzed",
	}, stats.New(), log)

	// converse says a hello and the rest, and returns what comes back.
	epoch := uint64(0)
	converse := func(name string, key ed25519.PublicKey, said []byte) []byte {
		epoch++
		hello := v4.Append(nil, &v4.Hello{Wishes: v4.RightSend | v4.RightRead | v4.RightReplace, Instance: v4.ID{1}, Epoch: epoch, Name: name})
		c := servetest.NewSaid(append(hello, said...))
		k := server.NewSession(wire.NewConn(c, time.Minute), func() bool { return true })
		c.Before = func() { // as a client would; a finish may wait for a block that was cut off here
			late := time.After(time.Second)
			for k.answering() {
				select {
				case <-c.Wrote:
				case <-k.ctx.Done():
					return
				case <-late:
					return
				}
			}
		}
		k.counts = server.stats.Begin(v4.Version, c.RemoteAddr().String(), k.transfers)
		k.conn = plain{c, tls.ConnectionState{
			Version: tls.VersionTLS13, NegotiatedProtocol: v4.ALPN, PeerCertificates: []*x509.Certificate{{PublicKey: key}},
		}}
		k.reader = v4.NewReader(k.raw)
		k.speak()
		k.counts.End()
		c.Close()
		heard, _ := c.Heard()
		return heard
	}
	newKey := func() ed25519.PublicKey {
		public, _, err := ed25519.GenerateKey(nil)
		must(err)
		return public
	}

	const untouched = "the bystander's"
	converse("bystander", newKey(), v4.Append(nil, &v4.Small{
		Number: 1, Mode: 0o600, Path: "a", Digest: blake3.Sum256([]byte(untouched)), Data: []byte(untouched),
	}))
	bystander, _, err := catalogue.ClientNamed("bystander")
	must(err)
	bystanders := func(t testing.TB) {
		t.Helper()
		file, _, err := catalogue.File(bystander.ID, "a")
		if err != nil || !file.Verified || file.Version != 1 {
			t.Fatalf("the bystander's file: %+v, %v", file, err)
		}
		content, err := kept.OpenFile(file)
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		got := make([]byte, len(untouched)+1)
		if n, err := content.ReadAt(got, 0); string(got[:n]) != untouched {
			t.Fatalf("the bystander's file: got %q, %v", got[:n], err)
		}
	}
	bystanders(f)

	conversations, err := filepath.Glob("../../wire/v4/testdata/kit/conversation-*")
	must(err)
	if len(conversations) == 0 {
		f.Fatal("no conversations to begin from")
	}
	for _, file := range conversations {
		data, err := os.ReadFile(file)
		must(err)
		_, said, _ := strings.Cut(string(data), "\n\n")
		size := int(binary.LittleEndian.Uint32([]byte(said[3:7])))
		f.Add([]byte(said[7+size:])) // behind the hello
	}
	key, runs := newKey(), 0
	f.Cleanup(func() { bystanders(f) }) // before the archive is closed
	f.Fuzz(func(t *testing.T, said []byte) {
		heard := converse("fuzzer", key, said)
		for r := v4.NewReader(bytes.NewReader(heard)); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err == nil {
				_, err = r.Message(h)
			}
			if err != nil {
				t.Fatalf("the server says what is no frame: %v", err)
			}
		}
		if runs++; runs%64 == 0 {
			bystanders(t)
		}
	})
}
