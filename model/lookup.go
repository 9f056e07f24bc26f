package model

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
)

// view answers what is asked of clients and files all the time: from a copy in
// memory where this process alone writes the catalogue, else from the database.
type view interface {
	client(id ID) (Client, bool, error)
	clientNamed(name string) (Client, bool, error)
	clientOfKey(fingerprint Hash) (Client, bool, error)
	rights(id ID) (Rights, error)
	used(id ID) (use, error)
	file(client ID, name string) (File, bool, error)
	filesNamed(client ID, names []string) (map[string]File, error)
	files() ([]ClientFile, error)
	heardLast(limit int, seen map[ID]time.Time) ([]ClientUse, int, error)
	totals() (clients, files int, bytes int64, err error)

	// reload takes over what other processes have changed.
	reload() ([]ID, error)
	readClients() error

	// What this process has written, for a view that holds a copy.
	putClient(Client)
	dropClient(ID)
	pinKey(ID, PublicKey)
	heardOf(map[ID]time.Time)
	putFiles(...File) // unless there is a later change
	amendFile(client ID, name string, amend func(*File))
	removeFile(File) // unless another content stands under its name
}

// Client looks a client up by its id.
func (c *Catalogue) Client(id ID) (Client, bool, error) { return c.withSeen(c.view.client(id)) }

// ClientNamed looks a client up by its name.
func (c *Catalogue) ClientNamed(name string) (Client, bool, error) {
	return c.withSeen(c.view.clientNamed(name))
}

func (c *Catalogue) byFingerprint(fingerprint Hash) (Client, bool, error) {
	return c.withSeen(c.view.clientOfKey(fingerprint))
}

// withSeen adds to a client that was looked up what Touch has noted.
func (c *Catalogue) withSeen(client Client, known bool, err error) (Client, bool, error) {
	if at, ok := c.seen.of(client.ID); known && ok && at.After(client.LastSeen.Time) {
		client.LastSeen = Time{at}
	}
	return client, known, err
}

// Rights returns what a client may do: nothing, if it is revoked or not known. Where
// servers share the catalogue the answer may be a second old.
func (c *Catalogue) Rights(id ID) (Rights, error) { return c.view.rights(id) }

// Used returns how many verified files a client has, and their bytes.
func (c *Catalogue) Used(id ID) (files int, bytes int64, err error) {
	u, err := c.view.used(id)
	return u.files, u.bytes, err
}

// File looks up a client's file by the name that was sent.
func (c *Catalogue) File(client ID, name string) (File, bool, error) {
	return c.view.file(client, name)
}

// Files returns every file with its client's name, by client and then by name.
func (c *Catalogue) Files() ([]ClientFile, error) {
	all, err := c.view.files()
	slices.SortFunc(all, func(a, b ClientFile) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.File.FileName, b.File.FileName))
	})
	return all, err
}

// ClientFile is a file with its client's name.
type ClientFile struct {
	Client string
	File   File
}

// HeardLast returns the clients that were heard of last, newest first, limit at
// most, with what they take, and how many clients there are in all.
func (c *Catalogue) HeardLast(limit int) (newest []ClientUse, all int, err error) {
	return c.view.heardLast(limit, c.seen.copy())
}

// Totals returns how many clients there are, and their verified files and the bytes
// of those. Where servers share the catalogue the answer may be a minute old.
func (c *Catalogue) Totals() (clients, files int, bytes int64, err error) { return c.view.totals() }

// Reload takes over what another process has changed since the last call. It
// returns the ids of the clients that are not as they were. One caller at a time.
func (c *Catalogue) Reload() ([]ID, error) {
	changed, err := c.view.reload()
	if err != nil {
		return nil, c.judge(err)
	}
	return changed, nil
}

// seen is when clients were heard of, in so far as the database does not say so yet.
type seen struct {
	mu sync.Mutex
	at map[ID]time.Time
}

func (s *seen) of(id ID) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.at[id]
	return at, ok
}

func (s *seen) copy() map[ID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.at)
}

func (s *seen) forget(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, id)
}

func (s *seen) note(at map[ID]time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = make(map[ID]time.Time)
	}
	for id, t := range at {
		if t.After(s.at[id]) {
			s.at[id] = t
		}
	}
}

// take returns what there is, and forgets it.
func (s *seen) take() map[ID]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.at
	s.at = nil
	return all
}

// Touch notes that the client was heard of now. It writes to memory; FlushSeen
// carries it to the database.
func (c *Catalogue) Touch(id ID) { c.seen.note(map[ID]time.Time{id: c.now()}) }

// FlushSeen writes each last_seen that Touch moved.
func (c *Catalogue) FlushSeen() error {
	seen := c.seen.take()
	if len(seen) == 0 {
		return nil
	}
	c.view.heardOf(seen)
	var newest time.Time
	ids := make([]ID, 0, len(seen))
	for id, at := range seen {
		ids = append(ids, id)
		if at.After(newest) {
			newest = at
		}
	}
	slices.SortFunc(ids, ID.compare) // so that two processes do not wait for each other
	err := c.write(nobody, func(tx *gorm.DB) error {
		// This first, as whoever uses an invite does, so that neither waits for the other.
		if err := noteLatest(tx, Time{newest}); err != nil {
			return err
		}
		return c.engine.saveSeen(tx, ids, seen)
	})
	if err != nil {
		c.seen.note(seen)
	}
	return err
}
