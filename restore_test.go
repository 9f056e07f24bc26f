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

// Whoever had joined since the copy came back without a key and revoked, and whoever had
// been revoked since came in again: the storage's list of clients was not asked.
func TestRestoredBackupLearnsOfClients(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 1)
	_, stolen := a.join(t, "--name", "stolen")
	_, other := a.join(t, "--name", "other")
	copied := a.backup(t)
	dir, settings := a.join(t, "--name", "ada")
	file := write(t, filepath.Join(dir, "hers"), "hers")
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0, "verified")
	a.operator(t, "clients", "revoke", "stolen").want(t, 0)
	a.operator(t, "clients", "rights", "other", "send").want(t, 0)
	a.stop(t)
	a.restore(t, copied)

	// A start would write over the list.
	fenc(t.Context(), nil, "serve", "--config", a.config).want(t, 2, "fenc check --repair takes up what the storage has")
	fenc(t.Context(), nil, "doctor", "serve", "--config", a.config).want(t, 1, "fenc check --repair takes up what the storage has")
	a.check(t).want(t, 1, "client ada: the storage lists it and the catalogue does not know it; fenc check --repair",
		"client stolen: the storage lists it as revoked and the catalogue does not; fenc check --repair")
	a.check(t, "--repair").want(t, 1, "client ada: the storage lists it and the catalogue does not know it; mended: taken up",
		"client stolen: the storage lists it as revoked and the catalogue does not; mended: revoked",
		"client other: the storage lists it with another key or other rights", "fenc clients rights", "1 difference is left",
		"ada/hers: content that the catalogue does not know; mended")
	d := serve(t, a.dir)
	fenc(t.Context(), nil, "list", "--config", settings, "--server", d.addr).want(t, 0, "hers")
	fenc(t.Context(), nil, "list", "--config", stolen, "--server", d.addr).want(t, 3, "revoked")
	fenc(t.Context(), nil, "list", "--config", other, "--server", d.addr).want(t, 0)
	d.stop(t)
	a.check(t).want(t, 0) // the server's end has brought the list up to date
}

// A client that got another key a moment before the server was killed, when the list was
// not brought up to date yet, is not kept out for what the list says.
func TestStaleListOfClientsRevokesNobody(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 1)
	a.operator(t, "clients", "revoke", "grace").want(t, 0)
	a.stop(t)
	list := filepath.Join(a.dir, "files", ".fenc", "note-clients")
	stale, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	d := serve(t, a.dir)
	invite := d.operator(t, "clients", "rekey", "grace")
	invite.want(t, 0)
	home := t.TempDir()
	fenc(t.Context(), nil, "join", "--dir", home, strings.TrimSpace(invite.out)).want(t, 0, "joined")
	d.stop(t)
	write(t, list, string(stale))
	a.check(t, "--repair").want(t, 1, "client grace: the storage lists it with another key or other rights")
	d = serve(t, a.dir)
	fenc(t.Context(), nil, "list", "--config", filepath.Join(home, "transfer.toml"), "--server", d.addr).want(t, 0, "tree/0")
}

// A database that has lost what it had, as one without its -wal, was begun anew over the
// storage: everybody registered again, and the list of clients was written over.
func TestDatabaseThatLostItsContentIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	for name, listed := range map[string]bool{"with a list of clients": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAudited(t, 2)
			a.stop(t)
			remove(t, filepath.Join(a.dir, "fenc.db"))
			fenc(t.Context(), nil, "migrate", "--config", a.config).want(t, 0)
			list := filepath.Join(a.dir, "files", ".fenc", "note-clients")
			before, err := os.ReadFile(list)
			if err != nil {
				t.Fatal(err)
			}
			if !listed {
				remove(t, list)
			}
			for range 2 {
				fenc(t.Context(), nil, "serve", "--config", a.config).want(t, 2, "or has lost what it had, fenc check --repair")
			}
			after, err := os.ReadFile(list)
			if listed && (err != nil || string(after) != string(before)) || !listed && !os.IsNotExist(err) {
				t.Errorf("the list of clients is %q, %v; want it as it was", after, err)
			}
			a.check(t, "--repair").want(t, 0, "grace/tree/large: content that the catalogue does not know; mended")
			d := serve(t, a.dir)
			if listed {
				a.getsAll(t, d)
			}
		})
	}
}

// What stood in a file's place was replaced, whosever it was, and a folder there ended the
// whole check.
func TestRepairRemovesNothingOfOthersFromTheTree(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 6)
	a.stop(t)
	_, folder := a.places(t, "0")
	_, file := a.places(t, "1")
	_, sameSize := a.places(t, "2")
	_, link := a.places(t, "3")
	_, earlier := a.places(t, "4")
	_, copied := a.places(t, "5")
	remove(t, folder, file, sameSize, link, copied)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, file, "somebody's")
	write(t, sameSize, "abc")
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), link); err != nil {
		t.Skip(err)
	}
	large, _ := a.places(t, "large")
	if _, err := os.Stat(large + ".label"); err != nil { // it has its label with it
		remove(t, earlier)
		if err := os.Link(large, earlier); err != nil { // another object's view
			t.Skip(err)
		}
	}
	write(t, copied, "xxxxxx") // as by a copy without hard links
	const foreign = ": the tree does not show it: something else stands in its place; move that away, and run fenc check --repair"
	r := a.check(t, "--repair")
	r.want(t, 1, "grace/tree/0"+foreign, "grace/tree/1"+foreign, "grace/tree/2"+foreign, "grace/tree/3"+foreign,
		"grace/tree/5: the tree does not show it; mended: shown again", "4 differences are left")
	if text, err := os.ReadFile(file); err != nil || string(text) != "somebody's" {
		t.Errorf("somebody's file: %q, %v", text, err)
	}
	if text, err := os.ReadFile(sameSize); err != nil || string(text) != "abc" {
		t.Errorf("somebody's file of the same size: %q, %v", text, err)
	}
	same(t, copied, filepath.Join(a.source, "tree", "5"))
	same(t, earlier, filepath.Join(a.source, "tree", "4"))
	remove(t, folder, file, sameSize, link)
	a.check(t, "--repair").want(t, 0, "4 mended")

	// A file has the place of a folder.
	tree := filepath.Dir(folder)
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	write(t, tree, "somebody's")
	a.check(t, "--repair").want(t, 1, "grace/tree/0"+foreign, "grace/tree/large"+foreign)
	remove(t, tree)
	a.check(t, "--repair").want(t, 0)
	a.getsAll(t, serve(t, a.dir))
}
