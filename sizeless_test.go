package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A file of /proc, which has no size, was sent as an empty one, and called verified.
func TestFileWithoutASize(t *testing.T) {
	t.Parallel()
	const file = "/proc/self/status"
	if info, err := os.Stat(file); err != nil || info.Size() > 0 {
		t.Skip("no such file here: ", err)
	}
	d := serve(t, t.TempDir())
	_, settings := client(t, d.addr, "grace")
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 1, "status  0 bytes", "not verified: has content, though the system says that it has 0 bytes: pipe it in, as in fenc send - --as NAME")
	dir, settings := serveInvited(t, t.TempDir()).join(t)
	fenc(t.Context(), nil, "send", "--config", settings, file).want(t, 1, "status  0 bytes", "not verified: has content, though the system says that it has 0 bytes: pipe it in, as in fenc send - --as NAME")
	fenc(t.Context(), nil, "send", "--config", settings, write(t, filepath.Join(dir, "empty"), "")).want(t, 0, "empty  0 bytes", "  verified")
}
