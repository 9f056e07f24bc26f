package send4_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lukechampine.com/blake3"

	"fenc/config/need"
	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/modes/archive"
	"fenc/modes/send"
	"fenc/modes/send4"
	"fenc/modes/serve"
	"fenc/modes/serve4"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

var (
	simSeeds = flag.Uint64("sim.seeds", 0, "TestSimulation: how many seeds; 0: 200, with -short 20")
	simSeed  = flag.Uint64("sim.seed", 1, "TestSimulation: the first one; those after it follow")
	simLog   = flag.Bool("sim.log", false, "TestSimulation: show the server's log")
)

// Client and server of protocol 4, over a network that delays, cuts and goes silent as
// the seed has it, and with a server that is restarted: every file is verified once,
// whole, whatever the schedule; and everything ends.
func TestSimulation(t *testing.T) {
	t.Parallel()
	sources := newSources(t)
	for seed := *simSeed; seed < *simSeed+need.Rounds(*simSeeds, 200, 20); seed++ {
		t.Run(fmt.Sprintf("seed-%d", seed), func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp(inMemory, "fenc-simulation-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, dir, sources) })
			if t.Failed() {
				t.Logf("replay with -sim.seed=%d -sim.seeds=1", seed)
			}
		})
	}
}

// inMemory is a folder that is no disk, where there is one.
var inMemory = func() string {
	if dir, err := os.MkdirTemp("/dev/shm", "fenc-"); err == nil {
		os.Remove(dir)
		return "/dev/shm"
	}
	return ""
}()

// source is a local file.
type source struct {
	path    string
	content []byte
}

// newSources makes files of the sizes at which something changes.
func newSources(t *testing.T) (all []source) {
	dir, random := t.TempDir(), rand.NewChaCha8([32]byte{4})
	for i, size := range []int{0, 1, 1000, 70_000, 256 << 10, 256<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2<<20 + 5, 5<<20 + 77} {
		s := source{filepath.Join(dir, fmt.Sprint(i)), make([]byte, size)}
		random.Read(s.content)
		if err := os.WriteFile(s.path, s.content, 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// simulated is one run of the simulation.
type simulated struct {
	t       *testing.T
	network *network
	disk    *storagetest.Disk
	dir     string // of the database and the lock
	id      v4.Identity
	log     *slog.Logger
}

// serve runs the server for so long, and then ends it, cutting what is under way.
func (s *simulated) serve(ctx context.Context) error {
	store, err := storage.OpenFolderOn(s.disk, s.dir)
	if err != nil {
		return err
	}
	catalogue, err := model.Open(filepath.Join(s.dir, "fenc.db"), model.Options{})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	kept, err := archive.Open(catalogue, store, s.log)
	if err != nil {
		return errors.Join(err, catalogue.Close(), store.Close())
	}
	server := serve.New(kept, serve.Settings{
		MaxSessions: 64, MaxUnadmitted: 64, IdleTimeout: time.Minute, ShutdownGrace: time.Second,
		Protocol4: &serve4.Settings{Identity: s.id, RequirePQ: true, Registration: model.RegistrationOpen, Software: "test"},
	}, s.log)
	var upkeep sync.WaitGroup
	upkeepCtx, stop := context.WithCancel(context.Background())
	upkeep.Go(func() { kept.Run(upkeepCtx) })
	err = server.Serve(ctx, s.network.listen())
	stop()
	upkeep.Wait()
	return errors.Join(err, kept.Close())
}

func simulate(t *testing.T, seed uint64, dir string, sources []source) {
	random := rand.New(rand.NewPCG(seed, 0))
	id, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	out := io.Discard
	if *simLog {
		out = t.Output()
	}
	s := &simulated{t: t, network: newNetwork(seed, random.Int64N(12)), disk: storagetest.NewDisk(), dir: dir, id: id, log: slog.New(slog.NewTextHandler(out, nil))}
	if err := os.MkdirAll(filepath.Join(dir, ".fenc"), 0o700); err != nil { // where the lock stands
		t.Fatal(err)
	}

	// The server's lives: some short ones, with pauses between them, and a last one.
	ctx, cancel := context.WithCancel(context.Background())
	var lives []time.Duration
	for range random.IntN(3) {
		lives = append(lives, time.Duration(random.ExpFloat64()*float64(3*time.Second)), time.Duration(random.ExpFloat64()*float64(10*time.Second)))
	}
	var serving sync.WaitGroup
	up := make(chan struct{})
	serving.Go(func() {
		for i := 0; i < len(lives); i += 2 {
			life, end := context.WithTimeout(ctx, lives[i]+time.Millisecond)
			if i == 0 {
				close(up)
			}
			if err := s.serve(life); err != nil {
				t.Errorf("a server's life: %v", err)
			}
			end()
			time.Sleep(lives[i+1])
		}
		if len(lives) == 0 {
			close(up)
		}
		if err := s.serve(ctx); err != nil {
			t.Errorf("the server's last life: %v", err)
		}
	})
	<-up
	synctest.Wait()

	var clients sync.WaitGroup
	sent := make(map[string]map[string]source) // by client and path
	for c := range 1 + random.IntN(3) {
		name := fmt.Sprintf("client %d", c)
		files := make(map[string]source)
		var items []send4.Item
		for f := range 1 + random.IntN(6) {
			src := sources[min(random.IntN(len(sources)), random.IntN(len(sources)))] // rather a small one
			path := fmt.Sprintf("folder/%d", f)
			files[path] = src
			items = append(items, send4.Item{Path: src.path, Name: path})
		}
		sent[name] = files
		streams := 1
		if random.IntN(2) == 0 {
			streams = 1 + random.IntN(4)
		}
		clients.Go(func() { s.sendAll(name, items, streams) })
	}
	clients.Wait()
	cancel()
	serving.Wait()
	s.check(sent)
}

// sendAll is a client: it sends its files, however often it must try.
func (s *simulated) sendAll(name string, items []send4.Item, streams int) {
	key, err := v4.NewIdentity()
	if err != nil {
		s.t.Error(err)
		return
	}
	settings := send4.Settings{
		Settings: session4.Settings{
			Server: "server", Pins: []v4.Fingerprint{s.id.Fingerprint()}, RequirePQ: true, ConnectTimeout: 10 * time.Second, Timeout: 2 * time.Minute,
			Software: "test", Dial: s.network.dial,
		},
		Streams: streams, Attempts: 3, RetryFor: time.Hour,
	}
	left, want := items, make(map[string]bool)
	for _, i := range items {
		want[i.Name] = true
	}
	next := func() (send4.Item, bool) {
		if len(left) == 0 {
			return send4.Item{}, false
		}
		item := left[0]
		left = left[1:]
		return item, true
	}
	var mu sync.Mutex // over ended: files may end at the same time
	ended := make(map[string]int)
	report := func(r send.Result) {
		mu.Lock()
		defer mu.Unlock()
		ended[r.Name]++
		if r.Err != nil {
			s.t.Errorf("%s: %s: %v", name, r.Name, r.Err)
		}
	}
	// A first attempt may find no server: that is the user's to see, and he tries again.
	for range 100 {
		err = send4.Run(context.Background(), settings, session4.Identity{Name: name, Key: key}, session4.NewRun(), nil, next, send.Results(report))
		var connection *session4.ConnectionError
		if !errors.As(err, &connection) || connection.Reached || len(left) < len(items) {
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		s.t.Errorf("%s: %v", name, err)
	}
	for path := range want {
		if ended[path] != 1 {
			s.t.Errorf("%s: %s has ended %d times", name, path, ended[path])
		}
	}
}

// check opens what the server has left behind: every file is there, once, and nothing
// is under way.
func (s *simulated) check(sent map[string]map[string]source) {
	t := s.t
	store, err := storage.OpenFolderOn(s.disk, s.dir)
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := model.Open(filepath.Join(s.dir, "fenc.db"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := archive.Open(catalogue, store, s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	}()
	for name, files := range sent {
		client, ok, _ := catalogue.ClientNamed(name)
		if !ok {
			t.Errorf("%s is not in the catalogue", name)
			continue
		}
		for path, src := range files {
			f, ok, _ := catalogue.File(client.ID, path)
			if !ok || !f.Verified || f.Size != int64(len(src.content)) || f.Version != 1 || f.Digest != model.Hash(blake3.Sum256(src.content)) {
				t.Errorf("%s: %s of %d bytes in the catalogue: %v, %+v", name, path, len(src.content), ok, f)
				continue
			}
			content, err := kept.OpenFile(f)
			if err != nil {
				t.Errorf("%s: %s: %v", name, path, err)
				continue
			}
			got := make([]byte, f.Size)
			if n, err := content.ReadAt(got, 0); n < len(got) || !bytes.Equal(got, src.content) {
				t.Errorf("%s: %s: %d bytes, %v, that are not what was sent", name, path, n, err)
			}
			content.Close()
		}
	}
	for _, state := range []model.UploadState{model.UploadOpen, model.UploadSealing} {
		if uploads, err := catalogue.Uploads(state); err != nil || len(uploads) > 0 {
			t.Errorf("%d uploads are left in state %s, %v", len(uploads), state, err)
		}
	}
}
