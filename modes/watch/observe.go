package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/fsnotify/fsnotify"

	"fenc/modes/watch/queue"
)

// blindRescan is how often all is looked through at least where the system does not
// tell of all changes.
const blindRescan = time.Minute

// watchedFolders are the folders of which the system tells changes.
type watchedFolders struct {
	mu    sync.Mutex
	paths map[string]struct{}
	// short is whether some cannot be, shortNow whether that was seen since begin.
	short, shortNow bool
}

func newWatchedFolders() watchedFolders { return watchedFolders{paths: make(map[string]struct{})} }

// begin begins a look at everything.
func (s *watchedFolders) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shortNow = false
}

// startNotifier has the system tell of changes, where it can.
func (w *watch) startNotifier() {
	notify, err := w.Notifier()
	if err != nil {
		w.Log.Warn("the system does not tell of changes: folders are looked through instead", "every", blindRescan, "error", err, "remedy", limitRemedy(err))
		return
	}
	w.notify = notify
}

// rescanAfter is how long to wait before a folder is looked through again.
func (w *watch) rescanAfter(f *folder) time.Duration {
	_, err := os.Stat(f.Dir)
	w.watched.mu.Lock()
	defer w.watched.mu.Unlock()
	if w.watched.short && !w.watched.shortNow {
		w.watched.short = false
		w.Log.Info("the system tells of all changes again")
	}
	if w.notify == nil || w.watched.short || err != nil {
		return min(f.Rescan, blindRescan)
	}
	return f.Rescan
}

// watchFolder has the system tell of changes in a folder.
func (w *watch) watchFolder(path string) {
	if w.notify == nil {
		return
	}
	s := &w.watched
	s.mu.Lock()
	defer s.mu.Unlock()
	switch err := w.notify.Add(path); {
	case err == nil:
		s.paths[path] = struct{}{}
	case isLimit(err):
		s.shortNow = true
		if !s.short {
			s.short = true
			w.Log.Warn("no more folders can be watched: those beyond are looked through instead", "watched", len(s.paths), "every", blindRescan, "folder", path, "error", err, "remedy", limitRemedy(err))
		}
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fsnotify.ErrClosed):
		// What is not there is no matter, and that it must not be listed is said elsewhere.
		w.reports.problem(path, err)
	}
}

// isLimit reports whether the system has no room for another watch.
func isLimit(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// limitRemedy says which limit to raise (inotify(7)).
func limitRemedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "raise fs.inotify.max_user_watches, as in sysctl fs.inotify.max_user_watches=1048576, and keep it in /etc/sysctl.d"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "raise fs.inotify.max_user_instances (sysctl), or the number of open files (ulimit -n)"
	}
	return "exclude folders that need not be watched"
}

// unwatchFolder ends the watches of a folder that is gone from its path, and of all
// below it: they would tell of changes under paths that are no more.
func (w *watch) unwatchFolder(path string) {
	s := &w.watched
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, is := s.paths[path]; !is {
		return
	}
	for at := range s.paths {
		if at == path || strings.HasPrefix(at, path+string(filepath.Separator)) {
			delete(s.paths, at)
			w.notify.Remove(at) // which may have ended with the folder
		}
	}
}

// observe follows what the system tells, lets files settle, and asks for looks at
// everything from time to time, until ctx ends.
func (w *watch) observe(ctx context.Context) {
	var events chan fsnotify.Event
	var faults chan error
	if w.notify != nil {
		events, faults = w.notify.Events, w.notify.Errors
	}
	alive := w.watchdog()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			w.event(e)
			continue
		case err, ok := <-faults:
			if !ok {
				faults = nil
				continue
			}
			w.lost(err)
			continue
		case <-alive:
			w.Notify(daemon.SdNotifyWatchdog)
			continue
		case <-w.settling.wake:
		case <-timer.C:
			w.settle(ctx)
		}
		next := w.scans.requestDue(w.Now())
		if at, ok := w.settling.next(); ok && (next.IsZero() || at.Before(next)) {
			next = at
		}
		if next.IsZero() {
			next = w.Now().Add(time.Hour)
		}
		timer.Reset(max(0, next.Sub(w.Now())))
	}
}

// watchdog ticks as often as systemd wants to hear that the process is alive.
func (w *watch) watchdog() <-chan time.Time {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return nil
	}
	return time.Tick(interval / 2)
}

// lost is when the system has not told of everything.
func (w *watch) lost(err error) {
	if errors.Is(err, fsnotify.ErrEventOverflow) {
		w.Log.Warn("more changes than the system could tell of: all is looked through")
	} else {
		w.Log.Warn("the system failed to tell of changes: all is looked through", "error", err)
	}
	for _, f := range w.folders {
		w.scans.request(f, "")
	}
}

// event follows what the system tells of a path. Nothing here takes long: the system
// keeps only so many events.
func (w *watch) event(e fsnotify.Event) {
	f, below := w.folderOf(e.Name)
	if f == nil {
		return
	}
	if e.Has(fsnotify.Rename) || e.Has(fsnotify.Remove) {
		w.unwatchFolder(e.Name)
		if below == "" {
			w.scans.request(f, "") // which says that it is gone, and waits for it
		}
		return
	}
	if below == "" || w.settling.touch(queue.Key{Root: f.Dir, Path: below}, w.Now()) {
		return
	}
	info, err := os.Lstat(e.Name)
	if err != nil {
		return
	}
	if info.IsDir() && !e.Has(fsnotify.Create) {
		return // what happens in it is told of itself
	}
	w.scans.request(f, below)
}

// folderOf returns the folder that a path is in.
func (w *watch) folderOf(path string) (*folder, string) {
	for _, f := range w.folders {
		if below, ok := f.below(path); ok {
			return f, below
		}
	}
	return nil, ""
}
