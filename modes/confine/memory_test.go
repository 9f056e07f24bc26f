package confine

import (
	"errors"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Not parallel: the limit and the environment are the whole process's.
func TestMemory(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	of := func(bytes uint64, err error) memlimit.Provider {
		return func() (uint64, error) { return bytes, err }
	}
	for name, test := range map[string]struct {
		group memlimit.Provider
		limit int64
		from  string
	}{
		"nine tenths of what the group may have": {of(512<<20, nil), 512 << 20 * 9 / 10, "control group"},
		"the group may have all":                 {of(0, memlimit.ErrNoLimit), 0, "none"},
		"no group":                               {of(0, memlimit.ErrNoCgroup), 0, "none"},
		"another system":                         {of(0, memlimit.ErrCgroupsNotSupported), 0, "none"},
		"version 1's way to say all":             {of(math.MaxInt64&^4095, nil), 0, "none"},
		"version 1's way in a group below":       {of(math.MaxUint64, nil), 0, "none"},
		"cannot be read":                         {of(0, errors.New("EIO")), 0, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOMEMLIMIT", "")
			os.Unsetenv("GOMEMLIMIT")
			debug.SetMemoryLimit(math.MaxInt64)
			limit, from, err := memory(test.group)
			if limit != test.limit || from != test.from {
				t.Errorf("got %d from %s, want %d from %s", limit, from, test.limit, test.from)
			}
			if name == "cannot be read" != (err != nil) || err != nil && !strings.Contains(err.Error(), "EIO") {
				t.Errorf("error: got %v", err)
			}
			want := test.limit
			if want == 0 {
				want = math.MaxInt64
			}
			if held := debug.SetMemoryLimit(-1); held != want {
				t.Errorf("the runtime keeps to %d, want %d", held, want)
			}
		})
	}
	t.Run("GOMEMLIMIT wins", func(t *testing.T) {
		t.Setenv("GOMEMLIMIT", "100MiB")
		debug.SetMemoryLimit(100 << 20) // as the runtime does at start
		if limit, from, err := memory(of(512<<20, nil)); limit != 100<<20 || from != "GOMEMLIMIT" || err != nil {
			t.Errorf("got %d from %s, %v", limit, from, err)
		}
		if held := debug.SetMemoryLimit(-1); held != 100<<20 {
			t.Errorf("the runtime keeps to %d", held)
		}
	})
}
