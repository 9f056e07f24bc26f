package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"fenc/config/need"
	"fenc/wire/v4"
)

var netEvery = flag.Int64("net.every", 0, "TestCutAnywhere cuts sessions at every so many bytes; 0: 61, with -short 499")

const (
	up   = 0 // what the client sends
	down = 1 // what the server sends
)

// cutter is a way to a server that is cut once, when so many bytes have passed in
// a direction, over all connections.
type cutter struct {
	net.Listener
	server string

	mu     sync.Mutex
	passed [2]int64
	at     [2]int64      // where to cut; -1: nowhere
	cut    chan struct{} // closed when it has happened
	ends   sync.WaitGroup
	open   int        // connections, guarded by mu
	left   *sync.Cond // one of them has ended
}

// newCutter makes a way that is open until arm is called.
func newCutter(t testing.TB, server string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, server: server, at: [2]int64{-1, -1}}
	c.left = sync.NewCond(&c.mu)
	c.ends.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.opened(1)
			go func() {
				defer c.opened(-1)
				c.carry(conn)
			}()
		}
	})
	t.Cleanup(c.close)
	return c
}

func (c *cutter) close() {
	c.Listener.Close()
	c.ends.Wait()
	c.idle()
}

func (c *cutter) opened(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += by
	c.left.Broadcast()
}

// idle waits until there is no connection. Others may come meanwhile, which a WaitGroup
// does not allow.
func (c *cutter) idle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.open > 0 {
		c.left.Wait()
	}
}

// arm has the way cut when so many bytes more have passed.
func (c *cutter) arm(direction int, at int64) (cut <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed, c.at, c.cut = [2]int64{}, [2]int64{-1, -1}, make(chan struct{})
	c.at[direction] = at
	return c.cut
}

// count returns how many bytes have passed since arm.
func (c *cutter) count() [2]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed
}

// pass returns how many of n bytes may pass, and whether the way is cut behind them.
func (c *cutter) pass(direction int, n int64) (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cut := false
	if at := c.at[direction]; at >= 0 && c.passed[direction]+n >= at {
		n, cut = at-c.passed[direction], true
		c.at[direction] = -1
		close(c.cut)
	}
	c.passed[direction] += n
	return n, cut
}

func (c *cutter) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return
	}
	defer server.Close()
	var both sync.WaitGroup
	var dead atomic.Bool
	move := func(to, from net.Conn, direction int) {
		// The end goes where the last byte went; a reset might overtake that byte.
		defer to.(*net.TCPConn).CloseWrite()
		p := make([]byte, 32<<10)
		for {
			n, err := from.Read(p)
			if dead.Load() {
				n = 0
			}
			passed, cut := c.pass(direction, int64(n))
			_, failed := to.Write(p[:passed])
			if cut {
				dead.Store(true)
				from.Close()
			}
			if cut || err != nil || failed != nil {
				return
			}
		}
	}
	both.Go(func() { move(server, client, up) })
	both.Go(func() {
		move(client, server, down)
		client.(*net.TCPConn).CloseRead()
	})
	both.Wait()
}

// cutCase is a client whose way to the server is cut.
type cutCase struct {
	t    *testing.T
	d    *daemon
	way  *cutter
	name string // of the client
	dir  string
	file string
	text string // content of file, which is called "a" at the server
}

func newCutCase(t *testing.T, d *daemon, name, text string) *cutCase {
	t.Helper()
	c := &cutCase{t: t, d: d, way: newCutter(t, d.addr), name: name, dir: t.TempDir(), text: text}
	c.file = write(t, filepath.Join(c.dir, "a"), text)
	return c
}

func (c *cutCase) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cutCase) settings(more string) {
	write(c.t, c.path("transfer.toml"), fmt.Sprintf("server = %q\nname = %q\nme = \"me.toml\"\n%s", c.way.Addr(), c.name, more))
}

func (c *cutCase) send(ctx context.Context, more ...string) result {
	args := append([]string{"send", "--config", c.path("transfer.toml")}, more...)
	return fenc(ctx, strings.NewReader(""), append(args, c.file)...)
}

// scenario is a small session. run prepares it, calls arm, holds it, and fails the
// test unless it came to the end that it has to come to.
type scenario struct {
	text string
	run  func(c *cutCase, arm func())
}

var scenarios = map[string]scenario{
	// Who has been shown no key yet has nothing to go on with: that is an error, and
	// the same command works.
	"register and send": {"small\n", func(c *cutCase, arm func()) {
		c.settings("")
		arm()
		r := c.send(c.t.Context(), "--accept-new")
		if r.status == 1 && strings.Contains(r.errors, "while asking for its key") {
			r = c.send(c.t.Context(), "--accept-new")
		}
		r.want(c.t, 0, "a  6 bytes")
	}},
	"join and send": {"small\n", func(c *cutCase, arm func()) {
		invite, err := v4.ParseInvite(c.d.invite(c.t, "--name", c.name))
		if err != nil {
			c.t.Fatal(err)
		}
		invite.Address = c.way.Addr().String()
		arm()
		fenc(c.t.Context(), strings.NewReader(invite.Line()+"\n"), "join", "--dir", c.dir).want(c.t, 0, "joined")
		c.send(c.t.Context(), "--me", c.path("me.toml")).want(c.t, 0, "a  6 bytes")
	}},
	// The first chunk is at the server already.
	"resume": {strings.Repeat("x", 1<<20) + strings.Repeat("y", 1000), func(c *cutCase, arm func()) {
		c.settings("")
		write(c.t, c.path("first"), "")
		fenc(c.t.Context(), strings.NewReader(""), "send", "--config", c.path("transfer.toml"), "--accept-new", c.path("first")).want(c.t, 0)
		ctx, interrupt := context.WithCancel(c.t.Context())
		cut := c.way.arm(up, 1<<20+4096) // all but the end of the content
		go func() {
			<-cut
			interrupt()
		}()
		c.send(ctx).want(c.t, 130)
		c.way.idle() // the server has taken note
		arm()
		c.send(c.t.Context()).want(c.t, 0, "a  1049576 bytes")
		if sent := c.way.count()[up]; sent > 1<<20 {
			c.t.Errorf("%d bytes were sent to resume, want the rest alone", sent)
		}
	}},
	// Protocol 3 does not try again. A name whose id was lost on the way is taken.
	"protocol 3": {"small\n", func(c *cutCase, arm func()) {
		c.settings("protocol = 3\n")
		arm()
		r := c.send(c.t.Context())
		if r.status == 1 {
			r.want(c.t, 1, "server "+c.way.Addr().String())
			registered := strings.Contains(r.errors, "registered as")
			r = c.send(c.t.Context())
			if r.status == 3 && !registered {
				r.want(c.t, 3, "is in use")
				c.name += "-again"
				c.settings("protocol = 3\n")
				r = c.send(c.t.Context())
			}
		}
		r.want(c.t, 0, "a  6 bytes", "verified")
	}},
}

// Wherever a session is cut, in either direction, its file arrives and is verified,
// once; or the client says that the connection was lost, and the next one works.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			// All clients have one address, and come as fast as they can.
			write(t, filepath.Join(dir, "server.toml"), "listen = \"127.0.0.1:0\"\nstorage = \"files\"\ndatabase = \"fenc.db\"\nlog_format = \"json\"\nmax_handshakes_per_address = 1000000\n")
			d := serve(t, dir)
			whole := newCutCase(t, d, "whole", s.text)
			s.run(whole, func() { whole.way.arm(up, 1<<40) })
			total, every := whole.way.count(), need.Rounds(*netEvery, 61, 499)
			var cuts atomic.Int64
			var mu sync.Mutex
			clients := map[string]string{"whole": s.text}
			var cases errgroup.Group
			cases.SetLimit(16) // more than t.Parallel gives: most of a case is a pause before the client tries again
			for direction, word := range []string{"up", "down"} {
				for at := int64(0); at <= total[direction]; at += every {
					cases.Go(func() error {
						t.Run(fmt.Sprintf("%s-%d", word, at), func(t *testing.T) {
							c := newCutCase(t, d, fmt.Sprintf("%s-%d", word, at), s.text)
							var cut <-chan struct{}
							s.run(c, func() { cut = c.way.arm(direction, at) })
							select {
							case <-cut:
								cuts.Add(1)
							default: // the last bytes differ in number from session to session
							}
							mu.Lock()
							defer mu.Unlock()
							clients[c.name] = s.text
						})
						return nil
					})
				}
			}
			cases.Wait()
			t.Logf("%d cuts in %d bytes up and %d down", cuts.Load(), total[up], total[down])
			if want := (total[up] + total[down]) / every; cuts.Load() < want-want/20-2 {
				t.Errorf("%d cuts, want about %d", cuts.Load(), want)
			}
			wantEachOnce(t, d, clients, name != "protocol 3")
		})
	}
}

// wantEachOnce stops the server and looks for the file "a" of each client: in the
// catalogue as verified, once, and with its content; and for nothing else there.
func wantEachOnce(t *testing.T, d *daemon, clients map[string]string, firstVersion bool) {
	t.Helper()
	if status := d.stop(t); status != 0 || strings.Contains(d.log.String(), `"level":"ERROR"`) {
		t.Errorf("the server ended with %d; it said:\n%s", status, d.log)
	}
	r := fenc(t.Context(), nil, "files", "--json", "--database", filepath.Join(d.dir, "fenc.db"))
	r.want(t, 0)
	found := map[string]bool{}
	for lines := json.NewDecoder(strings.NewReader(r.out)); ; {
		var f struct {
			Client, Name, Path string
			Bytes              int
			Verified           bool
			Version            int
		}
		if err := lines.Decode(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if f.Name == "first" {
			continue
		}
		if content, ok := clients[f.Client]; f.Name != "a" || !ok || found[f.Client] || !f.Verified || f.Bytes != len(content) || firstVersion && f.Version != 1 {
			t.Errorf("catalogue: %+v, want one verified file of each client", f)
		}
		found[f.Client] = true
		if stored, err := os.ReadFile(filepath.Join(d.dir, "files", filepath.FromSlash(f.Path))); err != nil || string(stored) != clients[f.Client] {
			t.Errorf("%s: %d bytes, %v, that are not what was sent", f.Path, len(stored), err)
		}
	}
	for client := range clients {
		if !found[client] {
			t.Errorf("%s has no file in the catalogue", client)
		}
	}
	fenc(t.Context(), nil, "check", "--deep", "--config", filepath.Join(d.dir, "server.toml")).want(t, 0)
}
