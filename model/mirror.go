package model

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"gorm.io/gorm"
)

// mirror is the view of a catalogue that this process alone writes: a copy of
// clients and files in memory. It changes only after the database has.
type mirror struct {
	db *gorm.DB

	mu      sync.RWMutex
	clients map[ID]*Client
	byName  map[string]ID
	byKey   map[Hash]ID // by the fingerprint of the key
	taken   map[ID]use
	held    map[ID]map[string]File // files by client, then by the name that was sent

	changesSeen int64 // operators' changes that the copy has; of Reload's caller alone, as the next two
	filesSeen   int64 // change up to which it has read the files that operators have changed
	managed     int64 // of the operators' changes, those of files
}

// read fills the mirror from the database.
func (m *mirror) read() error {
	if err := m.readAllClients(); err != nil {
		return err
	}
	var err error
	if m.changesSeen, err = managed(m.db); err != nil {
		return err
	}
	if m.managed, err = settingValue(m.db, settingManagedFiles); err != nil {
		return err
	}
	if m.filesSeen, err = newestChange(m.db); err != nil {
		return err
	}
	var batch []File
	return m.db.FindInBatches(&batch, 1000, func(*gorm.DB, int) error {
		for _, f := range batch {
			m.put(f)
		}
		return nil
	}).Error
}

// readAllClients fills it with the clients alone.
func (m *mirror) readAllClients() error {
	m.clients, m.byName, m.byKey = make(map[ID]*Client), make(map[string]ID), make(map[Hash]ID)
	m.taken, m.held = make(map[ID]use), make(map[ID]map[string]File)
	return m.readClients()
}

// readClients brings the copy of the clients up to date. A client that was
// registered after the rows were read stays.
func (m *mirror) readClients() error {
	var clients []Client
	if err := m.db.Find(&clients).Error; err != nil {
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

func (m *mirror) putClient(c Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.SharedKey = "" // lives in the session and in its column only
	if old, ok := m.clients[c.ID]; ok && old.Fingerprint != c.Fingerprint {
		delete(m.byKey, old.Fingerprint)
	}
	if !c.Fingerprint.IsZero() {
		m.byKey[c.Fingerprint] = c.ID
	}
	m.clients[c.ID] = &c
	m.byName[c.Name] = c.ID
}

func (m *mirror) dropClient(id ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.clients, id)
}

func (m *mirror) pinKey(id ID, key PublicKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if client, ok := m.clients[id]; ok {
		client.PublicKey = key
	}
}

func (m *mirror) heardOf(seen map[ID]time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, at := range seen {
		if client, known := m.clients[id]; known {
			client.LastSeen = Time{at}
		}
	}
}

func (m *mirror) putFiles(files ...File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range files {
		if have := m.held[f.ClientID][f.FileName]; have.Change <= f.Change {
			m.put(f)
		}
	}
}

func (m *mirror) put(f File) {
	f.Client = nil
	own := m.held[f.ClientID]
	if own == nil {
		own = make(map[string]File)
		m.held[f.ClientID] = own
	}
	u := m.taken[f.ClientID]
	if old := own[f.FileName]; old.Verified {
		u.files, u.bytes = u.files-1, u.bytes-old.Size
	}
	if f.Verified {
		u.files, u.bytes = u.files+1, u.bytes+f.Size
	}
	m.taken[f.ClientID] = u
	own[f.FileName] = f
}

func (m *mirror) amendFile(client ID, name string, amend func(*File)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, ok := m.held[client][name]; ok {
		amend(&have)
		m.put(have)
	}
}

func (m *mirror) removeFile(f File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	have, ok := m.held[f.ClientID][f.FileName]
	if !ok || have.Object != f.Object {
		return
	}
	if u := m.taken[f.ClientID]; have.Verified {
		m.taken[f.ClientID] = use{u.files - 1, u.bytes - have.Size}
	}
	delete(m.held[f.ClientID], f.FileName)
}

func (m *mirror) client(id ID) (Client, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found, ok := m.clients[id]
	if !ok {
		return Client{}, false, nil
	}
	return *found, true, nil
}

func (m *mirror) clientNamed(name string) (Client, bool, error) {
	m.mu.RLock()
	id, ok := m.byName[name]
	m.mu.RUnlock()
	if !ok {
		return Client{}, false, nil
	}
	return m.client(id)
}

func (m *mirror) clientOfKey(fingerprint Hash) (Client, bool, error) {
	m.mu.RLock()
	id, known := m.byKey[fingerprint]
	m.mu.RUnlock()
	if !known {
		return Client{}, false, nil
	}
	return m.client(id)
}

func (m *mirror) rights(id ID) (Rights, error) {
	client, known, err := m.client(id)
	if err != nil || !known || !client.RevokedAt.IsZero() {
		return 0, err
	}
	return client.Rights, nil
}

func (m *mirror) used(id ID) (use, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.taken[id], nil
}

func (m *mirror) file(client ID, name string) (File, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f, ok := m.held[client][name]
	return f, ok, nil
}

func (m *mirror) filesNamed(client ID, names []string) (map[string]File, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := make(map[string]File)
	for _, name := range names {
		if f, ok := m.held[client][name]; ok {
			found[name] = f
		}
	}
	return found, nil
}

func (m *mirror) files() ([]ClientFile, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []ClientFile
	for id, own := range m.held {
		for _, f := range own {
			all = append(all, ClientFile{Client: m.clients[id].Name, File: f})
		}
	}
	return all, nil
}

func (m *mirror) heardLast(limit int, seen map[ID]time.Time) (newest []ClientUse, all int, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for id, client := range m.clients {
		use := ClientUse{Client: *client, Files: int64(m.taken[id].files), Bytes: m.taken[id].bytes}
		if at, ok := seen[id]; ok {
			use.Client.LastSeen = Time{at}
		}
		at, _ := slices.BinarySearchFunc(newest, use, laterHeard)
		if at == limit {
			continue
		}
		newest = slices.Insert(newest, at, use)
		newest = newest[:min(len(newest), limit)]
	}
	return newest, len(m.clients), nil
}

// laterHeard orders clients by when they were heard of, the last one first.
func laterHeard(a, b ClientUse) int {
	return cmp.Or(b.Client.LastSeen.Compare(a.Client.LastSeen.Time), cmp.Compare(a.Client.Name, b.Client.Name))
}

func (m *mirror) totals() (clients, files int, bytes int64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, u := range m.taken {
		files, bytes = files+u.files, bytes+u.bytes
	}
	return len(m.clients), files, bytes, nil
}

func (m *mirror) reload() ([]ID, error) {
	changes, err := managed(m.db)
	if err != nil || changes == m.changesSeen {
		return nil, err
	}
	before := make(map[ID]Client)
	m.mu.RLock()
	for id, k := range m.clients {
		before[id] = *k
	}
	m.mu.RUnlock()
	if err := m.readClients(); err != nil {
		return nil, err
	}
	if err := m.reloadFiles(); err != nil {
		return nil, err
	}
	m.changesSeen = changes
	var changed []ID
	for id, old := range before {
		now, there, _ := m.client(id)
		if !there || now.RevokedAt != old.RevokedAt || now.Fingerprint != old.Fingerprint || now.Rights != old.Rights || now.Quota != old.Quota {
			changed = append(changed, id)
		}
	}
	return changed, nil
}

// reloadFiles takes over files that another process has changed.
func (m *mirror) reloadFiles() error {
	managed, err := settingValue(m.db, settingManagedFiles)
	if err != nil || managed == m.managed {
		return err
	}
	for {
		var files []File
		if err := m.db.Order("change").Limit(1000).Find(&files, "change > ?", m.filesSeen).Error; err != nil {
			return err
		}
		if len(files) == 0 {
			m.managed = managed
			return nil
		}
		m.putFiles(files...)
		m.filesSeen = files[len(files)-1].Change
	}
}
