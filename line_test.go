package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// line is a way to a server with somebody on it, who keeps all that goes by, and may
// change a byte of it.
type line struct {
	net.Listener
	server string

	mu      sync.Mutex
	heard   bytes.Buffer
	changed bool
	change  int64 // which byte of what clients send is changed, the first being 1; 0: none
	sent    int64
	ends    sync.WaitGroup
}

func tap(t testing.TB, server string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tapped := &line{Listener: l, server: server}
	tapped.ends.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tapped.ends.Go(func() { tapped.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		tapped.ends.Wait()
	})
	return tapped
}

func (l *line) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", l.server)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	pass := func(to, from net.Conn, up bool) {
		defer to.(*net.TCPConn).CloseWrite()
		p := make([]byte, 64<<10)
		for {
			n, err := from.Read(p)
			l.overhear(p[:n], up)
			if _, failed := to.Write(p[:n]); err != nil || failed != nil {
				return
			}
		}
	}
	both.Go(func() { pass(server, client, true) })
	both.Go(func() {
		pass(client, server, false)
		client.(*net.TCPConn).CloseRead()
	})
	both.Wait()
}

func (l *line) overhear(p []byte, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard.Write(p)
	if !up {
		return
	}
	if at := l.change - l.sent; l.change > 0 && at > 0 && at <= int64(len(p)) {
		p[at-1] ^= 0x20
		l.changed, l.change = true, 0
	}
	l.sent += int64(len(p))
}

// wantUnheard looks for each text, and what it is often written as.
func wantUnheard(t *testing.T, where string, heard []byte, texts map[string]string) {
	t.Helper()
	for what, text := range texts {
		for _, form := range []string{text, hex.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text))} {
			if bytes.Contains(heard, []byte(form)) {
				t.Errorf("%s: %s is there: %q", where, what, form)
			}
		}
	}
}

// Whoever listens to all of it learns neither names nor content nor secrets, of
// protocol 4.
func TestLineShowsNothing(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	way := tap(t, d.addr)
	invite := d.invite(t, "--name", "grace-hopper")
	dir := t.TempDir()
	transfer, me := filepath.Join(dir, "transfer.toml"), filepath.Join(dir, "me.toml")
	fenc(t.Context(), strings.NewReader(invite+"\n"), "join", "--dir", dir).want(t, 0)
	write(t, transfer, strings.Replace(readFile(t, transfer), d.addr, way.Addr().String(), 1))
	file := write(t, filepath.Join(dir, "minutes-of-the-board.txt"), strings.Repeat("the content of a file ", 1<<16))
	fenc(t.Context(), nil, "send", "--config", transfer, "--me", me, file).want(t, 0, "verified")
	fenc(t.Context(), nil, "list", "--config", transfer, "--me", me).want(t, 0, "minutes-of-the-board.txt")
	fenc(t.Context(), nil, "get", "--config", transfer, "--me", me, "--dir", filepath.Join(dir, "back"), ".").want(t, 0)
	way.mu.Lock()
	defer way.mu.Unlock()
	if way.heard.Len() < 2<<20 {
		t.Fatalf("heard %d bytes, want a file both ways", way.heard.Len())
	}
	wantUnheard(t, "the line", way.heard.Bytes(), map[string]string{
		"the client's name": "grace-hopper", "the file's name": "minutes-of-the-board", "content": "the content of a file", "the software": "fenc/0",
	})
}

// An invite is worth nothing to whoever takes the server's disk: that has its hash.
func TestStolenDiskHoldsNoInvite(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	open := d.invite(t, "--name", "ada")
	used := d.invite(t, "--name", "grace")
	dir := t.TempDir()
	fenc(t.Context(), strings.NewReader(used+"\n"), "join", "--dir", dir).want(t, 0)
	secrets := map[string]string{"the client's key": privateKeyIn(t, filepath.Join(dir, "me.toml"))}
	for what, text := range map[string]string{"an open invite": open, "a used invite": used} {
		_, data, _ := strings.Cut(text, "/")
		raw, err := base64.RawURLEncoding.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		secrets[what] = string(raw[32:48]) // the token, behind the fingerprint
	}
	d.stop(t)
	looked := 0
	filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type().IsRegular() {
			looked++
			wantUnheard(t, path, []byte(readFile(t, path)), secrets)
		}
		return nil
	})
	wantUnheard(t, "the log", []byte(d.log.String()), secrets)
	if looked < 3 {
		t.Errorf("looked at %d files, want the database and more", looked)
	}
}

func privateKeyIn(t *testing.T, me string) string {
	t.Helper()
	_, rest, _ := strings.Cut(readFile(t, me), `private_key = "`)
	key, _, ok := strings.Cut(rest, `"`)
	if !ok || len(key) < 64 {
		t.Fatalf("%s holds no key", me)
	}
	return key
}

// Whoever changes a byte on the way, wherever it is, ends the connection and
// achieves nothing else: sending again, the content arrives as it is.
func TestChangedByteOnTheLineIsNoticed(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), "server = \""+d.addr+"\"\nname = \"grace\"\n")
	fenc(t.Context(), nil, "send", "--config", settings, "--accept-new", write(t, filepath.Join(dir, "first"), "1")).want(t, 0)
	content := strings.Repeat("0123456789abcdef", 3<<20/16)
	file := write(t, filepath.Join(dir, "big"), content)
	stored := filepath.Join(d.dir, "files", "grace", "big")
	for _, at := range []int64{1, 60, 700, 2000, 3000, 20_000, 300_000, 1 << 20} {
		way := tap(t, d.addr)
		way.change = at
		r := fenc(t.Context(), nil, "send", "--config", settings, "--server", way.Addr().String(), "--retry-for", "0s", file)
		way.mu.Lock()
		changed := way.changed
		way.mu.Unlock()
		if !changed || r.status != 1 || strings.Contains(r.out, "  verified\n") {
			t.Errorf("byte %d changed: %t; got status %d and\n%s%s\nwant it not verified", at, changed, r.status, r.out, r.errors)
		}
		if text, err := os.ReadFile(stored); err == nil && string(text) != content {
			t.Errorf("byte %d: the server shows a file of %d bytes that nobody sent", at, len(text))
		}
	}
	way := tap(t, d.addr)
	way.change = 300_000
	fenc(t.Context(), nil, "send", "--config", settings, "--server", way.Addr().String(), file).want(t, 0, "trying again", "verified")
	d.stop(t)
	wantStored(t, d, "grace", "big", content)
}
