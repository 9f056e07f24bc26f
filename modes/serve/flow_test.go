package serve_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"fenc/config/need"
	"fenc/model"
	"fenc/modes/serve"
	"fenc/wire/v3"
)

func TestFirstContactReturnAndSeveralFiles(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	p.keep("a.txt", "one")
	p.keep("dir/b.txt", "")
	p.Close()
	s.log.Await(t, `"session ended"`, `"contact":"registered"`, `"files":2`, `"bytes":3`, `"client":"grace"`, `"reason":"client closed"`)
	p.back(t, s, "grace").keep("c.txt", strings.Repeat("x", 100_000))
	s.wantFiles(t, "grace/a.txt", "grace/c.txt", "grace/dir/b.txt")
	if got := s.stored(t, "grace/a.txt"); got != "one" {
		t.Errorf("a.txt holds %q", got)
	}
	line := s.log.Await(t, `"msg":"file"`, `"file":"a.txt"`)
	for _, want := range []string{`"client":"grace"`, `"address":"127.0.0.1:`, `"bytes":3`, `"seconds":`, `"checksum":"7a6c86f1"`, `"verdict":"verified"`} {
		if !strings.Contains(line, want) {
			t.Errorf("log line %s lacks %s", line, want)
		}
	}
	f, ok, _ := s.archive.Catalogue.File(model.ID(p.id), "a.txt")
	if !ok || !f.Verified || f.Size != 3 || f.Checksum != 0x7a6c86f1 || f.FilePath != "grace/a.txt" {
		t.Errorf("catalogue: %+v, %v", f, ok)
	}
}

func TestNameInUseIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	hello(t, s, "grace")
	wantRefused(t, s, dial(t, s), registration("grace"), "name in use")
}

// wantRefused sends a first request and expects 2101 with an id of zeros, then
// the end, and a line in the log.
func wantRefused(t *testing.T, s *server, p *peer, request []byte, words ...string) {
	t.Helper()
	p.send(request)
	var m v3.Registered
	p.answer(v3.CodeRefused, &m)
	if !m.ClientID.IsZero() {
		t.Errorf("2101 carries the id %s", m.ClientID)
	}
	p.wantClosed()
	s.log.Await(t, append([]string{`"session ended"`, `"level":"WARN"`, p.LocalAddr().String(), "refused"}, words...)...)
}

// registration is a 1100 whose payload is the name alone, as the first client
// sends it.
func registration(name string) []byte {
	return append(append(append(make([]byte, 16), 3, 0x4c, 0x04), u32(uint32(len(name)))...), name...)
}

func TestNamesThatCannotBeClientsAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for outcome, name := range map[string]string{
		"only NULs": "\x00\x00", "NUL inside": "a\x00b", "128 bytes": strings.Repeat("x", 128), "255 bytes": strings.Repeat("x", 255),
		"newline": "a\nb", "escape": "\x1b[2J", "C1": "a\u009bb", "not UTF-8": "\xff\xfe", "line separator": "a\u2028b",
	} {
		t.Run(outcome, func(t *testing.T) { wantRefused(t, s, dial(t, s), registration(name)) })
	}
	p := dial(t, s)
	p.send(registration(strings.Repeat("x", 127)))
	p.answer(v3.CodeRegistered, &v3.Registered{})
}

func TestClosedRegistrationKnowsItsClients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	p := hello(t, s, "grace")
	s.stop(t)
	s = start(t, dir, withSettings(func(c *serve.Settings) { c.Registration3 = false }))
	wantRefused(t, s, dial(t, s), registration("ada"), "registration is closed")
	p.back(t, s, "grace").keep("a", "1")
}

func TestStrangersGetNoKey(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	grace := hello(t, s, "grace")
	other, err := v3.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	keyRequest := func(id v3.ClientID, name string, der [v3.PublicKeySize]byte) []byte {
		var b bytes.Buffer
		if err := v3.WriteRequest(&b, id, v3.CodePublicKey, &v3.PublicKey{Name: named(name), Key: der}, 0); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	mine, _ := v3.MarshalPublicKey(&key().PublicKey)
	others, _ := v3.MarshalPublicKey(&other.PublicKey)
	wantRefused(t, s, dial(t, s), keyRequest(v3.ClientID{1}, "grace", mine), "unknown client")
	wantRefused(t, s, dial(t, s), keyRequest(grace.id, "ada", mine), "unknown client")
	wantRefused(t, s, dial(t, s), keyRequest(grace.id, "grace", others), "another public key")
	wantRefused(t, s, dial(t, s), keyRequest(grace.id, "grace", [v3.PublicKeySize]byte{1}), "bad key")
	if c, _, _ := s.archive.Catalogue.Client(model.ID(grace.id)); !bytes.Equal(c.PublicKey, mine[:]) {
		t.Error("the first key was replaced")
	}
	grace.back(t, s, "grace").keep("a", "still hers")
}

func TestResendThenSuccessKeepsOneFile(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	for range 3 {
		p.offer("a", p.encrypted("damaged on the way"))
		p.conclude(v3.CodeResend, "a")
		s.wantFiles(t)
	}
	p.keep("a", "right")
	s.wantFiles(t, "grace/a")
	s.log.Await(t, `"verdict":"mismatch, resending"`)
}

func TestGivingUpKeepsNothing(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	p.offer("a", p.encrypted("x"))
	p.conclude(v3.CodeGiveUp, "a")
	s.wantFiles(t)
	s.log.Await(t, `"verdict":"mismatch, given up"`)
	p.keep("a", "the connection goes on")
}

// The first client's third mismatch: 1105, 2104, and a 1106 with no 1103.
func TestFirstClientsGivingUpIsAcknowledged(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	for range 3 {
		p.offer("a", p.encrypted("x"))
		p.conclude(v3.CodeResend, "a")
	}
	p.conclude(v3.CodeGiveUp, "a")
	s.log.Await(t, "file given up")
	s.wantFiles(t)
}

// The first client reads 3 of the 7 bytes of its last 2104 and resets.
func TestResetAfterTheVerdictLosesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	p.offer("a", p.encrypted("kept"))
	p.send(p.verdict(v3.CodeValid, "a"))
	if _, err := io.ReadFull(p, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	p.Conn.(*net.TCPConn).SetLinger(0)
	p.Close()
	s.log.Await(t, "session ended")
	s.wantFiles(t, "grace/a")
}

func TestReplacementIsNotSeenBeforeItsVerdict(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	p.keep("a", "first")
	for _, verdict := range []v3.Code{v3.CodeResend, v3.CodeGiveUp} {
		p.offer("a", p.encrypted("never verified"))
		if got := s.stored(t, "grace/a"); got != "first" {
			t.Errorf("before the verdict the file holds %q", got)
		}
		p.conclude(verdict, "a")
		s.wantFiles(t, "grace/a")
	}
	p.offer("a", p.encrypted("never verified"))
	p.Close()
	s.log.Await(t, "session ended")
	if got := s.stored(t, "grace/a"); got != "first" {
		t.Errorf("after a cut connection the file holds %q", got)
	}
	s.wantFiles(t, "grace/a")
	p.back(t, s, "grace").keep("a", "second")
	if got := s.stored(t, "grace/a"); got != "second" {
		t.Errorf("after the verdict the file holds %q", got)
	}
	if f, _, _ := s.archive.Catalogue.File(model.ID(p.id), "a"); f.Version != 2 {
		t.Errorf("version %d, want 2", f.Version)
	}
}

func TestTwoClientsKeepTheirFilesOfOneName(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	hello(t, s, "grace").keep("report.txt", "grace's")
	hello(t, s, "ada").keep("report.txt", "ada's")
	s.wantFiles(t, "ada/report.txt", "grace/report.txt")
	if g, a := s.stored(t, "grace/report.txt"), s.stored(t, "ada/report.txt"); g != "grace's" || a != "ada's" {
		t.Errorf("got %q and %q", g, a)
	}
}

func TestServerStartedAgainKnowsClientsAndFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	p := hello(t, s, "grace")
	p.keep("a", "1")
	s.stop(t)
	s = start(t, dir)
	p.back(t, s, "grace").keep("b", "2")
	s.wantFiles(t, "grace/a", "grace/b")
	if c, _, _ := s.archive.Catalogue.Client(model.ID(p.id)); c.LastSeen.IsZero() || c.LastSeen.Before(c.RegisteredAt.Time) {
		t.Errorf("last_seen %v, registered %v", c.LastSeen, c.RegisteredAt)
	}
}

func TestNamesAreNeverPaths(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for i, c := range []struct{ name, want string }{
		{"/etc/passwd", "etc/passwd"},
		{`C:\Users\grace\report.txt`, "C/Users/grace/report.txt"},
		{`\\server\share\x`, "server/share/x"},
		{".fenc/objects/00/x", ".fenc/objects/00/x"},
		{"fenc.db", "fenc.db"},
		{strings.Repeat("n", 255), strings.Repeat("n", 255)},
		{"'; DROP TABLE files; --", "'; DROP TABLE files; --"},
		{"\u202egnp.exe", "\u202egnp.exe"},
	} {
		client := fmt.Sprintf("client %d", i)
		p := hello(t, s, client)
		p.keep(c.name, c.name)
		if got := s.stored(t, client+"/"+c.want); got != c.name {
			t.Errorf("%q: stored %q", c.name, got)
		}
		if f, ok, _ := s.archive.Catalogue.File(model.ID(p.id), c.name); !ok || f.FileName != c.name {
			t.Errorf("%q: the catalogue has %q", c.name, f.FileName)
		}
	}
	for _, name := range []string{"../escape", "a/../../escape", `..\escape`, "a/", "a\nb", "a\x1bb", "\xff", "..", "."} {
		p := hello(t, s, "refused "+hex.EncodeToString([]byte(name)))
		p.send(p.file(name, p.encrypted("x")))
		p.wantClosed()
	}
	if _, err := os.Stat(filepath.Join(s.dir, "escape")); !os.IsNotExist(err) {
		t.Error("a name led out of the storage")
	}
	if strings.ContainsAny(s.log.String(), "\x1b\u202e\x00") {
		t.Error("bytes of a peer stand raw in the log")
	}
}

func TestNamesOfOnePathAreKeptApart(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	p := hello(t, s, "grace")
	p.keep("/a/report.txt", "absolute")
	p.keep("a/report.txt", "relative")
	p.keep("a", "where a folder is")
	p.keep("a/report.txt", "relative again")
	if got := s.stored(t, "grace/a/report.txt"); got != "absolute" {
		t.Errorf("the first name's file holds %q", got)
	}
	if got := s.stored(t, "grace/"+v3.AlternativePath("a/report.txt")); got != "relative again" {
		t.Errorf("the second name's file holds %q", got)
	}
	if got := s.stored(t, "grace/"+v3.AlternativePath("a")); got != "where a folder is" {
		t.Errorf("the third name's file holds %q", got)
	}
}

func TestManyClientsAtOnceAllVerify(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	clients := need.Rounds(0, 200, 30)
	s := start(t, t.TempDir())
	content := strings.Repeat("0123456789abcde\n", size/16)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() { hello(t, s, fmt.Sprintf("client %03d", i)).keep("a", content) })
	}
	group.Wait()
	files, err := s.archive.Catalogue.Files()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != clients {
		t.Fatalf("%d files, want %d", len(files), clients)
	}
	for _, f := range files {
		if !f.File.Verified || f.File.Checksum != crc32.ChecksumIEEE([]byte(content)) {
			t.Errorf("%s: %+v", f.Client, f.File)
		}
	}
}

// recording is a conversation of the first client and server.
type recording struct {
	Messages []struct {
		From string
		Code v3.Code
		Hex  string
	}
	Me struct {
		Name       string
		ClientID   string `json:"client_id"`
		PrivateKey string `json:"private_key_base64"`
	} `json:"me_info"`
	Key string `json:"aes_key_hex"`
}

// The first client's side of each recording gets the first server's answers,
// byte for byte but for what is random: the id of a registration, and the
// session's key, under which the content is encrypted anew.
func TestRecordingsAreAnsweredAsRecorded(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) != 3 {
		t.Fatalf("recordings: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var rec recording
			if err := json.Unmarshal(text, &rec); err != nil {
				t.Fatal(err)
			}
			replay(t, rec)
		})
	}
}

func replay(t *testing.T, rec recording) {
	private, err := v3.ParsePrivateKey(rec.Me.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	recorded, err := hex.DecodeString(rec.Me.ClientID)
	if err != nil {
		t.Fatal(err)
	}
	oldKey, err := hex.DecodeString(rec.Key)
	if err != nil {
		t.Fatal(err)
	}
	dir, id := t.TempDir(), recorded
	if rec.Messages[0].Code == v3.CodePublicKey {
		insertClient(t, dir, model.ID(recorded), rec.Me.Name)
	}
	s := start(t, dir)
	p := dial(t, s)
	var session v3.SessionKey
	var plain []byte
	for i, m := range rec.Messages {
		message, err := hex.DecodeString(m.Hex)
		if err != nil {
			t.Fatal(err)
		}
		message = bytes.ReplaceAll(message, recorded, id)
		if m.From == "client" {
			if m.Code == v3.CodeFile {
				content := message[v3.RequestHeaderSize+int(v3.FileFixedSize):]
				v3.NewDecrypter(v3.SessionKey(oldKey)).Blocks(content)
				n, ok := v3.Unpad(content[len(content)-v3.BlockSize:])
				if !ok {
					t.Fatal("the recorded content does not decrypt")
				}
				plain = bytes.Clone(content[:len(content)-v3.BlockSize+n])
				v3.NewEncrypter(session).Blocks(content)
			}
			p.send(message)
			continue
		}
		got := make([]byte, len(message))
		if _, err := io.ReadFull(p, got); err != nil {
			t.Fatalf("message %d, %s: %v", i, m.Code, err)
		}
		switch m.Code {
		case v3.CodeRegistered:
			id = bytes.Clone(got[v3.ResponseHeaderSize:])
			copy(message[v3.ResponseHeaderSize:], id)
		case v3.CodeKey:
			at := v3.ResponseHeaderSize + 16
			if session, err = v3.UnwrapKey(private, [v3.WrappedKeySize]byte(got[at:])); err != nil {
				t.Fatal(err)
			}
			copy(message[at:], got[at:])
		case v3.CodeFileReceived: // the recorded checksum was falsified where a 1105 follows
			copy(message[len(message)-4:], u32(crc32.ChecksumIEEE(plain)))
		}
		if !bytes.Equal(got, message) {
			t.Errorf("message %d, %s: got %x, want %x", i, m.Code, got, message)
		}
	}
	p.Close()
	s.log.Await(t, "session ended")
	files, err := s.archive.Catalogue.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if got := s.stored(t, f.File.FilePath); got != string(plain) || f.Client != rec.Me.Name || !f.File.Verified {
			t.Errorf("stored %d bytes of %s, want %d", len(got), f.Client, len(plain))
		}
	}
	if n := len(files); n != 1 {
		t.Errorf("%d files, want 1", n)
	}
}

// insertClient makes a catalogue in dir that knows a client by this id, without
// a key yet.
func insertClient(t *testing.T, dir string, id model.ID, name string) {
	t.Helper()
	path := filepath.Join(dir, "fenc.db")
	c, err := model.Open(path, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := gorm.Open(sqlite.Open(path), &gorm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	now := model.Time{Time: time0}
	if err := db.Create(&model.Client{ID: id, Name: name, Protocol: 3, Folder: name, FolderKey: strings.ToLower(name), RegisteredAt: now, LastSeen: now}).Error; err != nil {
		t.Fatal(err)
	}
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), withListener(need.Listen(t))) // where nobody else listens once it has ended
	idle, busy := hello(t, s, "idle"), hello(t, s, "busy")
	ciphertext := busy.encrypted(strings.Repeat("x", 300_000))
	message := busy.file("a", ciphertext)
	busy.send(message[:200_000])
	awaitPart(t, s)
	s.cancel()
	idle.wantClosed()
	s.log.Await(t, "session ended", `"client":"idle"`, "server is stopping")
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("a stopping server accepts connections")
	}
	busy.send(message[200_000:])
	busy.answer(v3.CodeFileReceived, &v3.FileReceived{})
	busy.conclude(v3.CodeValid, "a")
	busy.wantClosed()
	s.log.Await(t, "session ended", `"client":"busy"`, "server is stopping")
	if got := s.stored(t, "busy/a"); len(got) != 300_000 {
		t.Errorf("%d bytes stored", len(got))
	}
	s.stop(t)
}

// awaitPart waits until an upload is open.
func awaitPart(t *testing.T, s *server) {
	t.Helper()
	for {
		if uploads, err := s.archive.Catalogue.Uploads(model.UploadOpen); err != nil {
			t.Fatal(err)
		} else if len(uploads) > 0 {
			return
		}
	}
}

func TestShutdownGraceEnds(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir(), withSettings(func(c *serve.Settings) { c.ShutdownGrace = 0 }))
	p := hello(t, s, "grace")
	message := p.file("a", p.encrypted(strings.Repeat("x", 300_000)))
	p.send(message[:1000])
	awaitPart(t, s)
	s.cancel()
	if err := <-s.ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	s.ended <- nil
	if _, err := io.ReadAll(p); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the grace: %v, want the connection closed", err)
	}
	s.wantFiles(t)
}
