package get4_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/get4"
	"fenc/modes/send"
	"fenc/modes/send4"
	"fenc/modes/serve"
	"fenc/modes/serve4"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

const patience = 3 * time.Minute // after which a test is stuck, not slow

func identity(t testing.TB) v4.Identity {
	t.Helper()
	id, err := v4.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// client is a client of one server.
type client struct {
	session4.Settings
	me session4.Identity
}

func newClient(t testing.TB, addr string, server v4.Identity) *client {
	return &client{
		session4.Settings{
			Server: addr, Pins: []v4.Fingerprint{server.Fingerprint()}, ConnectTimeout: patience, Timeout: patience, Software: "test",
		},
		session4.Identity{Name: "grace", Key: identity(t)},
	}
}

// serveReal runs a server of this program, and returns a client of it.
func serveReal(t testing.TB) *client {
	t.Helper()
	dir := t.TempDir()
	store, err := storage.OpenFolder(filepath.Join(dir, "files"))
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a, err := archive.Open(catalogue, store, log)
	if err != nil {
		t.Fatal(err)
	}
	id, l := identity(t), listen(t)
	server := serve.New(a, serve.Settings{
		MaxSessions: 64, IdleTimeout: patience, ShutdownGrace: patience,
		Protocol4: &serve4.Settings{Identity: id, Registration: model.RegistrationOpen},
	}, log)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Errorf("end of the server: %v", err)
		}
	})
	return newClient(t, l.Addr().String(), id)
}

// send puts content on the server, by name.
func (c *client) send(t testing.TB, content map[string]string) {
	t.Helper()
	dir := t.TempDir()
	var items []send4.Item
	for name, text := range content {
		items = append(items, send4.Item{Path: write(t, filepath.Join(dir, filepath.FromSlash(name)), text), Name: name})
	}
	c.sendItems(t, items...)
}

func (c *client) sendItems(t testing.TB, items ...send4.Item) {
	t.Helper()
	settings := send4.Settings{Settings: c.Settings, Streams: 1}
	next := func() (send4.Item, bool) {
		if len(items) == 0 {
			return send4.Item{}, false
		}
		item := items[0]
		items = items[1:]
		return item, true
	}
	err := send4.Run(t.Context(), settings, c.me, session4.NewRun(), nil, next, send.Results(func(r send.Result) {
		if r.Err != nil {
			t.Errorf("send %s: %v", r.Name, r.Err)
		}
	}))
	if err != nil {
		t.Fatalf("send: %v", err)
	}
}

// got is what a run has reported.
type got struct {
	results map[string]send.Result
	order   []string
	retries []error
	err     error
}

// gotten is a send.Reporter that keeps what it is told.
type gotten struct {
	send.Results // for what is not kept
	mu           sync.Mutex
	got          got
}

func (g *gotten) End(_ *send.Progress, r send.Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got.results[r.Name] = r
	g.got.order = append(g.got.order, r.Name)
}

func (g *gotten) Retry(why error, _ time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.got.retries = append(g.got.retries, why)
}

// get gets paths into dir. change may change the settings.
func (c *client) get(ctx context.Context, dir string, change func(*get4.Settings), paths ...string) got {
	g := gotten{got: got{results: map[string]send.Result{}}}
	settings := get4.Settings{Settings: c.Settings, Dir: dir, Attempts: 3}
	if change != nil {
		change(&settings)
	}
	g.got.err = get4.Run(ctx, settings, c.me, paths, &g)
	return g.got
}

// retrying has a run go on after a lost connection.
func retrying(s *get4.Settings) { s.RetryFor = patience }

// want checks that exactly these files have been got.
func (g got) want(t *testing.T, content map[string]string, unchanged bool) {
	t.Helper()
	if g.err != nil {
		t.Fatalf("get: %v", g.err)
	}
	for name, r := range g.results {
		text, ok := content[name]
		if !ok || r.Err != nil || r.Size != int64(len(text)) || r.Unchanged != unchanged || r.Checksum != "blake3 "+digest(text).String() {
			t.Errorf("result: got %+v, want %d bytes of %s, unchanged %v", r, len(text), digest(text), unchanged)
		}
	}
	if len(g.order) != len(content) {
		t.Errorf("got %d results, want %d", len(g.order), len(content))
	}
}

// wantFailed checks that a file was reported with an error that has the words.
func (g got) wantFailed(t *testing.T, name string, words ...string) {
	t.Helper()
	r, ok := g.results[name]
	if !ok || r.Err == nil {
		t.Errorf("%s: got %+v (%v), want an error; the run's is %v", name, r, ok, g.err)
		return
	}
	wantWords(t, r.Err, words...)
}

func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("got no error, want one of %q", words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got the error %q, want %q in it", err, w)
		}
	}
}

// wantTree checks that a directory has these files and no other, partial ones
// included.
func wantTree(t *testing.T, dir string, content map[string]string) {
	t.Helper()
	var names, want []string
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		name := filepath.ToSlash(rel)
		names = append(names, name)
		if p, err := os.ReadFile(path); err != nil || string(p) != content[name] {
			t.Errorf("%s: got %d bytes, %v, want %d that are equal", name, len(p), err, len(content[name]))
		}
		return nil
	})
	for name := range content {
		want = append(want, name)
	}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the directory has %q, want %q", names, want)
	}
}

func write(t testing.TB, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// partials are the files in dir that are not verified yet.
func partials(dir string) []string {
	names, _ := filepath.Glob(filepath.Join(dir, ".fenc-*.part"))
	return names
}

func digest(content string) v4.Digest { return blake3.Sum256([]byte(content)) }

// pattern is content that differs from one place to the next.
func pattern(size int) string {
	p := make([]byte, size)
	blake3.New(32, nil).XOF().Read(p)
	return string(p)
}

// relay is a way to a server, which counts what comes back on it and can end.
type relay struct {
	net.Listener
	back  atomic.Int64 // bytes that came from the server
	cutAt atomic.Int64 // back at which a connection is cut, once; 0: never
	ends  sync.WaitGroup
}

// through has the client reach its server by a relay.
func (c *client) through(t testing.TB) *relay {
	r, to := &relay{Listener: listen(t)}, c.Server
	c.Server = r.Addr().String()
	r.ends.Go(func() {
		for {
			client, err := r.Accept()
			if err != nil {
				return
			}
			r.ends.Go(func() { r.carry(client, to) })
		}
	})
	t.Cleanup(func() {
		r.Close()
		r.ends.Wait()
	})
	return r
}

func (r *relay) carry(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	r.ends.Go(func() {
		buf := make([]byte, 32<<10)
		for {
			n, err := client.Read(buf)
			if _, writeErr := server.Write(buf[:n]); err != nil || writeErr != nil {
				server.Close()
				return
			}
		}
	})
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		back := r.back.Add(int64(n))
		if _, writeErr := client.Write(buf[:n]); err != nil || writeErr != nil {
			return
		}
		if at := r.cutAt.Load(); at > 0 && back >= at && r.cutAt.CompareAndSwap(at, 0) {
			return
		}
	}
}

// cut has a connection end when so many more bytes have come back.
func (r *relay) cut(bytes int64) { r.cutAt.Store(r.back.Load() + bytes) }

// liar is a server that answers as it is told.
type liar struct {
	net.Listener
	id     v4.Identity
	window uint32                     // of requests
	answer func(k *told, message any) // each request's, in a goroutine of its own

	sessions atomic.Int64
	most     atomic.Int64 // requests without an answer that one connection had
	ends     sync.WaitGroup
}

// told is one of its connections.
type told struct {
	*v4.Conn
	writing  sync.Mutex
	underway atomic.Int64 // requests without an answer
}

func (k *told) say(messages ...any) {
	k.writing.Lock()
	defer k.writing.Unlock()
	for _, m := range messages {
		switch m.(type) {
		case *v4.Entries, *v4.DataEnd, *v4.Refused:
			k.underway.Add(-1)
		}
		k.Write(v4.Append(nil, m))
	}
	k.Flush()
}

// serveLies runs such a server, and returns a client of it.
func serveLies(t testing.TB, window uint32, answer func(k *told, message any)) (*liar, *client) {
	t.Helper()
	s := &liar{Listener: listen(t), id: identity(t), window: window, answer: answer}
	s.ends.Go(func() {
		for {
			c, err := s.Accept()
			if err != nil {
				return
			}
			s.ends.Go(func() { s.converse(c) })
		}
	})
	t.Cleanup(func() {
		s.Close()
		s.ends.Wait()
	})
	return s, newClient(t, s.Addr().String(), s.id)
}

func (s *liar) converse(c net.Conn) {
	defer c.Close()
	conn, err := v4.Secure(context.Background(), c, v4.ServerTLS(s.id, false, func(v4.Fingerprint) error { return nil }), tls.Server)
	if err != nil {
		return
	}
	k := &told{Conn: conn}
	reader := v4.NewReader(conn)
	for {
		h, err := reader.Next()
		if err != nil {
			return
		}
		message, err := reader.Message(h)
		if err != nil {
			return
		}
		switch message.(type) {
		case *v4.Hello:
			s.sessions.Add(1)
			k.say(&v4.Welcome{Rights: v4.RightRead, WindowFiles: s.window, WindowBytes: 1 << 20, Name: "grace"})
		case *v4.Bye:
			k.say(&v4.Farewell{})
			return
		default:
			n := k.underway.Add(1)
			for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
			}
			s.ends.Go(func() { s.answer(k, message) })
		}
	}
}

// entryOf is a truthful entry of a list.
func entryOf(name, content string) v4.Entry {
	return v4.Entry{Size: uint64(len(content)), Mode: 0o644, Digest: digest(content), Path: name}
}

// listed answers 1112 with what is true of content.
func listed(content map[string]string, m *v4.List) *v4.Entries {
	answer := &v4.Entries{Number: m.Number}
	for name, text := range content {
		if m.Prefix == "" || name == m.Prefix || strings.HasPrefix(name, m.Prefix+"/") {
			answer.Entries = append(answer.Entries, entryOf(name, text))
		}
	}
	slices.SortFunc(answer.Entries, func(a, b v4.Entry) int { return strings.Compare(a.Path, b.Path) })
	behind := slices.IndexFunc(answer.Entries, func(e v4.Entry) bool { return e.Path > m.After })
	if behind < 0 {
		behind = len(answer.Entries)
	}
	answer.Entries = answer.Entries[behind:]
	if len(answer.Entries) > int(m.Limit) {
		answer.More, answer.Entries = true, answer.Entries[:m.Limit]
	}
	return answer
}

// fetched is a truthful answer to 1113.
func fetched(content map[string]string, m *v4.Fetch) []any {
	text, number := content[m.Path], m.Number
	answers := []any{&v4.File{Number: number, Size: uint64(len(text)), Mode: 0o644, Digest: digest(text)}}
	for off := int(m.Offset); off < len(text); {
		n := min(v4.MaxBlock/4, len(text)-off)
		answers = append(answers, &v4.Data{Number: number, Offset: uint64(off), Data: []byte(text[off : off+n])})
		off += n
	}
	return append(answers, &v4.DataEnd{Number: number})
}
