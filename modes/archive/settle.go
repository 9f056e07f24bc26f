package archive

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
	"fenc/wire/v4/tree"
)

const (
	garbageGrace  = 10 * time.Minute // in which who reads a replaced object may open it
	sweepEvery    = time.Minute
	seenEvery     = 10 * time.Second // how old last_seen in the database may be
	probeEvery    = 2 * time.Second  // how soon a mended disk is noticed
	garbageAtOnce = 1000
	filesAtOnce   = 1000
)

// settle brings catalogue and storage to agreement after whatever ended the last
// process: verified uploads are completed, unverified ones removed, files
// committed since the last agreement looked at.
func (a *Archive) settle() error {
	if a.limits.Shared {
		return nil // other processes may be at work: Run takes up what nobody has
	}
	sealed, err := a.Catalogue.Uploads(model.UploadSealing)
	if err != nil {
		return err
	}
	resumable := make(map[string]bool)
	for _, u := range sealed {
		if a.gate != nil { // which may take long: Run does it
			a.ungated = append(a.ungated, u)
			resumable[u.ID.String()] = true
			continue
		}
		if err := a.complete(context.Background(), u); err != nil {
			return fmt.Errorf("complete %q of client %q: %w", u.FileName, u.Client.Name, err)
		}
	}
	open, err := a.Catalogue.Uploads(model.UploadOpen)
	if err != nil {
		return err
	}
	for _, u := range open {
		if u.Protocol >= 4 {
			resumable[u.ID.String()] = true
			continue
		}
		if err := a.forget(u.ID); err != nil {
			return fmt.Errorf("remove unverified %q of client %q: %w", u.FileName, u.Client.Name, err)
		}
		a.log.Info("unverified upload removed", "client", wire.Printable(u.Client.Name), "file", wire.Printable(u.FileName), "started", u.StartedAt.Time)
	}
	// Every row is settled: what is left among the uploads is of no one.
	strays, err := a.folder.Parts()
	if err != nil {
		return err
	}
	strays = slices.DeleteFunc(strays, func(name string) bool { return resumable[name] })
	if err := a.folder.RemoveParts(strays...); err != nil {
		return err
	}
	if err := a.removeUncommitted(); err != nil {
		return err
	}
	return a.review()
}

// removeUncommitted removes what the last process wrote under reserved ids and did
// not commit: whole as it may be, nobody was told that it is kept, and fenc check
// would take it for something that the catalogue has lost. What was replaced
// shortly before goes with it: its readers ended with the process.
func (a *Archive) removeUncommitted() error {
	distant := a.now().AddDate(100, 0, 0) // the clock may have been set back
	garbage, err := a.Catalogue.GarbageBefore(distant, math.MaxInt32)
	if err != nil {
		return err
	}
	slices.Reverse(garbage) // the newest first, for the sweep takes the rest in time
	var keys []string
	for _, id := range garbage {
		standing, err := a.folder.Standing(id.String())
		if err != nil {
			return err
		}
		if standing {
			keys = append(keys, id.String())
		}
		if len(keys) == garbageAtOnce {
			break
		}
	}
	return a.store.Purge(keys...)
}

// complete takes a verified upload from its seal to its view, through the gate. If
// ctx ends before the gate's word, the upload stays as it is.
func (a *Archive) complete(ctx context.Context, u model.Upload) error {
	l, err := a.lease(u.ID)
	if errors.Is(err, model.ErrLeased) || errors.Is(err, model.ErrNoUpload) {
		return nil // another process does it, or has done it
	}
	defer l.end()
	if err != nil {
		return err
	}
	owner, _, err := a.Catalogue.Client(u.ClientID)
	if err != nil {
		return err
	}
	f, ok, err := a.Catalogue.File(u.ClientID, u.FileName)
	if err != nil {
		return err
	}
	if ok && f.ReceivedAt.After(u.StartedAt.Time) {
		// Its sender was never told that it is kept, and the name has been written since.
		a.log.Warn("interrupted upload removed: the file has been replaced since", "client", wire.Printable(owner.Name), "file", wire.Printable(u.FileName))
		return a.drop(u.ID, l)
	}
	hashes, err := a.settleContent(ctx, u)
	if errors.Is(err, storage.ErrGone) {
		// Not answered yet, so not promised: its sender will send again.
		a.log.Warn("interrupted upload removed: its content did not reach the disk", "client", wire.Printable(owner.Name), "file", wire.Printable(u.FileName))
		return a.drop(u.ID, l)
	}
	if err != nil {
		return err
	}
	if err := a.labelObject(u); err != nil {
		return err
	}
	if err := a.pass(ctx, u); ctx.Err() != nil {
		return err
	} else if err != nil {
		dropped := a.drop(u.ID, l)
		a.log.Warn("interrupted upload removed: its sender was not told that it is kept, and sends again", "client", wire.Printable(owner.Name), "file", wire.Printable(u.FileName), "reason", err)
		return dropped
	}
	_, err = a.commitBy(a.Catalogue.CommitInterrupted, u, hashes, l)
	if isRefused(err) || errors.Is(err, model.ErrOlder) {
		dropped := a.drop(u.ID, l)
		a.log.Warn("interrupted upload removed", "client", wire.Printable(owner.Name), "file", wire.Printable(u.FileName), "reason", err)
		return dropped
	}
	if err != nil {
		return err
	}
	a.log.Info("interrupted upload completed", "client", wire.Printable(owner.Name), "file", wire.Printable(u.FileName), "bytes", u.Size)
	return nil
}

// settleContent makes the content of a sealed upload an object, and returns the hashes
// of its chunks. It returns storage.ErrGone where the content is not whole.
func (a *Archive) settleContent(ctx context.Context, u model.Upload) (hashes *model.Tree, err error) {
	sealed := storage.Sealed{Key: u.ID.String(), Token: u.Token, Size: u.Size, Chunk: u.ChunkSize}
	if a.limits.Marks && u.Protocol >= 4 {
		if sealed.Marks, hashes, err = a.recorded(u); err != nil {
			return nil, err
		}
	}
	err = a.store.Settle(ctx, sealed, func(content io.Reader) (err error) {
		if u.Protocol >= 4 {
			hashes, err = proveDigest(content, u)
		} else {
			err = proveChecksum(content, u)
		}
		return err
	})
	return hashes, err
}

// proveChecksum returns storage.ErrGone unless the content has the upload's CRC-32.
func proveChecksum(content io.Reader, u model.Upload) error {
	sum := crc32.NewIEEE()
	if _, err := io.Copy(sum, content); err != nil {
		return err
	}
	if sum.Sum32() != u.Checksum {
		return storage.ErrGone
	}
	return nil
}

// proveDigest returns the hashes of the content's chunks, and storage.ErrGone
// unless it has the upload's BLAKE3 digest.
func proveDigest(content io.Reader, u model.Upload) (*model.Tree, error) {
	hashes := make([]tree.Hash, tree.Chunks(u.Size, u.ChunkSize))
	for i := range hashes {
		var h tree.Hasher
		start := int64(i) * u.ChunkSize
		h.Reset(start, len(hashes) == 1)
		if _, err := io.CopyN(&h, content, min(u.ChunkSize, u.Size-start)); err != nil {
			return nil, err
		}
		hashes[i] = h.Sum()
	}
	if model.Hash(tree.Root(hashes)) != u.Digest {
		return nil, storage.ErrGone
	}
	return treeOf(u.ChunkSize, hashes), nil
}

// Run does what is due from time to time until ctx ends: carries last_seen to
// the database, removes garbage and what has been here for as long as the policy
// says, records agreement, and probes a degraded storage.
func (a *Archive) Run(ctx context.Context) {
	var gated sync.WaitGroup
	defer gated.Wait()
	gated.Go(func() { a.runGate(ctx) })
	gated.Go(func() { a.runAdopt(ctx) })
	// The first sweep is at once: a server that something ends every minute would have none.
	// What expires does so later: the clock may not have been set yet, and clients are to
	// come back to their uploads first.
	starting := true
	seen, sweep, probe := time.NewTicker(seenEvery), time.NewTimer(0), time.NewTicker(probeEvery)
	packs := time.NewTicker(repackEvery)
	defer packs.Stop()
	defer seen.Stop()
	defer sweep.Stop()
	defer probe.Stop()
	for ctx.Err() == nil { // of two cases that are ready, select takes any
		var err error
		select {
		case <-ctx.Done():
			return
		case <-seen.C:
			err = errors.Join(a.Catalogue.FlushSeen(), a.noteRoster())
		case <-sweep.C:
			if !starting {
				err = a.retain(ctx)
			}
			if ctx.Err() != nil {
				return // markSettled is Close's as well
			}
			more, failed := a.sweepSome()
			err = errors.Join(err, failed, a.markSettled())
			if more {
				sweep.Reset(0) // what else is due has its turn between
			} else {
				sweep.Reset(sweepEvery)
				starting = false
			}
		case <-packs.C:
			err = a.repack()
		case <-probe.C:
			a.Probe() // an error is the one that the storage is degraded by, again
		}
		if err != nil && ctx.Err() == nil {
			a.log.Error("upkeep of the catalogue", "error", err)
		}
	}
}

// sweepSome removes garbage whose grace is over. more is whether there is more than it
// removes at once.
func (a *Archive) sweepSome() (more bool, err error) {
	objects, err := a.Catalogue.GarbageBefore(a.now().Add(-garbageGrace), garbageAtOnce)
	if err != nil || len(objects) == 0 {
		return false, err
	}
	more = len(objects) == garbageAtOnce
	keys := make([]string, len(objects))
	for i, o := range objects {
		keys[i] = o.String()
	}
	if !a.limits.Shared {
		if err := a.store.Purge(keys...); err != nil {
			return false, err
		}
		return more, a.Catalogue.Removed(objects)
	}
	// An upload that was given up may be open still. What cannot be removed is not to
	// keep the rest.
	var failed []model.ID
	err = a.store.Remove(keys...)
	if err != nil {
		err = nil
		for i, key := range keys {
			if one := a.store.Remove(key); one != nil {
				failed, err = append(failed, objects[i]), one
			}
		}
	}
	gone := slices.DeleteFunc(objects, func(id model.ID) bool { return slices.Contains(failed, id) })
	return more && err == nil, errors.Join(err, a.Catalogue.Removed(gone), a.Catalogue.Delay(failed))
}

// Probe asks a degraded storage whether it works again. It returns nil where it
// does.
func (a *Archive) Probe() error {
	if a.store.Degraded() == nil {
		return nil
	}
	if err := a.store.Probe(); err != nil {
		return err
	}
	a.log.Info("storage works again")
	return nil
}
