package watch

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"

	"fenc/modes/send"
	"fenc/modes/send/walk"
	"fenc/modes/watch/queue"
)

// patience is how often a file may be found changed, with Once, before it is left for
// the next run.
const patience = 5

// candidate is a file that has changed a short while ago.
type candidate struct {
	folder   *folder
	key      queue.Key
	state    send.State
	deadline time.Time // until when it must be left alone
	told     bool      // the system has told of changes since state
	changes  int       // found when the deadline was reached
	index    int       // in the heap
}

// settling holds files until they have been left alone for long enough. Its methods
// may be called from any goroutine.
type settling struct {
	mu    sync.Mutex
	files map[queue.Key]*candidate
	heap  byDeadline
	wake  chan struct{} // has an element when next may be earlier
}

func newSettling() *settling {
	return &settling{files: make(map[queue.Key]*candidate), wake: make(chan struct{}, 1)}
}

// touch notes that the system has told of a change of a file; it returns false for a
// file that is not settling.
func (s *settling) touch(k queue.Key, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.files[k]
	if c == nil {
		return false
	}
	c.told, c.deadline = true, now.Add(c.folder.Settle)
	heap.Fix(&s.heap, c.index)
	return true
}

// put has a file settle until the deadline, where it does not already.
func (s *settling) put(c *candidate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[c.key] != nil {
		return
	}
	s.files[c.key] = c
	heap.Push(&s.heap, c)
	if c.index == 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// due takes out the files whose deadline has come.
func (s *settling) due(now time.Time) []*candidate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []*candidate
	for len(s.heap) > 0 && !s.heap[0].deadline.After(now) {
		c := heap.Pop(&s.heap).(*candidate)
		delete(s.files, c.key)
		due = append(due, c)
	}
	return due
}

// next returns the earliest deadline.
func (s *settling) next() (at time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heap) == 0 {
		return at, false
	}
	return s.heap[0].deadline, true
}

// byDeadline implements heap.Interface.
type byDeadline []*candidate

func (h byDeadline) Len() int           { return len(h) }
func (h byDeadline) Less(i, j int) bool { return h[i].deadline.Before(h[j].deadline) }
func (h byDeadline) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *byDeadline) Push(x any) {
	c := x.(*candidate)
	c.index = len(*h)
	*h = append(*h, c)
}

func (h *byDeadline) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return c
}

// hasSettled decides about a candidate whose deadline has come, from the file's state
// now: it has settled, or it settles until a new deadline.
func (c *candidate) hasSettled(now time.Time, state send.State) bool {
	calm := time.Unix(0, state.MTime).Add(c.folder.Settle)
	if state == c.state || c.told && !calm.After(now) {
		return true
	}
	c.state, c.deadline, c.told = state, now.Add(c.folder.Settle), false
	c.changes++
	return false
}

// settle looks at the files whose deadline has come, and queues those that have
// settled.
func (w *watch) settle(ctx context.Context) {
	due := w.settling.due(w.Now())
	look := w.newLook(nil)
	for _, c := range due {
		look.folder, look.candidate = c.folder, c
		w.walk(ctx, c.folder, c.key.Path, look)
		if len(look.seen) > 0 { // a folder has taken the file's place
			look.flush()
		}
	}
	look.flush()
}

// settled is look.File for a candidate.
func (l *look) settled(file walk.File) {
	c := l.candidate
	switch state := send.StateOf(file.Info); {
	case c.hasSettled(l.watch.Now(), state):
		l.ready = append(l.ready, queue.File{Key: c.key, State: state})
	case l.watch.Once && c.changes > patience:
		l.watch.reports.problem(file.Path, errors.New("keeps changing: left for the next run"))
	default:
		l.watch.settling.put(c)
	}
}
