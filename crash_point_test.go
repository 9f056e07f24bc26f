package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"

	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/modes"
)

// crashVariable names the step at which a server of the test binary kills itself:
// FENC_CRASH=sync-part:2 before the second sync of an open upload, any:7 before
// the seventh change of the storage. With FENC_CRASH=none it says each step and
// goes on. The released binary has no such thing: see serveUntilCrash.
const crashVariable = "FENC_CRASH"

// serveUntilCrash is main for a test binary that is to be a server.
func serveUntilCrash(spec string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args, modes.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, OwnProcess: true, Storage: func(dir string) (*storage.Folder, error) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		at := &crashPoint{spec: spec, reached: make(map[string]int)}
		sound, err := storagetest.New(dir, func(call, name string) error {
			at.reach(call, name)
			return nil
		})
		if err != nil {
			return nil, err
		}
		return storage.OpenFolderOn(&crashFS{sound, at}, dir)
	}})
}

// crashFS announces what has been done as well, where an answer may follow it.
type crashFS struct {
	*storagetest.FS
	at *crashPoint
}

func (f *crashFS) OpenFile(name string, flag int, perm fs.FileMode) (storage.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &crashFile{file, f.at, name}, nil
}

func (f *crashFS) Rename(old, new string) error {
	err := f.FS.Rename(old, new)
	f.at.reach("renamed", new)
	return err
}

func (f *crashFS) SyncDir(name string) error {
	err := f.FS.SyncDir(name)
	f.at.reach("syncdired", name)
	return err
}

// crashFile is a file of a crashFS.
type crashFile struct {
	storage.File
	at   *crashPoint
	name string
}

func (f *crashFile) Sync() error {
	err := f.File.Sync()
	f.at.reach("synced", f.name)
	return err
}

// crashPoint counts the steps of a process and ends it at one of them.
type crashPoint struct {
	spec    string // step:n
	mu      sync.Mutex
	reached map[string]int
}

// changing are the calls that change something; a process that ends before another
// leaves what it would have left before the next of these.
var changing = []string{"openfile", "mkdir", "link", "symlink", "rename", "renamed", "remove", "writeat", "truncate", "reserve", "setlabel", "sync", "synced", "syncdir", "syncdired", "close"}

func (c *crashPoint) reach(call, name string) {
	if !slices.Contains(changing, call) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, step := range []string{call + "-" + place(name), "any"} {
		c.reached[step]++
		now := fmt.Sprintf("%s:%d", step, c.reached[step])
		if now == c.spec {
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				self.Kill()
			}
			select {}
		}
		if c.spec == "none" && step != "any" {
			fmt.Fprintln(os.Stderr, "step", now)
		}
	}
}

// place says what of the storage a name is.
func place(name string) string {
	parts := strings.Split(name, "/")
	switch {
	case parts[0] != ".fenc":
		return "tree"
	case len(parts) == 4:
		return "object"
	case len(parts) == 3 && parts[1] == "part":
		return "part"
	case len(parts) == 3:
		return "objects"
	case strings.HasPrefix(parts[len(parts)-1], "link-"):
		return "link"
	}
	return strings.TrimLeft(parts[len(parts)-1], ".")
}
