package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"fenc/model/storage"
)

// sizes lie around the disk's block, the buffer, and several buffers.
var sizes = []int{0, 1, 4095, 4096, 4097, 1<<20 - 1, 1 << 20, 1<<20 + 1, 2 << 20, 3<<20 + 5}

// failing lets the named calls fail, and no others.
func failing(err error, calls ...string) func(call, name string) error {
	return func(call, _ string) error {
		if slices.Contains(calls, call) {
			return err
		}
		return nil
	}
}

// odd gives its content in pieces of sizes that fit nothing.
type odd struct {
	r    io.Reader
	last int
}

func (o *odd) Read(p []byte) (int, error) {
	o.last = o.last*7%65537 + 1
	return o.r.Read(p[:min(len(p), o.last)])
}

func TestContentReadsBackAsWritten(t *testing.T) {
	t.Parallel()
	readers := map[string]func(io.Reader) io.Reader{
		"whole":         func(r io.Reader) io.Reader { return r },
		"odd pieces":    func(r io.Reader) io.Reader { return &odd{r: r} },
		"halves":        iotest.HalfReader,
		"end with data": iotest.DataErrReader,
	}
	f, dir := openFolder(t)
	n := 0
	for _, size := range sizes {
		for name, reader := range readers {
			n++
			key, want := key(n), content(size, uint64(n))
			t.Run(fmt.Sprintf("%d bytes, %s", size, name), func(t *testing.T) {
				t.Parallel()
				part, err := f.Begin(t.Context(), key, int64(size))
				if err != nil {
					t.Fatal(err)
				}
				got, err := part.WriteStream(t.Context(), reader(bytes.NewReader(want)), int64(size))
				if got != int64(size) || err != nil {
					t.Fatalf("WriteStream = %d, %v, want %d", got, err, size)
				}
				if err := part.Seal(t.Context(), int64(size), nil); err != nil {
					t.Fatal(err)
				}
				wantObject(t, f, key, want)
				wantFile(t, filepath.Join(dir, objectPath(key)), want)
			})
		}
	}
}

func TestContentByteByByte(t *testing.T) {
	t.Parallel()
	f, _ := openFolder(t)
	want := content(1<<20+1, 1)
	part, err := f.Begin(t.Context(), key(1), int64(len(want)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteStream(t.Context(), iotest.OneByteReader(bytes.NewReader(want)), int64(len(want))); err != nil {
		t.Fatal(err)
	}
	if err := part.Seal(t.Context(), int64(len(want)), nil); err != nil {
		t.Fatal(err)
	}
	wantObject(t, f, key(1), want)
}

func TestLessContentThanReserved(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	part, err := f.Begin(t.Context(), key(1), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := part.WriteStream(t.Context(), strings.NewReader("short"), 1<<20); n != 5 || err != nil {
		t.Fatalf("WriteStream = %d, %v, want 5", n, err)
	}
	if err := part.Seal(t.Context(), 5, nil); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, objectPath(key(1))), []byte("short"))
}

// A whole buffer is written past the page cache. What came after it in another
// chunk once was as well, which the system refuses, and the disk was blamed.
func TestChunksOfAnySizeFollowEachOther(t *testing.T) {
	t.Parallel()
	f, _ := openFolder(t)
	const chunk = 1 << 20
	want := content(2*chunk+5, 1)
	for n, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0, 0, 2}} {
		part, err := f.BeginBlocks(t.Context(), key(n), int64(len(want)), chunk)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range order {
			p := want[i*chunk : min((i+1)*chunk, len(want))]
			if err := writeBlock(part, p, int64(i*chunk)); err != nil {
				t.Fatalf("order %v, chunk %d: %v", order, i, err)
			}
		}
		if err := part.Seal(t.Context(), int64(len(want)), nil); err != nil {
			t.Fatal(err)
		}
		wantObject(t, f, key(n), want)
	}
}

func TestMoreBytesThanAnnouncedAreRefused(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	for n, size := range sizes {
		part, err := f.Begin(t.Context(), key(n), int64(size))
		if err != nil {
			t.Fatal(err)
		}
		_, err = part.WriteStream(t.Context(), bytes.NewReader(content(size+1, 1)), int64(size))
		if !errors.Is(err, storage.ErrTooLong) {
			t.Errorf("%d bytes and one: got %v, want ErrTooLong", size, err)
		}
		if info, err := os.Stat(filepath.Join(dir, ".fenc", "part", key(n))); err != nil || info.Size() > int64(size) {
			t.Errorf("%d bytes and one: %v, %d bytes on the disk", size, err, info.Size())
		}
		if err := part.Discard(); err != nil {
			t.Error(err)
		}
		wantNothing(t, dir, key(n))
	}
	if err := f.Degraded(); err != nil {
		t.Errorf("a lying sender degraded the storage: %v", err)
	}
}

func TestReadersErrorIsReturnedAsItIs(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	broken := errors.New("connection reset")
	n := 0
	// io.ErrUnexpectedEOF, a connection that ends too soon, was once taken for the end.
	for _, want := range []error{broken, io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		for _, size := range sizes {
			n++
			part, err := f.Begin(t.Context(), key(n), 8<<20)
			if err != nil {
				t.Fatal(err)
			}
			r := io.MultiReader(bytes.NewReader(content(size, 1)), iotest.ErrReader(want))
			got, err := part.WriteStream(t.Context(), r, 8<<20)
			if err != want || got != int64(size) {
				t.Errorf("after %d bytes: got %d, %v, want %v", size, got, err, want)
			}
			if err := part.Discard(); err != nil {
				t.Error(err)
			}
			wantNothing(t, dir, key(n))
		}
	}
	if err := f.Degraded(); err != nil {
		t.Errorf("a lost connection degraded the storage: %v", err)
	}
}

func TestSealedUploadTakesNoMore(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	part, err := f.Begin(t.Context(), key(1), 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteStream(t.Context(), strings.NewReader("first"), 5); err != nil {
		t.Fatal(err)
	}
	for range 2 { // idempotent
		if err := part.Seal(t.Context(), 5, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := part.WriteStream(t.Context(), strings.NewReader("other"), 5); !errors.Is(err, storage.ErrSealed) {
		t.Errorf("write: got %v, want ErrSealed", err)
	}
	if err := part.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantObject(t, f, key(1), []byte("first"))
	if err := part.Discard(); err != nil {
		t.Error(err)
	}
	wantNothing(t, dir, key(1))
}

func TestClosedUploadKeepsItsBytes(t *testing.T) {
	t.Parallel()
	f, dir := openFolder(t)
	part, err := f.Begin(t.Context(), key(1), 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteStream(t.Context(), strings.NewReader("bytes"), 5); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := part.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := part.Seal(t.Context(), 5, nil); err == nil {
		t.Error("sealed without a descriptor to sync")
	}
	wantFile(t, filepath.Join(dir, ".fenc", "part", key(1)), []byte("bytes"))
}

func TestCancelledUploadDoesNotDegradeTheStorage(t *testing.T) {
	t.Parallel()
	f, _, dir := openWrapped(t, nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Begin(ended, key(1), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Begin: got %v, want context.Canceled", err)
	}
	part, err := f.Begin(t.Context(), key(1), 5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.WriteStream(ended, strings.NewReader("bytes"), 5); !errors.Is(err, context.Canceled) {
		t.Errorf("WriteStream: got %v, want context.Canceled", err)
	}
	// It was once blamed on the disk, and everybody else was refused.
	if err := part.Seal(ended, 5, nil); !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrDegraded) {
		t.Errorf("Seal: got %v, want context.Canceled alone", err)
	}
	if err := f.Degraded(); err != nil {
		t.Errorf("Degraded: %v", err)
	}
	if err := part.Discard(); err != nil {
		t.Error(err)
	}
	wantNothing(t, dir, key(1))
}

func TestContentIsSyncedBeforeItHasItsName(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var trace []string
	f, fsys, _ := openWrapped(t, nil)
	fsys.Before = func(call, name string) error {
		mu.Lock()
		defer mu.Unlock()
		switch call {
		case "writeat", "truncate", "sync", "close", "rename", "syncdir":
			if last := call + " " + name; len(trace) == 0 || trace[len(trace)-1] != last {
				trace = append(trace, last)
			}
		}
		return nil
	}
	store(t, f, key(1), content(3<<20+5, 1))
	part, object := ".fenc/part/"+key(1), objectPath(key(1))
	want := []string{
		"writeat " + part, "truncate " + part, "sync " + part, "close " + part,
		"rename " + object, "syncdir .fenc/objects/" + key(1)[:2], "syncdir .fenc/part",
	}
	if !slices.Equal(trace, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(trace, "\n"), strings.Join(want, "\n"))
	}
}

func TestFaultDegradesTheStorageUntilAProbeWorks(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"openfile", "reserve", "writeat", "truncate", "sync", "close", "rename", "syncdir"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			f, fsys, dir := openWrapped(t, nil)
			fsys.Before = failing(syscall.EIO, call)
			err := upload(t, f, key(1), content(1<<20+5, 1))
			if !errors.Is(err, storage.ErrDegraded) || !errors.Is(err, syscall.EIO) {
				t.Errorf("got %v, want ErrDegraded for EIO", err)
			}
			switch call {
			case "openfile", "writeat", "sync", "close":
				if err := f.Probe(); err == nil {
					t.Error("the probe worked on a broken disk")
				}
			}
			fsys.Before = nil
			if _, err := f.Begin(t.Context(), key(2), 1); !errors.Is(err, storage.ErrDegraded) {
				t.Errorf("Begin before the probe: got %v, want ErrDegraded", err)
			}
			wantNothing(t, dir, key(1))
			if err := f.Probe(); err != nil {
				t.Fatalf("Probe: %v", err)
			}
			if err := f.Degraded(); err != nil {
				t.Errorf("after the probe: %v", err)
			}
			store(t, f, key(2), []byte("works"))
			wantObject(t, f, key(2), []byte("works"))
		})
	}
}

// upload takes p as far as it gets, and discards it at an error.
func upload(t *testing.T, f *storage.Folder, key string, p []byte) error {
	t.Helper()
	part, err := f.Begin(t.Context(), key, int64(len(p)))
	if err != nil {
		return err
	}
	if _, err = part.WriteStream(t.Context(), bytes.NewReader(p), int64(len(p))); err == nil {
		err = part.Seal(t.Context(), int64(len(p)), nil)
	}
	if err != nil {
		part.Discard() // may meet the same fault
	}
	return err
}

func TestFailedWriteIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"writeat", "sync"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			f, fsys, dir := openWrapped(t, nil)
			part, err := f.Begin(t.Context(), key(1), 5)
			if err != nil {
				t.Fatal(err)
			}
			fsys.Before = failing(syscall.EIO, call)
			_, err = part.WriteStream(t.Context(), strings.NewReader("bytes"), 5)
			if err == nil {
				err = part.Seal(t.Context(), 5, nil)
			}
			if !errors.Is(err, storage.ErrDegraded) {
				t.Fatalf("got %v, want ErrDegraded", err)
			}
			fsys.Before = nil
			if _, err := part.WriteStream(t.Context(), strings.NewReader("bytes"), 5); err == nil {
				t.Error("a second write was taken")
			}
			if err := part.Seal(t.Context(), 5, nil); err == nil {
				t.Error("a second seal worked: the kernel may have dropped the pages")
			}
			if err := part.Discard(); err != nil {
				t.Error(err)
			}
			wantNothing(t, dir, key(1))
		})
	}
}

func TestFullDiskIsNoFault(t *testing.T) {
	t.Parallel()
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		for _, call := range []string{"openfile", "reserve", "writeat", "sync"} {
			t.Run(fmt.Sprintf("%s/%v", call, full), func(t *testing.T) {
				t.Parallel()
				f, fsys, dir := openWrapped(t, nil)
				fsys.Before = failing(full, call)
				err := upload(t, f, key(1), content(5, 1))
				if !errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrDegraded) {
					t.Errorf("got %v, want ErrNoSpace", err)
				}
				fsys.Before = nil
				if err := f.Degraded(); err != nil {
					t.Errorf("Degraded: %v", err)
				}
				wantNothing(t, dir, key(1))
				store(t, f, key(2), []byte("room again"))
			})
		}
	}
}

func TestContentWhereTheFileSystemRefusesDirectWrites(t *testing.T) {
	t.Parallel()
	// The flag itself is refused, or it is taken and then the write is.
	for _, refused := range []string{"direct on", "writeat"} {
		t.Run(refused, func(t *testing.T) {
			t.Parallel()
			f, fsys, _ := openWrapped(t, nil)
			var mu sync.Mutex
			direct := false
			fsys.Before = func(call, _ string) error {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case call == "direct off":
					direct = false
				case call == refused && (call == "direct on" || direct):
					return syscall.EINVAL
				case call == "direct on":
					direct = true
				}
				return nil
			}
			for n, size := range sizes {
				want := content(size, uint64(n))
				store(t, f, key(n), want)
				wantObject(t, f, key(n), want)
			}
		})
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	damaged := errors.New("another checksum")
	for _, c := range []struct {
		outcome      string
		part, object string
		size         int64
		verdict      error // of who reads the content
		want         error
		content      string // of the object afterwards
	}{
		{outcome: "upload completed", part: "content", size: 7, content: "content"},
		{outcome: "object confirmed", object: "content", size: 7, content: "content"},
		{outcome: "empty upload completed", part: "", size: 0, content: ""},
		{outcome: "object preferred to its other name", part: "c", object: "content", size: 7, content: "content"},
		{outcome: "upload too long cut", part: "content and more", size: 7, content: "content"},
		{outcome: "object too long cut", object: "content and more", size: 7, content: "content"},
		{outcome: "upload too short gone", part: "conten", size: 7, want: storage.ErrGone},
		{outcome: "object too short gone", object: "conten", size: 7, want: storage.ErrGone},
		{outcome: "upload refused by its reader", part: "c0ntent", size: 7, verdict: damaged, want: damaged},
		{outcome: "object refused by its reader", object: "c0ntent", size: 7, verdict: damaged, want: damaged},
		{outcome: "nothing gone", size: 7, want: storage.ErrGone},
	} {
		t.Run(c.outcome, func(t *testing.T) {
			t.Parallel()
			f, _, dir := openWrapped(t, nil)
			part, object := filepath.Join(dir, ".fenc", "part", key(1)), filepath.Join(dir, objectPath(key(1)))
			if c.part != "" || c.outcome == "empty upload completed" {
				if err := os.WriteFile(part, []byte(c.part), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.object != "" {
				if err := os.WriteFile(object, []byte(c.object), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var read []byte
			err := f.Settle(t.Context(), storage.Sealed{Key: key(1), Size: c.size}, func(r io.Reader) (err error) {
				if read, err = io.ReadAll(r); err != nil {
					return err
				}
				return c.verdict
			})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want != nil {
				if _, err := os.Stat(object); c.object == "" && err == nil {
					t.Error("it became an object all the same")
				}
				return
			}
			if string(read) != c.content {
				t.Errorf("read %q, want %q", read, c.content)
			}
			wantFile(t, object, []byte(c.content))
			wantObject(t, f, key(1), []byte(c.content))
		})
	}
}

func TestSettleSyncsBeforeItReads(t *testing.T) {
	t.Parallel()
	f, fsys, dir := openWrapped(t, nil)
	if err := os.WriteFile(filepath.Join(dir, ".fenc", "part", key(1)), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	var trace []string
	fsys.Before = func(call, _ string) error {
		switch call {
		case "sync", "rename", "syncdir":
			trace = append(trace, call)
		}
		return nil
	}
	err := f.Settle(t.Context(), storage.Sealed{Key: key(1), Size: 7}, func(io.Reader) error { trace = append(trace, "read"); return nil })
	if want := []string{"sync", "read", "rename", "syncdir", "syncdir"}; err != nil || !slices.Equal(trace, want) {
		t.Errorf("got %v, %v, want %v", trace, err, want)
	}
	for _, call := range []string{"sync", "truncate", "stat", "openfile", "syncdir", "close"} {
		fsys.Before = failing(syscall.EIO, call)
		if err := f.Settle(t.Context(), storage.Sealed{Key: key(1), Size: 7}, func(io.Reader) error { return nil }); !errors.Is(err, syscall.EIO) || errors.Is(err, storage.ErrGone) {
			t.Errorf("%s: got %v, want EIO and not ErrGone, which would remove the content", call, err)
		}
	}
}

func TestUploadsAtOnceDoNotMix(t *testing.T) {
	t.Parallel()
	f, _ := openFolder(t)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			if err := upload(t, f, key(n), content(2<<20+n*4097, uint64(n))); err != nil {
				t.Error(err)
				return
			}
			if err := f.Show(key(n), fmt.Sprintf("grace/new folder/%d", n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for n := range 8 {
		wantObject(t, f, key(n), content(2<<20+n*4097, uint64(n)))
	}
}

func TestChunksAtOnceFailTogether(t *testing.T) {
	t.Parallel()
	f, fsys, dir := openWrapped(t, nil)
	const chunk = 64 << 10
	part, err := f.BeginBlocks(t.Context(), key(1), 8*chunk, chunk)
	if err != nil {
		t.Fatal(err)
	}
	fsys.Before = failing(syscall.EIO, "writeat")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if err := writeBlock(part, content(chunk, 1), int64(i*chunk)); !errors.Is(err, storage.ErrDegraded) {
				t.Errorf("chunk %d: got %v, want ErrDegraded", i, err)
			}
		})
	}
	wg.Wait()
	if err := part.Seal(t.Context(), 8*chunk, nil); !errors.Is(err, storage.ErrDegraded) {
		t.Errorf("Seal: got %v, want ErrDegraded", err)
	}
	fsys.Before = nil
	if err := part.Discard(); err != nil {
		t.Error(err)
	}
	wantNothing(t, dir, key(1))
}

func BenchmarkWriteStream(b *testing.B) {
	const size = 64 << 20
	f, _ := openFolder(b)
	p := content(1<<20, 1)
	b.SetBytes(size)
	for n := 0; b.Loop(); n++ {
		part, err := f.Begin(b.Context(), key(n), size)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := part.WriteStream(b.Context(), io.LimitReader(&repeating{p: p}, size), size); err != nil {
			b.Fatal(err)
		}
		if err := part.Seal(b.Context(), size, nil); err != nil {
			b.Fatal(err)
		}
		if err := part.Discard(); err != nil {
			b.Fatal(err)
		}
	}
}

// writeBlock writes p, a block at most, at off.
func writeBlock(part storage.Partial, p []byte, off int64) error {
	b := storage.NewBlock()
	defer storage.FreeBlock(b)
	return part.WriteBlock(b, copy(*b, p), off)
}

// repeating gives the same bytes for ever.
type repeating struct {
	p   []byte
	off int
}

func (r *repeating) Read(p []byte) (int, error) {
	n := copy(p, r.p[r.off:])
	r.off = (r.off + n) % len(r.p)
	return n, nil
}

// A size that no file can have, which a client is free to announce, once degraded
// the storage for everybody.
func TestSizeThatNoFileCanHaveIsNoFault(t *testing.T) {
	t.Parallel()
	t.Run("more than is free", func(t *testing.T) {
		t.Parallel()
		f, fsys, dir := openWrapped(t, nil)
		fsys.Before = func(call, name string) error {
			if call == "reserve" || call == "truncate" {
				t.Errorf("%s %s: tried, which may fill the disk up before it fails", call, name)
			}
			return nil
		}
		if _, err := f.BeginBlocks(t.Context(), key(1), 1<<62, 1<<62); !errors.Is(err, storage.ErrNoSpace) {
			t.Errorf("got %v, want ErrNoSpace", err)
		}
		if err := f.Degraded(); err != nil {
			t.Errorf("Degraded: %v", err)
		}
		wantNothing(t, dir, key(1))
	})
	for _, call := range []string{"reserve", "truncate"} {
		t.Run("refused by "+call, func(t *testing.T) {
			t.Parallel()
			f, fsys, dir := openWrapped(t, nil)
			fsys.Before = failing(syscall.EFBIG, call)
			if _, err := f.BeginBlocks(t.Context(), key(1), 1<<20, 1<<20); !errors.Is(err, storage.ErrTooLarge) {
				t.Errorf("got %v, want ErrTooLarge", err)
			}
			if err := f.Degraded(); err != nil {
				t.Errorf("Degraded: %v", err)
			}
			wantNothing(t, dir, key(1))
		})
	}
}
