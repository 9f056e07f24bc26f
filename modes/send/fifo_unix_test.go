//go:build unix

package send

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFIFOIsRefusedWithoutWaiting(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no FIFO here: %v", err)
	}
	if _, err := NewSource(path, "fifo"); err == nil || !strings.Contains(err.Error(), "fenc send -") {
		t.Errorf("got %v, want refused with the remedy fenc send -", err)
	}
}
