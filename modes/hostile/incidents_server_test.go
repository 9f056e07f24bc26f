package hostile_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fenc/config/need"
	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/modes/serve/servetest"
	"fenc/wire"
	"fenc/wire/v4"
)

// kitPaths are the paths of the test kit for other implementations, good and bad.
func kitPaths(t *testing.T) (paths []string) {
	t.Helper()
	files, err := filepath.Glob("../../wire/v4/testdata/kit/path-*")
	must(t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		must(t, err)
		_, path, _ := strings.Cut(string(data), "\n\n")
		paths = append(paths, path)
	}
	if len(paths) < 50 {
		t.Fatalf("%d paths", len(paths))
	}
	return paths
}

// CrushFTP and SFTPGo had two ideas of what a path is. Here, who offers, who lists,
// who fetches, who names a file at the command line and who reads a list are all
// told the same.
func TestOnePathParser(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	client := s.newClient(t, "paths")
	l := client.session(t)
	l.bye()
	dir := settings(t, s.addr, s.identity.Fingerprint(), "")
	for i, path := range kitPaths(t) {
		if i%need.Rounds(0, 1, 8) != 0 {
			continue
		}
		right := wire.CheckPath(path) == nil
		if strings.ToValidUTF8(path, "") != path || len(path) > 1024 { // no text of a frame
			l := client.session(t)
			l.says(small(1, path, "x"))
			l.ended(7)
			continue
		}
		l := client.session(t)
		for number, b := range [][]byte{
			smallWith(1, path, "x", v4.Digest{}), offer(2, 2, 1, v4.Digest{}, path), list(3, 1, path, ""), list(4, 1, "", path),
		} {
			if path == "" && number > 1 {
				continue // is all
			}
			l.says(b)
			code, payload, err := l.hears()
			must(t, err)
			if refused := code == 2110 && le.Uint16(payload[4:]) == 21; refused == right {
				t.Errorf("request %d of %.50q: %d, CheckPath says %v", number+1, path, code, right)
			}
		}
		l.says(frame(1106, numbered(2)))
		l.gets(2104)
		l.bye()
		if strings.Contains(path, "\x00") || path == "" {
			continue // no argument
		}
		var out output
		status := fenc(t.Context(), &out, "", "send", "--config", filepath.Join(dir, "transfer.toml"), "--dry-run", "--as", path, filepath.Join(dir, "a"))
		if (status == 0) != right {
			t.Errorf("--as %.50q: exit status %d, CheckPath says %v: %s", path, status, right, out.String())
		}
		told := &lie{name: "told", args: []string{"list"}, frames: page(entryOf(path, "x")), status: 1, says: "bad path"}
		if right {
			told.status, told.says = 0, ""
		}
		told.tell(t)
	}
}

// A key-update flood once made TLS servers answer without end, or wait for
// themselves. The floor of go.mod is a version without that.
func TestKeyUpdateFlood(t *testing.T) {
	t.Parallel()
	var floods []attack
	for _, a := range channelAttacks {
		if strings.HasPrefix(a.name, "key updates") || strings.HasPrefix(a.name, "a key update") {
			floods = append(floods, a)
		}
	}
	if len(floods) < 4 {
		t.Fatalf("%d floods", len(floods))
	}
	withstand(t, serveTarget(t), floods)
	mod, err := os.ReadFile("../../go.mod")
	must(t, err)
	var minor, patch int
	_, after, _ := strings.Cut(string(mod), "\ngo 1.")
	if n, err := fmt.Sscanf(after, "%d.%d", &minor, &patch); n != 2 || err != nil || minor < 26 {
		t.Errorf("go.mod has the floor go 1.%d.%d", minor, patch)
	}
}

// rsync's clients could give a digest of fewer bytes, which was then compared by as
// many. Digests have 32 bytes or are no digests.
func TestShortDigest(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	const content = "content"
	digest := digestBytes(content)
	for _, n := range []int{0, 1, 4, 16, 31} {
		for what, b := range map[string][]byte{
			"1110": frame(1110, numbered(1), digest[:n]),
			"1103": frame(1103, numbered(2), u8(1), u64(5), u64(0), u16(0), digest[:n], text("")),
			"1113": frame(1113, numbered(2), u64(0), digest[:n], text("")),
		} {
			l := s.newClient(t, fmt.Sprintf("client %s %d", what, n)).session(t)
			l.offers(1, uint64(len(content)), "a")
			l.says(blocks(1, content), b)
			l.ended(7)
		}
		if _, err := v4.ParseFingerprint("SHA256:" + strings.Repeat("A", n)); err == nil {
			t.Errorf("a fingerprint of %d characters is taken", n)
		}
	}
	zeros := s.newClient(t, "zeros").session(t) // and what is filled up with zeros is another
	zeros.offers(1, uint64(len(content)), "a")
	zeros.says(blocks(1, content), frame(1110, numbered(1), digest[:31], u8(0)))
	if digest[31] != 0 {
		zeros.gets(2109)
	}
	zeros.bye()
	s.wantFolder(t, "zeros", nil)
	s.serves(t)
}

// A number that a client gives is never an index before it was looked at.
func TestIndexOutOfRange(t *testing.T) {
	t.Parallel()
	s := serveTarget(t)
	for _, chunk := range []uint32{3, 16384, 1 << 31, 1<<32 - 1} {
		for what, b := range map[string][]byte{"1105": resend(2, chunk), "1116": copied(2, chunk), "1108": block(2, uint64(chunk)*mib, "x")} {
			l := s.newClient(t, fmt.Sprintf("client %s %d", what, chunk)).session(t)
			if what == "1116" {
				l.kept(1, "a")
			}
			l.offers(2, 3*mib, "a")
			l.says(b)
			l.ended(7)
		}
		for _, lie := range []lie{
			{name: "2108", args: sendLarge, frames: instead(func(m *v4.Finish) []any { return []any{&v4.Missing{Number: m.Number, Chunks: []uint32{chunk}}} }), status: 1, says: "is missing"},
			{name: "2105", args: sendLarge, frames: accepting(func(a *v4.Accept) { a.Held = []v4.HeldHash{{Chunk: chunk}} }), status: 0, says: "verified"},
		} {
			lie.tell(t)
		}
	}
	s.serves(t)
}

// held is the memory that is in use: what a collection leaves, whichever pages of the
// heap it lies on, and the stacks.
func held() int64 {
	for range 2 { // what a sync.Pool holds goes with the second one
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// A length that a peer announces takes no memory before there is room for it: 250
// small files of 1 MiB that are announced and never sent.
func TestLengthsBeforeAlloc(t *testing.T) {
	s := serveTarget(t)
	a := s.newClient(t, "attacker")
	lines := make([]*line, 250) // the connections of one session are numbered by a byte
	for i := range lines {
		lines[i] = a.connect(t)
		lines[i].says(helloOf(7, i, a.instance, 5, none, a.name))
		lines[i].welcome()
	}
	before := held()
	for _, l := range lines {
		l.says(header(4, 1111, mib), make([]byte, 100))
	}
	awaitWaiting(t, "serve4.(*Session).takeMessage", len(lines))
	if grown := held() - before; grown > 100<<20 { // 32 MiB of them for one client
		t.Errorf("%d announcements of 1 MiB take %d MiB", len(lines), grown>>20)
	}
	s.serves(t)
}

// awaitWaiting waits until so many goroutines are in a function, and wait for something
// there.
func awaitWaiting(t *testing.T, function string, n int) {
	t.Helper()
	stacks := make([]byte, 16<<20)
	for late := time.Now().Add(patience); ; {
		found := 0
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			state, calls, _ := strings.Cut(stack, "\n")
			if strings.Contains(calls, function) && !strings.Contains(state, "[run") { // running or runnable
				found++
			}
		}
		if found >= n {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%d goroutines wait in %s, want %d", found, function, n)
		}
	}
}

// Costly work before anybody has proved a key: OpenSSH's. 500 strangers that send
// what they may before they are known take no more than a message of 64 KiB needs, and
// are no clients. What they may compute is TestHandshakesTakeTurns of serve4.
func TestPreAuthBudget(t *testing.T) {
	s := serveTarget(t)
	a := &attacker{T: t, client: s.newClient(t, "attacker")}
	hello := a.clientHello()
	padding := make([]byte, 60<<10)
	clients := len(mustClients(t, s))
	before := held()
	for range 500 {
		c := a.dial()
		// A hello of 64 KiB in records of 16 KiB, but for its last byte.
		message := append([]byte{1, 0, byte((len(padding) + 1) >> 8), byte(len(padding) + 1)}, hello[9:]...)
		message = append(message, padding...)[:len(padding)]
		for len(message) > 0 {
			n := min(len(message), 16<<10)
			must(t, write(c, append([]byte{22, 3, 1, byte(n >> 8), byte(n)}, message[:n]...)))
			message = message[n:]
		}
	}
	s.serves(t)
	if grown := held() - before; grown > 500*256<<10 { // 130 KiB measured, with their own ends: the buffer of a message doubles as it grows
		t.Errorf("500 strangers take %d KiB each", grown/500>>10)
	} else {
		t.Logf("%d KiB a stranger", grown/500>>10)
	}
	if now := len(mustClients(t, s)); now != clients+2 { // the honest ones
		t.Errorf("%d clients are known, there were %d", now, clients)
	}
}

func mustClients(t *testing.T, s *target) []model.ClientUse {
	t.Helper()
	clients, err := s.archive.Catalogue.Clients()
	must(t, err)
	return clients
}

// secretPlace stands in errors that say more than is a client's business.
const secretPlace = "/srv/secret-place/token-4711"

// MinIO told its environment in errors. Whatever fails at the server, a client hears
// nothing of its paths; the log has all of it.
func TestErrorsLeakNothing(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"create", "reserve", "write", "sync", "rename", "syncdir", "read"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			var failing storagetest.Failing
			s := serveTarget(t, func(s *target) { s.wrap = failing.On })
			c := s.newClient(t, "grace")
			l := c.session(t)
			l.kept(1, "kept")
			failing.Set(call, secretPlace, syscall.EIO)
			l.says(small(2, "a", "content"), offer(3, 0, 3*mib, v4.Digest{}, "b"), frame(1109, u32(1)), fetch(4, 0, v4.Digest{}, "kept"))
			var said strings.Builder
			reached := false
			for answered := map[uint32]bool{}; !answered[2] || !answered[4] || !reached || !answered[3]; {
				code, payload, err := l.hears()
				if err != nil {
					failing.End()
					t.Fatalf("%v, the log has:\n%s", err, servetest.LinesWith(s.log.String(), "grace"))
				}
				said.Write(payload)
				switch number := le.Uint32(payload); code {
				case 2112:
					reached = true
				case 2105:
					l.says(blocks(3, whole), finish(3, whole))
				case 2103, 2110, 2116, 2108:
					answered[number] = true
				}
			}
			failing.End()
			l.bye()
			for _, leak := range []string{secretPlace, "token-4711", s.dir, os.TempDir(), os.Getenv("PATH"), "input/output error", ".fenc"} {
				if leak != "" && strings.Contains(said.String(), leak) {
					t.Errorf("the client hears of %q: %.500q", leak, said.String())
				}
			}
			s.log.Await(t, "token-4711")
			failing.End()
			must(t, s.archive.Probe())
		})
	}
}

// Syncthing, rclone and rsync wrote through links that were put in the place of
// folders behind their back. A racer swaps a folder for a link while a client sends
// into it: nothing lands where the link leads.
func TestSymlinkSwap(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	swap := func(ctx context.Context, folder string) {
		for ctx.Err() == nil {
			os.Rename(folder, folder+".away")
			os.Symlink(outside, folder)
			os.Remove(folder)
			os.Rename(folder+".away", folder)
		}
	}
	race := func(folder string, do func()) {
		ctx, cancel := context.WithCancel(t.Context())
		var racer sync.WaitGroup
		racer.Go(func() { swap(ctx, folder) })
		do()
		cancel()
		racer.Wait()
	}
	s := serveTarget(t)
	c := s.newClient(t, "grace")
	l := c.session(t)
	l.keeps(1, "folder/first", "x")
	who, _, _ := s.archive.Catalogue.ClientNamed("grace")
	race(filepath.Join(s.dir, "files", who.Folder, "folder"), func() {
		for number := 2; number < 100; number++ {
			l.says(small(number, fmt.Sprint("folder/", number), "x"))
			l.gets(2103) // verified, whether or not the tree shows it now
		}
	})
	l.bye()

	server := (&lie{}).listen(t)
	for i := range 100 {
		server.files[fmt.Sprintf("folder/%03d", i)] = strings.Repeat("x", 1000)
	}
	dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
	folder := filepath.Join(dir, "to", "folder")
	must(t, os.Mkdir(folder, 0o700))
	race(folder, func() {
		fenc(t.Context(), io.Discard, "", "get", "--config", filepath.Join(dir, "transfer.toml"), "--dir", filepath.Join(dir, "to"), ".")
	})
	close(server.done)
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("where the link leads there are %v, %v", entries, err)
	}
}

// rsync kept partial files in a folder that could be a link. The server's folder of
// open uploads, and that of objects, may be swapped for a link: nothing is written
// there.
func TestPartialDirSymlink(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{".fenc/part", ".fenc/objects"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			s, outside := serveTarget(t), t.TempDir()
			c := s.newClient(t, "grace")
			l := c.session(t)
			path := filepath.Join(s.dir, "files", folder)
			must(t, os.Rename(path, path+".away"))
			must(t, os.Symlink(outside, path))
			l.says(small(1, "a", "x"), offer(2, 0, 3*mib, v4.Digest{}, "b"))
			for range 2 {
				code, _, err := l.hears()
				must(t, err)
				// An upload may begin where objects cannot be made: its bytes are elsewhere.
				if code == 2105 && folder == ".fenc/part" || code == 2103 && folder == ".fenc/objects" {
					t.Errorf("got %d, and content can be nowhere", code)
				}
			}
			l.Close()
			if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
				t.Errorf("where the link leads there are %v, %v", entries, err)
			}
			must(t, os.Remove(path))
			must(t, os.Rename(path+".away", path))
			must(t, s.archive.Probe())
			s.serves(t)
		})
	}
}

// A slash behind the name of a link once had os.Root open what it leads to.
func TestTrailingSlash(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(dir, "link")))
	root, err := storage.RootFS(dir)
	must(t, err)
	defer root.Close()
	for _, name := range []string{"link/", "link//", "link/.", "link/secret", "link/../link/secret", "link/new"} {
		if f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600); err == nil {
			t.Errorf("%s: opened", name)
			f.Close()
		}
		if err := root.Mkdir(name+"/x", 0o700); err == nil {
			t.Errorf("%s/x: made", name)
		}
		if err := root.Rename("link", name+"/y"); err == nil {
			t.Errorf("%s/y: renamed", name)
		}
		if entries, err := root.ReadDir(name); err == nil && len(entries) > 0 {
			t.Errorf("%s: read as %v", name, entries)
		}
	}
	if entries, _ := os.ReadDir(outside); len(entries) != 1 {
		t.Errorf("outside there are %v", entries)
	}
	for _, l := range []lie{
		{name: "listed", args: getAll, frames: page(entryOf("a/", "12345")), status: 1, says: "an empty part"},
		{name: "asked for", args: []string{"get", "folder///"}, status: 0, says: "verified", has: map[string]string{"to/folder/": "drwxr-xr-x", "to/folder/c": "c"}},
	} {
		t.Run(l.name, l.tell)
	}
}

// cutter forwards the records of TLS from a server, and closes after so many.
func cutter(t *testing.T, to string, records int) (address string, cut *atomic.Bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	cut = new(atomic.Bool)
	var running sync.WaitGroup
	running.Go(func() {
		near, err := l.Accept()
		if err != nil {
			return
		}
		l.Close() // one connection: what is tried again finds nobody
		defer near.Close()
		far, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer far.Close()
		running.Go(func() { io.Copy(far, near); far.(*net.TCPConn).CloseWrite() })
		header := make([]byte, 5)
		for range records {
			if _, err := io.ReadFull(far, header); err != nil {
				return
			}
			body := make([]byte, int(header[3])<<8|int(header[4]))
			if _, err := io.ReadFull(far, body); err != nil {
				return
			}
			near.Write(append(header[:5:5], body...))
		}
		if n, _ := far.Read(header[:1]); n > 0 { // there would have been more
			cut.Store(true)
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String(), cut
}

// Terrapin took a stream that was cut for a whole one. Cut after any record, the
// client says so, unless it had all answers but the last farewell.
func TestTruncationNoticed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{sendLarge, getA, {"list"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			missed := 0
			for records := 0; ; records++ {
				server := (&lie{}).listen(t)
				server.files["a"] = pattern(100 << 10) // several records
				address, cut := cutter(t, server.Addr().String(), records)
				dir := settings(t, address, server.id.Fingerprint(), "")
				args := append([]string{args[0], "--config", filepath.Join(dir, "transfer.toml")}, args[1:]...)
				switch args[0] {
				case "send":
					args[3] = filepath.Join(dir, args[3])
					must(t, os.WriteFile(args[3], []byte(whole), 0o600))
				case "get":
					args = append(args[:3:3], "--dir", filepath.Join(dir, "to"), args[3])
				}
				var out output
				status := fenc(t.Context(), &out, "", args...)
				close(server.done)
				got, err := os.ReadFile(filepath.Join(dir, "to", "a"))
				if args[0] == "get" && (status == 0) != (err == nil && string(got) == server.files["a"]) {
					t.Errorf("after %d records: exit status %d, and %d bytes, %v", records, status, len(got), err)
				}
				if status == 0 && cut.Load() {
					missed++ // the record of 2120
				}
				if !cut.Load() {
					if status != 0 || records < 4 {
						t.Errorf("uncut, after %d records: exit status %d, %s", records, status, out.String())
					}
					break
				}
			}
			if missed > 1 {
				t.Errorf("%d cuts were not noticed", missed)
			}
		})
	}
}
