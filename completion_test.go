//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"fenc/config/need"
)

// shellFor finds a shell, and makes a folder with a real fenc in it, and what can be
// completed.
func shellFor(t *testing.T, name string) (shell, dir string) {
	t.Helper()
	shell = need.Program(t, name, name)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	if err := os.Symlink(path, filepath.Join(dir, "fenc")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report one.txt", "folder"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return shell, dir
}

// The script in a real bash, which asks a real fenc.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	bash, dir := shellFor(t, "bash")
	// What bash does at the key: COMP_WORDS, broken at = and :, and the cursor at the last.
	script := `set -u; cd "$1"; shift; PATH=.:$PATH; source <(fenc completion bash); complete -p fenc >/dev/null
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _fenc 2>/dev/null; printf '%s|' "${COMPREPLY[@]}"`
	for _, test := range []struct {
		words []string
		want  string
	}{
		{[]string{"fenc", "inv"}, "invite|"},
		{[]string{"fenc", "send", "a.txt", "--remove"}, "--remove-source-files|"},
		{[]string{"fenc", "send", "rep"}, "report one.txt|"},
		{[]string{"fenc", "get", "x", "--dir", "=", "fol"}, "folder|"},
		{[]string{"fenc", "send", "--server", "host", ":", "12", "--no"}, "--no-input|"},
	} {
		said, err := exec.Command(bash, append([]string{"--norc", "-c", script, "bash", dir}, test.words...)...).CombinedOutput()
		if string(said) != test.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", test.words, said, err, test.want)
		}
	}
}

// The same in a real zsh, but for what draws the offers: zsh's own functions for that
// need a terminal.
func TestCompletionInZsh(t *testing.T) {
	t.Parallel()
	zsh, dir := shellFor(t, "zsh")
	script := `cd "$1"; shift; PATH=.:$PATH
compdef() { [[ "$*" == "_fenc fenc" ]] || print "compdef $*" }
_describe() { print -rl -- "${(@P)2}" }
_files() { print -r -- "files $*" }
source <(fenc completion zsh)
words=("$@"); CURRENT=$#; _fenc`
	for _, test := range []struct {
		words []string
		want  string
	}{
		{[]string{"fenc", "inv"}, "invite:invite a client, by a line that fenc join takes\n"},
		{[]string{"fenc", "send", "a.txt", "--no-i"}, "--no-input:never ask\n"},
		{[]string{"fenc", "send", "rep"}, "files \n"},
		{[]string{"fenc", "get", "x", "--dir", "fol"}, "files -/\n"},
	} {
		said, err := exec.Command(zsh, append([]string{"-fc", script, "zsh", dir}, test.words...)...).CombinedOutput()
		if string(said) != test.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", test.words, said, err, test.want)
		}
	}
}

// The same in a real fish, which tells what it would offer.
func TestCompletionInFish(t *testing.T) {
	t.Parallel()
	fish, dir := shellFor(t, "fish")
	for line, want := range map[string]string{
		"fenc inv":               "invite\tinvite a client, by a line that fenc join takes\n",
		"fenc send a.txt --no-i": "--no-input\tnever ask\n",
		"fenc get x --dir fol":   "folder/\tDirectory\n",
	} {
		script := "cd $argv[1]; set PATH . $PATH; fenc completion fish | source; complete -C $argv[2]"
		command := exec.Command(fish, "--no-config", "-c", script, dir, line)
		command.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "LC_ALL=C.UTF-8")
		said, err := command.CombinedOutput()
		if string(said) != want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", line, said, err, want)
		}
	}
}
