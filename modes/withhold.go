package modes

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxIdentity is longer than any me.toml, in bytes.
const maxIdentity = 64 << 10

// withheld returns what says why a file is not sent: it is the identity at mePath, under
// whatever name, or one that is kept beside it. Whoever reads the server's storage could
// send under it. So are the settings at needed, where what is sent does not stay here; empty
// where it does.
func withheld(mePath, needed string) func(path string, info fs.FileInfo) (why string) {
	dir, name := filepath.Split(filepath.Clean(mePath))
	return func(path string, info fs.FileInfo) string {
		if needed != "" {
			if settings, err := os.Stat(needed); err == nil && os.SameFile(settings, info) {
				return "is the settings in use, which stay here"
			}
		}
		if !info.Mode().IsRegular() || info.Size() > maxIdentity {
			return ""
		}
		if me, err := os.Stat(mePath); err == nil && os.SameFile(me, info) { // which the first contact may just have made
			return "is the identity in use, and its private key stays on this machine"
		}
		at, base := filepath.Split(filepath.Clean(path))
		beside, is := strings.CutPrefix(base, name+".")
		if is && (beside == "old" || strings.HasSuffix(beside, ".old") || strings.HasSuffix(beside, ".new")) && sameFile(cmp.Or(at, "."), cmp.Or(dir, ".")) {
			return "is kept beside the identity in use, and its private key stays on this machine"
		}
		return ""
	}
}
