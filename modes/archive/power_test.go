package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/config/need"
	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/wire/v4/tree"
)

var (
	powerScripts  = flag.Int("power.scripts", 0, "scripts whose every prefix the power is cut after; 0: 4, with -short 1")
	powerVariants = flag.Int("power.variants", 2, "states to look at of each prefix, at most")
	powerEvery    = flag.Int("power.every", 40, "of so many states look at one, by chance; 1 is all")
	powerAgain    = flag.Int("power.again", 0, "the same for states of the starts that follow; 0: as -power.every")
	powerHarmless = flag.Bool("power.harmless", false, "leave out those syncs as well that are thought to be harmless in a power cut, and want nothing broken")
	powerSeed     = flag.Uint64("power.seed", 1, "seed of the first script; the next ones follow")
)

// machine is what survives a power cut: a disk and a database. The database's
// states are its file and a prefix of its WAL that ends with a commit: what the
// log was when it was synced.
type machine struct {
	disk    *storagetest.Disk
	db, wal []byte
	files   []promise // what is, or may be, in the catalogue
	ahead   time.Duration
	keep    int64 // earlier versions of files
}

// running is an archive on a machine.
type running struct {
	*Archive
	dir    string
	client model.Client
	log    *journal
}

// start starts an archive on the machine, with its database in dir.
func (m machine) start(dir string) (*running, error) {
	db := filepath.Join(dir, "fenc.db")
	if m.db != nil {
		if err := errors.Join(os.WriteFile(db, m.db, 0o600), os.WriteFile(db+"-wal", m.wal, 0o600)); err != nil {
			return nil, err
		}
	}
	r := &running{dir: dir, log: new(journal)}
	now := func() time.Time { return time.Now().Add(m.ahead) }
	c, err := model.Open(db, model.Options{Now: now, KeepVersions: m.keep})
	if err != nil {
		return nil, err
	}
	f, err := storage.OpenFolderOn(m.disk, dir)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if m.db == nil {
		if _, err := c.Register("grace", 3); err != nil {
			return nil, err
		}
	}
	r.client, _, _ = c.ClientNamed("grace")
	if r.Archive, err = Open(c, f, slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		return nil, errors.Join(err, c.Close(), f.Close())
	}
	r.Archive.now = now
	r.SetPolicy(Policy{Retention: model.Retention{KeepVersions: m.keep}})
	return r, nil
}

// finish does what Close does but for closing the database.
func (r *running) finish() error {
	r.small.once.Do(func() { close(r.small.stop) })
	<-r.small.done
	<-r.unpack.done
	return errors.Join(r.markSettled(), r.noteRoster())
}

// moment is how far disk and database had got.
type moment struct {
	changes int
	wal     int64
}

var never = moment{math.MaxInt, math.MaxInt64}

// until reports whether m was over at a moment.
func (m moment) until(at moment) bool { return m.changes <= at.changes && m.wal <= at.wal }

// promise is a content that was sent under a name: from first on it may be the
// file, and from kept on it must be, unless a later one is.
type promise struct {
	name        string
	content     []byte
	first, kept moment // kept is never where it was not answered
}

// holding is a chunk of an upload that was said to be held.
type holding struct {
	name        string
	content     []byte
	chunk       int
	since, over moment
}

// script is a list of steps that one seed makes, and what came of it.
type script struct {
	machine // as it was before
	disk    *storagetest.Disk
	wal     []byte // all of it
	began   int    // changes before there was a database
	noted   moment // when the list of clients was in the storage

	promises []promise
	holdings []holding
	run      *running
	random   *rand.Rand
}

// record runs a script on a machine.
func record(m machine, dir string, seed uint64, steps int, skip func(string) bool) (*script, error) {
	s := &script{machine: m, disk: m.disk, noted: never, random: rand.New(rand.NewPCG(seed, 0))}
	db := filepath.Join(dir, "fenc.db")
	s.disk.Meanwhile = func() int64 {
		info, err := os.Stat(db + "-wal")
		if err != nil {
			return 0
		}
		return info.Size()
	}
	s.disk.Skip = skip
	// The changes of the start are cut as well: of a database there is by then what
	// was there before, for the start writes little and a later state of it.
	var err error
	if s.run, err = m.start(dir); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	defer func() {
		s.disk.Meanwhile, s.disk.Skip = nil, nil
		s.run.Close()
	}()
	if m.db == nil {
		// The first state with a database is the first that is looked at.
		if s.machine.db, err = os.ReadFile(db); err != nil {
			return nil, err
		}
		s.began = s.disk.Changes()
	}
	s.promises = slices.Clone(m.files)
	files, err := s.run.Catalogue.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		content, err := s.run.content(f.File)
		if err != nil {
			return nil, err
		}
		s.promises = append(s.promises, promise{f.File.FileName, content, moment{}, s.now()})
	}
	if err := s.run.sweep(); err != nil {
		return nil, err
	}
	for range steps {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	if err := s.run.finish(); err != nil {
		return nil, err
	}
	if s.wal, err = os.ReadFile(db + "-wal"); err == nil && !bytes.HasPrefix(s.wal, m.wal) {
		err = errors.New("script too long: SQLite began its WAL anew")
	}
	return s, err
}

// content reads a file as a client that gets it does.
func (r *running) content(f model.File) ([]byte, error) {
	c, err := r.OpenFile(f)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(io.NewSectionReader(c, 0, f.Size))
}

// bytes makes content that comes once.
func (s *script) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(s.random.Uint32())
	}
	return p
}

func (s *script) name() string { return []string{"a", "b", "d/e", "d/f"}[s.random.IntN(4)] }

func (s *script) now() moment { return moment{s.disk.Changes(), s.disk.Meanwhile()} }

// offered notes that content may be the file from now on; the function it returns,
// that it must be.
func (s *script) offered(name string, content []byte) (kept func()) {
	i := len(s.promises)
	s.promises = append(s.promises, promise{name, content, s.now(), never})
	return func() { s.promises[i].kept = s.now() }
}

// step takes one step by chance.
func (s *script) step() error {
	switch s.random.IntN(8) {
	case 0, 1:
		return s.version3(s.name(), s.bytes(1+s.random.IntN(5000)))
	case 2:
		return s.group(1 + s.random.IntN(4))
	case 3:
		return s.group(packFrom + s.random.IntN(4))
	case 4, 5:
		return s.blocks(s.name())
	case 6:
		return s.leave()
	default:
		err := errors.Join(s.run.retain(), s.run.markSettled(), s.run.noteRoster())
		if s.noted == never {
			s.noted = s.now()
		}
		return err
	}
}

// version3 sends a file whole.
func (s *script) version3(name string, content []byte) error {
	in, err := s.run.Receive(context.Background(), model.Upload{ClientID: s.run.client.ID, FileName: name, Path: name, Size: int64(len(content) + 15), Protocol: 3})
	if err != nil {
		return err
	}
	n, err := in.Write(context.Background(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	kept := s.offered(name, content)
	if _, err := in.Keep(context.Background(), n, crc32.ChecksumIEEE(content)); err != nil {
		return err
	}
	kept()
	return nil
}

// leave begins a file of protocol 3 and discards it, or leaves it.
func (s *script) leave() error {
	in, err := s.run.Receive(context.Background(), model.Upload{ClientID: s.run.client.ID, FileName: "left", Path: "left", Size: 100, Protocol: 3})
	if err != nil {
		return err
	}
	if _, err := in.Write(context.Background(), strings.NewReader("left where it is")); err != nil {
		return err
	}
	if s.random.IntN(2) == 0 {
		return in.Discard()
	}
	return in.part.Close()
}

// group sends n small files together.
func (s *script) group(n int) error {
	var group []SmallFile
	var failed error
	for i := range n {
		name := fmt.Sprintf("g/%d/%d", s.random.IntN(2), i)
		content := s.bytes(s.random.IntN(300))
		kept := s.offered(name, content)
		group = append(group, SmallFile{
			Client: s.run.client.ID, Path: name, Digest: blake3.Sum256(content), Data: content,
			Done: func(_ bool, err error) {
				failed = errors.Join(failed, err)
				kept()
			},
		})
	}
	s.run.keepGroup(group, model.Bounds{})
	return failed
}

// blocks sends a file of several chunks, perhaps in two parts.
func (s *script) blocks(name string) error {
	content := s.bytes(tree.MinChunkSize + 1 + s.random.IntN(5000))
	if s.random.IntN(2) == 0 {
		first := s.random.IntN(2)
		if err := s.someBlocks(name, content, first); err != nil {
			return err
		}
		s.holdings = append(s.holdings, holding{name, content, first, s.now(), never})
		if s.random.IntN(3) == 0 {
			return nil // left for the next start
		}
	}
	for i := range s.holdings {
		if h := &s.holdings[i]; h.name == name && h.over == never {
			h.over = s.now() // an upload of the same name is about to take its place
		}
	}
	kept := s.offered(name, content)
	if err := s.run.sendBlocks(name, content); err != nil {
		return err
	}
	kept()
	return nil
}

// someBlocks sends one chunk and loses its connection.
func (s *script) someBlocks(name string, content []byte, chunk int) error {
	for i := range s.holdings {
		if h := &s.holdings[i]; h.name == name && h.over == never {
			h.over = s.now()
		}
	}
	offered, err := s.run.Offer(context.Background(), s.run.row(name, content), model.Bounds{}, true, false, s, deaf{})
	if err != nil {
		return err
	}
	if _, held := offered.Held[chunk]; !held {
		err = sendChunk(offered.Upload, s, content, chunk)
	}
	offered.Upload.Detach(s)
	return err
}

func (r *running) row(name string, content []byte) model.Upload {
	return model.Upload{ClientID: r.client.ID, FileName: name, Path: name, Size: int64(len(content)), Protocol: 4}
}

// sendBlocks sends what is missing of a file, and finishes it.
func (r *running) sendBlocks(name string, content []byte) error {
	offered, err := r.Offer(context.Background(), r.row(name, content), model.Bounds{}, true, true, r, deaf{})
	if err != nil {
		return err
	}
	defer offered.Upload.Detach(r)
	for i := range offered.Upload.chunks {
		if h, held := offered.Held[i]; held && h == chunkHash(content, i) {
			continue
		} else if held {
			if err := offered.Upload.Release([]int{i}); err != nil {
				return err
			}
		}
		if err := sendChunk(offered.Upload, r, content, i); err != nil {
			return err
		}
	}
	_, err = offered.Upload.Finish(context.Background(), blake3.Sum256(content))
	return err
}

func chunkHash(content []byte, i int) tree.Hash {
	start := i * tree.MinChunkSize
	return tree.Sum(content[start:min(len(content), start+tree.MinChunkSize)], int64(start), len(content) <= tree.MinChunkSize)
}

func sendChunk(u *Upload, owner Owner, content []byte, i int) error {
	start := i * tree.MinChunkSize
	part := content[start:min(len(content), start+tree.MinChunkSize)]
	if err := u.Claim(owner, uint64(start), len(part)); err != nil {
		return err
	}
	b := storage.NewBlock()
	defer storage.FreeBlock(b)
	n := copy(*b, part)
	u.Hash((*b)[:n], int64(start))
	u.Write(b, n, int64(start))
	return nil
}

// deaf is a Watcher that does not listen.
type deaf struct{}

func (deaf) Held(int64)   {}
func (deaf) Failed(error) {}

// commits are the lengths of a WAL at which a transaction ends
// (https://sqlite.org/fileformat2.html#walformat).
func commits(wal []byte) []int64 {
	const header, frameHeader = 32, 24
	ends := []int64{0}
	if len(wal) < header {
		return ends
	}
	page := int(binary.BigEndian.Uint32(wal[8:]))
	for off := header; off+frameHeader+page <= len(wal); off += frameHeader + page {
		if binary.BigEndian.Uint32(wal[off+4:]) != 0 {
			ends = append(ends, int64(off+frameHeader+page))
		}
	}
	return ends
}

// cutState is what a cut leaves.
type cutState struct {
	machine
	at    moment
	after *storagetest.Replay // of the changes before
	fresh bool                // nothing like it was seen before
}

// cuts calls do with the states that a power cut at any moment of the script may
// leave.
func (s *script) cuts(variants int, seen map[[2]uint64]bool, do func(cutState) error) error {
	ends := commits(s.wal)
	r := s.disk.Replay()
	for more := true; more; more = r.Step() {
		if r.Taken() < s.began {
			continue
		}
		from, to := r.Meanwhile()
		if r.Taken() == s.began {
			from = to
		}
		if to < 0 {
			to = int64(len(s.wal))
		}
		for _, end := range ends {
			next := slices.Index(ends, end) + 1
			// The states from the last that was whole by then to the last before the next change.
			if end > to || next < len(ends) && ends[next] <= from {
				continue
			}
			for v := range variants {
				part := []float64{0, 1, 0.5, 0.1, 0.9}[v%5]
				disk := r.Cut(part, s.random)
				state := [2]uint64{disk.Sum(), uint64(end)}
				left := cutState{machine{disk: disk, db: s.machine.db, wal: s.wal[:end], ahead: s.ahead, keep: s.keep}, moment{r.Taken(), end}, r, !seen[state]}
				seen[state] = true
				if err := do(left); err != nil {
					return fmt.Errorf("after %d changes and %d bytes of WAL, state %d: %w", r.Taken(), end, v, err)
				}
				if r.Certain() {
					break
				}
			}
		}
	}
	return nil
}

// settled are the promises as they stand for good after a cut.
func (s *script) settled(at moment) []promise {
	var files []promise
	for _, p := range s.promises {
		if !p.first.until(at) {
			continue
		}
		p.first = moment{}
		if p.kept.until(at) {
			p.kept = moment{}
		} else {
			p.kept = never
		}
		files = append(files, p)
	}
	return files
}

// audit starts an archive on what a cut has left and returns what is broken, and
// whether the start had an upload to complete.
func (s *script) audit(m machine, at moment, dir string) (settles bool, err error) {
	r, err := m.start(dir)
	if err != nil {
		return false, fmt.Errorf("start: %w", err)
	}
	settles = strings.Contains(r.log.String(), "interrupted upload")
	defer func() { err = errors.Join(err, r.Close()) }()
	errs := []error{s.judgeFiles(r, at)}
	if note, err := r.folder.Note(RosterNote); s.noted.until(at) && !bytes.Contains(note, []byte("grace")) {
		errs = append(errs, fmt.Errorf("list of clients was noted and is %q (%v)", note, err))
	}
	for _, h := range s.holdings {
		if h.since.until(at) && at.until(h.over) {
			errs = append(errs, h.judge(r))
		}
	}
	errs = append(errs, r.finish(), r.judgeStorage(m.disk))
	if err := errors.Join(errs...); err != nil {
		return settles, fmt.Errorf("%w\n%s", err, r.log)
	}
	return settles, nil
}

// judgeFiles looks for what was promised.
func (s *script) judgeFiles(r *running, at moment) error {
	var errs []error
	may := make(map[string][][]byte)
	must := make(map[string]bool)
	for _, p := range s.promises {
		if !p.first.until(at) {
			continue
		}
		if p.kept.until(at) {
			may[p.name], must[p.name] = nil, true
		}
		may[p.name] = append(may[p.name], p.content)
	}
	for name := range must {
		if f, ok, _ := r.Catalogue.File(r.client.ID, name); !ok || !f.Verified {
			errs = append(errs, fmt.Errorf("%s was verified and is lost", name))
		}
	}
	files, err := r.Catalogue.Files()
	if err != nil {
		errs = append(errs, err)
	}
	for _, f := range files {
		if !f.File.Verified {
			errs = append(errs, fmt.Errorf("%s is not verified", f.File.FileName))
			continue
		}
		got, err := r.content(f.File)
		if err != nil || !slices.ContainsFunc(may[f.File.FileName], func(p []byte) bool { return bytes.Equal(p, got) }) {
			errs = append(errs, fmt.Errorf("%s has a content that it must not have (%d bytes, %v)", f.File.FileName, len(got), err))
		}
	}
	return errors.Join(errs...)
}

// judgeHeld offers an upload again, which must have what was said to be held.
func (h holding) judgeHeld(r *running) error {
	offered, err := r.Offer(context.Background(), r.row(h.name, h.content), model.Bounds{}, true, false, r, deaf{})
	if err != nil {
		return err
	}
	got, held := offered.Held[h.chunk]
	offered.Upload.Detach(r)
	if !held || got != chunkHash(h.content, h.chunk) {
		return fmt.Errorf("chunk %d of %s was held and is lost", h.chunk, h.name)
	}
	return nil
}

// judge resumes an upload, and completes it.
func (h holding) judge(r *running) error {
	if err := h.judgeHeld(r); err != nil {
		return err
	}
	if err := r.sendBlocks(h.name, h.content); err != nil {
		return fmt.Errorf("go on with %s: %w", h.name, err)
	}
	f, _, _ := r.Catalogue.File(r.client.ID, h.name)
	if got, err := r.content(f); err != nil || !bytes.Equal(got, h.content) {
		return fmt.Errorf("%s, resumed, has another content (%v)", h.name, err)
	}
	return nil
}

// judgeStorage compares storage and catalogue after everything is settled.
func (r *running) judgeStorage(disk *storagetest.Disk) error {
	var errs []error
	broken := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	shown := make(map[string]bool)
	files, err := r.Catalogue.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.File.Pack != nil {
			broken("%s is still packed", f.File.FileName)
			continue
		}
		shown[f.File.FilePath] = true
		versions, err := r.Catalogue.Versions([]model.File{f.File})
		if err != nil {
			broken("versions of %s: %v", f.File.FileName, err)
		}
		for _, v := range versions[f.File.ID] {
			if content, err := r.content(v); err != nil || v.Pack != nil || blake3.Sum256(content) != v.Digest && crc32.ChecksumIEEE(content) != v.Checksum {
				broken("version %d of %s has another content (%v)", v.Version, v.FileName, err)
			}
		}
		if yes, err := r.folder.Shows(f.File.Object.String(), f.File.FilePath); err != nil || !yes {
			broken("%s is not shown (%v)", f.File.FilePath, err)
		}
		text, err := r.folder.Label(f.File.Object.String())
		if l, labelErr := model.ParseLabel(text); err != nil || labelErr != nil || l.FilePath() != f.File.FilePath || l.Size != f.File.Size {
			broken("%s has the label %q (%v, %v)", f.File.FilePath, text, err, labelErr)
		}
	}
	err = r.folder.Tree(func(path string) error {
		if !shown[path] {
			broken("%s is shown and no file", path)
		}
		return nil
	})
	known, objectsErr := r.Catalogue.Objects()
	garbage, garbageErr := r.Catalogue.GarbageBefore(r.now().Add(time.Hour), 100_000)
	for _, id := range garbage {
		known[id] = struct{}{}
	}
	listErr := r.folder.Objects(func(o storage.Listed) error {
		id, err := model.ParseID(o.Key)
		if _, is := known[id]; err != nil || !is {
			text, _ := r.folder.Label(o.Key)
			broken("object %s has no row: %s", o.Key, text)
		}
		return nil
	}, func(name string) error {
		broken("%s lies among the objects", name)
		return nil
	})
	open, openErr := r.Catalogue.Uploads(model.UploadOpen)
	parts, partsErr := r.folder.Parts()
	for _, p := range parts {
		if !slices.ContainsFunc(open, func(u model.Upload) bool { return u.ID.String() == p }) {
			broken("upload %s has no row", p)
		}
	}
	private, privateErr := disk.ReadDir(".fenc")
	for _, e := range private {
		if n := e.Name(); n != "objects" && n != "part" && n != "note-clients" {
			broken("%s is left in .fenc", n)
		}
	}
	return errors.Join(errors.Join(errs...), err, objectsErr, garbageErr, listErr, openErr, partsErr, privateErr)
}

// Every state that a power cut may leave settles: what was verified is there and
// shown, what was held is held, and nothing lies about that no row knows.
func TestPowerCutAfterEveryChange(t *testing.T) {
	t.Parallel()
	scratch := scratchDir(t)
	p := plan{variants: *powerVariants, every: *powerEvery, again: cmp.Or(*powerAgain, *powerEvery), later: *powerEvery}
	scripts := need.Rounds(*powerScripts, 4, 1)
	for i := range scripts {
		seed := *powerSeed + uint64(i)
		if err := p.run(scratch, seed); err != nil {
			t.Fatalf("seed %d (-power.scripts=1 -power.seed=%[1]d -power.variants=%d -power.every=%d -power.again=%d): %v", seed, *powerVariants, *powerEvery, *powerAgain, err)
		}
		if p.count > 10_000 {
			t.Logf("%d scripts so far, %d different states", i+1, p.count)
		}
	}
	t.Logf("%d scripts, %d different states", scripts, p.count)
}

// plan is what the power is cut in.
type plan struct {
	variants int // states of each prefix, at most
	every    int // of so many states one is looked at
	again    int // the same for the starts that follow
	later    int // and for the second script
	skip     func(site string) bool
	count    int // different states so far
}

const (
	stepsOfScript = 10
	restartEvery  = 12 // of so many states one is started on while the power is cut again, and of 2 that have an upload to complete
)

// run runs the script of a seed, cuts the power everywhere, cuts it again in the
// starts that follow, and runs a second script on what one of them has left.
func (p *plan) run(scratch func() string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	m := machine{disk: storagetest.NewDisk(), keep: int64(seed % 2)}
	m.disk.NoLinks, m.disk.NoLabels = seed%4 == 3, seed%4 == 2
	var left []machine
	if err := p.cut(scratch, m, seed, stepsOfScript, func(m machine, settles bool) {
		if settles && random.IntN(2) == 0 || random.IntN(restartEvery) == 0 {
			left = append(left, m)
		}
	}); err != nil {
		return err
	}
	starts := *p
	starts.every = p.again
	for i, m := range left {
		if err := starts.cut(scratch, m, seed, 0, nil); err != nil {
			return fmt.Errorf("second cut, start %d: %w", i, err)
		}
	}
	p.count = starts.count
	if len(left) == 0 {
		return nil
	}
	m = left[len(left)-1]
	m.ahead = time.Hour // garbage is removed
	second := *p
	second.every = p.later
	err := second.cut(scratch, m, seed, stepsOfScript, nil)
	if p.count = second.count; err != nil {
		return fmt.Errorf("second script: %w", err)
	}
	return nil
}

// cut runs a script on a machine and looks at every state that a power cut in it
// leaves. also, unless nil, is given a machine of its own for each, on which the
// power was cut or only the process has ended, and whether an upload is to be
// completed there.
func (p *plan) cut(scratch func() string, m machine, seed uint64, steps int, also func(m machine, settles bool)) error {
	s, err := record(m, scratch(), seed, steps, p.skip)
	if err != nil {
		return err
	}
	settles := false
	return s.cuts(p.variants, make(map[[2]uint64]bool), func(left cutState) error {
		// Where the end of the process and the power cut leave the same names, the
		// first leaves them less certain.
		killed := left.machine
		killed.files, killed.disk = s.settled(left.at), left.after.Kill()
		if s.random.IntN(p.every) > 0 {
			return nil
		}
		if !left.fresh {
			if also != nil && settles {
				also(killed, settles)
			}
			return nil
		}
		p.count++
		cut := killed
		cut.disk = left.disk.Replay().Kill()
		var err error
		settles, err = s.audit(left.machine, left.at, scratch())
		switch {
		case err != nil || also == nil:
			return err
		case settles || s.random.IntN(2) == 0:
			also(killed, settles)
		default:
			also(cut, settles)
		}
		return nil
	})
}

// scratchDir returns a function that makes empty folders, one in place of the
// last, where a sync costs least.
func scratchDir(t *testing.T) func() string {
	t.Helper()
	parent := t.TempDir()
	if memory, err := os.MkdirTemp("/dev/shm", "fenc-test-"); err == nil {
		parent = memory
		t.Cleanup(func() { os.RemoveAll(memory) })
	}
	return func() string {
		dir := filepath.Join(parent, "power")
		os.RemoveAll(dir)
		if err := os.MkdirAll(filepath.Join(dir, ".fenc"), 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}
}

// Each sync is left out in turn, and each time something is found broken: none is
// there in vain, and the test above can fail.
func TestEverySyncIsNeeded(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("one goroutine, and a minute of it")
	}
	scratch := scratchDir(t)
	sites := slices.Clone(syncs)
	all := plan{variants: 1, every: 60, again: 60, later: 60, skip: func(site string) bool {
		if !slices.Contains(sites, site) {
			sites = append(sites, site)
		}
		return false
	}}
	// Four seeds have file systems with and without labels and links. What a sync
	// is for comes up seldom, for some.
	const first, listed, last = 1, 4, 16
	for seed := uint64(first); seed <= listed; seed++ {
		if err := all.run(scratch, seed); err != nil {
			t.Fatal(err)
		}
	}
	for _, site := range sites {
		if _, fine := harmless[site]; fine && !*powerHarmless {
			continue
		}
		var err error
		but := plan{variants: 1, every: 1, again: 1, later: 1, skip: func(s string) bool { return s == site }}
		var seed uint64
		if soon, ok := noticedSoonest[site]; ok {
			seed = soon.seed
			likely := but
			likely.every, likely.again = soon.every, soon.every
			err = likely.run(scratch, seed)
			but.count = likely.count
		}
		for next := uint64(first); next <= last && err == nil; next++ {
			seed = next
			err = but.run(scratch, seed)
		}
		why, fine := harmless[site]
		switch {
		case err == nil && !fine:
			t.Errorf("%s: left out, and nothing is broken", site)
		case err != nil && fine:
			t.Errorf("%s: left out, it should be harmless (%s), and: %v", site, why, err)
		case err != nil:
			t.Logf("%s: left out, noticed (seed %d, %d states): %.300s", site, seed, but.count, strings.SplitN(err.Error(), "\n", 2)[0])
		}
	}
}

// syncs are those whose omission shows. What a run meets beyond them is left out as
// well.
var syncs = []string{
	"layOut SyncDir", "putSmall Sync", "PutAll SyncDir", "(*partial).Seal Sync", "promote SyncDir", "(*partial).Sync Sync", "(*partial).Sync SyncDir",
	"SyncTree SyncDir", "PutNote Sync", "PutNote SyncDir", "putLabel Sync", "Purge SyncDir", "Settle SyncDir", "SetLabel Sync",
}

// noticedSoonest says where those omissions show that the first script seldom meets:
// the seed, and of how many states of its first script one is to be looked at. All
// seeds are tried where that does not notice any more.
var noticedSoonest = map[string]struct {
	seed  uint64
	every int
}{
	"PutNote Sync":    {2, 1},
	"PutNote SyncDir": {2, 1},
	"putLabel Sync":   {2, 1},
	"Purge SyncDir":   {1, 20}, // in the second script
}

// harmless are syncs that a power cut alone does not need.
var harmless = map[string]string{
	"writeProbe Sync":    "finds a disk that fails",
	"ResumeBlocks Sync":  "finds a disk that fails: what is trusted was synced before it was recorded",
	"settleContent Sync": "finds a disk that fails; the label's sync, which follows, makes the content durable as well",
}
