package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"fenc/config/need"
	"fenc/model/storage/storagetest"
)

var (
	powerCuts = flag.Int("fuse.cuts", 0, "how often TestPowerCutOfTheBinary cuts the power; 0: 6, with -short 2")
	powerSeed = flag.Uint64("fuse.seed", 1, "what it draws transfers and moments from")
)

// cutsOfSession is how often the power is cut in one session that was recorded.
const cutsOfSession = 20

// The real binary, its catalogue included, on a disk that forgets: whenever the
// power goes, the next start has every file that was called verified.
func TestPowerCutOfTheBinary(t *testing.T) {
	t.Parallel()
	unmount, err := storagetest.NewDisk().Mount(t.TempDir())
	if err != nil {
		t.Skipf("no file system can be mounted through FUSE here (%v): the power is cut in process alone, by TestPowerCutAfterEveryChange", err)
	}
	if err := unmount(); err != nil {
		t.Fatal(err)
	}
	wanted, cuts, settled, promises := need.Rounds(*powerCuts, 6, 2), 0, 0, 0
	for seed := *powerSeed; cuts < wanted; seed++ {
		p := recordSession(t, seed)
		n := min(cutsOfSession, wanted-cuts)
		p.cut(n)
		cuts, settled, promises = cuts+n, settled+p.settled, promises+p.kept.answers
		if t.Failed() {
			t.Fatalf("replay with -fuse.seed=%d", seed)
		}
		if cuts%(5*cutsOfSession) == 0 {
			t.Logf("%d power cuts so far", cuts)
		}
	}
	t.Logf("%d power cuts (-fuse.seed=%d) in sessions with %d answers of verified, nothing lost; %d starts had uploads to settle", cuts, *powerSeed, promises, settled)
}

// poweredSession is what a server did to its disk while clients sent.
type poweredSession struct {
	*testing.T
	random  *rand.Rand
	disk    *storagetest.Disk
	kept    *ledger
	events  []poweredEvent
	settled int // starts that had something to complete
}

// poweredEvent is what a client did and was told, and how many changes the disk had
// seen by then.
type poweredEvent struct {
	at     int
	folder string
	files  map[string][]byte
	said   string // "" before it was sent
}

// recordSession has clients of both protocols send to a server on a new disk.
func recordSession(t *testing.T, seed uint64) *poweredSession {
	t.Helper()
	p := &poweredSession{T: t, random: rand.New(rand.NewPCG(seed, 0)), disk: storagetest.NewDisk(), kept: newLedger()}
	p.disk.NoLabels, p.disk.NoLinks = seed%4 == 2, seed%4 == 3
	server, unmount := p.serve(p.disk)
	defer unmount()
	address := server.address(t)
	var clients []*sender
	for _, protocol := range []int{3, 4} {
		c := newSender(t, fmt.Sprint("grace-", protocol), protocol, p.kept)
		c.random = p.random
		c.way.server.Store(&address)
		clients = append(clients, c)
	}
	for range 6 {
		c := clients[p.random.IntN(2)]
		files := make(map[string][]byte)
		interrupted := false
		switch n := p.random.IntN(4); {
		case n == 0 && c.protocol == 4:
			for i := range 16 + p.random.IntN(4) {
				files[fmt.Sprintf("g/%d", i)] = p.bytes(300)
			}
		case n == 1:
			files["large"] = p.bytes(2<<20 + 5)
			interrupted = p.random.IntN(2) == 0
		default:
			files[fmt.Sprint("small-", n)] = p.bytes(5000)
		}
		p.send(c, files, interrupted)
	}
	if p.random.IntN(2) == 0 {
		server.signal(t, syscall.SIGTERM) // its end is cut as well
	} else {
		server.signal(t, syscall.SIGKILL)
	}
	server.result(t)
	return p
}

// bytes makes content that comes once, of up to n bytes.
func (p *poweredSession) bytes(n int) []byte {
	content := make([]byte, 1+p.random.IntN(n))
	for i := range content {
		content[i] = byte(p.random.Uint32())
	}
	return content
}

// serve starts a server on a disk: storage, catalogue and key. unmount ends it, if
// it has not ended.
func (p *poweredSession) serve(d *storagetest.Disk) (server *child, unmount func()) {
	p.Helper()
	dir := p.TempDir()
	stop, err := d.Mount(dir)
	if err != nil {
		p.Fatal(err)
	}
	server = start(p.T, p.TempDir(), []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0",
		"--storage", filepath.Join(dir, "files"), "--database", filepath.Join(dir, "fenc.db"))
	return server, func() {
		server.Process.Kill()
		server.await(p.T)
		if err := stop(); err != nil {
			p.Error(err)
		}
	}
}

func (p *poweredSession) send(c *sender, files map[string][]byte, interrupted bool) {
	p.Helper()
	ctx, interrupt := context.WithCancel(p.Context())
	defer interrupt()
	if interrupted {
		c.way.after(600<<10, interrupt)
		defer c.way.after(1<<62, nil)
	}
	p.events = append(p.events, poweredEvent{p.disk.Changes(), c.name, files, ""})
	r := c.send(ctx, files)
	p.events = append(p.events, poweredEvent{p.disk.Changes(), c.name, files, r.out})
	if ctx.Err() == nil {
		r.want(p, 0)
	}
	c.way.idle()
}

// ledgerAt is what clients had been told when the disk had seen so many changes.
func (p *poweredSession) ledgerAt(changes int) *ledger {
	l := newLedger()
	for _, e := range p.events {
		switch {
		case e.at > changes:
			return l
		case e.said == "":
			l.begin(e.folder, e.files)
		default:
			l.heard(e.folder, e.files, e.said)
		}
	}
	return l
}

// cut cuts the power at n moments and looks at what the next server makes of it.
func (p *poweredSession) cut(n int) {
	p.Helper()
	moments := make([]int, n)
	for i := range moments {
		moments[i] = p.random.IntN(p.disk.Changes() + 1)
	}
	slices.Sort(moments)
	replay := p.disk.Replay()
	for _, at := range moments {
		for replay.Taken() < at {
			replay.Step()
		}
		part := []float64{0, 1, 0.5, 0.1, 0.9}[p.random.IntN(5)]
		p.judge(replay.Cut(part, p.random), p.ledgerAt(at))
		if p.Failed() {
			p.Fatalf("power cut after %d changes of %d, of what was not synced %g was there", at, p.disk.Changes(), part)
		}
	}
}

// judge has a server take over what a power cut left, serve a newcomer and end, and
// looks at a copy of what is there then.
func (p *poweredSession) judge(disk *storagetest.Disk, kept *ledger) {
	p.Helper()
	server, unmount := p.serve(disk)
	defer unmount()
	defer func() {
		if p.Failed() {
			p.Logf("the server said:\n%s", server.log)
		}
	}()
	address := server.address(p.T)
	c := newSender(p.T, "newcomer", 4, kept)
	c.way.server.Store(&address)
	c.send(p.Context(), map[string][]byte{"later": []byte("later\n")}).want(p, 0, "verified")
	server.signal(p.T, syscall.SIGTERM)
	server.result(p.T).want(p, 0)
	if strings.Contains(server.log.String(), "interrupted upload") {
		p.settled++
	}
	if strings.Contains(server.log.String(), "level=ERROR") {
		p.Errorf("the server speaks of errors")
	}
	dir := memoryDir(p)
	if err := disk.CopyTo(dir); err != nil {
		p.Fatal(err)
	}
	defer os.RemoveAll(dir)
	kept.checkCatalogue(p, dir)
	kept.checkTree(p, filepath.Join(dir, "files"))
	wantNoStrays(p.T, dir)
	checkDeep(p, dir)
}
