package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestSendFolder(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	send := func(args ...string) result {
		t.Helper()
		return fenc(t.Context(), strings.NewReader("piped"), append([]string{"send", "--config", settings}, args...)...)
	}
	tree := filepath.Join(dir, "tree")
	for _, sub := range []string{"a/b", "tmp", "empty"} {
		if err := os.MkdirAll(filepath.Join(tree, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"one": "1", "a/two": "22", "a/b/three": "", "a/b/big": strings.Repeat("big ", 300<<10), "tmp/x": "x", "skip.o": "o", "a/keep.o": "k",
	} {
		write(t, filepath.Join(tree, name), content)
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(tree, "one"), when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(tree, "one"), 0o751); err != nil {
		t.Fatal(err)
	}
	options := []string{"--exclude", "*.o", "--exclude", "!keep.o", "--exclude", "tmp/"}

	dry := send(append(options, "--dry-run", tree)...)
	dry.want(t, 0, "tree/one", "tree/a/keep.o", "5 files", "nothing was sent")
	if strings.Contains(dry.out, "skip.o") || strings.Contains(dry.out, "tmp/x") {
		t.Errorf("dry run: got %s, want nothing that is left out", dry.out)
	}
	d.operator(t, "clients", "--json").want(t, 0, `"files":0`)

	first := send(append(options, tree, "-")...)
	first.want(t, 0, "tree/one  1 bytes", "tree/a/two  2 bytes", "tree/a/b/three  0 bytes", "tree/a/b/big  1228800 bytes", "tree/a/keep.o", "stdin  5 bytes")
	if got := strings.Count(first.out, "  verified\n"); got != 6 || strings.Contains(first.out, "skip.o") || strings.Contains(first.out, "tmp/x") {
		t.Errorf("first: got\n%s\nwant 6 lines verified and nothing that is left out", first.out)
	}
	if again := send(append(options, tree)...); strings.Count(again.out, "  unchanged\n") != 5 || again.status != 0 {
		t.Errorf("again: got %d,\n%s%s\nwant 5 lines unchanged", again.status, again.out, again.errors)
	}
	send("--as", "other/name", filepath.Join(tree, "a")).want(t, 0, "other/name/two", "other/name/b/big")

	t.Run("one cannot be read", func(t *testing.T) {
		r := send(filepath.Join(tree, "one"), filepath.Join(dir, "gone"), filepath.Join(tree, "a", "two"))
		r.want(t, 1, "one  1 bytes", "gone  0 bytes", "not verified: no such file", "two  2 bytes", "1 of 3 files not verified")
	})
	t.Run("links", func(t *testing.T) {
		if runtime.GOOS == "windows" {
			t.Skip("links need a privilege")
		}
		links := filepath.Join(dir, "links")
		os.Mkdir(links, 0o755)
		os.Symlink("../tree/one", filepath.Join(links, "l"))
		os.Symlink("..", filepath.Join(links, "loop"))
		send(links).want(t, 0, "l skipped: is a symbolic link", "--follow-links")
		os.Remove(filepath.Join(links, "loop"))
		os.Symlink(".", filepath.Join(links, "loop"))
		send("--follow-links", links).want(t, 0, "links/l  1 bytes", "loop skipped", "a link back")
	})
	t.Run("mistakes", func(t *testing.T) {
		send("--as", "x", tree, settings).want(t, 2, `--as "x" names one file or folder, and there are 2`)
		send("--as", "../x", tree).want(t, 2, "--as", "bad path")
		twin := filepath.Join(t.TempDir(), filepath.Base(tree))
		if err := os.Mkdir(twin, 0o700); err != nil {
			t.Fatal(err)
		}
		send(tree, twin).want(t, 2, "replace each other")
		send("--exclude", "[a", tree).want(t, 2, `"[a"`)
		send("--exclude-from", filepath.Join(dir, "gone"), tree).want(t, 2, "gone")
		send("--streams", "99", tree).want(t, 2, "streams")
	})
	t.Run("patterns of transfer.toml", func(t *testing.T) {
		write(t, settings, readFile(t, settings)+"files = [\"tree/*\"]\nexclude = [\"*.o\", \"b\"]\n")
		r := send("--exclude", "tmp")
		r.want(t, 0, "one  1 bytes", "a/two  2 bytes")
		if strings.Contains(r.out, "a/b/") {
			t.Errorf("got\n%s\nwant nothing of a/b", r.out)
		}
	})
	t.Run("over several connections", func(t *testing.T) {
		big := write(t, filepath.Join(dir, "streamed"), strings.Repeat("0123456789abcdef", 9<<20/16)+"end")
		send("--streams", "4", big, tree).want(t, 0, "streamed  9437187 bytes")
		if got := readFile(t, filepath.Join(d.dir, "files", "grace", "streamed")); got != readFile(t, big) {
			t.Error("what came over several connections is not what was sent")
		}
	})
	d.stop(t)
	wantStored(t, d, "grace", "tree/a/b/big", strings.Repeat("big ", 300<<10))
	wantStored(t, d, "grace", "tree/one", "1")
	wantStored(t, d, "grace", "stdin", "piped")
}

// A changed file is sent by what has changed of it.
func TestChangedFileIsSentByItsChunks(t *testing.T) {
	t.Parallel()
	way := newRelay(t)
	d := serve(t, t.TempDir())
	way.server.Store(&d.addr)
	dir := t.TempDir()
	settings := write(t, filepath.Join(dir, "transfer.toml"), fmt.Sprintf("server = %q\nname = \"grace\"\n", way.Addr()))
	content := []byte(strings.Repeat("0123456789abcdef", 32<<20/16))
	for i := range content {
		content[i] ^= byte(i >> 12)
	}
	file := write(t, filepath.Join(dir, "big"), string(content))
	fenc(t.Context(), nil, "send", "--config", settings, "--accept-new", file).want(t, 0, "verified")
	sent := way.sent.Load()
	if sent < 32<<20 {
		t.Fatalf("first: %d bytes sent for %d", sent, len(content))
	}
	content[5<<20+7]++
	content[20<<20]++
	content = append(content, "and more"...)
	write(t, file, string(content))
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0, "33554440 bytes", "verified")
	if again := way.sent.Load() - sent; again < 2<<20 || again > 4<<20 {
		t.Errorf("again: %d bytes sent, want the 2 chunks of 1 MiB that changed, and the end", again)
	}
	sent = way.sent.Load()
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0, "unchanged")
	if again := way.sent.Load() - sent; again > 64<<10 {
		t.Errorf("unchanged: %d bytes sent", again)
	}
	if got := readFile(t, filepath.Join(d.dir, "files", "grace", "big")); got != string(content) {
		t.Error("what is stored is not what was sent last")
	}
}
