package archive

import (
	"errors"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
)

// Retime is model.Catalogue.Retime of what the storage has: content that is lost is no
// reason to refuse the same content.
func (a *Archive) Retime(client model.ID, name string, size int64, digest model.Hash, modTime int64, mode uint32) (same bool, err error) {
	if err := a.lookFor(client, name, size, digest); err != nil {
		return false, err
	}
	return a.Catalogue.Retime(client, name, size, digest, modTime, mode)
}

// lookFor looks, before content of this size and digest is called unchanged, whether the
// storage has what stands under the name, and has the catalogue know if it has not.
func (a *Archive) lookFor(client model.ID, name string, size int64, digest model.Hash) error {
	f, ok, err := a.Catalogue.File(client, name)
	if err != nil || !ok || !f.Verified || f.Size != size || f.Digest != digest || digest.IsZero() {
		return err
	}
	has, err := a.has(f)
	if err != nil || has {
		return err
	}
	return a.Lost(f)
}

// has reports whether the storage has a file's content, by its size. Of buckets it asks
// nothing: none is missing because it is not mounted, and each answer would cost a request.
func (a *Archive) has(f model.File) (bool, error) {
	if a.folder == nil {
		return true, nil
	}
	if f.Pack == nil {
		return a.store.Has(f.Object.String(), f.Size)
	}
	content, err := a.OpenFile(f)
	if errors.Is(err, storage.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, content.Close()
}

// Lost has the catalogue know that the storage has lost a file's content, unless it has
// been replaced meanwhile, so that nobody is told that it is here.
func (a *Archive) Lost(f model.File) error {
	now, ok, err := a.Catalogue.File(f.ClientID, f.FileName)
	if err != nil || !ok || now.Object != f.Object || !now.Verified {
		return err
	}
	a.log.Error("content of a verified file is missing", "path", wire.Printable(f.FilePath), "object", f.Object, "received", f.ReceivedAt.Time)
	return a.Catalogue.Lost(now)
}
