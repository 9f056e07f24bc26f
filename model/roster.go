package model

import (
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
func parseRoster(roster []byte) ([]Client, error) {
	var lines []rosterLine
	if err := json.Unmarshal(roster, &lines); err != nil {
		return nil, fmt.Errorf("read the storage's list of clients: %w", err)
	}
	clients := make([]Client, len(lines))
	for i, l := range lines {
		id, err := ParseID(l.ID)
		if err != nil {
			return nil, fmt.Errorf("read the storage's list of clients: %w", err)
		}
		if l.Name == "" || len(l.Name) > MaxClientName || !plainFolder(l.Folder) {
			return nil, fmt.Errorf("read the storage's list of clients: client %s has no proper name or folder", id)
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
