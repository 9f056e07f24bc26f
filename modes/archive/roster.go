package archive

import (
	"bytes"
	"errors"

	"fenc/model"
	"fenc/model/storage"
)

// RosterNote is the note in the storage that lists the clients; see
// model.Catalogue.Roster.
const RosterNote = "clients"

// noteRoster keeps the list of clients in the storage, where it has changed.
func (a *Archive) noteRoster() error {
	if a.folder == nil {
		return nil
	}
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
		noted, err := a.folder.Note(RosterNote)
		if err != nil {
			return err
		}
		if a.roster = noted; bytes.Equal(roster, noted) {
			return nil
		}
	}
	if err := a.folder.PutNote(RosterNote, roster); err != nil {
		return err
	}
	a.roster = roster
	return nil
}

// Used reports whether a storage has clients or content.
func Used(s *storage.Folder) (bool, error) {
	roster, err := s.Note(RosterNote)
	if err != nil {
		return false, err
	}
	if text := bytes.TrimSpace(roster); len(text) > 0 && !bytes.Equal(text, []byte("[]")) {
		return true, nil
	}
	found := errors.New("content")
	err = s.Objects(func(storage.Listed) error { return found }, func(string) error { return nil })
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
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
