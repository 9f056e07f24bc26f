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
	err := c.write(everybody, func(tx *gorm.DB) error {
		if err := do(tx); err != nil {
			return err
		}
		return countChange(tx)
	})
	if err != nil {
		return err
	}
	return c.judge(c.view.readClients())
}

// countChange ends an operator's change.
func countChange(tx *gorm.DB) error {
	changes, err := managed(tx)
	if err != nil {
		return err
	}
	return saveSetting(tx, settingManaged, changes+1)
}

// changeClient gives a client's row other values, within an operator's change, whose
// number it gets.
func changeClient(tx *gorm.DB, id ID, columns map[string]any) error {
	changes, err := managed(tx)
	if err != nil {
		return err
	}
	columns["changed"] = changes + 1
	return tx.Model(&Client{}).Where("id = ?", id).Updates(columns).Error
}

func managed(tx *gorm.DB) (int64, error) { return settingValue(tx, settingManaged) }

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
	now := Time{c.now()}
	return c.manage(func(tx *gorm.DB) error {
		client, err := clientNamed(tx, name)
		if err != nil {
			return err
		}
		if client.RevokedAt.Equal(now.Time) {
			return nil // by a try whose outcome nobody was told
		}
		if !client.RevokedAt.IsZero() {
			return ErrRevoked
		}
		return changeClient(tx, client.ID, map[string]any{"revoked_at": now})
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
		return changeClient(tx, client.ID, map[string]any{column: value})
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
	all := make([]ClientUse, len(clients))
	at := make(map[ID]int, len(clients))
	for i, k := range clients {
		all[i].Client, at[k.ID] = k, i
	}
	for _, u := range uses {
		if i, known := at[u.ClientID]; known {
			all[i].Files, all[i].Bytes = u.Files, u.Bytes
		}
	}
	slices.SortFunc(all, func(a, b ClientUse) int { return cmp.Compare(a.Client.Name, b.Client.Name) })
	return all, nil
}

// SetAddress records where the server listens, for the invites that other
// processes make.
func (c *Catalogue) SetAddress(address string) error {
	return c.write(nobody, func(tx *gorm.DB) error {
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
