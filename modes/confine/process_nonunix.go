//go:build !unix

package confine

// private: a new file has the permissions of its folder there.
func private() {}

// noCoreFile: there are none.
func noCoreFile() error { return nil }
