package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
)

// ErrExists: an operator asks for what is there already.
var ErrExists = errors.New("exists already")

func init() { refusals = append(refusals, ErrExists) }

var rightNames = []struct {
	right Rights
	name  string
}{{RightSend, "send"}, {RightRead, "read"}, {RightReplace, "replace"}}

// String lists the rights as ParseRights reads them.
func (r Rights) String() string {
	var names []string
	for _, n := range rightNames {
		if r&n.right != 0 {
			names = append(names, n.name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, ",")
}

// ParseRights reads rights such as "send,read,replace", or "none".
func ParseRights(s string) (Rights, error) {
	var rights Rights
	if s == "none" {
		return 0, nil
	}
next:
	for word := range strings.SplitSeq(s, ",") {
		for _, n := range rightNames {
			if strings.TrimSpace(word) == n.name {
				rights |= n.right
				continue next
			}
		}
		return 0, fmt.Errorf("right %q: want some of send, read and replace, with commas between them, or none", word)
	}
	return rights, nil
}

// State of an invite at a time.
func (i Invite) State(now time.Time) string {
	switch {
	case !i.RevokedAt.IsZero():
		return "revoked"
	case !i.UsedAt.IsZero():
		return "used"
	case !i.ExpiresAt.After(now):
		return "expired"
	}
	return "open"
}

// Invite records an invite. Its Name, if it has one, must be free: ErrNameTaken;
// and must not stand in another open invite: ErrExists.
func (c *Catalogue) Invite(i Invite) error {
	i.CreatedAt = Time{c.now()}
	return c.manage(once(func(tx *gorm.DB) error {
		latest, err := c.latest(tx)
		if err != nil {
			return err
		}
		if i.Name != "" && !i.Rekey {
			var clients, invites int64
			if err := tx.Model(&Client{}).Where("name = ?", i.Name).Count(&clients).Error; err != nil {
				return err
			}
			if clients > 0 {
				return ErrNameTaken
			}
			err := tx.Model(&Invite{}).Where("name = ? AND rekey = ? AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ?", i.Name, false, latest).
				Count(&invites).Error
			if err != nil {
				return err
			}
			if invites > 0 {
				return fmt.Errorf("an open invite for the name %w", ErrExists)
			}
		}
		if err := noteLatest(tx, latest); err != nil {
			return err
		}
		return tx.Create(&i).Error
	}, func(tx *gorm.DB) (bool, error) { return stands(tx, &Invite{}, "token_hash = ?", i.TokenHash) }))
}

// InviteRekey records an invite by which the client of a name gets another key.
// Earlier ones for that client are taken back.
func (c *Catalogue) InviteRekey(name string, token Hash, expires time.Time) error {
	return c.manage(once(func(tx *gorm.DB) error {
		client, err := clientNamed(tx, name)
		if err != nil {
			return err
		}
		if client.Protocol < 4 {
			return fmt.Errorf("%w: a client of protocol %d, whose key is pinned for good; revoke it and invite it anew", ErrNotAllowed, client.Protocol)
		}
		err = tx.Model(&Invite{}).Where("client_id = ? AND rekey = ? AND used_at IS NULL AND revoked_at IS NULL", client.ID, true).
			Update("revoked_at", Time{c.now()}).Error
		if err != nil {
			return err
		}
		return tx.Create(&Invite{
			TokenHash: token, Name: name, Rights: client.Rights, Quota: client.Quota, ClientID: &client.ID, Rekey: true,
			CreatedAt: Time{c.now()}, ExpiresAt: Time{expires},
		}).Error
	}, func(tx *gorm.DB) (bool, error) { return stands(tx, &Invite{}, "token_hash = ?", token) }))
}

// Invites lists the invites, the newest last.
func (c *Catalogue) Invites() ([]Invite, error) {
	var invites []Invite
	err := c.read(func(db *gorm.DB) error { return db.Order("created_at, token_hash").Find(&invites).Error })
	return invites, err
}

// RevokeInvite takes back the open invites whose token's hash begins with the
// hexadecimal digits of prefix, or that are for the client name so called. It
// returns those, ErrInviteUnknown if there are none.
func (c *Catalogue) RevokeInvite(which string) ([]Invite, error) {
	var revoked []Invite
	err := c.manage(func(tx *gorm.DB) error {
		before := revoked // by a try whose outcome nobody was told
		var open []Invite
		if err := tx.Find(&open, "used_at IS NULL AND revoked_at IS NULL").Error; err != nil {
			return err
		}
		revoked = slices.DeleteFunc(open, func(i Invite) bool {
			return i.Name != which && !(len(which) >= 4 && strings.HasPrefix(i.TokenHash.String(), strings.ToLower(which)))
		})
		if len(revoked) == 0 && len(before) > 0 {
			revoked = before
			return nil
		}
		if len(revoked) == 0 {
			return ErrInviteUnknown
		}
		for _, i := range revoked {
			if err := tx.Model(&Invite{}).Where("token_hash = ?", i.TokenHash).Update("revoked_at", Time{c.now()}).Error; err != nil {
				return err
			}
		}
		return nil
	})
	return revoked, err
}
