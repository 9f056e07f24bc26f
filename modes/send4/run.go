// Package send4 sends files by protocol 4: small ones whole and many at a time,
// large ones by chunks that a later session goes on with, over one connection or
// several, again and again until they are verified or nothing helps.
package send4

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

// Settings are how files are sent.
type Settings struct {
	session4.Settings
	Streams  int           // connections, 1 or more
	Attempts int           // times that a file is sent again after its digest did not match, or it changed
	RetryFor time.Duration // how long a connection is tried for again, from the last sign of progress
	// Digests remembers the digests of unchanged local files; nil: nothing does.
	Digests Digests
}

// Digests remembers digests of local files between runs.
type Digests interface {
	Get(info fs.FileInfo) ([32]byte, bool)
	Put(info fs.FileInfo, digest [32]byte, read time.Time)
}

// Item is a file to send.
type Item struct {
	Path string // to open
	Name string // to send it under
	// Spool is whether the file at Path is a copy that was made to be sent.
	Spool bool

	attempts int // sent and found wanting
	begun    time.Time
	progress *send.Progress // nil until it is on its way
}

// source is the path of the file that the user knows.
func (i *Item) source() string {
	if i.Spool {
		return ""
	}
	return i.Path
}

// engine is one run.
type engine struct {
	settings Settings
	me       session4.Identity
	run      *session4.Run
	next     func() (Item, bool)
	reporter send.Reporter

	retrying session4.Retry

	mu    sync.Mutex
	again []Item // to be sent by the next session
	done  bool   // next has no more
}

// Run sends the items that next gives, until it gives no more, and reports how each
// gets on and ends. first, unless nil, is a session that is open already.
//
// A connection that is lost is made again, for as long as Settings.RetryFor allows;
// what was under way goes on where the server has it. Run returns an error when
// nothing more can be sent; items that next has given have been reported with it
// then, others have not been asked for.
func Run(ctx context.Context, settings Settings, me session4.Identity, run *session4.Run, first *session4.Session, next func() (Item, bool), reporter send.Reporter) error {
	if settings.Waits == nil {
		settings.Waits = new(send.Waits)
	}
	e := &engine{settings: settings, me: me, run: run, reporter: reporter, retrying: session4.Retry{For: settings.RetryFor, Reporter: reporter}}
	e.next = e.source(next)
	err := e.retrying.Do(ctx, first != nil || settings.Insist, func() (bool, error) {
		session := first
		first = nil
		if err := e.session(ctx, session); err != nil {
			return false, err
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.done && len(e.again) == 0, nil
	})
	if err != nil {
		for _, item := range e.again {
			e.fail(item, 0, err)
		}
	}
	return err
}

// source gives what is to be sent again before what is new.
func (e *engine) source(next func() (Item, bool)) func() (Item, bool) {
	var asking sync.Mutex
	return func() (Item, bool) {
		asking.Lock()
		defer asking.Unlock()
		e.mu.Lock()
		if n := len(e.again); n > 0 {
			item := e.again[0]
			e.again = e.again[1:]
			e.mu.Unlock()
			return item, true
		}
		done := e.done
		e.mu.Unlock()
		if done {
			return Item{}, false
		}
		item, ok := next()
		item.begun = time.Now()
		if !ok {
			e.mu.Lock()
			e.done = true
			e.mu.Unlock()
		}
		return item, ok
	}
}

// advance notes that something got on.
func (e *engine) advance() { e.retrying.Advance() }

// putBack has an item sent by the next session.
func (e *engine) putBack(item Item) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.again = append(e.again, item)
}

// begin makes an item's progress where it has none yet.
func (e *engine) begin(item *Item, size int64, acknowledged bool) {
	if item.progress == nil {
		item.progress = &send.Progress{Name: item.Name, Size: size, Acknowledged: acknowledged}
		e.reporter.Begin(item.progress)
	}
}

func (e *engine) fail(item Item, size int64, err error) {
	if item.progress != nil {
		size = item.progress.Size
	}
	e.reporter.End(item.progress, send.Result{Name: item.Name, Size: size, Took: time.Since(item.begun), Attempts: item.attempts + 1, Err: err})
}

func (e *engine) succeed(item Item, state send.State, r *v4.Received) {
	e.advance()
	e.reporter.End(item.progress, send.Result{
		Name: item.Name, Path: item.source(), Size: int64(r.Size), Took: time.Since(item.begun), Attempts: item.attempts + 1,
		Checksum: "blake3 " + r.Digest.String(), Unchanged: r.Unchanged, State: state,
	})
}

// retry decides what becomes of an item that an attempt has not verified: sent
// again, by this run's next session where the session is over, or reported.
func (e *engine) retry(s *sending, item Item, size int64, err error) {
	var refusal *session4.RefusalError
	switch {
	case s.over() != nil:
		e.putBack(item) // its error, if it matters, is the session's
	case errors.As(err, &refusal) && refusal.Again:
		// The server may do better in a while: the session ends, and backs off.
		e.putBack(item)
		s.giveUp(refusal)
	case errors.Is(err, errMismatch) || errors.Is(err, send.ErrChanged):
		if item.attempts++; item.attempts > e.settings.Attempts {
			item.attempts--
			if errors.Is(err, errMismatch) {
				err = send.ErrChecksum
			}
			e.fail(item, size, err)
			return
		}
		e.putBack(item)
	case errors.Is(err, v4.ErrFrame):
		e.fail(item, size, fmt.Errorf("server %s broke the protocol: %w", e.settings.Server, err))
	default:
		e.fail(item, size, err)
	}
}
