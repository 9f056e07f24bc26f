// Package wire is what both protocols share on the wire: how they are told apart,
// which names and paths may travel, and connections on which silence ends.
package wire

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrName: a client's name that is not allowed.
	ErrName = errors.New("bad name")
	// ErrPath: a path that is not allowed.
	ErrPath = errors.New("bad path")
)

// Limits of names and paths, in bytes.
const (
	maxName = 127
	maxPart = 255
	maxPath = 1024
)

// CheckName returns ErrName unless name may be a client's: 1 to 127 bytes of
// UTF-8 without control characters.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > maxName {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrName, len(name), maxName)
	}
	if err := checkText(name); err != nil {
		return fmt.Errorf("%w: %q %w", ErrName, name, err)
	}
	return nil
}

// CheckPath returns ErrPath unless path may be a file's: relative, parts of 1 to
// 255 bytes between "/", in all up to 1,024, UTF-8, no part "." or "..", no control
// characters. Anything else is refused, never mended. It is the only judge of
// paths (protocol 4, invariants).
func CheckPath(path string) error {
	if len(path) == 0 || len(path) > maxPath {
		return fmt.Errorf("%w: %d bytes, want 1 to %d", ErrPath, len(path), maxPath)
	}
	if err := checkText(path); err != nil {
		return fmt.Errorf("%w: %q %w", ErrPath, path, err)
	}
	for part := range strings.SplitSeq(path, "/") {
		switch {
		case part == "":
			return fmt.Errorf("%w: %q has an empty part", ErrPath, path)
		case part == "." || part == "..":
			return fmt.Errorf("%w: %q has a part %q", ErrPath, path, part)
		case len(part) > maxPart:
			return fmt.Errorf("%w: %q has a part of %d bytes, want %d at most", ErrPath, path, len(part), maxPart)
		}
	}
	return nil
}

// checkText refuses what is not UTF-8, control characters (Unicode's Cc), and the
// line and paragraph separators.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return fmt.Errorf("has the control character %U", r)
		}
	}
	return nil
}

// maxPrintable bounds what Printable returns, in bytes, the "…" excluded.
const maxPrintable = 300

// Printable returns s as it may be shown on a terminal and in a log, whoever
// chose it: printable text as it is, any other as Go quotes it but without the
// quotes around it. What is longer than 300 bytes is cut there, between two
// characters and never within an escape, and ends in "…".
func Printable(s string) string {
	plain := utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) < 0
	if plain && len(s) <= maxPrintable {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		_, size := utf8.DecodeRuneInString(s)
		shown := s[:size]
		if !plain {
			quoted := strconv.Quote(shown)
			shown = quoted[1 : len(quoted)-1]
		}
		if b.Len()+len(shown) > maxPrintable {
			return b.String() + "…"
		}
		b.WriteString(shown)
		s = s[size:]
	}
	return b.String()
}
