package send

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var (
	// ErrChecksum: the server's checksum differed in every attempt.
	ErrChecksum = errors.New("checksum did not match")
	// ErrRefused: the server said no, and would say it again.
	ErrRefused = errors.New("refused by the server")
	// ErrOtherServer: what answered is no fenc server.
	ErrOtherServer = errors.New("no fenc server")
	// ErrServerKey: the server has another key than the one that is pinned.
	ErrServerKey = errors.New("the server's key has changed")
)

// Result is how one file went.
type Result struct {
	Name     string        // that it was sent or is got under
	Path     string        // of the file here; empty where there is none to speak of
	Size     int64         // bytes
	Took     time.Duration // all attempts together
	Checksum string        // as the protocol shows it; empty if none was agreed on
	Attempts int           // times it was sent
	// Unchanged is whether the server had this content under this name already.
	Unchanged bool
	// State is what the file was when what was verified was read; zero where that is
	// not known. Remove and Move take it.
	State State
	Err   error // nil: verified
}

// Print writes the result's line: name, bytes, seconds, checksum, and verified or
// why not.
func (r Result) Print(w io.Writer, quote func(string) string) {
	checksum, verdict := r.Checksum, "verified"
	if checksum == "" {
		checksum = "-"
	}
	if r.Err != nil {
		verdict = "not verified: " + strings.ReplaceAll(r.Err.Error(), "\n", "; ") // joined errors stand on lines of their own
	} else if r.Unchanged {
		verdict = "unchanged"
	} else if r.Attempts > 1 {
		verdict = fmt.Sprintf("verified (sent %d times)", r.Attempts)
	}
	fmt.Fprintf(w, "%s  %d bytes  %.2f s  %s  %s\n", quote(r.Name), r.Size, r.Took.Seconds(), checksum, verdict)
}
