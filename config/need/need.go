// Package need is for tests that use what is not part of Go: programs, above all.
package need

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Variable is that of the environment which, where it is set, has tests fail that would
// skip for want of something. .ci/run sets it, having installed all that is wanted: there
// no test is left out unnoticed.
const Variable = "FENC_TEST_REQUIRE"

// Program returns the path of the first of names that is installed. Without any the test
// skips, or fails, and says which package of Debian has it.
func Program(t testing.TB, debian string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	Skip(t, fmt.Sprintf("no %s here (Debian: apt-get install %s)", strings.Join(names, ", "), debian))
	return ""
}

// Skip skips the test for want of something that can be installed, or fails it where
// Variable is set.
func Skip(t testing.TB, want string) {
	t.Helper()
	if os.Getenv(Variable) != "" {
		t.Fatalf("%s, and %s is set: nothing may be left out", want, Variable)
	}
	t.Skip(want)
}

// Rounds returns how often a loop goes round: as often as its option says, or where that
// is 0 as in an ordinary run or, with -short, in a short one. A short run is for the race
// detector, which takes several times as long for each round and needs fewer: it tells of
// two accesses that nothing orders whether or not they have done harm.
func Rounds[N int | int64 | uint64](option, ordinary, short N) N {
	switch {
	case option != 0:
		return option
	case testing.Short():
		return short
	}
	return ordinary
}
