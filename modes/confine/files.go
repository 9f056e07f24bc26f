package confine

import "errors"

// Allowed is what a confined process may still open. All of it must exist.
type Allowed struct {
	Write []string // folders: files and folders below them are read, made, changed, linked and removed
	Read  []string // files, and folders whose files are, to be read
	// Connect has the ports that TCP connections may be made to, at any address. Where
	// there are any, the files that tell addresses of names may be read.
	Connect []uint16
}

// Held is what a confined process is held to.
type Held struct {
	ABI        int  // version of Landlock whose rights are used
	Kernel     int  // the version that the kernel has
	Truncating bool // cutting files elsewhere is denied too; below ABI 3 it is not
	Connecting bool // TCP connections to others (but those of Connect), and listening anew, are denied too; below ABI 4 they are not
}

// ErrUnconfined: the system cannot hold the process to anything; the error says
// what is missing.
var ErrUnconfined = errors.New("not confined")

// Files holds the process to what it is allowed to open, in all its threads and for
// good: by no mistake of its own, nor by one that a peer makes use of, does it open
// other files from now on, or run programs. What is open stays open. After an
// ErrUnconfined nothing has changed.
func Files(a Allowed) (Held, error) { return files(a) }
