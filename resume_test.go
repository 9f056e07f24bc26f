//go:build unix

package main

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenc/config/need"
)

var (
	resumeKills = flag.Int("resume.kills", 0, "how many clients and servers TestKilledUploadsResume kills; 0: 20, with -short 4")
	resumeSeed  = flag.Uint64("resume.seed", 1, "what it draws the moments from")
)

// A large upload arrives whole, whoever is killed in the middle of it how often
// ever, and what is sent twice is no more than what the server did not hold.
func TestKilledUploadsResume(t *testing.T) {
	t.Parallel()
	t.Logf("replay with -resume.seed=%d", *resumeSeed)
	random := rand.New(rand.NewPCG(*resumeSeed, 4))
	const size = 160 << 20
	dir, home, way := t.TempDir(), t.TempDir(), newRelay(t)
	startServer := func() *child {
		server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
		address := server.address(t)
		way.server.Store(&address)
		return server
	}
	server := startServer()
	source := rand.NewChaCha8([32]byte{byte(*resumeSeed)})
	wanted, kills, lost, total := need.Rounds(*resumeKills, 20, 4), 0, int64(0), int64(0)
	var client *child
	for file := 0; kills < wanted; file++ {
		content := make([]byte, size)
		source.Read(content)
		name := fmt.Sprintf("big %d", file)
		path := write(t, filepath.Join(home, name), string(content))
		total += size
		for done := false; !done; {
			if client == nil {
				client = start(t, home, nil, "send", "--server", way.Addr().String(), "--name", "grace", "--accept-new", path)
			}
			reached := make(chan struct{})
			if kills < wanted {
				way.after(1<<20+random.Int64N(24<<20), func() { close(reached) })
			}
			select {
			case <-client.ended:
				client.result(t).want(t, 0, name+"  167772160 bytes", "verified")
				client, done = nil, true
			case <-time.After(patience):
				t.Fatalf("no progress; the client said:\n%s\nthe server said:\n%s", client.log, server.log)
			case <-reached:
				kills++
				if random.IntN(2) == 0 {
					client.signal(t, syscall.SIGKILL)
					client.await(t)
					client = nil
				} else {
					way.away()
					server.signal(t, syscall.SIGKILL)
					server.await(t)
					server = startServer()
					lost++
				}
			}
		}
		way.after(1<<62, nil)
		stored, err := os.ReadFile(filepath.Join(dir, "files", "grace", name))
		if err != nil || !bytes.Equal(stored, content) {
			t.Fatalf("%s: %v, %d bytes stored that are not what was sent", name, err, len(stored))
		}
		os.Remove(path)
		os.Remove(filepath.Join(dir, "files", "grace", name))
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	if log := server.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the server says:\n%s", log)
	}
	// 64 MiB is what need not be held; the rest is what was under way: the server's
	// blocks, buffers of sockets and of this relay, and frames.
	const notHeld = 64<<20 + 32<<20
	again := way.sent.Load() - total
	t.Logf("%d kills, %d of them of servers; %d MiB sent, %d MiB of them again, %d MiB a kill", kills, lost, way.sent.Load()>>20, again>>20, again>>20/int64(kills))
	if again > int64(kills)*notHeld {
		t.Errorf("%d bytes were sent again after %d kills, want at most %d", again, kills, int64(kills)*notHeld)
	}
}
