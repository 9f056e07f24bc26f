package model

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"gorm.io/gorm"

	"fenc/model/postgrestest"
)

// Where commits wait for a standby, nothing that was answered is lost when it takes
// over: neither a commit whose wait was cut short, nor what somebody else then finds
// done, though no standby has it yet.
func TestNothingIsAnsweredThatTheStandbyLacks(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	database := primary.Database(t)
	standby := primary.Standby(t)
	c := open(t, database, Options{})
	s := c.engine.(*shared)
	s.patience = 0
	grace := register(t, c, "grace")
	names := []string{"before", "cancelled", "a", "b"}
	ids, err := c.Reserve(len(names) + 1)
	if err != nil {
		t.Fatal(err)
	}
	freeze := func(yes bool) {
		t.Helper()
		if err := standby.Freeze(yes); err != nil {
			t.Fatal(err)
		}
	}
	small := func(name string, digest Hash) error {
		out, err := c.CommitSmall([]SmallFile{{Client: grace.ID, Name: name, Size: 1, Digest: digest, Object: ids[slices.Index(names, name)]}}, nil, Bounds{})
		if err != nil {
			return err
		}
		return out[0].Err
	}
	same := func(name string, digest Hash) error {
		f, ok, err := c.File(grace.ID, name)
		for late := time.Now().Add(time.Minute); err == nil && !ok && time.Now().Before(late); { // once the database has missed who waited
			f, ok, err = c.File(grace.ID, name)
		}
		if err != nil || !ok {
			return fmt.Errorf("it is not seen: %w", err)
		}
		_, err = c.Retime(grace.ID, name, 1, digest, f.ModTime, f.Mode)
		return err
	}
	if err := small("before", Hash{1}); err != nil {
		t.Fatal(err)
	}
	if err := same("before", Hash{1}); err != nil {
		t.Fatal(err)
	}

	freeze(true)
	cancelled := cutWaitShort(t, primary)
	if err := small("cancelled", Hash{4}); !errors.Is(err, errCutShort) {
		t.Errorf("a commit whose wait for the standby an operator has cancelled: got %v, want errCutShort", err)
	}
	<-cancelled
	listed := make(chan error)
	go func() {
		_, err := c.GarbageBefore(time.Now().Add(time.Hour), 10)
		listed <- err
	}()
	for _, try := range []struct {
		what string
		do   func() error
	}{
		{"a commit", func() error { return small("a", Hash{2}) }},
		{"what stands there, offered", func() error { return same("a", Hash{2}) }},
		{"what stands there, sent again", func() error { return small("a", Hash{2}) }},
	} {
		if err := try.do(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s while the standby hears of nothing: got %v, want ErrUnavailable", try.what, err)
		}
	}
	if err := <-listed; !errors.Is(err, ErrUnavailable) {
		t.Errorf("what may be removed, while the standby hears of nothing: got %v, want ErrUnavailable", err)
	}
	freeze(false)
	if err := errors.Join(small("a", Hash{2}), same("a", Hash{2}), same("cancelled", Hash{4}), small("b", Hash{3})); err != nil {
		t.Error(err)
	}

	if objects, err := c.GarbageBefore(time.Now().Add(time.Hour), 10); err != nil || len(objects) != 1 {
		t.Errorf("what may be removed: got %v, %v, want the id that nothing was put under", objects, err)
	}

	if err := primary.Stop(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	after, err := Open(standby.Address("test1"), Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	for _, name := range names {
		if f, ok, err := after.File(grace.ID, name); err != nil || !ok {
			t.Errorf("%s at the standby: got %+v, %t, %v, want it there", name, f, ok, err)
		}
	}
}

// cutWaitShort has an operator cancel the next commit's wait for the standby; the channel
// is closed when that is done.
func cutWaitShort(t *testing.T, primary *postgrestest.Cluster) <-chan struct{} {
	cancelled := make(chan struct{})
	go func() {
		defer close(cancelled)
		primary.Exec(t, `DO $$ BEGIN
			FOR i IN 1 .. 1000 LOOP
				EXIT WHEN (SELECT COUNT(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep') > 0;
				PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
			END LOOP;
		END $$`)
	}()
	return cancelled
}

// A database that came back beside the one that took its place has connections still:
// what is read through one of them is not confirmed by a commit at the other database.
// A file that only the old one had was answered with "unchanged", and what had become a
// file's was listed as garbage.
func TestConfirmationIsOfTheDatabaseThatWasRead(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := primary.Create(t)
	standby := primary.Standby(t)
	c := open(t, standby.Address(name, primary), Options{Destinations: []string{"webhook"}}) // new connections go to the standby, once it can be written to
	c.engine.(*shared).patience = 0
	grace := register(t, c, "grace")
	ids, err := c.Reserve(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	commit := func(c *Catalogue, name string, object ID) error {
		_, err := c.CommitSmall([]SmallFile{{Client: grace.ID, Name: name, Size: 1, Digest: Hash{1}, Object: object}}, nil, Bounds{})
		return err
	}
	cancelled := cutWaitShort(t, primary)
	if err := commit(c, "lost", ids[0]); !errors.Is(err, errCutShort) {
		t.Fatalf("a commit at the old database: got %v, want errCutShort", err)
	}
	<-cancelled
	// The new one has no standby yet, and need not have one here.
	standby.Exec(t, "ALTER SYSTEM RESET synchronous_standby_names")
	standby.Exec(t, "SELECT pg_reload_conf()")
	after := open(t, standby.Address(name), Options{})
	if err := commit(after, "other", ids[1]); err != nil {
		t.Fatal(err)
	}

	begun, err := after.Offer(Upload{ClientID: grace.ID, FileName: "begun", Path: "begun", Size: 1, ChunkSize: 1 << 20, Protocol: 4}, Bounds{})
	if err != nil {
		t.Fatal(err)
	}

	pool, err := c.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	idle := func() (conns []*sql.Conn) {
		for pool.Stats().Idle > 0 {
			conn, err := pool.Conn(t.Context())
			if err != nil {
				t.Error(err)
				break
			}
			conns = append(conns, conn)
		}
		return conns
	}
	var old []*sql.Conn // connections to the old database, while they are in other hands
	goBack := func() {
		for _, conn := range idle() { // to the new one
			conn.Raw(func(any) error { return driver.ErrBadConn })
			conn.Close()
		}
		for _, conn := range old {
			conn.Close()
		}
		old = nil
	}
	oneAtTheOld := false
	if err := c.db.Callback().Query().After("gorm:query").Register("take", func(*gorm.DB) {
		if oneAtTheOld {
			oneAtTheOld, old = false, idle()
		}
	}); err != nil {
		t.Fatal(err)
	}

	// It stays so when the new one is found to wait for nobody.
	old = idle()
	c.engine.(*shared).aligned = time.Time{}
	if _, err := c.Reload(); err != nil {
		t.Fatal(err)
	}
	goBack()
	oneAtTheOld = true
	if same, err := c.Retime(grace.ID, "lost", 1, Hash{1}, 0, 0); same || err != nil {
		t.Errorf("what the new database has not: got %t, %v, want that it is not there", same, err)
	}
	goBack()
	oneAtTheOld = true
	objects, err := c.GarbageBefore(time.Now().Add(time.Hour), 10)
	if err != nil || !slices.Equal(objects, ids[:1]) {
		t.Errorf("what may be removed: got %v, %v, want %v", objects, err, ids[:1])
	}
	goBack()
	c.engine.(*shared).delivering["webhook"] = time.Now()
	oneAtTheOld = true
	if due, err := c.Due("webhook", nil, 10); err != nil || len(due) != 0 {
		t.Errorf("who is told of verified files: got %+v, %v, want nobody of what is lost", due, err)
	}
	goBack()
	oneAtTheOld = true
	if unknown, err := c.Unknown(begun.ID); unknown || err != nil {
		t.Errorf("an upload at the new database: got %t, %v, want that it is known", unknown, err)
	}
	goBack()
	cancelled = cutWaitShort(t, primary)
	if unknown, err := c.Unknown(begun.ID); !errors.Is(err, errCutShort) {
		t.Errorf("an upload that the old database has not: got %t, %v, want errCutShort", unknown, err)
	}
	<-cancelled
}

// A wait that was cut short is noticed whatever messages the database's user gets: where
// it gets errors alone, such a commit was taken for one that the standby has. Nor is an
// invite called used by who has used it, which was answered from the row alone.
func TestWaitCutShortIsNoticedWithoutWarnings(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := primary.Create(t)
	primary.Exec(t, "ALTER DATABASE "+name+" SET client_min_messages = error")
	standby := primary.Standby(t)
	c := open(t, primary.Address(name), Options{})
	c.engine.(*shared).patience = 0
	invited := Admission{Fingerprint: Hash{1}, Key: PublicKey{1}, Name: "ada", Token: Hash{2}, Registration: RegistrationInvite}
	if err := c.Invite(Invite{TokenHash: invited.Token, Rights: AllRights, ExpiresAt: Time{time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if err := standby.Freeze(true); err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		what string
		do   func() error
	}{
		{"a registration", func() error { _, err := c.Register("grace", 4); return err }},
		{"an invite", func() error { _, _, err := c.Admit(invited); return err }},
		{"the same invite, by whom it has made a client", func() error { _, _, err := c.Admit(invited); return err }},
	} {
		cancelled := cutWaitShort(t, primary)
		if err := try.do(); !errors.Is(err, errCutShort) {
			t.Errorf("%s: got %v, want errCutShort", try.what, err)
		}
		<-cancelled
	}
	if err := standby.Freeze(false); err != nil {
		t.Fatal(err)
	}
}

// Those who wait at the same time share a commit, and each look is taken before it.
func TestConfirmationsAreShared(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := primary.Create(t)
	primary.Standby(t)
	c := open(t, primary.Address(name), Options{})
	grace := register(t, c, "grace")
	ids, err := c.Reserve(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CommitSmall([]SmallFile{{Client: grace.ID, Name: "a", Size: 1, Digest: Hash{1}, Object: ids[0]}}, nil, Bounds{}); err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	for range 50 {
		asking.Go(func() {
			if same, err := c.Retime(grace.ID, "a", 1, Hash{1}, 0, 0); !same || err != nil {
				t.Errorf("what stands there: got %t, %v", same, err)
			}
			looked := false
			if err := c.engine.confirm(func(*gorm.DB) error { looked = true; return nil }); err != nil || !looked {
				t.Errorf("confirmed: %t, %v", looked, err)
			}
		})
	}
	asking.Wait()
}
