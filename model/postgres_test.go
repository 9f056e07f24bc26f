package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fenc/model/postgrestest"
)

// pair opens one catalogue twice, as two servers have it.
func pair(t *testing.T, o Options) (a, b *Catalogue) {
	t.Helper()
	address := postgrestest.Database(t)
	return open(t, address, o), open(t, address, o)
}

// both calls do for 0 and 1 at once and returns what became of each.
func both(do func(i int) error) (errs [2]error) {
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = do(i) })
	}
	group.Wait()
	return errs
}

// Names and paths are in the order of their bytes, whatever the database's language.
func TestPostgresComparesBytes(t *testing.T) {
	t.Parallel()
	c := open(t, postgrestest.Database(t), Options{})
	grace := register(t, c, "grace")
	names := []string{"B", "Z-1", "a", "a b", "a-b", "a/b", "a0", "b", "ä", "é"} // by their bytes
	for _, name := range names {
		if name == "a" {
			continue // is a folder
		}
		if _, err := keep(t, c, grace, name, name, ""); err != nil {
			t.Fatal(err)
		}
	}
	files, err := c.List(grace.ID, "", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.FileName)
	}
	want := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "a" })
	if !slices.Equal(got, want) {
		t.Errorf("order: got %q, want %q", got, want)
	}
	if files, err = c.List(grace.ID, "a", "", 100); err != nil || len(files) != 1 || files[0].FileName != "a/b" {
		t.Errorf("below a: got %+v, %v, want a/b alone", files, err)
	}
}

// Several servers start at once on an empty database.
func TestTablesAreMadeOnce(t *testing.T) {
	t.Parallel()
	address := postgrestest.Database(t)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			c, err := Open(address, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	c := open(t, address, Options{})
	if got := query[int](t, c, "SELECT value FROM settings WHERE name = 'schema'"); got != schemaVersion {
		t.Errorf("schema: got %d, want %d", got, schemaVersion)
	}
	if err := c.Ping(context.Background()); err != nil {
		t.Error(err)
	}
}

// A name goes to one of two who register it at once at two servers.
func TestNameRegisteredAtTwoServers(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	for i := range 20 {
		name := fmt.Sprintf("client-%d", i)
		errs := both(func(i int) error {
			_, err := []*Catalogue{a, b}[i].Register(name, 3)
			return err
		})
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), ErrNameTaken) {
			t.Errorf("%s: got %v, want one registered and one ErrNameTaken", name, errs)
		}
	}
}

// An invite lets one of two keys in that bring it at once to two servers.
func TestInviteUsedAtTwoServers(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	for i := range 20 {
		token := Hash{1, byte(i)}
		invite(t, a, Invite{TokenHash: token, Rights: AllRights, ExpiresAt: Time{time.Now().Add(time.Hour)}})
		errs := both(func(at int) error {
			_, _, err := []*Catalogue{a, b}[at].Admit(Admission{
				Key: PublicKey{1, byte(i), byte(at)}, Fingerprint: Hash{2, byte(i), byte(at)}, Name: fmt.Sprintf("client-%d-%d", i, at), Token: token,
				Registration: RegistrationInvite,
			})
			return err
		})
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), ErrInviteUsed) {
			t.Errorf("invite %d: got %v, want one admitted and one ErrInviteUsed", i, errs)
		}
	}
}

// Two servers do not let a client have more between them than it may.
func TestQuotaAtTwoServers(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	grace := register(t, a, "grace")
	var group sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	for i := range 40 {
		group.Go(func() {
			_, err := []*Catalogue{a, b}[i%2].Offer(Upload{ClientID: grace.ID, FileName: fmt.Sprint(i), Path: fmt.Sprint(i), Size: 10, Protocol: 4}, Bounds{Bytes: 100})
			switch {
			case err == nil:
				mu.Lock()
				taken++
				mu.Unlock()
			case !errors.Is(err, ErrQuota):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if taken != 10 {
		t.Errorf("%d offers of 10 bytes were taken, want 10 of 100 bytes", taken)
	}
}

// The commits of one client have versions and changes in one order, whichever server
// they are made by.
func TestCommitsOfOneClientAtTwoServers(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{KeepVersions: 100})
	grace := register(t, a, "grace")
	var group sync.WaitGroup
	for i := range 30 {
		group.Go(func() {
			c := []*Catalogue{a, b}[i%2]
			ids, err := c.Reserve(1)
			if err != nil {
				t.Error(err)
				return
			}
			out, err := c.CommitSmall([]SmallFile{{Client: grace.ID, Name: "a", Size: int64(i), Digest: Hash{byte(i + 1)}, Object: ids[0]}}, nil, Bounds{})
			if err != nil || out[0].Err != nil || out[0].Unchanged {
				t.Errorf("commit %d: got %+v, %v", i, out, err)
			}
		})
	}
	group.Wait()
	f, ok, err := a.File(grace.ID, "a")
	if err != nil || !ok || f.Version != 30 {
		t.Fatalf("got %+v, %v, want version 30", f, err)
	}
	if seen, ok, err := b.File(grace.ID, "a"); err != nil || !ok || seen.Object != f.Object {
		t.Errorf("the other server: got %+v, %v, want the same", seen, err)
	}
	versions, err := b.Versions([]File{f})
	if err != nil || len(versions[f.ID]) != 29 {
		t.Errorf("got %d versions, %v, want 29", len(versions[f.ID]), err)
	}
}

// What one server or a command changes of a client, the others learn from Reload.
func TestRevocationIsSeenByTheOther(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	grace, ada := register(t, a, "grace"), register(t, a, "ada")
	if changed, err := b.Reload(); err != nil || len(changed) != 0 {
		t.Fatalf("nothing has changed: got %v, %v", changed, err)
	}
	if rights, err := b.Rights(grace.ID); err != nil || rights != AllRights {
		t.Fatalf("rights: got %v, %v", rights, err)
	}
	if err := a.Revoke("grace"); err != nil {
		t.Fatal(err)
	}
	changed, err := b.Reload()
	if err != nil || !slices.Equal(changed, []ID{grace.ID}) {
		t.Errorf("revoked: got %v, %v, want %v alone", changed, err, grace.ID)
	}
	if rights, err := b.Rights(grace.ID); err != nil || rights != 0 {
		t.Errorf("rights of who is revoked: got %v, %v", rights, err)
	}
	if err := a.SetRights("ada", RightSend); err != nil {
		t.Fatal(err)
	}
	if changed, err = b.Reload(); err != nil || !slices.Equal(changed, []ID{ada.ID}) {
		t.Errorf("other rights: got %v, %v, want %v alone", changed, err, ada.ID)
	}
	if changed, err = b.Reload(); err != nil || len(changed) != 0 {
		t.Errorf("nothing more has changed: got %v, %v", changed, err)
	}
}

// Leases are measured by the database's clock, not by those of the servers.
func TestLeaseAtTwoServers(t *testing.T) {
	t.Parallel()
	address := postgrestest.Database(t)
	ahead := newClock()
	ahead.advance(1000 * time.Hour)
	a, b := open(t, address, Options{}), open(t, address, Options{Now: ahead.Now})
	u := begin(t, a, register(t, a, "grace"), "a", 5)
	first, err := a.Lease(u.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lease(u.ID, time.Hour); !errors.Is(err, ErrLeased) {
		t.Errorf("leased by the other: got %v, want ErrLeased", err)
	}
	if err := a.Renew(u.ID, first, -time.Second); err != nil {
		t.Fatal(err)
	}
	errs := both(func(i int) error {
		_, err := []*Catalogue{a, b}[i].Lease(u.ID, time.Hour)
		return err
	})
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("two lease at once what is over: got %v, want one", errs)
	}
}

// One server delivers the events of a destination; when it closes, another one does.
func TestEventsAreDeliveredByOne(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{Destinations: []string{"webhook"}})
	grace := register(t, a, "grace")
	if _, err := keep(t, b, grace, "a", "a", ""); err != nil {
		t.Fatal(err)
	}
	due, err := a.Due("webhook", nil, 10)
	for late := time.Now().Add(time.Minute); err == nil && len(due) == 0 && time.Now().Before(late); {
		due, err = a.Due("webhook", nil, 10) // its clock may be a little behind that of b
	}
	if err != nil || len(due) != 1 || due[0].ClientName != "grace" {
		t.Fatalf("first: got %+v, %v", due, err)
	}
	if due, err := b.Due("webhook", nil, 10); err != nil || len(due) != 0 {
		t.Errorf("beside it: got %+v, %v, want none", due, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if due, err := b.Due("webhook", nil, 10); err != nil || len(due) != 1 {
		t.Errorf("after it: got %+v, %v, want the event", due, err)
	}
}

// No error and no name for people holds the password.
func TestPasswordIsNotEchoed(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://fenc:se%20cret@127.0.0.1:1/db?connect_timeout=1",
		"postgres://fenc:se/cret@127.0.0.1:1/db",
		"postgres://fenc:secret@127.0.0.1:port/db",
		"postgresql://fenc@127.0.0.1:1/db?password=secret&connect_timeout=1",
		"postgres://fenc:secret@127.0.0.1:1/db?sslmode=secretive",
	} {
		_, err := Open(address, Options{Beside: true})
		if err == nil || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: got %v, want an error without the password", address, err)
		}
		if name := DatabaseName(address); strings.Contains(name, "cret") {
			t.Errorf("%s is called %s", address, name)
		}
	}
	for address, want := range map[string]string{
		"postgres://fenc:x@db1:5432,db2:5433/fenc?target_session_attrs=read-write": "postgres://db1:5432,db2:5433/fenc",
		"postgres://fenc@/fenc?host=/run/postgresql":                               "postgres:///run/postgresql/fenc",
		"postgres://db": "postgres://db",
		"/srv/fenc.db":  "/srv/fenc.db",
	} {
		if got := DatabaseName(address); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}

func TestDoubts(t *testing.T) {
	t.Parallel()
	c := open(t, postgrestest.Database(t), Options{})
	doubts, err := c.Doubts(context.Background())
	if err != nil || len(doubts) != 1 || !strings.HasPrefix(doubts[0], "fsync is off") {
		t.Errorf("got %q, %v, want that fsync is off", doubts, err)
	}
}
