package model

import (
	"os"
	"path/filepath"
	"testing"

	"fenc/model/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// onEach runs a test on each kind of database that a catalogue may be in. fresh
// returns the address of a new one.
func onEach(t *testing.T, test func(t *testing.T, fresh func(t *testing.T) string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) string { return filepath.Join(t.TempDir(), "fenc.db") })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) string { return postgrestest.Database(t) })
	})
}
