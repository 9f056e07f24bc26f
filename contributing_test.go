package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What CONTRIBUTING.md names is there: options and tests of the long loops, packages.
func TestContributingNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	text := readFile(t, filepath.Join(sourceDir, "CONTRIBUTING.md"))
	var tests strings.Builder
	err := filepath.WalkDir(sourceDir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "test.go") { // of tests, and of packages for them
			tests.WriteString(readFile(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	options := regexp.MustCompile(`-((?:[a-z]+)\.(?:[a-z]+))\b`).FindAllStringSubmatch(text, -1)
	for _, option := range options {
		if strings.HasPrefix(option[1], "rapid.") {
			continue // of pgregory.net/rapid
		}
		if !strings.Contains(tests.String(), `("`+option[1]+`",`) {
			t.Errorf("no test has the option -%s", option[1])
		}
	}
	runs := regexp.MustCompile(`-run (\w+) -`).FindAllStringSubmatch(text, -1)
	for _, run := range runs {
		if run[1] != "xxx" && !regexp.MustCompile(`\nfunc (Test|Fuzz)\w*`+strings.TrimPrefix(strings.TrimPrefix(run[1], "Test"), "Fuzz")).MatchString(tests.String()) {
			t.Errorf("no test is called like %s", run[1])
		}
	}
	// Behind a flag that go test does not know it looks for no package.
	for _, command := range regexp.MustCompile("`go test (-[^`]*)`").FindAllStringSubmatch(text, -1) {
		if regexp.MustCompile(` -[a-z]+\.[a-z]+`).MatchString(" " + command[1]) {
			t.Errorf("the package does not stand first: go test %s", command[1])
		}
	}
	if len(options) < 8 || len(runs) < 5 {
		t.Errorf("got options %q and tests %q, want the long loops", options, runs)
	}
	_, table, _ := strings.Cut(text, "| what | packages below modes/ |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, name := range regexp.MustCompile("`([a-z0-9/]+)`").FindAllStringSubmatch(table, -1) {
		below := filepath.Join(sourceDir, "modes", filepath.FromSlash(name[1]))
		if strings.HasPrefix(name[1], "model/") || strings.HasPrefix(name[1], "config/") || strings.HasPrefix(name[1], "wire/") {
			below = filepath.Join(sourceDir, filepath.FromSlash(name[1]))
		}
		if info, err := os.Stat(below); err != nil || !info.IsDir() {
			t.Errorf("no package %s", name[1])
		}
	}
}
