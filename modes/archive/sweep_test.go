package archive

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fenc/model"
)

// sweep removes all garbage whose grace is over.
func (a *Archive) sweep() error {
	for {
		if more, err := a.sweepSome(); err != nil || !more {
			return err
		}
	}
}

// However much there is to remove, upkeep is done with it at once: it once removed a
// thousand a minute, and who replaced files faster than that filled the disk. Its first
// turn is at the start: a server that did not live for a minute removed nothing.
func TestUpkeepRemovesAllGarbage(t *testing.T) {
	t.Parallel()
	for name, spent := range map[string]struct{ before, during time.Duration }{
		"while it runs": {0, garbageGrace + 2*sweepEvery}, "when it starts": {garbageGrace + 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				s := newSiteIn(t, dir, filepath.Join(dir, "fenc.db"))
				if _, err := s.Catalogue.Reserve(3*garbageAtOnce + 1); err != nil {
					t.Fatal(err)
				}
				time.Sleep(spent.before)
				ctx, cancel := context.WithCancel(t.Context())
				var upkeep sync.WaitGroup
				upkeep.Go(func() { s.Run(ctx) })
				time.Sleep(spent.during)
				synctest.Wait()
				cancel()
				upkeep.Wait()
				left, err := s.Catalogue.GarbageBefore(time.Now(), 1)
				if err != nil || len(left) > 0 {
					t.Errorf("garbage is left: %v, %v", left, err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				s.Archive = nil // nothing to end behind the test
			})
		})
	}
}

// What expires waits for the second turn: at the start the clock may be wrong, and clients
// have not come back yet.
func TestNothingExpiresAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := newSiteIn(t, dir, filepath.Join(dir, "fenc.db"))
		s.mustSend(t, "a", []byte("a"))
		s.SetPolicy(Policy{Retention: model.Retention{ExpireAfter: time.Hour}})
		time.Sleep(2 * time.Hour)
		there := func() bool {
			_, ok, err := s.Catalogue.File(s.client.ID, "a")
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		ctx, cancel := context.WithCancel(t.Context())
		var upkeep sync.WaitGroup
		upkeep.Go(func() { s.Run(ctx) })
		synctest.Wait()
		if !there() {
			t.Error("the file has expired at the start")
		}
		time.Sleep(2 * sweepEvery)
		synctest.Wait()
		if there() {
			t.Error("the file has not expired a minute later")
		}
		cancel()
		upkeep.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s.Archive = nil // nothing to end behind the test
	})
}

// A server that takes a small file now and then reserves few ids, which the sweep has to
// remove again; one that takes many asks the catalogue seldom.
func TestIdsAreReservedAsTheyAreNeeded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	now := time.Now()
	s.now = func() time.Time { return now }
	reserved := func(n int) int {
		t.Helper()
		if _, err := s.reserved(n); err != nil {
			t.Fatal(err)
		}
		return s.small.reserving
	}
	if got := reserved(1); got != reserveLeast {
		t.Errorf("the first time: %d, want %d", got, reserveLeast)
	}
	for range 10_000 {
		reserved(1)
	}
	if got := reserved(1); got != reserveMost {
		t.Errorf("after 10,000: %d, want %d", got, reserveMost)
	}
	now = now.Add(reservedFor + time.Second)
	if got := reserved(1); got != reserveLeast {
		t.Errorf("after a pause: %d, want %d", got, reserveLeast)
	}
	if got, err := s.reserved(3 * reserveMost); err != nil || len(got) != 3*reserveMost {
		t.Errorf("got %d ids, %v, want as many as are asked for", len(got), err)
	}
}
