package send

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// refuseWriters returns ErrChanged if somebody has the file open for writing. A lease
// for reading is not given then (fcntl(2), F_SETLEASE); where there are none, because
// the file is another user's or its file system has none, nothing is known. It ends
// when f is closed.
func refuseWriters(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); errors.Is(err, unix.EAGAIN) {
		return Reworded(ErrChanged, "somebody has it open for writing")
	}
	return nil
}

// renameNew renames from to to if there is nothing there, and else returns
// fs.ErrExist.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not every file system can
		return renameByLink(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}
