package watch

import (
	"log/slog"
	"sync"
)

// complaints say once what is wrong with a path, and again when it has changed.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]*complaint
	// changed is whether the problems have, since they were last listed.
	changed bool
}

type complaint struct {
	text    string
	problem bool // or something that is skipped
	seen    bool // since begin
	lasting bool // not of a look, and so not over with the next
}

// maxComplaints bounds what is remembered, and with it the memory that it takes; with
// more, all is said once more.
const maxComplaints = 10_000

// begin begins a look at a folder as a whole.
func (c *complaints) begin(f *folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, said := range c.said {
		if _, in := f.below(path); in {
			said.seen = false
		}
	}
}

// end ends it: what was not said again is no longer so.
func (c *complaints) end(f *folder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, said := range c.said {
		if _, in := f.below(path); in && !said.seen && !said.lasting {
			c.drop(path)
		}
	}
}

// drop forgets what was said of a path.
func (c *complaints) drop(path string) {
	if said := c.said[path]; said != nil {
		c.changed = c.changed || said.problem
		delete(c.said, path)
	}
}

// isNew notes a complaint and reports whether it has not been made yet.
func (c *complaints) isNew(path, text string, problem, lasting bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if said := c.said[path]; said != nil && said.text == text {
		said.seen = true
		return false
	}
	if c.said == nil || len(c.said) >= maxComplaints {
		c.said = make(map[string]*complaint)
	}
	c.drop(path)
	c.said[path] = &complaint{text, problem, true, lasting}
	c.changed = c.changed || problem
	return true
}

// problem is something that should be sent and cannot be.
func (c *complaints) problem(path string, err error) {
	if c.isNew(path, err.Error(), true, false) {
		c.log.Warn("cannot be sent", "file", path, "error", err)
	}
}

// skipped is something that is not sent, and why.
func (c *complaints) skipped(path, why string) {
	if c.isNew(path, why, false, false) {
		c.log.Info("skipped", "file", path, "reason", why)
	}
}

// kept is something that was verified, and should be removed or moved, and why it is
// not for now.
func (c *complaints) kept(path string, err error) {
	if c.isNew(path, err.Error(), false, true) {
		c.log.Info("verified, and kept for now", "file", path, "reason", err)
	}
}

// stuck is something that was verified, and cannot be removed or moved.
func (c *complaints) stuck(path string, err error) {
	if c.isNew(path, err.Error(), true, true) {
		c.log.Warn("verified, but it cannot be taken away", "file", path, "error", err)
	}
}

// over ends what was said of a path.
func (c *complaints) over(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(path)
}

// listProblems returns what should be sent and cannot be, and why, by path; changed is
// whether that is something else than the last time.
func (c *complaints) listProblems() (reasons map[string]string, changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed, c.changed = c.changed, false
	if !changed {
		return nil, false
	}
	reasons = make(map[string]string)
	for path, said := range c.said {
		if said.problem {
			reasons[path] = said.text
		}
	}
	return reasons, true
}

// problems counts the paths that should be sent and cannot be.
func (c *complaints) problems() (n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, said := range c.said {
		if said.problem {
			n++
		}
	}
	return n
}
