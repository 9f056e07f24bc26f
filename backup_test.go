package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func TestBackupBesideARunningServer(t *testing.T) {
	t.Parallel()
	d := serveInvited(t, t.TempDir())
	dir, settings := d.join(t, "--name", "grace")
	file := write(t, filepath.Join(dir, "one"), "1")
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 0)

	to := filepath.Join(t.TempDir(), "new", "backups")
	config := filepath.Join(d.dir, "server.toml")
	made := fenc(t.Context(), nil, "backup", "--config", config, to)
	made.want(t, 0)
	path := strings.TrimSpace(made.out)
	if filepath.Dir(path) != to {
		t.Errorf("printed %q, want a path in %s", made.out, to)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("backup: %v, %v; want mode 0600", info, err)
	}
	if entries, err := os.ReadDir(to); err != nil || len(entries) != 1 {
		t.Errorf("in %s are %v, %v; want the backup alone", to, entries, err)
	}
	fenc(t.Context(), nil, "files", "--database", path).want(t, 0, "grace", "one", "yes")

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { fenc(t.Context(), nil, "backup", "--config", config, to).want(t, 0, to) })
	}
	all.Wait()
	backups, _ := filepath.Glob(filepath.Join(to, "fenc-*Z.db"))
	if entries, err := os.ReadDir(to); err != nil || len(entries) != 9 || len(backups) != 9 {
		t.Errorf("in %s are %v, %v; want nine backups", to, entries, err)
	}

	fenc(t.Context(), nil, "backup", "--config", config).want(t, 2, "takes DIR")
	fenc(t.Context(), nil, "backup", "--config", config, filepath.Join(d.dir, "files", "x")).want(t, 2, "inside the storage")
	fenc(t.Context(), nil, "backup", "--database", filepath.Join(to, "none.db"), to).want(t, 1, "no such file", "--database")
}
