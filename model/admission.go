package model

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"
)

var (
	// ErrNotAdmitted: the key is no client's, and nothing lets it become one.
	ErrNotAdmitted = errors.New("not admitted")
	// ErrInviteUnknown: there is no such invite.
	ErrInviteUnknown = errors.New("no such invite")
	// ErrInviteUsed: another key has used the invite.
	ErrInviteUsed = errors.New("the invite has been used")
	// ErrInviteExpired: the invite's time is over.
	ErrInviteExpired = errors.New("the invite has expired")
	// ErrInviteRevoked: the invite has been taken back.
	ErrInviteRevoked = errors.New("the invite has been taken back")
)

func init() {
	refusals = append(refusals, ErrNotAdmitted, ErrInviteUnknown, ErrInviteUsed, ErrInviteExpired, ErrInviteRevoked)
}

// Registration says whom Admit makes a client.
type Registration int

const (
	// RegistrationClosed: nobody; an invite may give a client another key.
	RegistrationClosed Registration = iota
	// RegistrationInvite: who has an invite.
	RegistrationInvite
	// RegistrationOpen: everybody under a free name.
	RegistrationOpen
)

// Admission is a key of protocol 4 that has been proved, and what came with it.
type Admission struct {
	Key          PublicKey // DER SubjectPublicKeyInfo
	Fingerprint  Hash      // its SHA-256
	Name         string    // that the client says it has or wants; may be empty
	Token        Hash      // SHA-256 of an invite's token; zero without one
	Registration Registration
}

// Outcomes of Admit.
type Admitted int

const (
	// Returned: the key was known.
	Returned Admitted = iota
	// Registered: the client is new.
	Registered
	// Rekeyed: the client has this key instead of the one before.
	Rekeyed
)

// Admit finds the client of a key, or makes it one: with an invite, which is used
// up in the same transaction, or where registration is open. The same key is
// admitted again whatever invite it brings.
//
// It returns ErrRevoked for a revoked client's key, ErrUnknownClient if the key is
// known by another name than the one that is said, ErrNameTaken where the name
// belongs to another client, an error of the invite, or ErrNotAdmitted.
func (c *Catalogue) Admit(a Admission) (Client, Admitted, error) {
	returned, known, err := c.byFingerprint(a.Fingerprint)
	if err == nil && known && !a.Token.IsZero() { // who hears that it is admitted does not keep the invite
		err = c.engine.confirm(func(db *gorm.DB) (err error) {
			known, err = stands(db, &Client{}, "fingerprint = ?", a.Fingerprint)
			return err
		})
	}
	if err != nil {
		return Client{}, Returned, err
	}
	if known {
		return returned, Returned, checkReturned(returned, a)
	}
	var client Client
	var how Admitted
	err = c.write(names, func(tx *gorm.DB) error {
		client = Client{}
		err := tx.Take(&client, "fingerprint = ?", a.Fingerprint).Error // registered a moment ago by another connection
		switch {
		case err == nil:
			how = Returned
			return checkReturned(client, a)
		case !errors.Is(err, gorm.ErrRecordNotFound):
			return err
		case !a.Token.IsZero():
			client, how, err = c.useInvite(tx, a)
			return err
		case a.Registration == RegistrationOpen:
			client = Client{Name: a.Name, Rights: AllRights}
			how = Registered
			return c.createClient(tx, &client, a)
		}
		return ErrNotAdmitted
	})
	if err != nil {
		return Client{}, how, err
	}
	c.view.putClient(client)
	return client, how, nil
}

func checkReturned(client Client, a Admission) error {
	switch {
	case !client.RevokedAt.IsZero():
		return ErrRevoked
	case a.Name != "" && a.Name != client.Name && a.Token.IsZero(): // an invite may have given it another
		return ErrUnknownClient
	}
	return nil
}

// createClient writes the row of a new client with the admission's key. A name
// that anybody has, revoked or not, is taken.
func (c *Catalogue) createClient(tx *gorm.DB, client *Client, a Admission) error {
	if client.Name == "" {
		return fmt.Errorf("%w: no name to register under", ErrNotAdmitted)
	}
	var holders int64
	if err := tx.Model(&Client{}).Where("name = ?", client.Name).Count(&holders).Error; err != nil {
		return err
	}
	if holders > 0 {
		return ErrNameTaken
	}
	now := Time{c.now()}
	client.ID, client.Protocol, client.RegisteredAt, client.LastSeen = NewID(), 4, now, now
	client.PublicKey, client.Fingerprint = a.Key, a.Fingerprint
	if err := c.chooseFolder(tx, client); err != nil {
		return err
	}
	return tx.Create(client).Error
}

// useInvite uses up an invite and does what it is for.
func (c *Catalogue) useInvite(tx *gorm.DB, a Admission) (Client, Admitted, error) {
	now, err := c.latest(tx)
	if err != nil {
		return Client{}, 0, err
	}
	// The condition decides between two keys that come at once.
	used := tx.Model(&Invite{}).
		Where("token_hash = ? AND used_at IS NULL AND revoked_at IS NULL AND expires_at > ?", a.Token, now).
		Updates(map[string]any{"used_at": now, "used_by": a.Fingerprint})
	if used.Error != nil {
		return Client{}, 0, used.Error
	}
	var invite Invite
	err = tx.Take(&invite, "token_hash = ?", a.Token).Error
	switch {
	case errors.Is(err, gorm.ErrRecordNotFound):
		return Client{}, 0, ErrInviteUnknown
	case err != nil:
		return Client{}, 0, err
	case used.RowsAffected > 0:
	case !invite.RevokedAt.IsZero():
		return Client{}, 0, ErrInviteRevoked
	case !invite.UsedAt.IsZero():
		return Client{}, 0, ErrInviteUsed
	default:
		return Client{}, 0, ErrInviteExpired
	}
	if err := noteLatest(tx, now); err != nil {
		return Client{}, 0, err
	}
	if invite.Rekey {
		client, err := rekey(tx, invite, a)
		return client, Rekeyed, err
	}
	if a.Registration == RegistrationClosed {
		return Client{}, 0, ErrNotAdmitted
	}
	client := Client{Name: cmp.Or(invite.Name, a.Name), Rights: invite.Rights, Quota: invite.Quota}
	if err := c.createClient(tx, &client, a); err != nil {
		return Client{}, 0, err
	}
	return client, Registered, tx.Model(&Invite{}).Where("token_hash = ?", a.Token).Update("client_id", client.ID).Error
}

// rekey gives the invite's client the admission's key, and brings it back if it
// was revoked.
func rekey(tx *gorm.DB, invite Invite, a Admission) (Client, error) {
	var client Client
	if err := tx.Take(&client, "id = ?", invite.ClientID).Error; err != nil {
		return Client{}, err
	}
	client.PublicKey, client.Fingerprint, client.RevokedAt = a.Key, a.Fingerprint, Time{}
	err := changeClient(tx, client.ID, map[string]any{"public_key": client.PublicKey, "fingerprint": client.Fingerprint, "revoked_at": client.RevokedAt})
	if err != nil {
		return Client{}, err
	}
	return client, countChange(tx) // for other processes, which have sessions by the key before
}

// settingLatest is the latest time, in nanoseconds since 1970, that the catalogue
// has been told.
const settingLatest = "latest"

// latest is now, or the latest time ever recorded where the clock has been set
// back behind it, so that nothing that has expired comes back.
func (c *Catalogue) latest(tx *gorm.DB) (Time, error) {
	now := c.now()
	var recorded []setting
	if err := tx.Limit(1).Find(&recorded, "name = ?", settingLatest).Error; err != nil {
		return Time{}, err
	}
	if len(recorded) > 0 && recorded[0].Value > now.UnixNano() {
		now = time.Unix(0, recorded[0].Value)
	}
	return Time{now}, nil
}

// noteLatest records a time, unless a later one is.
func noteLatest(tx *gorm.DB, now Time) error {
	return tx.Exec("INSERT INTO settings (name, value, text) VALUES (?, ?, '') ON CONFLICT (name) DO UPDATE SET value = excluded.value "+
		"WHERE settings.value < excluded.value", settingLatest, now.UnixNano()).Error
}

// IsRevoked reports whether the key with this fingerprint is a revoked client's.
func (c *Catalogue) IsRevoked(fingerprint Hash) (bool, error) {
	client, known, err := c.byFingerprint(fingerprint)
	return known && !client.RevokedAt.IsZero(), err
}
