package archive

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"fenc/config/need"
	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/wire/v4/tree"
)

// Sequences of uploads of every kind, resumed, finished, refused, given up, forgotten
// and met by a restart, against a model that is a few maps. -rapid.checks says how many
// of each sort, -rapid.seed which; a failure tells the seed, and is made small.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	// Its own number of checks is for tests that are quicker, and its own seed the clock's.
	for name, value := range map[string]int{"rapid.checks": need.Rounds(0, 30, 6), "rapid.seed": 1} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := f.Value.Set(fmt.Sprint(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, bounds := range map[string]model.Bounds{
		"without bounds": {}, "few files": {Files: 3}, "few uploads": {Uploads: 1, Bytes: 5 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				dir, err := os.MkdirTemp(inMemory, "fenc-machine-")
				if err != nil {
					t.Fatal(err)
				}
				defer os.RemoveAll(dir)
				m := &stateMachine{dir: dir, disk: storagetest.NewDisk(), bounds: bounds}
				m.open(t)
				defer func() { m.close(t) }()
				for _, name := range []string{"grace", "ada"} {
					c, err := m.Catalogue.Register(name, 4)
					if err != nil {
						t.Fatal(err)
					}
					m.clients = append(m.clients, &owner{Client: c, files: make(map[string]*kept), replaces: true})
				}
				t.Repeat(m.actions())
				m.restart(t)
				m.Check(t)
			})
		})
	}
}

// inMemory is a folder that is no disk, where there is one: a power cut is not what is
// tested here, and syncs are what takes time.
var inMemory = func() string {
	if dir, err := os.MkdirTemp("/dev/shm", "fenc-"); err == nil {
		os.Remove(dir)
		return "/dev/shm"
	}
	return ""
}()

// Contents are told by a letter and a size. Those of one size differ in one chunk.
type stuff struct {
	letter byte
	size   int
}

var stuffs sync.Map // bytes of each, made once

var stuffSizes = []int{5, 0, 1 << 20, 1<<20 + 1, 2<<20 + 5}

func (s stuff) bytes() []byte {
	if b, ok := stuffs.Load(s); ok {
		return b.([]byte)
	}
	b := bytes.Repeat([]byte("01234567"), s.size/8+1)[:s.size]
	if s.size > 0 {
		b[int(s.letter)%tree.Chunks(int64(s.size), 1<<20)<<20] = s.letter
	}
	stuffs.Store(s, b)
	return b
}

var digests sync.Map // of stuffs

func (s stuff) digest() model.Hash {
	if d, ok := digests.Load(s); ok {
		return d.(model.Hash)
	}
	d := model.Hash(blake3.Sum256(s.bytes()))
	digests.Store(s, d)
	return d
}

func drawStuff(t *rapid.T) stuff {
	return stuff{byte(rapid.SampledFrom([]byte("abc")).Draw(t, "content")), rapid.SampledFrom(stuffSizes).Draw(t, "size")}
}

// Names of which some stand in each other's way.
func drawName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "a/b", "a", "b", "b0", "%_'\"", "é"}).Draw(t, "name")
}

// owner is what the model knows of a client.
type owner struct {
	model.Client
	files    map[string]*kept
	replaces bool // it has the right to
}

// kept is a file as the model has it.
type kept struct {
	content stuff
	version int64
	path    string // of the tree
	crc     bool   // received by protocol 3, without a digest
	tree    bool   // the hashes of its chunks are known
}

// way is an upload as the model has it.
type way struct {
	id     model.ID
	client *owner
	name   string
	size   int
	chunks map[int][]byte // that have come
	upload *Upload        // nil: nobody has it open
	wants  stuff          // what its sender has now
}

// stateMachine is the archive under test beside its model.
type stateMachine struct {
	*Archive
	dir    string
	disk   *storagetest.Disk
	bounds model.Bounds
	ahead  time.Duration

	clients []*owner
	ways    []*way
}

// actions are what may happen, some of it more often.
func (m *stateMachine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"": m.Check, "offer": m.Offer, "offer again": m.Offer, "fill": m.Fill, "fill more": m.FillAll, "finish": m.Finish, "finish again": m.Finish,
		"send": m.Send, "hold": m.Hold, "copy": m.Copy, "release": m.Release, "leave": m.Leave, "give up": m.GiveUp, "small": m.Small,
		"receive": m.Receive, "rights": m.Rights, "restart": m.Restart, "later": m.Later,
	}
}

func (m *stateMachine) open(t *rapid.T) {
	now := func() time.Time { return time.Now().Add(m.ahead) }
	c, err := model.Open(filepath.Join(m.dir, "fenc.db"), model.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(m.dir, ".fenc"), 0o700); err != nil { // of the lock
		t.Fatal(err)
	}
	f, err := storage.OpenFolderOn(m.disk, m.dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Archive, err = Open(c, f, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	m.now = now
	m.SetPolicy(Policy{Bounds: m.bounds, Retention: model.Retention{KeepPartial: 24 * time.Hour}})
}

func (m *stateMachine) close(t *rapid.T) {
	for _, w := range m.ways {
		m.detach(w)
	}
	if err := m.Archive.Close(); err != nil {
		t.Fatal(err)
	}
}

func (m *stateMachine) detach(w *way) {
	if w.upload != nil {
		w.upload.Detach(m)
		w.upload = nil
	}
}

// drop forgets an upload in the model.
func (m *stateMachine) drop(w *way) {
	m.ways = slices.DeleteFunc(m.ways, func(o *way) bool { return o == w })
}

func (m *stateMachine) drawClient(t *rapid.T) *owner {
	return rapid.SampledFrom(m.clients).Draw(t, "client")
}

// drawOpen returns an upload that somebody has open.
func (m *stateMachine) drawOpen(t *rapid.T) *way {
	open := slices.DeleteFunc(slices.Clone(m.ways), func(w *way) bool { return w.upload == nil })
	if len(open) == 0 {
		t.Skip("no upload is open")
	}
	return open[rapid.IntRange(0, len(open)-1).Draw(t, "upload")]
}

// room is the refusal that so many bytes more under a name meet; nil where there is
// room. What is sent counts by what it is longer than the file that it replaces.
func (m *stateMachine) room(c *owner, name string, size int) error {
	sent := make(map[string]int)
	for _, w := range m.ways {
		if w.client == c {
			sent[w.name] += w.size
		}
	}
	taken := func() (files, bytes int) {
		files = len(c.files)
		for _, k := range c.files {
			bytes += k.content.size
		}
		for name, size := range sent {
			if have := c.files[name]; have == nil {
				files, bytes = files+1, bytes+size
			} else {
				bytes += max(size-have.content.size, 0)
			}
		}
		return files, bytes
	}
	files, bytes := taken()
	sent[name] += size
	newFiles, newBytes := taken()
	switch {
	case m.bounds.Files > 0 && newFiles > files && newFiles > m.bounds.Files:
		return model.ErrManyFiles
	case m.bounds.Bytes > 0 && newBytes > bytes && int64(newBytes) > m.bounds.Bytes:
		return model.ErrQuota
	}
	return nil
}

// place is the refusal that content under a name meets at last.
func (c *owner) place(name string, content stuff) error {
	if have := c.files[name]; have != nil {
		if !c.replaces && (have.crc || have.content != content) {
			return model.ErrNoReplace
		}
		return nil
	}
	for other := range c.files {
		if strings.HasPrefix(other, name+"/") || strings.HasPrefix(name, other+"/") {
			return model.ErrPathTaken
		}
	}
	return nil
}

// keep has the model take content under a name. It reports whether that is another
// version.
func (c *owner) keep(name string, content stuff, crc bool) (version bool) {
	have := c.files[name]
	if have == nil {
		have = &kept{path: path.Join(c.Folder, name)}
		c.files[name] = have
	} else if have.content == content && !have.crc && !crc {
		return false // it stands there
	}
	have.content, have.crc, have.tree = content, crc, false
	have.version++
	return true
}

func want(t *rapid.T, what string, got, want error) {
	if !errors.Is(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// Small keeps a whole file.
func (m *stateMachine) Small(t *rapid.T) {
	c, name, content := m.drawClient(t), drawName(t), canonical(drawStuff(t))
	if content.size > 1<<20 {
		t.Skip("too long for one frame")
	}
	data := content.bytes()
	done := make(chan error, 1)
	unchanged := false
	err := m.Archive.Small(context.Background(), SmallFile{Client: c.ID, Path: name, Digest: content.digest(), Data: data, Done: func(same bool, err error) {
		unchanged = same
		done <- err
	}})
	want(t, "small", err, nil)
	have := c.files[name]
	same := have != nil && !have.crc && have.content == content
	expected := m.room(c, name, content.size)
	if same {
		expected = nil
	} else if expected == nil {
		expected = c.place(name, content)
	}
	err = <-done
	want(t, "small", err, expected)
	if err == nil {
		if unchanged != same {
			t.Fatalf("unchanged: %v, want %v", unchanged, same)
		}
		c.keep(name, content, false)
	}
}

// Receive is a file by protocol 3, verified or not.
func (m *stateMachine) Receive(t *rapid.T) {
	c, name, content := m.drawClient(t), drawName(t), canonical(drawStuff(t))
	in, err := m.Archive.Receive(context.Background(), model.Upload{ClientID: c.ID, FileName: name, Path: name, Size: int64(content.size) + 15, Protocol: 3})
	want(t, "receive", err, m.room(c, name, content.size+15)) // it knows the size of the padded content only
	if err != nil {
		return
	}
	n, err := in.Write(context.Background(), bytes.NewReader(content.bytes()))
	want(t, "write", err, nil)
	if rapid.Bool().Draw(t, "verified") {
		expected := c.place(name, content)
		if have := c.files[name]; have != nil && !c.replaces {
			expected = model.ErrNoReplace // without a digest nobody knows that it is the same
		}
		_, err := in.Keep(context.Background(), n, crc32.ChecksumIEEE(content.bytes()))
		want(t, "keep", err, expected)
		if err == nil {
			c.keep(name, content, true)
		}
		return
	}
	want(t, "discard", in.Discard(), nil)
}

// Rights gives or takes the right to replace.
func (m *stateMachine) Rights(t *rapid.T) {
	c := m.drawClient(t)
	rights := model.AllRights
	if c.replaces = !c.replaces; !c.replaces {
		rights &^= model.RightReplace
	}
	want(t, "rights", m.Catalogue.SetRights(c.Name, rights), nil)
	_, err := m.Catalogue.Reload()
	want(t, "reload", err, nil)
}

// Restart ends the server and starts it again.
func (m *stateMachine) Restart(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "restart") > 0 {
		t.Skip("not now")
	}
	m.restart(t)
}

func (m *stateMachine) restart(t *rapid.T) {
	m.close(t)
	m.open(t)
	for _, c := range m.clients {
		for name := range c.files {
			f, _, _ := m.Catalogue.File(c.ID, name)
			m.wantContent(t, c, name, f)
		}
		m.wantListed(t, c)
	}
}

// Later is the upkeep of half a day.
func (m *stateMachine) Later(t *rapid.T) {
	m.ahead += 13 * time.Hour
	waits := slices.DeleteFunc(slices.Clone(m.ways), func(w *way) bool { return w.upload != nil })
	before, err := m.Catalogue.Uploads(model.UploadOpen)
	want(t, "uploads", err, nil)
	want(t, "upkeep", errors.Join(m.retain(context.Background()), m.sweep(), m.markSettled()), nil)
	after, err := m.Catalogue.Uploads(model.UploadOpen)
	want(t, "uploads", err, nil)
	for _, u := range before {
		stalled := m.now().Sub(u.TouchedAt.Time) > 24*time.Hour
		for _, w := range waits {
			if w.id != u.ID {
				continue
			}
			if gone := !slices.ContainsFunc(after, func(o model.Upload) bool { return o.ID == u.ID }); gone != stalled {
				t.Fatalf("an upload that waits for %s is gone: %v", m.now().Sub(u.TouchedAt.Time), gone)
			} else if gone {
				m.drop(w)
			}
		}
	}
}

// wantFile compares a file with the model.
func (m *stateMachine) wantFile(t *rapid.T, c *owner, name string, f model.File) {
	k := c.files[name]
	if f.FileName != name || f.Size != int64(k.content.size) || !f.Verified || f.Version != k.version || f.FilePath != k.path || !k.crc && f.Digest != k.content.digest() {
		t.Fatalf("%s of %s: %+v, want %+v", name, c.Name, f, *k)
	}
}

// Check compares everything with the model.
func (m *stateMachine) Check(t *rapid.T) {
	for _, c := range m.clients {
		names := slices.Sorted(maps.Keys(c.files))
		var bytes int
		for _, name := range names {
			f, ok, _ := m.Catalogue.File(c.ID, name)
			if !ok {
				t.Fatalf("%s of %s is gone", name, c.Name)
			}
			m.wantFile(t, c, name, f)
			bytes += c.files[name].content.size
		}
		if files, used, _ := m.Catalogue.Used(c.ID); files != len(names) || used != int64(bytes) {
			t.Fatalf("%s has %d files of %d bytes, want %d of %d", c.Name, files, used, len(names), bytes)
		}
	}
	open, err := m.Catalogue.Uploads(model.UploadOpen)
	want(t, "uploads", err, nil)
	var got, wanted []string
	for _, u := range open {
		got = append(got, u.ID.String())
	}
	for _, w := range m.ways {
		wanted = append(wanted, w.id.String())
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Fatalf("open uploads are %q, want %q", got, wanted)
	}
	if sealing, err := m.Catalogue.Uploads(model.UploadSealing); err != nil || len(sealing) > 0 {
		t.Fatalf("%d uploads are being sealed, %v", len(sealing), err)
	}
}

// wantContent reads a file from the storage.
func (m *stateMachine) wantContent(t *rapid.T, c *owner, name string, f model.File) {
	content, err := m.OpenFile(f)
	if err != nil {
		t.Fatalf("%s of %s: %v", name, c.Name, err)
	}
	defer content.Close()
	b := make([]byte, f.Size)
	if n, err := content.ReadAt(b, 0); n < len(b) || !bytes.Equal(b, c.files[name].content.bytes()) {
		t.Fatalf("%s of %s: %d bytes, %v, that are not what was verified", name, c.Name, n, err)
	}
}

// wantListed reads a client's files page by page, and those below a folder.
func (m *stateMachine) wantListed(t *rapid.T, c *owner) {
	names := slices.Sorted(maps.Keys(c.files))
	var listed []string
	for after := ""; ; {
		page, err := m.Catalogue.List(c.ID, "", after, 2)
		want(t, "list", err, nil)
		for _, f := range page {
			listed = append(listed, f.FileName)
			after = f.FileName
		}
		if len(page) < 2 {
			break
		}
	}
	if !slices.Equal(listed, names) {
		t.Fatalf("%s lists %q, want %q", c.Name, listed, names)
	}
	below, err := m.Catalogue.List(c.ID, "a", "", 10)
	want(t, "list", err, nil)
	for _, f := range below {
		if f.FileName != "a" && f.FileName != "a/b" {
			t.Fatalf("%q is listed below a", f.FileName)
		}
	}
}
