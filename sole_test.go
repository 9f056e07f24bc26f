package main

import (
	"path/filepath"
	"testing"
)

// Two servers on one SQLite file, each with a storage of its own, both said "verified";
// the next start of either called the other's files lost. Each holds the catalogue in
// memory, and heard nothing of what the other wrote.
func TestDatabaseIsOneServersAlone(t *testing.T) {
	t.Parallel()
	d := serve(t, t.TempDir())
	settings := filepath.Join(d.dir, "server.toml")
	second := func() result {
		return fenc(t.Context(), nil, "serve", "--config", settings, "--storage", filepath.Join(d.dir, "other"))
	}
	second().want(t, 1, "fenc.db: another fenc serve has it open", "only in PostgreSQL do several share a catalogue")
	f := newFaulted(t, d.dir, d.addr)
	second().want(t, 1, "another fenc serve has it open")
	f.served(t)
	d.stop(t)
	d = serve(t, d.dir)
	f.at(d.addr)
	f.served(t)
}
