package archive

import (
	"errors"
	"testing"

	"fenc/model"
	"fenc/model/postgrestest"
)

// What was sealed when the database went away becomes a file when it is back: nobody
// has to start the server again.
func TestSealedInAnOutageIsCompleted(t *testing.T) {
	t.Parallel()
	line := postgrestest.NewLine(t)
	s := newSiteIn(t, t.TempDir(), line.Address)
	s.mustSend(t, "before", []byte("content"))
	cut := func(yes bool) {
		line.Cut(yes)
		s.fsys.Before = nil
	}
	for _, name := range []string{"a", "overtaken"} {
		s.fsys.Before = func(call, _ string) error {
			if call == "rename" { // the content becomes an object, and its row no file
				cut(true)
			}
			return nil
		}
		if _, err := s.send(t.Context(), name, []byte("in the outage")); !errors.Is(err, model.ErrUnavailable) {
			t.Fatalf("%s: got %v, want ErrUnavailable", name, err)
		}
		cut(false)
	}
	s.mustSend(t, "overtaken", []byte("later"))
	if err := s.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantVerified(t, "a", []byte("in the outage"))
	s.wantVerified(t, "overtaken", []byte("later"))
	if left, err := s.Catalogue.Uploads(model.UploadSealing); err != nil || len(left) != 0 || len(s.stuck) != 0 {
		t.Errorf("left: %+v, %v, %d stuck", left, err, len(s.stuck))
	}
}
