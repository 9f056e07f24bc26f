package storage

import "golang.org/x/sys/windows"

// errInvalid is how a file system refuses a write it cannot do directly.
var errInvalid error = windows.ERROR_INVALID_PARAMETER

// errQuota is the system's word for a full disk, which Windows numbers apart
// from ENOSPC.
var errQuota error = windows.ERROR_DISK_FULL
