package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ExpandFiles returns what Files means: its paths, and for a pattern (*, ? and
// [a-z], as filepath.Match has them) the paths that match it, in order, each once. The
// directory that relative patterns start at is no part of them. What came from
// the command line is taken as it is, and so is what exists by that very name;
// a pattern that matches nothing stays, so that opening it says so.
func (t Transfer) ExpandFiles() []string {
	from := t.of["files"]
	if from.where == "" || from.literal {
		return slices.Clone(t.Files)
	}
	base := strings.TrimSuffix(filepath.Join(from.dir, "x"), "x")
	var paths []string
	seen := map[string]bool{} // two patterns may match one path
	add := func(path string) {
		if !seen[path] {
			paths = append(paths, path)
		}
		seen[path] = true
	}
	for _, f := range t.Files {
		pattern, relative := strings.CutPrefix(f, base)
		if !strings.ContainsAny(pattern, "*?[") || isThere(f) {
			add(f)
			continue
		}
		if relative {
			pattern = quoteMeta(base) + pattern
		}
		matches, _ := filepath.Glob(pattern) // wrong patterns match nothing
		if len(matches) == 0 {
			matches = []string{f}
		}
		for _, m := range matches {
			add(m)
		}
	}
	return paths
}

// quoteMeta returns a pattern that matches path alone.
func quoteMeta(path string) string {
	var b strings.Builder
	for _, r := range path {
		switch {
		case strings.ContainsRune("*?[", r):
			b.WriteString("[" + string(r) + "]") // Windows has no other way
		case r == '\\' && !os.IsPathSeparator('\\'):
			b.WriteString(`\\`)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
