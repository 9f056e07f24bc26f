package archive

import (
	"bytes"
	"errors"
	"fmt"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
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
	if err != nil || listsClients(roster) {
		return err == nil, err
	}
	return hasContent(s)
}

func listsClients(roster []byte) bool {
	text := bytes.TrimSpace(roster)
	return len(text) > 0 && !bytes.Equal(text, []byte("[]"))
}

// hasContent reports whether anything lies among a storage's objects.
func hasContent(s *storage.Folder) (bool, error) {
	found := errors.New("content")
	err := s.Objects(func(storage.Listed) error { return found }, func(string) error { return nil })
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

// Foreign says why a storage cannot be the one that the catalogue counts on, in words
// that follow its name; empty: it can. One that has content and no list of clients yet is
// taken for it.
func Foreign(c *model.Catalogue, s *storage.Folder) (why string, err error) {
	counts, err := c.Counts()
	if err != nil || !counts {
		return "", err
	}
	roster, err := s.Note(RosterNote)
	if err != nil {
		return "", err
	}
	if listsClients(roster) {
		known, err := c.Knows(roster)
		if err != nil || known {
			return "", err
		}
		return "has the files of other clients", nil
	}
	if content, err := hasContent(s); err != nil || content {
		return "", err
	}
	return "is empty", nil
}

// Behind says what a storage has that its catalogue must have had before, in words that
// follow the storage's name; empty: nothing. Such a catalogue was restored from an older
// copy, or is not the storage's.
func Behind(c *model.Catalogue, s *storage.Folder) (why string, err error) {
	roster, err := s.Note(RosterNote)
	if err != nil {
		return "", err
	}
	if listsClients(roster) {
		behind, err := c.Behind(roster)
		if err != nil {
			return "", err
		}
		for _, lag := range behind {
			name := wire.Printable(lag.Client.Name)
			switch _, taken, err := c.ClientNamed(lag.Client.Name); {
			case err != nil:
				return "", err
			case lag.Unknown && !taken: // nobody can come back for it otherwise
				return fmt.Sprintf("lists the client %s, whom the database does not know", name), nil
			case lag.Revoked:
				return fmt.Sprintf("lists the client %s as revoked, and the database does not", name), nil
			}
		}
	}
	clients, err := c.Clients()
	if err != nil || len(clients) > 0 {
		return "", err
	}
	if content, err := hasContent(s); err != nil || !content {
		return "", err
	}
	return "has what clients sent, and the database knows no client", nil
}
