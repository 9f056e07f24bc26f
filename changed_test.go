package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// A file that was cut in the middle and has changed since, with the same length, once
// could not be sent any more: its new blocks came in the place of held ones, and
// the server ended each session.
func TestFileThatChangedAfterACutIsSent(t *testing.T) {
	t.Parallel()
	for _, streams := range []string{"1", "3"} {
		t.Run(streams, func(t *testing.T) {
			t.Parallel()
			d := serve(t, t.TempDir())
			content := bytes.Repeat([]byte("sixteen bytes..\n"), 10<<16)
			c := newCutCase(t, d, "grace", string(content))
			c.settings("")
			write(t, c.path("first"), "")
			fenc(t.Context(), nil, "send", "--config", c.path("transfer.toml"), "--accept-new", c.path("first")).want(t, 0)
			ctx, interrupt := context.WithCancel(t.Context())
			cut := c.way.arm(up, 6<<20)
			go func() {
				<-cut
				interrupt()
			}()
			c.send(ctx).want(t, 130)
			c.way.idle() // the server has taken note

			content[0], content[3<<20], content[len(content)-1] = '1', '2', '3'
			write(t, c.file, string(content))
			c.way.arm(up, 1<<40)
			c.send(t.Context(), "--streams", streams).want(t, 0, "a  10485760 bytes", "verified")
			if stored, err := os.ReadFile(filepath.Join(d.dir, "files", "grace", "a")); err != nil || !bytes.Equal(stored, content) {
				t.Errorf("%d bytes stored, %v, that are not the changed file", len(stored), err)
			}
			if sent := c.way.count()[up]; sent > 8<<20 {
				t.Errorf("%d bytes were sent, want what was not held and two chunks", sent)
			}
		})
	}
}
