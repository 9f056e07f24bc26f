package archive

import (
	"context"
	"errors"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
)

const (
	repackEvery = 10 * time.Minute
	packsAtATry = 100 // packs that are looked at then
)

// repack gives what is left of packs that are less than half needed a pack of its own,
// where small files stay in packs. The old ones turn to garbage. Several processes may
// do so at once: the second to move a file finds it moved.
func (a *Archive) repack() error {
	if !a.limits.PackAll {
		return nil
	}
	// Not the newest: what replaces their files may be on its way.
	sparse, err := a.Catalogue.SparsePacks(a.now().Add(-repackEvery), packsAtATry)
	errs := []error{err}
	for _, pack := range sparse {
		errs = append(errs, a.movePack(pack))
	}
	return errors.Join(append(errs, a.Catalogue.DropEmptyPacks())...)
}

func (a *Archive) movePack(pack model.ID) error {
	files, err := a.Catalogue.InPack(pack)
	if err != nil || len(files) == 0 {
		return err
	}
	ids, err := a.reserved(1)
	if err != nil {
		return err
	}
	object, err := a.store.Open(pack.String())
	if errors.Is(err, storage.ErrGone) {
		a.lostPack(files[0], pack)
		return nil
	}
	if err != nil {
		return err
	}
	defer object.Close()
	moved := storage.Small{Key: ids[0].String()}
	offsets := make([]int64, len(files))
	off := int64(0)
	for i, f := range files {
		data, err := readPacked(object, f)
		if errors.Is(err, storage.ErrGone) {
			a.lostPack(f, pack)
			return nil
		}
		if err != nil {
			return err
		}
		moved.Data = append(moved.Data, data)
		offsets[i] = off
		off += f.Size
	}
	if err := a.store.PutAll(context.Background(), moved); err != nil {
		return err
	}
	return a.Catalogue.Repack(files, ids[0], offsets)
}

// lostPack tells of content that cannot be moved. It is left where it is: fenc check
// says what can be done.
func (a *Archive) lostPack(f model.File, pack model.ID) {
	a.log.Error("content of a verified file is missing", "path", wire.Printable(f.FilePath), "pack", pack)
}
