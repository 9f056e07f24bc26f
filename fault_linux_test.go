package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk is a folder that is a file system of its own, of so many bytes.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("fenc-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that is full, for the files alone or for the catalogue too, refuses what
// is new by its number and keeps what is old; with room again it is as before.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 16<<20)
	server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
	f := newFaulted(t, dir, server.address(t))

	t.Run("no room for a file", func(t *testing.T) {
		f.three.send(t.Context(), map[string][]byte{"three": make([]byte, 20<<20)}).want(t, 1, "not verified")
		r := f.four.send(t.Context(), map[string][]byte{"large": make([]byte, 20<<20)})
		r.want(t, 1, "large  ", "not verified", "the server's disk is full")
		server.log.await(t, `not enough space: 20971520 bytes, \d+ are free`, server.ended)
		f.served(t)
	})
	t.Run("no room at all", func(t *testing.T) {
		filler := fill(t, filepath.Join(dir, "filler"))
		if said := f.refused(t, 400<<10); !strings.Contains(said, "the server's disk is full") && !strings.Contains(said, "the server's catalogue takes nothing") {
			t.Errorf("the client was told:\n%s\nwant that the disk is full", said)
		}
		remove(t, filler)
		f.served(t)
	})
	if strings.Contains(server.log.String(), "degraded") {
		t.Errorf("a full disk is taken for one that has failed:\n%s", server.log)
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	f.nothingLost(t)
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, n := range []int{64 << 10, 4 << 10, 1} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, n))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return path
}

// A storage that turns read-only, as file systems do on a disk that fails, takes
// nothing and says so; when it can be written again, it is used again.
func TestStorageTurnsReadOnly(t *testing.T) {
	t.Parallel()
	dir, disk := t.TempDir(), smallDisk(t, 16<<20)
	if err := os.Symlink(disk, filepath.Join(dir, "files")); err != nil {
		t.Fatal(err)
	}
	server := start(t, dir, []string{"FENC_REGISTRATION=open"}, "serve", "--listen", "127.0.0.1:0")
	f := newFaulted(t, dir, server.address(t))
	remount := func(flags uintptr) {
		eventually(t, "the server has no file open for writing", func() bool {
			err := unix.Mount("", disk, "", unix.MS_REMOUNT|flags, "mode=0700")
			if err != nil && err != unix.EBUSY {
				t.Fatal(err)
			}
			return err == nil
		})
	}
	remount(unix.MS_RDONLY)
	if said := f.refused(t, 400<<10); !strings.Contains(said, "the server's storage has failed") {
		t.Errorf("the client was told:\n%s\nwant that the storage has failed", said)
	}
	server.log.await(t, "storage degraded.*read-only file system", server.ended)
	waiting := f.waits(t)
	remount(0)
	(<-waiting).want(t, 0, "verified")
	server.log.await(t, "storage works again", server.ended)
	f.served(t)
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	f.nothingLost(t)

	remount(unix.MS_RDONLY)
	r := start(t, dir, nil, "serve", "--listen", "127.0.0.1:0").result(t)
	r.want(t, 1, "fenc: serve: storage ", "read-only file system")
}

// A server that may not write into its storage any more takes nothing, until it may.
func TestPermissionLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(filepath.Join(dir, "fenc"), "serve", "--listen", "127.0.0.1:0")
	if os.Geteuid() == 0 {
		lend(t, dir)
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	own := filepath.Join(dir, "fenc")
	if err := errors.Join(os.Link(path, own), os.Chmod(own, 0o755)); err != nil {
		t.Fatal(err)
	}
	server := startCommand(t, dir, []string{"FENC_REGISTRATION=open"}, command)
	f := newFaulted(t, dir, server.address(t))
	allow := func(mode os.FileMode) {
		for _, name := range []string{"part", "objects", "."} {
			if err := os.Chmod(filepath.Join(dir, "files", ".fenc", name), mode); err != nil {
				t.Fatal(err)
			}
		}
		folders, err := filepath.Glob(filepath.Join(dir, "files", ".fenc", "objects", "??"))
		if err != nil || len(folders) != 256 {
			t.Fatalf("%d folders of objects, %v", len(folders), err)
		}
		for _, folder := range folders {
			if err := os.Chmod(folder, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	allow(0o500)
	if said := f.refused(t, 400<<10); !strings.Contains(said, "the server's storage has failed") {
		t.Errorf("the client was told:\n%s\nwant that the storage has failed", said)
	}
	server.log.await(t, "storage degraded.*permission denied", server.ended)
	waiting := f.waits(t)
	allow(0o700)
	(<-waiting).want(t, 0, "verified")
	f.served(t)
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	f.nothingLost(t)
}

// A server without a descriptor left goes on: whoever has one is served, newcomers
// are as soon as others have gone, and the disk is not blamed.
func TestDescriptorsExhausted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	const limit = 48
	server := startCommand(t, dir, []string{"FENC_REGISTRATION=open"},
		exec.Command("/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit), path, "serve", "--listen", "127.0.0.1:0"))
	address := server.address(t)
	f := newFaulted(t, dir, address)
	var idle []net.Conn
	for range 2 * limit {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		idle = append(idle, c)
	}
	server.log.await(t, "too many open files", server.ended)
	if before := strings.Count(server.log.String(), "too many open files"); before > 100 {
		t.Errorf("the log says it %d times", before)
	}
	for _, c := range idle {
		c.Close()
	}
	(<-f.waits(t)).want(t, 0, "verified")
	f.served(t)
	if said := server.log.String(); strings.Contains(said, "degraded") {
		t.Errorf("the disk is blamed:\n%s", said)
	}
	server.signal(t, syscall.SIGTERM)
	server.result(t).want(t, 0)
	f.nothingLost(t)
}
