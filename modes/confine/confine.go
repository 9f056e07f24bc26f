// Package confine takes from the process what fenc does not need: what others may
// read of the files it makes, the picture of its memory that a crash leaves behind,
// and, of the server, files that are none of its business. All of it holds for the
// whole process and for good, so only the program itself asks for it, and no test
// but in a process of its own.
package confine

import (
	"errors"
	"fmt"
)

// Process makes files that are made from now on their owner's alone, unless they
// are given another mode afterwards, and keeps the process's memory, which holds
// keys, out of core dumps and from other processes of the same user. It comes first
// in the program. An error says what of it does not hold.
func Process() error {
	private()
	if err := errors.Join(noCoreFile(), noDumps()); err != nil {
		return fmt.Errorf("a crash may leave keys in a core dump: %w: run ulimit -c 0 first", err)
	}
	return nil
}
