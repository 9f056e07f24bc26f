//go:build unix

package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model/postgrestest"
	"fenc/model/storage/s3/s3test"
)

var (
	clusterRounds = flag.Int("cluster.rounds", 0, "how often TestClusterLosesNothingVerified breaks something; 0: 4, with -short 2")
	clusterSeed   = flag.Uint64("cluster.seed", 1, "what it draws files and faults from")
	clusterFault  = flag.String("cluster.fault", "", "the one fault that it draws; empty: any")
)

const clusterReplicas = 3

// cluster is replicas of a server on PostgreSQL, which a synchronous standby follows, and
// an S3 store, behind a balancer.
type cluster struct {
	t        *testing.T
	dir      string
	env      []string
	database *postgrestest.Cluster
	standby  *postgrestest.Cluster
	store    *s3test.Server
	balancer *balancer
	random   *rand.Rand
	replicas []*replica

	sent   chan struct{} // closed when a round's clients have sent all
	missed int           // faults whose moment did not come
}

// replica is one server, with ways of its own to what all share.
type replica struct {
	*child
	line *postgrestest.Line // to the database
	way  *s3test.Proxy      // to the store
}

func newCluster(t *testing.T, random *rand.Rand, env ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), store: s3test.Start(t), random: random}
	c.database = postgrestest.Start(t, "wal_retrieve_retry_interval=100ms")
	c.standby = c.database.Standby(t)
	bucket := c.store.NewBucket(t)
	c.env = append(env, "AWS_ACCESS_KEY_ID="+s3test.AccessKey, "AWS_SECRET_ACCESS_KEY="+s3test.SecretKey)
	database := c.database.Create(t)
	var addresses []string
	for i := range clusterReplicas {
		r := &replica{line: postgrestest.Between(t, database, c.database, c.standby), way: s3test.Between(t, c.store)}
		c.replicas = append(c.replicas, r)
		address, err := need.Address()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, address)
		dir := c.folder(i)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "server.toml"), fmt.Sprintf(
			"listen = %q\ndatabase = %q\nstorage = \"s3://%s\"\nregistration = \"open\"\nprotocols = [4]\nshutdown_grace = \"20s\"\n[s3]\nendpoint = %q\n",
			addresses[i], r.line.Address, bucket, r.way.Endpoint))
	}
	c.start(0) // which makes the tables, and the key that all have
	key := readFile(t, filepath.Join(c.folder(0), "server.key"))
	for i := 1; i < clusterReplicas; i++ {
		if err := os.WriteFile(filepath.Join(c.folder(i), "server.key"), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		c.start(i)
	}
	c.balancer = balance(t, addresses)
	return c
}

func (c *cluster) folder(i int) string { return filepath.Join(c.dir, fmt.Sprint("replica-", i)) }

// start starts a replica and returns when it takes connections.
func (c *cluster) start(i int) {
	c.t.Helper()
	r := c.replicas[i]
	r.child = start(c.t, c.folder(i), c.env, "serve", "--config", "server.toml")
	r.address(c.t)
}

// beside runs a command of an operator.
func (c *cluster) beside(args ...string) result {
	c.t.Helper()
	return start(c.t, c.folder(0), c.env, append(args, "--config", "server.toml")...).result(c.t)
}

// balancer carries connections to one backend after the other that takes them.
type balancer struct {
	address  string
	next     atomic.Int64
	sent     atomic.Int64 // bytes from clients
	backends []string
}

func balance(t *testing.T, backends []string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{address: l.Addr().String(), backends: backends}
	var carried sync.WaitGroup
	ended := make(chan struct{})
	carried.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			carried.Go(func() { b.carry(client, ended) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(ended)
		carried.Wait()
	})
	return b
}

func (b *balancer) carry(client net.Conn, ended <-chan struct{}) {
	defer client.Close()
	for range b.backends {
		server, err := net.Dial("tcp", b.backends[b.next.Add(1)%int64(len(b.backends))])
		if err != nil {
			continue
		}
		defer server.Close()
		over := make(chan struct{}, 2)
		go func() {
			n, _ := io.Copy(server, client)
			b.sent.Add(n)
			over <- struct{}{}
		}()
		go func() {
			io.Copy(client, server)
			over <- struct{}{}
		}()
		select {
		case <-over:
		case <-ended:
		}
		return
	}
}

// clusterSender is a client that goes on until all is verified.
type clusterSender struct {
	*sender
	settings string
}

func (c *cluster) sender(name string, kept *ledger) *clusterSender {
	c.t.Helper()
	s := &clusterSender{sender: &sender{t: c.t, name: name, home: memoryDir(c.t), protocol: 4, kept: kept}}
	s.settings = write(c.t, filepath.Join(s.home, "transfer.toml"), fmt.Sprintf(
		"server = %q\nname = %q\nme = \"me.toml\"\nretry_for = \"3m\"\nstreams = 3\n", c.balancer.address, name))
	return s
}

// sendAll sends files, which must all be verified. It returns their bytes.
func (s *clusterSender) sendAll(files map[string][]byte) (bytes int64) {
	var top []string
	for name, content := range files {
		bytes += int64(len(content))
		path := filepath.Join(s.home, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			s.t.Error(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			s.t.Error(err)
		}
		first, _, _ := strings.Cut(name, "/")
		if path := filepath.Join(s.home, first); !slices.Contains(top, path) {
			top = append(top, path)
		}
	}
	s.kept.begin(s.name, files)
	r := fenc(s.t.Context(), strings.NewReader(""), append([]string{"send", "--config", s.settings, "--accept-new"}, top...)...)
	if n := s.kept.heard(s.name, files, r.out); r.status != 0 || n < len(files) { // more: the folder has files of an earlier round
		s.t.Errorf("%s: fenc send ended with %d and called %d of %d files verified:\n%s%s", s.name, r.status, n, len(files), r.out, r.errors)
	}
	return bytes
}

// Replicas, the store and the database are broken one after the other while clients
// send through the balancer: every send ends well, and what was called verified reads
// back as it was sent, whichever replica reads.
func TestClusterLosesNothingVerified(t *testing.T) {
	t.Parallel()
	t.Logf("replay with -cluster.seed=%d", *clusterSeed)
	rounds := need.Rounds(*clusterRounds, 4, 2)
	random := rand.New(rand.NewPCG(*clusterSeed, 0))
	c, kept := newCluster(t, random), newLedger()
	var senders []*clusterSender
	for i := range 3 {
		senders = append(senders, c.sender(fmt.Sprint("client-", i), kept))
	}
	faults := drawFaults(random, rounds > 2*len(clusterFaults))
	var bytes atomic.Int64
	broken := make(map[string]int)
	for round := range rounds {
		var sending sync.WaitGroup
		for i, s := range senders {
			s.random = rand.New(rand.NewPCG(random.Uint64(), uint64(i)))
			sending.Go(func() { bytes.Add(s.sendAll(s.some(round))) })
		}
		c.sent = make(chan struct{})
		go func() {
			defer close(c.sent)
			sending.Wait()
		}()
		fault := faults[round%len(faults)]
		broken[fault]++
		c.last(time.Duration(random.IntN(400)) * time.Millisecond)
		clusterFaults[fault](c)
		<-c.sent
		if t.Failed() {
			for i, r := range c.replicas {
				for line := range strings.Lines(r.log.String()) {
					if !strings.Contains(line, "level=INFO") {
						t.Logf("replica %d said: %s", i, line)
					}
				}
			}
			t.Fatalf("in round %d: %s", round, fault)
		}
		if n := round + 1; n%progressEvery == 0 {
			t.Logf("%d faults so far, %d answers of verified", n-c.missed, kept.answers)
		}
	}
	c.checkAll(senders)
	sent := c.balancer.sent.Load()
	t.Logf("%d faults (%v, of which %d came too late), %d answers of verified for %d files, none lost; %d bytes sent for %d of content: %.2f times",
		rounds-c.missed, broken, c.missed, kept.answers, len(kept.verified), sent, bytes.Load(), float64(sent)/float64(bytes.Load()))
	if float64(sent) > 2*float64(bytes.Load()) {
		t.Errorf("clients sent %d bytes for %d of content, want twice at most", sent, bytes.Load())
	}
}

// A client that is revoked at one replica is cut off at once by all that it sends to.
func TestRevokedAtEveryReplica(t *testing.T) {
	t.Parallel()
	c, kept := newCluster(t, rand.New(rand.NewPCG(1, 1)), "FENC_LOG_LEVEL=debug"), newLedger()
	s := c.sender("grace", kept)
	s.random = c.random
	first := write(t, filepath.Join(s.home, "first"), "hello\n")
	fenc(t.Context(), nil, "send", "--config", s.settings, "--accept-new", first).want(t, 0)
	big := filepath.Join(s.home, "big")
	if err := os.WriteFile(big, s.bytes(16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	sending := start(t, s.home, nil, "send", "--config", s.settings, "--bwlimit", "100K", big)
	for _, r := range c.replicas {
		r.log.await(t, `msg="session begun" .*client=grace`, r.ended)
	}
	begun := time.Now()
	c.beside("clients", "revoke", "grace").want(t, 0)
	sending.result(t).want(t, 3, "revoked")
	for _, r := range c.replicas {
		r.log.await(t, `msg="client changed" client=grace .*revoked=true`, r.ended)
	}
	t.Logf("cut off after %v", time.Since(begun))
	fenc(t.Context(), nil, "send", "--config", s.settings, first).want(t, 3, "revoked")
}

// drawFaults is the order that faults come in. One of the database's and one of those at
// a moment come first, so that a short run has them.
func drawFaults(random *rand.Rand, long bool) []string {
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(clusterFaults)) {
		if *clusterFault == name || *clusterFault == "" && (long || !strings.Contains(name, "lease")) {
			faults = append(faults, name)
		}
	}
	random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
	for i, kind := range []string{"takes over", "killed when"} {
		if at := slices.IndexFunc(faults, func(name string) bool { return strings.Contains(name, kind) }); at > i {
			faults[i], faults[at] = faults[at], faults[i]
		}
	}
	return faults
}

// some is what a client sends in a round: small files, and one or two of several
// chunks.
func (s *clusterSender) some(round int) map[string][]byte {
	files := make(map[string][]byte)
	for i := range 5 + s.random.IntN(30) {
		files[fmt.Sprintf("small-%d/%d", round%3, i)] = s.bytes(s.random.IntN(5000))
	}
	for i := range 1 + s.random.IntN(2) {
		p := make([]byte, 1<<20+s.random.IntN(24<<20))
		for off := 0; off < len(p); off += 4096 { // enough to tell every chunk from every other
			p[off], p[min(off+1, len(p)-1)] = byte(s.random.Uint32()), byte(s.random.Uint32())
		}
		files[fmt.Sprintf("large-%d-%d", round%3, i)] = p
	}
	return files
}

// checkAll reads everything back through the balancer, and has fenc check compare
// catalogue and store.
func (c *cluster) checkAll(senders []*clusterSender) {
	c.t.Helper()
	for _, s := range senders {
		back := filepath.Join(s.home, "back")
		fenc(c.t.Context(), nil, "get", "--config", s.settings, "--dir", back, ".").want(c.t, 0)
		for path, want := range s.kept.verified {
			name, own := strings.CutPrefix(path, s.name+"/")
			if !own {
				continue
			}
			got, err := os.ReadFile(filepath.Join(back, filepath.FromSlash(name)))
			if err != nil || identify(got) != want {
				c.t.Errorf("%s was called verified and reads back as %d other bytes (%v)", path, len(got), err)
			}
		}
	}
	c.beside("check", "--deep").want(c.t, 0, "0 differences")
}
