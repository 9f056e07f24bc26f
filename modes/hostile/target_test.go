// Package hostile_test attacks fenc with peers of its own, at the level of the
// socket: servers with clients that break every rule, and clients with servers that
// lie. Each attack has a name and says in a few lines what is sent and what must
// come of it: the answer, the line of the log, what is on the disk.
package hostile_test

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/config/need"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/serve"
	"fenc/modes/serve/servetest"
	"fenc/modes/serve4"
	"fenc/wire/v3"
	"fenc/wire/v4"
)

const patience = 3 * time.Minute // after which a test is stuck, not slow

func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "FENC_") && name != need.Variable {
			os.Unsetenv(name)
		}
	}
	dir, err := os.MkdirTemp("", "fenc-hostile-")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	os.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// target is a server under attack. It has a bystander, whose files nobody must
// touch.
type target struct {
	dir, addr string
	log       *servetest.Log
	identity  v4.Identity
	settings  serve.Settings
	v4        serve4.Settings
	wrap      func(storage.FS) storage.FS
	fold      func(string) string

	archive   *archive.Archive
	server    *serve.Server
	end       func() error // ends all sessions
	stop      func() error // and closes the archive
	bystander *client
	names     atomic.Int64 // of clients made so far
}

// untouched are the bystander's files.
var untouched = map[string]string{"a": "the bystander's", "folder/b": strings.Repeat("and this ", 1000)}

// serveTarget runs a server of both protocols that anybody may register at.
func serveTarget(t testing.TB, changes ...func(*target)) *target {
	t.Helper()
	identity, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	s := &target{
		dir: t.TempDir(), log: servetest.NewLog(), identity: identity,
		settings: serve.Settings{MaxSessions: 4096, IdleTimeout: patience, ShutdownGrace: patience, Protocol3: true, Registration3: true},
		v4: serve4.Settings{
			Identity: identity, RequirePQ: true, Registration: model.RegistrationOpen, Software: "target", Bounds: model.Bounds{Uploads: 16},
		},
	}
	for _, change := range changes {
		change(s)
	}
	s.settings.Protocol4 = &s.v4
	log := slog.New(slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	files := filepath.Join(s.dir, "files")
	must(t, os.MkdirAll(files, 0o700))
	root, err := storage.RootFS(files)
	must(t, err)
	if s.wrap != nil {
		root = s.wrap(root)
	}
	store, err := storage.OpenFolderOn(root, files)
	must(t, err)
	catalogue, err := model.Open(filepath.Join(s.dir, "fenc.db"), model.Options{Fold: s.fold})
	must(t, err)
	s.archive, err = archive.Open(catalogue, store, log)
	must(t, err)
	s.archive.SetPolicy(archive.Policy{Bounds: s.v4.Bounds})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.server = serve.New(s.archive, s.settings, log)
	go func() { ended <- s.server.Serve(ctx, l) }()
	s.end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	s.stop = sync.OnceValue(func() error { return errors.Join(s.end(), s.archive.Close()) })
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("end of the server: %v", err)
		}
		if text := s.log.String(); strings.Contains(text, "session crashed") {
			t.Errorf("a session crashed:\n%s", servetest.LinesWith(text, "session crashed"))
		}
	})
	s.bystander = s.newClient(t, "bystander")
	line := s.bystander.session(t)
	number := uint32(0)
	for path, content := range untouched {
		number++
		line.keeps(number, path, content)
	}
	line.bye()
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serves checks that a new, honest client is served by both protocols, and that
// nothing of the bystander's has changed.
func (s *target) serves(t testing.TB) {
	t.Helper()
	honest := s.newClient(t, fmt.Sprintf("honest %d", s.names.Add(1)))
	line := honest.session(t)
	line.keeps(1, "a", "honest work")
	line.fetches(2, "a", "honest work")
	line.bye()
	if s.settings.Protocol3 && s.names.Load()%8 == 1 { // now and then: its keys take a while
		p := s.greet3(t, fmt.Sprintf("honest %d of 3", s.names.Add(1)))
		p.keeps("a", "honest work")
		p.Close()
	}
	s.wantFolder(t, "bystander", untouched)
}

// awaitShown waits until the tree shows all files of whom it is asked for: small ones that
// come at the same time as many others, whosever those are, are verified before it does.
func (s *target) awaitShown(t testing.TB, whose func(model.ID) bool) {
	t.Helper()
	for late := time.Now().Add(patience); ; runtime.Gosched() {
		packed, err := s.archive.Catalogue.Packed(1 << 20)
		must(t, err)
		if !slices.ContainsFunc(packed, func(f model.File) bool { return whose(f.ClientID) }) {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d verified files are not in the tree yet", len(packed))
		}
	}
}

// wantFolder checks what a client's folder of the tree holds.
func (s *target) wantFolder(t testing.TB, client string, want map[string]string) {
	t.Helper()
	got := make(map[string]string)
	if c, ok, _ := s.archive.Catalogue.ClientNamed(client); ok {
		s.awaitShown(t, func(id model.ID) bool { return id == c.ID })
		root := filepath.Join(s.dir, "files", c.Folder)
		filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				rel, _ := filepath.Rel(root, path)
				content, err := os.ReadFile(path)
				if err != nil {
					t.Errorf("read what is stored: %v", err)
				}
				got[filepath.ToSlash(rel)] = string(content)
			}
			return nil
		})
	}
	if !maps.Equal(got, want) {
		t.Errorf("the folder of %q has %s, want %s", client, sizes(got), sizes(want))
	}
}

// sizes is a folder in few words.
func sizes(files map[string]string) string {
	var all []string
	for path, content := range files {
		all = append(all, fmt.Sprintf("%.80q (%d bytes)", path, len(content)))
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ", ") + "}"
}

// wantNothingStray checks that all that lies in the storage is known to the
// catalogue, that nothing lies beside it, and that its files are as they are called.
// No session may be left.
func (s *target) wantNothingStray(t testing.TB) {
	t.Helper()
	s.awaitShown(t, func(model.ID) bool { return true })
	known := make(map[string]bool)
	shown := make(map[string]bool)
	catalogued, err := s.archive.Catalogue.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range catalogued {
		known[".fenc/objects/"+f.File.Object.String()] = true
		shown[f.File.FilePath] = true
		if f.File.Pack != nil {
			known[".fenc/objects/"+f.File.Pack.String()] = true
		}
	}
	garbage, err := s.archive.Catalogue.GarbageBefore(time.Now().Add(time.Hour), 1<<20)
	must(t, err)
	for _, id := range garbage {
		known[".fenc/objects/"+id.String()] = true
	}
	open, err := s.archive.Catalogue.Uploads(model.UploadOpen)
	must(t, err)
	for _, u := range open {
		known[".fenc/part/"+u.ID.String()] = true
	}
	root := filepath.Join(s.dir, "files")
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		info, err := e.Info()
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular() || info.Mode().Perm() != 0o600:
			t.Errorf("%s has the mode %s, want a plain file for its owner alone", rel, info.Mode())
		}
		object := rel // in folders by its first digits
		if parts := strings.Split(rel, "/"); len(parts) > 3 && parts[0] == ".fenc" {
			object = strings.Join(append(parts[:2:2], parts[len(parts)-1]), "/")
		}
		inside := strings.HasPrefix(rel, ".fenc/objects/") || strings.HasPrefix(rel, ".fenc/part/")
		if inside && !known[object] || !strings.HasPrefix(rel, ".fenc/") && !shown[rel] {
			t.Errorf("%s is in the storage, and the catalogue knows nothing of it", rel)
		}
		return nil
	})
	must(t, err)
	beside, err := os.ReadDir(s.dir)
	must(t, err)
	for _, e := range beside {
		if name := e.Name(); name != "files" && !strings.HasPrefix(name, "fenc.db") {
			t.Errorf("%s lies beside the storage", name)
		}
	}
}

func digestOf(content string) v4.Digest { return blake3.Sum256([]byte(content)) }

// pattern is content of which no two chunks are the same.
func pattern(size int) string {
	p := make([]byte, size)
	blake3.New(32, nil).XOF().Read(p)
	return string(p)
}

// rsaKey is the key of every client of protocol 3: making one takes a while.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := v3.GenerateKey()
	if err != nil {
		panic(err)
	}
	return k
})
