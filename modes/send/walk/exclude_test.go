package walk

import (
	"testing"

	"github.com/bmatcuk/doublestar/v4"

	"fenc/wire/fuzztest"
)

// A line that is taken for a pattern is one wherever it is used.
func FuzzRule(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, line := range []string{"*.o", "!keep.o", "/build/", "**/a/**", `a\ `, "[a-z]*", "{a,b}", "# comment", "\\", "[!a[]*"} {
		f.Add(line, "a/b.o")
	}
	f.Fuzz(func(t *testing.T, line, path string) {
		r, ok, err := parseRule(line)
		if err != nil || !ok {
			return
		}
		matched := doublestar.MatchUnvalidated(r.pattern, path)
		if validated, err := doublestar.Match(r.pattern, path); validated != matched {
			t.Fatalf("%q became %q: %v, and validated again %v, %v", line, r.pattern, matched, validated, err)
		}
	})
}
