package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sender is a client that notes in a ledger what it is told, whatever becomes of
// its server.
type sender struct {
	t        testing.TB
	name     string // and its folder at the server
	home     string
	protocol int
	way      *relay // to the server
	kept     *ledger
	random   *rand.Rand
}

func newSender(t testing.TB, name string, protocol int, kept *ledger) *sender {
	t.Helper()
	return &sender{t: t, name: name, home: memoryDir(t), protocol: protocol, way: newRelay(t), kept: kept}
}

// memoryDir is t.TempDir where a sync costs least: what the end of a process
// leaves, the kernel has.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "fenc-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// send sends files by their names below the client's folder, all or until ctx
// ends. It does not try again.
func (c *sender) send(ctx context.Context, files map[string][]byte) result {
	c.t.Helper()
	settings := filepath.Join(c.home, "transfer.toml")
	if _, err := os.Stat(settings); err != nil { // another send may be reading what is there, and the first has pinned the key in it
		write(c.t, settings, fmt.Sprintf(
			"server = %q\nname = %q\nme = \"me.toml\"\nprotocol = %d\nretry_for = \"1ms\"\n", c.way.Addr(), c.name, c.protocol))
	}
	var top []string
	for name, content := range files {
		path := filepath.Join(c.home, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			c.t.Fatal(err)
		}
		write(c.t, path, string(content))
		first, _, _ := strings.Cut(name, "/")
		if path := filepath.Join(c.home, first); !slices.Contains(top, path) {
			top = append(top, path)
		}
	}
	slices.Sort(top)
	c.kept.begin(c.name, files)
	args := []string{"send", "--config", settings}
	if c.protocol == 4 {
		args = append(args, "--accept-new")
	}
	r := fenc(ctx, strings.NewReader(""), append(args, top...)...)
	c.kept.heard(c.name, files, r.out)
	return r
}

// bytes makes content that comes once.
func (c *sender) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(c.random.Uint32())
	}
	return p
}
