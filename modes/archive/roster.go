package archive

import (
	"bytes"

	"fenc/model"
	"fenc/model/storage"
)

// RosterNote is the note in the storage that lists the clients; see
// model.Catalogue.Roster.
const RosterNote = "clients"

// noteRoster keeps the list of clients in the storage, where it has changed.
func (a *Archive) noteRoster() error {
	a.rosterMu.Lock()
	defer a.rosterMu.Unlock()
	roster, err := a.Catalogue.Roster()
	if err != nil {
		return err
	}
	if bytes.Equal(roster, a.roster) {
		return nil
	}
	if a.roster == nil {
		noted, err := a.store.Note(RosterNote)
		if err != nil {
			return err
		}
		if a.roster = noted; bytes.Equal(roster, noted) {
			return nil
		}
	}
	if err := a.store.PutNote(RosterNote, roster); err != nil {
		return err
	}
	a.roster = roster
	return nil
}

// Enrol takes the clients over that the storage lists into a catalogue that has
// none. It reports whether there is such a list.
func Enrol(c *model.Catalogue, s *storage.Folder) (bool, error) {
	roster, err := s.Note(RosterNote)
	if err != nil || roster == nil {
		return false, err
	}
	return true, c.Enrol(roster)
}
