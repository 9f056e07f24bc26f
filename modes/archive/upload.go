package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire/v4/tree"
)

// How much may be lost to a crash: what was written is made durable and recorded
// after so many bytes, and after so long.
const (
	holdEvery = 64 << 20 // bytes
	holdAfter = 2 * time.Second
	// holdMarked is holdAfter where recording costs no sync, and other processes may
	// wait for it.
	holdMarked = 300 * time.Millisecond
)

var (
	// ErrBlock: a block that does not belong where it wants to go.
	ErrBlock = errors.New("block out of place")
	// ErrOfferAgain: the upload is over; its file must be offered anew.
	ErrOfferAgain = errors.New("upload is gone")
	// ErrElsewhere: the chunk is on its way over a connection that its sender has given
	// up, and of which this server does not know so yet. It is an ErrOfferAgain.
	ErrElsewhere = fmt.Errorf("%w: a chunk of it still comes over another connection", ErrOfferAgain)
)

// MissingError tells which chunks have not come.
type MissingError struct{ Chunks []int }

func (e *MissingError) Error() string { return fmt.Sprintf("%d chunks are missing", len(e.Chunks)) }

// DiffersError tells the hashes of what was stored, where their root is not the
// digest that the sender has.
type DiffersError struct{ Hashes []tree.Hash }

func (e *DiffersError) Error() string { return "digest of what was stored differs from the sender's" }

// Watcher is told how an upload gets on. Its methods must not wait.
type Watcher interface {
	Held(bytes int64) // so many bytes are durable and recorded
	Failed(err error) // no more can be written
}

// Owner is a connection that sends blocks of an upload.
type Owner any

// Upload is a file that comes in blocks, over one connection or several.
type Upload struct {
	archive   *Archive
	row       model.Upload
	part      storage.Partial
	chunkSize int64
	watcher   Watcher

	kick chan struct{} // enough is written to be made durable
	done chan struct{} // closed when the upload is over
	gone sync.WaitGroup
	hold sync.Mutex // one at a time makes durable, or forgets what is

	mu      sync.Mutex
	settled *sync.Cond // inFlight became 0, or the upload failed
	owners  map[Owner]bool
	chunks  []chunk
	// inFlight counts claimed blocks that are not written yet.
	inFlight int
	unheld   int64 // bytes of whole chunks that are written and not durable yet
	held     int64 // bytes that are durable and recorded
	sealed   bool
	ended    bool
	err      error
}

// chunk is what is known of one chunk.
type chunk struct {
	state  chunkState
	owner  Owner        // while filling
	next   int64        // offset of the next block, while filling
	hasher *tree.Hasher // while filling, of more than one block
	hash   tree.Hash    // from written on
	mark   string       // from durable on, where the store has marks
}

type chunkState uint8

const (
	empty chunkState = iota
	filling
	written
	durable
)

// Offered is an upload that was taken.
type Offered struct {
	Upload  *Upload
	Held    map[int]tree.Hash // chunks that are durable already
	Earlier *Earlier          // what is verified under the name; nil: nothing to compare with
}

// Earlier is the verified content that stands under an upload's name.
type Earlier struct {
	Size      int64
	ChunkSize int64
	Hashes    []tree.Hash
	object    model.ID
}

// Offer opens an upload of protocol 4: a new one or, where resume is set, one that
// was interrupted and has the same client, name and size. Where compare is set,
// the verified version is told too. The owner must Detach at last.
//
// It returns the refusals of model.Catalogue.Offer, storage.ErrNoSpace,
// storage.ErrDegraded or model.ErrUnavailable where it cannot be taken.
func (a *Archive) Offer(ctx context.Context, row model.Upload, bounds model.Bounds, resume, compare bool, owner Owner, w Watcher) (Offered, error) {
	if err := a.store.Degraded(); err != nil {
		return Offered{}, err
	}
	var offered Offered
	var err error
	if compare {
		if offered.Earlier, err = a.earlier(row); err != nil {
			return Offered{}, err
		}
	}
	row.ChunkSize = a.chunkSize(row.Size)
	if e := offered.Earlier; e != nil && a.takesChunks(row.Size, e.ChunkSize) {
		row.ChunkSize = e.ChunkSize
	} else {
		offered.Earlier = nil
	}
	if resume {
		offered.Upload, offered.Held, err = a.resume(ctx, row, owner, w)
		if err != nil || offered.Upload != nil {
			return offered, err
		}
	}
	row, err = a.Catalogue.Offer(row, bounds)
	if err != nil {
		return Offered{}, err
	}
	part, err := a.store.BeginBlocks(storage.For(ctx, row.ClientID.String()), row.ID.String(), row.Size, row.ChunkSize)
	if err != nil {
		return Offered{}, errors.Join(err, a.forget(row.ID))
	}
	offered.Upload = a.newUpload(row, part, owner, w)
	a.liveMu.Lock()
	a.live[row.ID], a.proven[row.ID] = offered.Upload, true
	a.liveMu.Unlock()
	return offered, nil
}

func (a *Archive) newUpload(row model.Upload, part storage.Partial, owner Owner, w Watcher) *Upload {
	u := &Upload{
		archive: a, row: row, part: part, chunkSize: row.ChunkSize, watcher: w,
		kick: make(chan struct{}, 1), done: make(chan struct{}),
		owners: map[Owner]bool{owner: true}, chunks: make([]chunk, tree.Chunks(row.Size, row.ChunkSize)),
	}
	u.settled = sync.NewCond(&u.mu)
	u.gone.Go(u.keepHolding)
	return u
}

// earlier returns what an upload of the same name can be compared with.
func (a *Archive) earlier(row model.Upload) (*Earlier, error) {
	f, ok, err := a.Catalogue.File(row.ClientID, row.FileName)
	if err != nil || !ok || !f.Verified || f.Pack != nil {
		return nil, err
	}
	if has, err := a.has(f); err != nil {
		return nil, err
	} else if !has {
		return nil, a.Lost(f)
	}
	t, ok, err := a.Catalogue.Tree(f.Object)
	if err != nil || !ok || len(t.Hashes)%len(tree.Hash{}) != 0 {
		return nil, err
	}
	e := &Earlier{Size: f.Size, ChunkSize: t.ChunkSize, object: f.Object, Hashes: make([]tree.Hash, len(t.Hashes)/len(tree.Hash{}))}
	for i := range e.Hashes {
		copy(e.Hashes[i][:], t.Hashes[i*len(tree.Hash{}):])
	}
	return e, nil
}

// ID names the upload to the client's other connections.
func (u *Upload) ID() model.ID { return u.row.ID }

// ChunkSize returns the bytes of a chunk.
func (u *Upload) ChunkSize() int64 { return u.chunkSize }

// Name returns the name that the file was offered under.
func (u *Upload) Name() string { return u.row.FileName }

// Here returns the bytes of the chunks that are written.
func (u *Upload) Here() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.held + u.unheld
}

// Size returns the bytes of the whole file.
func (u *Upload) Size() int64 { return u.row.Size }

// Attach makes a further connection of the same client an owner. It returns
// ErrOfferAgain if no session has the upload open, here or in another process that
// serves the same store; of one there, w is told how it gets on here.
func (a *Archive) Attach(ctx context.Context, id, client model.ID, owner Owner, w Watcher) (*Upload, error) {
	a.liveMu.Lock()
	u := a.live[id]
	a.liveMu.Unlock()
	if u == nil && a.limits.Shared {
		return a.attach(ctx, id, client, owner, w)
	}
	if u == nil || u.row.ClientID != client {
		return nil, ErrOfferAgain
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ended || u.sealed {
		return nil, ErrOfferAgain
	}
	u.owners[owner] = true
	return u, nil
}

// length returns the bytes of chunk i.
func (u *Upload) length(i int) int64 {
	return min(u.chunkSize, u.row.Size-int64(i)*u.chunkSize)
}

// Claim takes the place of a block of n bytes at off, before it is read. The
// blocks of a chunk come in order, over one connection, each once. Claimed blocks
// are given to Hash and Write, in that order, or to Drop. It returns ErrBlock, or
// ErrOfferAgain where the upload is over and blocks are no longer looked at.
func (u *Upload) Claim(owner Owner, off uint64, n int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil || u.sealed || u.ended {
		return ErrOfferAgain
	}
	if n <= 0 || off >= uint64(u.row.Size) {
		return fmt.Errorf("%w: %d bytes at %d of a file of %d", ErrBlock, n, off, u.row.Size)
	}
	i := int(int64(off) / u.chunkSize)
	start := int64(i) * u.chunkSize
	c := &u.chunks[i]
	switch {
	case int64(off)+int64(n) > start+u.length(i):
		return fmt.Errorf("%w: %d bytes at %d reach beyond chunk %d", ErrBlock, n, off, i)
	case c.state == empty && int64(off) == start:
		c.state, c.owner = filling, owner
	case u.comesAgain(c) && int64(off) == start:
		u.held -= u.length(i)
		*c = chunk{state: filling, owner: owner}
	case c.state == empty:
		return fmt.Errorf("%w: chunk %d begins at %d, not at %d", ErrBlock, i, start, off)
	case (c.state == written || c.state == filling && c.owner != owner) && int64(off) == start && u.archive.limits.Shared:
		return ErrElsewhere // another process, which does not know of it, asked for the chunk
	case c.state != filling || c.owner != owner:
		return fmt.Errorf("%w: chunk %d has come already, or comes over another connection", ErrBlock, i)
	case int64(off) != c.next:
		return fmt.Errorf("%w: offset %d in chunk %d, want %d", ErrBlock, off, i, c.next)
	}
	c.next = int64(off) + int64(n)
	u.inFlight++
	return nil
}

// comesAgain reports whether a chunk that is here may come once more: another process
// may have been told to forget it. Its row then has the hash and mark of what comes.
// u.mu is held.
func (u *Upload) comesAgain(c *chunk) bool {
	return u.archive.limits.Shared && c.state == durable
}

// hashers keeps the state of chunks of several blocks between uploads.
var hashers = sync.Pool{New: func() any { return new(tree.Hasher) }}

// Hash hashes a claimed block.
func (u *Upload) Hash(p []byte, off int64) {
	i := int(off / u.chunkSize)
	start := int64(i) * u.chunkSize
	only := len(u.chunks) == 1
	c := &u.chunks[i] // its owner's alone while it fills
	if off == start && int64(len(p)) == u.length(i) {
		c.hash = tree.Sum(p, start, only)
		return
	}
	if off == start {
		c.hasher = hashers.Get().(*tree.Hasher)
		c.hasher.Reset(start, only)
	}
	c.hasher.Write(p)
	if off+int64(len(p)) == start+u.length(i) {
		c.hash = c.hasher.Sum()
		hashers.Put(c.hasher)
		c.hasher = nil
	}
}

// Write writes the first n bytes of a claimed block that was hashed.
func (u *Upload) Write(b *storage.Block, n int, off int64) {
	err := u.part.WriteBlock(b, n, off)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.landed(err)
	i := int(off / u.chunkSize)
	if c := &u.chunks[i]; err == nil && off+int64(n) == int64(i)*u.chunkSize+u.length(i) {
		c.state, c.owner = written, nil
		u.unheld += u.length(i)
		if u.unheld >= holdEvery {
			select {
			case u.kick <- struct{}{}:
			default:
			}
		}
	}
}

// Drop gives up a claimed block that did not come.
func (u *Upload) Drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.landed(nil)
}

// landed counts a block off. u.mu is held.
func (u *Upload) landed(err error) {
	u.inFlight--
	if err != nil && u.err == nil && !errors.Is(err, storage.ErrSealed) {
		u.err = err
		go u.watcher.Failed(err)
	}
	if u.inFlight == 0 || u.err != nil {
		u.settled.Broadcast()
	}
}

// keepHolding makes durable what is written, from time to time.
func (u *Upload) keepHolding() {
	every := holdAfter
	if u.archive.limits.Marks {
		every = holdMarked
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-u.kick:
		case <-tick.C:
		case <-u.done:
			return
		}
		if err := u.makeDurable(false); err != nil {
			return
		}
	}
}

// makeDurable syncs what is written and records it; for the last time, after the
// upload has ended, where last is set.
func (u *Upload) makeDurable(last bool) error {
	u.hold.Lock()
	defer u.hold.Unlock()
	u.mu.Lock()
	var fresh []model.Chunk
	var bytes int64
	for i := range u.chunks {
		if c := &u.chunks[i]; c.state == written {
			fresh = append(fresh, model.Chunk{UploadID: u.row.ID, Number: int64(i), Hash: model.Hash(c.hash)})
			bytes += u.length(i)
		}
	}
	over := u.err != nil || u.sealed || u.ended && !last
	u.mu.Unlock()
	if over || len(fresh) == 0 {
		return nil
	}
	marks, err := u.part.Sync()
	for i := range fresh {
		fresh[i].Mark = marks[int(fresh[i].Number)]
	}
	if err == nil {
		err = u.archive.Catalogue.HoldChunks(u.row.ID, fresh)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		if u.err == nil {
			u.err = err
			go u.watcher.Failed(err)
		}
		u.settled.Broadcast()
		return err
	}
	for _, f := range fresh {
		u.chunks[f.Number].state, u.chunks[f.Number].mark = durable, f.Mark
	}
	u.unheld -= bytes
	u.held += bytes
	go u.watcher.Held(u.held)
	return nil
}

// Release forgets chunks that will be sent again.
func (u *Upload) Release(chunks []int) error {
	u.hold.Lock()
	defer u.hold.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	var recorded []int64
	for _, i := range chunks {
		if i < 0 || i >= len(u.chunks) {
			return fmt.Errorf("%w: chunk %d of %d", ErrBlock, i, len(u.chunks))
		}
		switch c := &u.chunks[i]; c.state {
		case empty:
			if u.archive.limits.Shared { // another process may have recorded it
				recorded = append(recorded, int64(i))
			}
		case durable:
			recorded = append(recorded, int64(i))
			u.held -= u.length(i)
			c.state = empty
		case written:
			u.unheld -= u.length(i)
			c.state = empty
		case filling:
			return fmt.Errorf("%w: chunk %d is on its way", ErrBlock, i)
		}
	}
	if len(recorded) == 0 {
		return nil
	}
	if err := u.archive.Catalogue.ReleaseChunks(u.row.ID, recorded); err != nil {
		u.err = err
		return err
	}
	return nil
}
