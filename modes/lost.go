package modes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
)

// refuseLost refuses to begin an empty catalogue over a storage that has clients or
// their content: the catalogue is lost, or another one than the storage's is named.
// Its files would be unknown, the list of clients that fenc check --rebuild needs
// would be written over, and newcomers would get the names of those before them.
func refuseLost(settings config.Server, store *storage.Folder) error {
	there, err := hasCatalogue(settings)
	if err != nil {
		return explainDatabase(err, settings.Database)
	}
	if there {
		return nil
	}
	used, err := archive.Used(store)
	if err != nil || !used {
		return err
	}
	return &usageError{fmt.Errorf("there is no database at %s, and the storage has what clients sent: name its database with --database, restore it from a backup, or make it anew with fenc check --rebuild; to begin with nothing, name another storage", model.DatabaseName(settings.Database))}
}

// refuseForeign refuses a storage that is not the catalogue's: its file system is not
// mounted, or another one is named. The server would tell senders that their files are
// here, who may remove their own then, and take what it does not find for lost.
func refuseForeign(settings config.Server, catalogue *model.Catalogue, store *storage.Folder) error {
	is, remedy, err := foreign(settings, catalogue, store)
	if is != nil {
		err = &usageError{fmt.Errorf("%w: %s", is, remedy)}
	}
	return err
}

// foreign says that a storage is not the catalogue's, where that is so, and what to do.
func foreign(settings config.Server, catalogue *model.Catalogue, store *storage.Folder) (is error, remedy string, err error) {
	why, err := archive.Foreign(catalogue, store)
	if err != nil {
		return nil, "", err
	}
	if why == "" {
		return behind(settings, catalogue, store)
	}
	return fmt.Errorf("the storage %s %s, but the database %s counts on files in its storage", settings.Storage, why, model.DatabaseName(settings.Database)),
		"mount its file system, or name its storage with --storage; if the files are lost for good, fenc check --repair has the database know, and the server starts", nil
}

// behind says that a storage has what its catalogue has lost, where that is so, and what
// to do. The list of clients that fenc check --repair needs would be written over, and
// who was revoked would come in again.
func behind(settings config.Server, catalogue *model.Catalogue, store *storage.Folder) (is error, remedy string, err error) {
	why, err := archive.Behind(catalogue, store)
	if err != nil || why == "" {
		return nil, "", err
	}
	return fmt.Errorf("the storage %s %s (%s)", settings.Storage, why, model.DatabaseName(settings.Database)),
		"if the database was restored from an older copy, or has lost what it had, fenc check --repair takes up what the storage has, and the server starts; otherwise name the right one with --database or --storage", nil
}

// hasCatalogue reports whether there is a catalogue, or something else, where the
// server's is to be.
func hasCatalogue(settings config.Server) (bool, error) {
	if !settings.InPostgres() {
		return hasContent(settings.Database)
	}
	catalogue, err := openCatalogue(settings, model.Options{ReadOnly: true})
	if errors.Is(err, model.ErrNoCatalogue) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, catalogue.Close()
}

// hasContent reports whether there is anything at path but an empty file.
func hasContent(path string) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("database: %w", err)
	}
	return info.Size() > 0, nil
}
