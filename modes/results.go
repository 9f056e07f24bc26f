package modes

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// results is the standard output of a command, of which it remembers what went wrong:
// most of what is printed is printed without a look at that.
type results struct {
	w io.Writer

	mu  sync.Mutex
	err error // the first one; nothing is written behind it
}

func (r *results) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.w.Write(p)
	r.err = err
	return n, err
}

// after is the error of a command that has ended with err: that, and what was wrong
// with its output. One that reads no further, as head does, has what it wanted.
func (r *results) after(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil || errors.Is(r.err, syscall.EPIPE) || errors.Is(err, r.err) {
		return err
	}
	return errors.Join(err, fmt.Errorf("not all results could be printed: %w: make room, or have them go elsewhere; what was done stays done", r.err))
}

// watched has the results of s remembered, unless they go to a terminal, which shows
// what comes and is asked for its size.
func watched(s Streams) (Streams, func(error) error) {
	if out, ok := s.Out.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
		return s, func(err error) error { return err }
	}
	r := &results{w: s.Out}
	s.Out = r
	return s, r.after
}
