package watch

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"fenc/modes/send"
	"fenc/modes/send4"
	"fenc/modes/session4"
	"fenc/modes/watch/queue"
	"fenc/wire/v4"
)

const (
	// linger is how long a session is kept open for what may come next.
	linger = 2 * time.Second
	// maxPause is the longest wait before the server is tried again.
	maxPause = 5 * time.Minute
	// filePause and maxFilePause are how long a file waits that was tried in vain, for
	// the first time and at most.
	filePause, maxFilePause = time.Minute, time.Hour
	// taken is how many files are taken from the queue at a time.
	taken = 256
)

// deliverer sends what waits in the queue, each file once at a time, and notes how it
// went. It implements send.Reporter.
type deliverer struct {
	send.Results // of which End is replaced
	watch        *watch
	run          *session4.Run
	byRoot       map[string]*folder

	// Of the goroutine that asks for files.
	page   []queue.File
	cursor int64 // order of the last file taken

	mu       sync.Mutex
	inFlight map[string]queue.File // by the name at the server
	ended    []send.Result         // not noted yet
	settled  []settledFile         // verified before, to be finished
	signal   chan struct{}         // has an element when something has ended

	noting sync.Mutex // one note at a time
	lost   int        // files of this session that the connection was lost for
	link   link
}

// settledFile is a file that was verified and is still the same.
type settledFile struct {
	folder *folder
	file   queue.File
}

func newDeliverer(w *watch) *deliverer {
	d := &deliverer{
		watch: w, run: session4.NewRun(), byRoot: make(map[string]*folder), inFlight: make(map[string]queue.File), signal: make(chan struct{}, 1),
	}
	for _, f := range w.folders {
		d.byRoot[f.Dir] = f
	}
	return d
}

// forever sends what waits until ctx ends. Where the server cannot be reached, or
// refuses, it is tried again after pauses that grow.
func (d *deliverer) forever(ctx context.Context) {
	var noting sync.WaitGroup
	defer noting.Wait()
	noting.Go(func() { d.noteForever(ctx) })
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 500*time.Millisecond, maxPause
	for d.awaitWork(ctx) {
		verified := d.link.verified.Load()
		err := d.session(ctx)
		lost := d.note()
		progress := d.link.verified.Load() > verified
		if progress {
			pause.Reset()
		}
		if err == nil || ctx.Err() != nil || progress && lost == 0 { // a connection may be lost that has nothing to do
			continue
		}
		wait := pause.NextBackOff()
		d.link.fault(d.watch, err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// once sends what waits, and each file that fails once.
func (d *deliverer) once(ctx context.Context) error {
	d.note() // of files that were verified before
	if _, waits, err := d.watch.Queue.Next(); err != nil || !waits {
		return err
	}
	err := d.session(ctx)
	d.note()
	if err != nil && ctx.Err() == nil {
		return d.watch.Explain(err)
	}
	return ctx.Err()
}

// awaitWork waits until a file waits that may be tried; it returns false when ctx ends.
func (d *deliverer) awaitWork(ctx context.Context) bool {
	for {
		at, ok, err := d.watch.Queue.Next()
		if err != nil {
			d.watch.fail(err)
			return false
		}
		wait := time.Hour
		if ok {
			wait = at.Sub(d.watch.Now())
		}
		if wait <= 0 {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(wait):
		case <-d.watch.added:
		case <-ctx.Done():
			return false
		}
	}
}

// session connects, and sends until nothing waits for a while. Its error is what
// ended the connection, or that there was none, while files were left.
func (d *deliverer) session(ctx context.Context) error {
	w := d.watch
	to, err := w.Connect()
	if err != nil {
		return err
	}
	again, err := w.Queue.For(to.Client)
	if err != nil {
		w.fail(err)
		return err
	}
	if again > 0 {
		w.Log.Info("another client or server than before: what was sent before is offered again", "files", again)
	}
	if !w.Once {
		to.RetryFor = 0 // forever does it, at its own pace
	}
	d.noting.Lock()
	d.lost = 0
	d.noting.Unlock()
	return send4.Run(ctx, to.Settings, to.Me, d.run, nil, func() (send4.Item, bool) { return d.next(ctx) }, d)
}

// next gives the next file that waits, as soon as there is one.
func (d *deliverer) next(ctx context.Context) (send4.Item, bool) {
	enough := time.NewTimer(linger)
	defer enough.Stop()
	for ctx.Err() == nil {
		file, ok, err := d.take()
		if err != nil {
			d.watch.fail(err)
			return send4.Item{}, false
		}
		if ok {
			f := d.byRoot[file.Root]
			return send4.Item{Path: f.path(file.Path), Name: f.name(file.Path)}, true
		}
		if d.watch.Once {
			return send4.Item{}, false
		}
		select {
		case <-d.watch.added:
		case <-enough.C:
			return send4.Item{}, false
		case <-ctx.Done():
		}
	}
	return send4.Item{}, false
}

// take takes the next file that waits and is not on its way, in the order of the queue
// and from the beginning again behind its end: a file that fails keeps none from its
// turn.
func (d *deliverer) take() (queue.File, bool, error) {
	for turned := false; ; {
		for len(d.page) > 0 {
			file := d.page[0]
			d.page = d.page[1:]
			if f := d.byRoot[file.Root]; f != nil && d.fly(f.name(file.Path), file) {
				return file, true, nil
			}
		}
		page, err := d.watch.Queue.Waiting(d.watch.Now(), d.cursor, taken)
		if err != nil {
			return queue.File{}, false, err
		}
		switch {
		case len(page) > 0:
			d.page, d.cursor = page, page[len(page)-1].Order
		case turned || d.cursor == 0:
			return queue.File{}, false, nil
		default:
			turned, d.cursor = true, 0
		}
	}
}

// fly notes that a file is on its way; it returns false where it is already.
func (d *deliverer) fly(name string, file queue.File) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, flying := d.inFlight[name]; flying {
		return false
	}
	d.inFlight[name] = file
	return true
}

// End implements send.Reporter.
func (d *deliverer) End(_ *send.Progress, r send.Result) {
	d.mu.Lock()
	d.ended = append(d.ended, r)
	d.mu.Unlock()
	if r.Err == nil {
		d.link.works(d.watch)
	}
	d.wakeNoting()
}

// Retry implements send.Reporter.
func (d *deliverer) Retry(why error, pause time.Duration) {
	d.watch.Log.Info("not sent yet: trying again", "error", why, "in", pause.Round(time.Millisecond))
}

// finish has a file removed or moved that was verified before.
func (d *deliverer) finish(f *folder, file queue.File) {
	d.mu.Lock()
	d.settled = append(d.settled, settledFile{f, file})
	d.mu.Unlock()
	d.wakeNoting()
}

func (d *deliverer) wakeNoting() {
	select {
	case d.signal <- struct{}{}:
	default:
	}
}

// isOfTheLink reports whether an error is about the connection or the client, not
// about one file.
func isOfTheLink(err error) bool {
	var connection *session4.ConnectionError
	var refusal *session4.RefusalError
	var key *v4.ServerKeyError
	return errors.Is(err, context.Canceled) || errors.As(err, &connection) || errors.As(err, &key) ||
		errors.As(err, &refusal) && (refusal.Again || refusal.Reason < v4.ReasonNotAllowed)
}

// noteForever notes how files ended until ctx ends.
func (d *deliverer) noteForever(ctx context.Context) {
	for {
		select {
		case <-d.signal:
			d.note()
		case <-ctx.Done():
			return
		}
	}
}

// note writes to the queue how files ended, says so, and finishes what was verified. It
// returns how many files the connection was lost for since a session began.
func (d *deliverer) note() (lost int) {
	d.noting.Lock()
	defer d.noting.Unlock()
	d.mu.Lock()
	ended, settled := d.ended, d.settled
	d.ended, d.settled = nil, nil
	files := make([]queue.File, len(ended))
	for i, r := range ended {
		files[i] = d.inFlight[r.Name]
	}
	d.mu.Unlock()

	w := d.watch
	now := w.Now()
	var verified, failed, gone []queue.File
	var say []func()
	for i, r := range ended {
		file := &files[i]
		switch {
		case r.Err == nil:
			file.State, file.Digest = r.State, r.Checksum
			verified = append(verified, *file)
			settled = append(settled, settledFile{d.byRoot[file.Root], *file})
		case isOfTheLink(r.Err):
			d.lost++
		case errors.Is(r.Err, fs.ErrNotExist):
			gone = append(gone, *file)
		default:
			say = append(say, d.postpone(file, r.Err, now))
			failed = append(failed, *file)
		}
	}
	if err := errors.Join(w.Queue.Verified(now, verified...), w.Queue.Failed(failed...), w.Queue.Forget(gone...)); err != nil {
		w.fail(err)
		return d.lost
	}
	d.mu.Lock()
	for _, r := range ended {
		delete(d.inFlight, r.Name)
	}
	d.mu.Unlock()
	for i, r := range ended {
		if r.Err == nil {
			f := d.byRoot[files[i].Root]
			w.Log.Info("verified", "file", f.path(files[i].Path), "as", r.Name, "bytes", r.Size, "seconds", r.Took.Seconds(), "digest", r.Checksum, "unchanged", r.Unchanged)
		}
	}
	for _, say := range say {
		say()
	}
	for _, s := range settled {
		w.finish(s.folder, s.file)
	}
	return d.lost
}

// postpone decides when a file is tried again that was tried in vain. It returns what
// says so.
func (d *deliverer) postpone(file *queue.File, why error, now time.Time) (say func()) {
	w, f := d.watch, d.byRoot[file.Root]
	at, below := f.path(file.Path), file.Path
	if errors.Is(why, send.ErrChanged) { // it settles anew
		file.NotBefore = now.Add(max(f.Settle, time.Second))
		return func() {
			w.Log.Info("changed while it was sent: it settles again", "file", at)
			w.scans.request(f, below)
		}
	}
	reason := why.Error()
	pause := maxFilePause
	if file.Tries < 6 {
		pause = filePause << file.Tries
	}
	file.NotBefore = now.Add(min(pause, maxFilePause))
	file.Tries++
	known := reason == file.Reason
	file.Reason = reason
	again := file.NotBefore.Format(time.DateTime)
	return func() {
		if !known {
			w.Log.Warn("not verified: it stays in the queue", "file", at, "error", why, "again", again)
		}
	}
}

// finish removes or moves a file that was verified, where that is wished.
func (w *watch) finish(f *folder, file queue.File) {
	at := f.path(file.Path)
	var err error
	var done []any
	w.asides.Lock()
	switch f.After {
	case Remove:
		done = []any{"removed", "file", at}
		err = send.Remove(at, file.State)
	case Move:
		to := (&folder{Folder: Folder{Dir: f.MoveTo}}).path(file.Path)
		done = []any{"moved", "file", at, "to", to}
		err = send.Move(at, file.State, to)
	}
	w.asides.Unlock()
	switch {
	case done == nil:
	case err == nil:
		w.Log.Info(done[0].(string), done[1:]...)
		w.reports.over(at)
		err = w.Queue.Forget(file)
		if err != nil {
			w.fail(err)
		}
	case errors.Is(err, fs.ErrNotExist):
		if err := w.Queue.Forget(file); err != nil {
			w.fail(err)
		}
	case errors.Is(err, send.ErrChanged) && isStill(at, file.State):
		w.reports.kept(at, err)
	case errors.Is(err, send.ErrChanged):
		w.Log.Info("has changed since it was verified: it is kept, and sent again", "file", at, "why", err)
		w.scans.request(f, file.Path)
	default:
		w.reports.stuck(at, err)
	}
}

// isStill reports whether what a walk finds at a path is in a state: where a file is
// open for writing, or a link leads to it, another look at it finds nothing new.
func isStill(path string, state send.State) bool {
	info, err := os.Stat(path)
	return err == nil && send.StateOf(info) == state
}
