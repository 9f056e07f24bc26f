package config

import (
	"errors"
	"fmt"
	"time"
)

// Watch is a [[watch]] table of transfer.toml: a folder that fenc watch sends from.
type Watch struct {
	Dir     string   `toml:"dir" is:"path"`     // the folder, with all that is below it
	As      string   `toml:"as"`                // what names at the server begin with; empty: the folder's own name
	Exclude []string `toml:"exclude"`           // patterns of what to leave out, as .gitignore has them, behind those of all folders
	Settle  Duration `toml:"settle"`            // how long a file must be left alone before it is sent, 0s to 24h
	Rescan  Duration `toml:"rescan"`            // how often all is looked through, whatever the system tells, 1s to 7d
	After   string   `toml:"after"`             // what becomes of what was verified: "keep", "remove" or "move"
	MoveTo  string   `toml:"move_to" is:"path"` // folder that "move" moves to, on the same file system
	origins `toml:"-"`
}

// settledApart is how much later than its last change a file must be read so that
// another change is sure to show another time: file systems count as coarsely as in
// steps of 2 seconds.
const settledApart = 2 * second

// DefaultWatch returns the settings of a folder of which only the name is given.
func DefaultWatch() Watch {
	return Watch{
		// What programs call a file while they write it.
		Exclude: []string{"*.part", "*.partial", "*.crdownload", "*.swp", ".~lock.*", "~$*"},
		Settle:  Duration(3 * time.Second),
		Rescan:  Duration(15 * time.Minute),
		After:   "keep",
	}
}

// Override sets a key from the command line, as that of Transfer does.
func (w *Watch) Override(key string, text ...string) error { return w.override(w, key, text) }

// Validate returns an error for the first key whose value is out of range.
func (w *Watch) Validate() error {
	return w.first([]check{
		{"dir", w.Dir, checkPath(w.Dir)},
		{"as", w.As, checkNoNUL(w.As)},
		{"exclude", w.Exclude, checkEach(w.Exclude, "pattern", checkExclude)},
		{"settle", w.Settle, w.checkSettle()},
		{"rescan", w.Rescan, checkRange(w.Rescan, second, 7*day)},
		{"after", w.After, checkOneOf(w.After, "keep", "remove", "move")},
		{"move_to", w.MoveTo, w.checkMoveTo()},
	})
}

func (w *Watch) checkSettle() error {
	if w.After != "keep" && w.Settle < settledApart {
		return fmt.Errorf("under %v, which is too little to be sure that what is taken away is what was sent", settledApart)
	}
	return checkRange(w.Settle, 0, day)
}

func (w *Watch) checkMoveTo() error {
	switch {
	case w.After == "move" && w.MoveTo == "":
		return errors.New(`empty, with after = "move"`)
	case w.After != "move" && w.MoveTo != "":
		return fmt.Errorf("set, with after = %q", w.After)
	}
	return checkNoNUL(w.MoveTo)
}
