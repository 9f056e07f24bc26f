package walk_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"fenc/modes/send/walk"
)

// visits notes what a walk comes by: names, "! " before what fails, "- " before
// what is skipped.
type visits struct {
	t     *testing.T
	root  string
	seen  []string
	limit int // files after which an error ends the walk; 0: none
}

var errEnough = errors.New("enough")

func (v *visits) File(f walk.File) error {
	info, err := os.Stat(f.Path)
	if err != nil || !os.SameFile(info, f.Info) || !f.Info.Mode().IsRegular() {
		v.t.Errorf("%s: path and state are of another file, or of none: %v", f.Path, err)
	}
	v.seen = append(v.seen, f.Name)
	if len(v.seen) == v.limit {
		return errEnough
	}
	return nil
}

func (v *visits) Fail(path string, err error) {
	v.seen = append(v.seen, "! "+v.short(path)+": "+err.Error())
}
func (v *visits) Skip(path, why string) { v.seen = append(v.seen, "- "+v.short(path)+": "+why) }

func (v *visits) short(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, v.root), "/")
}

// tree makes files (a folder where a path ends in "/", a link where it has "->").
func tree(t *testing.T, paths ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, p := range paths {
		p, target, isLink := strings.Cut(p, "->")
		full := filepath.Join(root, p)
		dir := filepath.Dir(full)
		if strings.HasSuffix(p, "/") {
			dir = full
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, full)
		case !strings.HasSuffix(p, "/"):
			err = os.WriteFile(full, []byte(p), 0o600)
		}
		if err != nil {
			t.Skip(err)
		}
	}
	return root
}

func visit(t *testing.T, o walk.Options, root, below string) []string {
	t.Helper()
	w, err := walk.New(o)
	if err != nil {
		t.Fatal(err)
	}
	v := &visits{t: t, root: root}
	if err := w.Walk(t.Context(), filepath.Join(root, below), "", v); err != nil {
		t.Fatal(err)
	}
	return v.seen
}

func TestWalk(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links and names of other systems")
	}
	long := strings.Repeat("n", 200)
	for name, test := range map[string]struct {
		tree    []string
		options walk.Options
		root    string
		want    []string
	}{
		"a file":                  {[]string{"d/a"}, walk.Options{}, "d/a", []string{"a"}},
		"a folder":                {[]string{"d/b", "d/a/x", "d/a.b", "d/e/"}, walk.Options{}, "d", []string{"d/a/x", "d/a.b", "d/b"}},
		"nothing":                 {nil, walk.Options{}, "d", []string{"! d: no such file or directory"}},
		"link to a file, named":   {[]string{"a", "l->a"}, walk.Options{}, "l", []string{"l"}},
		"link to a folder, named": {[]string{"d/a", "l->d"}, walk.Options{}, "l", []string{"l/a"}},
		"links":                   {[]string{"d/a", "d/l->a"}, walk.Options{}, "d", []string{"d/a", "- d/l: is a symbolic link: --follow-links sends what it leads to"}},
		"links, followed":         {[]string{"d/a", "d/l->a", "d/m->../e", "e/x"}, walk.Options{FollowLinks: true}, "d", []string{"d/a", "d/l", "d/m/x"}},
		"link that leads nowhere": {[]string{"d/l->no"}, walk.Options{FollowLinks: true}, "d", []string{"! d/l: follow the link: no such file or directory"}},
		"link to itself":          {[]string{"d/l->l"}, walk.Options{FollowLinks: true}, "d", []string{"! d/l: follow the link: too many levels of symbolic links"}},
		"loop":                    {[]string{"d/a", "d/e/l->.."}, walk.Options{FollowLinks: true}, "d", []string{"d/a", "- d/e/l: is a link back to a folder that it is in"}},
		"loop over two folders": {[]string{"d/e/l->../../f", "f/m->../d"}, walk.Options{FollowLinks: true}, "d",
			[]string{"- d/e/l/m: is a link back to a folder that it is in"}},
		"names that cannot be sent": {[]string{"d/a\nb", "d/c\xff", "d/ok"}, walk.Options{}, "d", []string{
			`! d/a` + "\n" + `b: bad path: "d/a\nb" has the control character U+000A`,
			"! d/c\xff: bad path: \"d/c\\xff\" is not UTF-8", "d/ok"}},
		"a path too long": {[]string{"d/" + strings.Join([]string{long, long, long, long, long, long, "a"}, "/"), "d/z"}, walk.Options{}, "d", []string{
			"! d/" + strings.Join([]string{long, long, long, long, long, long, "a"}, "/") + ": bad path: 1209 bytes", "d/z"}},
		"left out": {[]string{"d/a.o", "d/b.c", "d/tmp/x", "d/tmp/keep", "d/e/b.o", "d/e/keep.o"}, walk.Options{Exclude: []string{"*.o", "!keep.o", "tmp/", "!tmp/keep"}}, "d",
			[]string{"d/b.c", "d/e/keep.o"}},
		"left out, below the root":  {[]string{"d/a", "d/e/a"}, walk.Options{Exclude: []string{"/a", "/d"}}, "d", []string{"d/e/a"}},
		"left out, but named":       {[]string{"a.o"}, walk.Options{Exclude: []string{"*.o"}}, "a.o", []string{"a.o"}},
		"left out, though a link":   {[]string{"d/a", "d/l->a", "d/m->e"}, walk.Options{Exclude: []string{"l", "m"}}, "d", []string{"d/a"}},
		"left out folders, linked":  {[]string{"d/l->../e", "e/x"}, walk.Options{Exclude: []string{"l/"}, FollowLinks: true}, "d", nil},
		"folder without own name":   {[]string{"a", "d/x"}, walk.Options{}, ".", []string{"a", "d/x"}},
		"folder with a slash after": {[]string{"d/x"}, walk.Options{}, "d/", []string{"d/x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, test.tree...)
			if test.root == "." {
				test.root = "d/.."
				os.Mkdir(filepath.Join(root, "d"), 0o755)
				w, err := walk.New(test.options)
				if err != nil {
					t.Fatal(err)
				}
				v := &visits{t: t, root: root}
				if err := w.Walk(t.Context(), root+"/d/..", "", v); err != nil {
					t.Fatal(err)
				}
				for i, s := range v.seen { // the root has a name after all: the last part of its clean path
					v.seen[i] = strings.TrimPrefix(s, filepath.Base(root)+"/")
				}
				if !slices.Equal(v.seen, test.want) {
					t.Errorf("got %q, want %q", v.seen, test.want)
				}
				return
			}
			got := visit(t, test.options, root, test.root)
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], test.want[i]) {
					t.Errorf("got %q, want %q", got[i], test.want[i])
				}
			}
		})
	}
}

// gitAnswers are patterns with paths, and whether git check-ignore says of them
// that they are ignored (git 2.39.5).
var gitAnswers = []struct {
	patterns, path string
	ignored        bool
}{
	{"*.o", "a.o", true}, {"*.o", "d/a.o", true}, {"/a", "a", true}, {"/a", "d/a", false}, {"a/", "a", false}, {"a/", "a/x", true},
	{"d/a", "d/a", true}, {"d/a", "x/d/a", false}, {"**/a", "x/y/a", true}, {"**/a", "a", true}, {"a/**", "a/b", true},
	{"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"*\n!keep", "keep", false}, {"*\n!keep", "x", true}, {"!x", "x", false},
	{`\#x`, "#x", true}, {"#x", "#x", false}, {`\!x`, "!x", true}, {"[ab]x", "ax", true}, {"[!ab]x", "ax", false}, {"[!ab]x", "cx", true},
	{"[^ab]x", "cx", true}, {"[a-c]x", "bx", true}, {"a?c", "abc", true}, {"a?c", "a/c", false}, {"foo ", "foo", true}, {`foo\ `, "foo ", true},
	{"*.txt\n!d/a.txt", "d/a.txt", false}, {"d/*", "d/a", true}, {"d/*", "d/e/f", true}, {"/d/*.c", "d/a.c", true}, {"/*.c", "d/a.c", false},
	{"a**b", "axxb", true}, {"a**b", "a/b", false}, {"d/**", "d/e/f", true}, {"**", "a", true}, {"**/d/", "x/d/f", true}, {"A", "a", false},
	{`\*`, "*", true}, {`\*`, "a", false}, {"tmp\n!tmp/keep", "tmp/keep", true}, {"tmp/*\n!tmp/keep", "tmp/keep", false},
	{"*/b", "a/b", true}, {"*/b", "x/a/b", false}, {"{a,b}", "a", false}, {"{a,b}", "{a,b}", true}, {"", "a", false}, {"/", "a", false}, {"a\r", "a", true},
}

func TestExcludesAsGitDoes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("names of other systems")
	}
	for _, g := range gitAnswers {
		root := tree(t, "d/"+g.path)
		file := filepath.Join(root, "patterns")
		if err := os.WriteFile(file, []byte(g.patterns+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for how, o := range map[string]walk.Options{"Exclude": {Exclude: strings.Split(g.patterns, "\n")}, "ExcludeFrom": {ExcludeFrom: []string{file}}} {
			if got := len(visit(t, o, root, "d")) == 0; got != g.ignored {
				t.Errorf("%s %q: path %q: left out: got %t, want %t", how, g.patterns, g.path, got, g.ignored)
			}
		}
	}
}

func TestBadPatterns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "patterns")
	if err := os.WriteFile(file, []byte("# fine\n*.o\n[ab\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]walk.Options{
		file + ":3":     {ExcludeFrom: []string{file}},
		`"[ab"`:         {Exclude: []string{"[ab"}},
		"UTF-8":         {Exclude: []string{"a\xff"}},
		file + ".gone:": {ExcludeFrom: []string{file + ".gone"}},
	} {
		if _, err := walk.New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func TestUnreadableFolder(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("may read everything")
	}
	root := tree(t, "d/a", "d/e/x", "d/z")
	if err := os.Chmod(filepath.Join(root, "d/e"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(root, "d/e"), 0o700)
	got := visit(t, walk.Options{}, root, "d")
	if len(got) != 3 || got[0] != "d/a" || !strings.HasPrefix(got[1], "! d/e: permission denied") || got[2] != "d/z" {
		t.Errorf("got %q, want the folder reported and the others walked", got)
	}
}

func TestWalkEnds(t *testing.T) {
	t.Parallel()
	root := tree(t, "d/a", "d/b", "d/c")
	w, err := walk.New(walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := &visits{t: t, limit: 2}
	if err := w.Walk(t.Context(), filepath.Join(root, "d"), "", v); !errors.Is(err, errEnough) || len(v.seen) != 2 {
		t.Errorf("visitor's error: got %v after %q", err, v.seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v = &visits{t: t}
	if err := w.Walk(ctx, filepath.Join(root, "d"), "", v); !errors.Is(err, context.Canceled) || len(v.seen) != 0 {
		t.Errorf("canceled: got %v after %q", err, v.seen)
	}
}

// counted keeps no names, to measure what the walk keeps.
type counted struct {
	files int
	most  uint64
}

func (c *counted) File(walk.File) error {
	if c.files++; c.files%5000 == 0 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		c.most = max(c.most, m.HeapAlloc)
	}
	return nil
}
func (c *counted) Fail(string, error)  {}
func (c *counted) Skip(string, string) {}

// Not parallel: it looks at the heap.
func TestMemoryOfAWalkDoesNotGrowWithTheTree(t *testing.T) {
	root := t.TempDir()
	for d := range 20 {
		dir := filepath.Join(root, fmt.Sprint(d))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for f := range 500 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%0100d", f)), nil, fs.FileMode(0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := walk.New(walk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var c counted
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := w.Walk(t.Context(), root, "", &c); err != nil || c.files != 10000 {
		t.Fatalf("got %d files, %v", c.files, err)
	}
	if grown := int64(c.most) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("10,000 files: the heap grew by %d bytes, want less than 1 MiB", grown)
	}
}
