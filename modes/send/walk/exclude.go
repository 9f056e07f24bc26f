package walk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// rule is one line of gitignore(5).
type rule struct {
	pattern string // as doublestar has them, matched with the path below the root
	include bool   // "!": what an earlier rule left out is in again
	folder  bool   // "/" at the end: folders alone
}

// parseRule reads a line. It returns no rule for an empty line and for a comment.
func parseRule(line string) (r rule, ok bool, err error) {
	if !utf8.ValidString(line) {
		return r, false, errors.New("is not UTF-8")
	}
	line = trimSpaces(strings.TrimSuffix(line, "\r"))
	if line == "" || line[0] == '#' {
		return r, false, nil
	}
	if line[0] == '!' {
		r.include, line = true, line[1:]
	}
	if trimmed := strings.TrimSuffix(line, "/"); trimmed != line {
		r.folder, line = true, trimmed
	}
	anchored := strings.Contains(line, "/")
	line = strings.TrimPrefix(line, "/")
	if line == "" {
		return r, false, nil // as git: it matches nothing
	}
	if !anchored {
		line = "**/" + line
	}
	if below, is := strings.CutSuffix(line, "/**"); is {
		line = below + "/**/*" // what is in the folder, and not the folder
	}
	// Braces mean nothing here.
	r.pattern = strings.NewReplacer(`\\`, `\\`, `\{`, `\{`, `\}`, `\}`, "{", `\{`, "}", `\}`).Replace(line)
	if !doublestar.ValidatePattern(r.pattern) {
		return r, false, fmt.Errorf(`is no pattern: a bracket without its end, or a \ with nothing behind it`)
	}
	return r, true, nil
}

// trimSpaces drops trailing spaces, but for one that a backslash protects.
func trimSpaces(line string) string {
	trimmed := strings.TrimRight(line, " ")
	escapes := len(trimmed) - len(strings.TrimRight(trimmed, `\`))
	if escapes%2 == 1 && len(trimmed) < len(line) {
		return trimmed[:len(trimmed)-1] + `\ `
	}
	return trimmed
}

// excludes reports whether the rules leave out the file or folder at path, below
// the root. The last rule that matches decides.
func excludes(rules []rule, path string, isDir bool) bool {
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		if r.folder && !isDir {
			continue
		}
		// It was validated. Match does so again where nothing matches, from the middle of a
		// class like [!a[] on, and takes that for an error.
		if doublestar.MatchUnvalidated(r.pattern, path) {
			return !r.include
		}
	}
	return false
}

// rules reads the patterns of the options, those of files first.
func (o Options) rules() ([]rule, error) {
	var rules []rule
	add := func(line, where string) error {
		r, ok, err := parseRule(line)
		if err != nil {
			return fmt.Errorf("%s: %q %w", where, line, err)
		}
		if ok {
			rules = append(rules, r)
		}
		return nil
	}
	for _, path := range o.ExcludeFrom {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("exclude_from: %w", err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		for n := 1; lines.Scan(); n++ {
			line := lines.Text()
			if n == 1 {
				line = strings.TrimPrefix(line, "\ufeff")
			}
			if err := add(line, fmt.Sprintf("%s:%d", path, n)); err != nil {
				return nil, err
			}
		}
		if err := lines.Err(); err != nil {
			return nil, fmt.Errorf("exclude_from: %w", err)
		}
	}
	for _, line := range o.Exclude {
		if err := add(line, "exclude"); err != nil {
			return nil, err
		}
	}
	return rules, nil
}
