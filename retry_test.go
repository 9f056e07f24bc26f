package main

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"fenc/config/need"
	"fenc/modes"
)

// A server that nothing listened at was tried once, whatever --retry-for said.
func TestRetryForFromTheStart(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t)
	file := write(t, filepath.Join(dir, "a"), "a")
	dead := need.DeadAddress(t)
	outbox := filepath.Join(dir, "outbox")
	put(t, filepath.Join(outbox, "a"), "a")
	unknown := write(t, filepath.Join(t.TempDir(), "transfer.toml"), "server = \""+dead+"\"\n")
	registering := write(t, filepath.Join(t.TempDir(), "transfer.toml"), strings.ReplaceAll(readFile(t, settings), d.addr, dead))
	queue := filepath.Join(t.TempDir(), "queue")
	for name, args := range map[string][]string{
		"send":           {"send", "--config", settings, "--server", dead, file},
		"get":            {"get", "--config", settings, "--server", dead, "--dir", dir, "a"},
		"watch --once":   {"watch", "--once", "--config", settings, "--server", dead, "--queue", queue, outbox},
		"unknown server": {"send", "--config", unknown, "--accept-new", file},
		"first contact":  {"send", "--config", registering, file},
		"first of watch": {"watch", "--once", "--config", registering, "--queue", queue + "2", outbox},
	} {
		t.Run(name, func(t *testing.T) {
			r := fenc(t.Context(), nil, args...)
			r.want(t, 1, "nothing listens there")
			if strings.Contains(r.errors, "trying again") {
				t.Errorf("without --retry-for: got\n%s\nwant one attempt", r.errors)
			}
			fenc(t.Context(), nil, append(args, "--retry-for", "1ms")...).want(t, 1, "nothing listens there", "given up after 1ms")
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			said, ended, status := newOutput(), make(chan struct{}), 0
			go func() {
				defer close(ended)
				status = run(ctx, append(append([]string{"fenc"}, args...), "--retry-for", "1h"), modes.Streams{Out: io.Discard, Err: said})
			}()
			said.await(t, "nothing listens there.*trying again|trying again.*nothing listens there", ended)
			interrupt()
			<-ended
			if status != 130 {
				t.Errorf("interrupted: got %d, want 130; it said:\n%s", status, said)
			}
		})
	}
}
