package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fenc/model"
)

// audited is a server whose storage tests break, and a client of it.
type audited struct {
	*daemon
	config   string // server.toml
	source   string // the client's folder, with the files tree/0 … and tree/large
	settings string // transfer.toml
}

func newAudited(t *testing.T, files int) *audited {
	t.Helper()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	a := &audited{daemon: d, config: filepath.Join(d.dir, "server.toml"), source: dir, settings: settings}
	if err := os.Mkdir(filepath.Join(dir, "tree"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range files {
		write(t, filepath.Join(dir, "tree", fmt.Sprint(i)), strings.Repeat("x", i+1))
	}
	write(t, filepath.Join(dir, "tree", "large"), strings.Repeat("0123456789", 300_000))
	a.send(t)
	return a
}

func (a *audited) send(t *testing.T) {
	t.Helper()
	fenc(t.Context(), nil, "send", "--config", a.settings, filepath.Join(a.source, "tree")).want(t, 0)
}

func (a *audited) check(t *testing.T, args ...string) result {
	t.Helper()
	return fenc(t.Context(), nil, append([]string{"check", "--config", a.config}, args...)...)
}

// file returns the catalogue's row of tree/NAME.
func (a *audited) file(t *testing.T, name string) model.File {
	t.Helper()
	c, err := model.Open(filepath.Join(a.dir, "fenc.db"), model.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var found model.File
	err = c.EachFile("", func(page []model.File) error {
		for _, f := range page {
			if f.FileName == "tree/"+name {
				found = f
			}
		}
		return nil
	})
	if err != nil || found.ID == 0 {
		t.Fatalf("no file tree/%s: %v", name, err)
	}
	return found
}

// places returns where the object and the view of tree/NAME are.
func (a *audited) places(t *testing.T, name string) (object, view string) {
	t.Helper()
	f := a.file(t, name)
	key := f.Object.String()
	return filepath.Join(a.dir, "files", ".fenc", "objects", key[:2], key), filepath.Join(a.dir, "files", filepath.FromSlash(f.FilePath))
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	one, err := os.ReadFile(a)
	if err != nil {
		t.Error(err)
	}
	if two, err := os.ReadFile(b); err != nil || !bytes.Equal(one, two) {
		t.Errorf("%s and %s differ, %v", a, b, err)
	}
}

func TestCheckBesideARunningServer(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 4)
	a.check(t).want(t, 0, "5 files", "5 objects: 0 differences")
	a.check(t, "--deep").want(t, 0, "0 differences")

	t.Run("taken from the tree", func(t *testing.T) {
		_, view := a.places(t, "0")
		remove(t, view)
		a.check(t).want(t, 1, "grace/tree/0: the tree does not show it; fenc check --repair", "1 difference is left")
		a.check(t, "--repair").want(t, 0, "mended: shown again", "1 difference, 1 mended")
		same(t, view, filepath.Join(a.source, "tree", "0"))
	})
	t.Run("object lost, whole in the tree", func(t *testing.T) {
		object, view := a.places(t, "large")
		remove(t, object)
		a.check(t).want(t, 1, "grace/tree/large: its content is missing")
		a.check(t, "--repair").want(t, 0, "taken from the tree")
		same(t, object, view)
	})
	t.Run("object lost, something else in the tree", func(t *testing.T) {
		object, view := a.places(t, "1")
		remove(t, object, view)
		write(t, view, "yy")
		a.check(t, "--repair").want(t, 0, "not counted as verified any more")
		a.check(t).want(t, 1, "its content is missing; it is not counted as verified")
		fenc(t.Context(), nil, "files", "--config", a.config, "--unverified").want(t, 0, "tree/1")
		// The server must learn of it, or it would call the file unchanged.
		eventually(t, "the server notices", func() bool { a.send(t); return a.file(t, "1").Verified })
		a.check(t, "--deep").want(t, 0)
		same(t, view, filepath.Join(a.source, "tree", "1"))
	})
	t.Run("content changed by somebody", func(t *testing.T) {
		object, _ := a.places(t, "large")
		f, err := os.OpenFile(object, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte("!"), 2_000_000); err != nil {
			t.Fatal(err)
		}
		a.check(t).want(t, 0)
		a.check(t, "--deep").want(t, 1, "grace/tree/large: its content is damaged: the checksum differs")
		a.check(t, "--deep", "--repair").want(t, 0, "not counted as verified any more")
		// It comes back from where it was changed.
		if _, err := f.WriteAt([]byte("0"), 2_000_000); err != nil {
			t.Fatal(err)
		}
		a.check(t).want(t, 1, "its content is whole, and it is not counted as verified")
		a.check(t, "--repair").want(t, 0, "counted as verified again")
		a.check(t, "--deep").want(t, 0)
	})
	t.Run("content cut", func(t *testing.T) {
		object, _ := a.places(t, "3")
		if err := os.Truncate(object, 1); err != nil {
			t.Fatal(err)
		}
		a.check(t).want(t, 1, "grace/tree/3: its content has 1 bytes, want 4")
		a.check(t, "--repair").want(t, 0)
		eventually(t, "the server notices", func() bool { a.send(t); return a.file(t, "3").Verified })
		a.check(t, "--deep").want(t, 0)
	})
	t.Run("strangers", func(t *testing.T) {
		foreign := write(t, filepath.Join(a.dir, "files", "grace", "foreign"), "?")
		object := write(t, filepath.Join(a.dir, "files", ".fenc", "objects", "AB", "AB"+strings.Repeat("0", 30)), "?")
		odd := write(t, filepath.Join(a.dir, "files", ".fenc", "objects", "AB", "odd"), "?")
		r := a.check(t, "--repair")
		r.want(t, 1, "grace/foreign: the tree has it", "does not say what it is (1 bytes)", "AB/odd: it is no object", "3 differences are left")
		remove(t, foreign, object, odd)
		a.check(t).want(t, 0)
	})
}

func TestRestoredBackupTakesUpWhatCameSince(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 3)
	to := t.TempDir()
	made := fenc(t.Context(), nil, "backup", "--config", a.config, to)
	made.want(t, 0)
	write(t, filepath.Join(a.source, "tree", "0"), "changed")
	for i := range 40 { // a pack
		write(t, filepath.Join(a.source, "tree", fmt.Sprintf("late-%d", i)), fmt.Sprint(i))
	}
	write(t, filepath.Join(a.source, "tree", "later"), strings.Repeat("later", 500_000))
	a.send(t)
	a.stop(t)
	db := filepath.Join(a.dir, "fenc.db")
	remove(t, db)
	if err := os.Rename(strings.TrimSpace(made.out), db); err != nil {
		t.Fatal(err)
	}
	a.check(t).want(t, 1, "grace/tree/later: content that the catalogue does not know; fenc check --repair")
	a.check(t, "--repair").want(t, 0, "grace/tree/later: content that the catalogue does not know; mended", "grace/tree/0: content")
	a.check(t, "--deep").want(t, 0, "45 files")
	a.getsAll(t, serve(t, a.dir))
}

// getsAll fetches everything back and compares it with what was sent.
func (a *audited) getsAll(t *testing.T, d *daemon) {
	t.Helper()
	to := t.TempDir()
	fenc(t.Context(), nil, "get", "--config", a.settings, "--server", d.addr, "--dir", to, ".").want(t, 0)
	entries, err := os.ReadDir(filepath.Join(a.source, "tree"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		same(t, filepath.Join(to, "tree", e.Name()), filepath.Join(a.source, "tree", e.Name()))
	}
}

func TestLostDatabaseIsMadeAnew(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 30)
	write(t, filepath.Join(a.source, "tree", "large"), "another version")
	a.send(t)
	a.join(t, "--name", "ada")
	fenc(t.Context(), nil, "clients", "revoke", "--config", a.config, "ada").want(t, 0)
	before := fenc(t.Context(), nil, "files", "--config", a.config)
	a.check(t, "--rebuild").want(t, 2, "there is a database at")
	a.stop(t)
	remove(t, filepath.Join(a.dir, "fenc.db"))
	// They sent people to fenc serve, which makes none over a storage that is used.
	for _, command := range []string{"check", "files", "invite", "clients", "uploads"} {
		r := fenc(t.Context(), nil, command, "--config", a.config)
		r.want(t, 1, "fenc.db", filepath.Join(a.dir, "files")+" has what clients sent", "--database", "restore it from a backup", "fenc check --rebuild")
		if strings.Contains(r.errors, "first start") {
			t.Errorf("%s: got %s, want nothing of a first start", command, r.errors)
		}
	}
	fenc(t.Context(), nil, "files", "--database", filepath.Join(t.TempDir(), "fenc.db")).want(t, 1, "fenc serve makes it at its first start")
	a.check(t, "--rebuild").want(t, 0, "database made anew")
	a.check(t, "--deep").want(t, 0, " 0 differences")
	wantSameFiles(t, before, fenc(t.Context(), nil, "files", "--config", a.config))
	fenc(t.Context(), nil, "clients", "--config", a.config).want(t, 0, "ada    REVOKED", "grace  ")
	a.getsAll(t, serve(t, a.dir)) // by the key that it has
}

// It named a command that there is not.
func TestLostDatabaseWithoutTheListOfClients(t *testing.T) {
	t.Parallel()
	a := newAudited(t, 1)
	a.stop(t)
	remove(t, filepath.Join(a.dir, "fenc.db"), filepath.Join(a.dir, "files", ".fenc", "note-clients"))
	a.check(t, "--rebuild").want(t, 0, "database made anew", "clients have no keys in it: give each another with fenc clients rekey NAME")
	d := serve(t, a.dir)
	invite := d.operator(t, "clients", "rekey", "grace")
	invite.want(t, 0)
	home := t.TempDir()
	fenc(t.Context(), nil, "join", "--dir", home, strings.TrimSpace(invite.out)).want(t, 0, "joined")
	fenc(t.Context(), nil, "list", "--config", filepath.Join(home, "transfer.toml")).want(t, 0, "tree/0")
}

func TestLostDatabaseOfProtocol3IsMadeAnew(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	dir, settings := client(t, d.addr, "ada")
	fenc(t.Context(), nil, "send", "--config", settings, write(t, filepath.Join(dir, "three"), "3")).want(t, 0)
	d.stop(t)
	config := filepath.Join(d.dir, "server.toml")
	before := fenc(t.Context(), nil, "files", "--config", config)
	before.want(t, 0, "three")
	remove(t, filepath.Join(d.dir, "fenc.db"))
	fenc(t.Context(), nil, "check", "--config", config, "--rebuild").want(t, 0)
	wantSameFiles(t, before, fenc(t.Context(), nil, "files", "--config", config))
	fenc(t.Context(), nil, "check", "--config", config, "--deep").want(t, 0)
}

// wantSameFiles compares what fenc files says before and after a database is made anew.
// The times are then those of the labels, which are written before the rows.
func wantSameFiles(t *testing.T, before, after result) {
	t.Helper()
	before.want(t, 0)
	after.want(t, 0)
	received := regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	if got, want := received.ReplaceAllString(after.out, "TIME"), received.ReplaceAllString(before.out, "TIME"); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	rows, labels := received.FindAllString(before.out, -1), received.FindAllString(after.out, -1)
	for i, row := range rows {
		if labels[i] > row {
			t.Errorf("a file of %s was received at %s", row, labels[i])
		}
	}
	if len(rows) == 0 {
		t.Errorf("no times in\n%s", before.out)
	}
}

// Options before a subcommand are not dropped: the change would reach another
// catalogue.
func TestOptionsBeforeTheSubcommandCount(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	d.join(t, "--name", "grace")
	config, database := filepath.Join(d.dir, "server.toml"), filepath.Join(d.dir, "fenc.db")
	fenc(t.Context(), nil, "clients", "--config", config, "rights", "grace", "read").want(t, 0, "rights read")
	fenc(t.Context(), nil, "clients", "--database", database, "rights", "grace", "send").want(t, 0, "rights send")
	fenc(t.Context(), nil, "clients", "--config", "elsewhere.toml", "rights", "--config", config, "grace", "none").want(t, 0, "rights none")
}
