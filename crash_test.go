//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fenc/model"
)

var (
	crashRounds = flag.Int("crash.rounds", 12, "how often TestKilledServerLosesNothingVerified kills its server")
	crashSeed   = flag.Uint64("crash.seed", uint64(time.Now().UnixNano()), "what it draws files and moments from")
)

// ledger is what clients were told, and what they were in the middle of.
type ledger struct {
	mu       sync.Mutex
	verified map[string][sha256.Size]byte          // by path in the tree: the last content called verified
	since    map[string]map[[sha256.Size]byte]bool // sent after it, and not heard of
}

func (l *ledger) begin(path string, sum [sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since[path] == nil {
		l.since[path] = make(map[[sha256.Size]byte]bool)
	}
	l.since[path][sum] = true
}

func (l *ledger) heard(path string, sum [sha256.Size]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verified[path] = sum
	delete(l.since, path)
}

// check compares the tree with what was promised.
func (l *ledger) check(t *testing.T, tree string) {
	t.Helper()
	for path, sum := range l.verified {
		content, err := os.ReadFile(filepath.Join(tree, path))
		if got := sha256.Sum256(content); err != nil || got != sum && !l.since[path][got] {
			t.Errorf("%s: %v, %d bytes that are neither what was verified nor anything sent since", path, err, len(content))
		}
	}
	for path, sums := range l.since { // a file that was never called verified is whole or absent
		content, err := os.ReadFile(filepath.Join(tree, path))
		if _, promised := l.verified[path]; err == nil && !promised && !sums[sha256.Sum256(content)] {
			t.Errorf("%s: %d bytes that nobody sent", path, len(content))
		}
	}
}

// A server that is killed at any moment, several clients sending, has every
// file that it called verified, whole, and nothing that nobody sent.
func TestKilledServerLosesNothingVerified(t *testing.T) {
	t.Parallel()
	for _, protocol := range []int{3, 4} {
		t.Run(fmt.Sprintf("protocol %d", protocol), func(t *testing.T) {
			t.Parallel()
			killServers(t, protocol)
		})
	}
}

func killServers(t *testing.T, protocol int) {
	t.Logf("replay with -crash.seed=%d", *crashSeed)
	random := rand.New(rand.NewPCG(*crashSeed, uint64(protocol)))
	dir, kept := t.TempDir(), &ledger{verified: make(map[string][sha256.Size]byte), since: make(map[string]map[[sha256.Size]byte]bool)}
	address := ""
	var clients [3]string
	for round := range *crashRounds {
		listen := "127.0.0.1:0"
		server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", listen)
		address = server.address(t)
		var heard, killAfter atomic.Int64
		killAfter.Store(1 + random.Int64N(8))
		ctx, cancel := context.WithCancel(t.Context())
		var sending sync.WaitGroup
		for i := range clients {
			if clients[i] == "" {
				clients[i] = t.TempDir()
			}
			source := rand.New(rand.NewPCG(random.Uint64(), uint64(i)))
			sending.Go(func() {
				for ctx.Err() == nil {
					sendOne(ctx, t, protocol, clients[i], address, fmt.Sprintf("client %d", i), source, kept, func() {
						if heard.Add(1) >= killAfter.Load() {
							server.Process.Signal(syscall.SIGKILL)
							cancel()
						}
					})
				}
			})
		}
		sending.Wait()
		cancel()
		<-server.ended

		// The next start settles; what it leaves is judged with nobody sending.
		server = start(t, dir, nil, "serve", "--listen", listen)
		server.address(t)
		kept.check(t, filepath.Join(dir, "files"))
		server.signal(t, syscall.SIGTERM)
		server.result(t).want(t, 0)
		wantNoStrays(t, dir)
		if t.Failed() {
			t.Fatalf("after the kill of round %d; the server said:\n%s", round, server.log)
		}
	}
	t.Logf("%d kills, %d files called verified, none lost", *crashRounds, len(kept.verified))
}

// sendOne sends one file of the client's, new or again, and notes what it was
// told.
func sendOne(ctx context.Context, t *testing.T, protocol int, dir, address, name string, random *rand.Rand, kept *ledger, verified func()) {
	file := fmt.Sprintf("file %d", random.IntN(6))
	size := random.IntN(3 << 20)
	if random.IntN(2) == 0 {
		size = random.IntN(5000)
	}
	content := bytes.Repeat([]byte(fmt.Sprintf("%016x", random.Uint64())), size/16+1)[:size]
	path, sum := filepath.Join(dir, file), sha256.Sum256(content)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Error(err)
		return
	}
	stored := filepath.Join(name, file)
	kept.begin(stored, sum)
	settings := write(t, filepath.Join(dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = %q\nme = \"me.toml\"\nprotocol = %d\nretry_for = \"1ms\"\n", address, name, protocol))
	if r := fenc(ctx, strings.NewReader(""), "send", "--config", settings, "--accept-new", path); r.status == 0 {
		kept.heard(stored, sum)
		verified()
	}
}

// wantNoStrays checks a stopped server's storage: nothing in it that the
// catalogue does not know, nothing in the catalogue that is not in it.
func wantNoStrays(t *testing.T, dir string) {
	t.Helper()
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	known := make(map[string]bool) // and whether it must be there
	for _, f := range catalogue.Files() {
		known[f.File.Object.String()] = true
		if !f.File.Verified {
			t.Errorf("%s is no longer verified", f.File.FilePath)
		}
	}
	garbage, err := catalogue.GarbageBefore(time.Now().Add(time.Hour), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range garbage {
		known[id.String()] = false // perhaps an id that was reserved and not used
	}
	for _, state := range []model.UploadState{model.UploadOpen, model.UploadSealing} {
		uploads, err := catalogue.Uploads(state)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range uploads {
			if u.Protocol == 3 || state != model.UploadOpen {
				t.Errorf("upload %s is left in state %s", u.ID, state)
			}
			known[u.ID.String()] = false // to be resumed; its row was there before its bytes
		}
	}
	root := filepath.Join(dir, "files", ".fenc")
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if _, is := known[e.Name()]; err == nil && !e.IsDir() && e.Name() != "lock" && e.Name() != "note-clients" && !is {
			t.Errorf("stray: %s", path)
		}
		delete(known, e.Name())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, must := range known {
		if must {
			t.Errorf("no content for the object %s", id)
		}
	}
}
