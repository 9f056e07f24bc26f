package archive

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
)

// A group of small files is made durable and committed together.
const (
	groupFiles  = 256      // files, at most
	groupBytes  = 1 << 20  // bytes, at most, unless one file has more
	packBytes   = 8 << 20  // as groupBytes, where every group is a pack
	packsAtOnce = 4        // groups under way at once there
	packFrom    = 16       // files from which a group goes into a pack; fewer get an object each, shown before the answer
	smallRoom   = 32 << 20 // bytes of small files in memory, at most
	// So many ids are reserved at once: at first few, for what is not used is removed like
	// garbage, and twice as many each time that they were not enough.
	reserveLeast = 16
	reserveMost  = 512
	// reservedFor is how long reserved ids are used; well within the grace after
	// which the sweep takes what no row names.
	reservedFor = garbageGrace / 2
)

// SmallFile is a whole file to keep.
type SmallFile struct {
	Client  model.ID
	Path    string
	ModTime int64 // nanoseconds since 1970
	Mode    uint32
	Digest  model.Hash // of Data, checked by the caller
	Data    []byte     // not changed until Done is called
	// Done is called once, when the file is durable, catalogued and, but for
	// groups that go into a pack, shown; or with what prevented it: a refusal of
	// model.Catalogue.CommitSmall, ErrGateRefused, ErrGateUnavailable, storage.ErrNoSpace, storage.ErrDegraded or
	// model.ErrUnavailable. It must not wait.
	Done func(unchanged bool, err error)
}

// smallFiles gathers small files into groups.
type smallFiles struct {
	queue chan SmallFile
	room  *semaphore.Weighted // bytes in memory
	stop  chan struct{}
	once  sync.Once
	done  chan struct{} // closed when the last group has been answered

	idsMu      sync.Mutex
	ids        []model.ID // reserved
	reservedAt time.Time
	reserving  int // so many the last time
}

func newSmallFiles() *smallFiles {
	return &smallFiles{room: semaphore.NewWeighted(smallRoom), queue: make(chan SmallFile, groupFiles), stop: make(chan struct{}), done: make(chan struct{})}
}

// Small keeps a small file, in a group with those that come at the same time. It
// returns before that is done; it waits while too many are under way.
func (a *Archive) Small(ctx context.Context, f SmallFile) error {
	weight := int64(len(f.Data)) + 1
	if err := a.small.room.Acquire(ctx, weight); err != nil {
		return err
	}
	done := f.Done
	f.Done = func(unchanged bool, err error) {
		a.small.room.Release(weight)
		done(unchanged, err)
	}
	select {
	case a.small.queue <- f:
		return nil
	case <-ctx.Done():
		a.small.room.Release(weight)
		return ctx.Err()
	case <-a.small.stop:
		a.small.room.Release(weight)
		return model.ErrClosed
	}
}

// runSmall keeps groups until the archive is closed.
func (a *Archive) runSmall() {
	defer close(a.small.done)
	if a.gate != nil {
		var workers sync.WaitGroup
		for range a.gate.atOnce {
			workers.Go(a.runGated)
		}
		workers.Wait()
		return
	}
	if a.limits.PackAll {
		var workers sync.WaitGroup
		for range packsAtOnce {
			workers.Go(a.runGroups)
		}
		workers.Wait()
		return
	}
	a.runGroups()
}

// runGroups keeps one group after the other until the archive is closed.
func (a *Archive) runGroups() {
	var held *SmallFile // did not fit into the last group
	for {
		var first SmallFile
		if held != nil {
			first, held = *held, nil
		} else {
			select {
			case first = <-a.small.queue:
			case <-a.small.stop:
				return
			}
		}
		var group []SmallFile
		group, held = a.gather(first)
		a.keepGroup(group, a.policy.Load().Bounds)
	}
}

// gather collects what waits already; a lone file never waits for others.
func (a *Archive) gather(first SmallFile) (group []SmallFile, held *SmallFile) {
	group = []SmallFile{first}
	bytes, most := len(first.Data), groupBytes
	if a.limits.PackAll {
		most = packBytes
	}
	for len(group) < groupFiles {
		select {
		case f := <-a.small.queue:
			if bytes += len(f.Data); bytes > most {
				return group, &f
			}
			group = append(group, f)
		default:
			return group, nil
		}
	}
	return group, nil
}

// keepGroup takes a group through the order of steps and answers each file.
func (a *Archive) keepGroup(group []SmallFile, bounds model.Bounds) {
	outcomes, err := a.commitGroup(group, bounds)
	if err != nil {
		for _, f := range group {
			f.Done(false, err)
		}
		return
	}
	for i, o := range outcomes {
		group[i].Done(o.Unchanged, o.Err)
	}
}

// commitGroup makes the group's content durable, commits it, and shows it but for
// what is in a pack.
func (a *Archive) commitGroup(group []SmallFile, bounds model.Bounds) ([]model.Outcome, error) {
	if err := a.store.Degraded(); err != nil {
		return nil, err
	}
	files := make([]model.SmallFile, len(group))
	for i, f := range group {
		files[i] = model.SmallFile{
			Client: f.Client, Name: f.Path, Size: int64(len(f.Data)), Digest: f.Digest, ModTime: f.ModTime, Mode: f.Mode,
		}
		if err := a.lookFor(f.Client, f.Path, files[i].Size, f.Digest); err != nil {
			return nil, err
		}
	}
	packed, need := len(group) >= packFrom || a.limits.PackAll, len(group)
	if packed {
		need = 1
	}
	ids, err := a.reserved(need)
	if err != nil {
		return nil, err
	}
	var pack *model.ID
	var objects []storage.Small
	if packed {
		pack = &ids[0]
		objects, err = a.packUp(*pack, group, files)
	} else {
		objects, err = a.objectsOf(ids, group, files)
	}
	if err != nil {
		return nil, err
	}
	if err := a.store.PutAll(context.Background(), objects...); err != nil {
		return nil, err
	}
	a.beginCommit(ids[0])
	outcomes, err := a.Catalogue.CommitSmall(files, pack, bounds)
	var newest int64
	for _, o := range outcomes {
		if o.Err != nil {
			continue
		}
		newest = max(newest, o.File.Change)
		if !o.Unchanged {
			a.show(o.File)
		}
	}
	a.endCommit(ids[0], newest)
	if packed {
		a.unpack.more()
	}
	return outcomes, err
}

// packUp puts a group's content into one object, and notes in files where. Where people
// see the storage, the labels of all stand behind it.
func (a *Archive) packUp(id model.ID, group []SmallFile, files []model.SmallFile) ([]storage.Small, error) {
	pack := storage.Small{Key: id.String()}
	off := int64(0)
	for i, f := range group {
		files[i].Object, files[i].PackOffset = model.NewID(), off
		off += int64(len(f.Data))
		pack.Data = append(pack.Data, f.Data)
	}
	if a.folder == nil {
		return []storage.Small{pack}, nil
	}
	labels, err := a.Catalogue.LabelSmall(files)
	if err != nil {
		return nil, err
	}
	pack.Label = model.EncodePackLabel(off)
	pack.Data = append(pack.Data, model.EncodeLabels(labels))
	return []storage.Small{pack}, nil
}

// objectsOf gives each file of a group an object of its own.
func (a *Archive) objectsOf(ids []model.ID, group []SmallFile, files []model.SmallFile) ([]storage.Small, error) {
	objects := make([]storage.Small, len(group))
	labels, err := a.Catalogue.LabelSmall(files)
	if err != nil {
		return nil, err
	}
	for i, f := range group {
		files[i].Object = ids[i]
		objects[i] = storage.Small{Key: ids[i].String(), Data: [][]byte{f.Data}, Label: labels[i].Encode()}
	}
	return objects, nil
}

// reserved takes n reserved ids, and reserves more where there are too few.
func (a *Archive) reserved(n int) ([]model.ID, error) {
	s := a.small
	s.idsMu.Lock()
	defer s.idsMu.Unlock()
	at := a.now()
	over := at.Sub(s.reservedAt) > reservedFor
	if over || len(s.ids) < n {
		reserving := reserveLeast
		if !over && !a.limits.PackAll { // where every group takes one, and a removal is a request
			reserving = min(2*s.reserving, reserveMost)
		}
		ids, err := a.Catalogue.Reserve(max(n, reserving))
		if err != nil {
			return nil, err
		}
		s.ids, s.reservedAt, s.reserving = ids, at, reserving
	}
	ids := s.ids[:n:n]
	s.ids = s.ids[n:]
	return ids, nil
}

// unpacker gives each file of a pack an object of its own, behind its sender's
// back and while nothing more urgent is to be done.
type unpacker struct {
	wake chan struct{}
	done chan struct{}
}

func newUnpacker() unpacker {
	return unpacker{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (u *unpacker) more() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// unpackQuiet is how long no pack must have been made before unpacking begins: it
// costs what answering costs, and can wait.
const unpackQuiet = 200 * time.Millisecond

// unpackGrace is how long Close goes on unpacking; the next start does the rest.
const unpackGrace = 10 * time.Second

// runUnpack unpacks until the archive is closed; what is packed then is unpacked
// first. Where small files stay in packs, it only waits for that.
func (a *Archive) runUnpack() {
	defer close(a.unpack.done)
	if a.limits.PackAll {
		<-a.small.done
		return
	}
	quiet := time.NewTimer(0)
	defer quiet.Stop()
	for {
		select {
		case <-a.unpack.wake:
			quiet.Reset(unpackQuiet)
			continue
		case <-quiet.C:
		case <-a.small.done:
			end := a.now().Add(unpackGrace)
			a.unpackAll(func() bool { return a.now().After(end) })
			return
		}
		a.unpackAll(func() bool { return len(a.unpack.wake) > 0 })
	}
}

// unpackAll unpacks group by group until nothing is packed or interrupt says so.
func (a *Archive) unpackAll(interrupt func() bool) {
	for !interrupt() {
		files, err := a.Catalogue.Packed(groupFiles)
		if err == nil && len(files) > 0 {
			err = a.unpackGroup(files)
		}
		if err != nil {
			a.owesView.Store(true)
			a.log.Error("small files stay in their pack until the next start or the next small file", "error", err)
			return
		}
		if len(files) == 0 {
			break
		}
	}
	if err := a.Catalogue.DropEmptyPacks(); err != nil {
		a.log.Error("empty packs stay", "error", err)
	}
}

func (a *Archive) unpackGroup(files []model.File) error {
	var objects []storage.Small
	var whole []model.File
	for _, f := range files {
		data, err := a.ReadPacked(f)
		if errors.Is(err, storage.ErrGone) {
			a.log.Error("content of a verified file is missing", "path", wire.Printable(f.FilePath), "pack", f.Pack)
			if err := a.Catalogue.Lost(f); err != nil {
				return err
			}
			f.Verified = false
		} else if err != nil {
			return err
		}
		// One that is lost is unpacked to nothing, so that it is not tried for ever.
		if err == nil {
			label, err := a.Catalogue.LabelFile(f)
			if err != nil {
				return err
			}
			objects = append(objects, storage.Small{Key: f.Object.String(), Data: [][]byte{data}, Label: label.Encode()})
		}
		whole = append(whole, f)
	}
	if err := a.store.PutAll(context.Background(), objects...); err != nil {
		return err
	}
	// Shown before the row says that it is unpacked: what the row says is not looked
	// at again.
	var paths []string
	for _, f := range whole {
		now, there, err := a.Catalogue.File(f.ClientID, f.FileName)
		if err != nil {
			return err
		}
		if f.Verified && there && now.Object == f.Object { // else an earlier version, or removed
			shown := f
			shown.Pack = nil
			a.show(shown)
			paths = append(paths, f.FilePath)
		}
	}
	if err := a.folder.SyncTree(paths...); err != nil {
		return err
	}
	return a.Catalogue.Unpacked(whole)
}

// ReadPacked reads the content of a file that is in a pack.
func (a *Archive) ReadPacked(f model.File) ([]byte, error) {
	pack, err := a.store.Open(f.Pack.String())
	if err != nil {
		return nil, err
	}
	defer pack.Close()
	return readPacked(pack, f)
}

func readPacked(pack storage.Reader, f model.File) ([]byte, error) {
	data := make([]byte, f.Size)
	if n, err := pack.ReadAt(data, f.PackOffset); n < len(data) {
		return nil, errors.Join(storage.ErrGone, err)
	}
	return data, nil
}
