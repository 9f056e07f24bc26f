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
)

// Archive is a catalogue and the storage that belongs to it.
type Archive struct {
	Catalogue *model.Catalogue

	policy   atomic.Pointer[Policy]
	store    storage.Store
	folder   *storage.Folder // the store, where people see files in it; nil: where nobody does
	limits   storage.Limits
	log      *slog.Logger
	now      func() time.Time
	owesView atomic.Bool    // a file is verified and the tree does not show it
	views    [64]sync.Mutex // by path, so that the newest of two changes is seen last
	folders  sync.RWMutex   // held to take folders out of the tree

	mu      sync.Mutex
	newest  int64              // change up to which every file is shown, but for those of unshown
	unshown map[model.ID]int64 // newest as it was before a commit whose view is not there yet, by upload

	liveMu sync.Mutex
	live   map[model.ID]*Upload // that a session has open
	proven map[model.ID]bool    // open uploads whose chunks this process has written or looked at
	stuck  map[model.ID]bool    // sealed uploads for whose end the catalogue was not there; nil where any process adopts them

	rosterMu sync.Mutex
	roster   []byte // list of clients that the storage has

	reaching chan struct{} // full while Reach looks

	small  *smallFiles
	unpack unpacker

	gate    *gate          // nil: there is none
	ungated []model.Upload // sealed ones that an earlier process left
}

// Open opens an archive over an opened catalogue and storage, both of which it
// closes in Close, and settles what an earlier process left behind.
func Open(c *model.Catalogue, s storage.Store, log *slog.Logger) (*Archive, error) {
	return OpenGated(c, s, log, nil, 0)
}

// OpenGated is Open with a gate that content must pass, asked about so many uploads
// at once. What an earlier process left before its gate has Run ask about it.
func OpenGated(c *model.Catalogue, s storage.Store, log *slog.Logger, ask Gate, atOnce int) (*Archive, error) {
	a := &Archive{
		gate:      newGate(ask, atOnce),
		Catalogue: c, store: s, limits: s.Limits(), log: log, now: c.Now, unshown: make(map[model.ID]int64),
		live: make(map[model.ID]*Upload), proven: make(map[model.ID]bool), reaching: make(chan struct{}, 1), small: newSmallFiles(), unpack: newUnpacker(),
	}
	a.folder, _ = s.(*storage.Folder)
	if !a.limits.Shared {
		a.stuck = make(map[model.ID]bool)
	}
	a.policy.Store(new(Policy))
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

// Policy is what the operator decides about clients that have nothing of their own.
type Policy struct {
	Bounds    model.Bounds    // what each may take
	Retention model.Retention // how long content stays
}

// SetPolicy has what comes from now on follow another policy; until the first call
// nothing is bounded and nothing expires.
func (a *Archive) SetPolicy(p Policy) {
	a.policy.Store(&p)
	a.Catalogue.SetKeepVersions(p.Retention.KeepVersions)
}

// Incoming is a file on its way in. It ends with Keep or Discard.
type Incoming struct {
	archive *Archive
	upload  model.Upload
	part    storage.Partial
	ended   bool
}

// Receive makes room for an upload: u names the client, the file, its paths, the
// size at most and the protocol. It returns the refusals of model.Catalogue.Begin,
// storage.ErrNoSpace, storage.ErrDegraded or model.ErrUnavailable where it cannot be
// taken now.
func (a *Archive) Receive(ctx context.Context, u model.Upload) (*Incoming, error) {
	if err := a.store.Degraded(); err != nil {
		return nil, err
	}
	upload, err := a.Catalogue.Begin(u, a.policy.Load().Bounds)
	if err != nil {
		return nil, err
	}
	part, err := a.store.Begin(storage.For(ctx, u.ClientID.String()), upload.ID.String(), u.Size)
	if err != nil {
		return nil, errors.Join(err, a.forget(upload.ID))
	}
	return &Incoming{archive: a, upload: upload, part: part}, nil
}

// Write stores the content, which r gives until its end. It returns how many
// bytes came. An error of r is returned as it is.
func (in *Incoming) Write(ctx context.Context, r io.Reader) (int64, error) {
	return in.part.WriteStream(ctx, r, in.upload.Size)
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
	lease, err := a.seal(id, size, model.Sums{CRC32: checksum})
	defer lease.end()
	if err != nil {
		return model.File{}, errors.Join(err, in.Discard())
	}
	in.ended = true
	sealed := in.upload
	sealed.Size, sealed.Checksum = size, checksum
	if err := a.labelPart(in.part, sealed); err != nil {
		return model.File{}, errors.Join(err, in.part.Close(), a.drop(id, lease))
	}
	if err := in.part.Seal(ctx, size, nil); a.mayPass(err) {
		return model.File{}, errors.Join(err, in.part.Close())
	} else if err != nil {
		return model.File{}, errors.Join(err, in.part.Close(), a.drop(id, lease))
	}
	if err := a.pass(ctx, sealed); err != nil {
		return model.File{}, a.stopped(ctx, sealed, err)
	}
	file, err := a.commit(in.upload, nil, lease)
	if isRefused(err) {
		return model.File{}, errors.Join(err, a.drop(id, lease))
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
	return in.archive.giveUp(in.part, in.upload.ID)
}

// giveUp removes an open upload that was written here, its bytes and its row.
func (a *Archive) giveUp(part storage.Partial, id model.ID) error {
	return errors.Join(part.Close(), a.forget(id))
}

// forget removes an open upload, its bytes and its row. Where other processes may
// have sealed it meanwhile, the row decides: it turns to garbage if it is still an
// open upload's, and its bytes go with that. So it does where another database may have
// taken the place of the one that says that the upload is open.
func (a *Archive) forget(id model.ID) error {
	if !a.limits.Shared && !a.Catalogue.Shared() {
		return errors.Join(a.store.Remove(id.String()), a.Catalogue.Abandon(id))
	}
	gone, err := a.Catalogue.Discard(id)
	return errors.Join(err, a.removeGarbage(id, gone))
}

// drop takes back a sealed upload that cannot become a file. Its row becomes one
// of garbage, so that bytes which cannot be removed now, or come back after a
// power cut, are known and removed later. Where other processes may have made it a
// file meanwhile, nothing is removed but as garbage.
func (a *Archive) drop(id model.ID, l lease) error {
	gone, err := a.Catalogue.Unseal(id, l.epoch)
	a.noteStuck(id, err)
	return errors.Join(err, a.removeGarbage(id, gone))
}

// removeGarbage removes at once what has turned to garbage, where nobody else has it
// open.
func (a *Archive) removeGarbage(id model.ID, gone bool) error {
	if !gone || a.limits.Shared {
		return nil
	}
	return a.store.Remove(id.String())
}

// mayPass reports whether what keeps a sealed upload from becoming an object says
// nothing of the upload, which is completed later then: by adopt.
func (a *Archive) mayPass(err error) bool {
	return err != nil && a.limits.Shared && !errors.Is(err, storage.ErrGone) && !errors.Is(err, storage.ErrMarks) &&
		!errors.Is(err, storage.ErrSealed)
}

// commit makes the sealed upload the file of its name, and shows it.
func (a *Archive) commit(u model.Upload, tree *model.Tree, l lease) (model.File, error) {
	return a.commitBy(a.Catalogue.Commit, u, tree, l)
}

func (a *Archive) commitBy(commit func(model.ID, *model.Tree, int64) (model.File, error), u model.Upload, tree *model.Tree, l lease) (file model.File, err error) {
	defer func() { a.noteStuck(u.ID, err) }()
	expected, err := a.labelUpload(u)
	if err != nil {
		return model.File{}, err
	}
	a.beginCommit(u.ID)
	file, err = commit(u.ID, tree, l.epoch)
	if err == nil {
		a.relabel(file, expected)
		a.show(file)
	}
	a.endCommit(u.ID, file.Change)
	return file, err
}

// noteStuck notes whether the catalogue was there for the end of a sealed upload.
func (a *Archive) noteStuck(id model.ID, err error) {
	a.liveMu.Lock()
	defer a.liveMu.Unlock()
	if errors.Is(err, model.ErrUnavailable) && a.stuck != nil {
		a.stuck[id] = true
	} else {
		delete(a.stuck, id)
	}
}

// Close unpacks what is packed, notes the clients in the storage, records that storage and catalogue agree, and
// closes both. No session may be left.
func (a *Archive) Close() error {
	a.small.once.Do(func() { close(a.small.stop) })
	if a.gate != nil {
		a.gate.stop()
	}
	<-a.small.done
	<-a.unpack.done
	return errors.Join(a.markSettled(), a.noteRoster(), a.Catalogue.Close(), a.store.Close())
}

// OpenFile opens the content of a verified file. It returns storage.ErrGone if it
// is lost.
func (a *Archive) OpenFile(f model.File) (Content, error) {
	object, err := a.openContent(f)
	if errors.Is(err, storage.ErrGone) && f.Pack != nil {
		// Unpacked, or moved to another pack, since the caller looked.
		now, ok, err := a.Catalogue.File(f.ClientID, f.FileName)
		if err != nil {
			return nil, err
		}
		if ok && now.Object == f.Object {
			f.Pack, f.PackOffset = now.Pack, now.PackOffset
			return a.openContent(f)
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
