package progress

import (
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// Reading draws how much has been read, where there is a terminal to draw on.
type Reading struct {
	out     io.Writer
	console mpb.ConsoleWriter
	bars    *mpb.Progress
	bar     *mpb.Bar // nil: there is no terminal
}

// NewReading begins to draw on o.Err, of total bytes, or 0 where that is not known.
// The caller must Close it.
func NewReading(o Options, total int64) *Reading {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	r := &Reading{out: o.Out}
	screen, isTerminal := terminalOf(o)
	if !isTerminal {
		return r
	}
	r.console = newConsole(screen, o.Getenv)
	r.bars = mpb.New(mpb.WithConsoleWriter(r.console), mpb.WithRefreshRate(2*drawEvery))
	if out, ok := o.Out.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		r.out = r.bars
	}
	name := decor.Name("reading ")
	if total > 0 {
		r.bar = r.bars.AddBar(0, mpb.PrependDecorators(name, decor.CountersKibiByte("% .1f of % .1f")),
			mpb.AppendDecorators(decor.Percentage(), decor.Name(" "), decor.AverageETA(decor.ET_STYLE_MMSS)))
		r.bar.SetTotal(total, false) // it ends by Close alone
	} else {
		r.bar = r.bars.AddSpinner(0, mpb.PrependDecorators(name, decor.CurrentKibiByte("% .1f")))
	}
	return r
}

// Add notes that n bytes more were read.
func (r *Reading) Add(n int64) {
	if r.bar != nil {
		r.bar.IncrInt64(n)
	}
}

// Write writes results to o.Out, above what is drawn.
func (r *Reading) Write(p []byte) (int, error) { return r.out.Write(p) }

// Close removes what is drawn.
func (r *Reading) Close() {
	if r.bar == nil {
		return
	}
	r.bar.Abort(true)
	r.bars.Wait()
	r.console.Flush(0) // what was written since the last picture
}
