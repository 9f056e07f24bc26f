package modes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"

	"fenc/modes/watch/queue"
	"fenc/wire"
)

// maxFailing bounds the files that fenc watch --status names.
const maxFailing = 1000

// queueStatus is what fenc watch --status --json prints.
type queueStatus struct {
	Queue        string        `json:"queue"`           // path
	Running      bool          `json:"running"`         // a fenc watch has it
	Waiting      int64         `json:"waiting"`         // files
	WaitingBytes int64         `json:"waiting_bytes"`   // of them
	WaitingSince *time.Time    `json:"waiting_since"`   // of the first of them; null where none waits
	Verified     int64         `json:"verified"`        // files that are remembered
	Failing      int64         `json:"failing"`         // of those that wait, files that were tried in vain, and what cannot be sent
	Files        []queueFailed `json:"files,omitempty"` // those, the first thousand
}

// queueFailed is a file that was tried in vain, or cannot be sent as it is: then it was
// never tried, and is when that has changed.
type queueFailed struct {
	File   string     `json:"file"`
	Reason string     `json:"reason"`
	Tries  int        `json:"tries"`
	Again  *time.Time `json:"again"` // null: once it can be
}

// showQueue is fenc watch --status.
func showQueue(s Streams, path string, asJSON bool) error {
	status, err := lookAtQueue(path)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(s.Out).Encode(status)
	}
	running := "no fenc watch runs"
	if status.Running {
		running = "a fenc watch runs"
	}
	since := ""
	if status.WaitingSince != nil {
		since = ", the first since " + status.WaitingSince.Local().Format(time.DateTime)
	}
	fmt.Fprintf(s.Out, "queue     %s (%s)\nwaiting   %s, %s%s\nverified  %s\n",
		wire.Printable(status.Queue), running, inFiles(status.Waiting), humanize.IBytes(uint64(status.WaitingBytes)), since,
		inFiles(status.Verified))
	if status.Failing > 0 {
		fmt.Fprintf(s.Out, "failing   %s\n", inFiles(status.Failing))
	}
	for _, f := range status.Files {
		if f.Again == nil {
			fmt.Fprintf(s.Out, "  %s: %s\n", wire.Printable(f.File), wire.Printable(f.Reason))
			continue
		}
		again := "at once"
		if f.Again.After(time.Now()) {
			again = "at " + f.Again.Local().Format(time.DateTime)
		}
		fmt.Fprintf(s.Out, "  %s: %s (tried %d times, again %s)\n", wire.Printable(f.File), wire.Printable(f.Reason), f.Tries, again)
	}
	return nil
}

func lookAtQueue(path string) (*queueStatus, error) {
	q, err := queue.Look(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usagef("%w: fenc watch makes it when it first runs; --queue names another", err)
	}
	if err != nil {
		return nil, explainQueue(err)
	}
	defer q.Close()
	summary, err := q.Summary()
	if err != nil {
		return nil, err
	}
	failing, err := q.Failing(maxFailing)
	if err != nil {
		return nil, err
	}
	status := &queueStatus{
		Queue: path, Running: queue.InUse(path), Waiting: summary.Waiting, WaitingBytes: summary.WaitingBytes, Verified: summary.Verified,
		Failing: summary.Failing,
	}
	if !summary.Oldest.IsZero() {
		status.WaitingSince = &summary.Oldest
	}
	for _, f := range failing {
		status.Files = append(status.Files, queueFailed{filepath.Join(f.Root, filepath.FromSlash(f.Path)), f.Reason, f.Tries, &f.NotBefore})
	}
	total, problems, err := q.Problems(maxFailing)
	if err != nil {
		return nil, err
	}
	status.Failing += total
	for _, p := range problems[:min(len(problems), maxFailing-len(status.Files))] {
		status.Files = append(status.Files, queueFailed{File: filepath.Join(p.Root, filepath.FromSlash(p.Path)), Reason: p.Reason})
	}
	return status, nil
}
