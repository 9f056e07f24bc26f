package send

import (
	"io/fs"
	"syscall"
)

func (s *State) identify(info fs.FileInfo) {
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.Device, s.Inode, s.CTime = int64(sys.Dev), int64(sys.Ino), sys.Ctim.Nano()
	}
}
