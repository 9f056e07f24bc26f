//go:build unix

package modes

import (
	"io/fs"
	"syscall"
)

// ownerOf says whose a file is.
func ownerOf(info fs.FileInfo) string {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return " and is of " + userText(int(s.Uid))
	}
	return ""
}
