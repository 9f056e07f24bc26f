package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// directAlign is what addresses, offsets and lengths of direct writes are
// multiples of: the largest logical block that disks have.
const directAlign = 4096

func syncDir(d *os.File) error { return d.Sync() }

// Free implements FS.
func (r *rootFS) Free() (int64, error) {
	d, err := r.root.Open(".")
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: r.root.Name(), Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Reserve implements File.
func (f *rootFile) Reserve(size int64) error {
	if size <= 0 {
		return nil
	}
	err := f.control(func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 0, size) })
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return f.named("reserve", err)
}

// Direct implements File.
func (f *rootFile) Direct(on bool) error {
	return f.named("direct", f.control(func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil {
			return err
		}
		flags &^= unix.O_DIRECT
		if on {
			flags |= unix.O_DIRECT
		}
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags)
		return err
	}))
}

// Push implements File.
func (f *rootFile) Push(off, n int64) {
	f.control(func(fd int) error { return unix.SyncFileRange(fd, off, n, unix.SYNC_FILE_RANGE_WRITE) })
}

// Sync implements File.
func (f *rootFile) Sync() error {
	if f.labelled {
		return f.named("fsync", f.control(unix.Fsync))
	}
	return f.named("fdatasync", f.control(unix.Fdatasync))
}

// control runs do on the descriptor, again after a signal interrupted it.
func (f *rootFile) control(do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Control(func(fd uintptr) {
		for result = unix.EINTR; result == unix.EINTR; {
			result = do(int(fd))
		}
	})
	return errors.Join(err, result)
}
