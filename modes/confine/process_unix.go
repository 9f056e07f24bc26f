//go:build unix

package confine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func private() { unix.Umask(0o077) }

// noCoreFile sets the limit of core files to nothing.
func noCoreFile() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	var now unix.Rlimit
	if err == nil || unix.Getrlimit(unix.RLIMIT_CORE, &now) == nil && now.Max == 0 { // whoever forbids it may have done it
		return nil
	}
	return fmt.Errorf("limit core files: %w", err)
}
