//go:build unix

package confine

import "golang.org/x/sys/unix"

func private() { unix.Umask(0o077) }
