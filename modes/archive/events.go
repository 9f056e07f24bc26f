package archive

import (
	"errors"

	"fenc/model"
	"fenc/model/storage"
)

// Shown reports whether the tree, if there is one, shows what an event is about: a file
// that has been verified, unless it has been replaced or removed since.
func (a *Archive) Shown(e model.Event) bool {
	f, ok, err := a.Catalogue.File(e.ClientID, e.FileName)
	if err != nil {
		return false
	}
	if !ok || f.Object != e.Object || e.Kind != model.EventVerified || a.folder == nil {
		return true
	}
	if f.Pack != nil {
		return false
	}
	shown, err := a.folder.Shows(f.Object.String(), f.FilePath)
	return shown || errors.Is(err, storage.ErrGone)
}
