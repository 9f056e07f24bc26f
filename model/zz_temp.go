package model

import (
	"errors"

	"gorm.io/gorm"
)

var (
	ErrInviteUnknown = errors.New("no such invite")
	ErrInviteUsed    = errors.New("invite used")
	ErrInviteExpired = errors.New("invite expired")
	ErrInviteRevoked = errors.New("invite revoked")
	ErrNotAdmitted   = errors.New("not admitted")
)

type Admission struct {
	Key         []byte
	Fingerprint Hash
	Name        string
	Token       Hash
	Open        bool
}

func (c *Catalogue) Admit(a Admission) (Client, bool, error) {
	c.mirror.mu.RLock()
	for _, k := range c.mirror.clients {
		if k.Fingerprint == a.Fingerprint {
			c.mirror.mu.RUnlock()
			return *k, false, nil
		}
	}
	c.mirror.mu.RUnlock()
	client := Client{ID: NewID(), Name: a.Name, Protocol: 4, RegisteredAt: Time{c.now()}, LastSeen: Time{c.now()}, PublicKey: a.Key, Fingerprint: a.Fingerprint, Rights: AllRights}
	err := c.write(func(tx *gorm.DB) error {
		if err := c.chooseFolder(tx, &client); err != nil {
			return err
		}
		return tx.Create(&client).Error
	})
	if err != nil {
		return Client{}, false, err
	}
	c.mirror.mu.Lock()
	defer c.mirror.mu.Unlock()
	k := client
	c.mirror.putClient(&k)
	return client, true, nil
}
func (c *Catalogue) IsRevoked(Hash) bool { return false }
func (c *Catalogue) Used(id ID) (int, int64) {
	c.mirror.mu.RLock()
	defer c.mirror.mu.RUnlock()
	return len(c.mirror.files[id]), 0
}
func (r Rights) String() string { return "" }

func (c *Catalogue) SetAddress(string) error { return nil }

type ClientUse struct {
	Client Client
	Files  int
	Bytes  int64
}

func (c *Catalogue) Clients() []ClientUse { return nil }
