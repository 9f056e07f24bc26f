package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server whose storage is not mounted, or another one's, is not started: it told
// senders that their files were there, who removed their own, and called what it did not
// find lost.
func TestForeignStorageIsRefused(t *testing.T) {
	t.Parallel()
	other := serve(t, t.TempDir())
	newFaulted(t, other.dir, other.addr)
	other.stop(t)
	for name, c := range map[string]struct {
		storage string
		says    string
	}{
		"empty":                  {t.TempDir(), "is empty"},
		"of another catalogue's": {filepath.Join(other.dir, "files"), "has the files of other clients"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := serve(t, t.TempDir())
			f := newFaulted(t, d.dir, d.addr)
			settings := filepath.Join(d.dir, "server.toml")
			d.stop(t)
			fenc(t.Context(), nil, "serve", "--config", settings, "--storage", c.storage).want(t, 2,
				"the storage "+c.storage+" "+c.says, "mount its file system", "fenc check --repair")
			fenc(t.Context(), nil, "doctor", "serve", "--config", settings, "--storage", c.storage).want(t, 1,
				"the storage "+c.storage+" "+c.says, "mount its file system", "doctor: 1 thing is wrong")
			d = serve(t, d.dir) // with its own, of which nothing is called lost
			f.at(d.addr)
			f.served(t)
			d.stop(t)
			f.nothingLost(t)
		})
	}
}

// Who has lost a storage for good says so, and goes on with an empty one.
func TestLostStorageIsBegunAnewOnceTheDatabaseKnows(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	f := newFaulted(t, d.dir, d.addr)
	settings, files := filepath.Join(d.dir, "server.toml"), filepath.Join(d.dir, "files")
	d.stop(t)
	if err := os.RemoveAll(files); err != nil {
		t.Fatal(err)
	}
	fenc(t.Context(), nil, "serve", "--config", settings).want(t, 2, "is empty")
	fenc(t.Context(), nil, "check", "--repair", "--config", settings).want(t, 0, "mended")
	d = serve(t, d.dir)
	f.at(d.addr)
	for name, content := range map[string]string{"before": "before", "again": "before"} {
		r := f.four.send(t.Context(), map[string][]byte{name: []byte(content)})
		if r.want(t, 0, "verified"); strings.Contains(r.out, "unchanged") {
			t.Errorf("%s: got\n%s\nwant it sent", name, r.out)
		}
	}
	f.three.send(t.Context(), map[string][]byte{"before": []byte("before")}).want(t, 0, "verified")
	d.stop(t)
	checkDeep(t, d.dir)
}

// Content that the storage has lost is not called unchanged: it is sent again, and who
// removes what is verified keeps a copy somewhere.
func TestLostContentIsNotUnchanged(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 600, "large": 3 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := serve(t, t.TempDir())
			f := newFaulted(t, d.dir, d.addr)
			files := map[string][]byte{"it": []byte(strings.Repeat("x", size))}
			path := write(t, filepath.Join(f.four.home, "it"), string(files["it"]))
			again := func() result {
				f.kept.begin(f.four.name, files)
				r := fenc(t.Context(), nil, "send", "--checksum", "--config", filepath.Join(f.four.home, "transfer.toml"), path)
				f.kept.heard(f.four.name, files, r.out)
				return r
			}
			again().want(t, 0, "verified")
			again().want(t, 0, "unchanged")
			for _, found := range objectsOfSize(t, d.dir, int64(size)) {
				if err := os.Remove(found); err != nil {
					t.Fatal(err)
				}
			}
			if r := again(); r.status != 0 || strings.Contains(r.out, "unchanged") {
				t.Errorf("the content is gone, and the client was told (%d)\n%s%s", r.status, r.out, r.errors)
			}
			d.log.await(t, "content of a verified file is missing", d.ended)
			again().want(t, 0, "unchanged")
			d.stop(t)
			f.nothingLost(t)
		})
	}
}

// Content that a reader misses is no longer called there.
func TestLostContentIsNotListedOnceItIsMissed(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	f := newFaulted(t, d.dir, d.addr)
	settings := filepath.Join(f.four.home, "transfer.toml")
	for _, found := range objectsOfSize(t, d.dir, int64(len("before ")*50_000)) { // one of each client
		if err := os.Remove(found); err != nil {
			t.Fatal(err)
		}
	}
	fenc(t.Context(), nil, "list", "--config", settings).want(t, 0, "before")
	fenc(t.Context(), nil, "get", "--config", settings, "--dir", t.TempDir(), "before").want(t, 3, "lost or damaged")
	if r := fenc(t.Context(), nil, "list", "--config", settings); strings.Contains(r.out, "before") {
		t.Errorf("still listed:\n%s", r.out)
	}
}

// objectsOfSize returns the storage's objects that have so many bytes.
func objectsOfSize(t *testing.T, dir string, size int64) (found []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "files", ".fenc"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the server put it elsewhere, or had it for a moment
		}
		if err == nil && info.Size() == size {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("no object of %d bytes: %v", size, err)
	}
	return found
}
