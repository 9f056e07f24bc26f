// Package confine takes from the process what fenc does not need: what others may
// read of the files it makes, the picture of its memory that a crash leaves behind,
// and, of the server, files that are none of its business. All of it holds for the
// whole process and for good, so only the program itself asks for it, and no test
// but in a process of its own.
package confine

// Process makes files that are made from now on their owner's alone, unless they
// are given another mode afterwards. It comes first in the program.
func Process() {
	private()
}
