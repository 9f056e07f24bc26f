package model

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"gorm.io/gorm"
)

// mirror is the copy of clients and files in memory. It changes only after the
// database has.
type mirror struct {
	mu      sync.RWMutex
	clients map[ID]*Client
	byName  map[string]ID
	byKey   map[Hash]ID // by the fingerprint of the key
	used    map[ID]use
	files   map[ID]map[string]File // by client, then by the name that was sent
	seen    map[ID]time.Time       // last_seen not yet in the database
}

// read fills the mirror from the database.
func (m *mirror) read(db *gorm.DB) error {
	if err := m.readClients(db); err != nil {
		return err
	}
	var batch []File
	return db.FindInBatches(&batch, 1000, func(*gorm.DB, int) error {
		for _, f := range batch {
			m.putFile(f)
		}
		return nil
	}).Error
}

// readClients fills it with the clients alone.
func (m *mirror) readClients(db *gorm.DB) error {
	m.clients, m.byName, m.byKey = make(map[ID]*Client), make(map[string]ID), make(map[Hash]ID)
	m.used = make(map[ID]use)
	m.files, m.seen = make(map[ID]map[string]File), make(map[ID]time.Time)
	var clients []*Client
	if err := db.Find(&clients).Error; err != nil {
		return err
	}
	for _, c := range clients {
		m.putClient(c)
	}
	return nil
}

// use is what a client's verified files take.
type use struct {
	files int
	bytes int64
}

func (m *mirror) putClient(c *Client) {
	c.SharedKey = "" // lives in the session and in its column only
	if old, ok := m.clients[c.ID]; ok && old.Fingerprint != c.Fingerprint {
		delete(m.byKey, old.Fingerprint)
	}
	if !c.Fingerprint.IsZero() {
		m.byKey[c.Fingerprint] = c.ID
	}
	m.clients[c.ID] = c
	m.byName[c.Name] = c.ID
}

func (m *mirror) putFile(f File) {
	f.Client = nil
	own := m.files[f.ClientID]
	if own == nil {
		own = make(map[string]File)
		m.files[f.ClientID] = own
	}
	u := m.used[f.ClientID]
	if old := own[f.FileName]; old.Verified {
		u.files, u.bytes = u.files-1, u.bytes-old.Size
	}
	if f.Verified {
		u.files, u.bytes = u.files+1, u.bytes+f.Size
	}
	m.used[f.ClientID] = u
	own[f.FileName] = f
}

// Client looks a client up by its id.
func (c *Catalogue) Client(id ID) (Client, bool) {
	c.mirror.mu.RLock()
	defer c.mirror.mu.RUnlock()
	found, ok := c.mirror.clients[id]
	if !ok {
		return Client{}, false
	}
	client := *found
	if seen, ok := c.mirror.seen[id]; ok {
		client.LastSeen = Time{seen}
	}
	return client, true
}

// ClientNamed looks a client up by its name.
func (c *Catalogue) ClientNamed(name string) (Client, bool) {
	c.mirror.mu.RLock()
	id, ok := c.mirror.byName[name]
	c.mirror.mu.RUnlock()
	if !ok {
		return Client{}, false
	}
	return c.Client(id)
}

// Used returns how many verified files a client has, and their bytes.
func (c *Catalogue) Used(id ID) (files int, bytes int64) {
	c.mirror.mu.RLock()
	defer c.mirror.mu.RUnlock()
	u := c.mirror.used[id]
	return u.files, u.bytes
}

// File looks up a client's file by the name that was sent.
func (c *Catalogue) File(client ID, name string) (File, bool) {
	c.mirror.mu.RLock()
	defer c.mirror.mu.RUnlock()
	f, ok := c.mirror.files[client][name]
	return f, ok
}

// Files returns every file with its client's name, by client and then by name.
func (c *Catalogue) Files() []ClientFile {
	c.mirror.mu.RLock()
	defer c.mirror.mu.RUnlock()
	var all []ClientFile
	for id, own := range c.mirror.files {
		for _, f := range own {
			all = append(all, ClientFile{Client: c.mirror.clients[id].Name, File: f})
		}
	}
	slices.SortFunc(all, func(a, b ClientFile) int {
		return cmp.Or(cmp.Compare(a.Client, b.Client), cmp.Compare(a.File.FileName, b.File.FileName))
	})
	return all
}

// ClientFile is a file with its client's name.
type ClientFile struct {
	Client string
	File   File
}

// Touch notes that the client was heard of now. It writes to memory; FlushSeen
// carries it to the database.
func (c *Catalogue) Touch(id ID) {
	now := c.now()
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	if _, known := c.mirror.clients[id]; known {
		c.mirror.seen[id] = now
	}
}

// FlushSeen writes each last_seen that Touch moved, in one transaction.
func (c *Catalogue) FlushSeen() error {
	c.mirror.mu.Lock()
	seen := c.mirror.seen
	c.mirror.seen = make(map[ID]time.Time)
	for id, at := range seen {
		if client, known := c.mirror.clients[id]; known {
			client.LastSeen = Time{at}
		}
	}
	c.mirror.mu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	err := c.write(func(tx *gorm.DB) error {
		var newest time.Time
		for id, at := range seen {
			if err := tx.Model(&Client{}).Where("id = ?", id).Update("last_seen", Time{at}).Error; err != nil {
				return err
			}
			if at.After(newest) {
				newest = at
			}
		}
		latest, err := c.latest(tx)
		if err != nil || newest.Before(latest.Time) {
			return err
		}
		return noteLatest(tx, Time{newest})
	})
	if err != nil {
		c.mirror.mu.Lock()
		defer c.mirror.mu.Unlock()
		for id, at := range seen {
			if _, newer := c.mirror.seen[id]; !newer {
				c.mirror.seen[id] = at
			}
		}
	}
	return err
}

// ancestors lists the folders above path, nearest last: "a/b/c" → "a", "a/b".
func ancestors(path string) []string {
	var above []string
	for i, r := range path {
		if r == '/' {
			above = append(above, path[:i])
		}
	}
	return above
}

// below is the half-open range of keys under the folder path.
func below(path string) (from, to string) { return path + "/", path + "0" } // '0' follows '/'

// folderName makes a readable folder name of a client's name: no separators, no
// leading dot, nothing a common file system or shell forbids.
func folderName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if trimmed := strings.TrimRight(clean, " ."); trimmed != clean {
		clean = trimmed + "_" // Windows drops them, and two names become one
	}
	if clean == "" || clean[0] == '.' || clean[0] == '-' || clean[0] == '~' {
		clean = "_" + clean
	}
	return clean
}

// Fold is what names are compared by where case and normalisation do not count.
// Folder names always are: the
// storage may be copied to one that folds case or normalises.
func Fold(name string) string { return cases.Fold().String(norm.NFC.String(name)) }
