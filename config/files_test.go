package config

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestExpandFiles(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a[1]") // no pattern, though it looks like one
	sub := filepath.Join(dir, "sub")
	if err := os.MkdirAll(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"b.txt", "a.txt", "c.log", "x[1]", "x1", filepath.Join("sub", "d.txt")} {
		write(t, dir, name, "")
	}
	write(t, dir, "transfer.toml", `files = ["*.txt", "a.txt", "s*/*.txt", "none*", "x[1]", "y[", "-", "plain", '`+filepath.Join(sub, "d.txt")+`']`)
	l := Lookup{WorkDir: dir}
	c, _, err := l.LoadTransfer("")
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	in := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(dir, n))
		}
		return paths
	}
	want := append(in("a.txt", "b.txt", filepath.Join("sub", "d.txt"), "none*", "x[1]", "y["), "-")
	if got, want := c.ExpandFiles(), append(want, in("plain")...); !reflect.DeepEqual(got, want) {
		t.Errorf("file: got %q, want %q", got, want)
	}
	l.Getenv = env(map[string]string{"FENC_FILES": "*.log"})
	if c, _, err = l.LoadTransfer(""); err != nil {
		t.Fatal(err)
	}
	if got, want := c.ExpandFiles(), in("c.log"); !reflect.DeepEqual(got, want) {
		t.Errorf("environment: got %q, want %q", got, want)
	}
	if err := c.Override("files", "*.txt"); err != nil {
		t.Fatal(err)
	}
	if got, want := c.ExpandFiles(), in("*.txt"); !reflect.DeepEqual(got, want) {
		t.Errorf("command line: got %q, want %q as the shell left it", got, want)
	}
	if got := DefaultTransfer().ExpandFiles(); len(got) != 0 {
		t.Errorf("default: got %q, want none", got)
	}
}

func TestExpandFilesTakesAbsolutePatterns(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	write(t, data, "a.txt", "")
	dir := t.TempDir()
	write(t, dir, "transfer.toml", `files = ['`+filepath.Join(data, "*.txt")+`']`)
	c, _, err := Lookup{WorkDir: dir}.LoadTransfer("")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.ExpandFiles(), []string{filepath.Join(data, "a.txt")}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
