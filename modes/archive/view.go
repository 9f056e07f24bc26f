package archive

import (
	"fmt"
	"hash/fnv"
	"slices"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
)

// What people see in the storage's folder: the tree and the labels of objects. A
// store that is no folder has neither.

// labelUpload is the label of an upload that is about to be sealed; empty where the
// store keeps none.
func (a *Archive) labelUpload(u model.Upload) (model.Label, error) {
	if a.folder == nil {
		return model.Label{}, nil
	}
	return a.Catalogue.LabelUpload(u)
}

// labelText is the text of that label; nil where the store keeps none.
func (a *Archive) labelText(u model.Upload) ([]byte, error) {
	label, err := a.labelUpload(u)
	if err != nil || a.folder == nil {
		return nil, err
	}
	return label.Encode(), nil
}

// labelObject labels the object of an interrupted upload.
func (a *Archive) labelObject(u model.Upload) error {
	text, err := a.labelText(u)
	if err != nil || text == nil {
		return err
	}
	return a.folder.SetLabel(u.ID.String(), text)
}

// labelPart labels an upload that is about to be sealed.
func (a *Archive) labelPart(part storage.Partial, sealed model.Upload) error {
	text, err := a.labelText(sealed)
	if err != nil || text == nil {
		return err
	}
	return part.SetLabel(text)
}

// relabel corrects the label of a file that got another path than was expected.
// The label matters only to a catalogue that is lost: an error is logged.
func (a *Archive) relabel(f model.File, expected model.Label) {
	if a.folder == nil {
		return
	}
	label, err := a.Catalogue.LabelFile(f)
	if err == nil {
		if label.Path == expected.Path {
			return
		}
		err = a.folder.SetLabel(f.Object.String(), label.Encode())
	}
	if err != nil {
		a.log.Warn("file keeps the label of another path", "path", wire.Printable(f.FilePath), "error", err)
	}
}

// beginCommit notes that a change is about to be made whose view comes later.
func (a *Archive) beginCommit(id model.ID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unshown[id] = a.newest
}

// endCommit notes that the change is shown.
func (a *Archive) endCommit(id model.ID, change int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.unshown, id)
	a.newest = max(a.newest, change)
}

// shown returns the newest change up to which no view is still to come.
func (a *Archive) shown() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	newest := a.newest
	for _, before := range a.unshown {
		newest = min(newest, before)
	}
	return newest
}

// show puts the file into the tree. The file is verified whether or not that
// works: what fails is logged, and made up for at the next start. What is in a pack is
// shown when it is unpacked.
func (a *Archive) show(f model.File) {
	if f.Pack != nil || a.folder == nil {
		return
	}
	defer a.lockView(f)()
	a.folders.RLock()
	defer a.folders.RUnlock()
	// Another change of the same name may have come between: show the newest.
	newest, ok, err := a.Catalogue.File(f.ClientID, f.FileName)
	if err == nil {
		if !ok {
			return
		}
		if newest.Change > f.Change {
			f = newest
		}
		if f.Pack != nil {
			return
		}
		err = a.folder.Show(f.Object.String(), f.FilePath)
	}
	if err != nil {
		a.owesView.Store(true)
		a.log.Error("verified file is not shown in the storage's tree", "path", wire.Printable(f.FilePath), "object", f.Object, "error", err)
	}
}

// lockView keeps others from changing what the tree has at the file's path until
// the function that it returns is called.
func (a *Archive) lockView(f model.File) (unlock func()) {
	h := fnv.New32a()
	h.Write([]byte(f.PathKey))
	view := &a.views[h.Sum32()%uint32(len(a.views))]
	view.Lock()
	return view.Unlock
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
			if !f.Verified {
				continue // known to be lost
			}
			if err := a.Lost(f); err != nil {
				return err
			}
		}
	}
}

// markSettled records the newest change that is shown as agreed, once the tree
// is durable.
func (a *Archive) markSettled() error {
	if a.folder == nil {
		return nil
	}
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
		if err := a.folder.SyncTree(paths...); err != nil {
			return err
		}
		if err := a.Catalogue.SetSettled(after); err != nil {
			return err
		}
	}
}
