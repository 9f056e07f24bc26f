package v3

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"fenc/wire"
	"fenc/wire/fuzztest"
)

func TestStoredPath(t *testing.T) {
	t.Parallel()
	tests := []struct{ sent, want string }{
		{"note.txt", "note.txt"},
		{"a/b/note.txt", "a/b/note.txt"},
		{"./note.txt", "note.txt"},
		{"./a//b", "a/b"},
		{"a/./b", "a/b"},
		{"/home/grace/note.txt", "home/grace/note.txt"},
		{"///a", "a"},
		{"//server/share/a.txt", "server/share/a.txt"},
		{`\\server\share\a.txt`, "server/share/a.txt"},
		{`C:\Users\grace\a.txt`, "C/Users/grace/a.txt"},
		{`c:/a.txt`, "c/a.txt"},
		{`C:a.txt`, "C/a.txt"},
		{`a\b/c`, "a/b/c"},
		{`\a`, "a"},
		{"ä:b", "ä:b"},
		{"1:b", "1:b"},
		{"a b.txt", "a b.txt"},
		{" a ", " a "},
		{"~/a", "~/a"},
		{"-rf", "-rf"},
		{"%2e%2e/a", "%2e%2e/a"},
		{"...", "..."},
		{".hidden", ".hidden"},
		{"CON", "CON"},
		{"日本/é.txt", "日本/é.txt"},
		{strings.Repeat("n", 255), strings.Repeat("n", 255)},
	}
	for _, test := range tests {
		if got, err := StoredPath(test.sent); got != test.want || err != nil {
			t.Errorf("StoredPath(%q) = %q, %v, want %q", test.sent, got, err, test.want)
		}
	}
}

func TestStoredPathRefused(t *testing.T) {
	t.Parallel()
	for name, sent := range map[string]string{
		"nothing":                       "",
		"this folder":                   ".",
		"folder above":                  "..",
		"climbs at the front":           "../a",
		"climbs in the middle":          "a/../b",
		"climbs at the end":             "a/..",
		"climbs after a root":           "/../a",
		"climbs with backslashes":       `..\..\a`,
		"climbs with both":              `a\../..\b`,
		"climbs after a drive":          `C:..\a`,
		"climbs after a dot":            "./../a",
		"climbs after nothing":          "a//../b",
		"root":                          "/",
		"backslash":                     `\`,
		"drive":                         "C:",
		"drive's root":                  `C:\`,
		"server":                        `\\`,
		"ends in a slash":               "a/",
		"ends in a backslash":           `a\`,
		"ends in this folder":           "a/.",
		"ends in this folder, backward": `a\.`,
		"NUL":                           "a\x00.txt",
		"escape":                        "\x1b[2J",
		"line feed":                     "a\nb",
		"C1":                            "a\u0085",
		"line separator":                "a\u2028",
		"not UTF-8":                     "a\xff",
		"overlong dots":                 "\xc0\xae\xc0\xae/a",
		"part too long":                 strings.Repeat("n", 256),
	} {
		if got, err := StoredPath(sent); !errors.Is(err, wire.ErrPath) || got != "" {
			t.Errorf("%s: StoredPath(%q) = %q, %v, want ErrPath", name, sent, got, err)
		}
	}
}

func TestAlternativePath(t *testing.T) {
	t.Parallel()
	// The tags are the first 8 digits that sha256sum prints for the sent name.
	tests := []struct{ sent, want string }{
		{"/a/report.txt", "report~46c02817.txt"},
		{"a/report.txt", "report~b98bde4c.txt"},
		{`C:\a\report.txt`, "report~9d898167.txt"},
		{"C:report.txt", "report~402785ff.txt"},
		{"README", "README~2b7814d3"},
		{".bashrc", ".bashrc~b7cf3e96"},
		{"a.tar.gz", "a.tar~0a67bba7.gz"},
		{"a.", "a~5ab640fa."},
	}
	for _, test := range tests {
		if got := AlternativePath(test.sent); got != test.want {
			t.Errorf("AlternativePath(%q) = %q, want %q", test.sent, got, test.want)
		}
	}
}

func TestAlternativePathFits(t *testing.T) {
	t.Parallel()
	for _, sent := range []string{
		strings.Repeat("n", 255), strings.Repeat("n", 251) + ".txt", strings.Repeat("é", 125) + ".txt",
		"n." + strings.Repeat("e", 253), "." + strings.Repeat("e", 254), strings.Repeat("日", 85), "a/" + strings.Repeat("n", 246),
	} {
		got := AlternativePath(sent)
		if len(got) > 255 || !utf8.ValidString(got) || wire.CheckPath(got) != nil || strings.Contains(got, "/") || !strings.Contains(got, "~") {
			t.Errorf("AlternativePath(%q) = %q, %d bytes", sent, got, len(got))
		}
	}
	if got := AlternativePath(strings.Repeat("é", 125) + ".txt"); !strings.HasSuffix(got, ".txt") || len(got) < 253 {
		t.Errorf("got %q, want as much as fits and its extension", got)
	}
}

// FuzzStoredPath: what is admitted is safe and nothing is left to mend, and so is its
// alternative.
func FuzzStoredPath(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, seed := range []string{
		"note.txt", "/a/b", `C:\a\b`, `\\server\share\a`, "./a//b", "..", "a/../b", `..\a`, "a/", "C:", "\x00", "\xff", ".a", "a.",
		strings.Repeat("é", 127),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent string) {
		stored, err := StoredPath(sent)
		if err != nil {
			if !errors.Is(err, wire.ErrPath) || stored != "" {
				t.Fatalf("%q: got %q and %v", sent, stored, err)
			}
			return
		}
		if err := wire.CheckPath(stored); err != nil {
			t.Fatalf("%q is stored as %q: %v", sent, stored, err)
		}
		// ("/C:a" is stored as "C:a", which sent as it is would have a drive.)
		if again, err := StoredPath(stored); slashes(stored) == stored && (again != stored || err != nil) {
			t.Fatalf("%q is stored as %q, and that as %q, %v", sent, stored, again, err)
		}
		if strings.Contains(stored, `\`) {
			t.Fatalf("%q is stored as %q", sent, stored)
		}
		alternative := AlternativePath(sent)
		if err := wire.CheckPath(alternative); err != nil || strings.ContainsAny(alternative, `/\`) {
			t.Fatalf("%q has the alternative %q: %v", sent, alternative, err)
		}
	})
}
