package serve_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/serve"
	"fenc/modes/serve/servetest"
	"fenc/wire/fuzztest"
	"fenc/wire/v3"
)

// FuzzSession says anything at all after a session was opened. It ends, and all that
// comes back is responses.
func FuzzSession(tf *testing.F) {
	f := fuzztest.New(tf)
	l := servetest.NewBrought()
	s := start(f, f.TempDir(), withListener(l), withSettings(func(c *serve.Settings) { c.MaxFileSize = 1 << 16 }))
	s.archive.SetPolicy(archive.Policy{Bounds: model.Bounds{Files: 1000}})
	// converse says all at once, and returns what comes back.
	converse := func(t testing.TB, said []byte) *bytes.Reader {
		c := servetest.NewSaid(said)
		l.Bring(c)
		heard, ended := c.Heard()
		if !ended {
			t.Fatal("the session does not end")
		}
		return bytes.NewReader(heard)
	}
	var m v3.Registered
	heard := converse(f, registration("grace"))
	h, err := v3.ReadResponseHeader(heard)
	if err == nil {
		err = v3.ReadResponse(heard, h, &m, v3.CodeRegistered)
	}
	if err != nil {
		f.Fatal(err)
	}
	der, err := v3.MarshalPublicKey(&key().PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	grace := &peer{t: f, id: m.ClientID}
	var opens bytes.Buffer
	if err := v3.WriteRequest(&opens, grace.id, v3.CodePublicKey, &v3.PublicKey{Name: named("grace"), Key: der}, 0); err != nil {
		f.Fatal(err)
	}
	opened := opens.Bytes() // the key that comes back is of no use to what follows
	f.Add(grace.file("a", make([]byte, 16)))
	f.Add(append(grace.file("a", make([]byte, 32)), grace.verdict(v3.CodeResend, "a")...))
	f.Add(append(grace.file("a", make([]byte, 32)), grace.verdict(v3.CodeValid, "a")...))
	f.Add(grace.verdict(v3.CodeGiveUp, "a"))
	f.Add(registration("x"))
	f.Fuzz(func(t *testing.T, said []byte) {
		heard := converse(t, append(opened[:len(opened):len(opened)], said...))
		for heard.Len() > 0 {
			h, err := v3.ReadResponseHeader(heard)
			if err != nil || int64(h.PayloadSize) > int64(heard.Len()) {
				t.Fatalf("the server says what is no response: %v, %v, %d bytes", h, err, heard.Len())
			}
			heard.Seek(int64(h.PayloadSize), io.SeekCurrent)
		}
		if strings.Contains(s.log.String(), "session crashed") {
			t.Fatal(s.log.String())
		}
		s.log.Reset()
	})
}
