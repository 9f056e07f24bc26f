package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// backup returns a copy of the catalogue as it is now.
func (a *audited) backup(t *testing.T) (path string) {
	t.Helper()
	made := fenc(t.Context(), nil, "backup", "--config", a.config, t.TempDir())
	made.want(t, 0)
	return strings.TrimSpace(made.out)
}

// restore puts a copy in the place of the database.
func (a *audited) restore(t *testing.T, copied string) {
	t.Helper()
	if err := os.Rename(copied, filepath.Join(a.dir, "fenc.db")); err != nil {
		t.Fatal(err)
	}
}

// What a killed server had left of its database's log was read into the copy: the
// database was then damaged, or the one before with some of its pages older.
func TestRestoredBackupIsNotMixedWithAnotherLog(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 3)
	copied, log := a.backup(t), filepath.Join(a.dir, "fenc.db-wal")
	write(t, filepath.Join(a.source, "tree", "later"), "later")
	a.send(t)
	left, err := os.ReadFile(log)
	if err != nil || len(left) == 0 {
		t.Fatalf("the log of the running server: %d bytes, %v", len(left), err)
	}
	a.stop(t)
	a.restore(t, copied)
	write(t, log, string(left))
	for _, command := range [][]string{{"check"}, {"check", "--repair"}, {"clients"}, {"serve"}} {
		r := fenc(t.Context(), nil, append(command, "--config", a.config)...)
		r.want(t, 1, "copy in the place of another database", "fenc.db-wal and ", "fenc.db-shm away")
	}
	fenc(t.Context(), nil, "doctor", "serve", "--config", a.config).want(t, 1, "copy in the place of another database")
	remove(t, log)
	a.check(t, "--repair").want(t, 0, "grace/tree/later: content that the catalogue does not know; mended")
	a.getsAll(t, serve(t, a.dir))
}
