package wire

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"fenc/wire/fuzztest"
)

func TestCheckPath(t *testing.T) {
	t.Parallel()
	part := strings.Repeat("p", 255)
	for _, path := range []string{
		"a", "a/b", "report.txt", ".hidden", "...", "a/.../b", "a b", "x:y", `a\b`, "CON", "ä/日本",
		"e\u0301", "\u00e9", // NFD and NFC: bytes are the identity
		"\u202e", // turns text round, but is no control character: shown quoted, stored as it is
		part, part + "/" + part, strings.Repeat("é", 127), strings.Repeat("a/", 511) + "aa",
		strings.Join([]string{part, part, part, part}, "/") + "/"[:0],
	} {
		if err := CheckPath(path); err != nil {
			t.Errorf("CheckPath(%.40q) = %v, want none", path, err)
		}
	}
	refused := []struct{ name, path, why string }{
		{"empty", "", "0 bytes"},
		{"this folder", ".", `part "."`},
		{"folder above", "..", `part ".."`},
		{"climbs", "a/../b", `part ".."`},
		{"climbs at the end", "a/..", `part ".."`},
		{"stays", "a/./b", `part "."`},
		{"absolute", "/a", "empty part"},
		{"root", "/", "empty part"},
		{"empty part", "a//b", "empty part"},
		{"trailing slash", "a/", "empty part"},
		{"NUL", "a\x00b", "U+0000"},
		{"C0", "a\x1b[2J", "U+001B"},
		{"line feed", "a\nb", "U+000A"},
		{"DEL", "a\x7f", "U+007F"},
		{"C1", "a\u0085b", "U+0085"},
		{"line separator", "a\u2028b", "U+2028"},
		{"paragraph separator", "a\u2029b", "U+2029"},
		{"not UTF-8", "a\xff", "UTF-8"},
		{"half a character", "a/\xc3", "UTF-8"},
		{"surrogate", "\xed\xa0\x80", "UTF-8"},
		{"overlong slash", "a\xc0\xafb", "UTF-8"},
		{"part of 256", part + "p", "256 bytes"},
		{"later part of 256", "a/" + part + "p/b", "256 bytes"},
		{"1,025 in all", strings.Repeat("a/", 512) + "a", "1025 bytes"},
	}
	for _, test := range refused {
		t.Run(test.name, func(t *testing.T) {
			err := CheckPath(test.path)
			if !errors.Is(err, ErrPath) || !strings.Contains(err.Error(), test.why) {
				t.Fatalf("got %v, want ErrPath that says %q", err, test.why)
			}
			if err.Error() != Printable(err.Error()) && len(err.Error()) <= maxPrintable {
				t.Errorf("%q is not fit for a terminal", err)
			}
		})
	}
}

func FuzzCheckPath(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, seed := range []string{"a", "a/b", "..", "a/../b", "/a", "a//b", "a/", "\x00", "\u2028", "\xff", strings.Repeat("a/", 512)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		err := CheckPath(path)
		if err != nil {
			if !errors.Is(err, ErrPath) {
				t.Fatalf("%q: %v is no ErrPath", path, err)
			}
			return
		}
		if len(path) > 1024 || !utf8.ValidString(path) || strings.ContainsFunc(path, unicode.IsControl) || strings.ContainsAny(path, "\u2028\u2029") {
			t.Fatalf("%q admitted", path)
		}
		for _, part := range strings.Split(path, "/") {
			if part == "" || part == "." || part == ".." || len(part) > 255 {
				t.Fatalf("%q admitted with the part %q", path, part)
			}
		}
	})
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "Grace Hopper", "é日本", "a/b", "..", strings.Repeat("n", 127)} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q) = %v, want none", name, err)
		}
	}
	for _, name := range []string{"", strings.Repeat("n", 128), "a\x00", "a\nb", "\x1b[2J", "\u009b", "\u2028", "\u2029", "\xff"} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("CheckName(%q) = %v, want ErrName", name, err)
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", `C:\a "b" é日本`, `C:\a "b" é日本`},
		{"escape sequence", "\x1b[2Jx", `\x1b[2Jx`},
		{"C1", "\u009b2J", `\u009b2J`},
		{"text turned round", "a\u202etxt.exe", `a\u202etxt.exe`},
		{"zero width", "a\u200bb", `a\u200bb`},
		{"lines", "a\r\nb\u2028c", `a\r\nb\u2028c`},
		{"NUL", "a\x00", `a\x00`},
		{"not UTF-8", "a\xffb", `a\xffb`},
		{"replacement character itself", "\ufffd", "\ufffd"},
		{"backslash where something is escaped", "\\\x1b", `\\\x1b`},
		{"300 bytes", strings.Repeat("a", 300), strings.Repeat("a", 300)},
		{"301 bytes", strings.Repeat("a", 301), strings.Repeat("a", 300) + "…"},
		{"cut between characters", strings.Repeat("a", 299) + "é", strings.Repeat("a", 299) + "…"},
		{"cut between escapes", strings.Repeat("\x01", 255), strings.Repeat(`\x01`, 75) + "…"},
		{"escape far behind the cut", strings.Repeat("a", 1000) + "\x1b", strings.Repeat("a", 300) + "…"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Printable(test.in); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzPrintable(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, seed := range []string{"", "plain", "\x1b[2J", "a\xff", "\u202e", `\`, strings.Repeat("é\x1b", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if len(got) > maxPrintable+len("…") {
			t.Fatalf("%d bytes", len(got))
		}
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !strconv.IsPrint(r) }) {
			t.Fatalf("%q is not printable", got)
		}
		if Printable(got) != got && !strings.HasSuffix(got, "…") {
			t.Fatalf("%q is changed again", got)
		}
	})
}
