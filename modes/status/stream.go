package status

import (
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	refresh    = time.Second      // between two looks at the server
	keepAlive  = 15 * time.Second // silence after which a comment is sent
	writeTime  = 10 * time.Second // that one event may take to be taken
	maxViewers = 64               // pages that are open at once

	maxConnections = 2 * maxViewers // at once; more wait
)

// serveEvents sends each section as it changes, until the reader goes or the
// server ends.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		http.Error(w, "Too many pages are open.", http.StatusServiceUnavailable)
		return
	}
	defer p.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for a proxy before it
	out := http.NewResponseController(w)
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	sent := make(map[string]template.HTML)
	spoke := time.Now()
	for {
		rendered, err := p.render()
		if err != nil {
			return
		}
		if out.SetWriteDeadline(time.Now().Add(writeTime)) != nil {
			return
		}
		changed := false
		for _, name := range sections {
			if rendered[name] == sent[name] {
				continue
			}
			changed = true
			if writeEvent(w, name, string(rendered[name])) != nil {
				return
			}
		}
		sent = rendered
		if !changed && time.Since(spoke) >= keepAlive {
			changed = true
			if _, err := io.WriteString(w, ": still here\n\n"); err != nil {
				return
			}
		}
		if changed {
			spoke = time.Now()
			if out.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// writeEvent writes an event as the HTML standard has it, section 9.2: a data
// field for each line.
func writeEvent(w io.Writer, name, data string) error {
	data = strings.NewReplacer("\r\n", "\ndata: ", "\r", "\ndata: ", "\n", "\ndata: ").Replace(data)
	_, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data)
	return err
}

func (p *Page) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.viewers >= maxViewers {
		return false
	}
	p.viewers++
	return true
}

func (p *Page) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.viewers--
}
