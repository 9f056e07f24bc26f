//go:build unix

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fenc/model/postgrestest"
	"fenc/model/storage/s3/s3test"
)

// What fenc does, it does on every catalogue and every storage, and with two servers
// where both can be shared.
func TestEveryCatalogueAndStorage(t *testing.T) {
	t.Parallel()
	for _, catalogue := range []string{"SQLite", "PostgreSQL"} {
		for _, storage := range []string{"folder", "S3"} {
			t.Run(catalogue+" and "+storage, func(t *testing.T) {
				t.Parallel()
				if testing.Short() && (catalogue == "SQLite") != (storage == "folder") {
					t.Skip("with -short, each of the four parts once")
				}
				e := &engines{t: t, dir: t.TempDir(), home: t.TempDir(), way: newRelay(t), random: rand.NewChaCha8([32]byte{1})}
				database, keep, table := "fenc.db", "files", ""
				if catalogue == "PostgreSQL" {
					database = postgrestest.Database(t)
				}
				if storage == "S3" {
					store := s3test.Start(t)
					keep, table = "s3://"+store.NewBucket(t)+"/below", fmt.Sprintf("[s3]\nendpoint = %q\n", store.Endpoint)
				}
				e.write("server.toml", fmt.Sprintf("listen = \"127.0.0.1:0\"\ndatabase = %q\nstorage = %q\nregistration = \"invite\"\nkeep_versions = 1\n%s", database, keep, table))
				e.serve()
				e.useEverything()
			})
		}
	}
}

// engines is a server on some catalogue and storage, and a client of it.
type engines struct {
	t         *testing.T
	dir, home string // the server's and the client's
	way       *relay // between them
	server    *child
	random    *rand.ChaCha8
}

func (e *engines) write(name, text string) string {
	e.t.Helper()
	return write(e.t, filepath.Join(e.dir, name), text)
}

func (e *engines) env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s3test.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3test.SecretKey}
}

func (e *engines) serve() {
	e.t.Helper()
	e.server = start(e.t, e.dir, e.env(), "serve")
	address := e.server.address(e.t)
	e.way.server.Store(&address)
}

func (e *engines) kill() {
	e.t.Helper()
	e.way.away()
	e.server.signal(e.t, syscall.SIGKILL)
	e.server.await(e.t)
}

// beside runs an operator's command.
func (e *engines) beside(args ...string) result {
	e.t.Helper()
	return start(e.t, e.dir, e.env(), args...).result(e.t)
}

// client runs a command of the client's.
func (e *engines) client(args ...string) result {
	e.t.Helper()
	return start(e.t, e.home, nil, args...).result(e.t)
}

// put writes a file of the client's.
func (e *engines) put(name string, size int) []byte {
	e.t.Helper()
	p := make([]byte, size)
	e.random.Read(p)
	path := filepath.Join(e.home, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		e.t.Fatal(err)
	}
	write(e.t, path, string(p))
	return p
}

// wantBack gets a file and compares it.
func (e *engines) wantBack(name string, want []byte) {
	e.t.Helper()
	dir := filepath.Join(e.home, "back")
	e.client("get", "--replace", "--dir", dir, name).want(e.t, 0)
	got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil || string(got) != string(want) {
		e.t.Errorf("%s: %v, got %d bytes back that are not the %d sent", name, err, len(got), len(want))
	}
}

func (e *engines) useEverything() {
	t := e.t
	t.Helper()
	invite := e.beside("invite", "--name", "grace", "--quota", "200M", "--advertise", e.way.Addr().String())
	invite.want(t, 0)
	e.client("join", strings.TrimSpace(invite.out)).want(t, 0, "joined")
	e.client("join", strings.TrimSpace(invite.out)).want(t, 0, "grace") // again, by what it has used

	// Small files, an empty one and a large one; then nothing has changed.
	for i := range 60 {
		e.put(fmt.Sprintf("tree/small/%d", i), i*37)
	}
	large := e.put("tree/large", 40<<20)
	e.client("send", "tree").want(t, 0, "tree/large  41943040 bytes", "tree/small/0  0 bytes", "verified")
	e.client("send", "tree").want(t, 0, "unchanged")
	e.wantBack("tree/large", large)
	e.client("get", "--dir", "all", ".").want(t, 0)
	e.client("list", "tree/small/1").want(t, 0, "tree/small/1")
	e.beside("files").want(t, 0, "tree/large", "tree/small/59")
	e.beside("clients").want(t, 0, "grace", "61")

	// A changed file goes by its changed chunks.
	copy(large[10<<20:], "changed here")
	write(t, filepath.Join(e.home, "tree", "large"), string(large))
	before := e.way.sent.Load()
	e.client("send", "tree").want(t, 0, "verified")
	if sent := e.way.sent.Load() - before; sent > 20<<20 {
		t.Errorf("%d bytes were sent for one changed chunk of a file of %d", sent, len(large))
	}
	e.wantBack("tree/large", large)

	// What a killed server has held is not sent again.
	resumed := e.put("resumed", 64<<20)
	before = e.way.sent.Load()
	killed := make(chan struct{})
	e.way.after(40<<20, func() {
		e.kill()
		close(killed)
	})
	sending := start(t, e.home, nil, "send", "--retry-for", "1m", "resumed")
	select {
	case <-killed:
	case <-sending.ended:
		t.Fatalf("the file was sent before 40 MiB of it were:\n%s", sending.log)
	}
	e.beside("uploads").want(t, 0, "resumed")
	e.serve()
	sending.result(t).want(t, 0, "resumed", "verified")
	if sent := e.way.sent.Load() - before; sent > 2*64<<20 {
		t.Errorf("%d bytes were sent for a file of %d that was interrupted", sent, len(resumed))
	}
	e.wantBack("resumed", resumed)

	// Over the quota nothing is taken.
	e.put("too-much", 120<<20)
	e.client("send", "--retry-for", "1ms", "too-much").want(t, 3, "quota")
	os.Remove(filepath.Join(e.home, "too-much"))

	e.beside("check", "--deep").want(t, 0, " 0 differences")
	e.beside("clients", "revoke", "grace").want(t, 0)
	e.server.log.await(t, `msg="client changed" client=grace .*revoked=true`, e.server.ended)
	e.client("send", "tree").want(t, 3, "revoked")
	e.beside("files").want(t, 0, "resumed")
}
