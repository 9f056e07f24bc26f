package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
	"fenc/wire/v4/tree"
)

// Finish makes the upload the verified file of its name, if all of it is there
// and has the sender's digest: durable, catalogued and shown when it returns. It
// waits until every claimed block is written, and asks the gate. It returns a *MissingError or a
// *DiffersError where the sender can mend it, the refusals of
// model.Catalogue.Commit, ErrGateRefused and ErrGateUnavailable. Where ctx ends while
// the gate is asked, it is asked again, and the upload may become a file all the same.
func (u *Upload) Finish(ctx context.Context, digest model.Hash) (model.File, error) {
	if u.archive.limits.Shared {
		if err := u.awaitOthers(ctx); err != nil {
			return model.File{}, err
		}
	}
	hashes, err := u.complete(ctx)
	if err != nil {
		return model.File{}, err
	}
	if model.Hash(tree.Root(hashes)) != digest {
		return model.File{}, &DiffersError{hashes}
	}
	if u.archive.limits.Marks { // whoever completes it after a crash goes by what is recorded
		if err := u.makeDurable(false); err != nil {
			return model.File{}, err
		}
	}
	u.hold.Lock() // no sync beside the seal
	defer u.hold.Unlock()
	u.mu.Lock()
	if u.sealed || u.ended || u.inFlight > 0 {
		u.mu.Unlock()
		return model.File{}, ErrOfferAgain
	}
	u.sealed = true
	u.mu.Unlock()
	file, err := u.keep(ctx, digest)
	if err != nil {
		u.mu.Lock()
		u.err = err
		u.mu.Unlock()
	}
	return file, err
}

// complete waits for what is on its way, and returns the hashes of all chunks.
func (u *Upload) complete(ctx context.Context) ([]tree.Hash, error) {
	stop := context.AfterFunc(ctx, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.settled.Broadcast()
	})
	defer stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.inFlight > 0 && u.err == nil && ctx.Err() == nil {
		u.settled.Wait()
	}
	switch {
	case u.err != nil:
		return nil, u.err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case u.sealed || u.ended:
		return nil, ErrOfferAgain
	}
	var missing []int
	hashes := make([]tree.Hash, len(u.chunks))
	for i := range u.chunks {
		if c := &u.chunks[i]; c.state < written {
			missing = append(missing, i)
		} else {
			hashes[i] = c.hash
		}
	}
	if len(missing) > 0 {
		return nil, &MissingError{missing}
	}
	return hashes, nil
}

// keep takes sealed content through the order of steps.
func (u *Upload) keep(ctx context.Context, digest model.Hash) (model.File, error) {
	a, id := u.archive, u.row.ID
	hashes, marks, err := u.content(digest)
	if err != nil {
		return model.File{}, err
	}
	if err := a.lookFor(u.row.ClientID, u.row.FileName, u.row.Size, digest); err != nil {
		return model.File{}, err
	}
	l, err := a.seal(id, u.row.Size, model.Sums{BLAKE3: digest})
	defer l.end()
	if err != nil && a.limits.Shared && !errors.Is(err, model.ErrNoUpload) {
		return model.File{}, errors.Join(err, u.part.Close()) // what is recorded is sound, and perhaps in other hands
	}
	if err != nil {
		return model.File{}, errors.Join(err, a.giveUp(u.part, id))
	}
	sealed := u.row
	sealed.Digest = digest
	if err := a.labelPart(u.part, sealed); err != nil {
		return model.File{}, errors.Join(err, u.part.Close(), a.drop(id, l))
	}
	if err := u.part.Seal(ctx, u.row.Size, marks); a.mayPass(err) {
		return model.File{}, errors.Join(err, u.part.Close())
	} else if err != nil {
		return model.File{}, errors.Join(err, u.part.Close(), a.drop(id, l))
	}
	if err := a.pass(ctx, sealed); err != nil {
		return model.File{}, a.stopped(ctx, sealed, err)
	}
	file, err := a.commit(u.row, treeOf(u.chunkSize, hashes), l)
	if isRefused(err) {
		return model.File{}, errors.Join(err, a.drop(id, l))
	}
	return file, err
}

// treeOf is what the catalogue keeps of two or more chunks.
func treeOf(chunkSize int64, hashes []tree.Hash) *model.Tree {
	if len(hashes) < 2 {
		return nil
	}
	t := &model.Tree{ChunkSize: chunkSize, Hashes: make([]byte, 0, len(hashes)*len(tree.Hash{}))}
	for _, h := range hashes {
		t.Hashes = append(t.Hashes, h[:]...)
	}
	return t
}

// Detach ends an owner's part in the upload: chunks that it has not finished are
// forgotten. After the last owner what is written is made durable and stays, to
// be resumed; of an upload that failed or is over nothing stays. Every block that
// the owner claimed must have been written or dropped.
func (u *Upload) Detach(owner Owner) {
	u.mu.Lock()
	if !u.owners[owner] {
		u.mu.Unlock()
		return
	}
	delete(u.owners, owner)
	u.mu.Unlock()
	u.forget(owner)
	u.mu.Lock()
	last := len(u.owners) == 0 && !u.ended
	u.ended = u.ended || last
	sealed, failed := u.sealed, u.err
	u.mu.Unlock()
	if last {
		u.close(sealed, failed)
	}
}

// forget empties the chunks that an owner has begun and not finished.
func (u *Upload) forget(owner Owner) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.chunks {
		if c := &u.chunks[i]; c.state == filling && c.owner == owner {
			u.chunks[i] = chunk{}
			u.part.Forget(i)
		}
	}
}

// close ends an upload that nobody has open any more.
func (u *Upload) close(sealed bool, failed error) {
	close(u.done)
	u.gone.Wait()
	a := u.archive
	defer func() {
		a.liveMu.Lock()
		defer a.liveMu.Unlock()
		delete(a.live, u.row.ID)
		if sealed || failed != nil {
			delete(a.proven, u.row.ID)
		}
	}()
	if sealed {
		return
	}
	if failed == nil {
		failed = u.makeDurable(true)
	}
	var err error
	if failed == nil {
		err = u.part.Close()
	} else if a.limits.Shared && !errors.Is(failed, ErrOfferAgain) && !errors.Is(failed, storage.ErrGone) {
		err = errors.Join(failed, u.part.Close()) // what is recorded is sound, and perhaps in other hands
	} else {
		err = a.giveUp(u.part, u.row.ID)
		if !errors.Is(failed, ErrOfferAgain) {
			err = errors.Join(failed, err)
		}
	}
	if err != nil {
		a.log.Error("interrupted upload", "file", wire.Printable(u.row.FileName), "error", err)
	}
}

// Discard forgets the upload and all its bytes. Its owners must still Detach.
func (u *Upload) Discard() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil && !u.sealed {
		u.err = ErrOfferAgain
	}
}

// resume opens an interrupted upload, if there is one. Of several the newest is
// taken and the others are removed.
func (a *Archive) resume(ctx context.Context, want model.Upload, owner Owner, w Watcher) (*Upload, map[int]tree.Hash, error) {
	rows, err := a.Catalogue.OpenUploads(want.ClientID, want.FileName)
	if err != nil {
		return nil, nil, err
	}
	var taken *Upload
	var held map[int]tree.Hash
	for _, row := range rows {
		if !a.take(row.ID) {
			continue // a session has it open
		}
		if taken == nil && row.Size == want.Size && a.takesChunks(row.Size, row.ChunkSize) {
			row.ModTime, row.Mode = want.ModTime, want.Mode
			taken, held, err = a.reopen(ctx, row, owner, w)
			if err == nil {
				continue
			}
			if !errors.Is(err, storage.ErrGone) && !errors.Is(err, model.ErrNoUpload) {
				a.release(row.ID)
				return nil, nil, err
			}
			taken = nil
		} else if a.limits.Shared && a.now().Sub(row.TouchedAt.Time) < othersStall {
			a.release(row.ID)
			continue // another process may have it open
		}
		if err := a.expire(row); err != nil {
			return nil, nil, err
		}
	}
	return taken, held, nil
}

// take marks an interrupted upload as open; it reports whether nobody else has.
func (a *Archive) take(id model.ID) bool {
	a.liveMu.Lock()
	defer a.liveMu.Unlock()
	if _, open := a.live[id]; open {
		return false
	}
	a.live[id] = nil // for Attach it is not there yet
	return true
}

func (a *Archive) release(id model.ID) {
	a.liveMu.Lock()
	defer a.liveMu.Unlock()
	delete(a.live, id)
}

// expire removes an interrupted upload that take has taken.
func (a *Archive) expire(row model.Upload) error {
	defer a.release(row.ID)
	a.liveMu.Lock()
	delete(a.proven, row.ID)
	a.liveMu.Unlock()
	if err := a.forget(row.ID); err != nil {
		return fmt.Errorf("remove interrupted upload %q: %w", row.FileName, err)
	}
	return nil
}

// reopen opens an interrupted upload and finds out what of it is held. What a dead
// process wrote is synced and hashed before it is trusted.
func (a *Archive) reopen(ctx context.Context, row model.Upload, owner Owner, w Watcher) (*Upload, map[int]tree.Hash, error) {
	if err := a.Catalogue.Resume(row); err != nil {
		return nil, nil, err
	}
	// Before the store is asked: what a row says is there by then.
	rows, err := a.Catalogue.Chunks(row.ID)
	if err != nil {
		return nil, nil, err
	}
	if a.limits.Shared {
		now, ok, err := a.Catalogue.Upload(row.ID)
		if err == nil && !ok {
			err = model.ErrNoUpload
		}
		if err != nil {
			return nil, nil, err
		}
		row.Token = now.Token // the first chunk may have come since row was read
	}
	part, err := a.store.ResumeBlocks(storage.For(ctx, row.ClientID.String()), row.ID.String(), row.Token, row.Size, row.ChunkSize)
	if err != nil {
		return nil, nil, err
	}
	a.liveMu.Lock()
	proven := a.proven[row.ID]
	a.liveMu.Unlock()
	u := a.newUpload(row, part, owner, w)
	held := make(map[int]tree.Hash, len(rows))
	var lost []int64
	for _, r := range rows {
		i := int(r.Number)
		if err := ctx.Err(); err != nil {
			u.Detach(owner)
			return nil, nil, err
		}
		if i >= len(u.chunks) {
			continue
		}
		if !proven || a.limits.Shared {
			holds, err := part.Holds(i, r.Mark, u.proves(i, r.Hash))
			if err != nil && a.limits.Shared {
				u.Detach(owner)
				return nil, nil, err
			}
			if err != nil || !holds {
				lost = append(lost, r.Number)
				continue
			}
		}
		held[i] = tree.Hash(r.Hash)
		u.chunks[i] = chunk{state: durable, hash: tree.Hash(r.Hash), mark: r.Mark}
		u.held += u.length(i)
	}
	if err := a.Catalogue.ReleaseChunks(row.ID, lost); err != nil {
		u.Detach(owner)
		return nil, nil, err
	}
	a.liveMu.Lock()
	a.live[row.ID], a.proven[row.ID] = u, true
	a.liveMu.Unlock()
	return u, held, nil
}

var errOtherHash = errors.New("chunk has another hash than was recorded")

// proves returns a function that reads chunk i and fails unless it has this hash.
func (u *Upload) proves(i int, want model.Hash) func(io.Reader) error {
	return func(content io.Reader) error {
		b := storage.NewBlock()
		defer storage.FreeBlock(b)
		var h tree.Hasher
		h.Reset(int64(i)*u.chunkSize, len(u.chunks) == 1)
		// The reader alone, lest io.CopyBuffer finds a way round the buffer.
		n, err := io.CopyBuffer(struct{ io.Writer }{&h}, struct{ io.Reader }{content}, *b)
		if err == nil && (n != u.length(i) || model.Hash(h.Sum()) != want) {
			err = errOtherHash
		}
		return err
	}
}

// Copy takes chunks from the verified version that stands under the name. They
// are hashed like what is received. It returns ErrBlock for chunks that are not
// there or have come already.
func (u *Upload) Copy(ctx context.Context, from *Earlier, chunks []int) error {
	if from == nil || from.ChunkSize != u.chunkSize {
		return fmt.Errorf("%w: there is nothing to copy from", ErrBlock)
	}
	object, err := u.archive.store.Open(from.object.String())
	if err != nil {
		return fmt.Errorf("open the version before: %w", err)
	}
	defer object.Close()
	defer u.forget(u) // of a chunk that could not be read to its end
	for _, i := range chunks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i < 0 || i >= len(u.chunks) || int64(i)*u.chunkSize+u.length(i) > from.Size {
			return fmt.Errorf("%w: chunk %d is not in both versions", ErrBlock, i)
		}
		start := int64(i) * u.chunkSize
		for off, end := start, start+u.length(i); off < end; {
			n := int(min(int64(storage.BlockSize), end-off))
			if err := u.copyBlock(object, off, n); err != nil {
				return err
			}
			off += int64(n)
		}
	}
	return nil
}

func (u *Upload) copyBlock(object storage.Reader, off int64, n int) error {
	if err := u.Claim(u, uint64(off), n); err != nil {
		return err
	}
	b := storage.NewBlock()
	defer storage.FreeBlock(b)
	if _, err := object.ReadAt((*b)[:n], off); err != nil {
		u.Drop()
		return fmt.Errorf("read the version before: %w", err)
	}
	u.Hash((*b)[:n], off)
	u.Write(b, n, off)
	return nil
}
