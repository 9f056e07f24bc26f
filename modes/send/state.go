package send

import "io/fs"

// State tells a file apart from others, and its content from what it was before:
// when two states are equal, nothing has been written to the file in between.
type State struct {
	Size  int64 // bytes
	MTime int64 // time of modification, nanoseconds since 1970

	// Device, Inode and CTime, the time of the last change of whatever kind in
	// nanoseconds since 1970, are 0 where the system does not tell them.
	Device, Inode, CTime int64
}

// StateOf is the state that info is of.
func StateOf(info fs.FileInfo) State {
	s := State{Size: info.Size(), MTime: info.ModTime().UnixNano()}
	s.identify(info)
	return s
}

// Identified reports whether s says which file it is of, and so holds a time that
// programs cannot set.
func (s State) Identified() bool { return s.Inode != 0 }

// Same reports whether s and o are of one file with the same content. Unlike equal
// states, these may lie before and after a change of the file's name.
func (s State) Same(o State) bool {
	s.CTime, o.CTime = 0, 0
	return s == o
}
