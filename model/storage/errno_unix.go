//go:build unix

package storage

import "syscall"

// errInvalid is how a file system refuses a write it cannot do directly.
var errInvalid error = syscall.EINVAL

// errQuota is the system's word for a user's quota that is used up.
var errQuota error = syscall.EDQUOT
