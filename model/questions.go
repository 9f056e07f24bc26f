package model

import (
	"errors"
	"slices"
	"time"

	"gorm.io/gorm"
)

// What shared answers as a view.

func (s *shared) oneClient(where string, arg any) (client Client, known bool, err error) {
	err = s.read(func(db *gorm.DB) error {
		client = Client{}
		err := db.Take(&client, where, arg).Error
		known = err == nil
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return nil
		}
		return err
	})
	client.SharedKey = "" // lives in the session and in its column only
	return client, known, err
}

func (s *shared) client(id ID) (Client, bool, error) { return s.oneClient("id = ?", id) }

func (s *shared) clientNamed(name string) (Client, bool, error) { return s.oneClient("name = ?", name) }

func (s *shared) clientOfKey(fingerprint Hash) (Client, bool, error) {
	if fingerprint.IsZero() {
		return Client{}, false, nil
	}
	return s.oneClient("fingerprint = ?", fingerprint)
}

// rightsFor is how old an answer of Rights may be. It is asked for with every
// request, and what it lets through is judged again where it is written.
const rightsFor = time.Second

// mostKnown bounds of how many clients the rights are remembered.
const mostKnown = 10_000

type knownRights struct {
	rights Rights
	at     time.Time
}

func (s *shared) rights(id ID) (Rights, error) {
	now := time.Now()
	s.mu.Lock()
	have, ok := s.known[id]
	s.mu.Unlock()
	if ok && now.Sub(have.at) < rightsFor {
		return have.rights, nil
	}
	client, known, err := s.client(id)
	if err != nil {
		return 0, err
	}
	have = knownRights{client.Rights, now}
	if !known || !client.RevokedAt.IsZero() {
		have.rights = 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= mostKnown {
		clear(s.known)
	}
	s.known[id] = have
	return have.rights, nil
}

func (s *shared) forgetRights(ids ...ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		delete(s.known, id)
	}
}

// readClients has Rights ask anew.
func (s *shared) readClients() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
	return nil
}

const sumOfFiles = "COUNT(*) AS files, COALESCE(SUM(size), 0) AS bytes"

func (s *shared) used(id ID) (use, error) {
	var sum struct {
		Files int
		Bytes int64
	}
	err := s.read(func(db *gorm.DB) error {
		return db.Model(&File{}).Select(sumOfFiles).Where("client_id = ? AND verified", id).Scan(&sum).Error
	})
	return use{sum.Files, sum.Bytes}, err
}

func (s *shared) file(client ID, name string) (File, bool, error) {
	found, err := s.filesNamed(client, []string{name})
	f, ok := found[name]
	return f, ok, err
}

func (s *shared) filesNamed(client ID, names []string) (map[string]File, error) {
	found := make(map[string]File, len(names))
	err := s.read(func(db *gorm.DB) error {
		for part := range slices.Chunk(names, 1000) {
			var files []File
			if err := db.Find(&files, "client_id = ? AND file_name IN ?", client, part).Error; err != nil {
				return err
			}
			for _, f := range files {
				found[f.FileName] = f
			}
		}
		return nil
	})
	return found, err
}

func (s *shared) files() ([]ClientFile, error) {
	var all []ClientFile
	err := s.c.EachFile("", func(page []File) error {
		for _, f := range page {
			owner := f.Client.Name
			f.Client = nil
			all = append(all, ClientFile{Client: owner, File: f})
		}
		return nil
	})
	return all, err
}

func (s *shared) heardLast(limit int, seen map[ID]time.Time) (newest []ClientUse, all int, err error) {
	var clients []Client
	var number int64
	var sums []struct {
		ClientID     ID
		Files, Bytes int64
	}
	err = s.read(func(db *gorm.DB) error {
		if err := db.Model(&Client{}).Count(&number).Error; err != nil {
			return err
		}
		if err := db.Order("last_seen DESC NULLS LAST").Limit(limit).Find(&clients).Error; err != nil {
			return err
		}
		ids := make([]ID, 0, len(clients)+len(seen))
		for _, c := range clients {
			ids = append(ids, c.ID)
		}
		var here []ID // who was heard of by this process, and is not among these
		for id := range seen {
			if !slices.Contains(ids, id) && len(here) < mostKnown {
				here = append(here, id)
			}
		}
		for part := range slices.Chunk(here, 1000) {
			var some []Client
			if err := db.Find(&some, "id IN ?", part).Error; err != nil {
				return err
			}
			clients = append(clients, some...)
		}
		for i := range clients {
			if at := seen[clients[i].ID]; at.After(clients[i].LastSeen.Time) {
				clients[i].LastSeen = Time{at}
			}
			clients[i].SharedKey = ""
		}
		slices.SortFunc(clients, func(a, b Client) int { return laterHeard(ClientUse{Client: a}, ClientUse{Client: b}) })
		clients = clients[:min(limit, len(clients))]
		ids = ids[:0]
		for _, c := range clients {
			ids = append(ids, c.ID)
		}
		return db.Model(&File{}).Select("client_id, "+sumOfFiles).Where("client_id IN ? AND verified", ids).Group("client_id").Scan(&sums).Error
	})
	for _, c := range clients {
		u := ClientUse{Client: c}
		for _, sum := range sums {
			if sum.ClientID == c.ID {
				u.Files, u.Bytes = sum.Files, sum.Bytes
			}
		}
		newest = append(newest, u)
	}
	return newest, int(number), err
}

// totalsFor is how old an answer of Totals may be: the database goes through all files
// for it.
const totalsFor = time.Minute

type knownTotals struct {
	Clients, Files int
	Bytes          int64

	at time.Time
}

func (s *shared) totals() (clients, files int, bytes int64, err error) {
	now := time.Now()
	s.mu.Lock()
	sum := s.sums
	s.mu.Unlock()
	if !sum.at.IsZero() && now.Sub(sum.at) < totalsFor {
		return sum.Clients, sum.Files, sum.Bytes, nil
	}
	err = s.read(func(db *gorm.DB) error {
		return db.Raw("SELECT (SELECT COUNT(*) FROM clients) AS clients, COUNT(*) AS files, COALESCE(SUM(size), 0) AS bytes FROM files WHERE verified").
			Scan(&sum).Error
	})
	if err == nil {
		sum.at = now
		s.mu.Lock()
		s.sums = sum
		s.mu.Unlock()
	}
	return sum.Clients, sum.Files, sum.Bytes, err
}

// reload returns the clients that an operator's change has concerned since it was
// last called, whichever process made it.
func (s *shared) reload() (changed []ID, err error) {
	var newest int64
	err = s.read(func(db *gorm.DB) (err error) {
		changed = nil
		if err := s.align(db); err != nil {
			return err
		}
		if newest, err = managed(db); err != nil || newest == s.changesSeen {
			return err
		}
		return db.Model(&Client{}).Where("changed > ?", s.changesSeen).Pluck("id", &changed).Error
	})
	if err != nil {
		return nil, err
	}
	s.changesSeen = newest
	s.forgetRights(changed...)
	return changed, nil
}

func (s *shared) putClient(c Client)                     { s.forgetRights(c.ID) }
func (s *shared) dropClient(id ID)                       { s.forgetRights(id) }
func (s *shared) pinKey(ID, PublicKey)                   {}
func (s *shared) heardOf(map[ID]time.Time)               {}
func (s *shared) putFiles(...File)                       {}
func (s *shared) amendFile(ID, string, func(have *File)) {}
func (s *shared) removeFile(File)                        {}
