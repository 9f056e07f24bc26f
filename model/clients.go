package model

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// abandonedAfter is how long a name stays with a client that registered and
// never sent a key. Such a client has nothing here and can lose nothing; without
// this, a connection cut in the middle of its first contact would take its name
// away for good.
const abandonedAfter = 10 * time.Minute

// Register records a new client of the given protocol version under a new id
// and gives it a folder of its own. It returns ErrNameTaken if the name is in use.
func (c *Catalogue) Register(name string, protocol int) (Client, error) {
	client := Client{ID: NewID(), Name: name, Protocol: protocol, RegisteredAt: Time{c.now()}, LastSeen: Time{c.now()}}
	var abandoned ID
	err := c.write(names, func(tx *gorm.DB) error {
		var holder Client
		err := tx.Take(&holder, "name = ?", name).Error
		switch {
		case errors.Is(err, gorm.ErrRecordNotFound):
		case err != nil:
			return err
		case holder.ID == client.ID:
			return nil // by a try whose outcome nobody was told
		case len(holder.PublicKey) > 0 || !holder.RevokedAt.IsZero() || c.now().Sub(holder.RegisteredAt.Time) < abandonedAfter:
			return ErrNameTaken
		default:
			abandoned = holder.ID
			if err := tx.Delete(&Client{}, "id = ?", abandoned).Error; err != nil {
				return err
			}
		}
		if err := c.chooseFolder(tx, &client); err != nil {
			return err
		}
		return tx.Create(&client).Error
	})
	if err != nil {
		return Client{}, fmt.Errorf("register: %w", err)
	}
	c.view.dropClient(abandoned)
	c.seen.forget(abandoned)
	c.view.putClient(client)
	return client, nil
}

// chooseFolder names the client's folder after the client, with a part of its
// id where the name alone would not do or would be another client's.
func (c *Catalogue) chooseFolder(tx *gorm.DB, client *Client) error {
	client.Folder = folderName(client.Name)
	client.FolderKey = Fold(client.Folder)
	var taken int64
	if err := tx.Model(&Client{}).Where("folder_key = ?", client.FolderKey).Count(&taken).Error; err != nil {
		return err
	}
	if taken > 0 || client.Folder != client.Name {
		client.Folder += "~" + strings.ToLower(client.ID.String())
		client.FolderKey = Fold(client.Folder)
	}
	return nil
}

// OpenSession begins a session: it pins publicKey to the client's id if the id
// has none yet, and records the session's key (in hex). It returns
// ErrUnknownClient unless a client has this id, this name and this protocol
// version, and ErrOtherKey if the id came with another key before.
func (c *Catalogue) OpenSession(id ID, name string, protocol int, publicKey []byte, sharedKey string) (Client, error) {
	known, ok, err := c.Client(id)
	if err != nil {
		return Client{}, fmt.Errorf("open session: %w", err)
	}
	if !ok || known.Name != name || known.Protocol != protocol || !known.RevokedAt.IsZero() {
		return Client{}, ErrUnknownClient
	}
	if len(known.PublicKey) > 0 && !bytes.Equal(known.PublicKey, publicKey) {
		return Client{}, ErrOtherKey
	}
	err = c.write(of(id), func(tx *gorm.DB) error {
		// The condition, not the look above, decides between two first keys.
		done := tx.Model(&Client{}).
			Where("id = ? AND (public_key IS NULL OR public_key = ?)", id, PublicKey(publicKey)).
			Updates(map[string]any{"public_key": PublicKey(publicKey), "shared_key": sharedKey})
		if done.Error == nil && done.RowsAffected == 0 {
			return ErrOtherKey
		}
		return done.Error
	})
	if err != nil {
		return Client{}, fmt.Errorf("open session: %w", err)
	}
	c.view.pinKey(id, publicKey)
	known.PublicKey = publicKey
	return known, nil
}

// CloseSession empties the client's shared_key, unless a later session of the
// same client has put its own there.
func (c *Catalogue) CloseSession(id ID, sharedKey string) error {
	return c.write(nobody, func(tx *gorm.DB) error {
		return tx.Model(&Client{}).Where("id = ? AND shared_key = ?", id, sharedKey).Update("shared_key", "").Error
	})
}

// saveSetting writes a setting, new or not.
func saveSetting(tx *gorm.DB, name string, value int64) error {
	return tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&setting{Name: name, Value: value}).Error
}
