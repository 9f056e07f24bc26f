package send4

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

const (
	blocksInMemory = 6 // of one file, at 1 MiB each, and blocksALane more for each further connection
	blocksALane    = 2
	copyAtOnce     = 64 // chunks of one 1116
	maxMissing     = 5  // rounds of missing chunks, before the upload is offered anew
	minStreamed    = 4  // chunks from which a file is sent over all connections
	answersAtOnce  = 16 // that the server may send before they are looked at
)

// blocks keeps buffers between files: a block behind room for its frame's head.
var blocks = sync.Pool{New: func() any { b := make([]byte, v4.BlockHeadSize+v4.MaxBlock); return &b }}

// upload is a large file on its way.
type upload struct {
	s       *sending
	f       *localFile
	number  uint32 // on the main connection
	answers chan any
	lanes   []*laneOf

	chunkSize int64
	hashes    []tree.Hash       // of this file's chunks, as they were read last
	held      map[int]tree.Hash // that the server has of this upload
	earlier   []tree.Hash       // of the verified version before
	began     time.Time

	comparing  sync.Mutex   // guards the next three while chunks are read and hashed
	same       []int        // chunks that are as in that version, and the server was not told yet
	stale      []int        // chunks that are held and are not as they were read
	differed   bool         // or some chunks were not as in that version
	staleBytes atomic.Int64 // of stale, while the server counts them as held
}

// laneOf is a connection's part in an upload.
type laneOf struct {
	session *session4.Session
	number  uint32
}

// piece is a block on its way through reading, hashing and sending.
type piece struct {
	chunk int
	off   int64
	buf   *[]byte
	n     int
}

// sendLarge sends a file by chunks, and reports it where it is verified.
func (s *sending) sendLarge(f *localFile) error {
	u := &upload{s: s, f: f, answers: make(chan any, answersAtOnce), began: time.Now()}
	offer := v4.Offer{Size: uint64(f.size), ModTime: f.modTime(), Mode: f.mode(), Path: f.item.Name}
	if d := s.engine.settings.Digests; d != nil {
		if digest, ok := d.Get(f.before); ok {
			offer.Flags, offer.Digest = v4.OfferDigest, digest
		}
	}
	err := s.main.Begin(u.handle, func(number uint32) any {
		u.number, offer.Number = number, number
		return &offer
	})
	defer func() { s.main.Forget(u.number) }()
	if err != nil {
		return err
	}
	answer, err := u.await()
	for {
		switch m := answer.(type) {
		case nil:
			return err
		case *v4.Earlier:
			if u.earlier != nil {
				return fmt.Errorf("%w: an earlier version told twice", v4.ErrFrame)
			}
			if err := u.compareWith(m); err != nil {
				return err
			}
			answer, err = u.await()
			continue
		case *v4.Received: // unchanged, by the digest that was remembered
			if offer.Flags&v4.OfferDigest == 0 {
				return fmt.Errorf("%w: a file verified whose digest the server was not told", v4.ErrFrame)
			}
			if err := received(m, f.size, offer.Digest); err != nil {
				return err
			}
			s.engine.succeed(f.item, f.state(), m)
			return nil
		case *v4.Accept:
			return u.fill(m)
		}
		return fmt.Errorf("%w: %s answers an offer", v4.ErrFrame, nameOf(answer))
	}
}

// handle takes the server's answers.
func (u *upload) handle(message any) {
	switch m := message.(type) {
	case *v4.Held:
		u.f.item.progress.Hold(int64(min(m.Bytes, uint64(u.f.size))) - u.staleBytes.Load())
		u.s.engine.advance()
		return
	case *v4.Wait:
		u.s.engine.advance()
		return
	}
	select {
	case u.answers <- message:
	default:
		u.s.broke("more answers than questions")
	}
}

// await returns the next answer; a refusal is an error.
func (u *upload) await() (any, error) {
	u.s.engine.settings.Waits.Enter(send.Asking)
	defer u.s.engine.settings.Waits.Leave(send.Asking)
	select {
	case message := <-u.answers:
		if m, refused := message.(*v4.Refused); refused {
			return nil, &session4.RefusalError{Reason: m.Reason, Again: m.Again, Text: m.Text}
		}
		return message, nil
	case <-u.s.main.Done():
		return nil, u.s.main.Err()
	case <-u.s.ctx.Done():
		return nil, u.s.ctx.Err()
	}
}

// fill sends what the server does not have, and finishes the upload.
func (u *upload) fill(m *v4.Accept) error {
	size := int64(m.ChunkSize)
	if m.Flags != 0 {
		return fmt.Errorf("%w: a file of %d bytes wanted whole, which was not offered", v4.ErrFrame, u.f.size)
	}
	if m.ChunkSize > 1<<62 || !tree.ValidChunkSize(u.f.size, size) {
		return fmt.Errorf("%w: chunks of %d bytes for a file of %d", v4.ErrFrame, m.ChunkSize, u.f.size)
	}
	if size != u.chunkSize {
		u.chunkSize, u.earlier = size, nil
	}
	u.hashes = make([]tree.Hash, tree.Chunks(u.f.size, size))
	u.held = make(map[int]tree.Hash, len(m.Held))
	var held int64
	for _, h := range m.Held {
		if _, twice := u.held[int(h.Chunk)]; !twice && int(h.Chunk) < len(u.hashes) {
			held += u.length(int(h.Chunk))
		}
		u.held[int(h.Chunk)] = tree.Hash(h.Hash)
	}
	u.f.item.progress.Start(held)
	u.lanes = []*laneOf{{session: u.s.main, number: u.number}}
	if len(u.hashes) >= minStreamed {
		for _, lane := range u.s.lanes[1:] {
			attached, err := u.attach(lane, m.Upload)
			if err != nil {
				return err
			}
			defer lane.Forget(attached.number)
			u.lanes = append(u.lanes, attached)
		}
	}
	all := make([]int, len(u.hashes))
	for i := range all {
		all[i] = i
	}
	if err := u.transfer(all, true); err != nil {
		return u.abandon(err)
	}
	if err := u.replaceStale(); err != nil {
		return u.abandon(err)
	}
	return u.abandon(u.finish())
}

// attach makes a further connection part of the upload.
func (u *upload) attach(lane *session4.Session, id v4.ID) (*laneOf, error) {
	l := &laneOf{session: lane}
	attached := make(chan any, 1)
	err := lane.Begin(func(message any) {
		if refused, ok := message.(*v4.Refused); ok {
			u.handle(refused)
		}
		select {
		case attached <- message:
		default:
		}
	}, func(number uint32) any {
		l.number = number
		return &v4.Attach{Number: number, Upload: id}
	})
	if err != nil {
		return nil, err
	}
	select {
	case message := <-attached:
		if _, ok := message.(*v4.Attached); ok {
			return l, nil
		}
		if m, ok := message.(*v4.Refused); ok {
			return nil, &session4.RefusalError{Reason: m.Reason, Again: m.Again, Text: m.Text}
		}
		return nil, fmt.Errorf("%w: %s answers 1107", v4.ErrFrame, nameOf(message))
	case <-lane.Done():
		return nil, lane.Err()
	}
}

func (u *upload) length(i int) int64 {
	return min(u.chunkSize, u.f.size-int64(i)*u.chunkSize)
}

// transfer reads, hashes and sends chunks, in stages that do not wait for each
// other. Where compare is set, those that the server has are left out.
func (u *upload) transfer(chunks []int, compare bool) error {
	group, ctx := errgroup.WithContext(u.s.ctx)
	room := blocksInMemory + blocksALane*(len(u.lanes)-1)
	free := make(chan *[]byte, room)
	for range room {
		free <- nil // taken from the pool when it is needed
	}
	defer func() {
		for len(free) > 0 {
			if b := <-free; b != nil {
				blocks.Put(b)
			}
		}
	}()
	read, hashed := make(chan piece, room), make(chan (<-chan piece), room)
	group.Go(func() error {
		defer close(read)
		return u.read(ctx, chunks, compare, free, read)
	})
	group.Go(func() error {
		defer close(hashed)
		return u.hash(ctx, read, compare, free, hashed)
	})
	for _, lane := range u.lanes {
		group.Go(func() error {
			for chunk := range hashed { // whichever connection has room takes the next chunk, and all of it
				for p := range chunk {
					err := lane.session.SendBlock(lane.number, p.off, *p.buf, p.n)
					u.f.item.progress.Move(int64(p.n))
					free <- p.buf
					if err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		if lost := u.s.over(); lost != nil {
			return lost
		}
		select { // the server may have said why
		case message := <-u.answers:
			if m, refused := message.(*v4.Refused); refused {
				return &session4.RefusalError{Reason: m.Reason, Again: m.Again, Text: m.Text}
			}
		default:
		}
		return err
	}
	if u.differed {
		return u.copy()
	}
	return nil
}

// read reads the chunks' blocks.
func (u *upload) read(ctx context.Context, chunks []int, compare bool, free chan *[]byte, out chan<- piece) error {
	for _, i := range chunks {
		start := int64(i) * u.chunkSize
		end := start + u.length(i)
		if compare && u.known(i) && end-start > v4.MaxBlock {
			if equal, err := u.readAndCompare(ctx, i, free); err != nil || equal {
				if err != nil {
					return err
				}
				continue
			}
		}
		for off := start; off < end; {
			if len(u.answers) > 0 {
				return errors.New("the server stopped the upload")
			}
			p, err := u.readBlock(ctx, i, off, int(min(v4.MaxBlock, end-off)), free)
			if err != nil {
				return err
			}
			select {
			case out <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
			off += int64(p.n)
		}
	}
	return nil
}

func (u *upload) readBlock(ctx context.Context, chunk int, off int64, n int, free chan *[]byte) (piece, error) {
	var buf *[]byte
	select {
	case buf = <-free:
	case <-ctx.Done():
		return piece{}, ctx.Err()
	}
	if buf == nil {
		buf = blocks.Get().(*[]byte)
	}
	u.s.engine.settings.Waits.Enter(send.Disk)
	got, err := u.f.ReadAt((*buf)[v4.BlockHeadSize:v4.BlockHeadSize+n], off)
	u.s.engine.settings.Waits.Leave(send.Disk)
	if got < n {
		free <- buf
		if err == io.EOF {
			return piece{}, fmt.Errorf("%w: it became shorter", send.ErrChanged)
		}
		return piece{}, send.Plain(err)
	}
	return piece{chunk, off, buf, n}, nil
}

// hash hashes blocks and hands them on, chunk by chunk.
func (u *upload) hash(ctx context.Context, in <-chan piece, compare bool, free chan<- *[]byte, out chan<- (<-chan piece)) error {
	var h tree.Hasher // of the chunk that is read, where it has several blocks
	var chunk chan piece
	defer func() {
		if chunk != nil {
			close(chunk) // broken off
		}
	}()
	only, waits := len(u.hashes) == 1, u.s.engine.settings.Waits
	for p := range in {
		content := (*p.buf)[v4.BlockHeadSize : v4.BlockHeadSize+p.n]
		start := int64(p.chunk) * u.chunkSize
		whole := int64(p.n) == u.length(p.chunk)
		first, last := p.off == start, p.off+int64(p.n) == start+u.length(p.chunk)
		waits.Enter(send.Hashing)
		if whole {
			u.hashes[p.chunk] = tree.Sum(content, start, only)
			waits.Leave(send.Hashing)
			if compare && u.spare(p.chunk) {
				free <- p.buf
				if err := u.copySome(); err != nil {
					return err
				}
				continue
			}
		} else {
			if first {
				h.Reset(start, only)
			}
			h.Write(content)
			if last {
				u.hashes[p.chunk] = h.Sum()
			}
			waits.Leave(send.Hashing)
		}
		if first {
			u.comparing.Lock()
			u.differed = true
			u.comparing.Unlock()
			chunk = make(chan piece, cap(in)) // never full: there are no more blocks
			select {
			case out <- chunk:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		chunk <- p
		if last {
			close(chunk)
			chunk = nil
		}
	}
	return nil
}
