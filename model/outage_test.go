package model

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gorm.io/gorm"

	"fenc/model/postgrestest"
)

// A database that is away for a moment is waited for; one that is away for longer is
// unavailable, and the catalogue goes on when it is back.
func TestPostgresIsAwayAndComesBack(t *testing.T) {
	t.Parallel()
	cluster := postgrestest.Start(t)
	c := open(t, cluster.Database(t), Options{})
	grace := register(t, c, "grace")
	if err := cluster.Stop(syscall.SIGQUIT); err != nil { // as a crash
		t.Fatal(err)
	}
	c.engine.(*shared).patience = 100 * time.Millisecond
	_, err := c.Begin(Upload{ClientID: grace.ID, FileName: "a", Path: "a", Protocol: 3}, Bounds{})
	if !errors.Is(err, ErrUnavailable) {
		t.Errorf("write: got %v, want ErrUnavailable", err)
	}
	if _, _, err := c.File(grace.ID, "a"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("look: got %v, want ErrUnavailable", err)
	}
	if err := c.Ping(context.Background()); err == nil {
		t.Error("ping: got no error")
	}
	if err := c.Err(); err != nil {
		t.Errorf("the catalogue is broken: %v", err)
	}
	c.engine.(*shared).patience = time.Minute
	waiting := make(chan error)
	go func() { waiting <- c.SetQuota("grace", 100) }()
	if err := cluster.Run(); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("what waited: %v", err)
	}
	if now, _, err := c.Client(grace.ID); err != nil || now.Quota != 100 {
		t.Errorf("got %+v, %v, want the new quota", now, err)
	}
	if _, err := keep(t, c, grace, "a", "a", ""); err != nil {
		t.Error(err)
	}
}

// A server that stands still in the middle of a write, holding a client's lock, does
// not keep others from the client for long, and its write has not happened.
func TestFrozenServerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	grace := register(t, a, "grace")
	holds, goOn := make(chan struct{}), make(chan struct{})
	frozen := make(chan error)
	a.engine.(*shared).patience = 0
	var begun time.Time
	go func() {
		frozen <- a.write(of(grace.ID), func(tx *gorm.DB) error {
			begun = time.Now() // before the database begins to wait for more
			err := tx.Model(&Client{}).Where("id = ?", grace.ID).Update("quota", 1).Error
			close(holds)
			<-goOn
			return err
		})
	}()
	<-holds
	if _, err := keep(t, b, grace, "a", "a", ""); err != nil {
		t.Errorf("the other server: %v", err)
	}
	if took := time.Since(begun); took < 2*time.Second {
		t.Errorf("the other server wrote after %s, beside a write of the same client", took)
	}
	close(goOn)
	if err := <-frozen; !errors.Is(err, ErrUnavailable) {
		t.Errorf("the frozen one: got %v, want ErrUnavailable", err)
	}
	if now, _, err := b.Client(grace.ID); err != nil || now.Quota != 0 {
		t.Errorf("got %+v, %v, want nothing of the frozen write", now, err)
	}
}

// Who waits for a client's lock leaves connections for others.
func TestManyWaitingWritesLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	grace, ada := register(t, a, "grace"), register(t, a, "ada")
	var waiting sync.WaitGroup
	err := b.write(of(grace.ID), func(*gorm.DB) error {
		for i := range 2 * connections {
			waiting.Go(func() {
				if err := a.CloseSession(grace.ID, "x"); err != nil {
					t.Error(err)
				}
				_, err := a.Begin(Upload{ClientID: grace.ID, FileName: fmt.Sprint(i), Path: fmt.Sprint(i), Protocol: 3}, Bounds{})
				if err != nil {
					t.Error(err)
				}
			})
		}
		_, err := keep(t, a, ada, "a", "a", "")
		return err
	})
	if err != nil {
		t.Error(err)
	}
	waiting.Wait()
	if n := len(a.engine.(*shared).gates.open); n != 0 {
		t.Errorf("%d gates are left, want none", n)
	}
}

// Different clients do not wait for each other.
func TestClientsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	a, b := pair(t, Options{})
	grace, ada := register(t, a, "grace"), register(t, a, "ada")
	err := a.write(of(grace.ID), func(*gorm.DB) error {
		_, err := keep(t, b, ada, "a", "a", "")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The address may have what PostgreSQL's clients know: several hosts of which the
// first that writes is taken, and ways to do without prepared statements, which some
// that stand between do not pass on.
func TestAddressesOfPostgres(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(u *url.URL, query url.Values){
		"several hosts": func(u *url.URL, query url.Values) {
			u.Host = "127.0.0.1:1," + u.Host
			query.Set("target_session_attrs", "read-write")
		},
		"exec":            func(u *url.URL, query url.Values) { query.Set("default_query_exec_mode", "exec") },
		"simple protocol": func(u *url.URL, query url.Values) { query.Set("default_query_exec_mode", "simple_protocol") },
		"describe":        func(u *url.URL, query url.Values) { query.Set("default_query_exec_mode", "describe_exec") },
		"postgresql":      func(u *url.URL, query url.Values) { u.Scheme = "postgresql" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(postgrestest.NewLine(t).Address)
			if err != nil {
				t.Fatal(err)
			}
			query := u.Query()
			change(u, query)
			u.RawQuery = query.Encode()
			c := open(t, u.String(), Options{Destinations: []string{"webhook"}})
			invite(t, c, Invite{TokenHash: Hash{1}, Rights: AllRights, ExpiresAt: Time{time.Now().Add(time.Hour)}})
			grace, _, err := admit(c, 1, "grace", Hash{1}, RegistrationInvite)
			if err != nil {
				t.Fatal(err)
			}
			up := begin(t, c, grace, `"a" \ 'ä'`, 5)
			if err := c.HoldChunks(up.ID, []Chunk{{UploadID: up.ID, Number: 0, Hash: Hash{3}, Mark: "m"}}); err != nil {
				t.Fatal(err)
			}
			epoch, err := c.Lease(up.ID, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Seal(up.ID, 5, Sums{BLAKE3: Hash{2}}, epoch); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Commit(up.ID, &Tree{ChunkSize: 4, Hashes: []byte{0, 1, '\\', '\'', 255}}, epoch); err != nil {
				t.Fatal(err)
			}
			tree, ok, err := c.Tree(up.ID)
			if err != nil || !ok || string(tree.Hashes) != "\x00\x01\\'\xff" {
				t.Errorf("tree: got %q, %v", tree.Hashes, err)
			}
			ids, err := c.Reserve(2)
			if err != nil {
				t.Fatal(err)
			}
			out, err := c.CommitSmall([]SmallFile{{Client: grace.ID, Name: "b", Size: 1, Digest: Hash{9}, Object: NewID()}}, &ids[0], Bounds{Files: 10, Bytes: 100})
			if err != nil || out[0].Err != nil {
				t.Fatalf("small: got %+v, %v", out, err)
			}
			c.Touch(grace.ID)
			if err := c.FlushSeen(); err != nil {
				t.Error(err)
			}
			if newest, all, err := c.HeardLast(3); err != nil || all != 1 || newest[0].Files != 2 || newest[0].Bytes != 6 {
				t.Errorf("heard last: got %+v, %d, %v", newest, all, err)
			}
			if err := c.Revoke("grace"); err != nil {
				t.Error(err)
			}
			if changed, err := c.Reload(); err != nil || len(changed) != 1 {
				t.Errorf("reload: got %v, %v", changed, err)
			}
			if due, err := c.Due("webhook", nil, 10); err != nil || len(due) == 0 {
				t.Errorf("due: got %v, %v", due, err)
			}
		})
	}
}

// A standby that is not waited for is told of; one that is, is not. What takes the
// standby's place only keeps the log, as far as the database can tell.
func TestDoubtsOfAStandby(t *testing.T) {
	t.Parallel()
	cluster := postgrestest.Start(t)
	database := cluster.Database(t)
	c := open(t, database, Options{})
	ctx, stop := context.WithCancel(t.Context())
	standby := exec.CommandContext(ctx, cluster.Program("pg_receivewal"), "--host", cluster.Folder(), "--username", "fenc", "--directory", t.TempDir(),
		"--synchronous", "--no-loop", "--no-password")
	if err := standby.Start(); err != nil {
		t.Fatal(err)
	}
	defer standby.Wait()
	defer stop()
	until := func(what string, want bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; {
			doubts, err := c.Doubts(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(strings.Join(doubts, "\n"), "no standby is synchronous") == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the database is doubted for %q", what, doubts)
			}
		}
	}
	until("a standby that nobody waits for", true)
	cluster.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	cluster.Exec(t, "SELECT pg_reload_conf()")
	until("a standby that is waited for", false)

	// Who may not see standbys is told as well that they are not waited for.
	cluster.Exec(t, "CREATE ROLE plain LOGIN IN ROLE pg_read_all_data")
	cluster.Exec(t, "ALTER ROLE plain SET synchronous_commit = local")
	plain, err := Open(strings.Replace(database, "postgres://fenc@", "postgres://plain@", 1), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if doubts, err := plain.Doubts(ctx); err != nil || !strings.Contains(strings.Join(doubts, "\n"), "synchronous_commit is local") {
		t.Errorf("commits that wait for no standby: got %q, %v", doubts, err)
	}
}

// What the database says is told, but for its address.
func TestRefusalOfPostgresIsTold(t *testing.T) {
	t.Parallel()
	address := strings.Replace(postgrestest.Database(t), "postgres://fenc@", "postgres://nobody:secret@", 1)
	_, err := Open(address, Options{Beside: true})
	if err == nil || !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), `role "nobody" does not exist`) {
		t.Errorf("got %v, want that there is no such role", fmt.Sprint(err))
	}
}
