package archive

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
)

// machine is what survives a power cut: a disk and a database. The database's
// states are its file and a prefix of its WAL that ends with a commit: what the
// log was when it was synced.
type machine struct {
	disk    *storagetest.Disk
	db, wal []byte
	files   []promise // what is, or may be, in the catalogue
	ahead   time.Duration
	keep    int64 // earlier versions of files
}

// running is an archive on a machine.
type running struct {
	*Archive
	dir    string
	client model.Client
	log    *journal
}

// start starts an archive on the machine, with its database in dir.
func (m machine) start(dir string) (*running, error) {
	db := filepath.Join(dir, "fenc.db")
	if m.db != nil {
		if err := errors.Join(os.WriteFile(db, m.db, 0o600), os.WriteFile(db+"-wal", m.wal, 0o600)); err != nil {
			return nil, err
		}
	}
	r := &running{dir: dir, log: new(journal)}
	now := func() time.Time { return time.Now().Add(m.ahead) }
	c, err := model.Open(db, model.Options{Now: now, KeepVersions: m.keep})
	if err != nil {
		return nil, err
	}
	f, err := storage.OpenFolderOn(m.disk, dir)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if m.db == nil {
		if _, err := c.Register("grace", 3); err != nil {
			return nil, err
		}
	}
	r.client, _, _ = c.ClientNamed("grace")
	if r.Archive, err = Open(c, f, slog.New(slog.NewTextHandler(r.log, nil))); err != nil {
		return nil, errors.Join(err, c.Close(), f.Close())
	}
	r.Archive.now = now
	r.SetPolicy(Policy{Retention: model.Retention{KeepVersions: m.keep}})
	return r, nil
}

// finish does what Close does but for closing the database.
func (r *running) finish() error {
	r.small.once.Do(func() { close(r.small.stop) })
	<-r.small.done
	<-r.unpack.done
	return errors.Join(r.markSettled(), r.noteRoster())
}

// moment is how far disk and database had got.
type moment struct {
	changes int
	wal     int64
}

var never = moment{math.MaxInt, math.MaxInt64}

// until reports whether m was over at a moment.
func (m moment) until(at moment) bool { return m.changes <= at.changes && m.wal <= at.wal }

// promise is a content that was sent under a name: from first on it may be the
// file, and from kept on it must be, unless a later one is.
type promise struct {
	name        string
	content     []byte
	first, kept moment // kept is never where it was not answered
}

// holding is a chunk of an upload that was said to be held.
type holding struct {
	name        string
	content     []byte
	chunk       int
	since, over moment
}

// cutState is what a cut leaves.
type cutState struct {
	machine
	at    moment
	after *storagetest.Replay // of the changes before
	fresh bool                // nothing like it was seen before
}

// cuts calls do with the states that a power cut at any moment of the script may
// leave.
func (s *script) cuts(variants int, seen map[[2]uint64]bool, do func(cutState) error) error {
	ends := commits(s.wal)
	r := s.disk.Replay()
	for more := true; more; more = r.Step() {
		if r.Taken() < s.began {
			continue
		}
		from, to := r.Meanwhile()
		if r.Taken() == s.began {
			from = to
		}
		if to < 0 {
			to = int64(len(s.wal))
		}
		for _, end := range ends {
			next := slices.Index(ends, end) + 1
			// The states from the last that was whole by then to the last before the next change.
			if end > to || next < len(ends) && ends[next] <= from {
				continue
			}
			for v := range variants {
				part := []float64{0, 1, 0.5, 0.1, 0.9}[v%5]
				disk := r.Cut(part, s.random)
				state := [2]uint64{disk.Sum(), uint64(end)}
				left := cutState{machine{disk: disk, db: s.machine.db, wal: s.wal[:end], ahead: s.ahead, keep: s.keep}, moment{r.Taken(), end}, r, !seen[state]}
				seen[state] = true
				if err := do(left); err != nil {
					return fmt.Errorf("after %d changes and %d bytes of WAL, state %d: %w", r.Taken(), end, v, err)
				}
				if r.Certain() {
					break
				}
			}
		}
	}
	return nil
}
