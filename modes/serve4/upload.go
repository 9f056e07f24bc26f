package serve4

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/stats"
	"fenc/wire"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

var errNoSend = fmt.Errorf("%w: this client has no right to send", model.ErrNotAllowed)

// takeOffer answers 1103: unchanged, or what to send.
func (k *Session) takeOffer(m v4.Offer) error {
	kind := byBlocks
	if m.Flags&v4.OfferWhole != 0 {
		kind = entire
	}
	r, err := k.open(m.Number, kind)
	if err != nil {
		return err
	}
	k.mu.Lock()
	r.offer = m
	k.mu.Unlock()
	if reason, err := k.judge(m); err != nil {
		k.refuse(m.Number, reason, err)
		return nil
	}
	if k.unchanged(m) {
		k.received(m.Number, true, m.Digest)
		return nil
	}
	if kind == entire {
		k.reply(&v4.Accept{Number: m.Number, Flags: v4.AcceptWhole, ChunkSize: tree.MinChunkSize})
		return nil
	}
	giveBack, err := k.takeWork()
	if err != nil {
		return err
	}
	k.inBackground(m.Number, func() {
		defer giveBack()
		k.beginUpload(m, r)
	})
	return nil
}

// judge refuses what can never be stored.
func (k *Session) judge(m v4.Offer) (v4.Reason, error) {
	if err := k.may(model.RightSend, errNoSend); err != nil {
		return reasonOf(err), err
	}
	if err := wire.CheckPath(m.Path); err != nil {
		return v4.ReasonBadPath, err
	}
	const most = 1<<63 - 1
	switch limit := k.settings.MaxFileSize; {
	case m.Size > most:
		return v4.ReasonTooLarge, fmt.Errorf("%d bytes, over any limit", m.Size)
	case limit > 0 && m.Size > uint64(limit):
		return v4.ReasonTooLarge, fmt.Errorf("%d bytes, max_file_size of the server is %d", m.Size, limit)
	}
	return 0, nil
}

// unchanged reports whether the offered content stands under its name already, and
// takes the file's new times and mode. A client that may not read learns nothing
// of what is stored.
func (k *Session) unchanged(m v4.Offer) bool {
	if m.Flags&v4.OfferDigest == 0 || k.may(model.RightRead, errNoRead) != nil {
		return false
	}
	same, err := k.server.archive.Retime(k.client.ID, m.Path, int64(m.Size), model.Hash(m.Digest), m.ModTime, uint32(m.Mode&0o777))
	return err == nil && same
}

// beginUpload opens an upload or an interrupted one, and answers with 2105.
func (k *Session) beginUpload(m v4.Offer, r *request) {
	rights, err := k.rights()
	if err != nil {
		k.refuse(m.Number, reasonOf(err), err)
		return
	}
	reads := rights&model.RightRead != 0
	offered, err := k.server.archive.Offer(k.ctx, model.Upload{
		ClientID: k.client.ID, FileName: m.Path, Path: m.Path, Size: int64(m.Size), ModTime: m.ModTime, Mode: uint32(m.Mode & 0o777), Protocol: v4.Version,
	}, k.settings.Bounds, reads, reads, k, watcher{k, m.Number})
	switch {
	case err != nil && k.ctx.Err() != nil:
		return // the session's end is the reason, and is told by itself
	case err != nil:
		k.refuse(m.Number, reasonOf(err), err)
		return
	}
	k.mu.Lock()
	r.upload, r.earlier = offered.Upload, offered.Earlier
	over := r.over // it failed before it was known here
	k.mu.Unlock()
	if over {
		offered.Upload.Detach(k)
		return
	}
	if e := offered.Earlier; e != nil {
		earlier := &v4.Earlier{Number: m.Number, ChunkSize: uint64(e.ChunkSize), Size: uint64(e.Size)}
		for _, h := range e.Hashes {
			earlier.Hashes = append(earlier.Hashes, v4.Digest(h))
		}
		k.reply(earlier)
	}
	accept := &v4.Accept{Number: m.Number, Upload: v4.ID(offered.Upload.ID()), ChunkSize: uint64(offered.Upload.ChunkSize())}
	for i, h := range offered.Held {
		accept.Held = append(accept.Held, v4.HeldHash{Chunk: uint32(i), Hash: v4.Digest(h)})
	}
	k.reply(accept)
}

// watcher tells the client how an upload gets on.
type watcher struct {
	session *Session
	number  uint32
}

func (w watcher) Held(bytes int64) {
	select {
	case w.session.replies <- &v4.Held{Number: w.number, Bytes: uint64(bytes)}:
	default: // the next one says more
	}
}

func (w watcher) Failed(err error) {
	if !errors.Is(err, archive.ErrOfferAgain) {
		w.session.refuse(w.number, reasonOf(err), err)
	}
}

// aside tells the client of an upload's further connection what fails. How much is
// held, the offer's own connection says.
type aside struct{ watcher }

func (aside) Held(int64) {}

// takeAttach answers 1107.
func (k *Session) takeAttach(m v4.Attach) error {
	r, err := k.open(m.Number, further)
	if err != nil {
		return err
	}
	upload, err := k.server.archive.Attach(k.ctx, model.ID(m.Upload), k.client.ID, k, aside{watcher{k, m.Number}})
	if errors.Is(err, storage.ErrGone) {
		err = archive.ErrOfferAgain
	}
	if err != nil {
		k.refuse(m.Number, reasonOf(err), err)
		return nil
	}
	k.mu.Lock()
	r.upload = upload
	k.mu.Unlock()
	k.reply(&v4.Attached{Number: m.Number})
	return nil
}

// takeBlock reads a 1108 into a block of its own and sends it on its way.
func (k *Session) takeBlock(h v4.Header) error {
	number, off, n, err := k.reader.BlockHead(h)
	if err != nil {
		return err
	}
	r, err := k.find(number)
	if err != nil {
		return err
	}
	giveBack, err := k.takeRoom()
	if err != nil {
		return err
	}
	block := storage.NewBlock()
	release := func() {
		storage.FreeBlock(block)
		giveBack()
	}
	upload, claim := k.claim(r, off, n)
	if claim != nil && !errors.Is(claim, archive.ErrOfferAgain) {
		release()
		return claim
	}
	err = k.reader.ReadContent((*block)[:n])
	if err == nil {
		k.counts.Received(n)
	}
	if claim != nil { // the upload is over; its sender could not know
		release()
		if errors.Is(claim, archive.ErrElsewhere) {
			k.refuse(number, reasonOf(claim), claim)
		}
		return err
	}
	s := step{upload: upload, block: block, n: n, off: int64(off), release: func() { release(); k.landed(r) }}
	if err == nil {
		err = k.blocks.put(k.ctx, s)
	}
	if err != nil {
		upload.Drop()
		s.release()
	}
	return err
}

// claim takes the place of a block in its upload.
func (k *Session) claim(r *request, off uint64, n int) (*archive.Upload, error) {
	if r == nil {
		return nil, archive.ErrOfferAgain
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.upload == nil || r.over {
		return nil, archive.ErrOfferAgain
	}
	if err := r.upload.Claim(k, off, n); err != nil {
		return nil, err
	}
	r.inFlight++
	return r.upload, nil
}

// takeCopy takes chunks from the version before.
func (k *Session) takeCopy(m v4.Copy) error {
	r, upload, err := k.findUpload(m.Number, v4.CodeCopy)
	if err != nil || upload == nil {
		return err
	}
	if len(m.Chunks) == 0 {
		return fmt.Errorf("%w: a copy of nothing", errProtocol)
	}
	chunks := numbers(m.Chunks)
	// In line with the blocks: a later finish waits for it.
	done := make(chan error, 1)
	k.work.Go(func() { done <- upload.Copy(k.ctx, r.earlier, chunks) })
	select {
	case err = <-done:
	case <-k.ctx.Done():
		return context.Cause(k.ctx)
	}
	if errors.Is(err, archive.ErrBlock) {
		return err
	}
	if err != nil && !errors.Is(err, archive.ErrOfferAgain) {
		k.refuse(m.Number, reasonOf(err), err)
	}
	return nil
}

// takeResend forgets chunks that will be sent again.
func (k *Session) takeResend(m v4.Resend) error {
	_, upload, err := k.findUpload(m.Number, v4.CodeResend)
	if err != nil || upload == nil {
		return err
	}
	if err := k.written(); err != nil {
		return err
	}
	err = upload.Release(numbers(m.Chunks))
	if errors.Is(err, archive.ErrBlock) {
		return err
	}
	if err != nil {
		k.refuse(m.Number, reasonOf(err), err)
	}
	return nil
}

// written waits until every block that came before is written: what was sent whole
// may be sent again, wherever it is by now.
func (k *Session) written() error {
	reached := make(chan struct{})
	if err := k.blocks.put(k.ctx, step{barrier: func() { close(reached) }}); err != nil {
		return err
	}
	select {
	case <-reached:
		return nil
	case <-k.ctx.Done():
		return context.Cause(k.ctx)
	}
}

func numbers(list []uint32) []int {
	out := make([]int, len(list))
	for i, n := range list {
		out[i] = int(n)
	}
	return out
}

// takeFinish answers 1110.
func (k *Session) takeFinish(m v4.Finish) error {
	r, upload, err := k.findUpload(m.Number, v4.CodeFinish)
	if err != nil || r == nil {
		return err
	}
	if upload == nil {
		return fmt.Errorf("%w: %s before the offer is accepted", errProtocol, v4.CodeFinish)
	}
	k.mu.Lock()
	busy := r.busy
	r.busy = true
	k.mu.Unlock()
	if busy {
		return fmt.Errorf("%w: %s twice", errProtocol, v4.CodeFinish)
	}
	k.inBackground(m.Number, func() { k.finish(m, r) })
	return nil
}

func (k *Session) finish(m v4.Finish, r *request) {
	offer := r.offer
	offer.Flags, offer.Digest = v4.OfferDigest, m.Digest
	if k.unchanged(offer) {
		r.upload.Discard()
		k.received(m.Number, true, m.Digest)
		return
	}
	whole := time.Now()
	_, err := r.upload.Finish(k.ctx, model.Hash(m.Digest))
	var missing *archive.MissingError
	var differs *archive.DiffersError
	switch {
	case err == nil:
		k.server.stats.Committed(time.Since(whole))
		k.received(m.Number, false, m.Digest)
		return
	case errors.As(err, &missing):
		answer := &v4.Missing{Number: m.Number}
		for _, i := range missing.Chunks {
			answer.Chunks = append(answer.Chunks, uint32(i))
		}
		k.again(r, answer)
	case errors.As(err, &differs):
		answer := &v4.Differs{Number: m.Number}
		for _, h := range differs.Hashes {
			answer.Hashes = append(answer.Hashes, v4.Digest(h))
		}
		k.log.Warn("file", "file", wire.Printable(r.offer.Path), "bytes", r.offer.Size, "verdict", "mismatch")
		k.count(r, stats.Mismatch, err.Error())
		k.again(r, answer)
	case k.ctx.Err() != nil:
	default:
		k.refuse(m.Number, reasonOf(err), err)
	}
}

// again answers a finish that was not the last.
func (k *Session) again(r *request, message any) {
	k.mu.Lock()
	r.busy = false
	k.mu.Unlock()
	k.reply(message)
}

// takeGiveUp forgets an upload.
func (k *Session) takeGiveUp(m v4.GiveUp) error {
	r, err := k.find(m.Number)
	if err != nil {
		return err
	}
	if r == nil {
		k.reply(&v4.Ended{Number: m.Number})
		return nil
	}
	k.mu.Lock()
	upload, busy := r.upload, r.busy
	k.mu.Unlock()
	switch {
	case r.kind != byBlocks && r.kind != entire:
		return fmt.Errorf("%w: %s for number %d, which is no offer", errProtocol, v4.CodeGiveUp, m.Number)
	case busy, r.kind == byBlocks && upload == nil:
		return fmt.Errorf("%w: %s before the answer", errProtocol, v4.CodeGiveUp)
	}
	if upload != nil {
		upload.Discard()
	}
	k.answer(m.Number, &v4.Ended{Number: m.Number})
	return nil
}

// takeSmall keeps a whole file, in a group with others.
func (k *Session) takeSmall(m v4.Small) error {
	r, err := k.find(m.Number)
	switch {
	case err != nil && m.Number > k.last:
		r, err = k.open(m.Number, entire)
	case r != nil && (r.kind != entire || r.busy):
		err = fmt.Errorf("%w: %s for number %d, which waits for none", errProtocol, v4.CodeSmall, m.Number)
	case r == nil && err == nil:
		return nil // it is over
	}
	if err == nil {
		err = k.grow(r, len(m.Data))
	}
	if err != nil {
		return err
	}
	offer := v4.Offer{Number: m.Number, Size: uint64(len(m.Data)), ModTime: m.ModTime, Mode: m.Mode, Digest: m.Digest, Path: m.Path}
	k.mu.Lock()
	r.offer, r.busy = offer, true
	k.mu.Unlock()
	k.counts.Received(len(m.Data))
	if reason, err := k.judge(offer); err != nil {
		k.refuse(m.Number, reason, err)
		return nil
	}
	if tree.Sum(m.Data, 0, true) != tree.Hash(m.Digest) {
		k.refuse(m.Number, v4.ReasonBadDigest, errors.New("the content has another digest than its sender says"))
		return nil
	}
	whole := time.Now()
	return k.server.archive.Small(k.ctx, archive.SmallFile{
		Client: k.client.ID, Path: m.Path, ModTime: m.ModTime, Mode: uint32(m.Mode & 0o777),
		Digest: model.Hash(m.Digest), Data: append([]byte(nil), m.Data...),
		Done: func(unchanged bool, err error) {
			if err != nil {
				k.refuse(m.Number, reasonOf(err), err)
				return
			}
			k.server.stats.Committed(time.Since(whole))
			k.received(m.Number, unchanged && k.may(model.RightRead, errNoRead) == nil, m.Digest)
		},
	})
}

// received answers that the file is durable, catalogued and equal.
func (k *Session) received(number uint32, unchanged bool, digest v4.Digest) {
	k.mu.Lock()
	r := k.active[number]
	if r != nil {
		k.files++
		k.bytes += int64(r.offer.Size)
	}
	k.mu.Unlock()
	if r == nil {
		return
	}
	verdict := stats.Verified
	if unchanged {
		verdict = stats.Unchanged
	}
	k.count(r, verdict, "")
	k.log.Info("file", "file", wire.Printable(r.offer.Path), "bytes", r.offer.Size, "seconds", time.Since(r.begun).Seconds(),
		"digest", digest.String(), "verdict", string(verdict))
	k.answer(number, &v4.Received{Number: number, Unchanged: unchanged, Size: r.offer.Size, Digest: digest})
}

// inBackground runs what may take long, telling the client every few seconds that
// it is still at work.
func (k *Session) inBackground(number uint32, do func()) {
	done := make(chan struct{})
	k.work.Go(func() {
		defer close(done)
		do()
	})
	k.work.Go(func() {
		tick := time.NewTicker(waitEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				select {
				case k.replies <- &v4.Wait{Number: number}:
				default:
				}
			}
		}
	})
}
