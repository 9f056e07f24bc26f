package get4_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"fenc/modes/get4"
	"fenc/modes/send4"
	"fenc/wire/v4"
)

func TestFolderOfFiles(t *testing.T) {
	t.Parallel()
	c := serveReal(t)
	content := map[string]string{"one": "1", "tree/empty": "", "tree/big": pattern(10 << 20), "tree/middle": pattern(3 << 20)}
	for i := range 300 {
		content[fmt.Sprintf("tree/many/%03d", i)] = pattern(i * 11)
	}
	c.send(t, content)

	dir := filepath.Join(t.TempDir(), "new")
	c.get(t.Context(), dir, nil, "").want(t, content, false)
	wantTree(t, dir, content)

	big := filepath.Join(dir, "tree", "big")
	before, err := os.Stat(big)
	if err != nil {
		t.Fatal(err)
	}
	c.get(t.Context(), dir, nil, "one", "tree").want(t, content, true)
	after, err := os.Stat(big)
	if err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("an unchanged file is another one, or of another time: %v, %v", after, err)
	}

	t.Run("a file of a folder and nothing of its neighbours", func(t *testing.T) {
		to := t.TempDir()
		want := map[string]string{"tree/many/007": content["tree/many/007"]}
		c.get(t.Context(), to, nil, "tree/many/007").want(t, want, false)
		wantTree(t, to, want)
	})
	t.Run("paths that overlap", func(t *testing.T) {
		to := t.TempDir()
		g := c.get(t.Context(), to, nil, "tree/many", "tree/many/299", "tree/many/299", "tree/many")
		if g.err != nil || len(g.order) != 602 {
			t.Errorf("got %d results, %v, want 602", len(g.order), g.err)
		}
		for name, r := range g.results {
			if r.Err != nil {
				t.Errorf("%s: %v", name, r.Err)
			}
		}
	})
	t.Run("what is not there", func(t *testing.T) {
		to := t.TempDir()
		g := c.get(t.Context(), to, nil, "tree/man", "one")
		if g.err != nil || !errors.Is(g.results["tree/man"].Err, get4.ErrNotThere) || g.results["one"].Err != nil {
			t.Errorf("got %+v, want ErrNotThere for the first", g)
		}
		wantTree(t, to, map[string]string{"one": "1"})
	})
}

func TestTimeAndPermissions(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("has no permission bits")
	}
	c := serveReal(t)
	from, dir := t.TempDir(), t.TempDir()
	when := time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)
	modes := []os.FileMode{0o400, 0o600, 0o755, 0o666, 0o777}
	var items []send4.Item
	for _, mode := range modes {
		name := fmt.Sprintf("%04o", mode)
		path := write(t, filepath.Join(from, name), "content")
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, when, when)); err != nil {
			t.Fatal(err)
		}
		items = append(items, send4.Item{Path: path, Name: name})
	}
	c.sendItems(t, items...)
	if g := c.get(t.Context(), dir, nil, ""); g.err != nil || len(g.order) != len(modes) {
		t.Fatalf("get: %+v", g)
	}
	for _, mode := range modes {
		name := fmt.Sprintf("%04o", mode)
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode || !info.ModTime().Equal(when) {
			t.Errorf("%s: got %v, %v, %v, want %v and %v", name, info.Mode(), info.ModTime(), err, mode, when)
		}
	}
}

// A cut connection, and a later run, go on where the one before ended.
func TestGoesOn(t *testing.T) {
	t.Parallel()
	c := serveReal(t)
	content := map[string]string{"big": pattern(24 << 20)}
	c.send(t, content)
	way := c.through(t)

	t.Run("in the same run", func(t *testing.T) {
		dir := t.TempDir()
		before := way.back.Load()
		way.cut(10 << 20)
		g := c.get(t.Context(), dir, retrying, "big")
		g.want(t, content, false)
		if len(g.retries) != 1 {
			t.Errorf("retries: got %q, want one", g.retries)
		}
		// What was on its way when it was cut comes twice.
		if twice := way.back.Load() - before - 24<<20; twice > 4<<20 {
			t.Errorf("%d bytes came twice", twice)
		}
		wantTree(t, dir, content)
	})
	t.Run("in a later run", func(t *testing.T) {
		dir := t.TempDir()
		way.cut(10 << 20)
		g := c.get(t.Context(), dir, nil, "big")
		wantWords(t, g.err, "connection to", "lost")
		g.wantFailed(t, "big", "lost")
		left := partials(dir)
		if len(left) != 1 {
			t.Fatalf("partial files: got %q, want one", left)
		}
		wantNone(t, dir, "big")
		before := way.back.Load()
		c.get(t.Context(), dir, nil, "big").want(t, content, false)
		if back := way.back.Load() - before; back > 18<<20 {
			t.Errorf("%d bytes came after 10 MiB of 24", back)
		}
		wantTree(t, dir, content)
	})
	t.Run("but not with what is damaged", func(t *testing.T) {
		dir := t.TempDir()
		way.cut(10 << 20)
		c.get(t.Context(), dir, nil, "big")
		left := partials(dir)
		if len(left) != 1 {
			t.Fatalf("partial files: got %q, want one", left)
		}
		f, err := os.OpenFile(left[0], os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt([]byte("damaged"), 1<<20)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		g := c.get(t.Context(), dir, nil, "big")
		g.want(t, content, false)
		if n := g.results["big"].Attempts; n != 2 {
			t.Errorf("got in %d attempts, want 2", n)
		}
		wantTree(t, dir, content)
	})
	t.Run("nor with what is too long, or may not be written", func(t *testing.T) {
		dir := t.TempDir()
		way.cut(10 << 20)
		c.get(t.Context(), dir, nil, "big")
		for _, left := range partials(dir) {
			if err := errors.Join(os.Truncate(left, 25<<20), os.Chmod(left, 0o400)); err != nil {
				t.Fatal(err)
			}
		}
		c.get(t.Context(), dir, nil, "big").want(t, content, false)
		wantTree(t, dir, content)
	})
	t.Run("nor with another version", func(t *testing.T) {
		dir := t.TempDir()
		way.cut(10 << 20)
		c.get(t.Context(), dir, nil, "big")
		newer := map[string]string{"big": "now another"}
		c.send(t, newer)
		c.get(t.Context(), dir, nil, "big").want(t, newer, false)
		if got, err := os.ReadFile(filepath.Join(dir, "big")); err != nil || string(got) != newer["big"] {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func wantNone(t *testing.T, dir, name string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: got %v, want that it is not there", name, err)
	}
}

func TestOtherContentIsHere(t *testing.T) {
	t.Parallel()
	c := serveReal(t)
	content := map[string]string{"a/same length": "theirs", "b": "1"}
	c.send(t, content)
	dir := t.TempDir()
	mine := map[string]string{"a/same length": "mine..", "b": "longer"}
	for name, text := range mine {
		write(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
	g := c.get(t.Context(), dir, nil, "")
	for name := range mine {
		if !errors.Is(g.results[name].Err, get4.ErrOther) {
			t.Errorf("%s: got %v, want ErrOther", name, g.results[name].Err)
		}
	}
	wantTree(t, dir, mine)
	c.get(t.Context(), dir, func(s *get4.Settings) { s.Replace = true }, "").want(t, content, false)
	wantTree(t, dir, content)
}

func TestNothingIsWrittenThroughLinks(t *testing.T) {
	t.Parallel()
	c := serveReal(t)
	c.send(t, map[string]string{"tree/sub/one": "1"})
	for outcome, test := range map[string]struct {
		link, to string
		words    string
	}{
		"the folder leads outside":       {"tree", "outside", "tree is here already, and is no folder"},
		"the folder leads elsewhere":     {"tree", "here/elsewhere", "tree is here already, and is no folder"},
		"a folder below leads elsewhere": {"tree/sub", "here/elsewhere", "tree/sub is here already, and is no folder"},
		"the folder leads nowhere":       {"tree", "nowhere", "tree is here already, and is no folder"},
		"the file leads outside":         {"tree/sub/one", "outside/one", "tree/sub/one is here already, and is no file"},
		"the file leads nowhere":         {"tree/sub/one", "nowhere", "tree/sub/one is here already, and is no file"},
	} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			site := t.TempDir()
			here, outside := filepath.Join(site, "here"), filepath.Join(site, "outside")
			others := map[string]string{"one": "not the client's", "here/elsewhere/two": "nor this"}
			write(t, filepath.Join(outside, "one"), others["one"])
			write(t, filepath.Join(here, "elsewhere", "two"), others["here/elsewhere/two"])
			link := filepath.Join(here, filepath.FromSlash(test.link))
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(site, filepath.FromSlash(test.to)), link); err != nil {
				t.Skip("links need a privilege: ", err)
			}
			g := c.get(t.Context(), here, func(s *get4.Settings) { s.Replace = true }, "tree")
			g.wantFailed(t, "tree/sub/one", test.words)
			wantTree(t, outside, map[string]string{"one": others["one"]})
			wantTree(t, filepath.Join(here, "elsewhere"), map[string]string{"two": others["here/elsewhere/two"]})
			wantNone(t, site, "nowhere")
		})
	}
	t.Run("where a file is, a folder stands", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		write(t, filepath.Join(dir, "tree", "sub", "one", "mine"), "2")
		g := c.get(t.Context(), dir, func(s *get4.Settings) { s.Replace = true }, "tree")
		g.wantFailed(t, "tree/sub/one", "is here already, and is no file")
	})
	t.Run("the partial file's name is a link", func(t *testing.T) {
		t.Parallel()
		site, content := t.TempDir(), map[string]string{"one": pattern(4 << 20)}
		_, c := serveLies(t, 64, func(k *told, message any) {
			switch m := message.(type) {
			case *v4.List:
				k.say(listed(content, m))
			case *v4.Fetch:
				k.say(fetched(content, m)[:3]...)
				k.Close()
			}
		})
		dir := filepath.Join(site, "here")
		c.get(t.Context(), dir, nil, "one")
		left := partials(dir)
		if len(left) != 1 {
			t.Fatalf("partial files: got %q, want one", left)
		}
		victim := write(t, filepath.Join(site, "victim"), "v")
		if err := errors.Join(os.Remove(left[0]), os.Symlink(victim, left[0])); err != nil {
			t.Skip("links need a privilege: ", err)
		}
		c.get(t.Context(), dir, nil, "one").wantFailed(t, "one", "is in the way")
		if p, err := os.ReadFile(victim); err != nil || string(p) != "v" {
			t.Errorf("the link's target: got %q, %v", p, err)
		}
	})
}

// Small files do not wait for one another's round trips, and never are more than
// the server grants.
func TestManyAtOnceWithinTheWindow(t *testing.T) {
	t.Parallel()
	content := map[string]string{}
	for i := range 30 {
		content[fmt.Sprintf("%02d", i)] = pattern(i)
	}
	for _, window := range []uint32{1, 3, 1000} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			t.Parallel()
			together := min(int(window), 10) // so many are asked for before any is answered
			var (
				mu      sync.Mutex
				waiting []*v4.Fetch
				lists   int
			)
			s, c := serveLies(t, window, func(k *told, message any) {
				mu.Lock()
				defer mu.Unlock()
				switch m := message.(type) {
				case *v4.List:
					lists++
					k.say(listed(content, m))
				case *v4.Fetch:
					waiting = append(waiting, m)
					if len(waiting) < together {
						return
					}
					for _, m := range waiting {
						k.say(fetched(content, m)...)
					}
					waiting = nil
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c.get(ctx, t.TempDir(), nil, "").want(t, content, false)
			if most := s.most.Load(); most > int64(window) || lists != 1 {
				t.Errorf("%d requests at once and %d lists, want %d and 1 at most", most, lists, window)
			}
		})
	}
}

// Two that are the same file would write the same partial file.
func TestSameFileTwiceIsGotOnce(t *testing.T) {
	t.Parallel()
	content := map[string]string{"a": "1"}
	var (
		mu      sync.Mutex
		lists   int
		fetches int
		first   *v4.Fetch
	)
	_, c := serveLies(t, 64, func(k *told, message any) {
		mu.Lock()
		defer mu.Unlock()
		switch m := message.(type) {
		case *v4.List:
			lists++
			k.say(listed(content, m))
		case *v4.Fetch:
			fetches++
			first = m
		}
		if lists == 2 && first != nil { // the second has been found while the first is under way
			k.say(fetched(content, first)...)
			first = nil
		}
	})
	dir := t.TempDir()
	g := c.get(t.Context(), dir, nil, "a", "a")
	if r := g.results["a"]; g.err != nil || len(g.order) != 2 || r.Err != nil || !r.Unchanged || fetches != 1 {
		t.Errorf("got %+v, %d requests, want it unchanged at last after one", g, fetches)
	}
	wantTree(t, dir, content)
}

func TestCancelLeavesWhatHasCome(t *testing.T) {
	t.Parallel()
	content := map[string]string{"big": pattern(4 << 20), "other": "2"}
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	half := make(chan struct{})
	_, c := serveLies(t, 64, func(k *told, message any) {
		switch m := message.(type) {
		case *v4.List:
			k.say(listed(content, m))
		case *v4.Fetch:
			k.say(fetched(content, m)[:9]...)
			k.say(&v4.Wait{Number: m.Number})
			close(half)
		}
	})
	go func() {
		<-half
		// What was said is with the client when it answers.
		for len(partials(dir)) == 0 || sizeOf(partials(dir)[0]) < 2<<20 {
			runtime.Gosched()
		}
		cancel()
	}()
	g := c.get(ctx, dir, retrying, "big")
	if !errors.Is(g.err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", g.err)
	}
	g.wantFailed(t, "big", "canceled")
	wantNone(t, dir, "big")
	if left := partials(dir); len(left) != 1 || sizeOf(left[0]) != 2<<20 {
		t.Errorf("partial files: got %q, want one of 2 MiB", left)
	}
}

func sizeOf(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// A file that the server cannot give for now does not hold up the others.
func TestRefusedForNow(t *testing.T) {
	t.Parallel()
	content := map[string]string{"a": "1", "b": "2", "c": "3"}
	var mu sync.Mutex
	asked := map[string]int{}
	s, c := serveLies(t, 64, func(k *told, message any) {
		mu.Lock()
		defer mu.Unlock()
		switch m := message.(type) {
		case *v4.List:
			k.say(listed(content, m))
		case *v4.Fetch:
			if asked[m.Path]++; m.Path == "a" && asked["a"] < 3 {
				k.say(&v4.Refused{Number: m.Number, Reason: v4.ReasonFault, Again: true, Text: "not now"})
				return
			}
			k.say(fetched(content, m)...)
		}
	})
	dir := t.TempDir()
	g := c.get(t.Context(), dir, nil, "")
	g.wantFailed(t, "a", "not now")
	wantTree(t, dir, map[string]string{"b": "2", "c": "3"})

	dir = t.TempDir()
	g = c.get(t.Context(), dir, retrying, "")
	g.want(t, content, false)
	if g.order[2] != "a" {
		t.Errorf("got %q, want the one that was refused last", g.order)
	}
	if n := s.sessions.Load(); n != 3 {
		t.Errorf("got %d sessions, want 3", n)
	}
}
