package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
	"fenc/model/storage/s3"
	"fenc/model/storage/s3/s3test"
)

const (
	mib   = 1 << 20
	chunk = 8 * mib
)

// server is the one that all tests share which do not ask for their own.
var server struct {
	once sync.Once
	dir  string
	*s3test.Server
	err error
}

func TestMain(m *testing.M) {
	status := m.Run()
	if server.Server != nil && server.err == nil {
		server.Kill()
	}
	if server.dir != "" {
		os.RemoveAll(server.dir)
	}
	os.Exit(status)
}

func shared(t testing.TB) *s3test.Server {
	t.Helper()
	server.once.Do(func() {
		if server.dir, server.err = os.MkdirTemp("", "fenc-s3-*"); server.err == nil {
			server.Server, server.err = s3test.Run(server.dir)
		}
	})
	s3test.Need(t, server.err)
	return server.Server
}

// options are those of a store in a bucket of its own.
func options(t testing.TB) s3.Options {
	t.Helper()
	s := shared(t)
	return s3.Options{
		Endpoint: s.Endpoint, AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		Buckets: []s3.Bucket{{Name: s.NewBucket(t), Prefix: "fenc/objects"}}, SpoolDir: t.TempDir(),
		RetryFor: time.Minute, WaitFor: 10 * time.Second, EndFor: time.Second,
	}
}

// open opens a store, checked.
func open(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	s := unchecked(t, o)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func unchecked(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	s, err := s3.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// behind returns options whose store is reached through a proxy.
func behind(t testing.TB) (s3.Options, *s3test.Proxy) {
	t.Helper()
	o := options(t)
	p := s3test.Between(t, shared(t))
	o.Endpoint = p.Endpoint
	return o, p
}

var keys struct {
	sync.Mutex
	n int
}

func newKey() string {
	keys.Lock()
	defer keys.Unlock()
	keys.n++
	return fmt.Sprintf("%016X%016X", uint64(keys.n)*0x9E3779B97F4A7C15, keys.n)
}

// content is made-up content, the same for the same seed.
func content(seed uint64, n int) []byte {
	p := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	rand.NewChaCha8(key).Read(p)
	return p
}

// write writes what data has at off, up to a chunk's end, block by block.
func write(t testing.TB, p storage.Partial, data []byte, off int) {
	t.Helper()
	if err := tryWrite(p, data, off, min(chunk, len(data)-off)); err != nil {
		t.Fatal(err)
	}
}

func tryWrite(p storage.Partial, data []byte, off, n int) error {
	b := storage.NewBlock()
	defer storage.FreeBlock(b)
	for end := off + n; off < end; {
		got := copy(*b, data[off:end])
		if err := p.WriteBlock(b, got, int64(off)); err != nil {
			return err
		}
		off += got
	}
	return nil
}

func writeAll(t testing.TB, p storage.Partial, data []byte) {
	t.Helper()
	for off := 0; off < len(data); off += chunk {
		write(t, p, data, off)
	}
}

func begin(t testing.TB, s storage.Store, key string, size int) storage.Partial {
	t.Helper()
	p, err := s.BeginBlocks(t.Context(), key, int64(size), chunk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// marksOf has the upload's chunks durable, and returns the marks of all of them.
func marksOf(t testing.TB, p storage.Partial, size int) []string {
	t.Helper()
	got, err := p.Sync()
	if err != nil {
		t.Fatal(err)
	}
	marks := make([]string, max(1, (size+chunk-1)/chunk))
	for i := range marks {
		marks[i] = got[i]
	}
	return marks
}

// wantObject checks that there is an object of this content.
func wantObject(t testing.TB, s storage.Store, key string, want []byte) {
	t.Helper()
	r, err := s.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != int64(len(want)) || !bytes.Equal(got, want) {
		t.Fatalf("object %s: got %d of %d bytes, equal %v, want %d", key, len(got), r.Size(), bytes.Equal(got, want), len(want))
	}
}

func wantGone(t testing.TB, s storage.Store, key string) {
	t.Helper()
	if r, err := s.Open(key); !errors.Is(err, storage.ErrGone) {
		t.Fatalf("open %s: got %v, %v, want ErrGone", key, r, err)
	}
	if has, err := s.Has(key, 1); has || err != nil {
		t.Fatalf("has %s: got %v, %v", key, has, err)
	}
}

// leftovers returns what is in a bucket: the names of objects, and of open uploads.
func leftovers(t testing.TB, bucket string) (objects, uploads []string) {
	t.Helper()
	client, err := shared(t).Client()
	if err != nil {
		t.Fatal(err)
	}
	for o := range client.Client.ListObjects(context.Background(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		objects = append(objects, o.Key)
	}
	for u := range client.ListIncompleteUploads(context.Background(), bucket, "", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		uploads = append(uploads, u.Key)
	}
	return objects, uploads
}

func wantEmpty(t testing.TB, o s3.Options) {
	t.Helper()
	for _, b := range o.Buckets {
		if objects, uploads := leftovers(t, b.Name); len(objects)+len(uploads) > 0 {
			t.Errorf("bucket has objects %q and uploads %q, want none", objects, uploads)
		}
	}
}
