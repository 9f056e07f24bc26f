package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"fenc/modes/send"
	"fenc/modes/send/walk"
	"fenc/modes/watch/queue"
)

// atOnce is how many files are added to the queue together.
const atOnce = 500

// look is one look at a folder, or at something below it.
type look struct {
	watch     *watch
	folder    *folder
	candidate *candidate // the one that is looked at; nil where all is
	now       time.Time
	seen      []queue.File // not decided about
	ready     []queue.File // to be queued
	found     int64
	added     int64
	failed    bool
}

func (w *watch) newLook(f *folder) *look { return &look{watch: w, folder: f, now: w.Now()} }

// walk looks at what is below a folder. Where the queue fails, so does the run.
func (w *watch) walk(ctx context.Context, f *folder, below string, l *look) {
	if err := f.walker.WalkBelow(ctx, f.Dir, f.Name, below, l); err != nil && ctx.Err() == nil {
		w.fail(err)
	}
}

// File implements walk.Visitor.
func (l *look) File(file walk.File) error {
	l.found++
	below, _ := l.folder.below(file.Path)
	if l.candidate != nil && l.candidate.key.Path == below { // or there is a folder in its place
		l.settled(file)
		return nil
	}
	l.seen = append(l.seen, queue.File{Key: queue.Key{Root: l.folder.Dir, Path: below}, State: send.StateOf(file.Info)})
	if len(l.seen) >= atOnce {
		return l.decide()
	}
	return nil
}

// decide decides what becomes of the files that were seen.
func (l *look) decide() error {
	w, f, seen := l.watch, l.folder, l.seen
	l.seen = l.seen[:0]
	paths := make([]string, 0, len(seen))
	for _, file := range seen {
		paths = append(paths, file.Path)
	}
	known, err := w.Queue.Known(f.Dir, paths...)
	if err != nil {
		return err
	}
	for _, file := range seen {
		was, ok := known[file.Path]
		switch {
		case ok && was.State == file.State:
			if !was.Waiting && f.After != Keep {
				w.deliverer.finish(f, was)
			}
		case time.Unix(0, file.State.MTime).Add(f.Settle).After(l.now):
			w.settling.put(&candidate{folder: f, key: file.Key, state: file.State, deadline: l.now.Add(f.Settle)})
		default:
			l.ready = append(l.ready, file)
		}
	}
	return l.add()
}

// flush queues what is ready.
func (l *look) flush() {
	var err error
	if len(l.seen) > 0 {
		err = l.decide()
	}
	if err = errors.Join(err, l.add()); err != nil {
		l.watch.fail(err)
	}
}

func (l *look) add() error {
	files := l.ready
	l.ready = nil
	n, err := l.watch.add(files)
	l.added += n
	return err
}

// add queues files, but for those that the queue knows in their state by now.
func (w *watch) add(files []queue.File) (added int64, err error) {
	if len(files) == 0 {
		return 0, nil
	}
	w.adding.Lock()
	defer w.adding.Unlock()
	paths := make(map[string][]string) // by root
	for _, f := range files {
		paths[f.Root] = append(paths[f.Root], f.Path)
	}
	known := make(map[queue.Key]send.State)
	for root, paths := range paths {
		of, err := w.Queue.Known(root, paths...)
		if err != nil {
			return 0, err
		}
		for _, f := range of {
			known[f.Key] = f.State
		}
	}
	fresh := files[:0]
	for _, f := range files {
		if state, ok := known[f.Key]; !ok || state != f.State {
			fresh = append(fresh, f)
		}
	}
	if err := w.Queue.Add(w.Now(), fresh...); err != nil {
		return 0, err
	}
	if len(fresh) > 0 {
		select {
		case w.added <- struct{}{}:
		default:
		}
	}
	return int64(len(fresh)), nil
}

// Folder implements walk.FolderVisitor: a folder is watched before it is listed, so
// that nothing is missed between the two.
func (l *look) Folder(path string) error {
	if send.IsAside(filepath.Base(path)) {
		l.watch.putBack(path)
		return fs.SkipDir
	}
	l.watch.watchFolder(path)
	return nil
}

// putBack ends what an earlier process did not, which took a file aside to remove it.
func (w *watch) putBack(dir string) {
	w.asides.Lock()
	defer w.asides.Unlock()
	switch err := send.PutBack(dir); {
	case err == nil:
		w.Log.Info("put back what was taken aside to be removed when fenc watch ended", "folder", filepath.Dir(dir))
	case !errors.Is(err, fs.ErrNotExist):
		w.reports.problem(dir, err)
	}
}

// Fail implements walk.Visitor.
func (l *look) Fail(path string, err error) {
	l.failed = true
	l.watch.reports.problem(path, err)
}

// Skip implements walk.Visitor.
func (l *look) Skip(path, why string) { l.watch.reports.skipped(path, why) }

// scan looks at what is below a folder, and queues what has settled.
func (w *watch) scan(ctx context.Context, f *folder, below string) {
	l := w.newLook(f)
	if below == "" {
		w.reports.begin(f)
		w.watched.begin()
	}
	w.walk(ctx, f, below, l)
	l.flush()
	if ctx.Err() != nil {
		return
	}
	if below != "" {
		return
	}
	w.reports.end(f)
	w.Log.Debug("looked through", "folder", f.Dir, "files", l.found, "queued", l.added, "seconds", w.Now().Sub(l.now).Seconds())
	if !l.failed && l.found > 0 { // an empty folder may be a disk that is not mounted
		if err := w.forgetMissing(ctx, f, l.found); err != nil {
			w.fail(err)
		}
	}
}

// forgetMissing drops from the queue what was verified and is not there any more,
// where there is more in it than was found.
func (w *watch) forgetMissing(ctx context.Context, f *folder, found int64) error {
	known, err := w.Queue.Count(f.Dir)
	if err != nil || known <= found {
		return err
	}
	for after := ""; ctx.Err() == nil; {
		files, err := w.Queue.Files(f.Dir, after, atOnce)
		if err != nil || len(files) == 0 {
			return err
		}
		var missing []queue.File
		for _, file := range files {
			after = file.Path
			if _, err := os.Lstat(f.path(file.Path)); errors.Is(err, fs.ErrNotExist) && !file.Waiting {
				missing = append(missing, file)
			}
		}
		if err := w.Queue.Forget(missing...); err != nil {
			return err
		}
	}
	return nil
}

// scans are the looks that are asked for, one of which is taken at a time.
type scans struct {
	mu   sync.Mutex
	asks []ask
	due  map[*folder]time.Time // when a folder is looked through next
	wake chan struct{}
}

// ask is a folder, and the path below it, to look at.
type ask struct {
	folder *folder
	below  string // empty: everything
}

// maxAsks bounds the paths that are asked for; with more, all is looked through.
const maxAsks = 1000

func newScans() scans { return scans{due: make(map[*folder]time.Time), wake: make(chan struct{}, 1)} }

// request asks for a look at a path below a folder, "" for all of it.
func (s *scans) request(f *folder, below string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asks) >= maxAsks {
		below = ""
	}
	if below == "" { // which covers what is below
		kept := s.asks[:0]
		for _, a := range s.asks {
			if a.folder != f {
				kept = append(kept, a)
			}
		}
		s.asks = kept
		delete(s.due, f)
	}
	for _, a := range s.asks {
		if a == (ask{f, below}) || a == (ask{f, ""}) {
			return
		}
	}
	s.asks = append(s.asks, ask{f, below})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *scans) take() (a ask, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asks) == 0 {
		return a, false
	}
	a = s.asks[0]
	s.asks = s.asks[1:]
	return a, true
}

// again says when a folder is looked through again.
func (s *scans) again(f *folder, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due[f] = at
}

// requestDue asks for what is due, and returns when something is next.
func (s *scans) requestDue(now time.Time) (next time.Time) {
	s.mu.Lock()
	var due []*folder
	for f, at := range s.due {
		if !at.After(now) {
			due = append(due, f)
		} else if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	s.mu.Unlock()
	for _, f := range due {
		s.request(f, "")
	}
	return next
}

// scanForever takes the looks that are asked for until ctx ends.
func (w *watch) scanForever(ctx context.Context) {
	for {
		a, ok := w.scans.take()
		if !ok {
			select {
			case <-w.scans.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		w.scan(ctx, a.folder, a.below)
		if ctx.Err() != nil {
			return
		}
		w.saveProblems()
		if a.below == "" {
			w.scans.again(a.folder, w.Now().Add(w.rescanAfter(a.folder)))
			select { // the observer waits for the next look, too
			case w.settling.wake <- struct{}{}:
			default:
			}
		}
	}
}
