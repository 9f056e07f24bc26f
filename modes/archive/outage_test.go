package archive

import (
	"bytes"
	"errors"
	"hash/crc32"
	"log/slog"
	"testing"

	"fenc/model"
	"fenc/model/postgrestest"
	"fenc/model/storage"
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

// A server whose start finds the database that its standby has replaced removes nothing:
// what is an unverified upload there may have become a file since. Its content was removed
// before the database was asked.
func TestStartAtAReplacedDatabaseRemovesNothing(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := primary.Create(t)
	standby := primary.Standby(t)
	line := postgrestest.Between(t, name, standby, primary)
	s := newSiteIn(t, t.TempDir(), line.Address)
	content := []byte("verified after the standby took over")
	in, err := s.Receive(t.Context(), s.upload("a", len(content)+15))
	if err != nil {
		t.Fatal(err)
	}
	n, err := in.Write(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	standby.Exec(t, "ALTER SYSTEM RESET synchronous_standby_names") // it has none yet
	standby.Exec(t, "SELECT pg_reload_conf()")
	line.Cut(true)
	line.Cut(false)
	if _, err := in.Keep(t.Context(), n, crc32.ChecksumIEEE(content)); err != nil {
		t.Fatal(err)
	}
	s.crash(t)

	old, err := model.Open(primary.Address(name), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	f, err := storage.OpenFolder(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(old, f, slog.New(slog.DiscardHandler)); !errors.Is(err, model.ErrUnavailable) {
		t.Errorf("start at the old database: got %v, want ErrUnavailable", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	s.open(t)
	s.wantVerified(t, "a", content)
}
