package check

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"fenc/model"
	"fenc/model/storage"
)

// inHand is how long ago an id may have been reserved that a running server still
// writes under; it reserves them among what is to be removed.
const inHand = 10 * time.Minute

// objects looks for content that no row of the catalogue names.
func (r *run) objects() error {
	known, err := r.catalogue.Objects() // read first: a row comes before its object
	if err != nil {
		return err
	}
	var strays []storage.Listed
	err = r.store.Objects(func(o storage.Listed) error {
		r.sum.Objects++
		if id, err := model.ParseID(o.Key); err == nil {
			if _, ok := known[id]; ok {
				return nil
			}
		}
		strays = append(strays, o)
		return r.ctx.Err()
	}, func(name string) error {
		r.report(Finding{Path: name, Text: "it is no object", Remedy: "see what it is and move it away"})
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range strays {
		if err := r.stray(o); err != nil {
			return fmt.Errorf("object %s: %w", o.Key, err)
		}
	}
	return nil
}

// stray looks at an object that no row named when the rows were read.
func (r *run) stray(o storage.Listed) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	id, err := model.ParseID(o.Key)
	if err != nil {
		return err
	}
	var text []byte // of its label, which only a folder has
	if r.folder != nil {
		text, err = r.folder.Label(o.Key)
		if errors.Is(err, storage.ErrGone) {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
	}
	standing, err := r.catalogue.Standing(id)
	if err != nil || standing.Named {
		return err
	}
	if r.folder == nil { // where the only chunk of an open upload is an object already
		if _, underWay, err := r.catalogue.Upload(id); err != nil || underWay {
			return err
		}
	}
	discarded := !standing.Discarded.IsZero()
	if discarded && (r.folder == nil || !r.Alone && time.Since(standing.Discarded) < inHand) {
		return nil
	}
	if off, ok := model.ParsePackLabel(text); ok {
		return r.strayPack(id, o, off, discarded)
	}
	finding := Finding{Object: o.Key, Text: "content that the catalogue does not know", Remedy: "fenc check --repair"}
	label, err := model.ParseLabel(text)
	if err != nil && discarded {
		return nil // what never got a label was never verified
	}
	if err != nil {
		finding.Text += fmt.Sprintf(", and that does not say what it is (%d bytes)", o.Size)
		finding.Remedy = "see what it is; " + r.nameOf(o.Key) + " can be removed if nobody misses it"
		r.report(finding)
		return nil
	}
	if supersedes, err := r.catalogue.Supersedes(label); err != nil || discarded && !supersedes {
		return err
	}
	finding.Client, finding.Path = label.ClientName, label.FilePath()
	return r.adopt(finding, label, id, nil, o.Size == label.Size)
}

// nameOf is what an object is called in the storage.
func (r *run) nameOf(key string) string {
	if r.folder == nil {
		return "the object " + key
	}
	return ".fenc/objects/" + key[:2] + "/" + key
}

// uploads looks for uploads that are open in a store of others and of which no row of
// the catalogue is left: such were never verified.
func (r *run) uploads() error {
	lister, ok := r.store.(interface {
		Uploads(do func(key string) error) error
	})
	if !ok {
		return nil
	}
	var open []string
	err := lister.Uploads(func(key string) error {
		open = append(open, key)
		return r.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, key := range open {
		id, err := model.ParseID(key)
		if err != nil {
			return err
		}
		_, resumable, err := r.catalogue.Upload(id)
		if err != nil {
			return err
		}
		standing, err := r.catalogue.Standing(id)
		if err != nil {
			return err
		}
		if resumable || standing.Named || !standing.Discarded.IsZero() {
			continue
		}
		finding := Finding{Object: key, Text: "an upload that the catalogue does not know", Remedy: "fenc check --repair removes it"}
		if r.Repair {
			if unknown, err := r.catalogue.Unknown(id); err != nil {
				return err
			} else if !unknown {
				continue
			}
			if err := r.store.Remove(key); err != nil {
				return err
			}
			finding.Mended = "removed: nobody was told that it is kept"
		}
		r.report(finding)
	}
	return nil
}

// strayPack looks at a pack that no row names.
func (r *run) strayPack(id model.ID, o storage.Listed, off int64, discarded bool) error {
	labels, err := r.packLabels(o, off)
	if err != nil && discarded {
		return nil
	}
	if err != nil {
		r.report(Finding{Object: o.Key, Text: "small files that the catalogue does not know, and whose labels cannot be read", Remedy: "restore the storage from a copy"})
		return nil
	}
	for _, label := range labels {
		supersedes, err := r.catalogue.Supersedes(label)
		if err != nil {
			return err
		}
		if discarded && !supersedes {
			continue
		}
		finding := Finding{Object: o.Key, Client: label.ClientName, Path: label.FilePath(), Text: "content that the catalogue does not know", Remedy: "fenc check --repair"}
		if err := r.adopt(finding, label, id, &id, label.Offset+label.Size <= off); err != nil {
			return err
		}
	}
	if r.Repair {
		return r.catalogue.DiscardStray(id) // if no file of it was taken
	}
	return nil
}

func (r *run) packLabels(o storage.Listed, off int64) ([]model.Label, error) {
	object, err := r.store.Open(o.Key)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	const most = 256 * storage.MaxLabel
	if off > o.Size || o.Size-off > most {
		return nil, model.ErrLabel
	}
	text, err := io.ReadAll(io.NewSectionReader(object, off, o.Size-off))
	if err != nil {
		return nil, err
	}
	return model.ParseLabels(text)
}

// adopt makes content the file that its label says, if it proves to be that.
func (r *run) adopt(finding Finding, label model.Label, id model.ID, pack *model.ID, whole bool) error {
	if !r.Repair {
		r.report(finding)
		return nil
	}
	if whole {
		object, err := r.store.Open(id.String())
		if err != nil {
			return err
		}
		whole, err = r.proves(object, label.Offset, claimOfLabel(label))
		if err := errors.Join(err, object.Close()); err != nil {
			return err
		}
	}
	object := id
	if pack != nil {
		object = model.NewID()
	}
	var err error
	var file model.File
	var earlier bool
	if whole {
		file, earlier, err = r.catalogue.Adopt(label, object, pack)
	}
	switch {
	case !whole:
		finding.Text += ", and that is not what its label says"
		finding.Remedy = "restore the storage from a copy"
	case errors.Is(err, model.ErrOlder):
		finding.Mended = "removed: the catalogue has a newer version"
		if file.Digest == label.Digest && file.Size == label.Size && !file.Digest.IsZero() {
			finding.Mended = "removed: the catalogue has the same content elsewhere"
		}
		if pack == nil {
			err = r.catalogue.DiscardStray(id)
		} else {
			err = nil
		}
	case errors.Is(err, model.ErrNameTaken), errors.Is(err, model.ErrPathTaken):
		finding.Text += ": " + err.Error()
		finding.Remedy = "see to whom it belongs"
		err = nil
	case earlier:
		finding.Mended = "catalogued as an earlier version: its content is what its label says"
	case err == nil:
		finding.Mended = "catalogued as verified: its content is what its label says"
		if pack == nil {
			err = r.show(file)
		}
	}
	if err != nil {
		return err
	}
	r.report(finding)
	return nil
}

// tree looks for what the catalogue does not know among what people see.
func (r *run) tree() error {
	if r.folder == nil {
		return nil
	}
	var paths []string
	flush := func() error {
		known, err := r.catalogue.PathsKnown(paths)
		if err != nil {
			return err
		}
		foreign := slices.DeleteFunc(paths, func(p string) bool { return known[p] })
		for _, p := range foreign {
			r.report(Finding{Path: p, Text: "the tree has it and the catalogue does not", Remedy: "move it away, or send it with fenc send"})
		}
		paths = paths[:0]
		return r.ctx.Err()
	}
	err := r.folder.Tree(func(path string) error {
		if paths = append(paths, path); len(paths) < filesAtOnce {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}
