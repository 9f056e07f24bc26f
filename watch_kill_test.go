//go:build unix

package main

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A fenc watch that is killed in the middle leaves a queue with which the next one goes
// on: all is verified in the end, and nothing twice that was called verified.
func TestKilledWatchGoesOn(t *testing.T) {
	t.Parallel()
	const files = 300
	way := newRelay(t)
	d := serveInvited(t, t.TempDir())
	way.server.Store(&d.addr)
	dir, settings := d.join(t, "--name", "grace")
	outbox := filepath.Join(dir, "outbox")
	for i := range files {
		put(t, filepath.Join(outbox, fmt.Sprintf("%03d", i)), strings.Repeat("x", 4000+i))
	}
	verified := regexp.MustCompile(`msg=verified \S* ?as=(outbox/\d+) `)
	names := func(log string) map[string]bool {
		all := make(map[string]bool)
		for _, m := range verified.FindAllStringSubmatch(log, -1) {
			if all[m[1]] {
				t.Errorf("%s was verified twice by one process", m[1])
			}
			all[m[1]] = true
		}
		return all
	}
	args := []string{"watch", "--config", settings, "--server", way.Addr().String(), "--queue", queueOf(settings), "--settle", "0s", outbox}
	begun := make(chan *child, 1)
	way.after(files*4000/2, func() {
		c := <-begun
		c.signal(t, syscall.SIGKILL)
		<-c.ended // before more of what it sent goes on
	})
	killed := start(t, dir, nil, args...)
	begun <- killed
	killed.await(t)
	before := names(killed.log.String())
	if len(before) == files {
		t.Fatal("all was verified before the process was killed")
	}
	fenc(t.Context(), nil, "watch", "--config", settings, "--queue", queueOf(settings), "--status").want(t, 0, "no fenc watch runs", ", the first since ")

	after := fenc(t.Context(), nil, append(args, "--once")...)
	after.want(t, 0)
	for name := range names(after.errors) {
		if before[name] {
			t.Errorf("%s was verified by both processes", name)
		}
	}
	if got := strings.Count(listed(t, settings, "outbox/"), "\n"); got != files {
		t.Errorf("the server has %d files, want %d", got, files)
	}
}
