package hostile_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"lukechampine.com/blake3"

	"fenc/config/need"
	"fenc/modes"
	"fenc/wire/v3"
	"fenc/wire/v4"
)

var (
	getAll  = []string{"get", "."}
	getA    = []string{"get", "a"}
	getMore = map[string]string{"to/b": "b", "to/folder/": "drwxr-xr-x", "to/folder/c": "c"} // all but a
)

// all is what a client has that got everything.
func all(more map[string]string) map[string]string {
	has := map[string]string{"to/a": "12345"}
	for _, from := range []map[string]string{getMore, more} {
		for path, content := range from {
			has[path] = content
		}
	}
	return has
}

// page answers the first list of all with entries.
func page(entries ...v4.Entry) func(*told, any) bool {
	return answering(func(s *told, m *v4.List) bool {
		if m.After != "" {
			return false
		}
		s.say(&v4.Entries{Number: m.Number, Entries: entries})
		return true
	})
}

// fetchOf answers a fetch of the file a.
func fetchOf(answer func(m *v4.Fetch) []any) func(*told, any) bool {
	return answering(func(s *told, m *v4.Fetch) bool {
		if m.Path != "a" {
			return false
		}
		s.say(answer(m)...)
		return true
	})
}

// beside makes something in the directory that is got into.
func planted(plant func(dir string) error) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		must(t, os.MkdirAll(filepath.Join(dir, "outside"), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "outside", "secret"), []byte("secret"), 0o600))
		must(t, plant(filepath.Join(dir, "to")))
	}
}

// partialOf is what a file's content is written to until it is verified.
func partialOf(path, content string) string {
	sum, digest := blake3.Sum256([]byte(path)), digestOf(content)
	return fmt.Sprintf(".fenc-%x-%x.part", sum[:8], digest[:8])
}

var getLies = []lie{
	{name: "silence about a list", args: getAll, frames: silentAt[v4.List](), status: 1, says: "timed out after 10s"},
	{name: "silence about a file", args: getA, frames: silentAt[v4.Fetch](), status: 1, says: "timed out after 10s"},
	{name: "silence in the content", args: getA, status: 1, says: "timed out after 10s", frames: answering(func(s *told, m *v4.Fetch) bool {
		s.say(fileOf(m, "12345"), &v4.Data{Number: m.Number, Data: []byte("123")})
		return s.silence()
	}), has: map[string]string{"to/" + partialOf("a", "12345"): "123"}},
	{name: "silence in a frame of content", args: getA, status: 1, says: "timed out after 10s", frames: answering(func(s *told, m *v4.Fetch) bool {
		s.put(append(v4.Append(nil, fileOf(m, "12345")), slices.Concat(header(4, 2115, 12+5), numbered(int(m.Number)), u64(0), []byte("12"))...))
		return s.silence()
	})},
	{name: "closed in the content", args: getA, status: 1, says: "closed the connection", frames: answering(func(s *told, m *v4.Fetch) bool {
		s.say(fileOf(m, "12345"), &v4.Data{Number: m.Number, Data: []byte("12345")})
		return s.end()
	}), has: map[string]string{"to/" + partialOf("a", "12345"): "12345"}},
	{name: "a farewell in the content", args: getA, status: 1, says: "session ended", frames: answering(func(s *told, m *v4.Fetch) bool {
		s.say(fileOf(m, "12345"), &v4.Data{Number: m.Number, Data: []byte("12345")}, &v4.Farewell{})
		return true
	}), has: map[string]string{"to/" + partialOf("a", "12345"): "12345"}},
	{name: "a list of what is outside", args: getAll, frames: page(entryOf("../x", "12345")), status: 1, says: `part ".."`},
	{name: "a list of what is absolute", args: getAll, frames: page(entryOf("/tmp/x", "12345")), status: 1, says: "an empty part"},
	{name: "a list of a name with escapes", args: getAll, frames: page(entryOf("a"+evil, "12345")), status: 1, says: "control character"},
	{name: "a list of text turned round", args: getAll, frames: page(entryOf("\u202ecod.a", "12345")), status: 1, says: `\u202ecod.a`},
	{name: "a list of a name with a NUL", args: getAll, frames: page(entryOf("a\x00b", "12345")), status: 1, says: "control character"},
	{name: "a list that is not asked for", args: getA, frames: page(entryOf("b", "b")), status: 1, says: "not below"},
	{name: "a list of a neighbour", args: getA, frames: page(entryOf("ab", "12345")), status: 1, says: "not below"},
	{name: "a list of a name twice", args: getAll, frames: page(entryOf("a", "12345"), entryOf("a", "54321")), status: 1, says: `"a" behind "a"`},
	{name: "a list that goes back", args: getAll, frames: page(entryOf("b", "b"), entryOf("a", "12345")), status: 1, says: `"a" behind "b"`},
	{name: "a list that goes on with nothing", args: getAll, frames: instead(func(m *v4.List) []any { return []any{&v4.Entries{Number: m.Number, More: true}} }), status: 1, says: "goes on with nothing"},
	{name: "a list that begins anew", args: getAll, frames: answering(func(s *told, m *v4.List) bool {
		s.say(&v4.Entries{Number: m.Number, More: true, Entries: []v4.Entry{entryOf("a", "12345")}})
		return true
	}), status: 1, says: `"a" behind "a"`, has: map[string]string{"to/a": "12345"}},
	{name: "a list of 2^32-1 entries", args: getAll, frames: bytesFor[v4.List](frame(2113, u32(1), u8(0), u32(1<<32-1))), status: 1, says: "4294967295 elements"},
	{name: "a list of 1,001 entries", args: getAll, frames: bytesFor[v4.List](frame(2113, u32(1), u8(0), u32(1001), make([]byte, 1001*60))), status: 1, says: "1001 elements"},
	{name: "an entry of 2^63 bytes", args: getAll, frames: page(v4.Entry{Path: "a", Size: 1 << 63, Digest: digestOf("12345")}), status: 1, says: "9223372036854775808 bytes"},
	{name: "an entry with the mode 06755", args: getAll, frames: page(v4.Entry{Path: "a", Size: 5, Mode: 0o6755, Digest: digestOf("12345")}), status: 1, says: "mode 6755"},
	{name: "an entry of no digest", args: getAll, frames: page(v4.Entry{Path: "a", Size: 5}), status: 1, says: "protocol 3"},
	{name: "times at both ends", args: getAll, frames: both(page(v4.Entry{Path: "a", Size: 5, Mode: 0o600, ModTime: -1 << 63, Received: 1<<63 - 1, Digest: digestOf("12345")}), fetchOf(func(m *v4.Fetch) []any {
		f := fileOf(m, "12345")
		f.ModTime = 1<<63 - 1
		return []any{f, &v4.Data{Number: m.Number, Data: []byte("12345")}, &v4.DataEnd{Number: m.Number}}
	})), status: 0, says: "verified", has: map[string]string{"to/a": "12345"}},
	{name: "a file of 2^62 bytes", args: getAll, frames: both(page(v4.Entry{Path: "a", Size: 1 << 62, Digest: digestOf("12345")}), fetchOf(func(m *v4.Fetch) []any {
		return []any{&v4.File{Number: m.Number, Size: 1 << 62, Digest: digestOf("12345")}, &v4.DataEnd{Number: m.Number}}
	})), status: 1, says: "the end after 0 of"},
	{name: "a file where a folder is", args: getAll, frames: page(entryOf("x/y", "12345")), beside: planted(func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "x"), []byte("mine"), 0o600)
	}), status: 1, says: "no folder"},
	{name: "a folder where a file is", args: getA, beside: planted(func(dir string) error { return os.Mkdir(filepath.Join(dir, "a"), 0o700) }), status: 1, says: "no file"},
	{name: "another file where one is", args: getA, beside: planted(func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "a"), []byte("mine"), 0o600)
	}), status: 1, says: "--replace"},
	{name: "through a link to a folder", args: []string{"get", "folder"}, beside: planted(func(dir string) error {
		return os.Symlink("../outside", filepath.Join(dir, "folder"))
	}), status: 1, says: "no folder"},
	{name: "through an absolute link", args: []string{"get", "folder"}, beside: planted(func(dir string) error {
		return os.Symlink(filepath.Join(dir, "..", "outside"), filepath.Join(dir, "folder"))
	}), status: 1, says: "no folder"},
	{name: "onto a link", args: getA, beside: planted(func(dir string) error {
		return os.Symlink("../outside/secret", filepath.Join(dir, "a"))
	}), status: 1, says: "no file"},
	{name: "onto a link, told to replace", args: []string{"get", "--replace", "a"}, beside: planted(func(dir string) error {
		return os.Symlink("../outside/secret", filepath.Join(dir, "a"))
	}), status: 1, says: "no file"},
	{name: "onto a link that leads nowhere", args: getA, beside: planted(func(dir string) error {
		return os.Symlink("../outside/new", filepath.Join(dir, "a"))
	}), status: 1, says: "no file"},
	{name: "a link in the place of the partial file", args: getA, beside: planted(func(dir string) error {
		return os.Symlink("../outside/secret", filepath.Join(dir, partialOf("a", "12345")))
	}), status: 1, says: "in the way"},
	{name: "a partial file of other content", args: getA, beside: planted(func(dir string) error {
		return os.WriteFile(filepath.Join(dir, partialOf("a", "12345")), []byte("xyz"), 0o600)
	}), frames: func() func(*told, any) bool {
		var first atomic.Bool
		return answering(func(s *told, m *v4.Fetch) bool { // the rest belongs to what should have been there
			if m.Offset != 3 || !first.CompareAndSwap(false, true) {
				return false
			}
			s.say(fileOf(m, "12345"), &v4.Data{Number: m.Number, Offset: 3, Data: []byte("45")}, &v4.DataEnd{Number: m.Number})
			return true
		})
	}(), status: 0, says: "verified (sent 2 times)", has: map[string]string{"to/a": "12345", "to/" + partialOf("a", "12345"): gone}},
	// A server that knows how partial files are called could have one file be written
	// into another, and what was called verified be lost.
	{name: "a file that is called as a partial file", args: getAll, frames: page(entryOf(partialOf("a", "12345"), "other"), entryOf("a", "12345")),
		status: 1, says: "send it under another name", has: map[string]string{"to/a": "12345"}},
	{name: "a file that is called as a partial file, in capitals", args: getAll, frames: page(entryOf(strings.ToUpper(partialOf("a", "12345")), "other"), entryOf("a", "12345")),
		status: 1, says: "send it under another name", has: map[string]string{"to/a": "12345"}},
	{name: "another size than listed", args: getAll, frames: fetchOf(func(m *v4.Fetch) []any { return []any{fileOf(m, "123456")} }), status: 1, says: "another file than was asked for", has: getMore},
	{name: "more than announced", args: getAll, frames: fetchOf(func(m *v4.Fetch) []any {
		return []any{fileOf(m, "12345"), &v4.Data{Number: m.Number, Data: []byte("123456")}, &v4.DataEnd{Number: m.Number}}
	}), status: 1, says: "6 bytes at 0 of a file of 5", has: getMore},
	{name: "less than announced", args: getAll, frames: fetchOf(func(m *v4.Fetch) []any {
		return []any{fileOf(m, "12345"), &v4.Data{Number: m.Number, Data: []byte("1234")}, &v4.DataEnd{Number: m.Number}}
	}), status: 1, says: "the end after 4 of 5 bytes", has: all(map[string]string{"to/" + partialOf("a", "12345"): "1234"})},
	{name: "other content of the same size", args: getAll, frames: fetchOf(func(m *v4.Fetch) []any {
		return []any{fileOf(m, "12345"), &v4.Data{Number: m.Number, Data: []byte("54321")}, &v4.DataEnd{Number: m.Number}}
	}), status: 1, says: "checksum did not match", has: getMore},
	{name: "content of another request", args: getA, frames: fetchOf(func(m *v4.Fetch) []any {
		return []any{fileOf(m, "12345"), &v4.Data{Number: m.Number + 1000, Data: []byte("12345")}}
	}), status: 1, says: "which was never made", has: nil},
	{name: "refused with escapes", args: getAll, frames: fetchOf(func(m *v4.Fetch) []any { return []any{&v4.Refused{Number: m.Number, Reason: 33, Text: evil}} }), status: 1, says: `\x1b]0;owned`, has: getMore},
	{name: "refused for now, again and again", args: getA, frames: fetchOf(func(m *v4.Fetch) []any {
		return []any{&v4.Refused{Number: m.Number, Reason: 10, Again: true, Text: "x"}}
	}), status: 1, says: "reason 10"},
	{name: "a verdict in the place of a file", args: getA, frames: fetchOf(func(m *v4.Fetch) []any { return []any{&v4.Received{Number: m.Number}} }), status: 1, says: "Received answers a request for a file"},
	{name: "nothing there", args: []string{"get", "none"}, status: 1, says: "not on the server"},
	{name: "a listing with escapes", args: []string{"list"}, frames: page(entryOf("\u202ecod.a", "12345")), status: 0, says: `\u202ecod.a`},
	{name: "a listing with escapes, as JSON", args: []string{"list", "--json"}, frames: page(entryOf("\u202ecod\u2066.a\U000e0001", "12345")), status: 0, says: `"\u202ecod\u2066.a\udb40\udc01"`},
	{name: "a listing refused", args: []string{"list"}, frames: instead(func(m *v4.List) []any { return []any{&v4.Refused{Number: m.Number, Reason: 20, Text: evil}} }), status: 3, says: `\x1b]0;owned`},
	{name: "a listing answered by a file", args: []string{"list"}, frames: instead(func(m *v4.List) []any { return []any{&v4.File{Number: m.Number}} }), status: 1, says: "answers a request for a list"},
	{name: "a listing closed in its middle", args: []string{"list"}, frames: answering(func(s *told, m *v4.List) bool {
		s.put(v4.Append(nil, s.listed(m))[:100])
		return s.end()
	}), status: 1, says: "closed the connection"},
}

func TestLiesToReaders(t *testing.T) {
	t.Parallel()
	for i := range getLies { // what was left of a file is as it was, unless it says so
		l := &getLies[i]
		if l.name == "less than announced" {
			delete(l.has, "to/a")
		}
	}
	tellAll(t, getLies)
}

// A list without end ends with the patience of whoever asked for it; until then it
// takes no memory.
func TestListWithoutEndCanBeInterrupted(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"list", "get"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			pages := 0
			l := &lie{frames: answering(func(s *told, m *v4.List) bool {
				if pages++; pages == 30 {
					cancel()
				}
				answer := &v4.Entries{Number: m.Number, More: true}
				for i := range 1000 {
					answer.Entries = append(answer.Entries, v4.Entry{Path: fmt.Sprintf("%08d/%04d", pages, i)}) // with no digest there is nothing to fetch
				}
				s.say(answer)
				return true
			})}
			server := l.listen(t)
			dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
			args := []string{command, "--config", filepath.Join(dir, "transfer.toml")}
			if command == "get" {
				args = append(args, "--dir", filepath.Join(dir, "to"), ".")
			}
			if status := fenc(ctx, io.Discard, "", args...); status != modes.ExitInterrupted {
				t.Errorf("exit status %d, want %d", status, modes.ExitInterrupted)
			}
			close(server.done)
		})
	}
}

var closeEvery = flag.Int("close.every", 0, "TestClosedInTheAnswers: close after every so many bytes of the answers; 0: 5, with -short 41")

// A server that closes in the middle of its answers leaves a client that says so, and
// nothing that is taken for whole.
func TestClosedInTheAnswers(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{sendA, {"list"}, getA} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			places := 0
			for cut := 0; closedAfter(t, cut, args...); cut += need.Rounds(*closeEvery, 5, 41) {
				places++
			}
			t.Logf("closed at %d places", places)
		})
	}
}

// closedAfter runs fenc against a server that closes after so many bytes of its
// answers, those to a bye left out. It reports false where there are no more.
func closedAfter(t *testing.T, left int, args ...string) (closed bool) {
	t.Helper()
	cut := left
	var closing atomic.Bool
	l := &lie{frames: func(s *told, message any) bool {
		var answers []any
		switch m := message.(type) {
		case *v4.Hello:
			answers = []any{welcome()}
		case *v4.Small:
			answers = []any{&v4.Received{Number: m.Number, Size: uint64(len(m.Data)), Digest: m.Digest}}
		case *v4.List:
			answers = []any{s.listed(m)}
		case *v4.Fetch:
			answers = s.fetched(m)
		default:
			return s.end()
		}
		var b []byte
		for _, answer := range answers {
			b = v4.Append(b, answer)
		}
		s.put(b[:min(left, len(b))])
		if left < len(b) {
			closing.Store(true)
			return s.end()
		}
		left -= len(b)
		return true
	}}
	server := l.listen(t)
	dir := settings(t, server.Addr().String(), server.id.Fingerprint(), "")
	args = slices.Insert(slices.Clone(args), 1, "--config", filepath.Join(dir, "transfer.toml"))
	switch args[0] {
	case "send":
		args[3] = filepath.Join(dir, "a")
	case "get":
		args = slices.Insert(args, 3, "--dir", filepath.Join(dir, "to"))
	}
	var out output
	status := fenc(t.Context(), &out, "", args...)
	close(server.done)
	got, _ := os.ReadFile(filepath.Join(dir, "to", "a"))
	want := 0
	if closing.Load() {
		want = 1
	}
	said := out.String()
	if status != want || strings.Contains(said, "  verified") != (want == 0 && args[0] != "list") || args[0] == "get" && (string(got) == "12345") != (want == 0) {
		t.Errorf("closed after %d bytes: exit status %d, it said:\n%s", cut, status, said)
	}
	return closing.Load()
}

// A window of 4 GiB does not make a sender hold 4 GiB that wait for answers.
func TestSenderHoldsNoMoreThanItsOwnBound(t *testing.T) {
	t.Parallel()
	var came atomic.Int64
	l := &lie{frames: func(s *told, message any) bool {
		switch m := message.(type) {
		case *v4.Hello:
			w := welcome()
			w.WindowFiles, w.WindowBytes = 1<<32-1, 1<<32-1
			s.say(w)
			return true
		case *v4.Small:
			came.Add(int64(len(m.Data)))
			return true
		}
		return false
	}}
	server := l.listen(t)
	dir := settings(t, server.Addr().String(), server.id.Fingerprint(), impatient)
	folder := filepath.Join(dir, "many")
	must(t, os.Mkdir(folder, 0o700))
	for i := range 200 {
		f, err := os.Create(filepath.Join(folder, fmt.Sprint(i)))
		must(t, err)
		must(t, f.Truncate(256<<10))
		must(t, f.Close())
	}
	if status := fenc(t.Context(), io.Discard, "", "send", "--config", filepath.Join(dir, "transfer.toml"), folder); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	close(server.done)
	if n := came.Load(); n == 0 || n > 33<<20 {
		t.Errorf("%d bytes came without an answer, want at most 32 MiB", n)
	}
}

// joinLies are told to somebody who has been invited: what he has afterwards is
// nothing, or what works.
func TestLiesToWhoeverJoins(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		frames func(*told, any) bool
		status int
		says   string
		joined bool
	}{
		"honest":                     {nil, 0, `joined`, true},
		"an invite that is used":     {instead(refusal(4, false, evil)), 3, "reason 4", false},
		"a name with escapes":        {instead(welcomed(func(w *v4.Welcome) { w.Name = evil })), 1, "control character", false},
		"a name of two lines":        {instead(welcomed(func(w *v4.Welcome) { w.Name = "x\"\nprivate_key = \"" })), 1, "control character", false},
		"no name":                    {instead(welcomed(func(w *v4.Welcome) { w.Name = "" })), 1, "0 bytes", false},
		"a name that is TOML":        {instead(welcomed(func(w *v4.Welcome) { w.Name = `x" # '''` })), 0, "joined", true},
		"text turned round":          {instead(welcomed(func(w *v4.Welcome) { w.Name = "\u202eecarg" })), 0, `\u202eecarg`, true},
		"a frame that breaks all":    {bytesFor[v4.Hello](header(9, 2100, 9)), 1, "version 9", false},
		"a welcome to somebody else": {instead(welcomed(func(w *v4.Welcome) { w.ClientID = v4.ID{}; w.Name = "other" })), 0, "joined", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &lie{frames: test.frames}
			server := l.listen(t)
			invite := v4.Invite{Address: server.Addr().String(), Server: server.id.Fingerprint(), Token: v4.NewToken()}
			dir := filepath.Join(t.TempDir(), "fenc")
			var out output
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			status := fenc(ctx, &out, invite.Line()+"\n", "join", "--name", "grace", "--dir", dir)
			close(server.done)
			if status != test.status || !strings.Contains(out.String(), test.says) {
				t.Errorf("exit status %d, it said:\n%s\nwant %d and %q", status, out.String(), test.status, test.says)
			}
			wantPlain(t, out.String())
			if strings.Contains(out.String(), invite.Line()[len(invite.Line())-20:]) {
				t.Error("it printed the invite's secret")
			}
			entries, _ := os.ReadDir(dir)
			if got := len(entries); got != map[bool]int{true: 2, false: 0}[test.joined] {
				t.Errorf("%v are there", entries)
			}
			if test.joined {
				if status := fenc(ctx, &out, "", "list", "--config", filepath.Join(dir, "transfer.toml")); status != 0 && test.frames == nil {
					t.Errorf("what it wrote is of no use: exit status %d, %s", status, out.String())
				}
			}
		})
	}
}

// lies3 are told to a client of protocol 3, whose identity is known: 1101 comes first.
func TestLiesToSendersOfProtocol3(t *testing.T) {
	t.Parallel()
	response := func(code v3.Code, size uint32, payload ...[]byte) []byte {
		return slices.Concat(u8(3), u16(int(code)), u32(size), slices.Concat(payload...))
	}
	for name, test := range map[string]struct {
		lower  func(c net.Conn)
		status int
		says   string
	}{
		"silence":                     {speaking(""), 1, "timed out after 10s"},
		"closed at once":              {func(net.Conn) {}, 1, "the connection"},
		"a TLS alert":                 {speaking("\x15\x03\x01\x00\x02\x02\x28"), 1, "does not speak protocol 3"},
		"HTTP":                        {speaking("HTTP/1.1 400 Bad Request\r\n\r\n"), 1, "does not speak protocol 3"},
		"protocol 4":                  {speaking(string(header(4, 2100, 66))), 1, "does not speak protocol 3"},
		"a code that is not":          {speaking(string(response(2199, 0))), 1, "no response"},
		"a payload of 4 GiB":          {speaking(string(response(2100, 1<<32-1))), 1, "wrong size"},
		"half a header, then silence": {speaking("\x03\x34\x08"), 1, "timed out after 10s"},
		"refused":                     {speaking(string(response(2101, 16, make([]byte, 16)))), 3, "in use"},
		"an id of zeros":              {speaking(string(response(2100, 16, make([]byte, 16)))), 1, "id of zeros"},
		"received at once":            {speaking(string(response(2104, 0))), 1, "unexpected code"},
		"a key of noise": {func(c net.Conn) {
			io.ReadFull(c, make([]byte, 23+255))
			c.Write(response(2100, 16, []byte("0123456789abcdef")))
			io.ReadFull(c, make([]byte, 23+415))
			c.Write(response(2102, 16+128, []byte("0123456789abcdef"), make([]byte, 128)))
			io.Copy(io.Discard, c)
		}, 1, "cannot open"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &lie{lower: test.lower}
			server := l.listen(t)
			more := "protocol = 3\n"
			if strings.Contains(test.says, "timed out") {
				more += impatient
			}
			dir := settings(t, server.Addr().String(), server.id.Fingerprint(), more)
			must(t, os.Remove(filepath.Join(dir, "me.toml")))
			var out output
			status := fenc(t.Context(), &out, "", "send", "--config", filepath.Join(dir, "transfer.toml"), "--name", "grace", filepath.Join(dir, "a"))
			close(server.done)
			if status != test.status || !strings.Contains(out.String(), test.says) {
				t.Errorf("exit status %d, it said:\n%s\nwant %d and %q", status, out.String(), test.status, test.says)
			}
			wantPlain(t, strings.ReplaceAll(out.String(), dir, "DIR"))
		})
	}
}
