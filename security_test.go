package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What SECURITY.md promises, it names a test for. A test that is renamed or removed
// takes its promise along, or is named anew there.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	there := make(map[string]bool)
	function := regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(t \*testing\.T\)`)
	err := filepath.WalkDir(sourceDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, found := range function.FindAllStringSubmatch(string(text), -1) {
			there[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text := readFile(t, filepath.Join(sourceDir, "SECURITY.md"))
	named := regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(text, -1)
	if len(named) < 40 {
		t.Errorf("SECURITY.md names %d tests, want one for each promise", len(named))
	}
	for _, name := range named {
		if !there[name] {
			t.Errorf("SECURITY.md names %s, which is no test", name)
		}
	}
	for _, file := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(sourceDir, filepath.FromSlash(file[1]))); err != nil {
			t.Errorf("SECURITY.md links to %s: %v", file[1], err)
		}
	}
	if !strings.Contains(readFile(t, filepath.Join(sourceDir, "README.md")), "](SECURITY.md)") {
		t.Error("README.md does not link to SECURITY.md")
	}
}

// Programs are run for hooks and the gate, which the operator of a server configures,
// and for nothing else: a client runs none.
func TestOnlyHooksRunPrograms(t *testing.T) {
	t.Parallel()
	runs := regexp.MustCompile(`"os/exec"|\b(os|syscall|unix|windows)\.(StartProcess|Exec|ForkExec|CreateProcess)\b`)
	forTests := regexp.MustCompile(`^(config/need|\.ci/\w+|[\w/]*test)/`)
	found := false
	err := filepath.WalkDir(sourceDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name, err := filepath.Rel(sourceDir, path)
		if name = filepath.ToSlash(name); err != nil || forTests.MatchString(name) {
			return err
		}
		text, err := os.ReadFile(path)
		if !runs.Match(text) {
			return err
		}
		found = true
		if !strings.HasPrefix(name, "modes/hooks/") && name != "modes/hooks.go" {
			t.Errorf("%s runs programs", name)
		}
		return err
	})
	if err != nil || !found {
		t.Errorf("programs are run at all: %t, %v", found, err)
	}
}
