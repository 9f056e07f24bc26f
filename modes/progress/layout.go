package progress

import (
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"fenc/wire"
)

// Widths in cells from which more is shown.
const (
	withRate = 28
	withBar  = 50
)

// style draws bars, in colours or without.
type style struct {
	bar   mpb.BarFiller
	paint func(colour, text string) string
}

// Colours, as SGR parameters (ECMA-48).
const (
	green = "32"
	red   = "31"
	faint = "2"
)

func newStyle(colours bool) style {
	paint := func(_, text string) string { return text }
	if colours {
		paint = func(colour, text string) string {
			if text == "" {
				return ""
			}
			return "\x1b[" + colour + "m" + text + "\x1b[0m"
		}
	}
	in := func(colour string) func(string) string {
		return func(text string) string { return paint(colour, text) }
	}
	return style{
		bar: mpb.BarStyle().Lbound("[").Refiller("#").RefillerMeta(in(green)).Filler("=").Tip(">").Padding(" ").Rbound("]").
			FillerMeta(in(faint)).TipMeta(in(faint)).Build(),
		paint: paint,
	}
}

// drawBar draws, in so many cells, what the receiver holds and what has been sent
// beyond it. It is full for what is verified alone.
func (s style) drawBar(held, sent, whole int64, cells int) string {
	if cells < 4 {
		return ""
	}
	if whole > 0 && sent >= whole { // not verified yet
		sent = whole - max(1, whole/int64(cells))
	}
	var b strings.Builder
	s.bar.Fill(&b, decor.Statistics{AvailableWidth: cells, Total: max(1, whole), Current: max(0, sent), Refill: max(0, min(held, sent))}) // into memory
	return b.String()
}

// picture is all rows, in at most width cells each.
func (s style) picture(p *picture, width int, w words) []string {
	var rows []string
	for _, f := range p.files {
		rows = append(rows, s.fileRow(&f, width))
	}
	return append(rows, s.totalRows(p.snapshot, p.percent, width, w)...)
}

// fileRow is a file on its way.
func (s style) fileRow(f *fileRow, width int) string {
	share, rate := fmt.Sprintf("%3d%%", f.percent), f.speed
	if f.percent == 0 && width >= withBar {
		share = "    " // the bar says what is sent
	}
	note := []string{f.note()}
	if note[0] == "" {
		left := f.file.Size - max(f.Settled, f.Held)
		note = pace(rate, time.Duration(float64(max(0, left))/rate*float64(time.Second)))
	}
	return s.row(wire.Printable(f.file.Name), share, note, f.Held, max(f.Settled, f.Held), f.file.Size, width)
}

// pace is how fast it goes and how long it takes yet, where that is known; and what
// of it is said where there is less room.
func pace(rate float64, left time.Duration) []string {
	if rate < 1 {
		return nil
	}
	speed := fmt.Sprintf("%s/s", bytesText(int64(rate)))
	if left < 0 {
		return []string{speed}
	}
	return []string{fmt.Sprintf("%-11s %s", speed, clock(left)), clock(left)}
}

// row puts a name, a bar, a percentage and a note into width cells. The note goes
// before the percentage does, and the bar before the note, of which the first that
// fits is taken.
func (s style) row(name, percent string, note []string, held, sent, whole int64, width int) string {
	const noteCells = 20
	switch {
	case width >= withBar:
		label := max(10, min(30, width/3))
		bar := width - label - len(percent) - noteCells - 4
		return fmt.Sprintf("%s %s %s  %s", fit(name, label), s.drawBar(held, sent, whole, bar), percent, fitting(note, noteCells))
	case width >= withRate:
		label := max(8, width-len(percent)-2-12)
		return fmt.Sprintf("%s %s %s", fit(name, label), percent, fitting(note, width-label-len(percent)-2))
	}
	return fmt.Sprintf("%s %s", fit(name, max(1, width-len(percent)-1)), percent)
}

// note is what is to say of a file instead of how fast it is.
func (f *fileState) note() string {
	switch {
	case f.Resumed > 0 && f.Held <= f.Resumed:
		return fmt.Sprintf("resuming at %d%%", percent(f.Resumed, f.file.Size))
	case f.Settled >= f.file.Size && f.file.Size > 0:
		return "verifying"
	case f.Attempts == 0:
		return "waiting"
	}
	return ""
}

// totalRows is how everything gets on, in maxTotal rows at most.
func (s style) totalRows(t *snapshot, percent int, width int, words words) []string {
	label, share := "total", "    "
	var note []string
	switch {
	case !t.counted:
		note = []string{"counting…"}
	case t.retryIn > 0:
		note = []string{fmt.Sprintf("again in %s", clock(t.retryIn+time.Second))}
	default:
		share = fmt.Sprintf("%3d%%", percent)
		note = pace(t.rate, t.remaining())
	}
	var rows []string
	if t.found != 1 || !t.counted || t.retryIn > 0 {
		rows = append(rows, s.row(label, share, note, t.held, t.settled, t.foundBytes, width))
	}
	return append(rows, s.figures(t, width, words)...)
}

// words are those of one direction.
type words struct{ moved, held string }

var (
	sendWords = words{"sent", "held"}
	getWords  = words{"received", "here"}
)

// figures is what the bars do not say, in one line or two, the important first.
func (s style) figures(t *snapshot, width int, w words) []string {
	plus := ""
	if !t.counted {
		plus = "+"
	}
	type figure struct{ text, colour string }
	figures := []figure{{fmt.Sprintf("%s/%s%s files", humanize.Comma(t.verified), humanize.Comma(max(t.found, t.verified)), plus), ""}}
	add := func(n int64, format, colour string) {
		if n > 0 {
			figures = append(figures, figure{fmt.Sprintf(format, humanize.Comma(n)), colour})
		}
	}
	if t.found == 1 && t.counted {
		figures = nil
	}
	add(t.failed, "%s failed", red)
	figures = append(figures, figure{fmt.Sprintf("%s %s of %s%s", w.held, bytesText(t.held), bytesText(max(t.foundBytes, t.held)), plus), ""})
	if t.found != 1 {
		figures = append(figures, figure{fmt.Sprintf("verified %s", bytesText(t.verifiedBytes)), ""})
	}
	figures = append(figures, figure{fmt.Sprintf("%s %s", w.moved, bytesText(t.moved)), ""})
	add(t.unchanged, "%s unchanged", "")
	add(t.retries, "%s retries", "")
	add(t.sums.skipped, "%s skipped", "")
	const maxLines = 2
	var rows []string
	row, used := "", 0
	for _, f := range figures {
		cells := runewidth.StringWidth(f.text)
		if used > 0 && used+2+cells > width {
			if rows = append(rows, row); len(rows) == maxLines {
				return rows
			}
			row, used = "", 0
		}
		if used > 0 {
			row, used = row+"  ", used+2
		}
		row, used = row+s.paint(f.colour, cut(f.text, width)), used+cells
	}
	return append(rows, row)
}

// fit is text in exactly so many cells. Of a long path the end is shown, which tells
// files apart.
func fit(text string, cells int) string {
	if over := runewidth.StringWidth(text) - cells; over > 0 {
		text = runewidth.TruncateLeft(text, over+1, "…")
	}
	return runewidth.FillRight(text, cells)
}

// wrapped is text in lines of at most so many cells, broken between words.
func wrapped(text string, cells int) string {
	var b strings.Builder
	used := 0
	for i, word := range strings.Fields(text) {
		w := runewidth.StringWidth(word)
		switch {
		case i == 0:
		case used+1+w > cells:
			b.WriteString("\n")
			used = 0
		default:
			b.WriteString(" ")
			used++
		}
		b.WriteString(word)
		used += w
	}
	return b.String()
}

// fitting is the first of texts that has at most so many cells, or what fits of the
// last.
func fitting(texts []string, cells int) string {
	for _, text := range texts {
		if runewidth.StringWidth(text) <= cells {
			return text
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return cut(texts[len(texts)-1], cells)
}

// cut is text in at most so many cells.
func cut(text string, cells int) string { return runewidth.Truncate(text, max(0, cells), "…") }

func bytesText(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// clock is a time as 0:07, 12:34 or 1:02:03.
func clock(d time.Duration) string {
	s := int64(d / time.Second)
	if s >= 100*3600 {
		return ">99 h"
	}
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
