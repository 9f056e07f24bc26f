package model

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// rosterLine is a client in the roster. It holds no secret.
type rosterLine struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	PublicKey    []byte    `json:"public_key,omitempty"`
	Fingerprint  []byte    `json:"fingerprint,omitempty"`
	Protocol     int       `json:"protocol"`
	Rights       Rights    `json:"rights"`
	Quota        int64     `json:"quota,omitempty"`
	RevokedAt    time.Time `json:"revoked_at,omitzero"`
	RegisteredAt time.Time `json:"registered_at"`
	Folder       string    `json:"folder"`
	KeepVersions *int64    `json:"keep_versions,omitempty"`
	ExpireAfter  *int64    `json:"expire_after,omitempty"` // nanoseconds, as the next one
	KeepPartial  *int64    `json:"keep_partial,omitempty"`
}

// Roster returns who the clients are, with their keys, rights and revocations, as
// a text to be kept in the storage, so that a lost catalogue can be made anew. The
// same clients make the same text.
func (c *Catalogue) Roster() ([]byte, error) {
	var clients []Client // of the database, not of memory: operators change them there
	if err := c.read(func(db *gorm.DB) error { return db.Find(&clients).Error }); err != nil {
		return nil, err
	}
	lines := make([]rosterLine, 0, len(clients))
	for _, k := range clients {
		l := rosterLine{
			ID: k.ID.String(), Name: k.Name, PublicKey: k.PublicKey, Protocol: k.Protocol, Rights: k.Rights, Quota: k.Quota,
			RevokedAt: k.RevokedAt.Time, RegisteredAt: k.RegisteredAt.Time, Folder: k.Folder,
			KeepVersions: k.KeepVersions, ExpireAfter: k.ExpireAfter, KeepPartial: k.KeepPartial,
		}
		if !k.Fingerprint.IsZero() {
			l.Fingerprint = slices.Clone(k.Fingerprint[:])
		}
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b rosterLine) int { return cmp.Compare(a.ID, b.ID) })
	text, err := json.MarshalIndent(lines, "", "  ")
	return append(text, '\n'), err
}

// parseRoster reads what Roster has written.
func parseRoster(roster []byte) (clients []Client, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the storage's list of clients: %w: restore .fenc/note-clients from a copy of the storage, or move it away: a server that has its database writes it anew", err)
		}
	}()
	var lines []rosterLine
	if err := json.Unmarshal(roster, &lines); err != nil {
		return nil, err
	}
	clients = make([]Client, len(lines))
	for i, l := range lines {
		id, err := ParseID(l.ID)
		if err != nil {
			return nil, err
		}
		if l.Name == "" || len(l.Name) > MaxClientName || !plainFolder(l.Folder) {
			return nil, fmt.Errorf("client %s has no proper name or folder", id)
		}
		clients[i] = Client{
			ID: id, Name: l.Name, PublicKey: l.PublicKey, Protocol: l.Protocol, Rights: l.Rights & AllRights, Quota: l.Quota,
			RevokedAt: Time{l.RevokedAt}, RegisteredAt: Time{l.RegisteredAt}, LastSeen: Time{l.RegisteredAt},
			Folder: l.Folder, FolderKey: Fold(l.Folder),
			KeepVersions: l.KeepVersions, ExpireAfter: l.ExpireAfter, KeepPartial: l.KeepPartial,
		}
		if len(l.Fingerprint) == len(clients[i].Fingerprint) {
			copy(clients[i].Fingerprint[:], l.Fingerprint)
		}
	}
	return clients, nil
}

// Enrol records the clients of a roster in a catalogue that has none.
func (c *Catalogue) Enrol(roster []byte) error {
	clients, err := parseRoster(roster)
	if err != nil {
		return err
	}
	return c.manage(func(tx *gorm.DB) error {
		for i := range clients {
			// Not Create alone: it would take rights of none for the column's default.
			known := clause.OnConflict{Columns: []clause.Column{{Name: "id"}}, DoNothing: true} // by a try whose outcome nobody was told
			if err := tx.Clauses(known).Select("*").Create(&clients[i]).Error; err != nil {
				return err
			}
		}
		return nil
	})
}

// Lag is what a roster has of a client and the catalogue has not: the catalogue was
// restored from an older copy.
type Lag struct {
	Client  Client // as the roster has it
	Unknown bool   // the catalogue has no such client
	Revoked bool   // it was revoked, and is not by the catalogue
	Other   bool   // the catalogue has another key or other rights of it
}

// Behind lists what the catalogue lacks of a roster.
func (c *Catalogue) Behind(roster []byte) ([]Lag, error) {
	clients, err := parseRoster(roster)
	if err != nil {
		return nil, err
	}
	var behind []Lag
	for _, k := range clients {
		has, known, err := c.Client(k.ID)
		if err != nil {
			return nil, err
		}
		lag := Lag{Client: k}
		switch {
		case !known:
			// One that never sent a key may have given its name up: see abandonedAfter.
			lag.Unknown = len(k.PublicKey) > 0 || !k.RevokedAt.IsZero()
		case !has.RevokedAt.IsZero():
		case !bytes.Equal(has.PublicKey, k.PublicKey) || has.Rights != k.Rights:
			lag.Other = true // revoked or not: by InviteRekey it may have come back since
		default:
			lag.Revoked = !k.RevokedAt.IsZero()
		}
		if lag.Unknown || lag.Revoked || lag.Other {
			behind = append(behind, lag)
		}
	}
	return behind, nil
}

// Recall records a client of a roster that the catalogue does not know, with its key,
// rights and revocation. It returns ErrNameTaken if another has its name or its folder.
func (c *Catalogue) Recall(k Client) error {
	return c.manage(func(tx *gorm.DB) error {
		var known, taken int64
		if err := tx.Model(&Client{}).Where("id = ?", k.ID).Count(&known).Error; err != nil || known > 0 {
			return err
		}
		if err := tx.Model(&Client{}).Where("name = ? OR folder_key = ?", k.Name, k.FolderKey).Count(&taken).Error; err != nil {
			return err
		}
		if taken > 0 {
			return ErrNameTaken
		}
		return tx.Select("*").Create(&k).Error // rights of none are no default
	})
}

// Knows reports whether a client of a roster is one of the catalogue's: a storage whose
// roster has none of them is another catalogue's.
func (c *Catalogue) Knows(roster []byte) (bool, error) {
	clients, err := parseRoster(roster)
	if err != nil {
		return false, err
	}
	for _, k := range clients {
		if _, known, err := c.Client(k.ID); err != nil || known {
			return known, err
		}
	}
	return false, nil
}

// Counts reports whether the catalogue counts on any content: it has a file that is
// verified.
func (c *Catalogue) Counts() (yes bool, err error) {
	err = c.read(func(db *gorm.DB) error {
		yes, err = stands(db, &File{}, "verified")
		return err
	})
	return yes, err
}
