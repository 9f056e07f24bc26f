// Package archive keeps verified files: it holds the catalogue and the storage
// to one order of steps, so that a crash between any two of them loses nothing
// that was called verified and leaves nothing that was not.
//
//  1. Row: the upload stands in the catalogue before any byte of it (Receive).
//  2. Bytes: written to an open upload that nobody sees (Incoming.Write).
//  3. Seal: the sender has verified; size and checksum are final, and the
//     content is synced as an object (Incoming.Keep).
//  4. Commit: one transaction makes it the file of its name.
//  5. View: the tree shows it. Then the sender is answered.
//  6. What it replaced is removed after a grace.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
)

// Archive is a catalogue and the storage that belongs to it.
type Archive struct {
	Catalogue *model.Catalogue
	// Bounds are what each client may take. They are set before the first file.
	Bounds model.Bounds
	// KeepPartial is how long an upload stays that does not get on; 0 is for ever.
	KeepPartial time.Duration

	store    *storage.Folder
	log      *slog.Logger
	now      func() time.Time
	owesView atomic.Bool    // a file is verified and the tree does not show it
	views    [64]sync.Mutex // by file, so that the newest of two commits is shown last

	mu      sync.Mutex
	newest  int64              // change up to which every file is shown, but for those of unshown
	unshown map[model.ID]int64 // newest as it was before a commit whose view is not there yet, by upload

	liveMu sync.Mutex
	live   map[model.ID]*Upload // that a session has open
	proven map[model.ID]bool    // open uploads whose chunks this process has written or looked at

	rosterMu sync.Mutex
	roster   []byte // list of clients that the storage has

	small  smallFiles
	unpack unpacker
}

// Open opens an archive over an opened catalogue and storage, both of which it
// closes in Close, and settles what an earlier process left behind.
func Open(c *model.Catalogue, s *storage.Folder, log *slog.Logger) (*Archive, error) {
	a := &Archive{
		Catalogue: c, store: s, log: log, now: time.Now, unshown: make(map[model.ID]int64),
		live: make(map[model.ID]*Upload), proven: make(map[model.ID]bool), small: newSmallFiles(), unpack: newUnpacker(),
	}
	var err error
	if a.newest, err = c.LastChange(); err == nil {
		err = a.settle()
	}
	if err != nil {
		return nil, fmt.Errorf("settle the storage: %w", err)
	}
	go a.runSmall()
	go a.runUnpack()
	return a, nil
}

// Incoming is a file on its way in. It ends with Keep or Discard.
type Incoming struct {
	archive *Archive
	upload  model.Upload
	part    *storage.Partial
	ended   bool
}

// Receive makes room for an upload: u names the client, the file, its paths, the
// size at most and the protocol. It returns storage.ErrNoSpace,
// storage.ErrDegraded or model.ErrUnavailable where it cannot be taken now.
func (a *Archive) Receive(ctx context.Context, u model.Upload) (*Incoming, error) {
	if err := a.store.Degraded(); err != nil {
		return nil, err
	}
	upload, err := a.Catalogue.Begin(u)
	if err != nil {
		return nil, err
	}
	part, err := a.store.Begin(ctx, upload.ID.String(), u.Size, u.Size)
	if err != nil {
		return nil, errors.Join(err, a.Catalogue.Abandon(upload.ID))
	}
	return &Incoming{archive: a, upload: upload, part: part}, nil
}

// Write stores the content, which r gives until its end. It returns how many
// bytes came. An error of r is returned as it is.
func (in *Incoming) Write(ctx context.Context, r io.Reader) (int64, error) {
	return in.part.WriteChunk(ctx, 0, r, in.upload.Size)
}

// Keep makes the content the verified file of its name: durable, catalogued and
// shown in the tree when it returns. size and checksum are of the content,
// verified by its sender.
//
// After an error the file of that name is what it was before; the upload is
// gone, or, where the error came after its verdict was recorded, is completed by
// the next start.
func (in *Incoming) Keep(ctx context.Context, size int64, checksum uint32) (model.File, error) {
	a, id := in.archive, in.upload.ID
	if err := a.Catalogue.Seal(id, size, model.Sums{CRC32: checksum}); err != nil {
		return model.File{}, errors.Join(err, in.Discard())
	}
	in.ended = true
	sealed := in.upload
	sealed.Size, sealed.Checksum = size, checksum
	if err := in.part.SetLabel(a.Catalogue.LabelUpload(sealed).Encode()); err != nil {
		return model.File{}, errors.Join(err, in.part.Close(), a.drop(id))
	}
	if err := in.part.Seal(ctx, size); err != nil {
		return model.File{}, errors.Join(err, in.part.Close(), a.drop(id))
	}
	file, err := a.commit(in.upload, nil)
	if errors.Is(err, model.ErrPathTaken) || errors.Is(err, model.ErrNoReplace) || errors.Is(err, model.ErrRevoked) {
		return model.File{}, errors.Join(err, a.drop(id))
	}
	if err != nil {
		return model.File{}, err
	}
	return file, nil
}

// Discard removes what was received and forgets the upload. After Keep, or a
// second time, it does nothing.
func (in *Incoming) Discard() error {
	if in.ended {
		return nil
	}
	in.ended = true
	return errors.Join(in.part.Discard(), in.archive.Catalogue.Abandon(in.upload.ID))
}

// drop takes back a sealed upload that cannot become a file. Its row becomes one
// of garbage, so that bytes which cannot be removed now, or come back after a
// power cut, are known and removed later.
func (a *Archive) drop(id model.ID) error {
	return errors.Join(a.store.Remove(id.String()), a.Catalogue.Unseal(id))
}

// commit makes the sealed upload the file of its name, and shows it.
func (a *Archive) commit(u model.Upload, tree *model.Tree) (model.File, error) {
	id, expected := u.ID, a.Catalogue.LabelUpload(u)
	a.beginCommit(id)
	file, err := a.Catalogue.Commit(id, tree)
	if err == nil {
		a.relabel(file, expected)
		a.show(file)
	}
	a.endCommit(id, file.Change)
	return file, err
}

// relabel corrects the label of a file that got another path than was expected.
// The label matters only to a catalogue that is lost: an error is logged.
func (a *Archive) relabel(f model.File, expected model.Label) {
	label := a.Catalogue.LabelFile(f)
	if label.Path == expected.Path {
		return
	}
	if err := a.store.SetLabel(f.Object.String(), label.Encode()); err != nil {
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
// works: what fails is logged, and made up for at the next start.
func (a *Archive) show(f model.File) {
	view := &a.views[f.ID%int64(len(a.views))]
	view.Lock()
	defer view.Unlock()
	// Another commit of the same name may have come between: show the newest.
	if newest, ok := a.Catalogue.File(f.ClientID, f.FileName); ok && newest.Change > f.Change {
		f = newest
	}
	if f.Pack != nil {
		return // shown when it is unpacked
	}
	if err := a.store.Show(f.Object.String(), f.FilePath); err != nil {
		a.owesView.Store(true)
		a.log.Error("verified file is not shown in the storage's tree", "path", wire.Printable(f.FilePath), "object", f.Object, "error", err)
	}
}

// Close unpacks what is packed, notes the clients in the storage, records that storage and catalogue agree, and
// closes both. No session may be left.
func (a *Archive) Close() error {
	a.small.once.Do(func() { close(a.small.stop) })
	<-a.small.done
	<-a.unpack.done
	return errors.Join(a.markSettled(), a.noteRoster(), a.Catalogue.Close(), a.store.Close())
}

// OpenFile opens the content of a verified file. It returns storage.ErrGone if it
// is lost.
func (a *Archive) OpenFile(f model.File) (Content, error) {
	object, err := a.openContent(f)
	if errors.Is(err, storage.ErrGone) && f.Pack != nil {
		// Unpacked since the caller looked.
		if now, ok := a.Catalogue.File(f.ClientID, f.FileName); ok && now.Object == f.Object {
			f.Pack = nil
			object, err = a.openContent(f)
		}
	}
	return object, err
}

// Content is a file's content, open.
type Content interface {
	io.ReaderAt
	io.Closer
}

func (a *Archive) openContent(f model.File) (Content, error) {
	if f.Pack == nil {
		return a.store.Open(f.Object.String())
	}
	pack, err := a.store.Open(f.Pack.String())
	if err != nil {
		return nil, err
	}
	return &packed{io.NewSectionReader(pack, f.PackOffset, f.Size), pack}, nil
}

// packed is a file within a pack.
type packed struct {
	*io.SectionReader
	pack io.Closer
}

func (p *packed) Close() error { return p.pack.Close() }
