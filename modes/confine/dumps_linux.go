package confine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// noDumps does what the limit cannot where the kernel pipes core dumps to a
// program, and keeps debuggers of the same user out.
func noDumps() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	return nil
}
