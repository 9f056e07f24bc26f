package model

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)} }

func open(t *testing.T, path string, o Options) *Catalogue {
	t.Helper()
	c, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := c.engine.(*shared); ok {
		s.patience = time.Minute // a machine that stands still uses a server's up
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func register(t *testing.T, c *Catalogue, name string) Client {
	t.Helper()
	client, err := c.Register(name, 3)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// keep takes an upload from its row to its commit.
func keep(t *testing.T, c *Catalogue, client Client, name, path, spare string) (File, error) {
	t.Helper()
	u, err := c.Begin(Upload{ClientID: client.ID, FileName: name, Path: path, SparePath: spare, Size: 15, Protocol: 3}, Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Seal(u.ID, 7, Sums{CRC32: 0xcafe}, 0); err != nil {
		t.Fatal(err)
	}
	return c.Commit(u.ID, nil, 0)
}

// query reads one value past the package's own methods.
func query[T any](t *testing.T, c *Catalogue, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := c.db.Raw(sql, args...).Row().Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestSQLiteIsNewEnough(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{})
	var major, minor, patch int
	version := query[string](t, c, "SELECT sqlite_version()")
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatal(err)
	}
	if got := major*1e6 + minor*1e3 + patch; got < 3_051_003 {
		t.Errorf("SQLite %s: before 3.51.3 two connections could corrupt a WAL", version)
	}
}

func TestDurabilitySettings(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{})
	if got := query[string](t, c, "PRAGMA journal_mode"); got != "wal" {
		t.Errorf("journal_mode = %q, want wal", got)
	}
	if got := query[int](t, c, "PRAGMA synchronous"); got != 2 {
		t.Errorf("synchronous = %d, want 2 (FULL): less loses commits when the power goes", got)
	}
	if got := query[int](t, c, "PRAGMA foreign_keys"); got != 1 {
		t.Errorf("foreign_keys = %d, want 1", got)
	}
	if got := query[int](t, c, "PRAGMA busy_timeout"); got != 10000 {
		t.Errorf("busy_timeout = %d, want 10000", got)
	}
}

func TestColumnsAreAsSpecified(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{})
	want := map[string]string{
		"clients.id": "varchar(16)", "clients.name": "varchar(127)", "clients.public_key": "varchar(160)",
		"clients.last_seen": "datetime", "clients.shared_key": "varchar(32)",
		"files.file_name": "varchar(255)", "files.file_path": "varchar(255)", "files.client_id": "varchar(16)",
	}
	for column, kind := range want {
		table, name, _ := strings.Cut(column, ".")
		if got := query[string](t, c, "SELECT type FROM pragma_table_info(?) WHERE name = ?", table, name); got != kind {
			t.Errorf("%s is %s, want %s", column, got, kind)
		}
	}
	if got := query[int](t, c, "SELECT count(*) FROM pragma_table_info('files') WHERE name = 'verified'"); got != 1 {
		t.Error("files.verified is missing")
	}
}

func TestDatabaseIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a ?%#.db") // and no character of its name is a parameter
	c := open(t, path, Options{})
	register(t, c, "grace")
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", name, got)
		}
	}
}

func TestDSNIsNotEchoed(t *testing.T) {
	t.Parallel()
	_, err := Open("postgres://fenc:hunter2@localhost/fenc", Options{})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestDamagedDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fenc.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a database. ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Open(path, Options{}); err == nil {
		c.Close()
		t.Error("opened a file that is no database")
	}
}

func TestNewerSchemaIsRefused(t *testing.T) { onEach(t, testNewerSchemaIsRefused) }

func testNewerSchemaIsRefused(t *testing.T, fresh func(*testing.T) string) {
	path := fresh(t)
	c := open(t, path, Options{})
	if err := c.write(nobody, func(tx *gorm.DB) error { return saveSetting(tx, settingSchema, schemaVersion+1) }); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if c, err := Open(path, Options{}); err == nil {
		c.Close()
		t.Error("opened a database of a newer fenc")
	}
}

func TestOlderSchemaIsNotOnlyRead(t *testing.T) { onEach(t, testOlderSchemaIsNotOnlyRead) }

func testOlderSchemaIsNotOnlyRead(t *testing.T, fresh func(*testing.T) string) {
	path := fresh(t)
	c := open(t, path, Options{})
	if err := c.write(nobody, func(tx *gorm.DB) error { return saveSetting(tx, settingSchema, schemaVersion-1) }); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c, err := Open(path, Options{ReadOnly: true})
	if err == nil {
		c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "fenc migrate, or the start of fenc serve, brings them up to date") {
		t.Errorf("got %v, want what brings the tables up to date", err)
	}
}

func TestRegister(t *testing.T) { onEach(t, testRegister) }

func testRegister(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	grace := register(t, c, "Grace Hopper")
	if _, err := c.Register("Grace Hopper", 3); !errors.Is(err, ErrNameTaken) {
		t.Errorf("second registration: got %v, want ErrNameTaken", err)
	}
	if grace.ID[0] == 0x16 || grace.ID.IsZero() {
		t.Errorf("id %s", grace.ID)
	}
	if got, ok, _ := c.ClientNamed("Grace Hopper"); !ok || got.ID != grace.ID {
		t.Errorf("ClientNamed = %v, %v", got.ID, ok)
	}
	if got := query[[]byte](t, c, "SELECT id FROM clients"); ID(got) != grace.ID {
		t.Errorf("id column holds %x, want the 16 bytes of %s", got, grace.ID)
	}
}

func TestNameOfAClientWithoutKeyIsFreedAfterAWhile(t *testing.T) {
	onEach(t, testNameOfAClientWithoutKeyIsFreedAfterAWhile)
}

func testNameOfAClientWithoutKeyIsFreedAfterAWhile(t *testing.T, fresh func(*testing.T) string) {
	now := newClock()
	c := open(t, fresh(t), Options{Now: now.Now})
	first := register(t, c, "grace")
	now.advance(abandonedAfter - time.Second)
	if _, err := c.Register("grace", 3); !errors.Is(err, ErrNameTaken) {
		t.Fatalf("within the time: got %v, want ErrNameTaken", err)
	}
	now.advance(time.Second)
	second := register(t, c, "grace")
	if _, known, _ := c.Client(first.ID); known || second.ID == first.ID {
		t.Error("the abandoned client is still known")
	}
	if _, err := c.OpenSession(second.ID, "grace", 3, []byte("key"), "00"); err != nil {
		t.Fatal(err)
	}
	now.advance(10 * abandonedAfter)
	if _, err := c.Register("grace", 3); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a client with a key lost its name: %v", err)
	}
}

func TestKeyIsPinned(t *testing.T) { onEach(t, testKeyIsPinned) }

func testKeyIsPinned(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	grace := register(t, c, "grace")
	for _, step := range []struct {
		outcome  string
		id       ID
		name     string
		protocol int
		key      string
		want     error
	}{
		{"unknown id", NewID(), "grace", 3, "one", ErrUnknownClient},
		{"another's name", grace.ID, "ada", 3, "one", ErrUnknownClient},
		{"another protocol", grace.ID, "grace", 4, "one", ErrUnknownClient},
		{"first key", grace.ID, "grace", 3, "one", nil},
		{"same key", grace.ID, "grace", 3, "one", nil},
		{"other key", grace.ID, "grace", 3, "two", ErrOtherKey},
	} {
		if _, err := c.OpenSession(step.id, step.name, step.protocol, []byte(step.key), "aa"); !errors.Is(err, step.want) {
			t.Errorf("%s: got %v, want %v", step.outcome, err, step.want)
		}
	}
	if got := query[[]byte](t, c, "SELECT public_key FROM clients"); string(got) != "one" {
		t.Errorf("public_key = %q, want the first", got)
	}
}

func TestSharedKeyLastsAsLongAsItsSession(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fenc.db")
	c := open(t, path, Options{})
	grace := register(t, c, "grace")
	shared := func() string { return query[string](t, c, "SELECT shared_key FROM clients") }
	session := func(key string) {
		if _, err := c.OpenSession(grace.ID, "grace", 3, []byte("public"), key); err != nil {
			t.Fatal(err)
		}
	}
	session("aaaa")
	session("bbbb")
	if err := c.CloseSession(grace.ID, "aaaa"); err != nil {
		t.Fatal(err)
	}
	if got := shared(); got != "bbbb" {
		t.Errorf("after the older session's end: %q, want the newer's key", got)
	}
	if err := c.CloseSession(grace.ID, "bbbb"); err != nil {
		t.Fatal(err)
	}
	if got := shared(); got != "" {
		t.Errorf("after the last session's end: %q, want nothing", got)
	}
	session("cccc")
	c.Close()
	c = open(t, path, Options{})
	if got := query[string](t, c, "SELECT shared_key FROM clients"); got != "" {
		t.Errorf("after a restart: %q, want nothing", got)
	}
}

func TestTouchReachesTheDatabaseInOneWrite(t *testing.T) {
	t.Parallel()
	path, now := filepath.Join(t.TempDir(), "fenc.db"), newClock()
	c := open(t, path, Options{Now: now.Now})
	grace := register(t, c, "grace")
	before := query[int](t, c, "SELECT total_changes()")
	for range 100 {
		now.advance(time.Second)
		c.Touch(grace.ID)
	}
	if got := query[int](t, c, "SELECT total_changes()"); got != before {
		t.Errorf("100 touches changed %d rows, want none before FlushSeen", got-before)
	}
	if got, _, _ := c.Client(grace.ID); !got.LastSeen.Equal(now.Now()) {
		t.Errorf("last seen %v, want %v", got.LastSeen, now.Now())
	}
	c.Close()
	c = open(t, path, Options{Now: now.Now})
	if got, _, _ := c.Client(grace.ID); !got.LastSeen.Equal(now.Now()) {
		t.Errorf("after a restart: last seen %v, want %v", got.LastSeen, now.Now())
	}
	if got := query[string](t, c, "SELECT strftime('%H:%M:%S', last_seen) FROM clients"); got != now.Now().Format(time.TimeOnly) {
		t.Errorf("SQLite reads last_seen as %q", got)
	}
}

func TestCommitReplacesAndLeavesGarbage(t *testing.T) { onEach(t, testCommitReplacesAndLeavesGarbage) }

func testCommitReplacesAndLeavesGarbage(t *testing.T, fresh func(*testing.T) string) {
	path, now := fresh(t), newClock()
	c := open(t, path, Options{Now: now.Now})
	grace := register(t, c, "grace")
	first, err := keep(t, c, grace, "a.txt", "a.txt", "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := keep(t, c, grace, "a.txt", "elsewhere.txt", "")
	if err != nil {
		t.Fatal(err)
	}
	if second.FilePath != "grace/a.txt" || second.Version != 2 || second.Change <= first.Change || second.Object == first.Object {
		t.Errorf("second version: %+v", second)
	}
	objects, err := c.GarbageBefore(now.Now().Add(time.Second), 10)
	if err != nil || len(objects) != 1 || objects[0] != first.Object {
		t.Errorf("garbage = %v, %v, want the first object", objects, err)
	}
	if objects, _ := c.GarbageBefore(now.Now(), 10); len(objects) != 0 {
		t.Errorf("garbage before its time: %v", objects)
	}
	if err := c.Removed([]ID{first.Object}); err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, c, "SELECT count(*) FROM garbage"); got != 0 {
		t.Errorf("%d rows of garbage left", got)
	}
	if got := query[int](t, c, "SELECT count(*) FROM uploads"); got != 0 {
		t.Errorf("%d uploads left", got)
	}
	c.Close()
	c = open(t, path, Options{Now: now.Now})
	got, ok, _ := c.File(grace.ID, "a.txt")
	if !ok || got.Object != second.Object || !got.Verified || got.Size != 7 || got.Checksum != 0xcafe || got.Version != 2 {
		t.Errorf("after a restart: %+v, %v", got, ok)
	}
}

func TestCommitNeedsASeal(t *testing.T) { onEach(t, testCommitNeedsASeal) }

func testCommitNeedsASeal(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	grace := register(t, c, "grace")
	u, err := c.Begin(Upload{ClientID: grace.ID, FileName: "a", Path: "a", Protocol: 3}, Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(u.ID, nil, 0); !errors.Is(err, ErrNoUpload) {
		t.Errorf("commit of an open upload: got %v, want ErrNoUpload", err)
	}
	if err := c.Seal(u.ID, 1, Sums{CRC32: 2}, 0); err != nil {
		t.Fatal(err)
	}
	if err := c.Seal(u.ID, 3, Sums{CRC32: 4}, 0); !errors.Is(err, ErrNoUpload) {
		t.Errorf("second seal: got %v, want ErrNoUpload", err)
	}
	if err := c.Abandon(u.ID); err != nil {
		t.Fatal(err)
	}
	if sealed, _ := c.Uploads(UploadSealing); len(sealed) != 1 {
		t.Error("a verified upload was abandoned")
	}
	if _, err := c.Begin(Upload{ClientID: NewID(), FileName: "a", Path: "a"}, Bounds{}); err == nil {
		t.Error("began an upload for a client that is not there")
	}
}

func TestPathsAreChosenApart(t *testing.T) { onEach(t, testPathsAreChosenApart) }

func testPathsAreChosenApart(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{Fold: Fold})
	grace, ada := register(t, c, "grace"), register(t, c, "ada")
	for _, step := range []struct {
		outcome           string
		client            Client
		name, path, spare string
		want              string // empty: ErrPathTaken
	}{
		{"free", grace, "a", "a", "a~1", "grace/a"},
		{"another client's", ada, "a", "a", "a~1", "ada/a"},
		{"taken by another name", grace, "/a", "a", "a~2", "grace/a~2"},
		{"a file where a folder must be", grace, "a/b", "a/b", "b~3", "grace/b~3"},
		{"free in a folder", grace, "d/e", "d/e", "e~4", "grace/d/e"},
		{"a folder where the file must be", grace, "d", "d", "d~5", "grace/d~5"},
		{"neighbour of the folder is no clash", grace, "d0", "d0", "", "grace/d0"},
		{"folded to the same", grace, "A", "A", "A~6", "grace/A~6"},
		{"no spare path", grace, "./a", "a", "", ""},
		{"both taken", grace, "././a", "a", "a~2", ""},
	} {
		f, err := keep(t, c, step.client, step.name, step.path, step.spare)
		if step.want == "" {
			if !errors.Is(err, ErrPathTaken) {
				t.Errorf("%s: got %q, %v, want ErrPathTaken", step.outcome, f.FilePath, err)
			}
			continue
		}
		if err != nil || f.FilePath != step.want {
			t.Errorf("%s: got %q, %v, want %q", step.outcome, f.FilePath, err, step.want)
		}
	}
}

// Names with quotes and wildcards once reached SQL elsewhere.
func TestNameIsNeverSQL(t *testing.T) { onEach(t, testNameIsNeverSQL) }

func testNameIsNeverSQL(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	names := []string{`'; DROP TABLE clients; --`, `%`, `_`, `a%b`, `" OR 1=1`, `\`, "O'Brien"}
	for _, name := range names {
		client := register(t, c, name)
		for _, file := range names {
			if f, err := keep(t, c, client, file, file, ""); err != nil {
				t.Errorf("client %q, file %q: %v (%q)", name, file, err, f.FilePath)
			}
		}
	}
	if got := query[int](t, c, "SELECT count(*) FROM files"); got != len(names)*len(names) {
		t.Errorf("%d files, want %d", got, len(names)*len(names))
	}
}

func TestFoldersAreReadableAndApart(t *testing.T) { onEach(t, testFoldersAreReadableAndApart) }

func testFoldersAreReadableAndApart(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	folders := make(map[string]string)
	for _, name := range []string{"Grace Hopper", "grace hopper", "..", ".", ".fenc", "a/b", `a\b`, "a_b", "x.", "x", "x_", "-rf", "~root", "CON", "é", "e\u0301"} {
		client := register(t, c, name)
		folder := client.Folder
		if strings.ContainsAny(folder, `/\:`) || strings.HasPrefix(folder, ".") || folder == "" || len(folder) > 255 {
			t.Errorf("client %q has folder %q", name, folder)
		}
		if other, twice := folders[Fold(folder)]; twice {
			t.Errorf("clients %q and %q share the folder %q", name, other, folder)
		}
		folders[Fold(folder)] = name
	}
	if _, ok := folders["grace hopper"]; !ok {
		t.Errorf("an ordinary name is not its own folder: %v", folders)
	}
}

func TestWritesAtOnceAreAllKept(t *testing.T) { onEach(t, testWritesAtOnceAreAllKept) }

func testWritesAtOnceAreAllKept(t *testing.T, fresh func(*testing.T) string) {
	path := fresh(t)
	c := open(t, path, Options{})
	const clients = 100
	var taken sync.Map
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			client, err := c.Register(fmt.Sprintf("client %d", i/2), 3) // each name twice
			switch {
			case errors.Is(err, ErrNameTaken):
			case err != nil:
				t.Error(err)
			default:
				if _, twice := taken.LoadOrStore(client.Name, client.ID); twice {
					t.Errorf("%s registered twice", client.Name)
				}
			}
		})
	}
	group.Wait()
	c.Close()
	c = open(t, path, Options{})
	if got := query[int](t, c, "SELECT count(*) FROM clients"); got != clients/2 {
		t.Errorf("%d clients, want %d", got, clients/2)
	}
}

func TestClosedCatalogueSaysSo(t *testing.T) { onEach(t, testClosedCatalogueSaysSo) }

func testClosedCatalogueSaysSo(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	c.Close()
	if _, err := c.Register("grace", 3); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// A database whose file is gone wrong must end the process, not be written on.
func TestFaultOfTheDatabaseBreaksTheCatalogue(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{})
	fault := errors.New("disk I/O error")
	if err := c.write(nobody, func(*gorm.DB) error { return fault }); !errors.Is(err, ErrBroken) || !errors.Is(err, fault) {
		t.Errorf("got %v, want ErrBroken and its cause", err)
	}
	<-c.Broken()
	if _, err := c.Register("grace", 3); !errors.Is(err, ErrBroken) {
		t.Errorf("a broken catalogue took a write: %v", err)
	}
}

func TestLockedDatabaseIsUnavailableNotBroken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fenc.db")
	c, other := open(t, path, Options{}), open(t, path, Options{})
	if err := c.db.Exec("PRAGMA busy_timeout = 1").Error; err != nil {
		t.Fatal(err)
	}
	err := other.db.Transaction(func(*gorm.DB) error {
		_, err := c.Register("grace", 3)
		return err
	})
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrBroken) {
		t.Errorf("while locked: got %v, want ErrUnavailable", err)
	}
	if _, err := c.Register("grace", 3); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

func TestLostFileIsNotVerified(t *testing.T) { onEach(t, testLostFileIsNotVerified) }

func testLostFileIsNotVerified(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	grace := register(t, c, "grace")
	old, _ := keep(t, c, grace, "a", "a", "")
	now, _ := keep(t, c, grace, "a", "a", "")
	if err := c.Lost(old); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := c.File(grace.ID, "a"); !got.Verified {
		t.Error("the successor of a lost file lost its mark")
	}
	if err := c.Lost(now); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := c.File(grace.ID, "a"); got.Verified || query[bool](t, c, "SELECT verified FROM files") {
		t.Error("a lost file is still called verified")
	}
}
