package screentest

import (
	"os"

	"golang.org/x/sys/unix"
)

// flow has a terminal take what programs write, or have them wait (tcflow).
func flow(_, tty *os.File, on bool) error {
	const off, again = 0, 1 // TCOOFF, TCOON
	action := off
	if on {
		action = again
	}
	raw, err := tty.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.IoctlSetInt(int(fd), unix.TCXONC, action) })
	if err != nil {
		return err
	}
	return failed
}
