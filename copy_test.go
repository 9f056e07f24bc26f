//go:build unix

package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"fenc/model"
	"fenc/model/postgrestest"
	"fenc/model/storage/s3/s3test"
	"fenc/wire/v4"
)

// movable is a server whose things are copied, and its clients' files.
type movable struct {
	dir, home string
	settings  string // server.toml
	env       []string
	address   string
	invite    string // not used yet
	sent      map[string]string
}

// newMovable runs a server with SQLite and a folder until it has small files, a large
// one, one that was replaced twice, one by protocol 3, and an invite that is open.
func newMovable(t *testing.T) *movable {
	t.Helper()
	m := &movable{dir: t.TempDir(), home: t.TempDir(), sent: make(map[string]string)}
	m.settings = filepath.Join(m.dir, "server.toml")
	write(t, m.settings, "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nkeep_versions = 3\nkey = \"server.key\"\n")
	server := m.serve(t, m.settings)
	invited := m.run(t, "invite", "--name", "grace", "--config", m.settings)
	invited.want(t, 0, m.address)
	m.client(t, "join", "--dir", m.home, strings.TrimSpace(invited.out)).want(t, 0)
	large := make([]byte, 20<<20+7)
	rand.Read(large)
	m.put(t, "tree/large", string(large))
	m.put(t, "tree/empty", "")
	for i := range 40 {
		m.put(t, fmt.Sprintf("tree/small-%d", i), strings.Repeat("x", i*50+1))
	}
	for _, text := range []string{"first", "second, of more bytes", "third"} {
		m.put(t, "tree/replaced", text)
		m.client(t, "send", "tree").want(t, 0)
	}
	m.put(t, "three", string(large[:3<<20]))
	m.client(t, "send", "--protocol", "3", "--name", "ada", "--me", "ada.toml", "--server", m.address, "three").want(t, 0, "verified")
	open := m.run(t, "invite", "--name", "alan", "--config", m.settings)
	open.want(t, 0)
	m.invite = strings.TrimSpace(open.out)
	m.stop(t, server)
	return m
}

func (m *movable) put(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(m.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	m.sent[name] = content
	write(t, path, content)
}

func (m *movable) run(t *testing.T, args ...string) result {
	t.Helper()
	return start(t, m.dir, m.env, args...).result(t)
}

func (m *movable) client(t *testing.T, args ...string) result {
	t.Helper()
	return start(t, m.home, nil, args...).result(t)
}

func (m *movable) serve(t *testing.T, settings string) *child {
	t.Helper()
	server := start(t, m.dir, m.env, "serve", "--config", settings)
	m.address = server.address(t)
	return server
}

func (m *movable) stop(t *testing.T, server *child) {
	t.Helper()
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0, "msg=stopped")
	if said := server.log.String(); strings.Contains(said, "level=ERROR") {
		t.Errorf("the log: got\n%s", said)
	}
}

// cluster writes the settings of a server with PostgreSQL and a bucket, reached at this
// endpoint.
func (m *movable) cluster(t *testing.T, store *s3test.Server, endpoint string) (settings, database string) {
	t.Helper()
	database = postgrestest.Database(t)
	settings = filepath.Join(m.dir, "cluster.toml")
	m.env = inBuckets(t, store, settings, endpoint)
	write(t, settings, fmt.Sprintf("database = %q\nkeep_versions = 3\nkey = \"cluster.key\"\n", database)+readFile(t, settings))
	return settings, database
}

// serves starts the server of a copy and looks whether it is the one that was copied.
func (m *movable) serves(t *testing.T, settings, key, client string) {
	t.Helper()
	write(t, filepath.Join(m.dir, key), readFile(t, filepath.Join(m.dir, "server.key")))
	server := m.serve(t, settings)
	invite, err := v4.ParseInvite(m.invite)
	if err != nil {
		t.Fatal(err)
	}
	invite.Address = m.address // as if the server had the address of the one before
	m.client(t, "list", "--server", m.address).want(t, 0, "tree/large", "tree/small-39", "tree/empty")
	m.client(t, "get", "--server", m.address, "--dir", client, "tree").want(t, 0)
	for name, content := range m.sent {
		if strings.HasPrefix(name, "tree/") && readFile(t, filepath.Join(m.home, client, name)) != content {
			t.Errorf("%s comes back otherwise than it was sent", name)
		}
	}
	m.client(t, "send", "--server", m.address, "tree").want(t, 0, "unchanged")
	m.client(t, "send", "--protocol", "3", "--server", m.address, "--name", "ada", "--me", "ada.toml", "--as", "again-"+client, "three").want(t, 0, "verified")
	m.client(t, "join", "--dir", filepath.Join(m.home, client+"-alan"), invite.Line()).want(t, 0, "as alan")
	m.put(t, "tree/replaced", "by "+client)
	m.put(t, "tree/new-"+client, client)
	m.client(t, "send", "--server", m.address, "tree").want(t, 0, "verified")
	m.run(t, "check", "--deep", "--config", settings).want(t, 0, ": 0 differences, 0 mended")
	open := m.run(t, "invite", "--name", "alan-"+client, "--config", settings)
	open.want(t, 0)
	m.invite = strings.TrimSpace(open.out)
	m.stop(t, server)
}

// keeps checks the earlier versions of the file that was replaced.
func (m *movable) keeps(t *testing.T, settings string, versions ...string) {
	t.Helper()
	for i, want := range versions {
		r := m.run(t, "files", "get", "--config", settings, "--version", fmt.Sprint(i+1), "--out", "-", "grace", "tree/replaced")
		r.want(t, 0)
		if r.out != want {
			t.Errorf("version %d: got %q, want %q", i+1, r.out, want)
		}
	}
}

// A server moves from SQLite and a folder to PostgreSQL and buckets, and back, and is
// the same to its clients.
func TestCopyThereAndBack(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	m := newMovable(t)
	cluster, _ := m.cluster(t, store, store.Endpoint)

	server := m.serve(t, m.settings)
	m.run(t, "copy", "--config", m.settings, "--to", cluster).want(t, 1, "a server runs", "stop the server first; clients wait")
	m.stop(t, server)
	m.run(t, "copy", "--config", m.settings).want(t, 2, "--to names the server.toml of the new server")
	m.run(t, "copy", "--config", m.settings, "--to", m.settings).want(t, 2, "both are of the database")

	m.run(t, "copy", "--config", m.settings, "--to", cluster).want(t, 0,
		"copied and verified: 44 files and 2 earlier versions of", " 2 clients, in ",
		"next: copy the server's key, which clients trust: "+filepath.Join(m.dir, "server.key")+" to "+filepath.Join(m.dir, "cluster.key"),
		"fenc check --deep --config "+cluster)
	m.run(t, "check", "--deep", "--config", cluster).want(t, 0, ": 0 differences, 0 mended")
	m.run(t, "copy", "--config", m.settings, "--to", cluster).want(t, 2, "is not empty")
	m.keeps(t, cluster, "first", "second, of more bytes", "third")
	m.serves(t, cluster, "cluster.key", "there")
	m.keeps(t, cluster, "first", "second, of more bytes", "third", "by there")

	back := filepath.Join(m.dir, "back.toml")
	write(t, back, "listen = \"127.0.0.1:0\"\nstorage = \"back\"\ndatabase = \"back.db\"\nkeep_versions = 3\nkey = \"back.key\"\n")
	server = m.serve(t, cluster)
	hidden := filepath.Join(m.dir, "elsewhere.toml") // as from another machine, whose socket is not this one's
	write(t, hidden, strings.Replace(readFile(t, cluster), "cluster.key", "elsewhere/cluster.key", 1))
	m.run(t, "copy", "--config", hidden, "--to", back).want(t, 1, "servers work with the catalogue in postgres://", "stop all of them first")
	m.stop(t, server)

	m.run(t, "copy", "--config", cluster, "--to", back).want(t, 0, "copied and verified: 46 files and 3 earlier versions of")
	if got := readFile(t, filepath.Join(m.dir, "back", "grace", "tree", "replaced")); got != "by there" {
		t.Errorf("the tree shows %q, want %q", got, "by there")
	}
	m.run(t, "check", "--deep", "--config", back).want(t, 0, ": 0 differences, 0 mended")
	m.serves(t, back, "back.key", "back")
	// What is in the folder is enough to make the catalogue anew: labels and clients.
	for _, name := range []string{"back.db", "back.db-wal", "back.db-shm"} {
		os.Remove(filepath.Join(m.dir, name))
	}
	m.run(t, "check", "--rebuild", "--config", back).want(t, 0, "database made anew")
	m.run(t, "check", "--deep", "--config", back).want(t, 0, ": 0 differences, 0 mended")
}

// A copy that is killed goes on where it ended, with what has changed meanwhile; until
// it is complete no server starts on it.
func TestCopyKilled(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	for name, end := range map[string]struct {
		at     func(*http.Request) bool
		signal os.Signal
	}{
		"in a large file": {s3test.IsPart, syscall.SIGKILL}, "in a pack": {s3test.IsPut, syscall.SIGKILL}, "asked to end": {s3test.IsPart, syscall.SIGINT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := s3test.Between(t, store)
			m := newMovable(t)
			cluster, _ := m.cluster(t, store, proxy.Endpoint)
			reached, gone := make(chan struct{}), make(chan struct{})
			var seen atomic.Int32
			proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
				// Not those of the check at the start: the clients' rows come after it.
				if end.at(r) && strings.Contains(r.URL.Path, "/fenc/") && m.copies(t, cluster) && seen.Add(1) == 1 {
					pass.ServeHTTP(w, r)
					close(reached)
					<-gone
					s3test.Cut(w)
				}
				pass.ServeHTTP(w, r)
			})
			killed := start(t, m.dir, m.env, "copy", "--config", m.settings, "--to", cluster)
			select {
			case <-reached:
			case <-killed.ended:
				t.Fatalf("the copy ended: %s%s", killed.out, killed.log)
			}
			killed.signal(t, end.signal)
			if end.signal == syscall.SIGKILL {
				killed.await(t)
			}
			close(gone)
			if r := killed.result(t); end.signal == syscall.SIGINT {
				r.want(t, 130, "interrupted: the same command goes on where this one ended")
			}
			proxy.Set(nil)
			m.run(t, "serve", "--config", cluster).want(t, 2, "is an unfinished copy", "run the fenc copy again")

			// The old server goes on for a while.
			server := m.serve(t, m.settings)
			m.put(t, "tree/replaced", "meanwhile")
			m.put(t, "tree/small-3", "meanwhile, too")
			m.client(t, "send", "--server", m.address, "tree").want(t, 0)
			m.stop(t, server)

			other := newMovable(t)
			other.env = m.env
			other.run(t, "copy", "--config", other.settings, "--to", cluster).want(t, 2, "is an unfinished copy of another one")
			m.run(t, "copy", "--config", m.settings, "--to", cluster).want(t, 0, "copied and verified: 44 files and 4 earlier versions of")
			m.run(t, "check", "--deep", "--config", cluster).want(t, 0, ": 0 differences, 0 mended")
			m.serves(t, cluster, "cluster.key", "there")
		})
	}
}

// copies reports whether a copy has begun.
func (m *movable) copies(t *testing.T, settings string) bool {
	_, line, _ := strings.Cut(readFile(t, settings), "database = \"")
	database, _, _ := strings.Cut(line, "\"")
	c, err := model.Open(database, model.Options{ReadOnly: true, Program: "fenc test"})
	if err != nil {
		return false
	}
	defer c.Close()
	clients, err := c.Clients()
	return err == nil && len(clients) > 0
}

// What is damaged where it is copied from is named, and not called verified.
func TestCopyOfDamagedContent(t *testing.T) {
	t.Parallel()
	m := newMovable(t)
	other := filepath.Join(m.dir, "other.toml")
	write(t, other, "listen = \"127.0.0.1:0\"\nstorage = \"other\"\ndatabase = \"other.db\"\nkeep_versions = 3\nkey = \"other.key\"\n")
	c, err := model.Open(filepath.Join(m.dir, "fenc.db"), model.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	objects := make(map[string]string)
	content, _, err := c.CopyAfter(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range content {
		name := k.File.FileName
		if k.Kept != nil {
			name += fmt.Sprint(" ", k.Kept.Version)
		}
		key := k.File.Object.String()
		objects[name] = filepath.Join(m.dir, "files", ".fenc", "objects", key[:2], key)
	}
	if err := c.Close(); err != nil || len(objects) != 46 {
		t.Fatalf("got %d contents, %v", len(objects), err)
	}
	large := []byte(m.sent["tree/large"])
	large[15<<20]++
	write(t, objects["tree/large"], string(large))
	write(t, objects["tree/small-7"], strings.Repeat("y", 351))
	remove(t, objects["tree/small-8"], objects["tree/replaced 1"])

	m.run(t, "copy", "--config", m.settings, "--to", other).want(t, 1,
		"grace/tree/large: its content is damaged", "grace/tree/small-7: its content is damaged", "grace/tree/small-8: its content is missing; not counted as verified",
		"grace/tree/replaced: of its earlier version 1, its content is missing; the version is left out", "4 contents are missing or damaged", "44 files and 1 earlier versions of")
	m.run(t, "check", "--deep", "--config", other).want(t, 1, "3 differences are left")
	write(t, filepath.Join(m.dir, "other.key"), readFile(t, filepath.Join(m.dir, "server.key")))
	server := m.serve(t, other)
	m.client(t, "send", "--server", m.address, "tree").want(t, 0, "verified")
	m.run(t, "check", "--deep", "--config", other).want(t, 0, ": 0 differences, 0 mended")
	m.stop(t, server)

	// Neither a catalogue nor a storage in use is written over.
	m.run(t, "copy", "--config", m.settings, "--to", other).want(t, 2, "/other is not empty")
	write(t, other, strings.Replace(readFile(t, other), "\"other\"", "\"new\"", 1))
	m.run(t, "copy", "--config", m.settings, "--to", other).want(t, 2, "the catalogue is not empty")
}

// The other two kinds of servers: PostgreSQL with a folder, SQLite with buckets.
func TestCopyByWayOfTheOthers(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	m := newMovable(t)
	files, buckets := filepath.Join(m.dir, "files.toml"), filepath.Join(m.dir, "buckets.toml")
	write(t, files, fmt.Sprintf("storage = \"elsewhere\"\ndatabase = %q\nkeep_versions = 3\nkey = \"files.key\"\n", postgrestest.Database(t)))
	m.env = inBuckets(t, store, buckets, store.Endpoint)
	write(t, buckets, "database = \"buckets.db\"\nkeep_versions = 3\nkey = \"buckets.key\"\n"+readFile(t, buckets))
	for _, step := range [][2]string{{m.settings, files}, {files, buckets}} {
		m.run(t, "copy", "--config", step[0], "--to", step[1]).want(t, 0, "copied and verified: 44 files and 2 earlier versions of")
		m.run(t, "check", "--deep", "--config", step[1]).want(t, 0, ": 0 differences, 0 mended")
		m.keeps(t, step[1], "first", "second, of more bytes", "third")
	}
	if got := readFile(t, filepath.Join(m.dir, "elsewhere", "ada", "three")); got != m.sent["three"] {
		t.Errorf("the tree shows %d bytes, want %d, the same", len(got), len(m.sent["three"]))
	}
	m.serves(t, buckets, "buckets.key", "there")
}

// What changes while it is copied, against all advice, is noticed, and copied by the
// next run.
func TestCopyOfWhatChanges(t *testing.T) {
	t.Parallel()
	store := s3test.Start(t)
	proxy := s3test.Between(t, store)
	m := newMovable(t)
	cluster, _ := m.cluster(t, store, proxy.Endpoint)
	var once sync.Once
	proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if s3test.IsPart(r) && m.copies(t, cluster) {
			once.Do(func() {
				m.run(t, "clients", "quota", "--config", m.settings, "grace", "77MiB").want(t, 0)
			})
		}
		pass.ServeHTTP(w, r)
	})
	m.run(t, "copy", "--config", m.settings, "--to", cluster).want(t, 1, "the catalogue has changed while it was copied", "stop the server first", "the same command goes on")
	m.run(t, "copy", "--config", m.settings, "--to", cluster).want(t, 0, "46 of them by an earlier run")
	m.run(t, "clients", "--config", cluster).want(t, 0, "77MiB")
}
