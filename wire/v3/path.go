package v3

import (
	"crypto/sha256"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"fenc/wire"
)

// StoredPath returns where a file is kept, below its client's folder, that was
// sent under name: a relative path that is as near to the name as is safe.
//
// Version 3 clients send what the user named, absolute and Windows paths
// included. A backslash separates like a slash; what makes a path absolute goes
// ("/a/b" → "a/b", `C:\a\b` → "C/a/b"), and so do "." and empty parts. Different
// names can come to one path: see AlternativePath. A name that climbs with "..",
// names a folder, has control characters or is not UTF-8 is refused with
// wire.ErrPath.
func StoredPath(name string) (string, error) {
	slashed := slashes(name)
	if strings.HasSuffix(slashed, "/") || slashed == "." || strings.HasSuffix(slashed, "/.") {
		return "", fmt.Errorf("%w: %q names a folder", wire.ErrPath, name)
	}
	var parts []string
	for part := range strings.SplitSeq(slashed, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	stored := strings.Join(parts, "/")
	if err := wire.CheckPath(stored); err != nil {
		return "", err
	}
	return stored, nil
}

// slashes returns name with "/" for each separator, a drive as its first part.
func slashes(name string) string {
	s := strings.ReplaceAll(name, `\`, "/")
	if len(s) >= 2 && s[1] == ':' && isLetter(s[0]) {
		s = s[:1] + "/" + s[2:]
	}
	return s
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// AlternativePath returns where the file is kept if another name came to its
// stored path first: its last part with a tag made from the whole name, at the
// top of the client's folder ("/a/report.txt" → "report~1f3a9c2e.txt").
func AlternativePath(name string) string {
	digest := sha256.Sum256([]byte(name))
	base := path.Base(slashes(name))
	ext := path.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	tag := fmt.Sprintf("~%x", digest[:4])
	if stem == "" || len(ext) > 32 { // no extension, only a dot in front or somewhere
		stem, ext = base, ""
	}
	for len(stem)+len(tag)+len(ext) > NameSize {
		_, size := utf8.DecodeLastRuneInString(stem)
		stem = stem[:len(stem)-size]
	}
	return stem + tag + ext
}
