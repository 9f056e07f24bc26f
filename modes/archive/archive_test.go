package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"fenc/model"
	"fenc/model/postgrestest"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
)

// site is where archives of one test come and go: a storage, a database, and
// the one client that sends.
type site struct {
	dir    string // of the storage
	db     string
	log    journal
	client model.Client

	options model.Options

	*Archive
	fsys *storagetest.FS
}

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// journal is a log that tests read.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func newSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	return newSiteIn(t, dir, postgrestest.Catalogue(t, dir))
}

func newSiteIn(t testing.TB, dir, database string) *site {
	t.Helper()
	s := &site{dir: filepath.Join(dir, "files"), db: database}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.open(t)
	t.Cleanup(func() { s.crash(t) })
	var err error
	if s.client, err = s.Catalogue.Register("grace", 3); err != nil {
		t.Fatal(err)
	}
	return s
}

// open opens catalogue, storage and archive as a new process would.
func (s *site) open(t testing.TB) {
	t.Helper()
	c, err := model.Open(s.db, s.options)
	if err != nil {
		t.Fatal(err)
	}
	if s.fsys, err = storagetest.New(s.dir, nil); err != nil {
		t.Fatal(err)
	}
	f, err := storage.OpenFolderOn(s.fsys, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Archive, err = Open(c, f, slog.New(slog.NewTextHandler(&s.log, nil))); err != nil {
		t.Fatal(err)
	}
}

// crash ends the process as a kill does: nothing is said, the locks are free.
func (s *site) crash(t testing.TB) {
	t.Helper()
	if s.Archive == nil {
		return
	}
	s.fsys.Before = nil
	if err := errors.Join(s.Catalogue.Close(), s.store.Close()); err != nil {
		t.Error(err)
	}
	s.Archive = nil
}

// reopen is crash and open.
func (s *site) reopen(t testing.TB) {
	t.Helper()
	s.crash(t)
	s.open(t)
}

func (s *site) upload(name string, size int) model.Upload {
	return model.Upload{ClientID: s.client.ID, FileName: name, Path: name, Size: int64(size), Protocol: 3}
}

// send takes a file from Receive to Keep; an error of any step ends in Discard,
// as a session's does.
func (s *site) send(ctx context.Context, name string, p []byte) (file model.File, err error) {
	in, err := s.Receive(ctx, s.upload(name, len(p)+15)) // protocol 3 knows the size of the padded content only
	if err != nil {
		return model.File{}, err
	}
	defer in.Discard() // what is to be said about its error, err says
	n, err := in.Write(ctx, bytes.NewReader(p))
	if err != nil {
		return model.File{}, err
	}
	return in.Keep(ctx, n, crc32.ChecksumIEEE(p))
}

func (s *site) mustSend(t testing.TB, name string, p []byte) model.File {
	t.Helper()
	file, err := s.send(t.Context(), name, p)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func (s *site) object(id model.ID) string {
	return filepath.Join(s.dir, ".fenc", "objects", id.String()[:2], id.String())
}

func (s *site) part(id model.ID) string { return filepath.Join(s.dir, ".fenc", "part", id.String()) }

// objects lists the keys of all objects.
func (s *site) objects(t testing.TB) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.dir, ".fenc", "objects", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		names[i] = filepath.Base(name)
	}
	return names
}

// wantVerified checks row, object and tree of a file.
func (s *site) wantVerified(t *testing.T, name string, content []byte) {
	t.Helper()
	file, ok, _ := s.Catalogue.File(s.client.ID, name)
	switch {
	case !ok:
		t.Errorf("%s: no row", name)
		return
	case !file.Verified:
		t.Errorf("%s is not verified", name)
	case file.Size != int64(len(content)) || file.Checksum != crc32.ChecksumIEEE(content):
		t.Errorf("%s: %d bytes %08x, want %d and %08x", name, file.Size, file.Checksum, len(content), crc32.ChecksumIEEE(content))
	}
	for _, place := range []string{s.object(file.Object), filepath.Join(s.dir, filepath.FromSlash(file.FilePath))} {
		if got, err := os.ReadFile(place); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %v, %.20q, want %.20q", place, err, got, content)
		}
	}
}

// wantNoUploads checks that no upload is left, neither row nor byte.
func (s *site) wantNoUploads(t *testing.T) {
	t.Helper()
	for _, state := range []model.UploadState{model.UploadOpen, model.UploadSealing} {
		if left, err := s.Catalogue.Uploads(state); len(left) != 0 || err != nil {
			t.Errorf("%d %s uploads are left (%v), want none", len(left), state, err)
		}
	}
	if left, err := s.folder.Parts(); len(left) != 0 || err != nil {
		t.Errorf("bytes %v are left (%v), want none", left, err)
	}
}

// wantNoStrays checks that each object belongs to a row, and that nothing else lies about.
func (s *site) wantNoStrays(t *testing.T) {
	t.Helper()
	known := make(map[string]bool)
	files, err := s.Catalogue.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		known[f.File.Object.String()] = true
	}
	garbage, err := s.Catalogue.GarbageBefore(time.Now().Add(time.Hour), 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range garbage {
		known[id.String()] = true
	}
	for _, key := range s.objects(t) {
		if !known[key] {
			t.Errorf("object %s has no row", key)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".fenc", "link-*")); len(left) != 0 || err != nil {
		t.Errorf("links %v are left (%v), want none", left, err)
	}
}

func TestKeptFileIsCataloguedAndShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i, size := range []int{0, 1, 4096, 1<<20 + 1} {
		name, want := fmt.Sprintf("notes/%d.txt", size), bytes.Repeat([]byte{'a' + byte(i)}, size)
		file := s.mustSend(t, name, want)
		if file.FilePath != "grace/"+name || file.Version != 1 {
			t.Errorf("got %q, version %d, want %q, version 1", file.FilePath, file.Version, "grace/"+name)
		}
		s.wantVerified(t, name, want)
	}
	s.wantNoUploads(t)
	s.wantNoStrays(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Archive = nil
	s.open(t)
	s.wantVerified(t, "notes/4096.txt", bytes.Repeat([]byte("c"), 4096))
	if got := s.log.String(); got != "" {
		t.Errorf("log says %q, want nothing", got)
	}
}

func TestUploadStandsInTheCatalogueBeforeItsBytes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fsys.Before = func(call, name string) error {
		if call == "openfile" {
			if rows, err := s.Catalogue.Uploads(model.UploadOpen); len(rows) != 1 || err != nil || !strings.HasSuffix(name, rows[0].ID.String()) {
				t.Errorf("%s is opened with rows %v, %v", name, rows, err)
			}
		}
		return nil
	}
	s.mustSend(t, "a", []byte("content"))
}

func TestDiscardedUploadLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in, err := s.Receive(t.Context(), s.upload("a", 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), strings.NewReader("unverified")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second does nothing
		if err := in.Discard(); err != nil {
			t.Error(err)
		}
	}
	s.wantNoUploads(t)
	if got := s.objects(t); len(got) != 0 {
		t.Errorf("objects %v, want none", got)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "grace")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the tree shows something: %v", err)
	}
	if _, err := in.Keep(t.Context(), 10, 0); !errors.Is(err, model.ErrNoUpload) {
		t.Errorf("Keep after Discard: got %v, want ErrNoUpload", err)
	}
}

func TestDiscardAfterKeepTakesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in, err := s.Receive(t.Context(), s.upload("a", 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), strings.NewReader("verified")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Keep(t.Context(), 8, crc32.ChecksumIEEE([]byte("verified"))); err != nil {
		t.Fatal(err)
	}
	if err := in.Discard(); err != nil {
		t.Error(err)
	}
	if _, err := in.Keep(t.Context(), 8, 0); !errors.Is(err, model.ErrNoUpload) {
		t.Errorf("second Keep: got %v, want ErrNoUpload", err)
	}
	s.wantVerified(t, "a", []byte("verified"))
}

func TestReadersErrorReachesTheSession(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	want := errors.New("connection reset")
	in, err := s.Receive(t.Context(), s.upload("a", 100))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := in.Write(t.Context(), io.MultiReader(strings.NewReader("half"), iotest.ErrReader(want))); n != 4 || err != want {
		t.Errorf("got %d, %v, want 4, %v", n, err, want)
	}
	if err := in.Discard(); err != nil {
		t.Error(err)
	}
	s.wantNoUploads(t)
}

func TestReplacementShowsOnlyOnceItIsKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.mustSend(t, "a", []byte("old"))
	in, err := s.Receive(t.Context(), s.upload("a", 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), strings.NewReader("newer")); err != nil {
		t.Fatal(err)
	}
	s.wantVerified(t, "a", []byte("old"))
	second, err := in.Keep(t.Context(), 5, crc32.ChecksumIEEE([]byte("newer")))
	if err != nil {
		t.Fatal(err)
	}
	s.wantVerified(t, "a", []byte("newer"))
	if second.ID != first.ID || second.Version != 2 || second.FilePath != first.FilePath {
		t.Errorf("got %+v, want version 2 of %+v", second, first)
	}
	// Who reads the old one by its object still can.
	if o, err := s.store.Open(first.Object.String()); err != nil {
		t.Error(err)
	} else if got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size())); string(got) != "old" || err != nil || o.Close() != nil {
		t.Errorf("replaced object: %q, %v", got, err)
	}
}

func TestFailedReplacementLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct{ call, prefix string }{
		{"reserve", ".fenc/part"}, {"writeat", ".fenc/part"}, {"truncate", ".fenc/part"}, {"sync", ".fenc/part"}, {"close", ".fenc/part"},
		{"rename", ".fenc/objects"}, {"syncdir", ".fenc/objects"}, {"syncdir", ".fenc/part"},
	} {
		t.Run(fault.call+" "+fault.prefix, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.mustSend(t, "a", []byte("old"))
			s.fsys.Before = func(call, name string) error {
				if call == fault.call && strings.HasPrefix(name, fault.prefix) {
					return syscall.EIO
				}
				return nil
			}
			if _, err := s.send(t.Context(), "a", []byte("newer")); !errors.Is(err, storage.ErrDegraded) {
				t.Errorf("got %v, want ErrDegraded", err)
			}
			s.fsys.Before = nil
			for range 2 { // as it is, and after the next start
				s.wantVerified(t, "a", []byte("old"))
				s.wantNoUploads(t)
				if got := s.objects(t); len(got) != 1 {
					t.Errorf("%d objects, want the old one alone", len(got))
				}
				if got := s.fsys.OpenFiles(); got != 0 {
					t.Errorf("%d files left open, want 0", got)
				}
				s.reopen(t)
			}
		})
	}
}

func TestFileWhoseViewFailsIsVerifiedAndShownLater(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fsys.Before = func(call, _ string) error {
		if call == "link" {
			return syscall.EIO
		}
		return nil
	}
	file := s.mustSend(t, "a", []byte("content"))
	s.fsys.Before = nil
	if !strings.Contains(s.log.String(), "level=ERROR") {
		t.Errorf("log says %q, want an error", s.log.String())
	}
	if err := s.markSettled(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, file.FilePath)); err == nil {
		t.Fatal("the tree shows it all the same")
	}
	s.reopen(t)
	s.wantVerified(t, "a", []byte("content"))
}

// Upkeep that ran between a commit and its view once recorded that they agreed;
// after a crash just then nobody looked at the file again.
func TestUpkeepDuringAKeepDoesNotVouchForIt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustSend(t, "before", []byte("before"))
	crashed := false
	s.fsys.Before = func(call, name string) error {
		if strings.HasPrefix(name, ".fenc/link-") && call == "link" {
			if err := s.markSettled(); err != nil {
				t.Error(err)
			}
			crashed = true
		}
		if crashed {
			return syscall.EIO
		}
		return nil
	}
	s.mustSend(t, "a", []byte("content"))
	s.reopen(t)
	s.wantVerified(t, "before", []byte("before"))
	s.wantVerified(t, "a", []byte("content"))
}

func TestCancelledKeepIsNoFault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in, err := s.Receive(t.Context(), s.upload("a", 100))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), strings.NewReader("content")); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := in.Keep(ended, 7, crc32.ChecksumIEEE([]byte("content"))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	s.wantNoUploads(t)
	if got := s.fsys.OpenFiles(); got != 0 {
		t.Errorf("%d files left open, want 0", got)
	}
	s.mustSend(t, "a", []byte("content"))
}

func TestFileWithoutAFreePathIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustSend(t, "a", []byte("first"))
	u := s.upload("A", 100)
	u.Path = "a"
	in, err := s.Receive(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), strings.NewReader("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Keep(t.Context(), 5, 0); !errors.Is(err, model.ErrPathTaken) {
		t.Errorf("got %v, want ErrPathTaken", err)
	}
	s.wantVerified(t, "a", []byte("first"))
	s.wantNoUploads(t)
	s.wantNoStrays(t)
}

func TestFullDiskRefusesTheUpload(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fsys.Before = func(call, _ string) error {
		if call == "reserve" {
			return syscall.ENOSPC
		}
		return nil
	}
	if _, err := s.Receive(t.Context(), s.upload("a", 100)); !errors.Is(err, storage.ErrNoSpace) {
		t.Errorf("got %v, want ErrNoSpace", err)
	}
	s.fsys.Before = nil
	s.wantNoUploads(t)
	s.mustSend(t, "a", []byte("room again"))
}

func TestDegradedStorageTakesUploadsAgainAfterTheProbe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fsys.Before = func(call, _ string) error {
		if call == "sync" {
			return syscall.EIO
		}
		return nil
	}
	if _, err := s.send(t.Context(), "a", []byte("content")); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("got %v, want ErrDegraded", err)
	}
	s.Probe()
	if _, err := s.Receive(t.Context(), s.upload("a", 100)); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("before it is mended: got %v, want ErrDegraded", err)
	}
	s.fsys.Before = nil
	s.Probe()
	s.mustSend(t, "a", []byte("content"))
	s.wantVerified(t, "a", []byte("content"))
}

func TestGarbageIsRemovedAfterItsGrace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.mustSend(t, "a", []byte("old"))
	s.mustSend(t, "a", []byte("new"))
	replaced := time.Now()
	for _, step := range []struct {
		after time.Duration
		left  bool
	}{{0, true}, {garbageGrace - time.Minute, true}, {garbageGrace + time.Minute, false}, {2 * garbageGrace, false}} {
		s.now = func() time.Time { return replaced.Add(step.after) }
		if err := s.sweep(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(s.object(old.Object)); (err == nil) != step.left {
			t.Errorf("%v after its replacement: %v, want it left = %v", step.after, err, step.left)
		}
	}
	if left, err := s.Catalogue.GarbageBefore(replaced.Add(time.Hour), 10); len(left) != 0 || err != nil {
		t.Errorf("garbage rows %v, %v, want none", left, err)
	}
	s.wantVerified(t, "a", []byte("new"))
}

func TestGarbageThatCannotBeRemovedKeepsItsRow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.mustSend(t, "a", []byte("old"))
	s.mustSend(t, "a", []byte("new"))
	s.now = func() time.Time { return time.Now().Add(2 * garbageGrace) }
	s.fsys.Before = func(call, _ string) error {
		if call == "remove" {
			return syscall.EIO
		}
		return nil
	}
	if err := s.sweep(); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	s.fsys.Before = nil
	s.wantNoStrays(t)
	if err := s.sweep(); err != nil {
		t.Fatal(err)
	}
	if got := s.objects(t); slices.Contains(got, old.Object.String()) {
		t.Error("the next sweep left it")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	cancel()
	<-done
}

func TestUploadsAtOnceAreAllKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	contents := func(n int) []byte { return bytes.Repeat([]byte{byte('a' + n)}, 100_000+n) }
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			if _, err := s.send(t.Context(), fmt.Sprintf("%d", n), contents(n)); err != nil {
				t.Error(err)
			}
			if _, err := s.send(t.Context(), "shared", contents(n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for n := range 16 {
		s.wantVerified(t, fmt.Sprintf("%d", n), contents(n))
	}
	shared, _, _ := s.Catalogue.File(s.client.ID, "shared")
	s.wantVerified(t, "shared", contents(int(shared.Size)-100_000))
	s.wantNoUploads(t)
	s.wantNoStrays(t)
}

func BenchmarkKeepSmall(b *testing.B) {
	s := newSite(b)
	p := bytes.Repeat([]byte("small file, "), 341)
	b.SetBytes(int64(len(p)))
	n := 0
	for b.Loop() {
		n++
		s.mustSend(b, fmt.Sprintf("%02d/%d", n%100, n), p)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "files/s")
}
