//go:build !linux

package s3

import "os"

// unnamed makes a file in dir that has no name, where the system allows that.
func unnamed(dir string) (file *os.File, leftover string, err error) { return unlinked(dir) }
