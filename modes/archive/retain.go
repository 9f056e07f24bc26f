package archive

import (
	"context"
	"errors"
	"time"

	"fenc/model"
	"fenc/wire"
)

// retain removes what has been here for as long as it should: files, earlier
// versions of them, and uploads that do not get on. Each gets a line in the log. When
// ctx ends, what is left waits for the next server.
func (a *Archive) retain(ctx context.Context) error {
	return errors.Join(a.expireFiles(ctx), a.dropVersions(ctx), a.expirePartials(ctx))
}

// expireFiles removes files whose time is over, and earlier versions.
func (a *Archive) expireFiles(ctx context.Context) error {
	for ctx.Err() == nil {
		files, versions, err := a.Catalogue.Expired(a.policy.Load().Retention, filesAtOnce)
		if err != nil {
			return err
		}
		if err := a.forgetVersions(versions, "expired"); err != nil {
			return err
		}
		gone, err := a.expireSome(files)
		if err != nil {
			return err
		}
		if gone == 0 && len(versions) == 0 {
			return nil
		}
	}
	return nil
}

// expireSome takes files out of the tree, durably, before the catalogue forgets
// them: what the catalogue does not know is nobody's to remove.
func (a *Archive) expireSome(files []model.File) (gone int, err error) {
	paths := make([]string, 0, len(files))
	for _, f := range files {
		hidden, err := a.hide(f)
		if err != nil {
			return 0, err
		}
		if hidden {
			paths = append(paths, f.FilePath)
		}
	}
	if len(paths) > 0 {
		if err := a.folder.SyncTree(paths...); err != nil {
			return 0, err
		}
	}
	removed, err := a.Catalogue.Expire(files)
	if err != nil {
		return 0, err
	}
	for i, f := range files {
		if !removed[i] {
			continue
		}
		gone++
		a.log.Info("file expired", "client", wire.Printable(f.Client.Name), "file", wire.Printable(f.FileName), "bytes", f.Size,
			"received", f.ReceivedAt.Time, "expire_after", f.Client.Retention(a.policy.Load().Retention).ExpireAfter)
	}
	return gone, nil
}

// hide takes a file out of the tree, unless it has been replaced meanwhile.
func (a *Archive) hide(f model.File) (bool, error) {
	defer a.lockView(f)()
	a.folders.Lock()
	defer a.folders.Unlock()
	now, ok, err := a.Catalogue.File(f.ClientID, f.FileName)
	if err != nil || !ok || now.Change != f.Change {
		return false, err
	}
	if f.Pack != nil || a.folder == nil {
		return false, nil // not shown yet, or never
	}
	return true, a.folder.Hide(f.Object.String(), f.FilePath)
}

// dropVersions removes earlier versions beyond those that are kept.
func (a *Archive) dropVersions(ctx context.Context) error {
	for ctx.Err() == nil {
		versions, err := a.Catalogue.Excess(a.policy.Load().Retention, filesAtOnce)
		if err != nil || len(versions) == 0 {
			return err
		}
		if err := a.forgetVersions(versions, "replaced"); err != nil {
			return err
		}
	}
	return nil
}

func (a *Archive) forgetVersions(versions []model.File, reason string) error {
	if len(versions) == 0 {
		return nil
	}
	if err := a.Catalogue.DropVersions(versions); err != nil {
		return err
	}
	for _, v := range versions {
		a.log.Info("earlier version removed", "client", wire.Printable(v.Client.Name), "file", wire.Printable(v.FileName), "version", v.Version,
			"bytes", v.Size, "received", v.ReceivedAt.Time, "reason", reason)
	}
	return nil
}

// expirePartials removes open uploads that have not got on for as long as they wait.
func (a *Archive) expirePartials(ctx context.Context) error {
	rows, err := a.Catalogue.Stalled(a.policy.Load().Retention, filesAtOnce)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if ctx.Err() != nil {
			return nil
		}
		if !a.take(row.ID) {
			continue
		}
		if err := a.expire(row); err != nil {
			return err
		}
		a.log.Info("interrupted upload expired", "client", wire.Printable(row.Client.Name), "file", wire.Printable(row.FileName), "bytes", row.Size,
			"idle", a.now().Sub(row.TouchedAt.Time).Round(time.Second), "keep_partial", row.Client.Retention(a.policy.Load().Retention).KeepPartial)
	}
	return nil
}
