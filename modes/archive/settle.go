package archive

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
	"fenc/wire/v4/tree"
)

const (
	garbageGrace  = 10 * time.Minute // longer than any read of a replaced object
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
	sealed, err := a.Catalogue.Uploads(model.UploadSealing)
	if err != nil {
		return err
	}
	for _, u := range sealed {
		if err := a.complete(u); err != nil {
			return fmt.Errorf("complete %q of client %q: %w", u.FileName, u.Client.Name, err)
		}
	}
	open, err := a.Catalogue.Uploads(model.UploadOpen)
	if err != nil {
		return err
	}
	resumable := make(map[string]bool)
	for _, u := range open {
		if u.Protocol >= 4 {
			resumable[u.ID.String()] = true
			continue
		}
		if err := errors.Join(a.store.Remove(u.ID.String()), a.Catalogue.Abandon(u.ID)); err != nil {
			return fmt.Errorf("remove unverified %q of client %q: %w", u.FileName, u.Client.Name, err)
		}
		a.log.Info("unverified upload removed", "client", wire.Printable(u.Client.Name), "file", wire.Printable(u.FileName), "started", u.StartedAt.Time)
	}
	// Every row is settled: what is left among the uploads is of no one.
	strays, err := a.store.Parts()
	if err != nil {
		return err
	}
	strays = slices.DeleteFunc(strays, func(name string) bool { return resumable[name] })
	if err := a.store.RemoveParts(strays...); err != nil {
		return err
	}
	return a.review()
}

// complete takes a verified upload from its seal to its view.
func (a *Archive) complete(u model.Upload) error {
	if f, ok := a.Catalogue.File(u.ClientID, u.FileName); ok && f.ReceivedAt.After(u.StartedAt.Time) {
		// Its sender was never told that it is kept, and the name has been written since.
		a.log.Warn("interrupted upload removed: the file has been replaced since", "client", wire.Printable(u.Client.Name), "file", wire.Printable(u.FileName))
		return a.drop(u.ID)
	}
	key := u.ID.String()
	var hashes *model.Tree
	err := a.store.Settle(key, u.Size, func(content io.Reader) (err error) {
		if u.Protocol >= 4 {
			hashes, err = proveDigest(content, u)
		} else {
			err = proveChecksum(content, u)
		}
		return err
	})
	if errors.Is(err, storage.ErrGone) {
		// Not answered yet, so not promised: its sender will send again.
		a.log.Warn("interrupted upload removed: its content did not reach the disk", "client", wire.Printable(u.Client.Name), "file", wire.Printable(u.FileName))
		return a.drop(u.ID)
	}
	if err != nil {
		return err
	}
	if err := a.store.SetLabel(key, a.Catalogue.LabelUpload(u).Encode()); err != nil {
		return err
	}
	_, err = a.commit(u, hashes)
	if errors.Is(err, model.ErrPathTaken) || errors.Is(err, model.ErrNoReplace) || errors.Is(err, model.ErrRevoked) {
		return a.drop(u.ID)
	}
	if err != nil {
		return err
	}
	a.log.Info("interrupted upload completed", "client", wire.Printable(u.Client.Name), "file", wire.Printable(u.FileName), "bytes", u.Size)
	return nil
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

// expirePartials removes open uploads that have not got on for KeepPartial.
func (a *Archive) expirePartials() error {
	if a.KeepPartial <= 0 {
		return nil
	}
	rows, err := a.Catalogue.Untouched(a.now().Add(-a.KeepPartial), filesAtOnce)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if !a.take(row.ID) {
			continue
		}
		if err := a.expire(row); err != nil {
			return err
		}
		a.log.Info("interrupted upload expired", "client", wire.Printable(row.Client.Name), "file", wire.Printable(row.FileName), "bytes", row.Size, "keep_partial", a.KeepPartial)
	}
	return nil
}

// review looks at the files committed since catalogue and storage last agreed:
// the object must be there, and the tree must show it.
func (a *Archive) review() error {
	after, err := a.Catalogue.Settled()
	if err != nil {
		return err
	}
	for {
		files, err := a.Catalogue.FilesSince(after, filesAtOnce)
		if err != nil {
			return err
		}
		if len(files) == 0 {
			return a.markSettled()
		}
		for _, f := range files {
			after = f.Change
			if f.Pack != nil {
				continue // looked at when it is unpacked
			}
			has, err := a.store.Has(f.Object.String(), f.Size)
			if err != nil {
				return fmt.Errorf("look for the content of %s: %w", f.FilePath, err)
			}
			if has {
				a.show(f)
				continue
			}
			a.log.Error("content of a verified file is missing", "path", wire.Printable(f.FilePath), "object", f.Object, "received", f.ReceivedAt.Time)
			if err := a.Catalogue.Lost(f); err != nil {
				return err
			}
		}
	}
}

// markSettled records the newest change that is shown as agreed, once the tree
// is durable.
func (a *Archive) markSettled() error {
	shown := a.shown()
	if a.owesView.Load() {
		return nil
	}
	after, err := a.Catalogue.Settled()
	if err != nil {
		return err
	}
	for {
		files, err := a.Catalogue.FilesSince(after, filesAtOnce)
		files = slices.DeleteFunc(files, func(f model.File) bool { return f.Change > shown })
		if err != nil || len(files) == 0 {
			return err
		}
		paths := make([]string, len(files))
		for i, f := range files {
			paths[i], after = f.FilePath, f.Change
		}
		if err := a.store.SyncTree(paths...); err != nil {
			return err
		}
		if err := a.Catalogue.SetSettled(after); err != nil {
			return err
		}
	}
}

// Run does what is due from time to time until ctx ends: carries last_seen to
// the database, removes garbage, records agreement, and probes a degraded
// storage.
func (a *Archive) Run(ctx context.Context) {
	seen, sweep, probe := time.NewTicker(seenEvery), time.NewTicker(sweepEvery), time.NewTicker(probeEvery)
	defer seen.Stop()
	defer sweep.Stop()
	defer probe.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-seen.C:
			err = errors.Join(a.Catalogue.FlushSeen(), a.noteRoster())
		case <-sweep.C:
			err = errors.Join(a.sweep(), a.expirePartials(), a.markSettled())
		case <-probe.C:
			a.Probe() // an error is the one that the storage is degraded by, again
		}
		if err != nil && ctx.Err() == nil {
			a.log.Error("upkeep of the catalogue", "error", err)
		}
	}
}

// sweep removes garbage whose grace is over.
func (a *Archive) sweep() error {
	objects, err := a.Catalogue.GarbageBefore(a.now().Add(-garbageGrace), garbageAtOnce)
	if err != nil || len(objects) == 0 {
		return err
	}
	keys := make([]string, len(objects))
	for i, o := range objects {
		keys[i] = o.String()
	}
	if err := a.store.Purge(keys...); err != nil {
		return err
	}
	return a.Catalogue.Removed(objects)
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
