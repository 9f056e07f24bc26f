//go:build unix

// Package screentest is a terminal for tests: a pseudo-terminal whose screen can be
// read. It keeps all percentages that were on it, and fails the test where one
// falls.
package screentest

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
)

const patience = 2 * time.Minute // after which a test is stuck, not slow

// Screen is a terminal.
type Screen struct {
	TTY *os.File // what programs have
	PTY *os.File // the other end: what is typed is written to it

	t        testing.TB
	mu       sync.Mutex
	emulator vt10x.Terminal
	raw      strings.Builder
	changed  chan struct{}
	percents map[string][]int // by the first word of their row
	marks    int              // that Settle wrote
	seen     int              // of them
	ended    chan struct{}    // closed when nothing more can be read
}

// New makes a terminal of a size.
func New(t testing.TB, columns, rows int) *Screen {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	s := &Screen{
		TTY: slave, PTY: master, t: t, emulator: vt10x.New(vt10x.WithSize(columns, rows)),
		changed: make(chan struct{}), percents: make(map[string][]int), ended: make(chan struct{}),
	}
	s.setSize(columns, rows)
	go s.read()
	t.Cleanup(func() {
		s.Resume()
		slave.Close()
		master.Close()
		<-s.ended
	})
	return s
}

func (s *Screen) setSize(columns, rows int) {
	if err := pty.Setsize(s.PTY, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)}); err != nil {
		s.t.Fatal(err)
	}
}

// Resize changes the size, once all that was written before is shown.
func (s *Screen) Resize(columns, rows int) {
	s.t.Helper()
	s.Settle()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emulator.Resize(columns, rows)
	s.setSize(columns, rows)
}

// Stall has the terminal take nothing more, as Ctrl-S does, until Resume: whoever writes
// to it waits.
func (s *Screen) Stall() {
	s.t.Helper()
	if err := flow(s.PTY, s.TTY, false); err != nil {
		s.t.Fatalf("stall the terminal: %v", err)
	}
}

// Resume ends Stall. A terminal that was hung up needs none.
func (s *Screen) Resume() { flow(s.PTY, s.TTY, true) }

// mark is what Settle writes, and looks for in what is read. It shows nothing.
const mark = 0

func (s *Screen) read() {
	defer close(s.ended)
	p := make([]byte, 64<<10)
	for {
		n, err := s.PTY.Read(p)
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen += bytes.Count(p[:n], []byte{mark})
		text := bytes.ReplaceAll(p[:n], []byte{mark}, nil)
		s.raw.Write(text)
		s.emulator.Write(text)
		s.look()
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

var row = regexp.MustCompile(`(?m)^(\S+) .*?(\d+)%`)

// look notes the percentages on the screen. s.mu is held.
func (s *Screen) look() {
	for _, m := range row.FindAllStringSubmatch(s.emulator.String(), -1) {
		percent, _ := strconv.Atoi(m[2])
		seen := s.percents[m[1]]
		if n := len(seen); n > 0 && percent < seen[n-1] {
			s.t.Errorf("%s fell from %d%% to %d%%; the screen:\n%s", m[1], seen[n-1], percent, s.emulator)
		}
		s.percents[m[1]] = append(seen, percent)
	}
}

// Percents returns all percentages that the row beginning with a word had.
func (s *Screen) Percents(word string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.percents[word]
}

// Text returns what is on the screen, without what is blank at the ends of lines
// and of the screen.
func (s *Screen) Text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text()
}

func (s *Screen) text() string {
	lines := strings.Split(s.emulator.String(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \x00")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

// Raw returns all that was written to the terminal.
func (s *Screen) Raw() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

// Settle waits until all that was written to the terminal is on the screen.
func (s *Screen) Settle() {
	s.t.Helper()
	s.mu.Lock()
	s.marks++
	marks := s.marks
	s.mu.Unlock()
	_, err := s.TTY.Write([]byte{mark})
	hungUp := err != nil // with the end of a program that it controls
	for late := time.After(patience); ; {
		s.mu.Lock()
		seen, changed := s.seen, s.changed
		s.mu.Unlock()
		if seen >= marks && !hungUp {
			return
		}
		select {
		case <-changed:
		case <-s.ended:
			return
		case <-late:
			s.t.Fatalf("what was written is not read; the screen is\n%s", s.Text())
		}
	}
}

// Await waits until the screen matches a pattern, and returns it. It gives up where
// ended is closed without that.
func (s *Screen) Await(pattern string, ended <-chan struct{}) string {
	s.t.Helper()
	re, late, over := regexp.MustCompile("(?m)"+pattern), time.After(patience), false
	for {
		s.mu.Lock()
		text, changed := s.text(), s.changed
		s.mu.Unlock()
		if re.MatchString(text) {
			return text
		}
		if over {
			s.t.Fatalf("nothing matched %q; the screen is\n%s", pattern, text)
		}
		select {
		case <-changed:
		case <-ended:
			s.Settle()
			over = true
		case <-late:
			over = true
		}
	}
}
