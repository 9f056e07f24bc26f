package model

import (
	"strings"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// ancestors lists the folders above path, nearest last: "a/b/c" → "a", "a/b".
func ancestors(path string) []string {
	var above []string
	for i, r := range path {
		if r == '/' {
			above = append(above, path[:i])
		}
	}
	return above
}

// below is the half-open range of keys under the folder path.
func below(path string) (from, to string) { return path + "/", path + "0" } // '0' follows '/'

// folderName makes a readable folder name of a client's name: no separators, no
// leading dot, nothing a common file system or shell forbids.
func folderName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if trimmed := strings.TrimRight(clean, " ."); trimmed != clean {
		clean = trimmed + "_" // Windows drops them, and two names become one
	}
	if clean == "" || clean[0] == '.' || clean[0] == '-' || clean[0] == '~' {
		clean = "_" + clean
	}
	return clean
}

// Fold is what names are compared by where case and normalisation do not count.
// Folder names always are: the
// storage may be copied to one that folds case or normalises.
func Fold(name string) string { return cases.Fold().String(norm.NFC.String(name)) }
