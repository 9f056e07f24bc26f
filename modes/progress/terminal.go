package progress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"fenc/modes/send"
	"fenc/wire"
)

const (
	// drawEvery is how often a picture is drawn.
	drawEvery = 100 * time.Millisecond
	// maxRows is how many files have a row of their own at most.
	maxRows = 8
	// maxTotal is how many lines everything together takes at most.
	maxTotal = 3
	// maxListed is how many files that ended well are listed above the bars. Failures
	// are all listed.
	maxListed = 200
)

// terminal draws on a terminal: a row for each file that has been on its way for a
// moment, and below them everything together.
type terminal struct {
	o      Options
	words  words
	style  style
	screen *os.File
	toOut  bool // results are for the same terminal

	console mpb.ConsoleWriter
	bars    *mpb.Progress
	refresh chan any
	bar     *mpb.Bar // of all rows; nil before the first picture
	picture atomic.Pointer[picture]
	files   map[*send.Progress]*fileRow
	percent int // of everything, which never falls
	listed  int
}

// picture is what mpb's goroutine draws.
type picture struct {
	*snapshot
	percent int
	files   []fileRow
}

// fileRow is the row of a file.
type fileRow struct {
	fileState
	percent int // which never falls
	rate    rate
	speed   float64 // bytes a second
}

func newTerminal(o Options, screen *os.File) *terminal {
	v := &terminal{
		o: o, words: sendWords, style: newStyle(o.Getenv("NO_COLOR") == ""), screen: screen, console: tall{newConsole(screen, o.Getenv)},
		refresh: make(chan any), files: make(map[*send.Progress]*fileRow),
	}
	if o.Getting {
		v.words = getWords
	}
	if out, ok := o.Out.(*os.File); ok {
		v.toOut = term.IsTerminal(int(out.Fd()))
	}
	v.bars = mpb.New(mpb.WithConsoleWriter(v.console), mpb.WithManualRefresh(v.refresh))
	return v
}

// draw has a picture drawn.
func (v *terminal) draw(s *snapshot) {
	if s.elapsed == 0 && s.retries == 0 {
		return // nothing is on its way yet: a question may stand on the screen
	}
	v.percent = max(v.percent, s.percent())
	v.picture.Store(&picture{s, v.percent, v.rows(s)})
	if v.bar == nil {
		v.addBar()
	}
	v.refresh <- s.now
}

// rows brings the files' rows up to date, and returns those that there is room for.
func (v *terminal) rows(s *snapshot) []fileRow {
	var rows []fileRow
	on := make(map[*send.Progress]*fileRow)
	for _, f := range s.active {
		row := v.files[f.file]
		if row == nil {
			row = &fileRow{}
		}
		on[f.file] = row
		row.fileState, row.percent, row.speed = f, max(row.percent, f.percent()), row.rate.at(s.now, f.Moved)
		if len(rows) < v.room() && (f.age >= 2*drawEvery || s.found == 1) {
			rows = append(rows, *row)
		}
	}
	v.files = on
	return rows
}

// tall is a console that is at least as high as all rows together, since mpb leaves
// out the upper ones where not all could be there. How many are there, room bounds.
type tall struct{ mpb.ConsoleWriter }

// GetTermSize implements mpb.ConsoleWriter.
func (c tall) GetTermSize() (width, height int, err error) {
	width, height, err = c.ConsoleWriter.GetTermSize()
	return width, max(height, maxRows+maxTotal), err
}

// width is how many cells a line has.
func (v *terminal) width() int {
	width, _, err := term.GetSize(int(v.screen.Fd()))
	if err != nil || width < 1 {
		return 80
	}
	return width
}

// room is how many files may have rows.
func (v *terminal) room() int {
	_, height, err := term.GetSize(int(v.screen.Fd()))
	if err != nil {
		return maxRows
	}
	return max(1, min(maxRows, height/2-maxTotal))
}

// addBar makes a bar of mpb's that draws all rows, as many as there are, and ends by
// Abort alone.
func (v *terminal) addBar() {
	var rows []string
	first := mpb.BarFillerFunc(func(w io.Writer, stat decor.Statistics) error {
		rows = v.style.picture(v.picture.Load(), max(1, stat.AvailableWidth-1), v.words) // a full line would break in two on some terminals
		_, err := io.WriteString(w, rows[0])
		return err
	})
	var further []mpb.BarFiller
	for i := 1; i < maxRows+maxTotal; i++ {
		further = append(further, mpb.BarFillerFunc(func(w io.Writer, _ decor.Statistics) error {
			if i >= len(rows) {
				return nil
			}
			_, err := io.WriteString(w, rows[i]+"\n")
			return err
		}))
	}
	var err error
	if v.bar, err = v.bars.Add(0, first, mpb.BarFillerTrim(), mpb.BarBtmExtender(further...)); err != nil {
		panic(err) // only after the end
	}
}

// print writes text above the bars.
func (v *terminal) print(text string) {
	if v.bar == nil {
		io.WriteString(v.screen, text)
		return
	}
	v.bars.Write([]byte(text)) // fails after the end alone
}

func (v *terminal) result(r send.Result) {
	if errors.Is(r.Err, context.Canceled) {
		return // the end says it of all
	}
	if r.Err == nil {
		if v.listed++; v.listed > maxListed {
			if v.listed == maxListed+1 {
				v.print("… more verified files are counted below, and not listed; | cat lists all\n")
			}
			return
		}
	}
	if !v.toOut {
		r.Print(v.o.Out, wire.Printable)
		if r.Err == nil {
			return
		}
	}
	v.print(v.line(r))
}

// line is a result for people: with sizes that are easy to read, and as much of the
// checksum as fenc list shows.
func (v *terminal) line(r send.Result) string {
	if r.Err != nil {
		return v.style.paint(red, fmt.Sprintf("%s  not verified: %s", wire.Printable(r.Name), strings.ReplaceAll(r.Err.Error(), "\n", "; "))) + "\n"
	}
	verdict := "verified"
	switch {
	case r.Unchanged:
		verdict = "unchanged"
	case r.Attempts > 1:
		verdict = fmt.Sprintf("verified (sent %d times)", r.Attempts)
	}
	name, figures := wire.Printable(r.Name), fmt.Sprintf("%s  %s", bytesText(r.Size), seconds(r.Took))
	kind, digits, _ := strings.Cut(r.Checksum, " ")
	for _, more := range []string{fmt.Sprintf("  %s  %s %.16s", figures, kind, digits), "  " + figures} { // as much as there is room for
		if runewidth.StringWidth(name+more+verdict)+2 <= v.width() {
			name += more
			break
		}
	}
	return fmt.Sprintf("%s  %s\n", name, v.style.paint(green, verdict))
}

func (v *terminal) skipped(path, why string) { v.say(skippedLine(path, why)) }

// say prints a sentence, broken between words.
func (v *terminal) say(text string) { v.print(wrapped(text, v.width()) + "\n") }

func (v *terminal) planned(path, name string, remove bool) {
	fmt.Fprint(v.o.Out, plannedLine(path, name, remove)) // nothing is drawn meanwhile
}

func (v *terminal) note(text string, _ bool) { v.say("fenc: " + text) }

func (v *terminal) retrying(why error, pause time.Duration) { v.say(retryLine(why, pause)) }

func (v *terminal) end(e *ending) {
	if v.bar != nil {
		v.bar.Abort(true)
	}
	v.bars.Wait()
	v.console.Flush(0) // what was printed since the last picture
	v.bar = nil        // what is printed now stands for itself
	if e.verified+e.failed > 1 {
		v.say(summary(e))
	}
	if e.spent != nil {
		v.say(explain(e, v.o.Getting))
	}
}

// summary is all in one line.
func summary(e *ending) string {
	text := fmt.Sprintf("fenc: %s files verified", humanize.Comma(e.verified))
	if e.unchanged > 0 {
		text += fmt.Sprintf(" (%s unchanged)", humanize.Comma(e.unchanged))
	}
	if e.failed > 0 {
		text += fmt.Sprintf(", %s not", humanize.Comma(e.failed))
	}
	text += fmt.Sprintf("; %s in %s", bytesText(e.verifiedBytes), clock(e.elapsed))
	if s := e.elapsed.Seconds(); s >= 1 {
		text += fmt.Sprintf(", %s/s", bytesText(int64(float64(e.moved)/s)))
	}
	return text
}
