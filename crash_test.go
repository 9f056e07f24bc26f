//go:build unix

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fenc/config/need"
)

var (
	crashRounds = flag.Int("crash.rounds", 0, "how many servers TestKilledServerLosesNothingVerified kills; 0: 24, with -short 6")
	crashSeed   = flag.Uint64("crash.seed", 1, "what it draws files and moments from")
)

// progressEvery is after how many rounds a long loop says how far it is.
const progressEvery = 50

// A server that is killed at any moment, several clients sending, has every
// file that it called verified, whole, and nothing that nobody sent.
func TestKilledServerLosesNothingVerified(t *testing.T) {
	t.Parallel()
	t.Logf("replay with -crash.seed=%d", *crashSeed)
	const sites = 2 // at once
	for i := range sites {
		t.Run(fmt.Sprint("site ", i), func(t *testing.T) {
			t.Parallel()
			killServers(t, rand.New(rand.NewPCG(*crashSeed, uint64(i))), (need.Rounds(*crashRounds, 24, 6)+sites-1)/sites)
		})
	}
}

// killServers kills servers of one storage. Half of them end when a client has just
// heard that a file is verified, half at any moment.
func killServers(t *testing.T, random *rand.Rand, rounds int) {
	dir, kept := memoryDir(t), newLedger()
	var clients []*sender
	for i, protocol := range []int{3, 4, 4} {
		clients = append(clients, newSender(t, fmt.Sprintf("client-%d", i), protocol, kept))
	}
	for round := range rounds {
		server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		kill := sync.OnceFunc(func() {
			server.Process.Signal(syscall.SIGKILL)
			cancel()
		})
		heard, onAnswer := atomic.Int64{}, random.IntN(2) == 0
		killAfter, wait := 1+random.Int64N(8), time.Duration(random.Int64N(int64(30*time.Millisecond)))
		address := server.address(t)
		var sending sync.WaitGroup
		for _, c := range clients {
			c.way.server.Store(&address)
			c.random = rand.New(rand.NewPCG(random.Uint64(), uint64(c.protocol)))
			sending.Go(func() {
				for ctx.Err() == nil {
					r := c.sendSome(ctx)
					if n := int64(strings.Count(r.out, "  verified\n")); n > 0 && heard.Add(n) >= killAfter {
						if onAnswer {
							kill()
						} else {
							time.AfterFunc(wait, kill) // any moment: nobody waits for it
						}
					}
				}
			})
		}
		sending.Wait()
		if ctx.Err() == context.DeadlineExceeded {
			t.Errorf("%d files verified in %s, want %d; the server said:\n%s", heard.Load(), patience, killAfter, server.log)
			kill()
		}
		cancel()
		server.await(t)

		// The next start settles; what it leaves is judged with nobody sending.
		server = start(t, dir, nil, "serve", "--listen", "127.0.0.1:0")
		server.address(t)
		kept.checkCatalogue(t, dir)
		server.signal(t, syscall.SIGTERM)
		server.result(t).want(t, 0)
		kept.checkTree(t, filepath.Join(dir, "files"))
		wantNoStrays(t, dir)
		checkDeep(t, dir)
		if t.Failed() {
			t.Fatalf("after the kill of round %d; the server said:\n%s", round, server.log)
		}
		if n := round + 1; n%progressEvery == 0 {
			t.Logf("%d kills so far, %d answers of verified", n, kept.answers)
		}
	}
	t.Logf("%d kills, %d answers of verified for %d files, none lost", rounds, kept.answers, len(kept.verified))
}

// sendSome sends a file of the client's, or a folder of small ones, new or again.
func (c *sender) sendSome(ctx context.Context) result {
	files := make(map[string][]byte)
	switch c.random.IntN(4) {
	case 0:
		files[fmt.Sprint("large-", c.random.IntN(3))] = c.bytes(c.random.IntN(3 << 20))
	case 1:
		for i := range 1 + c.random.IntN(30) {
			files[fmt.Sprintf("%d", i)] = c.bytes(c.random.IntN(3000))
		}
	default:
		files[fmt.Sprint("small-", c.random.IntN(6))] = c.bytes(c.random.IntN(5000))
	}
	return c.send(ctx, files)
}
