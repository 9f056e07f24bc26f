package send4

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

const (
	// smallSize is the longest file that is sent whole, in bytes: longer ones are
	// worth the round trips of an upload that can be resumed.
	smallSize = 256 << 10
	// largeAtOnce is how many files by chunks are under way: one's round trips
	// pass while another's content does.
	largeAtOnce = 3
	// mostFiles and mostBytes bound what waits for answers, in memory, whatever window
	// the server grants.
	mostFiles = 4096
	mostBytes = 32 << 20
)

// errMismatch: the server stored something else than was read.
var errMismatch = errors.New("digest did not match")

// sending is one session of a run: all that happens until the connection is lost
// or everything is sent.
type sending struct {
	engine *engine
	ctx    context.Context
	main   *session4.Session
	lanes  []*session4.Session // main and the further connections

	files    *semaphore.Weighted // of the window
	bytes    *semaphore.Weighted
	asks     bool // the server may hold what is to be sent
	accepted chan *smallFile
	work     sync.WaitGroup

	mu      sync.Mutex
	pending map[*smallFile]struct{} // sent or asked about, without an answer
	err     error                   // why the session was given up here
}

// session opens a session and sends through it. It returns nil when everything
// that there was has been sent or put back, and else what ended the session.
func (e *engine) session(ctx context.Context, first *session4.Session) error {
	main := first
	if main == nil {
		var err error
		if main, err = session4.Open(ctx, e.settings.Settings, e.me, e.run, 0); err != nil {
			return err
		}
	}
	lanes := []*session4.Session{main}
	defer func() { // all at once: each takes a round trip
		var closing sync.WaitGroup
		for _, lane := range lanes {
			closing.Go(lane.Close)
		}
		closing.Wait()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := main.Welcome
	s := &sending{
		engine: e, ctx: ctx, main: main, lanes: []*session4.Session{main},
		files: semaphore.NewWeighted(int64(max(1, min(w.WindowFiles, mostFiles)))), bytes: semaphore.NewWeighted(int64(max(v4.MaxBlock, min(w.WindowBytes, mostBytes)))),
		pending: make(map[*smallFile]struct{}),
		asks:    w.Rights&v4.RightRead != 0 && w.UsedFiles > 0, accepted: make(chan *smallFile, mostFiles),
	}
	if err := s.openLanes(ctx); err != nil {
		return err
	}
	lanes = s.lanes
	for _, lane := range s.lanes {
		go func() { // the loss of one is the end of all
			select {
			case <-lane.Done():
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	stop := context.AfterFunc(ctx, s.cut)
	defer stop()
	s.send()
	return s.over()
}

// openLanes opens the further connections, all at once: each takes several round
// trips.
func (s *sending) openLanes(ctx context.Context) error {
	e := s.engine
	lanes := make([]*session4.Session, e.settings.Streams-1)
	var opening errgroup.Group
	for i := range lanes {
		opening.Go(func() (err error) {
			lanes[i], err = session4.Open(ctx, e.settings.Settings, e.me, e.run, uint8(i+1))
			return err
		})
	}
	err := opening.Wait()
	for _, lane := range lanes {
		switch {
		case lane == nil:
		case err != nil:
			lane.Cut()
		default:
			s.lanes = append(s.lanes, lane)
		}
	}
	return err
}

// cut closes the connections, so that nothing waits for them any more.
func (s *sending) cut() {
	for _, lane := range s.lanes {
		lane.Cut()
	}
	s.endAll()
}

// over returns why the session has ended, nil while it has not.
func (s *sending) over() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	var why error
	for _, lane := range s.lanes {
		if err := lane.Err(); err != nil && (why == nil || errors.Is(why, session4.ErrCut)) {
			why = err
		}
	}
	return why
}

// giveUp ends the session from this side.
func (s *sending) giveUp(why error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = why
	}
	s.mu.Unlock()
	go s.cut()
}

// send hands out the items and waits for their answers.
func (s *sending) send() {
	large := make(chan struct{}, largeAtOnce)
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		for {
			select {
			case f := <-s.accepted:
				s.main.Send(f.message())
				f.item.progress.Move(int64(len(f.data)))
			case <-finished:
				return
			}
		}
	}()
	for s.over() == nil {
		item, ok := s.engine.next()
		if !ok {
			// Attempts that fail put items back while others are still under way.
			s.engine.settings.Waits.Enter(send.Asking)
			s.work.Wait()
			s.engine.settings.Waits.Leave(send.Asking)
			if item, ok = s.engine.next(); !ok {
				break
			}
		}
		f, err := openFile(item)
		if err != nil {
			s.engine.fail(item, 0, err)
			continue
		}
		s.engine.begin(&f.item, f.size, f.size > smallSize)
		if f.size <= smallSize {
			s.sendSmall(f)
			continue
		}
		select {
		case large <- struct{}{}:
		case <-s.ctx.Done():
		}
		if s.files.Acquire(s.ctx, 1) != nil { // an offer is a request of the window as well
			f.Close()
			s.engine.putBack(f.item)
			continue
		}
		s.work.Go(func() {
			defer func() { <-large }()
			defer s.files.Release(1)
			defer f.Close()
			if err := s.sendLarge(f); err != nil {
				s.engine.retry(s, f.item, f.size, err)
			}
		})
	}
	s.work.Wait()
}

// localFile is a file of this machine, open, and its state when it was opened.
type localFile struct {
	*os.File
	item   Item
	before fs.FileInfo
	size   int64
}

func openFile(item Item) (*localFile, error) {
	f, err := os.Open(item.Path)
	if err != nil {
		return nil, send.Plain(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, send.Plain(err)
	}
	return &localFile{File: f, item: item, before: info, size: info.Size()}, nil
}

// changed returns send.ErrChanged unless the open file is still what it was.
func (f *localFile) changed() error {
	after, err := f.Stat()
	if err != nil {
		return send.Plain(err)
	}
	return send.Compare(f.before, after)
}

func (f *localFile) state() send.State { return send.StateOf(f.before) }
func (f *localFile) modTime() int64    { return f.before.ModTime().UnixNano() }
func (f *localFile) mode() uint16      { return uint16(f.before.Mode().Perm()) }

// smallFile is a file that is sent whole.
type smallFile struct {
	item    Item
	state   send.State
	number  uint32
	modTime int64
	mode    uint16
	digest  v4.Digest
	data    []byte
	asked   bool // by an offer that is not answered yet
}

// sendSmall reads a small file and sends it, or asks first whether the server has
// it. It returns while the answer is awaited.
func (s *sending) sendSmall(f *localFile) {
	defer f.Close()
	item, waits := f.item, s.engine.settings.Waits
	data := make([]byte, f.size)
	waits.Enter(send.Disk)
	_, err := io.ReadFull(f, data)
	waits.Leave(send.Disk)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it became shorter", send.ErrChanged)
	}
	var empty error
	if err == nil && f.size == 0 {
		empty = send.CheckEmpty(f)
	}
	if err == nil {
		err = cmp.Or(f.changed(), empty) // what is written to now has changed
	}
	if err != nil {
		s.engine.retry(s, item, f.size, send.Plain(err))
		return
	}
	waits.Enter(send.Hashing)
	digest := v4.Digest(tree.Sum(data, 0, true))
	waits.Leave(send.Hashing)
	small := &smallFile{item: item, state: f.state(), modTime: f.modTime(), mode: f.mode(), data: data, digest: digest}
	if !s.room(int64(len(data))) {
		s.engine.putBack(item)
		return
	}
	item.progress.Start(0)
	s.work.Add(1)
	if s.asks {
		s.ask(small)
	} else {
		s.main.Begin(s.answerTo(small), func(number uint32) any {
			s.numbered(small, number)
			return small.message()
		})
		item.progress.Move(int64(len(data)))
	}
	if s.over() != nil {
		s.end(small, nil, nil)
	}
}

// room waits until the server's window has room for a small file, and reports
// whether the session is still there then.
func (s *sending) room(bytes int64) bool {
	if s.files.TryAcquire(1) {
		if s.bytes.TryAcquire(bytes) {
			return true
		}
		s.files.Release(1)
	}
	s.engine.settings.Waits.Enter(send.Asking)
	defer s.engine.settings.Waits.Leave(send.Asking)
	return s.files.Acquire(s.ctx, 1) == nil && s.bytes.Acquire(s.ctx, bytes) == nil
}

func (f *smallFile) message() *v4.Small {
	return &v4.Small{Number: f.number, ModTime: f.modTime, Mode: f.mode, Digest: f.digest, Path: f.item.Name, Data: f.data}
}

// ask offers a small file by its digest.
func (s *sending) ask(f *smallFile) {
	f.asked = true
	s.main.Begin(s.answerTo(f), func(number uint32) any {
		s.numbered(f, number)
		return &v4.Offer{
			Number: number, Flags: v4.OfferDigest | v4.OfferWhole, Size: uint64(len(f.data)), ModTime: f.modTime, Mode: f.mode,
			Digest: f.digest, Path: f.item.Name,
		}
	})
}
