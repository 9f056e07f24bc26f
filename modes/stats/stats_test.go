package stats

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func counted() (*Stats, *clock) {
	c := &clock{at: time.Date(2026, 11, 25, 12, 0, 3, 0, time.UTC)}
	return newStats(c.now), c
}

func nothing() []Transfer { return nil }

func TestSessionsTellWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s, clock := counted()
	var under []Transfer
	for i := range maxTransfers + 3 {
		under = append(under, Transfer{Path: fmt.Sprint(i), Bytes: 10, Done: 5})
	}
	first := s.Begin(4, "192.0.2.1:5", func() []Transfer { return under })
	clock.pass(time.Second)
	second := s.Begin(3, "192.0.2.2:5", nothing)
	first.Admitted("grace")
	first.Received(100)
	first.Sent(7)
	first.Ended(File{Path: "a", Bytes: 100, Result: Verified})
	first.Ended(File{Path: "b", Bytes: 100, Result: Unchanged})
	first.Ended(File{Path: "c", Bytes: 100, Result: Refused, Reason: "no"})
	all := s.Sessions()
	if len(all) != 2 || all[1].Client != "" || all[1].Protocol != 3 || len(all[1].Transfers) != 0 {
		t.Fatalf("got %+v", all)
	}
	got := all[0]
	if got.Client != "grace" || got.Address != "192.0.2.1:5" || got.Files != 2 || got.Bytes != 100 || got.Sent != 7 || !got.Since.Equal(clock.now().Add(-time.Second)) {
		t.Errorf("got %+v", got)
	}
	if got.UnderWay != maxTransfers+3 || len(got.Transfers) != maxTransfers || got.Transfers[0] != under[0] {
		t.Errorf("got %d transfers of %d", len(got.Transfers), got.UnderWay)
	}
	first.End()
	second.End()
	if left := s.Sessions(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

func TestRecentAndFailuresAreTheNewest(t *testing.T) {
	t.Parallel()
	s, clock := counted()
	k := s.Begin(4, "192.0.2.1:5", nothing)
	k.Admitted("grace")
	for i := range maxRecent + 5 {
		clock.pass(time.Second)
		k.Ended(File{Path: fmt.Sprint(i), Result: Verified})
		k.Ended(File{Path: fmt.Sprint("bad ", i), Result: Failed, Reason: "disk"})
	}
	recent, failures := s.Recent(), s.Failures()
	if len(recent) != maxRecent || len(failures) != maxFailures {
		t.Fatalf("got %d and %d", len(recent), len(failures))
	}
	for i, f := range recent {
		if want := fmt.Sprint(maxRecent + 4 - i); f.Path != want || f.Client != "grace" || f.Protocol != 4 || f.Address != "192.0.2.1:5" {
			t.Fatalf("recent %d: got %+v, want %s", i, f, want)
		}
	}
	if f := failures[0]; f.Path != fmt.Sprint("bad ", maxRecent+4) || f.Reason != "disk" || !f.Ended.Equal(clock.now()) {
		t.Errorf("got %+v", f)
	}
}

func TestThroughputIsOfTheLastHour(t *testing.T) {
	t.Parallel()
	s, clock := counted()
	k := s.Begin(4, "192.0.2.1:5", nothing)
	k.Received(1)
	clock.pass(6 * time.Second) // the same ten seconds
	k.Received(2)
	k.Ended(File{Result: Verified})
	clock.pass(time.Second)
	k.Received(4)
	clock.pass(30 * time.Minute)
	k.Received(8)
	all := s.Throughput()
	if len(all) != maxPaces {
		t.Fatalf("got %d steps", len(all))
	}
	for i, want := range map[int]Throughput{
		maxPaces - 1:   {Begun: clock.now().Truncate(pace), Bytes: 8},
		maxPaces - 2:   {Begun: clock.now().Truncate(pace).Add(-pace)},
		maxPaces - 181: {Begun: clock.now().Truncate(pace).Add(-180 * pace), Bytes: 4},
		maxPaces - 182: {Begun: clock.now().Truncate(pace).Add(-181 * pace), Bytes: 3, Files: 1},
	} {
		if all[i] != want {
			t.Errorf("step %d: got %+v, want %+v", i, all[i], want)
		}
	}
	clock.pass(2 * time.Hour)
	k.Received(16) // pushes nothing out, and nothing old is shown
	var sum int64
	for _, step := range s.Throughput() {
		sum += step.Bytes
	}
	if sum != 16 {
		t.Errorf("got %d bytes in the last hour, want 16", sum)
	}
	for range 3 * maxPaces {
		clock.pass(pace)
		k.Received(1)
	}
	if sum = 0; len(s.paces.list) != maxPaces {
		t.Errorf("%d steps are kept", len(s.paces.list))
	}
	for _, step := range s.Throughput() {
		sum += step.Bytes
	}
	if sum != maxPaces {
		t.Errorf("got %d bytes, want %d", sum, maxPaces)
	}
}

func TestCountingFromManySides(t *testing.T) {
	t.Parallel()
	s := New()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			k := s.Begin(4, "192.0.2.1:5", nothing)
			k.Admitted("grace")
			for range 100 {
				k.Received(1)
				k.Ended(File{Bytes: 1, Result: Verified})
				s.Sessions()
				s.Recent()
			}
			k.End()
		})
	}
	all.Wait()
	var sum int64
	for _, step := range s.Throughput() {
		sum += step.Bytes
	}
	if sum != 800 || len(s.Sessions()) != 0 {
		t.Errorf("got %d bytes, %d sessions", sum, len(s.Sessions()))
	}
}

func BenchmarkEnded(b *testing.B) {
	k := New().Begin(4, "192.0.2.1:5", nothing)
	for b.Loop() {
		k.Received(100)
		k.Ended(File{Path: "a", Bytes: 100, Result: Verified})
	}
}
