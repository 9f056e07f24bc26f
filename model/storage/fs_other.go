//go:build !linux

package storage

import (
	"errors"
	"math"
	"os"
	"runtime"
)

const directAlign = 4096

// syncDir makes a directory's entries durable. Windows has no such call and
// journals them itself.
func syncDir(d *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return d.Sync()
}

// Free implements FS. It is not asked for here: a full disk shows at the write.
func (r *rootFS) Free() (int64, error) { return math.MaxInt64, nil }

// Reserve implements File.
func (f *rootFile) Reserve(int64) error { return nil }

// Direct implements File.
func (f *rootFile) Direct(bool) error { return errors.ErrUnsupported }

// Push implements File.
func (f *rootFile) Push(_, _ int64) {}
