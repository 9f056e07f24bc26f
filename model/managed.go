package model

import (
	"cmp"
	"errors"
	"slices"

	"gorm.io/gorm"
)

// Operators change clients and invites from a process of their own, beside the
// server. Each such change counts settingManaged up, by which the server knows
// that what it holds in memory is old.
const (
	settingManaged = "managed"
	settingAddress = "address"
)

// manage is write for an operator's change.
func (c *Catalogue) manage(do func(tx *gorm.DB) error) error {
	err := c.write(func(tx *gorm.DB) error {
		if err := do(tx); err != nil {
			return err
		}
		changes, err := managed(tx)
		if err != nil {
			return err
		}
		return saveSetting(tx, settingManaged, changes+1)
	})
	if err != nil {
		return err
	}
	return c.readClients()
}

func managed(tx *gorm.DB) (int64, error) { return settingValue(tx, settingManaged) }

// Reload takes over what another process has changed since the last call. It
// returns the ids of the clients that are not as they were.
func (c *Catalogue) Reload() ([]ID, error) {
	var changes int64
	err := c.read(func(db *gorm.DB) (err error) {
		changes, err = managed(db)
		return err
	})
	if err != nil || changes == c.changesSeen.Load() {
		return nil, err
	}
	before := make(map[ID]Client)
	c.mirror.mu.RLock()
	for id, k := range c.mirror.clients {
		before[id] = *k
	}
	c.mirror.mu.RUnlock()
	if err := c.readClients(); err != nil {
		return nil, err
	}
	if err := c.reloadFiles(); err != nil {
		return nil, err
	}
	c.changesSeen.Store(changes)
	var changed []ID
	for id, old := range before {
		now, there := c.Client(id)
		if !there || now.RevokedAt != old.RevokedAt || now.Fingerprint != old.Fingerprint || now.Rights != old.Rights || now.Quota != old.Quota {
			changed = append(changed, id)
		}
	}
	return changed, nil
}

// readClients brings the copy of the clients in memory up to date. A client that
// was registered after the rows were read stays.
func (c *Catalogue) readClients() error {
	var clients []*Client
	if err := c.read(func(db *gorm.DB) error { return db.Find(&clients).Error }); err != nil {
		return err
	}
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	for _, k := range clients {
		c.mirror.putClient(k)
	}
	return nil
}

// clientNamed finds a client by its name, ErrUnknownClient if there is none.
func clientNamed(tx *gorm.DB, name string) (Client, error) {
	var client Client
	err := tx.Take(&client, "name = ?", name).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return Client{}, ErrUnknownClient
	}
	return client, err
}

// Revoke ends what a client may do, for good: neither its key nor its name comes
// back but by InviteRekey. Its files stay. It returns ErrUnknownClient, or
// ErrRevoked where that has been done.
func (c *Catalogue) Revoke(name string) error {
	return c.manage(func(tx *gorm.DB) error {
		client, err := clientNamed(tx, name)
		if err != nil {
			return err
		}
		if !client.RevokedAt.IsZero() {
			return ErrRevoked
		}
		return tx.Model(&Client{}).Where("id = ?", client.ID).Update("revoked_at", Time{c.now()}).Error
	})
}

// SetRights gives a client other rights.
func (c *Catalogue) SetRights(name string, rights Rights) error {
	return c.setClient(name, "rights", rights)
}

// SetQuota bounds the bytes that a client's files and open uploads may take; 0 is
// no bound of its own.
func (c *Catalogue) SetQuota(name string, quota int64) error {
	return c.setClient(name, "quota", quota)
}

func (c *Catalogue) setClient(name, column string, value any) error {
	return c.manage(func(tx *gorm.DB) error {
		client, err := clientNamed(tx, name)
		if err != nil {
			return err
		}
		return tx.Model(&Client{}).Where("id = ?", client.ID).Update(column, value).Error
	})
}

// ClientUse is a client with what its verified files take.
type ClientUse struct {
	Client Client
	Files  int64
	Bytes  int64
}

// Clients lists the clients by name, with what they take.
func (c *Catalogue) Clients() ([]ClientUse, error) {
	var uses []struct {
		ClientID     ID
		Files, Bytes int64
	}
	var clients []Client
	err := c.read(func(db *gorm.DB) error {
		if err := db.Find(&clients).Error; err != nil {
			return err
		}
		return db.Model(&File{}).Select("client_id, COUNT(*) AS files, SUM(size) AS bytes").Where("verified = ?", true).
			Group("client_id").Scan(&uses).Error
	})
	if err != nil {
		return nil, err
	}
	all := make([]ClientUse, 0, len(clients))
	for _, k := range clients {
		all = append(all, ClientUse{Client: k})
		for _, u := range uses {
			if u.ClientID == k.ID {
				all[len(all)-1].Files, all[len(all)-1].Bytes = u.Files, u.Bytes
			}
		}
	}
	slices.SortFunc(all, func(a, b ClientUse) int { return cmp.Compare(a.Client.Name, b.Client.Name) })
	return all, nil
}

// SetAddress records where the server listens, for the invites that other
// processes make.
func (c *Catalogue) SetAddress(address string) error {
	return c.write(func(tx *gorm.DB) error {
		return tx.Save(&setting{Name: settingAddress, Text: address}).Error
	})
}

// Address returns what SetAddress recorded last, empty if nothing.
func (c *Catalogue) Address() (string, error) {
	var rows []setting
	err := c.read(func(db *gorm.DB) error { return db.Limit(1).Find(&rows, "name = ?", settingAddress).Error })
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0].Text, nil
}
