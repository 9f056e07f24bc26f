package send

import (
	"sync/atomic"
	"time"
)

// Reporter is told how a transfer goes, while it goes. Its methods are called from
// many goroutines, which wait for them: they must return at once.
type Reporter interface {
	// Found: so many files more, of so many bytes together, are to be transferred.
	Found(files, bytes int64)
	// Counted: that was all, Found is not called any more.
	Counted()
	// Begin: a file is on its way. It is called once for a file, whatever is lost and
	// gone on with until its End.
	Begin(p *Progress)
	// End: a file has ended, and how. p is nil for one that never was on its way.
	End(p *Progress, r Result)
	// Skip: what is at path is not transferred, and why.
	Skip(path, why string)
	// Retry: the connection was lost, or the server asks to come again; it is tried
	// for again after pause.
	Retry(why error, pause time.Duration)
}

// Results is a Reporter for whom it is enough to know how files have ended. Calls
// may come at the same time.
type Results func(Result)

// Found implements Reporter.
func (Results) Found(files, bytes int64) {}

// Counted implements Reporter.
func (Results) Counted() {}

// Begin implements Reporter.
func (Results) Begin(*Progress) {}

// End implements Reporter.
func (f Results) End(_ *Progress, r Result) { f(r) }

// Skip implements Reporter.
func (Results) Skip(path, why string) {}

// Retry implements Reporter.
func (Results) Retry(why error, pause time.Duration) {}

// Progress is how far one file is: counters that the transfer moves, and that may
// be read at any time. That a file is verified is not among them: it is its Result.
type Progress struct {
	Name string
	Size int64 // bytes
	// Acknowledged is whether the receiver tells what it holds while the file is on
	// its way, so that what is lost is gone on with from there.
	Acknowledged bool

	moved    atomic.Int64
	settled  atomic.Int64
	held     atomic.Int64
	resumed  atomic.Int64
	attempts atomic.Int64
}

// Counters are what a Progress was at a moment.
type Counters struct {
	// Moved is how many bytes went over the connection, those that went again too.
	Moved int64
	// Settled is how many bytes of the file this attempt need not look at any more:
	// they were sent, or the receiver has them.
	Settled int64
	// Held is how many bytes the receiver has said to hold, durable; getting, how many
	// are written here.
	Held int64
	// Resumed is how many bytes were held when the file was last gone on with.
	Resumed int64
	// Attempts is how often it was begun with: anew, or to go on.
	Attempts int64
}

// Counters returns what they are now.
func (p *Progress) Counters() Counters {
	return Counters{p.moved.Load(), p.settled.Load(), p.held.Load(), p.resumed.Load(), p.attempts.Load()}
}

// Start begins an attempt at the file, of which the receiver holds so many bytes.
func (p *Progress) Start(held int64) {
	p.settled.Store(0)
	p.held.Store(held)
	p.resumed.Store(held)
	p.attempts.Add(1)
}

// Move notes that n bytes of the file went over the connection.
func (p *Progress) Move(n int64) {
	p.moved.Add(n)
	p.settled.Add(n)
}

// Spare notes that n bytes of the file need not be moved.
func (p *Progress) Spare(n int64) { p.settled.Add(n) }

// Lose notes that n bytes of what the receiver holds are not the file's, and have to
// be sent all the same.
func (p *Progress) Lose(n int64) {
	p.held.Add(-n)
	p.resumed.Add(-n)
}

// Again begins another attempt, for which n bytes that were sent are sent again.
func (p *Progress) Again(n int64) {
	p.settled.Add(-n)
	p.held.Store(min(p.held.Load(), p.settled.Load()))
	p.attempts.Add(1)
}

// Hold notes that the receiver holds so many bytes of the file. What it said
// before, and is heard later, counts for nothing.
func (p *Progress) Hold(bytes int64) {
	for {
		was := p.held.Load()
		if bytes <= was || p.held.CompareAndSwap(was, bytes) {
			return
		}
	}
}
