package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"fenc/modes/session4"
	"fenc/wire/v4"
)

// link is whether the server can be reached, and takes files. It says when that
// changes, and nothing in between.
type link struct {
	verified atomic.Int64 // files

	mu    sync.Mutex
	down  string // why nothing is sent, in short; empty: it is
	since time.Time
}

// fault notes that nothing is sent for now.
func (l *link) fault(w *watch, err error, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kind := kindOf(err)
	if l.down == "" {
		l.since = w.Now()
	}
	if l.down == kind {
		w.Log.Debug("still nothing is sent", "error", err, "again_in", pause.Round(time.Millisecond))
		return
	}
	l.down = kind
	err = w.Explain(err)
	if isFinal(err) {
		w.Log.Error("nothing is sent until that is mended", "error", err)
	} else {
		w.Log.Warn("nothing is sent for now; it is tried again until it works", "error", err)
	}
	w.Notify("STATUS=" + kind + " since " + l.since.Format(time.DateTime))
}

// works notes that a file was verified.
func (l *link) works(w *watch) {
	l.verified.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down != "" {
		w.Log.Info("files are sent again", "after", w.Now().Sub(l.since).Round(time.Second))
		l.down = ""
		w.Notify(daemonWatching)
	}
}

const daemonWatching = "STATUS=watching"

// ready is what systemd is told when all is under way.
const ready = daemon.SdNotifyReady + "\n" + daemonWatching

// kindOf is the error in short: two that are alike have the same.
func kindOf(err error) string {
	var connection *session4.ConnectionError
	var refusal *session4.RefusalError
	var key *v4.ServerKeyError
	switch {
	case errors.As(err, &key):
		return "the server has another key"
	case errors.As(err, &refusal) && refusal.Reason != v4.ReasonStopping:
		return fmt.Sprintf("the server refuses (reason %d)", refusal.Reason)
	case refusal != nil, errors.As(err, &connection): // one that is stopping is soon gone
		return "the server cannot be reached"
	}
	return err.Error()
}

// isFinal reports whether somebody has to do something about an error.
func isFinal(err error) bool {
	var connection *session4.ConnectionError
	var refusal *session4.RefusalError
	switch {
	case errors.As(err, &refusal):
		return !refusal.Again
	case errors.As(err, &connection), errors.Is(err, context.Canceled):
		return false
	}
	return true
}
