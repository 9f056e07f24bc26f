package s3_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"fenc/model/storage"
	"fenc/model/storage/s3"
	"fenc/model/storage/s3/s3test"
)

func resume(t testing.TB, s storage.Store, key, token string, size int) storage.Partial {
	t.Helper()
	p, err := s.ResumeBlocks(t.Context(), key, token, int64(size), chunk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func wantHolds(t testing.TB, p storage.Partial, i int, mark string, want bool) {
	t.Helper()
	if holds, err := p.Holds(i, mark, nil); holds != want || err != nil {
		t.Errorf("holds chunk %d: got %v, %v, want %v", i, holds, err, want)
	}
}

func TestResumeInAnotherProcess(t *testing.T) {
	t.Parallel()
	o := options(t)
	a, b := open(t, o), open(t, o)
	key, size := newKey(), 3*chunk-1
	data := content(20, size)
	p := begin(t, a, key, size)
	write(t, p, data, chunk)
	write(t, p, content(21, size), 0)
	marks := marksOf(t, p, size)
	token := p.Token()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	q := resume(t, b, key, token, size)
	wantHolds(t, q, 1, marks[1], true)
	wantHolds(t, q, 0, marks[1], false)
	wantHolds(t, q, 2, marks[1], false)
	wantHolds(t, q, 2, "", false)
	write(t, q, data, 0)
	wantHolds(t, q, 0, marks[0], false)
	write(t, q, data, 2*chunk)
	marks = marksOf(t, q, size)
	if err := q.Seal(t.Context(), int64(size), marks); err != nil {
		t.Fatal(err)
	}
	wantObject(t, a, key, data)
	// A process that had it completed, and did not come to say so.
	sealed := storage.Sealed{Key: key, Token: token, Size: int64(size), Chunk: chunk, Marks: marks}
	if err := a.Settle(t.Context(), sealed, nil); err != nil {
		t.Errorf("settle what is done: %v", err)
	}
	sealed.Marks[0], sealed.Marks[1] = marks[1], marks[0]
	if err := a.Settle(t.Context(), sealed, proves(nil)); !errors.Is(err, errOther) {
		t.Errorf("settle by other marks: got %v, want it read", err)
	}
}

func TestSettleCompletes(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	for name, size := range map[string]int{"one chunk": chunk, "three": 2*chunk + 1, "none": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, data := newKey(), content(22, size)
			p := begin(t, s, key, size)
			writeAll(t, p, data)
			marks := marksOf(t, p, size)
			p.Close()
			sealed := storage.Sealed{Key: key, Token: p.Token(), Size: int64(size), Chunk: chunk, Marks: marks}
			for range 2 {
				if err := s.Settle(t.Context(), sealed, proves(data)); err != nil {
					t.Fatal(err)
				}
			}
			wantObject(t, s, key, data)
		})
	}
}

// Two processes have the store make an upload each: the one that the catalogue has
// counts, the other goes.
func TestTwoBeginTheSameUpload(t *testing.T) {
	t.Parallel()
	o := options(t)
	var mu sync.Mutex
	rows := make(map[string]string)
	asked := 0
	o.Tokens = func(key, token string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if rows[key] == "" {
			rows[key] = token
		}
		return rows[key], nil
	}
	a, b := open(t, o), open(t, o)
	key, size := newKey(), 2*chunk
	data := content(23, size)
	p, q := begin(t, a, key, size), resume(t, b, key, "", size)
	write(t, p, data, 0)
	write(t, q, data, chunk)
	first, second := marksOf(t, p, size), marksOf(t, q, size)
	if p.Token() != q.Token() || p.Token() == "" || asked != 2 {
		t.Fatalf("tokens are %q and %q, asked %d times", p.Token(), q.Token(), asked)
	}
	if _, uploads := leftovers(t, o.Buckets[0].Name); len(uploads) != 1 {
		t.Errorf("uploads are %q, want one", uploads)
	}
	if err := q.Seal(t.Context(), int64(size), []string{first[0], second[1]}); err != nil {
		t.Fatal(err)
	}
	wantObject(t, a, key, data)
}

func TestTheCatalogueFails(t *testing.T) {
	t.Parallel()
	o := options(t)
	broken := errors.New("the catalogue is not there")
	o.Tokens = func(string, string) (string, error) { return "", broken }
	s := open(t, o)
	p := begin(t, s, newKey(), 2*chunk)
	write(t, p, make([]byte, 2*chunk), 0)
	if _, err := p.Sync(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := s.Degraded(); err != nil {
		t.Errorf("the store is blamed: %v", err)
	}
	p.Discard()
	wantEmpty(t, o)
}

// A file of one chunk is one PUT, which nobody can name by its content afterwards.
// So nothing else may ever be put under its key.
func TestOneChunkIsPutUnderItsKeyOnce(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	s := open(t, o)
	old, data := content(24, mib), content(25, mib)

	// While all is known it may come again.
	key := newKey()
	p := begin(t, s, key, mib)
	write(t, p, old, 0)
	write(t, p, data, 0)
	if err := p.Seal(t.Context(), mib, marksOf(t, p, mib)); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)

	// A PUT that may be done yet.
	key = newKey()
	proxy.Set(some(1, s3test.IsPut, func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		pass.ServeHTTP(httptest.NewRecorder(), r)
		s3test.Answer(w, http.StatusServiceUnavailable, "SlowDown")
	}))
	p = begin(t, s, key, mib)
	write(t, p, old, 0)
	marks := marksOf(t, p, mib)
	write(t, p, data, 0)
	if _, err := p.Sync(); !errors.Is(err, storage.ErrGone) {
		t.Errorf("another content after an answer that did not come: got %v, want ErrGone", err)
	}

	// Another process.
	q := resume(t, s, key, "", mib)
	wantHolds(t, q, 0, marks[0], true)
	write(t, q, data, 0)
	if _, err := q.Sync(); !errors.Is(err, storage.ErrGone) {
		t.Errorf("another content in another process: got %v, want ErrGone", err)
	}
	wantObject(t, s, key, old)
	if _, err := s.ResumeBlocks(t.Context(), newKey(), "", mib, chunk); !errors.Is(err, storage.ErrGone) {
		t.Errorf("resume of what was never put: got %v", err)
	}
	if err := q.Discard(); err != nil {
		t.Error(err)
	}
	wantGone(t, s, key)
}

func TestBucketsMayBeAdded(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Buckets = append(o.Buckets, s3.Bucket{Name: shared(t).NewBucket(t)})
	before := open(t, o)
	o.Buckets = append([]s3.Bucket{{Name: shared(t).NewBucket(t), Prefix: "p"}}, o.Buckets...)
	after := open(t, o)

	// Names choose their bucket by chance: that 100 of them leave one of three empty happens
	// once in 10^17 runs; 12 had done so once in 130.
	var objects []storage.Small
	for i := range 112 {
		objects = append(objects, storage.Small{Key: newKey(), Data: [][]byte{content(uint64(i), 10)}})
	}
	if err := before.PutAll(t.Context(), objects[:12]...); err != nil {
		t.Fatal(err)
	}
	open := begin(t, before, newKey(), 1) // an upload of one chunk, and one of two
	two, data := newKey(), content(30, chunk+1)
	p := begin(t, before, two, len(data))
	writeAll(t, p, data)
	marks := marksOf(t, p, len(data))
	open.Close()
	p.Close()

	if err := after.PutAll(t.Context(), objects[12:]...); err != nil {
		t.Fatal(err)
	}
	for _, b := range o.Buckets {
		if there, _ := leftovers(t, b.Name); len(there) == 0 {
			t.Errorf("bucket %s has none of %d objects", b.Name, len(objects))
		}
	}
	for _, obj := range objects {
		wantObject(t, after, obj.Key, obj.Data[0])
		if has, err := after.Has(obj.Key, 10); !has || err != nil {
			t.Errorf("has: got %v, %v", has, err)
		}
	}
	q := resume(t, after, two, p.Token(), len(data))
	wantHolds(t, q, 0, marks[0], true)
	sealed := storage.Sealed{Key: two, Token: p.Token(), Size: int64(len(data)), Chunk: chunk, Marks: marks}
	if err := after.Settle(t.Context(), sealed, nil); err != nil {
		t.Fatal(err)
	}
	wantObject(t, after, two, data)
	all := []string{two}
	for _, obj := range objects {
		all = append(all, obj.Key)
	}
	if err := errors.Join(after.Remove(all[:3]...), after.Purge(all[3:]...)); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, o)
	if want := "s3://" + o.Buckets[0].Name + "/p,"; !strings.HasPrefix(after.String(), want) {
		t.Errorf("the store is called %q, want %q first", after, want)
	}
}

func TestRemoveDropsOpenUploads(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	key := newKey()
	p := begin(t, s, key, 2*chunk)
	write(t, p, make([]byte, 2*chunk), 0)
	marksOf(t, p, 2*chunk)
	p.Close()
	if _, uploads := leftovers(t, o.Buckets[0].Name); len(uploads) != 1 {
		t.Fatalf("uploads are %q", uploads)
	}
	if err := s.Remove(key, newKey()); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, o)
}
