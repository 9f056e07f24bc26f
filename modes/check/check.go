// Package check compares a catalogue with its storage, and mends what can be
// mended without guessing: by what content proves of itself.
//
// It works beside a running server. What the server has in hand meanwhile is
// looked at again before anything is said of it.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"

	"fenc/model"
	"fenc/model/storage"
)

// Finding is one difference.
type Finding struct {
	Client string // whose; empty where nobody knows
	Path   string // below the storage; empty where it is about the client
	Object string // the object's key, where it is about one
	Text   string // what is wrong
	Mended string // what was done about it; empty: nothing
	Remedy string // what the operator can do, where it was not mended
}

// Options says how to check.
type Options struct {
	Deep   bool   // read all content and compare digests
	Repair bool   // mend what can be mended
	Alone  bool   // no server runs: nothing is in anybody's hand
	Roster []byte // the storage's list of clients; see model.Catalogue.Roster
	// Report is called for each difference.
	Report func(Finding)
	// Progress is called with the bytes that were read since the last call.
	Progress func(bytes int64)
}

// Summary counts what was looked at and found.
type Summary struct {
	Files    int64 // of the catalogue
	Bytes    int64 // of their content, as the catalogue has it
	Objects  int64 // in the storage
	Findings int64
	Mended   int64 // of the findings
}

const filesAtOnce = 500

// Store is a storage that lists what it has.
type Store interface {
	storage.Store
	// Objects calls do for every object, and stray for everything else that lies among
	// them, with its name.
	Objects(do func(storage.Listed) error, stray func(name string) error) error
}

// Run compares, and returns what it counted. Differences are no error.
func Run(ctx context.Context, c *model.Catalogue, s Store, o Options) (Summary, error) {
	r := &run{ctx: ctx, catalogue: c, store: s, Options: o}
	r.folder, _ = s.(*storage.Folder)
	for _, step := range []func() error{r.clients, r.files, r.objects, r.uploads, r.tree} {
		if err := step(); err != nil {
			return r.sum, err
		}
	}
	return r.sum, nil
}

type run struct {
	Options
	ctx       context.Context
	catalogue *model.Catalogue
	store     Store
	folder    *storage.Folder // the store, where people see files in it; else nil
	sum       Summary
}

func (r *run) report(f Finding) {
	r.sum.Findings++
	if f.Mended != "" {
		r.sum.Mended++
	}
	r.Report(f)
}

// files looks at each file of the catalogue.
func (r *run) files() error {
	for after := int64(0); ; {
		files, err := r.catalogue.FilesAfter(after, filesAtOnce)
		if err != nil || len(files) == 0 {
			return err
		}
		for _, f := range files {
			after = f.ID
			if err := r.ctx.Err(); err != nil {
				return err
			}
			r.sum.Files++
			r.sum.Bytes += f.Size
			if err := r.file(f); err != nil {
				return fmt.Errorf("%s: %w", f.FilePath, err)
			}
		}
		versions, err := r.catalogue.Versions(files)
		if err != nil {
			return err
		}
		for _, f := range files {
			for _, v := range versions[f.ID] {
				if err := r.version(v); err != nil {
					return fmt.Errorf("version %d of %s: %w", v.Version, v.FilePath, err)
				}
			}
		}
	}
}

// version looks at an earlier version that is kept of a file.
func (r *run) version(v model.File) error {
	r.sum.Bytes += v.Size
	fault, err := r.fault(v)
	if err != nil || fault == "" {
		return err
	}
	now, err := r.catalogue.Versions([]model.File{v})
	if err != nil {
		return err
	}
	for _, kept := range now[v.ID] {
		if !samePlace(kept, v) {
			continue // removed or moved meanwhile
		}
		finding := Finding{
			Client: v.Client.Name, Path: v.FilePath, Object: v.Object.String(),
			Text: fmt.Sprintf("of its earlier version %d, %s", v.Version, fault), Remedy: "fenc check --repair forgets it",
		}
		if r.Repair {
			if err := r.catalogue.ForgetVersion(v); err != nil {
				return err
			}
			finding.Mended = "the version is forgotten"
		}
		r.report(finding)
	}
	return nil
}

// file looks at one file: its content, then its view.
func (r *run) file(f model.File) error {
	fault, err := r.fault(f)
	if err != nil {
		return err
	}
	if now, err := r.current(f); err != nil || !now {
		return err // replaced or moved meanwhile: it is what the server just made
	}
	finding := Finding{Client: f.Client.Name, Path: f.FilePath, Object: f.Object.String(), Text: fault}
	switch {
	case fault != "":
		return r.mendContent(f, finding)
	case !f.Verified:
		return r.restore(f, finding)
	case f.Pack == nil && r.folder != nil:
		return r.view(f, finding)
	}
	return nil
}

// current reports whether the row of the file is still the one that was read.
func (r *run) current(f model.File) (bool, error) {
	files, err := r.catalogue.FilesAfter(f.ID-1, 1)
	if err != nil || len(files) == 0 || files[0].ID != f.ID {
		return false, err
	}
	now := files[0]
	return now.Change == f.Change && samePlace(now, f), nil
}

// samePlace reports whether two rows of a file name the same bytes: what is in a pack
// may be unpacked, or moved to another pack.
func samePlace(a, b model.File) bool {
	return a.Object == b.Object && (a.Pack == nil) == (b.Pack == nil) && (a.Pack == nil || *a.Pack == *b.Pack)
}

// fault says what is wrong with a file's content; nothing is the empty text.
func (r *run) fault(f model.File) (string, error) {
	key, size := f.Object.String(), f.Size
	if f.Pack != nil {
		key, size = f.Pack.String(), f.PackOffset+f.Size
	}
	object, err := r.store.Open(key)
	if errors.Is(err, storage.ErrGone) {
		return "its content is missing", nil
	}
	if err != nil {
		return "", err
	}
	defer object.Close()
	if have := object.Size(); have < size || f.Pack == nil && have != size {
		return fmt.Sprintf("its content has %d bytes, want %d", have, size), nil
	}
	if !r.Deep && f.Verified {
		return "", nil
	}
	ok, err := r.proves(object, f.PackOffset, claimOf(f))
	if err != nil {
		return "", fmt.Errorf("read: %w", err)
	}
	if !ok {
		return "its content is damaged: the checksum differs", nil
	}
	return "", nil
}

// mendContent takes the content from the tree, if it is whole there, and says of
// the file that it is not verified otherwise.
func (r *run) mendContent(f model.File, finding Finding) error {
	if !f.Verified {
		finding.Text += "; it is not counted as verified"
	}
	finding.Remedy = "have the client send the file again"
	if !r.Repair {
		r.report(finding)
		return nil
	}
	shown, err := r.shown(f)
	if err != nil {
		return err
	}
	switch {
	case shown:
		if err := r.folder.Adopt(f.FilePath, finding.Object); err != nil {
			return err
		}
		if !f.Verified {
			err = r.catalogue.Judge(f, true)
		}
		finding.Mended = "taken from the tree, where it is whole"
	case f.Verified:
		err = r.catalogue.Judge(f, false)
		finding.Mended = "not counted as verified any more; " + finding.Remedy
	}
	r.report(finding)
	return err
}

// shown reports whether the tree has the file's content where its object is
// gone, and may take its place.
func (r *run) shown(f model.File) (bool, error) {
	if f.Pack != nil || r.folder == nil {
		return false, nil
	}
	if _, err := r.folder.Label(f.Object.String()); !errors.Is(err, storage.ErrGone) {
		return false, err // the object is there: the same file, or a damaged one
	}
	content, err := r.folder.OpenShown(f.FilePath, f.Size)
	if errors.Is(err, storage.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer content.Close()
	return r.proves(content, 0, claimOf(f))
}

// restore counts a file as verified again whose content is whole after all.
func (r *run) restore(f model.File, finding Finding) error {
	finding.Text = "its content is whole, and it is not counted as verified"
	finding.Remedy = "fenc check --repair"
	if r.Repair {
		if err := r.catalogue.Judge(f, true); err != nil {
			return err
		}
		finding.Mended = "counted as verified again"
	}
	r.report(finding)
	if r.Repair && f.Pack == nil && r.folder != nil {
		return r.view(f, Finding{Client: finding.Client, Path: finding.Path, Object: finding.Object})
	}
	return nil
}

// view looks at what the tree has in the file's place.
func (r *run) view(f model.File, finding Finding) error {
	shows, err := r.folder.Shows(f.Object.String(), f.FilePath)
	if errors.Is(err, storage.ErrGone) {
		return nil // removed since: the next check tells
	}
	if err != nil || shows {
		return err
	}
	if now, err := r.current(f); err != nil || !now {
		return err
	}
	finding.Text = "the tree does not show it"
	finding.Remedy = "fenc check --repair"
	foreign, err := r.foreign(f)
	if err != nil {
		return err
	}
	switch {
	case foreign:
		finding.Text += ": something else stands in its place"
		finding.Remedy = "move that away, and run fenc check --repair"
	case r.Repair:
		if err := r.show(f); err != nil {
			return err
		}
		finding.Mended = "shown again"
	}
	r.report(finding)
	return nil
}

// foreign reports whether what the tree has in the file's place may be somebody's: it is
// neither the file's content nor what its own label says. Content is read only to be
// replaced.
func (r *run) foreign(f model.File) (bool, error) {
	there, err := r.folder.Place(f.FilePath)
	if err != nil || there.Free || there.View {
		return false, err
	}
	if !there.Regular {
		return true, nil
	}
	claims := []claim{claimOf(f)}
	if label, err := model.ParseLabel(there.Label); err == nil {
		claims = append(claims, claimOfLabel(label))
	}
	for _, c := range claims {
		content, err := r.folder.OpenShown(f.FilePath, c.size)
		if errors.Is(err, storage.ErrGone) {
			continue
		}
		if err != nil {
			return false, err
		}
		ok := true
		if r.Repair {
			ok, err = r.proves(content, 0, c)
		}
		if err := errors.Join(err, content.Close()); err != nil || ok {
			return false, err
		}
	}
	return true, nil
}

// show puts a file into the tree; if it is replaced meanwhile, what replaced it.
func (r *run) show(f model.File) error {
	for {
		if err := r.folder.Show(f.Object.String(), f.FilePath); err != nil {
			return err
		}
		if err := r.folder.SyncTree(f.FilePath); err != nil {
			return err
		}
		files, err := r.catalogue.FilesAfter(f.ID-1, 1)
		if err != nil || len(files) == 0 || files[0].ID != f.ID || files[0].Object == f.Object || files[0].Pack != nil {
			return err
		}
		f = files[0]
	}
}

// proves reads size bytes of content at off and reports whether they are what
// the claim says.
func (r *run) proves(content io.ReaderAt, off int64, c claim) (bool, error) {
	return c.proved(&counted{r: io.NewSectionReader(content, off, c.size), run: r})
}

// counted tells of what is read through it, and ends with its run.
type counted struct {
	r   io.Reader
	run *run
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.run.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if c.run.Progress != nil {
		c.run.Progress(int64(n))
	}
	return n, err
}
