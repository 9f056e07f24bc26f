package archive

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model/storage/storagetest"
)

var (
	powerScripts  = flag.Int("power.scripts", 0, "scripts whose every prefix the power is cut after; 0: 4, with -short 1")
	powerVariants = flag.Int("power.variants", 2, "states to look at of each prefix, at most")
	powerEvery    = flag.Int("power.every", 40, "of so many states look at one, by chance; 1 is all")
	powerAgain    = flag.Int("power.again", 0, "the same for states of the starts that follow; 0: as -power.every")
	powerHarmless = flag.Bool("power.harmless", false, "leave out those syncs as well that are thought to be harmless in a power cut, and want nothing broken")
	powerSeed     = flag.Uint64("power.seed", 1, "seed of the first script; the next ones follow")
)

// Every state that a power cut may leave settles: what was verified is there and
// shown, what was held is held, and nothing lies about that no row knows.
func TestPowerCutAfterEveryChange(t *testing.T) {
	t.Parallel()
	scratch := scratchDir(t)
	p := plan{variants: *powerVariants, every: *powerEvery, again: cmp.Or(*powerAgain, *powerEvery), later: *powerEvery}
	scripts := need.Rounds(*powerScripts, 4, 1)
	for i := range scripts {
		seed := *powerSeed + uint64(i)
		if err := p.run(scratch, seed); err != nil {
			t.Fatalf("seed %d (-power.scripts=1 -power.seed=%[1]d -power.variants=%d -power.every=%d -power.again=%d): %v", seed, *powerVariants, *powerEvery, *powerAgain, err)
		}
		if p.count > 10_000 {
			t.Logf("%d scripts so far, %d different states", i+1, p.count)
		}
	}
	t.Logf("%d scripts, %d different states", scripts, p.count)
}

// plan is what the power is cut in.
type plan struct {
	variants int // states of each prefix, at most
	every    int // of so many states one is looked at
	again    int // the same for the starts that follow
	later    int // and for the second script
	skip     func(site string) bool
	count    int // different states so far
}

const (
	stepsOfScript = 10
	restartEvery  = 12 // of so many states one is started on while the power is cut again, and of 2 that have an upload to complete
)

// run runs the script of a seed, cuts the power everywhere, cuts it again in the
// starts that follow, and runs a second script on what one of them has left.
func (p *plan) run(scratch func() string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	m := machine{disk: storagetest.NewDisk(), keep: int64(seed % 2)}
	m.disk.NoLinks, m.disk.NoLabels = seed%4 == 3, seed%4 == 2
	var left []machine
	if err := p.cut(scratch, m, seed, stepsOfScript, func(m machine, settles bool) {
		if settles && random.IntN(2) == 0 || random.IntN(restartEvery) == 0 {
			left = append(left, m)
		}
	}); err != nil {
		return err
	}
	starts := *p
	starts.every = p.again
	for i, m := range left {
		if err := starts.cut(scratch, m, seed, 0, nil); err != nil {
			return fmt.Errorf("second cut, start %d: %w", i, err)
		}
	}
	p.count = starts.count
	if len(left) == 0 {
		return nil
	}
	m = left[len(left)-1]
	m.ahead = time.Hour // garbage is removed
	second := *p
	second.every = p.later
	err := second.cut(scratch, m, seed, stepsOfScript, nil)
	if p.count = second.count; err != nil {
		return fmt.Errorf("second script: %w", err)
	}
	return nil
}

// cut runs a script on a machine and looks at every state that a power cut in it
// leaves. also, unless nil, is given a machine of its own for each, on which the
// power was cut or only the process has ended, and whether an upload is to be
// completed there.
func (p *plan) cut(scratch func() string, m machine, seed uint64, steps int, also func(m machine, settles bool)) error {
	s, err := record(m, scratch(), seed, steps, p.skip)
	if err != nil {
		return err
	}
	settles := false
	return s.cuts(p.variants, make(map[[2]uint64]bool), func(left cutState) error {
		// Where the end of the process and the power cut leave the same names, the
		// first leaves them less certain.
		killed := left.machine
		killed.files, killed.disk = s.settled(left.at), left.after.Kill()
		if s.random.IntN(p.every) > 0 {
			return nil
		}
		if !left.fresh {
			if also != nil && settles {
				also(killed, settles)
			}
			return nil
		}
		p.count++
		cut := killed
		cut.disk = left.disk.Replay().Kill()
		var err error
		settles, err = s.audit(left.machine, left.at, scratch())
		switch {
		case err != nil || also == nil:
			return err
		case settles || s.random.IntN(2) == 0:
			also(killed, settles)
		default:
			also(cut, settles)
		}
		return nil
	})
}

// scratchDir returns a function that makes empty folders, one in place of the
// last, where a sync costs least.
func scratchDir(t *testing.T) func() string {
	t.Helper()
	parent := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "fenc-test-"); err == nil {
		parent = memory
		t.Cleanup(func() { os.RemoveAll(memory) })
	}
	return func() string {
		dir := filepath.Join(parent, "power")
		os.RemoveAll(dir)
		if err := os.MkdirAll(filepath.Join(dir, ".fenc"), 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
}

// Each sync is left out in turn, and each time something is found broken: none is
// there in vain, and the test above can fail.
func TestEverySyncIsNeeded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("one goroutine, and a minute of it")
	}
	scratch := scratchDir(t)
	sites := slices.Clone(syncs)
	all := plan{variants: 1, every: 60, again: 60, later: 60, skip: func(site string) bool {
		if !slices.Contains(sites, site) {
			sites = append(sites, site)
		}
		return false
	}}
	// Four seeds have file systems with and without labels and links. What a sync
	// is for comes up seldom, for some.
	const first, listed, last = 1, 4, 16
	for seed := uint64(first); seed <= listed; seed++ {
		if err := all.run(scratch, seed); err != nil {
			t.Fatal(err)
		}
	}
	for _, site := range sites {
		if _, fine := harmless[site]; fine && !*powerHarmless {
			continue
		}
		var err error
		but := plan{variants: 1, every: 1, again: 1, later: 1, skip: func(s string) bool { return s == site }}
		var seed uint64
		if soon, ok := noticedSoonest[site]; ok {
			seed = soon.seed
			likely := but
			likely.every, likely.again = soon.every, soon.every
			err = likely.run(scratch, seed)
			but.count = likely.count
		}
		for next := uint64(first); next <= last && err == nil; next++ {
			seed = next
			err = but.run(scratch, seed)
		}
		why, fine := harmless[site]
		switch {
		case err == nil && !fine:
			t.Errorf("%s: left out, and nothing is broken", site)
		case err != nil && fine:
			t.Errorf("%s: left out, it should be harmless (%s), and: %v", site, why, err)
		case err != nil:
			t.Logf("%s: left out, noticed (seed %d, %d states): %.300s", site, seed, but.count, strings.SplitN(err.Error(), "\n", 2)[0])
		}
	}
}

// syncs are those whose omission shows. What a run meets beyond them is left out as
// well.
var syncs = []string{
	"layOut SyncDir", "putSmall Sync", "PutAll SyncDir", "(*partial).Seal Sync", "promote SyncDir", "(*partial).Sync Sync", "(*partial).Sync SyncDir",
	"SyncTree SyncDir", "PutNote Sync", "PutNote SyncDir", "putLabel Sync", "Purge SyncDir", "Settle SyncDir", "SetLabel Sync",
}

// noticedSoonest says where those omissions show that the first script seldom meets:
// the seed, and of how many states of its first script one is to be looked at. All
// seeds are tried where that does not notice any more.
var noticedSoonest = map[string]struct {
	seed  uint64
	every int
}{
	"PutNote Sync":    {2, 1},
	"PutNote SyncDir": {2, 1},
	"putLabel Sync":   {2, 1},
	"Purge SyncDir":   {1, 20}, // in the second script
}

// harmless are syncs that a power cut alone does not need.
var harmless = map[string]string{
	"writeProbe Sync":    "finds a disk that fails",
	"ResumeBlocks Sync":  "finds a disk that fails: what is trusted was synced before it was recorded",
	"settleContent Sync": "finds a disk that fails; the label's sync, which follows, makes the content durable as well",
}
