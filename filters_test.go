//go:build unix

package main

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"fenc/modes/send/digests"
)

// habitual is a client of a server, and the binary in a folder of its own.
type habitual struct {
	*daemon
	t             *testing.T
	dir, settings string
	env           []string
}

func newHabitual(t *testing.T, more ...string) *habitual {
	t.Helper()
	h := &habitual{daemon: serveInvited(t, t.TempDir(), more...), t: t}
	h.dir, h.settings = h.join(t, "--name", "grace")
	h.env = []string{"XDG_CACHE_HOME=" + filepath.Join(h.dir, "cache")}
	return h
}

// send runs fenc send in the client's folder.
func (h *habitual) send(stdin string, args ...string) result {
	h.t.Helper()
	return h.run(stdin, append([]string{"send"}, args...)...)
}

func (h *habitual) run(stdin string, args ...string) result {
	h.t.Helper()
	path, err := binary()
	if err != nil {
		h.t.Fatal(err)
	}
	c := exec.Command(path, args...)
	c.Stdin = strings.NewReader(stdin)
	return startCommand(h.t, h.dir, h.env, c).result(h.t)
}

func (h *habitual) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	return write(h.t, path, text)
}

// stored is what the server shows under a name; "" where it shows nothing.
func (h *habitual) stored(name string) string {
	text, _ := os.ReadFile(filepath.Join(h.daemon.dir, "files", "grace", name))
	return string(text)
}

func (h *habitual) wantStored(want map[string]string) {
	h.t.Helper()
	r := h.run("", "list", "--json")
	r.want(h.t, 0)
	if got := strings.Count(r.out, "\n"); got != len(want) {
		h.t.Errorf("the server has %d files, want %d:\n%s", got, len(want), r.out)
	}
	for name := range want {
		r.want(h.t, 0, `"path":"`+name+`"`)
	}
}

func TestFilesFrom(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	for _, name := range []string{"a/x", "b/x", "b/skip.o", "c d"} {
		h.write(name, name)
	}
	list := h.write("list", "# a comment\n\n./a/x\r\nb/x\nb/skip.o\nb\n")
	r := h.send("", "--files-from", list, "--exclude", "*.o")
	r.want(t, 0, "a/x  3 bytes", "b/x  3 bytes", "b skipped: is a folder, and a list names files")
	h.wantStored(map[string]string{"a/x": "", "b/x": ""})

	h.send("c d\x00b/x\x00# no comment", "-0", "--files-from", "-").want(t, 1, "c d  3 bytes", "b/x  3 bytes", "# no comment", "1 of 3 files not verified")
	h.send("c d\n../out\nmissing\n", "--files-from=-").want(t, 1, "c d  3 bytes", "unchanged", "../out", "climbs out of the folder", "missing", "no such file", "2 of 3 files not verified")
	absolute := filepath.Join(h.dir, "a", "x")
	h.send(absolute+"\n", "--files-from", "-").want(t, 0, strings.TrimPrefix(absolute, "/")+"  3 bytes", "verified")
	h.send("a/x\n", "--files-from", "-", "--dry-run", "c d").want(t, 0, "c d  would be sent as c d", "a/x  would be sent as a/x", "2 files, 6B; nothing was sent")
	h.send("", "--files-from", "gone").want(t, 2, "--files-from gone", "no such file")
	h.send("", "--files-from", "b").want(t, 2, "--files-from b", "is a folder")
	h.send("", "--files-from", "-", "-").want(t, 2, "standard input is asked for twice")
	h.send("", "--files-from", "-", "--as", "x").want(t, 2, "--as", "--files-from")

	h.run("a/x\nb/x\n", "get", "--files-from", "-", "--dir", "back").want(t, 0, "a/x  3 bytes", "b/x  3 bytes")
	if got := readFile(t, filepath.Join(h.dir, "back", "b", "x")); got != "b/x" {
		t.Errorf("got %q back", got)
	}
}

func TestSizesLeaveFilesOut(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	for name, size := range map[string]int{"small": 1023, "least": 1024, "most": 10 << 10, "large": 10<<10 + 1} {
		h.write("tree/"+name, strings.Repeat("x", size))
	}
	r := h.send("", "tree", "--min-size", "1K", "--max-size", "10KiB")
	r.want(t, 0, "tree/least  1024 bytes", "tree/most  10240 bytes")
	h.wantStored(map[string]string{"tree/least": "", "tree/most": ""})
	h.send("", "tree/large", "--max-size", "1M").want(t, 0, "large  10241 bytes", "verified")
	h.send("", "tree/large", "tree/most", "--max-size", "10K").want(t, 0, "tree/large skipped: has 10241 bytes, over max_size", "most  10240 bytes")
	h.send("", "tree", "--max-size", "much").want(t, 2, `--max-size "much": not a size`, `"4GiB"`)
	h.send("", "tree", "--max-size", "1K", "--min-size", "1M").want(t, 2, "--max-size", "under min_size")
	h.write("transfer.toml", readFile(t, h.settings)+"max_size = \"1KiB\"\n")
	h.send("", "tree", "--dry-run").want(t, 0, "2 files, 2047B; nothing was sent")
}

// --checksum believes content alone: here a cache of digests that is wrong.
func TestChecksumReadsWhatLooksUnchanged(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	file := h.write("big", strings.Repeat("old ", 100<<10))
	first := h.send("", "big")
	first.want(t, 0, "verified")
	_, rest, _ := strings.Cut(first.out, "blake3 ")
	digest, err := hex.DecodeString(rest[:64])
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Repeat("new ", 100<<10))
	cache, err := digests.Open(filepath.Join(h.dir, "cache", "fenc", "digests.db"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	cache.Put(info, [32]byte(digest), time.Now().Add(time.Hour))
	if _, ok := cache.Get(info); !ok {
		t.Skip("this system's files have no times to remember digests by")
	}
	if err := cache.Close(); err != nil {
		t.Fatal(err)
	}
	h.send("", "big").want(t, 0, "unchanged") // as the cache says
	h.send("", "--checksum", "big").want(t, 0, "  verified\n")
	if got := h.stored("big"); !strings.HasPrefix(got, "new ") {
		t.Errorf("stored: got %.8q, want what the file holds", got)
	}
}

func TestRemoveSourceFiles(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	h.write("tree/one", "1")
	h.write("tree/sub/big", strings.Repeat("big ", 100<<10))
	gone := func(name string, want bool) {
		t.Helper()
		if _, err := os.Lstat(filepath.Join(h.dir, name)); os.IsNotExist(err) != want {
			t.Errorf("%s: got %v, want it removed %t", name, err, want)
		}
	}
	h.send("", "tree", "--remove-source-files", "--dry-run").want(t, 0, "tree/one  would be sent as tree/one, and removed here")
	gone("tree/one", false)
	h.send("", "tree", "--remove-source-files").want(t, 0, "tree/one", "tree/sub/big")
	gone("tree/one", true)
	gone("tree/sub/big", true)
	gone("tree/sub", false)
	if got := h.stored("tree/one"); got != "1" {
		t.Errorf("stored: got %q, want 1", got)
	}
	// What the server has already is verified too.
	h.write("tree/one", "1")
	h.send("", "tree", "--remove-source-files").want(t, 0, "unchanged")
	gone("tree/one", true)
	// What is not verified stays.
	h.operator(t, "clients", "quota", "grace", "500000").want(t, 0)
	h.log.await(t, `"quota":500000`, h.ended)
	h.write("over", strings.Repeat("x", 600_000))
	h.send("", "over", "--remove-source-files").want(t, 3, "over the client's quota")
	gone("over", false)
	// Nor goes what somebody may be writing to.
	if runtime.GOOS == "linux" {
		writer, err := os.OpenFile(h.write("held", "so far"), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer writer.Close()
		h.send("", "held", "--remove-source-files").want(t, 1, "held  6 bytes", "held not removed: somebody has it open for writing")
		gone("held", false)
	}
	// Standard input is no file to remove; a link is not what it leads to.
	h.send("piped", "-", "--remove-source-files").want(t, 0, "stdin  5 bytes")
	h.write("linked", "l")
	if err := os.Symlink("linked", filepath.Join(h.dir, "link")); err != nil {
		t.Fatal(err)
	}
	h.send("", "link", "--remove-source-files").want(t, 1, "link not removed", "1 file is verified and was not removed here")
	gone("linked", false)
	gone("link", false)
}

// A bound that would be exceeded without it: the least time is what it says, the
// most is anybody's.
func TestBandwidthIsBoundedBothWays(t *testing.T) {
	t.Parallel()
	h := newHabitual(t)
	h.write("file", strings.Repeat("0123456789abcdef", 1<<20/16))
	begun := time.Now()
	h.send("", "file", "--bwlimit", "1M").want(t, 0, "verified")
	if took := time.Since(begun); took < 900*time.Millisecond {
		t.Errorf("1 MiB sent at 1 MiB a second took %s", took)
	}
	begun = time.Now()
	h.run("", "get", "file", "--dir", "back", "--bwlimit", "00:00,1M").want(t, 0, "verified")
	if took := time.Since(begun); took < 900*time.Millisecond {
		t.Errorf("1 MiB got at 1 MiB a second took %s", took)
	}
	for limit, why := range map[string]string{
		"5000": "unit missing, as in 5000K", "1K": "under 16KiB", "fast": "not a rate", "25:00,1M": "no time of the day",
		"08:00,1M 08:00,2M": "stands there twice", "Foo-08:00,1M": "no day of the week", "08:00,1M 10M": "no HH:MM,RATE",
	} {
		h.send("", "file", "--bwlimit", limit).want(t, 2, "--bwlimit", why, "08:00,1M 19:00,off")
	}
	h.send("", "file", "--protocol", "3", "--bwlimit", "1M").want(t, 2, "--bwlimit is for protocol 4")
	h.send("", "file", "--protocol", "3", "--dry-run").want(t, 2, "--dry-run is for protocol 4")
}
