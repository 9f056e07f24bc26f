package model

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
)

func TestReadOnlyCatalogueStandsBesideTheServer(t *testing.T) {
	onEach(t, testReadOnlyCatalogueStandsBesideTheServer)
}

func testReadOnlyCatalogueStandsBesideTheServer(t *testing.T, fresh func(*testing.T) string) {
	path := fresh(t)
	server := open(t, path, Options{})
	grace := register(t, server, "grace")
	if _, err := server.OpenSession(grace.ID, "grace", 3, []byte("public"), "aaaa"); err != nil {
		t.Fatal(err)
	}
	if _, err := keep(t, server, grace, "a.txt", "a.txt", ""); err != nil {
		t.Fatal(err)
	}
	reader := open(t, path, Options{ReadOnly: true})
	var files []File
	err := reader.EachFile("", func(page []File) error {
		files = append(files, page...)
		return nil
	})
	if err != nil || len(files) != 1 || files[0].Client.Name != "grace" || files[0].FileName != "a.txt" || !files[0].Verified {
		t.Errorf("EachFile: got %+v, %v", files, err)
	}
	if _, err := reader.Register("ada", 3); err == nil {
		t.Error("a read-only catalogue took a write")
	}
	if got := query[string](t, server, "SELECT shared_key FROM clients"); got != "aaaa" {
		t.Errorf("shared_key = %q: reading ended the running session's key", got)
	}
	if _, err := server.Register("ada", 3); err != nil {
		t.Errorf("the server beside a reader: %v", err)
	}
}

func TestReadOnlyMakesNoDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fenc.db")
	if _, err := Open(path, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if matches, _ := filepath.Glob(path + "*"); len(matches) != 0 {
		t.Errorf("made %v", matches)
	}
}
