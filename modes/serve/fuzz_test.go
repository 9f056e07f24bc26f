package serve_test

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"fenc/model"
	"fenc/modes/archive"
	"fenc/modes/serve"
	"fenc/modes/serve/servetest"
	"fenc/wire/fuzztest"
	"fenc/wire/v3"
)

// FuzzSession says anything at all after a session was opened. It ends, all that comes
// back is responses, and what another client has stays what it is.
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
	here, there := net.Pipe()
	l.Bring(there)
	ada := &peer{Conn: here, t: f}
	ada.register("ada")
	ada.agree("ada")
	ada.keep("a", untouched)
	here.Close()
	f.Cleanup(func() { wantUntouched(f, s, ada) })
	f.Add(grace.file("a", make([]byte, 16)))
	f.Add(append(grace.file("a", make([]byte, 32)), grace.verdict(v3.CodeResend, "a")...))
	f.Add(append(grace.file("a", make([]byte, 32)), grace.verdict(v3.CodeValid, "a")...))
	f.Add(grace.verdict(v3.CodeGiveUp, "a"))
	f.Add(registration("x"))
	f.Add(append(ada.file("a", make([]byte, 32)), ada.verdict(v3.CodeValid, "a")...))
	f.Add(append(grace.file("../ada/a", make([]byte, 32)), grace.verdict(v3.CodeValid, "../ada/a")...))
	sessions := 0
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
		if sessions++; sessions%64 == 0 { // looking takes as long as a session
			wantUntouched(t, s, ada)
		}
	})
}

const untouched = "the bystander's"

// wantUntouched holds that ada is who she was, and that her file, of untouched, is the
// one she has.
func wantUntouched(t testing.TB, s *server, ada *peer) {
	t.Helper()
	der, err := v3.MarshalPublicKey(&key().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	c, known, err := s.archive.Catalogue.ClientNamed("ada")
	if err != nil || !known || c.ID != model.ID(ada.id) || !bytes.Equal(c.PublicKey, der[:]) {
		t.Errorf("the bystander is no longer who she was: %+v, %v", c, err)
	}
	files, err := s.archive.Catalogue.List(model.ID(ada.id), "", "", 2)
	if err != nil || len(files) != 1 || files[0].FileName != "a" || files[0].Version != 1 || !files[0].Verified {
		t.Errorf("the bystander's files: %+v, %v", files, err)
	}
	if got := s.stored(t, "ada/a"); got != untouched {
		t.Errorf("the bystander's file holds %q", got)
	}
}
