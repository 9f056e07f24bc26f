//go:build !windows

package progress

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"golang.org/x/term"
)

// newConsole returns what mpb draws on: its own writer counts on lines that stay as
// long as they were drawn, which a terminal that gets narrower does not leave them.
func newConsole(screen *os.File, getenv func(string) string) mpb.ConsoleWriter {
	return &console{screen: screen, folds: folds(getenv)}
}

// folds reports whether a terminal is known to fold the lines on it anew when it
// gets narrower, and not to cut them off.
func folds(getenv func(string) string) bool {
	for _, name := range []string{"TMUX", "VTE_VERSION", "KITTY_WINDOW_ID", "WEZTERM_PANE", "ALACRITTY_WINDOW_ID", "KONSOLE_VERSION", "ITERM_SESSION_ID", "GHOSTTY_RESOURCES_DIR"} {
		if getenv(name) != "" {
			return true
		}
	}
	return false
}

// console draws lines in the place of those that it drew before. It writes each
// picture at once, and keeps the terminal's modes as they are: whatever ends the
// process leaves nothing to be put right.
type console struct {
	screen *os.File
	folds  bool

	above bytes.Buffer // text that stays
	rows  bytes.Buffer // of the next picture
	next  []int        // their widths
	shown []int        // widths of the rows that are on the screen
}

// Write adds text that stays above the rows.
func (c *console) Write(p []byte) (int, error) { return c.above.Write(p) }

// ReadFrom adds a row.
func (c *console) ReadFrom(r io.Reader) (int64, error) {
	row, err := io.ReadAll(r)
	if len(row) > 0 {
		c.rows.Write(row)
		c.next = append(c.next, displayWidth(string(row)))
	}
	return int64(len(row)), err
}

// IsTerminal implements mpb.ConsoleWriter.
func (c *console) IsTerminal() bool { return true }

// GetTermSize implements mpb.ConsoleWriter.
func (c *console) GetTermSize() (width, height int, err error) {
	return term.GetSize(int(c.screen.Fd()))
}

// Flush draws.
func (c *console) Flush(int) error {
	var picture bytes.Buffer
	if up := c.height(); up > 0 {
		fmt.Fprintf(&picture, "\x1b[%dA", up)
	}
	if len(c.shown) > 0 {
		picture.WriteString("\r\x1b[J")
	}
	c.above.WriteTo(&picture)
	c.rows.WriteTo(&picture)
	c.shown, c.next = append(c.shown[:0], c.next...), c.next[:0]
	_, err := picture.WriteTo(c.screen)
	return err
}

// height is how many lines of the screen the rows on it take.
func (c *console) height() int {
	width, _, err := c.GetTermSize()
	if err != nil || width <= 0 || !c.folds {
		return len(c.shown)
	}
	lines := 0
	for _, w := range c.shown {
		lines += max(1, (w+width-1)/width)
	}
	return lines
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// displayWidth is how many cells a row takes.
func displayWidth(row string) int {
	return runewidth.StringWidth(escapes.ReplaceAllString(row, ""))
}
