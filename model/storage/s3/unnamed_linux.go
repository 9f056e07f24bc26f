package s3

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// unnamed makes a file in dir that ends with its descriptor, however the process ends.
func unnamed(dir string) (file *os.File, leftover string, err error) {
	file, err = os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // the file system has none
		return unlinked(dir)
	}
	return file, "", err
}
