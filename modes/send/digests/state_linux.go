package digests

import (
	"io/fs"
	"syscall"
)

// stateOf tells a file and its state apart from others, where the system says
// enough of it.
func stateOf(info fs.FileInfo) (entry, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return entry{}, false
	}
	return entry{Device: int64(s.Dev), Inode: int64(s.Ino), Size: s.Size, MTime: s.Mtim.Nano(), CTime: s.Ctim.Nano()}, true
}
