package archive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"fenc/model"
	"fenc/wire"
	"fenc/wire/v4/tree"
)

// What several processes need that keep files in one store and one catalogue. No
// lock is held while an upload's chunks come, by whatever process: each chunk's row
// has the hash and the mark that the process which took it computed from the same
// bytes, and only who completes the upload leases it.

const (
	leaseFor     = 20 * time.Second // after which another process completes what this one was about to
	orphansEvery = 5 * time.Second  // how soon it does
	// chunksComeFor is how long a finish waits for the rows of chunks that have come to
	// other processes, which record them every holdMarked.
	chunksComeFor = 10 * holdMarked
	chunksLook    = 100 * time.Millisecond
	// othersStall is how long an upload must not have got on before it is taken for
	// nobody's.
	othersStall = time.Minute
	// streamsLast is how long an upload of protocol 3 may be under way: nothing says
	// meanwhile that it is.
	streamsLast = 24 * time.Hour
)

// lease is an upload that this process alone completes.
type lease struct {
	epoch int64 // 0: where no other process could
	stop  context.CancelFunc
	done  *sync.WaitGroup
}

// lease takes an upload, to complete it, and keeps it until its end is called. It
// returns model.ErrLeased where another process completes it, model.ErrNoUpload where
// it is over.
func (a *Archive) lease(id model.ID) (lease, error) {
	if !a.limits.Shared {
		return lease{}, nil
	}
	epoch, err := a.Catalogue.Lease(id, leaseFor)
	if err != nil {
		return lease{}, err
	}
	ctx, stop := context.WithCancel(context.Background())
	l := lease{epoch: epoch, stop: stop, done: new(sync.WaitGroup)}
	l.done.Go(func() {
		tick := time.NewTicker(leaseFor / 5)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				// A lease that has passed on is noticed by whoever commits.
				if err := a.Catalogue.Renew(id, epoch, leaseFor); errors.Is(err, model.ErrNoUpload) {
					return
				}
			}
		}
	})
	return l, nil
}

// seal leases an upload whose sender has verified it, and records that. The lease is
// to be ended whatever the error.
func (a *Archive) seal(id model.ID, size int64, sums model.Sums) (lease, error) {
	l, err := a.lease(id)
	if err == nil {
		err = a.Catalogue.Seal(id, size, sums, l.epoch)
	}
	return l, err
}

func (l lease) end() {
	if l.stop != nil {
		l.stop()
		l.done.Wait()
	}
}

// runAdopt adopts from time to time until ctx ends. It may take long, and nothing else
// waits for it.
func (a *Archive) runAdopt(ctx context.Context) {
	tick := time.NewTicker(orphansEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.adopt(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("uploads that nobody completes stay for now", "error", err)
		}
	}
}

// sealed lists sealed uploads that no process completes.
func (a *Archive) sealed() (sealed []model.Upload, err error) {
	if a.limits.Shared {
		return a.Catalogue.SealingUnleased(garbageAtOnce)
	}
	a.liveMu.Lock()
	stuck := slices.Collect(maps.Keys(a.stuck))
	a.liveMu.Unlock()
	for _, id := range stuck {
		u, ok, err := a.Catalogue.Upload(id)
		if err != nil {
			return nil, err
		}
		if ok && u.State == model.UploadSealing {
			owner, _, err := a.Catalogue.Client(u.ClientID)
			if err != nil {
				return nil, err
			}
			u.Client = &owner
			sealed = append(sealed, u)
			continue
		}
		a.liveMu.Lock()
		delete(a.stuck, id)
		a.liveMu.Unlock()
	}
	return sealed, nil
}

// adopt completes sealed uploads that no process has, and forgets those of protocol 3
// that have been open for too long.
func (a *Archive) adopt(ctx context.Context) error {
	sealed, err := a.sealed()
	if err != nil {
		return err
	}
	var errs []error
	for _, u := range sealed {
		if err := a.complete(ctx, u); err != nil {
			errs = append(errs, fmt.Errorf("complete %q of client %q: %w", u.FileName, u.Client.Name, err))
		}
	}
	if !a.limits.Shared {
		return errors.Join(errs...) // an open upload is this process's
	}
	streams, err := a.Catalogue.OpenStreams(a.now().Add(-streamsLast), garbageAtOnce)
	errs = append(errs, err)
	for _, u := range streams {
		errs = append(errs, a.forget(u.ID))
		a.log.Info("unverified upload removed", "client", wire.Printable(u.Client.Name), "file", wire.Printable(u.FileName), "started", u.StartedAt.Time)
	}
	return errors.Join(errs...)
}

// recorded returns the marks and hashes of a sealed upload's chunks as they were
// recorded; nil where they were not, or are not those of the digest.
func (a *Archive) recorded(u model.Upload) (marks []string, hashes *model.Tree, err error) {
	rows, err := a.Catalogue.Chunks(u.ID)
	if err != nil || len(rows) == 0 || len(rows) != tree.Chunks(u.Size, u.ChunkSize) {
		return nil, nil, err
	}
	all := make([]tree.Hash, len(rows))
	for i, r := range rows {
		all[i] = tree.Hash(r.Hash)
		marks = append(marks, r.Mark)
	}
	if model.Hash(tree.Root(all)) != u.Digest {
		return nil, nil, nil
	}
	return marks, treeOf(u.ChunkSize, all), nil
}

// chunkSize returns the size of chunks for a file of size bytes in this store.
func (a *Archive) chunkSize(size int64) int64 {
	chunk := max(tree.ChunkSize(size), a.limits.MinChunk)
	for tree.Chunks(size, chunk) > a.limits.MaxChunks {
		chunk *= 2
	}
	return chunk
}

// takesChunks reports whether the store takes a file of size bytes in chunks of this
// size.
func (a *Archive) takesChunks(size, chunk int64) bool {
	return tree.ValidChunkSize(size, chunk) && chunk >= a.limits.MinChunk && tree.Chunks(size, chunk) <= a.limits.MaxChunks
}

// attach opens an upload for a further connection that another process has open.
func (a *Archive) attach(ctx context.Context, id, client model.ID, owner Owner, w Watcher) (*Upload, error) {
	row, ok, err := a.Catalogue.Upload(id)
	if err != nil {
		return nil, err
	}
	if !ok || row.ClientID != client || row.State != model.UploadOpen || row.Protocol < 4 || !a.take(id) {
		return nil, ErrOfferAgain
	}
	u, _, err := a.reopen(ctx, row, owner, w)
	if err != nil {
		a.release(id)
	}
	return u, err
}

// gather takes over the chunks that other processes have recorded.
func (u *Upload) gather() error {
	rows, err := u.archive.Catalogue.Chunks(u.row.ID)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range rows {
		if i := int(r.Number); i < len(u.chunks) && u.chunks[i].state == empty {
			u.chunks[i] = chunk{state: durable, hash: tree.Hash(r.Hash), mark: r.Mark}
			u.held += u.length(i)
		}
	}
	return nil
}

// awaitOthers waits until every chunk is here or recorded by another process, for
// chunksComeFor at most.
func (u *Upload) awaitOthers(ctx context.Context) error {
	look := time.NewTicker(chunksLook)
	defer look.Stop()
	end := time.NewTimer(chunksComeFor)
	defer end.Stop()
	for u.lacks() {
		if err := u.gather(); err != nil {
			return err
		}
		if !u.lacks() {
			return nil
		}
		select {
		case <-look.C:
		case <-end.C:
			return nil
		case <-u.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// lacks reports whether a chunk is neither here nor recorded, of an upload that may
// still be finished.
func (u *Upload) lacks() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil || u.sealed || u.ended {
		return false
	}
	for i := range u.chunks { // by index: what else a chunk has is its owner's while it fills
		if u.chunks[i].state < written {
			return true
		}
	}
	return false
}

// content returns the hashes of all chunks of a sealed upload, and their marks where
// the store has any. It returns ErrOfferAgain unless all are recorded and have the
// digest: where chunks come again, they may do so until the seal.
func (u *Upload) content(digest model.Hash) (hashes []tree.Hash, marks []string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	hashes = make([]tree.Hash, len(u.chunks))
	for i := range u.chunks {
		c := &u.chunks[i]
		hashes[i] = c.hash
		if u.archive.limits.Marks {
			if c.state != durable {
				return nil, nil, ErrOfferAgain
			}
			marks = append(marks, c.mark)
		}
	}
	if model.Hash(tree.Root(hashes)) != digest {
		return nil, nil, ErrOfferAgain
	}
	return hashes, marks, nil
}
