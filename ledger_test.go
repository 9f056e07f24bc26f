package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"lukechampine.com/blake3"

	"fenc/model"
)

// identity is what a content is known by.
type identity struct {
	size   int64
	crc32  uint32
	blake3 model.Hash
}

func identify(content []byte) identity {
	return identity{int64(len(content)), crc32.ChecksumIEEE(content), blake3.Sum256(content)}
}

// ledger is what clients were told, and what they were in the middle of. Paths are
// of the tree: the client's folder, and the file's name.
type ledger struct {
	mu       sync.Mutex
	verified map[string]identity          // the last content that was called verified
	since    map[string]map[identity]bool // sent after it, and not heard of
	answers  int                          // that called a file verified
}

func newLedger() *ledger {
	return &ledger{verified: make(map[string]identity), since: make(map[string]map[identity]bool)}
}

// begin notes contents that are about to be sent.
func (l *ledger) begin(folder string, files map[string][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, content := range files {
		path := folder + "/" + name
		if l.since[path] == nil {
			l.since[path] = make(map[identity]bool)
		}
		l.since[path][identify(content)] = true
	}
}

var answerLine = regexp.MustCompile(`(?m)^(\S+)  .*  (verified|unchanged)$`)

// heard notes which of the files fenc send calls verified, and returns how many.
func (l *ledger) heard(folder string, files map[string][]byte, said string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := answerLine.FindAllStringSubmatch(said, -1)
	for _, line := range lines {
		content, ok := files[line[1]]
		if !ok {
			continue
		}
		path := folder + "/" + line[1]
		l.verified[path] = identify(content)
		delete(l.since, path)
	}
	l.answers += len(lines)
	return len(lines)
}

// may reports whether a file may have this content, as far as has tells them apart.
func (l *ledger) may(path string, is func(identity) bool) bool {
	if v, ok := l.verified[path]; ok && is(v) {
		return true
	}
	for s := range l.since[path] {
		if is(s) {
			return true
		}
	}
	return false
}

// checkCatalogue compares the catalogue of a server, which may be running, with
// what was promised. That content has the digests of the catalogue is for fenc
// check --deep to find out.
func (l *ledger) checkCatalogue(t testing.TB, dir string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	r := fenc(t.Context(), nil, "files", "--json", "--database", filepath.Join(dir, "fenc.db"))
	r.want(t, 0)
	there := make(map[string]bool)
	for lines := json.NewDecoder(strings.NewReader(r.out)); ; {
		var f struct {
			Path     string
			Bytes    int64
			CRC32    string `json:"crc32"`
			BLAKE3   string `json:"blake3"`
			Verified bool
		}
		if err := lines.Decode(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		there[f.Path] = true
		same := func(i identity) bool {
			if i.size != f.Bytes {
				return false
			}
			if f.BLAKE3 != "" {
				return i.blake3.String() == f.BLAKE3
			}
			return crcText(i.crc32) == f.CRC32
		}
		if !f.Verified || !l.may(f.Path, same) {
			t.Errorf("catalogue: %+v is neither what was verified nor anything sent since", f)
		}
	}
	for path := range l.verified {
		if !there[path] {
			t.Errorf("catalogue: %s was called verified and is not there", path)
		}
	}
}

// checkTree compares the tree with what was promised: files that were called
// verified are there, whole; others are whole or absent.
func (l *ledger) checkTree(t testing.TB, tree string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for path := range l.verified {
		l.checkFile(t, tree, path, true)
	}
	for path := range l.since {
		if _, promised := l.verified[path]; !promised {
			l.checkFile(t, tree, path, false)
		}
	}
}

func (l *ledger) checkFile(t testing.TB, tree, path string, must bool) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(tree, filepath.FromSlash(path)))
	if errors.Is(err, fs.ErrNotExist) && !must {
		return
	}
	got := identify(content)
	if err != nil || !l.may(path, func(i identity) bool { return i == got }) {
		t.Errorf("%s: %v, %d bytes that are neither what was verified nor anything sent since", path, err, len(content))
	}
}

// wantNoStrays checks a stopped server's storage: nothing in it that the
// catalogue does not know, nothing in the catalogue that is not in it.
func wantNoStrays(t *testing.T, dir string) {
	t.Helper()
	catalogue, err := model.Open(filepath.Join(dir, "fenc.db"), model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer catalogue.Close()
	known := make(map[string]bool) // and whether it must be there
	files, err := catalogue.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		known[f.File.Object.String()] = true
		if !f.File.Verified {
			t.Errorf("%s is no longer verified", f.File.FilePath)
		}
	}
	garbage, err := catalogue.GarbageBefore(time.Now().Add(time.Hour), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range garbage {
		known[id.String()] = false // perhaps an id that was reserved and not used
	}
	for _, state := range []model.UploadState{model.UploadOpen, model.UploadSealing} {
		uploads, err := catalogue.Uploads(state)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range uploads {
			if u.Protocol == 3 || state != model.UploadOpen {
				t.Errorf("upload %s is left in state %s", u.ID, state)
			}
			known[u.ID.String()] = false // to be resumed; its row was there before its bytes
		}
	}
	root, found := filepath.Join(dir, "files", ".fenc"), make(map[string]bool)
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || e.Name() == "lock" || e.Name() == "note-clients" {
			return err
		}
		key, label := strings.CutSuffix(e.Name(), ".label") // where the file system keeps none with its files
		if _, is := known[key]; !is {
			t.Errorf("stray: %s", path)
		}
		if !label {
			found[key] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for id, must := range known {
		if must && !found[id] {
			t.Errorf("no content for the object %s", id)
		}
	}
}

func crcText(sum uint32) string { return fmt.Sprintf("%08x", sum) }

// checkDeep has fenc check compare all content with the catalogue's digests.
func checkDeep(t testing.TB, dir string) {
	t.Helper()
	fenc(t.Context(), nil, "check", "--deep", "--database", filepath.Join(dir, "fenc.db"), "--storage", filepath.Join(dir, "files")).want(t, 0)
}
