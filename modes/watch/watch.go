// Package watch sends what appears or changes in folders, for as long as it runs: it
// observes them, waits until a file has settled, has it wait in a queue that outlives
// the process, and sends it by protocol 4 as soon as the server can be reached.
package watch

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/dustin/go-humanize/english"
	"github.com/fsnotify/fsnotify"

	"fenc/modes/send/walk"
	"fenc/modes/send4"
	"fenc/modes/session4"
	"fenc/modes/watch/queue"
)

// After is what becomes of a file that was verified and has not changed since.
type After string

// What may become of it.
const (
	Keep   After = "keep"
	Remove After = "remove"
	Move   After = "move"
)

// Folder is a folder that is watched.
type Folder struct {
	Dir    string // absolute path
	Name   string // what the names at the server begin with; empty: nothing before the path below Dir
	Walk   walk.Options
	Settle time.Duration // how long a file must be left alone before it is sent
	Rescan time.Duration // how often all is looked through
	After  After
	MoveTo string // absolute path, for Move
}

// Target is the server to send to, and who sends.
type Target struct {
	send4.Settings
	Me session4.Identity
	// Client tells clients of different servers apart.
	Client string
}

// Settings say what is watched, and where what is found goes.
type Settings struct {
	Folders []Folder
	Queue   *queue.Queue
	// Connect is asked before each connection: what it depends on may have changed.
	Connect func() (Target, error)
	// Explain adds to an error of a connection what to do about it.
	Explain func(error) error
	// Once ends when all that there is was sent, or cannot be.
	Once bool
	Log  *slog.Logger
	// Notify is told how the process is, in the words of sd_notify(3).
	Notify func(state string)
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// Notifier makes what tells of changes; nil is fsnotify.NewWatcher.
	Notifier func() (*fsnotify.Watcher, error)
}

// Leftover is the error of a run with Once after which files are left.
type Leftover struct {
	Files int64
}

func (e *Leftover) Error() string {
	return english.Plural(int(e.Files), "file", "") + " not verified: fenc watch --status says why, and the next run tries again"
}

// watch is a run.
type watch struct {
	Settings
	folders  []*folder
	settling *settling
	scans    scans
	reports  complaints

	adding sync.Mutex    // one look at the queue and addition to it at a time
	added  chan struct{} // has an element when something was added

	asides sync.Mutex // held while a file is taken aside, or put back

	notify  *fsnotify.Watcher // nil: there is none
	watched watchedFolders

	deliverer *deliverer
	fail      context.CancelCauseFunc
}

// folder is a Folder at work.
type folder struct {
	Folder
	walker *walk.Walker
}

// path is the path of what is below the folder.
func (f *folder) path(below string) string { return filepath.Join(f.Dir, filepath.FromSlash(below)) }

// name is what it is called at the server.
func (f *folder) name(below string) string { return path.Join(f.Name, below) }

// below is the path below the folder of what is at a path; ok is false where that is
// not in it. The folder itself is "".
func (f *folder) below(at string) (below string, ok bool) {
	if at == f.Dir {
		return "", true
	}
	below, ok = strings.CutPrefix(at, strings.TrimSuffix(f.Dir, string(filepath.Separator))+string(filepath.Separator))
	return filepath.ToSlash(below), ok
}

// Run watches until ctx ends, which is no error, or with Once until everything was
// tried. The error is then a *Leftover, that of the last connection, or that of ctx.
func Run(ctx context.Context, settings Settings) error {
	w := &watch{
		Settings: settings, settling: newSettling(), added: make(chan struct{}, 1), watched: newWatchedFolders(), scans: newScans(),
	}
	if w.Now == nil {
		w.Now = time.Now
	}
	if w.Notifier == nil {
		w.Notifier = fsnotify.NewWatcher
	}
	var roots []string
	for _, f := range settings.Folders {
		walker, err := walk.New(f.Walk)
		if err != nil {
			return err
		}
		w.folders = append(w.folders, &folder{f, walker})
		roots = append(roots, f.Dir)
	}
	w.Queue.Serve(roots)
	w.reports.log, w.reports.changed = w.Log, true // whatever an earlier run has left
	ctx, w.fail = context.WithCancelCause(ctx)
	defer w.fail(nil)
	w.deliverer = newDeliverer(w)
	if w.Once {
		return w.once(ctx)
	}
	return w.forever(ctx)
}

// forever is Run without Once.
func (w *watch) forever(ctx context.Context) error {
	w.startNotifier()
	if w.notify != nil {
		defer w.notify.Close()
	}
	for _, f := range w.folders {
		w.Log.Info("watching", "folder", f.Dir, "as", f.Name, "settle", f.Settle, "rescan", f.Rescan, "after", f.After)
		w.scans.request(f, "")
	}
	w.Notify(ready)
	var work sync.WaitGroup
	work.Go(func() { w.scanForever(ctx) })
	work.Go(func() { w.deliverer.forever(ctx) })
	w.observe(ctx)
	work.Wait()
	w.Notify(daemon.SdNotifyStopping)
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// once is Run with Once: it looks, waits until all has settled, and sends.
func (w *watch) once(ctx context.Context) error {
	for _, f := range w.folders {
		w.scan(ctx, f, "")
	}
	for w.settleAll(ctx) {
	}
	err := ctx.Err()
	if err == nil {
		err = w.deliverer.once(ctx)
	}
	w.saveProblems()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	left, err := w.Queue.Summary()
	if err != nil {
		return err
	}
	if left := left.Waiting + w.reports.problems(); left > 0 {
		return &Leftover{left}
	}
	return nil
}

// saveProblems has the queue remember what cannot be sent, where that has changed.
func (w *watch) saveProblems() {
	reasons, changed := w.reports.listProblems()
	if !changed {
		return
	}
	var problems []queue.Problem
	for path, reason := range reasons {
		for _, f := range w.folders {
			if below, in := f.below(path); in {
				problems = append(problems, queue.Problem{Key: queue.Key{Root: f.Dir, Path: below}, Reason: reason})
				break
			}
		}
	}
	if err := w.Queue.SetProblems(problems); err != nil {
		w.fail(err)
	}
}

// settleAll waits for the next files to settle; it returns false when none is left.
func (w *watch) settleAll(ctx context.Context) bool {
	at, ok := w.settling.next()
	if !ok {
		return false
	}
	select {
	case <-time.After(at.Sub(w.Now())):
	case <-ctx.Done():
		return false
	}
	w.settle(ctx)
	return true
}
