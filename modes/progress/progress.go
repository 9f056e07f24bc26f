// Package progress shows how a transfer goes: on a terminal by bars that are drawn
// anew, elsewhere by a line for each file, or by JSON lines for programs. What it
// calls verified is durable at the receiver and equal to what was read, and nothing
// is at 100 % before.
package progress

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"fenc/modes/send"
)

// Options say how a transfer is shown.
type Options struct {
	Out io.Writer // results
	Err io.Writer // everything else
	// Quiet shows errors alone, on Err.
	Quiet bool
	// JSON writes JSON lines to Out instead; with Quiet, none about the status.
	JSON bool
	// Explain says at the end what held the transfer back, by what Waits has measured.
	Explain bool
	Waits   *send.Waits
	// Getting is whether files come from the server: its words differ.
	Getting bool
	// Getenv is os.Getenv: NO_COLOR and TERM say what the terminal should be given.
	Getenv func(string) string
}

// view is a way to show a transfer. One goroutine calls its methods.
type view interface {
	// result shows how a file ended.
	result(r send.Result)
	// skipped shows that something is left out.
	skipped(path, why string)
	// retrying shows that there is a pause.
	retrying(why error, pause time.Duration)
	// planned shows what would be sent, and whether it would be removed here then.
	planned(path, name string, remove bool)
	// note shows a line for people; a warning is one that even the quiet want.
	note(text string, warning bool)
	// draw shows how far everything is. It is called every so often, see newView.
	draw(s *snapshot)
	// end shows how it ended: after it, nothing is.
	end(e *ending)
}

// ending is how a transfer ended.
type ending struct {
	*snapshot
	err        error // of the whole
	exitStatus int
	spent      *send.Spent // nil: not to be explained
}

// Display is a transfer that is shown. It implements send.Reporter.
type Display struct {
	ledger
	options Options
	view    view            // of the goroutine that shows
	events  chan func(view) // a reporter does not wait for a slow terminal, unless it lags behind this far
	draws   bool            // from time to time
	stop    chan struct{}
	showing sync.WaitGroup
}

// maxEvents is how many results may wait to be shown.
const maxEvents = 1024

// New begins to show a transfer. The caller must Close it.
func New(o Options) *Display {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Waits == nil {
		o.Waits = new(send.Waits)
	}
	d := &Display{options: o, events: make(chan func(view), maxEvents), stop: make(chan struct{})}
	var every time.Duration
	d.view, every = newView(o)
	d.draws = every > 0
	d.showing.Go(func() { d.show(every) })
	return d
}

// Draws is whether it is of use to know ahead how much there is to transfer.
func (d *Display) Draws() bool { return d.draws }

// newView returns the way to show, and how often it wants to be drawn; 0: never.
func newView(o Options) (view, time.Duration) {
	switch screen, isTerminal := terminalOf(o); {
	case o.JSON && o.Quiet:
		return newJSONLines(o), 0
	case o.JSON:
		return newJSONLines(o), jsonEvery
	case o.Quiet:
		return &quiet{o}, 0
	case isTerminal:
		return newTerminal(o, screen), drawEvery
	}
	return &lines{o}, 0
}

// terminalOf returns the terminal to draw on, if there is one that can be drawn on.
func terminalOf(o Options) (*os.File, bool) {
	f, ok := o.Err.(*os.File)
	return f, ok && o.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// show shows what is reported, until stop.
func (d *Display) show(every time.Duration) {
	var tick <-chan time.Time
	if every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case event := <-d.events:
			event(d.view)
		case <-tick:
			d.view.draw(d.snapshot())
		case <-d.stop:
			for {
				select {
				case event := <-d.events:
					event(d.view)
				default:
					return
				}
			}
		}
	}
}

// Close ends what is shown: the transfer has ended with err, or none, and the
// process will with exitStatus. What is reported later is not shown.
func (d *Display) Close(err error, exitStatus int) {
	close(d.stop)
	d.showing.Wait()
	e := &ending{snapshot: d.snapshot(), err: err, exitStatus: exitStatus}
	if d.options.Explain {
		spent := d.options.Waits.Spent()
		e.spent = &spent
	}
	d.view.end(e)
}

func (d *Display) event(show func(view)) {
	select {
	case d.events <- show:
	case <-d.stop:
	}
}

// End implements send.Reporter.
func (d *Display) End(p *send.Progress, r send.Result) {
	if err := r.Err; errors.Is(err, context.Canceled) && strings.HasSuffix(err.Error(), context.Canceled.Error()) { // no words for people
		r.Err = send.Reworded(err, "interrupted: send again to go on")
		if d.options.Getting {
			r.Err = send.Reworded(err, "interrupted: get again to go on")
		}
	}
	d.ledger.End(p, r)
	d.event(func(v view) { v.result(r) })
}

// Plan shows what would be sent, and whether it would be removed here then.
func (d *Display) Plan(path, name string, remove bool) {
	d.event(func(v view) { v.planned(path, name, remove) })
}

// Note shows a line for people.
func (d *Display) Note(text string) { d.event(func(v view) { v.note(text, false) }) }

// Warn shows a line about something that went wrong, and is no file's result.
func (d *Display) Warn(text string) { d.event(func(v view) { v.note(text, true) }) }

// Skip implements send.Reporter.
func (d *Display) Skip(path, why string) {
	d.ledger.Skip(path, why)
	d.event(func(v view) { v.skipped(path, why) })
}

// Retry implements send.Reporter.
func (d *Display) Retry(why error, pause time.Duration) {
	d.ledger.Retry(why, pause)
	d.event(func(v view) { v.retrying(why, pause) })
}
