package main

import (
	"context"
	"database/sql"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/modes"
)

// serveOn is serve on a file system whose calls before may let fail.
func serveOn(t *testing.T, dir string, before func(call, name string) error) *daemon {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	d := &daemon{dir: dir, log: newOutput(), ended: make(chan struct{}), cancel: cancel}
	settings := write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nlog_format = \"json\"\n")
	open := func(dir string) (*storage.Folder, error) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		faulty, err := storagetest.New(dir, before)
		if err != nil {
			return nil, err
		}
		return storage.OpenFolderOn(faulty, dir)
	}
	go func() {
		defer close(d.ended)
		d.status = run(ctx, []string{"fenc", "serve", "--config", settings}, modes.Streams{In: strings.NewReader(""), Out: io.Discard, Err: d.log, Storage: open})
	}()
	t.Cleanup(func() { d.stop(t) })
	d.addr = d.log.await(t, `"msg":"listening","address":"([^"]+)"`, d.ended)[1]
	return d
}

// faulted is a server that something befalls, with a client of each protocol.
type faulted struct {
	dir   string
	kept  *ledger
	three *sender
	four  *sender
}

// newFaulted has clients send to a server before anything befalls it.
func newFaulted(t *testing.T, dir, address string) *faulted {
	t.Helper()
	f := &faulted{dir: dir, kept: newLedger()}
	f.three, f.four = newSender(t, "ada", 3, f.kept), newSender(t, "grace", 4, f.kept)
	f.at(address)
	for _, c := range []*sender{f.three, f.four} {
		c.send(t.Context(), map[string][]byte{"before": []byte(strings.Repeat("before ", 50_000))}).want(t, 0, "verified")
	}
	return f
}

// at has the clients find the server at an address.
func (f *faulted) at(address string) {
	f.three.way.server.Store(&address)
	f.four.way.server.Store(&address)
}

// refused sends small and large files by both protocols, none of which may be called
// verified, and returns what the client of protocol 4 is told.
func (f *faulted) refused(t *testing.T, size int) string {
	t.Helper()
	f.three.send(t.Context(), map[string][]byte{"three": make([]byte, size)}).want(t, 1, "not verified")
	small := f.four.send(t.Context(), map[string][]byte{"small": []byte("small")})
	large := f.four.send(t.Context(), map[string][]byte{"large": make([]byte, size)})
	for _, r := range []result{small, large} {
		if r.status == 0 || strings.Contains(r.out, "  verified\n") {
			t.Errorf("got %d,\n%s%s\nwant a refusal", r.status, r.out, r.errors)
		}
	}
	return small.out + small.errors + large.out + large.errors
}

// waits has the client of protocol 4 send a file and try until it is verified.
func (f *faulted) waits(t *testing.T) <-chan result {
	t.Helper()
	files := map[string][]byte{"waits": []byte("waits")}
	path := write(t, filepath.Join(f.four.home, "waits"), "waits")
	f.kept.begin(f.four.name, files)
	ended := make(chan result, 1)
	go func() {
		r := fenc(t.Context(), nil, "send", "--config", filepath.Join(f.four.home, "transfer.toml"), "--retry-for", "60s", path)
		f.kept.heard(f.four.name, files, r.out)
		ended <- r
	}()
	return ended
}

// served sends what was refused, once more.
func (f *faulted) served(t *testing.T) {
	t.Helper()
	f.three.send(t.Context(), map[string][]byte{"three": []byte("three"), "before": []byte("another")}).want(t, 0)
	f.four.send(t.Context(), map[string][]byte{"small": []byte("small"), "large": make([]byte, 400<<10)}).want(t, 0)
}

// nothingLost looks at a stopped server.
func (f *faulted) nothingLost(t *testing.T) {
	t.Helper()
	f.kept.checkCatalogue(t, f.dir)
	f.kept.checkTree(t, filepath.Join(f.dir, "files"))
	wantNoStrays(t, f.dir)
	checkDeep(t, f.dir)
}

// A sync that fails takes its upload and degrades the storage, which says so and
// takes nothing; a client that waits is served once the disk works again.
func TestFailedSyncDegradesUntilTheProbeWorks(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	d := serveOn(t, t.TempDir(), func(call, name string) error {
		if broken.Load() && (call == "sync" || call == "syncdir") {
			return syscall.EIO
		}
		return nil
	})
	f := newFaulted(t, d.dir, d.addr)
	broken.Store(true)
	if said := f.refused(t, 400<<10); !strings.Contains(said, "the server's storage has failed") {
		t.Errorf("the client was told:\n%s\nwant that the storage has failed", said)
	}
	d.log.await(t, "storage degraded.*input/output error", d.ended)

	waiting := f.waits(t)
	f.refused(t, 400<<10) // the probe may have come meanwhile, and failed
	broken.Store(false)
	(<-waiting).want(t, 0, "waits  5 bytes", "verified")
	d.log.await(t, "storage works again", d.ended)
	f.served(t)
	if got := d.stop(t); got != 0 {
		t.Errorf("the server ended with %d, want 0", got)
	}
	f.nothingLost(t)
}

// A database that is not there is missed, where the storage has something: an empty
// one in its place would forget everybody, for good.
func TestMissingDatabaseIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := serve(t, t.TempDir())
			f := newFaulted(t, d.dir, d.addr)
			d.stop(t)
			db, note := filepath.Join(d.dir, "fenc.db"), filepath.Join(d.dir, "files", ".fenc", "note-clients")
			clients, err := os.ReadFile(note)
			if err == nil {
				err = lose(db)
			}
			if err != nil {
				t.Fatal(err)
			}
			settings := filepath.Join(d.dir, "server.toml")
			fenc(t.Context(), nil, "serve", "--config", settings).want(t, 2,
				"there is no database at "+db, "restore it from a backup", "fenc check --rebuild")
			if now, err := os.ReadFile(note); err != nil || string(now) != string(clients) {
				t.Errorf("list of clients: got %q, %v, want %q", now, err, clients)
			}
			fenc(t.Context(), nil, "check", "--rebuild", "--config", settings).want(t, 0, "database made anew")
			d = serve(t, d.dir)
			f.at(d.addr)
			f.served(t)
			d.stop(t)
			f.nothingLost(t)
		})
	}
}

// A database that is damaged is refused, and left as it is; a backup takes its place.
func TestCorruptDatabaseIsRefusedAndRestored(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	f := newFaulted(t, d.dir, d.addr)
	settings := filepath.Join(d.dir, "server.toml")
	backup := fenc(t.Context(), nil, "backup", "--config", settings, t.TempDir())
	backup.want(t, 0)
	f.served(t) // after the backup
	d.stop(t)
	db := filepath.Join(d.dir, "fenc.db")
	file, err := os.OpenFile(db, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("no database any more"), 0); err != nil {
		t.Fatal(err)
	}
	file.Close()
	damaged := readFile(t, db)
	r := fenc(t.Context(), nil, "serve", "--config", settings)
	r.want(t, 1, "open database "+db, "file is not a database", "restore it from a backup")
	if readFile(t, db) != damaged {
		t.Error("the damaged database has been changed")
	}
	if err := os.Rename(strings.TrimSpace(backup.out), db); err != nil {
		t.Fatal(err)
	}
	fenc(t.Context(), nil, "check", "--repair", "--config", settings).want(t, 0, "mended")
	f.kept.checkTree(t, filepath.Join(d.dir, "files"))
	d = serve(t, d.dir)
	f.at(d.addr)
	f.served(t)
	d.stop(t)
	f.nothingLost(t)
}

// While somebody else has the database locked, clients are told to come again and
// do; nobody's session costs the server its life.
func TestLockedDatabaseIsWaitedFor(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	f := newFaulted(t, d.dir, d.addr)
	db, err := sql.Open("sqlite", filepath.Join(d.dir, "fenc.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("PRAGMA busy_timeout = 60000; BEGIN IMMEDIATE"); err != nil { // the server may be writing
		t.Fatal(err)
	}
	waiting := f.waits(t)
	d.log.await(t, "catalogue unavailable.*database is locked", d.ended)
	if _, err := db.Exec("ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	(<-waiting).want(t, 0, "waits  5 bytes", "verified")
	f.served(t)
	if got := d.stop(t); got != 0 {
		t.Errorf("the server ended with %d, want 0", got)
	}
	f.nothingLost(t)
}
