package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"fenc/model/storage"
	"fenc/model/storage/s3"
)

func TestBlocksBecomeAnObject(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	for _, size := range []int{1, mib - 1, mib, mib + 1, chunk - 1, chunk, chunk + 1, 2*chunk + 5*mib/2} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			key, data := newKey(), content(1, size)
			p := begin(t, s, key, size)
			writeAll(t, p, data)
			marks := marksOf(t, p, size)
			if token := p.Token(); (token != "") != (size > chunk) {
				t.Errorf("token is %q", token)
			}
			if size > chunk {
				wantGone(t, s, key)
			}
			for range 2 { // it may be asked again
				if err := p.Seal(t.Context(), int64(size), marks); err != nil {
					t.Fatal(err)
				}
			}
			wantObject(t, s, key, data)
			if err := p.WriteBlock(storage.NewBlock(), 1, 0); !errors.Is(err, storage.ErrSealed) {
				t.Errorf("write after seal: got %v", err)
			}
			if has, err := s.Has(key, int64(size)); !has || err != nil {
				t.Errorf("has: got %v, %v", has, err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if err := s.Remove(key); err != nil {
				t.Error(err)
			}
			wantGone(t, s, key)
		})
	}
	t.Cleanup(func() { wantEmpty(t, o) })
}

func TestEmptyUpload(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	key := newKey()
	p := begin(t, s, key, 0)
	if err := p.Seal(t.Context(), 0, nil); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, nil)
}

func TestChunksComeInAnyOrderAndAgain(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	key, size := newKey(), 3*chunk-7
	old, data := content(2, size), content(3, size)
	p := begin(t, s, key, size)
	write(t, p, old, 2*chunk)
	write(t, p, data, chunk)
	if _, err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := tryWrite(p, old, 0, chunk-mib); err != nil { // a sender that goes away
		t.Fatal(err)
	}
	p.Forget(0)
	write(t, p, old, 2*chunk) // replaced while it is on its way
	write(t, p, data, 2*chunk)
	write(t, p, data, 0)
	if err := p.Seal(t.Context(), int64(size), marksOf(t, p, size)); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)
}

func TestLargeChunksAreSpooled(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	key, size := newKey(), 33*mib
	data := content(4, size)
	p, err := s.BeginBlocks(t.Context(), key, int64(size), 32*mib)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := tryWrite(p, data, 0, size); err != nil {
		t.Fatal(err)
	}
	if err := p.Seal(t.Context(), int64(size), nil); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)
}

func TestStreams(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	for _, size := range []int{0, 1, mib, chunk - 1, chunk, chunk + 1, 2 * chunk, 2*chunk + 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			key, data := newKey(), content(5, size)
			p, err := s.Begin(t.Context(), key, int64(size)+100)
			if err != nil {
				t.Fatal(err)
			}
			n, err := p.WriteStream(t.Context(), iotest.HalfReader(bytes.NewReader(data)), int64(size))
			if n != int64(size) || err != nil {
				t.Fatalf("got %d, %v, want %d", n, err, size)
			}
			if err := p.Seal(t.Context(), n, nil); err != nil {
				t.Fatal(err)
			}
			wantObject(t, s, key, data)
			settled := storage.Sealed{Key: key, Size: n}
			if err := s.Settle(t.Context(), settled, proves(data)); err != nil {
				t.Errorf("settle: %v", err)
			}
			if err := s.Settle(t.Context(), settled, proves([]byte("other"))); !errors.Is(err, errOther) {
				t.Errorf("settle other content: got %v", err)
			}
			if err := p.Discard(); err != nil {
				t.Error(err)
			}
			wantGone(t, s, key)
			if err := s.Settle(t.Context(), storage.Sealed{Key: key, Size: max(n, 1)}, proves(data)); !errors.Is(err, storage.ErrGone) {
				t.Errorf("settle what is not there: got %v", err)
			}
		})
	}
	t.Cleanup(func() { wantEmpty(t, o) })
}

var errOther = errors.New("other content")

func proves(want []byte) func(io.Reader) error {
	return func(r io.Reader) error {
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, want) {
			err = errOther
		}
		return err
	}
}

func TestStreamErrors(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PartBuffers = 1
	s := open(t, o)
	failing := errors.New("the line broke")
	for _, c := range []struct {
		name string
		from io.Reader
		want error
		n    int64
	}{
		{"too long", bytes.NewReader(make([]byte, 3*mib+1)), storage.ErrTooLong, 3 * mib},
		{"broken", io.MultiReader(bytes.NewReader(make([]byte, mib+5)), iotest.ErrReader(failing)), failing, mib + 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := s.Begin(t.Context(), newKey(), 3*mib)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := p.WriteStream(t.Context(), c.from, 3*mib); err != c.want || n != c.n {
				t.Errorf("got %d, %v, want %d, %v", n, err, c.n, c.want)
			}
			if err := p.Discard(); err != nil { // and its one buffer is there for the next
				t.Error(err)
			}
		})
	}
	wantEmpty(t, o)
}

func TestPutAll(t *testing.T) {
	t.Parallel()
	o := options(t)
	s := open(t, o)
	var objects []storage.Small
	var all []string
	want := make(map[string][]byte)
	for i := range 40 {
		data, key := content(uint64(i), i*1000), newKey()
		objects = append(objects, storage.Small{Key: key, Data: [][]byte{data[:i], nil, data[i:]}, Label: []byte("label")})
		want[key] = data
		all = append(all, key)
	}
	if err := s.PutAll(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	for key, data := range want {
		wantObject(t, s, key, data)
	}
	if err := s.Purge(append(all, newKey())...); err != nil {
		t.Error(err)
	}
	wantEmpty(t, o)
	if err := s.Purge(all[:1]...); err != nil {
		t.Errorf("absent is fine: %v", err)
	}
}

func TestVerifyByReading(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.VerifyRead = true
	s := open(t, o)
	key, size := newKey(), chunk+5
	data := content(6, size)
	p := begin(t, s, key, size)
	writeAll(t, p, data)
	if err := p.Seal(t.Context(), int64(size), nil); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)
	small := newKey()
	if err := s.PutAll(t.Context(), storage.Small{Key: small, Data: [][]byte{data[:10]}}); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, small, data[:10])
}

func TestWrongUploadsAreRefused(t *testing.T) {
	t.Parallel()
	s := open(t, options(t))
	for _, c := range []struct{ size, chunk int64 }{{chunk + 1, chunk / 2}, {8193 * chunk, chunk}, {16 << 30, 8 << 30}} {
		if _, err := s.BeginBlocks(t.Context(), newKey(), c.size, c.chunk); !errors.Is(err, storage.ErrTooLarge) {
			t.Errorf("%d bytes in chunks of %d: got %v", c.size, c.chunk, err)
		}
	}
	p := begin(t, s, newKey(), 2*chunk)
	b := storage.NewBlock()
	for _, off := range []int64{1, mib, 2 * chunk, -1} {
		if err := p.WriteBlock(b, mib, off); err == nil {
			t.Errorf("a block at %d was taken", off)
		}
	}
	limits := s.Limits()
	if limits.MinChunk != chunk || limits.MaxChunks != 8192 || !limits.PackAll || !limits.Marks {
		t.Errorf("limits are %+v", limits)
	}
}

func TestOptionsThatMakeNoStore(t *testing.T) {
	t.Parallel()
	good := s3.Options{Endpoint: "http://127.0.0.1:1", AccessKey: "a", SecretKey: "very-secret", Buckets: []s3.Bucket{{Name: "b"}}}
	for want, change := range map[string]func(*s3.Options){
		"neither http":   func(o *s3.Options) { o.Endpoint = "127.0.0.1:1" },
		"no bucket":      func(o *s3.Options) { o.Buckets = nil },
		"no credentials": func(o *s3.Options) { o.AccessKey = "" },
	} {
		o := good
		change(&o)
		if _, err := s3.New(o); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "very-secret") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
