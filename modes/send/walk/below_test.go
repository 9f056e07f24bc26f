package walk_test

import (
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"fenc/modes/send/walk"
)

// WalkBelow finds a file exactly where Walk of the whole root does.
func TestWalkBelowAgreesWithWalk(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("links of other systems")
	}
	paths := []string{"a", "a.o", "d/b", "d/b.o", "d/tmp/x", "d/e/f/g", "l->a", "d/up->..", "d/m->../x", "x/y", "kept/k/z"}
	for name, o := range map[string]walk.Options{
		"everything":     {},
		"links followed": {FollowLinks: true},
		"left out":       {Exclude: []string{"*.o", "tmp/", "/x", "f/"}},
		"left out, linked": {
			FollowLinks: true, Exclude: []string{"m/"}},
		"pruned": {Prune: func(path string) bool { return strings.HasSuffix(path, "/kept") || strings.HasSuffix(path, "/d/b") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, paths...)
			w, err := walk.New(o)
			if err != nil {
				t.Fatal(err)
			}
			all := &visits{t: t, root: root}
			if err := w.WalkBelow(t.Context(), root, "top", "", all); err != nil {
				t.Fatal(err)
			}
			if len(all.seen) < 4 {
				t.Fatalf("got %q, want more", all.seen)
			}
			below := append([]string{"missing", "a/b", "d/m/y", "d/up/a", "d/missing/x"}, paths...)
			for _, p := range below {
				p, _, _ = strings.Cut(p, "->")
				one := &visits{t: t, root: root}
				if err := w.WalkBelow(t.Context(), root, "top", p, one); err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, seen := range all.seen {
					if strings.TrimPrefix(seen, "top/") == p || strings.HasPrefix(seen, "top/"+p+"/") ||
						strings.HasPrefix(seen, "- "+p+":") || strings.HasPrefix(seen, "- "+p+"/") {
						want = append(want, seen)
					}
				}
				if !slices.Equal(one.seen, want) {
					t.Errorf("%s: got %q, want %q", p, one.seen, want)
				}
			}
		})
	}
}

// folders notes the folders that a walk lists, and leaves some out.
type folders struct {
	visits
	listed []string
}

func (f *folders) Folder(path string) error {
	if filepath.Base(path) == "not" {
		return fs.SkipDir
	}
	f.listed = append(f.listed, f.short(path))
	return nil
}

func TestVisitorHearsOfFolders(t *testing.T) {
	t.Parallel()
	root := tree(t, "a/b/c", "a/not/d", "e/f", "out/g/h")
	w, err := walk.New(walk.Options{Exclude: []string{"out"}})
	if err != nil {
		t.Fatal(err)
	}
	v := &folders{visits: visits{t: t, root: root}}
	if err := w.WalkBelow(t.Context(), root, "", "", v); err != nil {
		t.Fatal(err)
	}
	if want := []string{"", "a", "a/b", "e"}; !slices.Equal(v.listed, append([]string{root}, want[1:]...)) && !slices.Equal(v.listed, want) {
		t.Errorf("folders: got %q, want %q", v.listed, want)
	}
	if want := []string{"a/b/c", "e/f"}; !slices.Equal(v.seen, want) {
		t.Errorf("files: got %q, want %q", v.seen, want)
	}
}
