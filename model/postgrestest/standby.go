package postgrestest

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// standbyName is what the standby of a cluster calls itself.
const standbyName = "standby"

// Standby starts a cluster that follows c, as its synchronous standby: no commit ends
// until it is there as well.
func (c *Cluster) Standby(t testing.TB) *Cluster {
	t.Helper()
	dir, err := newFolder()
	if err != nil {
		t.Fatal("postgrestest: ", err)
	}
	s := &Cluster{bin: c.bin, dir: dir, settings: c.settings}
	t.Cleanup(func() {
		if err := s.remove(); err != nil {
			t.Error("postgrestest:", err)
		}
	})
	if err := s.Follow(c); err != nil {
		t.Fatal("postgrestest: ", err)
	}
	return s
}

// Follow makes s, which does not run, the synchronous standby of a cluster, from a
// copy of that one.
func (s *Cluster) Follow(c *Cluster) error {
	// First, so that the copy is told as well: whichever is written to, waits for one.
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + standbyName + "'", "SELECT pg_reload_conf()"} {
		if err := c.exec(statement); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(s.data()); err != nil {
		return err
	}
	copied := exec.Command(c.Program("pg_basebackup"), "--pgdata", s.data(), "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync",
		"--dbname", fmt.Sprintf("host=%s user=%s application_name=%s", c.dir, role, standbyName))
	copied.Dir = s.dir
	copied.SysProcAttr = attributes()
	if text, err := copied.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, text)
	}
	if err := s.Run(); err != nil {
		return err
	}
	for end := time.Now().Add(startTimeout); ; time.Sleep(pause) {
		synchronous, err := c.ask("SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
		if err != nil || synchronous > 0 {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the standby does not follow: %s", s.log())
		}
	}
}

// Promote ends a standby's following, and returns when it can be written to. What
// commits there waits for a standby in its turn.
func (s *Cluster) Promote() error {
	promoted, err := s.ask("SELECT pg_promote()::int")
	if err == nil && promoted != 1 {
		err = fmt.Errorf("the standby is not promoted: %s", s.log())
	}
	return err
}

// CancelWaits has an operator cancel, for so long, whatever waits for a standby: it is
// committed then, and can be seen.
func (c *Cluster) CancelWaits(d time.Duration) error {
	return c.exec(fmt.Sprintf(`DO $$ DECLARE over timestamptz := clock_timestamp() + interval '%d ms'; BEGIN
		WHILE clock_timestamp() < over LOOP
			PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep';
			PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
		END LOOP;
	END $$`, d.Milliseconds()))
}
