package watch

import (
	"slices"
	"testing"
	"time"

	"fenc/modes/send"
	"fenc/modes/watch/queue"
)

var start = time.Unix(1_800_000_000, 0)

// written is the state of a file that was written to last so long after start.
func written(after time.Duration, size int64) send.State {
	return send.State{Size: size, MTime: start.Add(after).UnixNano(), Device: 1, Inode: 2, CTime: start.Add(after).UnixNano()}
}

func TestFileSettlesOnceItIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := &folder{Folder: Folder{Settle: 3 * time.Second}}
	for name, test := range map[string]struct {
		told    bool
		was     send.State
		now     time.Duration // since start
		is      send.State
		settled bool
	}{
		"as it was":                          {false, written(0, 1), 3 * time.Second, written(0, 1), true},
		"as it was, of a time in the future": {false, written(time.Hour, 1), 3 * time.Second, written(time.Hour, 1), true},
		"written, nothing told":              {false, written(0, 1), 3 * time.Second, written(time.Second, 2), false},
		"written and told, long ago":         {true, written(0, 1), 9 * time.Second, written(6*time.Second, 2), true},
		"written and told, just now":         {true, written(0, 1), 9 * time.Second, written(8*time.Second, 2), false},
		"replaced by an older one, told":     {true, written(0, 1), 9 * time.Second, written(-time.Hour, 7), true},
	} {
		c := &candidate{folder: f, state: test.was, told: test.told}
		now := start.Add(test.now)
		if got := c.hasSettled(now, test.is); got != test.settled {
			t.Errorf("%s: got settled %t, want %t", name, got, test.settled)
		}
		if !test.settled && (!c.deadline.Equal(now.Add(f.Settle)) || c.state != test.is || c.changes != 1) {
			t.Errorf("%s: got %+v, want it to settle anew from now", name, c)
		}
	}
}

func TestSettlingGivesOutWhatIsDue(t *testing.T) {
	t.Parallel()
	s := newSettling()
	f := &folder{Folder: Folder{Settle: 3 * time.Second}}
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	due := func(seconds int) (names []string) {
		for _, c := range s.due(at(seconds)) {
			names = append(names, c.key.Path)
		}
		return names
	}
	for i, name := range []string{"d", "a", "c", "b"} {
		s.put(&candidate{folder: f, key: queue.Key{Path: name}, deadline: at([]int{4, 1, 3, 2}[i])})
	}
	s.put(&candidate{folder: f, key: queue.Key{Path: "c"}, deadline: at(0)}) // settles already
	if next, ok := s.next(); !ok || !next.Equal(at(1)) {
		t.Errorf("next: got %v, %t, want a's", next, ok)
	}
	if got := due(2); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("due after 2 s: got %q, want a and b", got)
	}
	if !s.touch(queue.Key{Path: "c"}, at(2)) || s.touch(queue.Key{Path: "a"}, at(2)) {
		t.Error("touch: want true for c, which settles, and false for a, which does not")
	}
	if got := due(4); !slices.Equal(got, []string{"d"}) {
		t.Errorf("due after 4 s: got %q, want d: c was touched", got)
	}
	if got := due(5); !slices.Equal(got, []string{"c"}) {
		t.Errorf("due after 5 s: got %q, want c", got)
	}
	if _, ok := s.next(); ok || len(s.files) > 0 {
		t.Error("something is left, want nothing")
	}
}

func TestScansAreAskedForOnce(t *testing.T) {
	t.Parallel()
	s := newScans()
	one, two := &folder{Folder: Folder{Dir: "/one"}}, &folder{Folder: Folder{Dir: "/two"}}
	taken := func() (all []ask) {
		for a, ok := s.take(); ok; a, ok = s.take() {
			all = append(all, a)
		}
		return all
	}
	for _, a := range []ask{{one, "a"}, {two, "b"}, {one, "a"}, {one, "c"}} {
		s.request(a.folder, a.below)
	}
	if got := taken(); !slices.Equal(got, []ask{{one, "a"}, {two, "b"}, {one, "c"}}) {
		t.Errorf("got %v, want each once", got)
	}
	for _, a := range []ask{{one, "a"}, {two, "b"}, {one, ""}, {one, "c"}} {
		s.request(a.folder, a.below)
	}
	if got := taken(); !slices.Equal(got, []ask{{two, "b"}, {one, ""}}) {
		t.Errorf("got %v, want what all of one covers left out", got)
	}
	for i := range maxAsks + 10 {
		s.request(two, time.Duration(i).String())
	}
	if got := taken(); len(got) > maxAsks || !slices.Contains(got, ask{two, ""}) {
		t.Errorf("got %d, want all of two in place of too many", len(got))
	}

	s.again(one, start.Add(time.Minute))
	s.again(two, start.Add(time.Hour))
	if next := s.requestDue(start); !next.Equal(start.Add(time.Minute)) {
		t.Errorf("next: got %v, want one's", next)
	}
	if next := s.requestDue(start.Add(2 * time.Minute)); !next.Equal(start.Add(time.Hour)) || !slices.Equal(taken(), []ask{{one, ""}}) {
		t.Errorf("next: got %v, want two's, and one asked for", next)
	}
}
