package confine

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is how much of the memory that the process may have the Go runtime
// tries to keep to: the rest is for what it does not count, such as the kernel's
// buffers.
const memoryShare = 0.9

// Memory has the garbage collector keep to a soft limit of memory, and returns it
// in bytes with where it comes from: GOMEMLIMIT or, without that, a share of what
// the process's control group may have, as MemoryMax of a systemd unit and the
// memory of a container set it. 0 is no limit. An error says why no limit could
// be found out; the process is none the worse for it.
func Memory() (limit int64, source string, err error) {
	return memory(memlimit.FromCgroup)
}

func memory(ofGroup memlimit.Provider) (limit int64, source string, err error) {
	if os.Getenv("GOMEMLIMIT") != "" { // which the runtime has read
		if limit = debug.SetMemoryLimit(-1); limit == math.MaxInt64 {
			limit = 0
		}
		return limit, "GOMEMLIMIT", nil
	}
	most, err := ofGroup()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		return 0, "none", nil
	case err != nil:
		return 0, "none", fmt.Errorf("find out how much memory the process may have: %w: set GOMEMLIMIT", err)
	case most == 0 || most >= math.MaxInt64/2: // how version 1 of control groups says that there is none
		return 0, "none", nil
	}
	limit = int64(float64(most) * memoryShare)
	debug.SetMemoryLimit(limit)
	return limit, "control group", nil
}
