package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"fenc/model/storage"
)

const (
	smallestClass = 20 // of a buffer in memory: 1 MiB
	largestClass  = 24 // 16 MiB; what is larger is in a file
)

// buffers bounds what is held of parts: each must be there whole until the store has
// taken it, since it may have to be sent again.
type buffers struct {
	moved   atomic.Int64 // when a part last got on, by a block that came or bytes that went; nanoseconds since 1970
	dir     string       // of what is not in memory
	classes [largestClass - smallestClass + 1]sync.Pool

	mu      sync.Mutex
	room    int            // buffers that nobody has, whatever their size
	held    map[string]int // buffers by sender
	waiting []*waiter      // in turn
}

// waiter is who waits for a buffer.
type waiter struct {
	sender string
	got    chan struct{} // closed when the buffer is theirs
}

func newBuffers(n int, dir string) *buffers {
	return &buffers{room: n, dir: dir, held: make(map[string]int)}
}

// ahead is how many times as many buffers as are free a sender may have: alone, three
// quarters of all, so that whoever comes next finds one, however slowly the first fills
// its own. (Switches share their memory so: Choudhury and Hahne, dynamic queue length
// thresholds, 1998.)
const ahead = 3

// grant gives a sender a buffer, if there is one for it; bs.mu is held.
func (bs *buffers) grant(sender string) bool {
	if bs.held[sender] >= ahead*bs.room {
		return false
	}
	bs.room--
	bs.held[sender]++
	return true
}

// release gives a sender's buffer back, and those that are free to who waits, in turn.
func (bs *buffers) release(sender string) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	bs.room++
	if bs.held[sender]--; bs.held[sender] == 0 {
		delete(bs.held, sender)
	}
	bs.waiting = slices.DeleteFunc(bs.waiting, func(w *waiter) bool {
		granted := bs.grant(w.sender)
		if granted {
			close(w.got)
		}
		return granted
	})
}

// acquire waits for room until ctx ends.
func (bs *buffers) acquire(ctx context.Context, sender string) error {
	bs.mu.Lock()
	if ctx.Err() == nil && bs.grant(sender) {
		bs.mu.Unlock()
		return nil
	}
	w := &waiter{sender, make(chan struct{})}
	bs.waiting = append(bs.waiting, w)
	bs.mu.Unlock()
	select {
	case <-w.got:
		return nil
	case <-ctx.Done():
	}
	bs.mu.Lock()
	at := slices.Index(bs.waiting, w)
	if at >= 0 {
		bs.waiting = slices.Delete(bs.waiting, at, at+1)
	}
	bs.mu.Unlock()
	if at < 0 {
		bs.release(sender) // it was theirs at the same moment
	}
	return ctx.Err()
}

// take waits until there is a buffer for a sender, or ctx ends.
func (bs *buffers) take(ctx context.Context, sender string, size int64) (*buffer, error) {
	if err := bs.acquire(ctx, sender); err != nil {
		return nil, err
	}
	b := &buffer{of: bs, sender: sender}
	if size > 1<<largestClass {
		var err error
		if b.file, b.leftover, err = unnamed(bs.dir); err != nil {
			bs.release(sender)
			return nil, spoolError(err)
		}
		return b, nil
	}
	b.class = max(0, bits.Len64(uint64(max(size, 1)-1))-smallestClass)
	if mem, ok := bs.classes[b.class].Get().(*[]byte); ok {
		b.mem = mem
	} else {
		mem := make([]byte, 1<<(b.class+smallestClass))
		b.mem = &mem
	}
	return b, nil
}

func spoolError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w: %w", storage.ErrNoSpace, err)
	}
	return foreign{fmt.Errorf("spool a part: %w", err)}
}

// buffer holds a part.
type buffer struct {
	of       *buffers
	sender   string
	class    int
	mem      *[]byte  // nil: it is in file
	file     *os.File // nil: it is in mem
	leftover string   // path of file, where it still has one
	n        int64    // bytes that are in it
}

// move notes that a part got on.
func (bs *buffers) move() { bs.moved.Store(time.Now().UnixNano()) }

// still returns for how long no part has got on.
func (bs *buffers) still() time.Duration { return time.Since(time.Unix(0, bs.moved.Load())) }

// Write appends p, for which there must be room.
func (b *buffer) Write(p []byte) (int, error) {
	b.of.move()
	if b.file == nil {
		b.n += int64(copy((*b.mem)[b.n:], p))
		return len(p), nil
	}
	n, err := b.file.WriteAt(p, b.n)
	b.n += int64(n)
	if err != nil {
		return n, spoolError(err)
	}
	return n, nil
}

// content reads what is in the buffer.
func (b *buffer) content() io.ReadSeeker {
	if b.file == nil {
		return bytes.NewReader((*b.mem)[:b.n])
	}
	return io.NewSectionReader(b.file, 0, b.n)
}

// free gives the buffer back, which nobody may read or write any more.
func (b *buffer) free() {
	if b.file == nil {
		b.of.classes[b.class].Put(b.mem)
	} else {
		b.file.Close() // what it holds counts no longer
		if b.leftover != "" {
			os.Remove(b.leftover)
		}
	}
	b.of.move()
	b.of.release(b.sender)
}

// body is what a request sends. The client may go on reading it after the request
// has ended; from end on it gets nothing, so that the buffer can be used again.
type body struct {
	of      *buffers
	stalled *time.Timer // ends the request
	mu      sync.Mutex
	r       io.ReadSeeker // nil: ended
}

var (
	errEnded   = errors.New("the request has ended")
	errStalled = errors.New("nothing moved for a minute")
)

// stall is how long a request may stand still: it may take as long as it needs.
const stall = time.Minute

// sending has try send content, as long as that moves.
func (bs *buffers) sending(ctx context.Context, content io.ReadSeeker, try func(context.Context, *body) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b := &body{of: bs, r: content, stalled: time.AfterFunc(stall, func() { cancel(errStalled) })}
	defer b.end()
	err := try(ctx, b)
	if err != nil && context.Cause(ctx) == errStalled {
		return errStalled
	}
	return err
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.r == nil {
		return 0, errEnded
	}
	b.stalled.Reset(stall)
	b.of.move()
	return b.r.Read(p)
}

func (b *body) Seek(off int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.r == nil {
		return 0, errEnded
	}
	return b.r.Seek(off, whence)
}

func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stalled.Stop()
	b.r = nil
}
