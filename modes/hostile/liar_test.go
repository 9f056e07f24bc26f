package hostile_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"fenc/config"
	"fenc/modes"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

// lie is what a server does to a client, and what must come of it. That the client
// ends, that nothing it prints acts on a terminal, that nothing was written but what is
// named and that the server heard of no file that is not is checked of all.
type lie struct {
	name   string
	args   []string // of fenc; "a" is a file of 5 bytes, "large" one of 3 MiB
	config func(*tls.Config)
	// lower takes the place of TLS and all above it; frames that of what is said in
	// it. Where it reports false, the honest answer follows.
	lower  func(c net.Conn)
	frames func(s *told, message any) bool
	// beside is done in the client's directory before.
	beside func(t *testing.T, dir string)
	status int
	says   string            // what is printed has this in it
	has    map[string]string // what the client's directory has at the end, besides what it had
}

// liar is a server that is honest but for its lie.
type liar struct {
	net.Listener
	lie     *lie
	id      v4.Identity
	files   map[string]string // that it has
	done    chan struct{}     // closed when the client has ended
	strayed atomic.Bool       // whether it was told of the file unnamed
	running sync.WaitGroup
}

// told is one of its connections.
type told struct {
	*v4.Conn
	raw     net.Conn
	liar    *liar
	offers  map[uint32]*v4.Offer
	content map[uint32][]byte
}

func (s *told) say(messages ...any) {
	var b []byte
	for _, m := range messages {
		b = v4.Append(b, m)
	}
	s.put(b)
}

// put sends bytes as they are.
func (s *told) put(b []byte) {
	s.Write(b)
	s.Flush()
}

// silence says nothing for as long as the client stands it.
func (s *told) silence() bool {
	<-s.liar.done
	return true
}

// end closes the connection.
func (s *told) end() bool {
	s.raw.Close()
	return true
}

func (l *liar) run() {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		l.running.Go(func() {
			defer c.Close()
			if l.lie.lower != nil {
				l.lie.lower(c)
				return
			}
			l.converse(c)
		})
	}
}

func (l *liar) converse(c net.Conn) {
	config := v4.ServerTLS(l.id, false, func(v4.Fingerprint) error { return nil })
	if l.lie.config != nil {
		config.VerifyConnection = nil // the client has to notice
		l.lie.config(config)
	}
	conn, err := v4.Secure(context.Background(), c, config, tls.Server)
	if err != nil {
		return
	}
	s := &told{Conn: conn, raw: c, liar: l, offers: make(map[uint32]*v4.Offer), content: make(map[uint32][]byte)}
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
		if bytes.Contains(v4.Append(nil, message), []byte(unnamed)) {
			l.strayed.Store(true)
		}
		if m, isOffer := message.(*v4.Offer); isOffer {
			s.offers[m.Number] = m
		}
		if l.lie.frames != nil && l.lie.frames(s, message) {
			continue
		}
		if over := s.honest(message); over {
			return
		}
	}
}

func welcome() *v4.Welcome {
	return &v4.Welcome{Rights: 7, WindowFiles: 64, WindowBytes: 8 << 20, Name: "grace", ClientID: v4.ID{1}, Software: "liar"}
}

// honest is the answer of a server that keeps nothing but says so.
func (s *told) honest(message any) (over bool) {
	switch m := message.(type) {
	case *v4.Hello:
		s.say(welcome())
	case *v4.Offer:
		if m.Flags&v4.OfferWhole != 0 {
			s.say(&v4.Accept{Number: m.Number, Flags: v4.AcceptWhole, ChunkSize: mib})
		} else {
			s.say(&v4.Accept{Number: m.Number, ChunkSize: mib, Upload: v4.ID{7}})
		}
	case *v4.Attach:
		s.say(&v4.Attached{Number: m.Number})
	case *v4.Block:
		all := s.content[m.Number]
		if need := int(m.Offset) + len(m.Data); need > len(all) {
			all = append(all, make([]byte, need-len(all))...)
		}
		copy(all[m.Offset:], m.Data)
		s.content[m.Number] = all
	case *v4.Finish:
		s.say(&v4.Received{Number: m.Number, Size: s.offers[m.Number].Size, Digest: m.Digest})
	case *v4.Small:
		s.say(&v4.Received{Number: m.Number, Size: uint64(len(m.Data)), Digest: m.Digest})
	case *v4.GiveUp:
		s.say(&v4.Ended{Number: m.Number})
	case *v4.Barrier:
		s.say(&v4.Reached{Serial: m.Serial})
	case *v4.Ping:
		s.say(&v4.Pong{Value: m.Value})
	case *v4.List:
		s.say(s.listed(m))
	case *v4.Fetch:
		s.say(s.fetched(m)...)
	case *v4.Bye:
		s.say(&v4.Farewell{})
		return true
	}
	return false
}

func entryOf(path, content string) v4.Entry {
	return v4.Entry{Size: uint64(len(content)), Mode: 0o644, Digest: digestOf(content), Path: path}
}

func (s *told) listed(m *v4.List) *v4.Entries {
	answer := &v4.Entries{Number: m.Number}
	for _, path := range slices.Sorted(maps.Keys(s.liar.files)) {
		if path > m.After && (m.Prefix == "" || path == m.Prefix || strings.HasPrefix(path, m.Prefix+"/")) {
			answer.Entries = append(answer.Entries, entryOf(path, s.liar.files[path]))
		}
	}
	return answer
}

func (s *told) fetched(m *v4.Fetch) []any {
	content := s.liar.files[m.Path]
	answers := []any{fileOf(m, content)}
	for off := int(m.Offset); off < len(content); off += v4.MaxBlock {
		answers = append(answers, &v4.Data{Number: m.Number, Offset: uint64(off), Data: []byte(content[off:min(len(content), off+v4.MaxBlock)])})
	}
	return append(answers, &v4.DataEnd{Number: m.Number})
}

func fileOf(m *v4.Fetch, content string) *v4.File {
	return &v4.File{Number: m.Number, Size: uint64(len(content)), Mode: 0o644, Digest: digestOf(content)}
}

// hashesOf are the chunk hashes of content.
func hashesOf(content string) []v4.Digest {
	var hashes []v4.Digest
	for off := 0; off < len(content); off += mib {
		hashes = append(hashes, v4.Digest(tree.Sum([]byte(content[off:min(len(content), off+mib)]), int64(off), len(content) <= mib)))
	}
	return hashes
}

// output is what was printed.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// fenc runs fenc as its main does, and returns the exit status.
func fenc(ctx context.Context, out io.Writer, stdin string, args ...string) int {
	streams := modes.Streams{In: strings.NewReader(stdin), Out: out, Err: out}
	err := modes.App(streams).RunContext(ctx, append([]string{"fenc"}, args...))
	if err != nil {
		fmt.Fprintf(out, "fenc: %v\n", err)
	}
	return modes.ExitStatus(err)
}

// listen runs the lie's server.
func (l *lie) listen(t testing.TB) *liar {
	t.Helper()
	id, err := v4.NewIdentity()
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &liar{Listener: listener, lie: l, id: id, done: make(chan struct{}), files: map[string]string{"a": "12345", "b": "b", "folder/c": "c"}}
	s.running.Go(s.run)
	t.Cleanup(func() {
		listener.Close()
		s.running.Wait()
	})
	return s
}

// impatient is in the settings of a client that is met with silence. A busy machine must
// not take as long for what comes before.
const impatient = "timeout = \"10s\"\nconnect_timeout = \"11s\"\n"

// settings writes the client's files for a server into a new directory, and returns
// it.
func settings(t testing.TB, address string, server v4.Fingerprint, more string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := v4.NewIdentity()
	must(t, err)
	me, err := config.PrepareMe(filepath.Join(dir, "me.toml"), config.Secret(key.Text()), "grace")
	must(t, err)
	must(t, me.CommitAs("grace", strings.Repeat("01", 16)))
	must(t, os.WriteFile(filepath.Join(dir, "transfer.toml"), fmt.Appendf(nil,
		"server = %q\nserver_key = [%q]\nme = \"me.toml\"\nretry_for = \"0s\"\nattempts = 1\n%s", address, server, more), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "a"), []byte("12345"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, unnamed), []byte("the content of "+unnamed), 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "to"), 0o750))
	return dir
}

// unnamed is a file of every client that no command names. Its content has its name.
const unnamed = "what-nobody-named"

// gone is the content of what is not there any more.
const gone = "\x00gone"

// snapshot is what lies in a directory: modes and content.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case e.IsDir():
			all[rel+"/"] = info.Mode().String()
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all[rel] = string(content)
		default:
			target, _ := os.Readlink(path)
			all[rel] = "link to " + target
		}
		return nil
	}))
	return all
}

// tell runs a lie against a client.
func (l *lie) tell(t *testing.T) {
	t.Helper()
	server := l.listen(t)
	more := ""
	if strings.Contains(l.says, "timed out") {
		more = impatient
	}
	if slices.Contains(l.args, "--streams") {
		more += "streams = 2\n"
	}
	dir := settings(t, server.Addr().String(), server.id.Fingerprint(), more)
	if slices.Contains(l.args, "large") {
		must(t, os.WriteFile(filepath.Join(dir, "large"), []byte(whole), 0o600))
	}
	if l.beside != nil {
		l.beside(t, dir)
	}
	want := snapshot(t, dir)
	args := []string{l.args[0], "--config", filepath.Join(dir, "transfer.toml")}
	if l.args[0] == "get" {
		args = append(args, "--dir", filepath.Join(dir, "to"))
	}
	for _, arg := range l.args[1:] {
		switch {
		case arg == "--streams":
			continue
		case l.args[0] == "send":
			arg = filepath.Join(dir, arg)
		}
		args = append(args, arg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out output
	status := fenc(ctx, &out, "", args...)
	close(server.done)
	if ctx.Err() != nil {
		t.Errorf("it did not end")
	}
	said := strings.ReplaceAll(out.String(), dir, "DIR")
	if status != l.status || !strings.Contains(said, l.says) {
		t.Errorf("exit status %d, it said:\n%s\nwant %d and %q", status, said, l.status, l.says)
	}
	wantPlain(t, said)
	if server.strayed.Load() {
		t.Errorf("the server was told of a file that was not named")
	}
	for path, content := range l.has {
		if want[path] = content; content == gone {
			delete(want, path)
		}
	}
	if got := snapshot(t, dir); !maps.Equal(got, want) {
		t.Errorf("its directory has %s, want %s", sizes(got), sizes(want))
	}
}

// wantPlain checks that nothing printed acts on a terminal, or reads as what it is
// not.
func wantPlain(t testing.TB, said string) {
	t.Helper()
	for _, r := range said {
		if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069) {
			t.Errorf("%U was printed as it is: %q", r, said)
			return
		}
	}
	if len(said) > 16<<10 {
		t.Errorf("%d bytes were printed", len(said))
	}
}
