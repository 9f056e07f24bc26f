//go:build linux || darwin

package digests_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"fenc/modes/send"
	"fenc/modes/send/digests"
)

func open(t *testing.T, path string) *digests.Cache {
	t.Helper()
	c, err := digests.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shut(t *testing.T, c *digests.Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func write(t *testing.T, path string, size int) os.FileInfo {
	t.Helper()
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
		t.Fatal(err)
	}
	return stat(t, path)
}

// later is when reading may begin for a file's state to be worth remembering.
func later() time.Time { return time.Now().Add(time.Minute) }

func TestRemembersUnchangedFilesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, file := filepath.Join(dir, "cache", "digests"), filepath.Join(dir, "file")
	digest := [32]byte{1, 2, 3}
	c := open(t, path)
	info := write(t, file, digests.MinSize)
	if _, ok := c.Get(info); ok {
		t.Error("a file that was never seen: want no digest")
	}
	c.Put(info, digest, later())
	if got, ok := c.Get(info); !ok || got != digest {
		t.Errorf("same run: got %x, %t", got, ok)
	}
	shut(t, c)
	c = open(t, path)
	if got, ok := c.Get(stat(t, file)); !ok || got != digest {
		t.Errorf("next run: got %x, %t", got, ok)
	}
	for what, change := range map[string]func(){
		"size":              func() { write(t, file, digests.MinSize+1) },
		"modification time": func() { os.Chtimes(file, time.Now(), info.ModTime().Add(time.Nanosecond)) },
		"change time": func() { // of which the clock, on many systems, stands still for milliseconds
			for send.StateOf(stat(t, file)).CTime == send.StateOf(info).CTime {
				if err := os.Chmod(file, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		},
		"inode": func() {
			other := write(t, file+".new", digests.MinSize)
			os.Chtimes(file+".new", time.Now(), info.ModTime())
			os.Rename(file+".new", file)
			_ = other
		},
	} {
		info = write(t, file, digests.MinSize)
		c.Put(info, digest, later())
		change()
		if _, ok := c.Get(stat(t, file)); ok {
			t.Errorf("another %s: want no digest", what)
		}
	}
	shut(t, c)
	if info := stat(t, path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, want 0600", info.Mode())
	}
}

func TestForgetsWhatMayHaveChanged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, filepath.Join(dir, "digests"))
	defer c.Close()
	fresh := write(t, filepath.Join(dir, "fresh"), digests.MinSize)
	c.Put(fresh, [32]byte{1}, fresh.ModTime().Add(time.Second)) // whatever time it is now
	if _, ok := c.Get(fresh); ok {
		t.Error("a file changed the moment before it was read: want no digest")
	}
	short := write(t, filepath.Join(dir, "short"), digests.MinSize-1)
	c.Put(short, [32]byte{1}, later())
	if _, ok := c.Get(short); ok {
		t.Error("a short file: want no digest")
	}
}

func TestFilesOfTheCacheThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "digests")
	first := open(t, path)
	info := write(t, filepath.Join(dir, "file"), digests.MinSize)
	for i := range 3000 {
		first.Put(info, [32]byte{byte(i)}, later())
	}
	shut(t, first)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"no cache": []byte("hello"), "empty": nil, "cut off": whole[:5000], "zeros": make([]byte, len(whole)),
		"overwritten": append(append([]byte{}, whole[:8192]...), bytes.Repeat([]byte{0xff}, len(whole)-8192)...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "digests")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := digests.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			c.Put(info, [32]byte{7}, later())
			if got, ok := c.Get(info); !ok || got != [32]byte{7} {
				t.Errorf("got %x, %t, want a cache that works", got, ok)
			}
			shut(t, c)
			shut(t, open(t, path))
		})
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "digests")
	c := open(t, path)
	infos := make([]os.FileInfo, 300)
	for i := range infos {
		infos[i] = write(t, filepath.Join(dir, fmt.Sprint(i)), digests.MinSize)
	}
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for range 5 {
				for i := worker; i < len(infos); i += 2 {
					c.Put(infos[i], [32]byte{byte(i)}, later())
					c.Get(infos[len(infos)-1-i])
				}
			}
		})
	}
	all.Wait()
	shut(t, c)
	c = open(t, path)
	defer c.Close()
	for i, info := range infos {
		if got, ok := c.Get(info); !ok || got[0] != byte(i) {
			t.Fatalf("file %d: got %x, %t", i, got[:1], ok)
		}
	}
}
