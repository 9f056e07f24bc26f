package s3_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"fenc/model/storage"
	"fenc/model/storage/s3"
	"fenc/model/storage/s3/s3test"
)

// wantWaiting checks that what was started has not come to an end while something
// else was done, which had all of it pass by.
func wantWaiting(t testing.TB, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Fatalf("did not wait: got %v", err)
	default:
	}
}

// Blocks wait while as many parts are held as may be, and go on when the store has
// taken one.
func TestBlocksWaitForRoom(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	o.PartBuffers = 2
	s := open(t, o)
	key, data := newKey(), content(40, 4*chunk)
	held, let := make(chan struct{}, 8), make(chan struct{})
	proxy.Set(func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if s3test.IsPart(r) {
			held <- struct{}{}
			<-let
		}
		pass.ServeHTTP(w, r)
	})
	p := begin(t, s, key, len(data))
	write(t, p, data, 0)
	write(t, p, data, chunk)
	<-held
	<-held
	done := make(chan error, 1)
	go func() {
		done <- errors.Join(tryWrite(p, data, 2*chunk, chunk), tryWrite(p, data, 3*chunk, chunk))
	}()
	other := begin(t, s, newKey(), len(data))
	wantWaiting(t, done)
	close(let)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := p.Seal(t.Context(), int64(len(data)), nil); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, key, data)
	other.Close()
}

func TestWhoWaitsForRoomHearsOfTheEnd(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PartBuffers = 1
	o.WaitFor = time.Hour
	s := open(t, o)
	holder := begin(t, s, newKey(), 2*chunk)
	data := content(41, 2*chunk)
	if err := tryWrite(holder, data, 0, mib); err != nil {
		t.Fatal(err)
	}
	for name, end := range map[string]func(storage.Partial) error{"close": storage.Partial.Close, "discard": storage.Partial.Discard} {
		p := begin(t, s, newKey(), 2*chunk)
		done := make(chan error, 1)
		go func() { done <- tryWrite(p, data, 0, mib) }()
		if err := end(p); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, storage.ErrSealed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	p := begin(t, s, newKey(), 2*chunk)
	done := make(chan error, 1)
	go func() { done <- tryWrite(p, data, 0, mib) }()
	holder.Forget(0) // which makes room
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A sender that begins chunks and brings no more of them leaves room for others.
func TestSenderLeavesRoomForOthers(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.WaitFor = time.Hour
	s := open(t, o)
	data := content(44, chunk)
	of := func(sender string) storage.Partial {
		p, err := s.BeginBlocks(storage.For(t.Context(), sender), newKey(), chunk, chunk)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Discard() })
		return p
	}
	// As many as may be, and one that waits.
	const share = 12 // of 16
	var slow []storage.Partial
	for range share {
		p := of("slow")
		slow = append(slow, p)
		if err := tryWrite(p, data, 0, mib); err != nil {
			t.Fatal(err)
		}
	}
	waits, waited := of("slow"), make(chan error, 1)
	go func() { waited <- tryWrite(waits, data, 0, mib) }()
	for range 10 {
		p := of("other")
		if err := tryWrite(p, data, 0, chunk); err != nil {
			t.Fatal(err)
		}
		if err := p.Seal(t.Context(), chunk, nil); err != nil {
			t.Fatal(err)
		}
		wantWaiting(t, waited)
	}
	slow[0].Forget(0)
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A sender that begins more chunks than there is room for, over one connection, would
// wait for itself.
func TestNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PartBuffers, o.WaitFor = 1, 50*time.Millisecond
	s := open(t, o)
	p := begin(t, s, newKey(), 2*chunk)
	data := content(42, 2*chunk)
	if err := tryWrite(p, data, 0, mib); err != nil {
		t.Fatal(err)
	}
	if err := tryWrite(p, data, chunk, mib); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("got %v", err)
	}
	if err := s.Degraded(); err != nil {
		t.Errorf("the store is blamed: %v", err)
	}
	if err := p.Discard(); err != nil {
		t.Error(err)
	}
}

// Reading in order takes one request, whatever the blocks.
func TestReading(t *testing.T) {
	t.Parallel()
	o, proxy := behind(t)
	s := open(t, o)
	key, data := newKey(), content(43, 3*mib)
	if err := s.PutAll(t.Context(), storage.Small{Key: key, Data: [][]byte{data}}); err != nil {
		t.Fatal(err)
	}
	proxy.Seen()
	r, err := s.Open(key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make([]byte, 0, len(data))
	block := make([]byte, 100_000)
	for {
		n, err := r.ReadAt(block, int64(len(got)))
		got = append(got, block[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != string(data) {
		t.Error("read otherwise than it was put")
	}
	if seen := proxy.Seen(); len(seen) != 2 { // HEAD and GET
		t.Errorf("asked %q", seen)
	}
	done := make(chan error)
	for i := range 20 {
		go func() {
			p := make([]byte, 5000)
			off := i * 131_071
			_, err := r.ReadAt(p, int64(off))
			if err == nil && string(p) != string(data[off:off+5000]) {
				err = errOther
			}
			done <- err
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		off  int64
		n    int
		want error
	}{{int64(len(data)), 0, io.EOF}, {int64(len(data)) + 5, 0, io.EOF}, {int64(len(data)) - 3, 3, io.EOF}} {
		if n, err := r.ReadAt(block, c.off); n != c.n || err != c.want {
			t.Errorf("read at %d: got %d, %v, want %d, %v", c.off, n, err, c.n, c.want)
		}
	}
	if _, err := r.ReadAt(block, -1); err == nil {
		t.Error("read before the beginning")
	}
}

// However slow all are: who waits for room waits as long as anything moves.
func TestWaitingLastsWhilePartsGetOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := unchecked(t, s3.Options{
			Endpoint: "http://127.0.0.1:1", AccessKey: "a", SecretKey: "b", Buckets: []s3.Bucket{{Name: "bucket"}}, PartBuffers: 1, WaitFor: time.Minute,
		})
		slow, waits := begin(t, s, newKey(), 2*chunk), begin(t, s, newKey(), 2*chunk)
		data := make([]byte, 2*chunk)
		if err := tryWrite(slow, data, 0, 1); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- tryWrite(waits, data, 0, 1) }()
		for i := range 20 {
			time.Sleep(50 * time.Second)
			if err := tryWrite(slow, data, 1+i, 1); err != nil {
				t.Fatal(err)
			}
			wantWaiting(t, done)
		}
		time.Sleep(59 * time.Second)
		wantWaiting(t, done)
		time.Sleep(2 * time.Second)
		if err := <-done; !errors.Is(err, storage.ErrDegraded) {
			t.Errorf("nothing moves: got %v", err)
		}
	})
}
