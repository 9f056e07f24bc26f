//go:build unix && !linux

package screentest

import "os"

// flow has a terminal take what programs write, or have them wait: by the keys for that,
// a moment after this returns.
func flow(pty, _ *os.File, on bool) error {
	key := "\x13"
	if on {
		key = "\x11"
	}
	_, err := pty.WriteString(key)
	return err
}
