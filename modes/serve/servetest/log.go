// Package servetest is for tests of servers.
package servetest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is after how long a wait says that a test is stuck, not slow.
const Patience = 3 * time.Minute

// Log keeps a server's lines, and wakes who waits for one.
type Log struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

// NewLog returns an empty log.
func NewLog() *Log { return &Log{changed: make(chan struct{})} }

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.text.Write(p)
}

// Reset forgets what was said.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = bytes.Buffer{} // the old one would keep its room
}

// String returns all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Await waits for a line that has all the words, and returns it.
func (l *Log) Await(t testing.TB, words ...string) string {
	t.Helper()
	late := time.After(Patience)
	for {
		l.mu.Lock()
		text, changed := l.text.String(), l.changed
		l.mu.Unlock()
	lines:
		for line := range strings.Lines(text) {
			for _, w := range words {
				if !strings.Contains(line, w) {
					continue lines
				}
			}
			return line
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("no line of the log has %q; those of it:\n%s", words, LinesWith(text, words[0]))
		}
	}
}

// LinesWith returns the lines of text that have a word.
func LinesWith(text, word string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			b.WriteString(line)
		}
	}
	return b.String()
}
