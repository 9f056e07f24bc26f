package archive

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/wire/v4/tree"
)

const replicaChunk = 2 << 20 // of two blocks

// cluster is two archives, each as a process has its own, over one catalogue and one
// store.
type cluster struct {
	a, b      *Archive
	catalogue *model.Catalogue
	store     *storagetest.Marked
	client    model.Client

	mu   sync.Mutex
	time time.Time
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	s := &cluster{store: storagetest.NewMarked(replicaChunk), time: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if s.catalogue, err = model.Open(filepath.Join(t.TempDir(), "fenc.db"), model.Options{Now: s.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.catalogue.Close() })
	s.a, s.b = s.start(t), s.start(t)
	if s.client, err = s.catalogue.Register("grace", 4); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *cluster) start(t *testing.T) *Archive {
	t.Helper()
	a, err := Open(s.catalogue, s.store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.now = s.now
	t.Cleanup(func() {
		a.small.once.Do(func() { close(a.small.stop) })
		<-a.small.done
	})
	return a
}

func (s *cluster) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.time
}

func (s *cluster) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.time = s.time.Add(d)
}

// sender is a connection to one of the archives.
type sender struct {
	upload *Upload
	failed chan error
}

func (*sender) Held(int64)         {}
func (s *sender) Failed(err error) { s.failed <- err }

func digestOf(content []byte) model.Hash {
	var hashes []tree.Hash
	chunks := tree.Chunks(int64(len(content)), replicaChunk)
	for i := range chunks {
		hashes = append(hashes, tree.Sum(content[i*replicaChunk:min(len(content), (i+1)*replicaChunk)], int64(i*replicaChunk), chunks == 1))
	}
	return model.Hash(tree.Root(hashes))
}

func (s *cluster) row(name string, content []byte) model.Upload {
	return model.Upload{ClientID: s.client.ID, FileName: name, Path: name, Size: int64(len(content)), Protocol: 4}
}

func (s *cluster) offer(t *testing.T, a *Archive, name string, content []byte) (*sender, Offered) {
	t.Helper()
	k := &sender{failed: make(chan error, 10)}
	offered, err := a.Offer(t.Context(), s.row(name, content), model.Bounds{}, true, true, k, k)
	if err != nil {
		t.Fatal(err)
	}
	k.upload = offered.Upload
	t.Cleanup(func() { k.upload.Detach(k) })
	return k, offered
}

func (s *cluster) attach(t *testing.T, a *Archive, id model.ID) *sender {
	t.Helper()
	k := &sender{failed: make(chan error, 10)}
	var err error
	if k.upload, err = a.Attach(t.Context(), id, s.client.ID, k, k); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.upload.Detach(k) })
	return k
}

// send sends chunks in blocks.
func (k *sender) send(t *testing.T, content []byte, chunks ...int) {
	t.Helper()
	u := k.upload
	for _, i := range chunks {
		start := int64(i) * u.ChunkSize()
		for off, end := start, min(start+u.ChunkSize(), u.Size()); off < end; {
			b := storage.NewBlock()
			n := copy(*b, content[off:end])
			if err := u.Claim(k, uint64(off), n); err != nil {
				t.Fatalf("chunk %d: %v", i, err)
			}
			u.Hash((*b)[:n], off)
			u.Write(b, n, off)
			storage.FreeBlock(b)
			off += int64(n)
		}
	}
}

// wantFile looks whether the catalogue has the content under the name, and the store.
func (s *cluster) wantFile(t *testing.T, a *Archive, name string, content []byte, version int64) model.File {
	t.Helper()
	f, ok, err := s.catalogue.File(s.client.ID, name)
	if err != nil || !ok || !f.Verified || f.Version != version {
		t.Fatalf("%s: got %+v, %v, %v, want it verified in version %d", name, f, ok, err, version)
	}
	c, err := a.OpenFile(f)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, len(content))
	if n, err := c.ReadAt(got, 0); n < len(got) || !bytes.Equal(got, content) {
		t.Errorf("%s: reads as other content (%d bytes, %v)", name, n, err)
	}
	return f
}

func replicated(size, seed int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i*seed + i>>11)
	}
	return p
}

// waiting is a context that tells when somebody waits for its end.
type waiting struct {
	context.Context
	told func()
}

func (w waiting) Done() <-chan struct{} {
	w.told()
	return w.Context.Done()
}

// A finish that waits for chunks looks at those that are being hashed: the race
// detector saw it read more of them than it may.
func TestFinishBesideAChunkThatComes(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(2*replicaChunk, 7)
	k, _ := s.offer(t, s.a, "file", content)
	k.send(t, content, 0)
	waits, finished := make(chan struct{}), make(chan error)
	block := storage.NewBlock()
	defer storage.FreeBlock(block)
	for off := replicaChunk; off < len(content); off += storage.BlockSize {
		n := copy(*block, content[off:])
		if err := k.upload.Claim(k, uint64(off), n); err != nil {
			t.Fatal(err)
		}
		if off == replicaChunk {
			ctx := waiting{t.Context(), sync.OnceFunc(func() { close(waits) })}
			go func() {
				_, err := k.upload.Finish(ctx, digestOf(content))
				finished <- err
			}()
		}
		k.upload.Hash((*block)[:n], int64(off)) // nothing orders it and the look at the chunk
		<-waits
		k.upload.Write(block, n, int64(off))
	}
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.a, "file", content, 1)
}

func TestStreamsOfOneFileThroughTwoReplicas(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(4*replicaChunk+100, 3)
	near, offered := s.offer(t, s.a, "large", content)
	far := s.attach(t, s.b, offered.Upload.ID())
	near.send(t, content, 0, 2)
	far.send(t, content, 4, 3, 1)
	file, err := near.upload.Finish(t.Context(), digestOf(content))
	if err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.b, "large", content, 1)
	if s.store.Uploads() != 0 || len(s.store.Objects()) != 1 {
		t.Errorf("the store has %d uploads and %d objects, want none and %s", s.store.Uploads(), len(s.store.Objects()), file.Object)
	}
	far.upload.Detach(far)
	if _, err := s.b.Attach(t.Context(), offered.Upload.ID(), s.client.ID, s, far); !errors.Is(err, ErrOfferAgain) {
		t.Errorf("attach to what is over: got %v, want ErrOfferAgain", err)
	}
	if _, err := s.b.Attach(t.Context(), model.NewID(), s.client.ID, s, far); !errors.Is(err, ErrOfferAgain) {
		t.Errorf("attach to nothing: got %v, want ErrOfferAgain", err)
	}
}

func TestUploadOfAnotherClientIsNotAttachedTo(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	_, offered := s.offer(t, s.a, "large", replicated(3*replicaChunk, 3))
	other, err := s.catalogue.Register("heidi", 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.b.Attach(t.Context(), offered.Upload.ID(), other.ID, s, &sender{}); !errors.Is(err, ErrOfferAgain) {
		t.Errorf("got %v, want ErrOfferAgain", err)
	}
}

func TestResumeThroughAnotherReplica(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(4*replicaChunk, 5)
	first, offered := s.offer(t, s.a, "large", content)
	first.send(t, content, 0, 3)
	first.upload.Detach(first)
	second, again := s.offer(t, s.b, "large", content)
	if again.Upload.ID() != offered.Upload.ID() || len(again.Held) != 2 {
		t.Fatalf("got upload %s with %d chunks held, want %s with 2", again.Upload.ID(), len(again.Held), offered.Upload.ID())
	}
	if _, err := second.upload.Finish(t.Context(), digestOf(content)); err == nil {
		t.Fatal("a file of which half has come is finished")
	} else if missing, ok := errors.AsType[*MissingError](err); !ok || !slices.Equal(missing.Chunks, []int{1, 2}) {
		t.Fatalf("got %v, want chunks 1 and 2 missing", err)
	}
	second.send(t, content, 1, 2)
	if _, err := second.upload.Finish(t.Context(), digestOf(content)); err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.a, "large", content, 1)
}

// A client that has lost one replica offers its file to another, and knows nothing of
// what a third has not recorded yet: there it comes too early, and not against the rules.
func TestChunkThatStillComesElsewhere(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(3*replicaChunk, 23)
	_, offered := s.offer(t, s.a, "large", content)
	old := s.attach(t, s.b, offered.Upload.ID())
	b := storage.NewBlock()
	defer storage.FreeBlock(b)
	n := copy(*b, content[:storage.BlockSize])
	if err := old.upload.Claim(old, 0, n); err != nil {
		t.Fatal(err)
	}
	later := s.attach(t, s.b, offered.Upload.ID())
	if err := later.upload.Claim(later, 0, n); !errors.Is(err, ErrElsewhere) || !errors.Is(err, ErrOfferAgain) {
		t.Errorf("got %v, want ErrElsewhere", err)
	}
	if err := later.upload.Claim(later, uint64(n), n); !errors.Is(err, ErrBlock) {
		t.Errorf("the middle of a chunk of another connection: got %v, want ErrBlock", err)
	}
	old.upload.Drop()
	old.upload.Detach(old)
	later.send(t, content, 0)
}

// A chunk whose hash differs is sent again, through whichever replica.
func TestChunkComesAgainThroughAnotherReplica(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(3*replicaChunk, 7)
	near, offered := s.offer(t, s.a, "large", content)
	far := s.attach(t, s.b, offered.Upload.ID())
	near.send(t, content, 0)
	wrong := slices.Clone(content)
	wrong[replicaChunk]++
	far.send(t, wrong, 1, 2)
	_, err := near.upload.Finish(t.Context(), digestOf(content))
	if differs, ok := errors.AsType[*DiffersError](err); !ok || len(differs.Hashes) != 3 {
		t.Fatalf("got %v, want the hashes of what was stored", err)
	}
	if err := near.upload.Release([]int{1}); err != nil {
		t.Fatal(err)
	}
	far.send(t, content, 1)
	if _, err := near.upload.Finish(t.Context(), digestOf(content)); err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.a, "large", content, 1)
}

// What a replica sealed that ended then is completed by another, once its lease is
// over, and not before.
func TestSealedByADeadReplica(t *testing.T) {
	t.Parallel()
	for _, object := range []bool{false, true} {
		s := newCluster(t)
		content := replicated(3*replicaChunk, 11)
		k, offered := s.offer(t, s.a, "large", content)
		k.send(t, content, 0, 1, 2)
		if err := k.upload.makeDurable(false); err != nil {
			t.Fatal(err)
		}
		id := offered.Upload.ID()
		epoch, err := s.catalogue.Lease(id, leaseFor)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.catalogue.Seal(id, int64(len(content)), model.Sums{BLAKE3: digestOf(content)}, epoch); err != nil {
			t.Fatal(err)
		}
		if object { // it ended after the store had made one
			_, marks, err := k.upload.content(digestOf(content))
			if err == nil {
				err = k.upload.part.Seal(t.Context(), int64(len(content)), marks)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := s.b.adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok, _ := s.catalogue.File(s.client.ID, "large"); ok {
			t.Fatal("completed while another replica had it")
		}
		s.advance(leaseFor + time.Second)
		if err := s.b.adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.wantFile(t, s.b, "large", content, 1)
	}
}

// A replica that stands still while it seals finds the file made by another when it
// goes on; whatever it does then, the file's content stays.
func TestReplicaThatStoodStillLosesNothing(t *testing.T) {
	t.Parallel()
	for _, dropped := range []bool{false, true} {
		s := newCluster(t)
		content := replicated(3*replicaChunk, 13)
		k, offered := s.offer(t, s.a, "large", content)
		k.send(t, content, 0, 1, 2)
		id := offered.Upload.ID()
		ctx, cancel := context.WithCancel(t.Context())
		s.store.OnSeal(func(string) {
			s.store.OnSeal(nil)
			s.advance(leaseFor + time.Second)
			if err := s.b.adopt(t.Context()); err != nil {
				t.Error(err)
			}
			if dropped {
				if err := s.a.drop(id, lease{}); err != nil {
					t.Error(err)
				}
			}
		})
		file, err := k.upload.Finish(ctx, digestOf(content))
		cancel()
		if err != nil || file.Object != id || file.Version != 1 {
			t.Errorf("got %+v, %v, want the file that the other replica made", file, err)
		}
		s.advance(time.Hour)
		if err := errors.Join(s.a.sweep(), s.b.sweep()); err != nil {
			t.Error(err)
		}
		s.wantFile(t, s.a, "large", content, 1)
	}
}

// An upload that ends where another replica has it open is not taken from there.
func TestFailureOfOneReplicaLeavesTheOthers(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(3*replicaChunk, 17)
	near, offered := s.offer(t, s.a, "large", content)
	far := s.attach(t, s.b, offered.Upload.ID())
	near.send(t, content, 0, 1)
	far.upload.mu.Lock()
	far.upload.err = errors.New("store not reached")
	far.upload.mu.Unlock()
	far.upload.Detach(far)
	near.send(t, content, 2)
	if _, err := near.upload.Finish(t.Context(), digestOf(content)); err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.a, "large", content, 1)
}

// Who gives an upload up has its bytes removed, unless it was sealed elsewhere.
func TestGivenUpUploadTurnsToGarbage(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(3*replicaChunk, 19)
	k, _ := s.offer(t, s.a, "large", content)
	k.send(t, content, 0, 1)
	k.upload.Discard()
	k.upload.Detach(k)
	if s.store.Uploads() != 1 {
		t.Fatalf("the store has %d uploads, want one that is removed later", s.store.Uploads())
	}
	s.advance(time.Hour)
	if err := s.b.sweep(); err != nil {
		t.Fatal(err)
	}
	if s.store.Uploads() != 0 {
		t.Error("the upload is still there after the grace")
	}
}

func TestSmallFilesStayInPacks(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	contents := map[string][]byte{"a": []byte("first"), "b": {}, "c/d": replicated(100000, 3)}
	var wait sync.WaitGroup
	for name, content := range contents {
		wait.Add(1)
		err := s.a.Small(t.Context(), SmallFile{Client: s.client.ID, Path: name, Digest: model.Hash(tree.Sum(content, 0, true)), Data: content,
			Done: func(unchanged bool, err error) {
				defer wait.Done()
				if unchanged || err != nil {
					t.Errorf("%s: got %v, %v", name, unchanged, err)
				}
			}})
		if err != nil {
			t.Fatal(err)
		}
	}
	wait.Wait()
	for name, content := range contents {
		if f := s.wantFile(t, s.b, name, content, 1); f.Pack == nil {
			t.Errorf("%s is not in a pack", name)
		}
	}
}

// small keeps files in one group.
func (s *cluster) small(t *testing.T, a *Archive, contents map[string][]byte) {
	t.Helper()
	var group []SmallFile
	for name, content := range contents {
		group = append(group, SmallFile{Client: s.client.ID, Path: name, Digest: model.Hash(tree.Sum(content, 0, true)), Data: content})
	}
	outcomes, err := a.commitGroup(group, model.Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
}

// What is left of a pack moves when less than half of it is needed.
func TestSparsePackIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	first := map[string][]byte{"a": replicated(900, 3), "b": replicated(1000, 5), "c": replicated(1100, 7)}
	s.small(t, s.a, first)
	pack := s.wantFile(t, s.a, "a", first["a"], 1).Pack
	later := map[string][]byte{"a": replicated(500, 11), "b": replicated(600, 13)}
	s.small(t, s.b, map[string][]byte{"a": later["a"]})
	s.advance(repackEvery + time.Second)
	if err := s.a.repack(); err != nil {
		t.Fatal(err)
	}
	if now := s.wantFile(t, s.a, "c", first["c"], 1).Pack; *now != *pack {
		t.Error("a pack of which more than half is needed has been moved")
	}
	stale := s.wantFile(t, s.a, "c", first["c"], 1)
	s.small(t, s.b, map[string][]byte{"b": later["b"]})
	var both sync.WaitGroup
	for _, a := range []*Archive{s.a, s.b} {
		both.Go(func() {
			if err := a.repack(); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	s.advance(time.Hour)
	if err := s.a.sweep(); err != nil {
		t.Fatal(err)
	}
	if _, left := s.store.Objects()[pack.String()]; left {
		t.Error("the sparse pack is still there")
	}
	s.wantFile(t, s.b, "a", later["a"], 2)
	s.wantFile(t, s.b, "b", later["b"], 2)
	if now := s.wantFile(t, s.b, "c", first["c"], 1).Pack; *now == *pack {
		t.Error("what is left of the sparse pack has not been moved")
	}
	// Who looked before it moved still finds it.
	if c, err := s.b.OpenFile(stale); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	if n := len(s.store.Objects()); n != 3 {
		t.Errorf("the store has %d objects, want three packs", n)
	}
}

func TestStreamOfProtocol3(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := []byte("as the first client sends it")
	u := model.Upload{ClientID: s.client.ID, FileName: "old", Path: "old", Size: 64, Protocol: 3}
	in, err := s.a.Receive(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Keep(t.Context(), int64(len(content)), crc32.ChecksumIEEE(content)); err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.b, "old", content, 1)
	// One that nobody goes on with is forgotten after a day.
	if _, err := s.a.Receive(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		after time.Duration
		left  int
	}{{time.Hour, 1}, {streamsLast, 0}} {
		s.advance(step.after)
		if err := s.b.adopt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if open, err := s.catalogue.Uploads(model.UploadOpen); err != nil || len(open) != step.left {
			t.Errorf("%s later %d uploads are open, want %d (%v)", step.after, len(open), step.left, err)
		}
	}
}

// What keeps a sealed upload from becoming an object, and says nothing of the upload,
// costs its sender nothing: it is completed when the store is back.
func TestSealThatTheStoreInterruptsIsCompletedLater(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(3*replicaChunk, 29)
	k, _ := s.offer(t, s.a, "large", content)
	k.send(t, content, 0, 1, 2)
	if err := k.upload.makeDurable(false); err != nil {
		t.Fatal(err)
	}
	s.store.Fail(errors.New("503"))
	if _, err := k.upload.Finish(t.Context(), digestOf(content)); !errors.Is(err, storage.ErrDegraded) {
		t.Fatalf("got %v, want ErrDegraded", err)
	}
	k.upload.Detach(k)
	s.store.Fail(nil)
	s.advance(leaseFor + time.Second)
	if err := s.b.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.b, "large", content, 1)
}

// An upload that the store says is gone is not offered again under the same key, which
// would end in the same way for ever.
func TestUploadThatTheStoreHasLostIsForgotten(t *testing.T) {
	t.Parallel()
	s := newCluster(t)
	content := replicated(replicaChunk/2, 31)
	first, offered := s.offer(t, s.a, "one chunk", content)
	first.upload.mu.Lock()
	first.upload.err = storage.ErrGone
	first.upload.mu.Unlock()
	first.upload.Detach(first)
	second, again := s.offer(t, s.b, "one chunk", content)
	if again.Upload.ID() == offered.Upload.ID() {
		t.Fatal("the same upload is taken up again")
	}
	second.send(t, content, 0)
	if _, err := second.upload.Finish(t.Context(), digestOf(content)); err != nil {
		t.Fatal(err)
	}
	s.wantFile(t, s.a, "one chunk", content, 1)
}
