package get4

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

// Settings are how files are got.
type Settings struct {
	session4.Settings
	Dir      string        // below which everything is written; made where it is not there
	Replace  bool          // replace local files with other content
	Attempts int           // times that a file is got again after its digest did not match
	RetryFor time.Duration // how long a connection is tried for again, from the last sign of progress
}

const (
	// atOnce bounds what is under way: that many files of up to unit bytes, fewer of
	// longer ones, or one of atOnce units or more.
	atOnce = 16
	unit   = 1 << 20
	// tolerated is what may come of a file that cannot be taken any more, in bytes.
	// The protocol has no word to stop it: more is not worth keeping the connection.
	tolerated = 1 << 20
)

// errAdrift ends a session over which content comes that nobody takes.
var errAdrift = errors.New("the rest of a file is not wanted")

// ErrNotThere: the server has nothing of that name.
var ErrNotThere = errors.New("not on the server: fenc list shows what is")

// item is a file to get.
type item struct {
	v4.Entry
	attempts int
	begun    time.Time
	adrift   bool           // more than is tolerated will come of it, to nobody
	progress *send.Progress // nil until it is on its way
}

// getting is one run.
type getting struct {
	settings Settings
	root     *os.Root
	retrying session4.Retry
	reporter send.Reporter

	// Of the one that hands out, see next.
	paths []string // not looked at yet, but for the first
	after string   // of the first: what is behind it is not listed yet
	found bool     // whether the first has anything
	queue []v4.Entry
	more  bool // there are pages behind queue
	all   bool // nothing is left to look at

	mu      sync.Mutex
	busy    map[string]bool // paths under way: two of one would write the same partial file
	again   []*item         // to be got before others
	later   []*item         // that the server may have when all else is got
	refusal error           // why the last of them waits
	adrift  bool            // the session is to end
}

// Run gets what is at paths, files or folders, and reports how each file gets on
// and ends. What a lost connection, or an earlier run, has left is gone on with. It returns
// an error when nothing more can be got.
func Run(ctx context.Context, settings Settings, me session4.Identity, paths []string, reporter send.Reporter) error {
	if settings.Waits == nil {
		settings.Waits = new(send.Waits)
	}
	if err := os.MkdirAll(settings.Dir, 0o777); err != nil {
		return fmt.Errorf("make the folder to write to: %w: choose another with --dir", err)
	}
	root, err := os.OpenRoot(settings.Dir)
	if err != nil {
		return fmt.Errorf("%w: choose another with --dir", err)
	}
	defer root.Close()
	g := &getting{
		settings: settings, root: root, reporter: reporter, paths: paths, busy: make(map[string]bool),
		retrying: session4.Retry{For: settings.RetryFor, Reporter: reporter},
	}
	run := session4.NewRun()
	err = g.retrying.Do(ctx, settings.Insist, func() (bool, error) {
		s, err := session4.Open(ctx, settings.Settings, me, run, 0)
		if err != nil {
			return false, err
		}
		defer s.Close()
		done, err := g.session(ctx, s)
		if errors.Is(err, errAdrift) {
			err = nil // another session goes on at once
		}
		return done, err
	})
	if err != nil {
		for _, i := range append(g.again, g.later...) {
			g.fail(i, err)
		}
	}
	return err
}

// session gets what it can, and reports whether that is all. The error is why
// another one is needed, or does not help.
func (g *getting) session(ctx context.Context, s *session4.Session) (done bool, err error) {
	stop := context.AfterFunc(ctx, s.Cut)
	defer stop()
	var work sync.WaitGroup
	defer func() {
		work.Wait()
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.adrift {
			g.adrift, err = false, errAdrift
		}
	}()
	all := int64(max(1, min(atOnce, s.Welcome.WindowFiles)))
	room := semaphore.NewWeighted(all) // what is asked for takes of it, lists too
	for {
		if err := room.Acquire(ctx, 1); err != nil {
			return false, err
		}
		i, err := g.next(ctx, s)
		if err != nil {
			return false, err
		}
		if i == nil {
			room.Release(1)
			work.Wait()
			if done, err := g.rest(s); done || err != nil {
				return done, err
			}
			continue
		}
		weight := max(1, min(all, int64(min(i.Size, atOnce*unit)/unit)))
		if !g.begin(i) {
			work.Wait()
			g.begin(i)
		}
		if err := room.Acquire(ctx, weight-1); err != nil {
			g.putBack(i)
			return false, err
		}
		work.Go(func() {
			defer room.Release(weight)
			g.get(ctx, s, i)
		})
	}
}

// rest says what there is to do when nothing is under way and nothing new is left:
// nothing, or something for this session, or, with an error, for another one.
func (g *getting) rest(s *session4.Session) (done bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.again) > 0 {
		return false, nil // where the session is over, next says so
	}
	if len(g.later) > 0 {
		g.again, g.later = g.later, nil
		return false, g.refusal
	}
	return true, nil
}

// next returns the next file to get; nil where there is none.
func (g *getting) next(ctx context.Context, s *session4.Session) (*item, error) {
	if err := s.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	if len(g.again) > 0 {
		i := g.again[0]
		g.again = g.again[1:]
		g.mu.Unlock()
		return i, nil
	}
	g.mu.Unlock()
	for len(g.queue) == 0 {
		if len(g.paths) == 0 {
			g.counted()
			return nil, nil
		}
		if g.found && !g.more {
			g.paths, g.after, g.found = g.paths[1:], "", false
			continue
		}
		p, err := nextPage(ctx, s, g.paths[0], g.after)
		if err != nil {
			return nil, err
		}
		g.retrying.Advance()
		if len(p.entries) == 0 && !g.found {
			g.reporter.End(nil, send.Result{Name: cmp.Or(g.paths[0], "."), Err: ErrNotThere})
		}
		g.queue, g.more, g.found = p.entries, p.more, true
		var bytes int64
		for _, e := range p.entries {
			bytes += int64(e.Size)
		}
		g.reporter.Found(int64(len(p.entries)), bytes)
		if !p.more && len(g.paths) == 1 {
			g.counted()
		}
		if n := len(p.entries); n > 0 {
			g.after = p.entries[n-1].Path
		}
	}
	e := g.queue[0]
	g.queue = g.queue[1:]
	return &item{Entry: e, begun: time.Now()}, nil
}

// counted tells, once, that all is found.
func (g *getting) counted() {
	if !g.all {
		g.all = true
		g.reporter.Counted()
	}
}

// begin notes that a path is under way, and reports whether it was not.
func (g *getting) begin(i *item) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.busy[i.Path]
	g.busy[i.Path] = true
	return !was
}

// end notes that a path is not under way.
func (g *getting) end(i *item) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.busy, i.Path)
}

// putBack has a file got again.
func (g *getting) putBack(i *item) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.again = append(g.again, i)
}

// get gets one file, and reports it or puts it back.
func (g *getting) get(ctx context.Context, s *session4.Session, i *item) {
	defer g.end(i)
	if i.progress == nil {
		i.progress = &send.Progress{Name: i.Path, Size: int64(i.Size), Acknowledged: true}
		g.reporter.Begin(i.progress)
	}
	unchanged, err := g.file(ctx, s, i)
	if i.adrift {
		i.adrift = false
		g.mu.Lock()
		g.adrift = true
		g.mu.Unlock()
		defer s.Cut()
	}
	var refusal *session4.RefusalError
	switch {
	case err == nil:
		g.retrying.Advance()
		g.reporter.End(i.progress, send.Result{
			Name: i.Path, Size: int64(i.Size), Took: time.Since(i.begun), Attempts: i.attempts + 1, Unchanged: unchanged, Checksum: "blake3 " + i.Digest.String(),
		})
	case s.Err() != nil, ctx.Err() != nil:
		g.putBack(i)
	case errors.Is(err, v4.ErrFrame):
		g.fail(i, fmt.Errorf("server %s broke the protocol: %w", g.settings.Server, err))
	case errors.As(err, &refusal) && refusal.Again:
		g.mu.Lock()
		defer g.mu.Unlock()
		g.later, g.refusal = append(g.later, i), err
	case errors.Is(err, send.ErrChecksum):
		if i.attempts++; i.attempts > g.settings.Attempts {
			i.attempts--
			g.fail(i, err)
			return
		}
		g.putBack(i)
	default:
		g.fail(i, err)
	}
}

func (g *getting) fail(i *item, err error) {
	g.reporter.End(i.progress, send.Result{Name: i.Path, Size: int64(i.Size), Took: time.Since(i.begun), Attempts: i.attempts + 1, Err: err})
}
