package get4_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"fenc/modes/get4"
	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire/v4"
)

// honest answers truthfully, but for what lie answers; one request after the other.
func honest(content map[string]string, lie func(message any) []any) func(*told, any) {
	var turn sync.Mutex
	return func(k *told, message any) {
		turn.Lock()
		defer turn.Unlock()
		if answers := lie(message); answers != nil {
			k.say(answers...)
			return
		}
		switch m := message.(type) {
		case *v4.List:
			k.say(listed(content, m))
		case *v4.Fetch:
			k.say(fetched(content, m)...)
		}
	}
}

// A server that lies about one file is not believed, and the others are got.
func TestLiesAboutContent(t *testing.T) {
	t.Parallel()
	text := pattern(3 << 20)
	file := func(m *v4.Fetch, change func(*v4.File)) *v4.File {
		f := &v4.File{Number: m.Number, Size: uint64(len(text)), Mode: 0o644, Digest: digest(text)}
		if change != nil {
			change(f)
		}
		return f
	}
	data := func(m *v4.Fetch, off, n int) *v4.Data {
		return &v4.Data{Number: m.Number, Offset: uint64(off), Data: make([]byte, n)}
	}
	for outcome, test := range map[string]struct {
		lie   func(m *v4.Fetch) []any
		words string
	}{
		"another size": {func(m *v4.Fetch) []any {
			return []any{file(m, func(f *v4.File) { f.Size++ })}
		}, "another file than was asked for, 3145729 bytes"},
		"another digest": {func(m *v4.Fetch) []any {
			return []any{file(m, func(f *v4.File) { f.Digest[0]++ })}
		}, "another file than was asked for"},
		"no digest": {func(m *v4.Fetch) []any {
			return []any{file(m, func(f *v4.File) { f.Digest = v4.Digest{} })}
		}, "another file than was asked for"},
		"twice": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), file(m, nil)}
		}, "another file than was asked for"},
		"content before the file": {func(m *v4.Fetch) []any {
			return []any{data(m, 0, 10)}
		}, "10 bytes at 0"},
		"a gap": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), data(m, 0, 1000), data(m, 1001, 10)}
		}, "10 bytes at 1001 of a file of 3145728, of which 1000 are here"},
		"content again": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), data(m, 0, 1000), data(m, 999, 10)}
		}, "10 bytes at 999"},
		"an offset beyond all": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), &v4.Data{Number: m.Number, Offset: 1<<64 - 1, Data: []byte("12")}}
		}, "2 bytes at 18446744073709551615"},
		"nothing": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), data(m, 0, 0)}
		}, "0 bytes at 0"},
		"too much": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), data(m, 0, 1<<20), data(m, 1<<20, 1<<20), data(m, 2<<20, 1<<20), data(m, 3<<20, 1)}
		}, "1 bytes at 3145728"},
		"too little": {func(m *v4.Fetch) []any {
			return []any{file(m, nil), data(m, 0, 1<<20), &v4.DataEnd{Number: m.Number}}
		}, "the end after 1048576 of 3145728 bytes"},
		"the end of nothing": {func(m *v4.Fetch) []any {
			return []any{&v4.DataEnd{Number: m.Number}}
		}, "the end after 0"},
		"another answer": {func(m *v4.Fetch) []any {
			return []any{&v4.Reached{}, &v4.Attached{Number: m.Number}}
		}, "Attached answers a request for a file"},
	} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			content := map[string]string{"a": text, "b": "2"}
			_, c := serveLies(t, 64, honest(content, func(message any) []any {
				if m, ok := message.(*v4.Fetch); ok && m.Path == "a" {
					return test.lie(m)
				}
				return nil
			}))
			dir := t.TempDir()
			g := c.get(t.Context(), dir, retrying, "")
			g.wantFailed(t, "a", "broke the protocol", test.words)
			wantNone(t, dir, "a")
			if g.err != nil || g.results["b"].Err != nil || g.results["b"].Checksum == "" {
				t.Errorf("the file behind it: got %+v, %v, want it verified", g.results["b"], g.err)
			}
		})
	}
}

func TestWrongContentIsGotAgain(t *testing.T) {
	t.Parallel()
	content := map[string]string{"a": pattern(3 << 20), "b": "2"}
	fetches := 0
	lie := honest(content, func(message any) []any {
		m, ok := message.(*v4.Fetch)
		if !ok || m.Path != "a" {
			return nil
		}
		fetches++
		if m.Offset != 0 {
			t.Errorf("got on from %d with what is wrong", m.Offset)
		}
		answers := fetched(content, m)
		wrong := answers[5].(*v4.Data)
		wrong.Data = []byte(strings.Repeat("x", len(wrong.Data)))
		return answers
	})
	_, c := serveLies(t, 64, lie)
	dir := t.TempDir()
	g := c.get(t.Context(), dir, nil, "")
	if r := g.results["a"]; !errors.Is(r.Err, send.ErrChecksum) || r.Attempts != 4 || fetches != 4 {
		t.Errorf("got %+v after %d requests, want ErrChecksum after 4 attempts", r, fetches)
	}
	wantTree(t, dir, map[string]string{"b": "2"})
}

// After a breach in a long file, or where it cannot be written, what is still to
// come is not waited for.
func TestUnwantedRestEndsTheSession(t *testing.T) {
	t.Parallel()
	long := uint64(1 << 50)
	content := map[string]string{"a": "", "b": "2"}
	s, c := serveLies(t, 64, honest(content, func(message any) []any {
		switch m := message.(type) {
		case *v4.List:
			answer := listed(content, m)
			if len(answer.Entries) > 0 && answer.Entries[0].Path == "a" {
				answer.Entries[0].Size = long
			}
			return []any{answer}
		case *v4.Fetch:
			if m.Path == "a" {
				return []any{&v4.File{Number: m.Number, Size: long, Digest: digest("")}, &v4.Data{Number: m.Number, Offset: 7, Data: []byte("x")}}
			}
		}
		return nil
	}))
	dir := t.TempDir()
	g := c.get(t.Context(), dir, nil, "")
	g.wantFailed(t, "a", "1 bytes at 7")
	if g.err != nil || g.results["b"].Err != nil || s.sessions.Load() != 2 {
		t.Errorf("got %+v, %v in %d sessions, want the other file by a second one", g.results["b"], g.err, s.sessions.Load())
	}
	wantTree(t, dir, map[string]string{"b": "2"})
}

func TestVersion3IsNotVerifiable(t *testing.T) {
	t.Parallel()
	_, c := serveLies(t, 64, honest(nil, func(message any) []any {
		if m, ok := message.(*v4.List); ok {
			return []any{&v4.Entries{Number: m.Number, Entries: []v4.Entry{{Size: 3, Mode: 0o644, Path: "old"}}}}
		}
		t.Errorf("got %T, want no request for it", message)
		return nil
	}))
	dir := t.TempDir()
	c.get(t.Context(), dir, nil, "old").wantFailed(t, "old", "protocol 3")
	wantTree(t, dir, nil)
}

func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	content := map[string]string{"a": "1", "b": "2"}
	_, c := serveLies(t, 64, honest(content, func(message any) []any {
		if m, ok := message.(*v4.Fetch); ok && m.Path == "a" {
			return []any{&v4.Refused{Number: m.Number, Reason: v4.ReasonDamaged, Text: "lost\x1b[2J"}}
		}
		return nil
	}))
	dir := t.TempDir()
	g := c.get(t.Context(), dir, retrying, "")
	g.wantFailed(t, "a", "reason 33", `lost\x1b[2J`)
	wantTree(t, dir, map[string]string{"b": "2"})
}

func TestListGivesAllPages(t *testing.T) {
	t.Parallel()
	content := map[string]string{"x": "1", "tree": "2", "treetop": "3"}
	for i := range 2500 {
		content[fmt.Sprintf("tree/%04d", i)] = fmt.Sprint(i)
	}
	delete(content, "tree")
	_, c := serveLies(t, 64, honest(content, func(any) []any { return nil }))
	s := c.open(t)
	for prefix, want := range map[string]int{"": 2502, "tree": 2500, "x": 1, "none": 0} {
		last, n := "", 0
		err := get4.List(t.Context(), s, prefix, func(e v4.Entry) error {
			if e.Path <= last || e != entryOf(e.Path, content[e.Path]) {
				t.Errorf("%q: got %+v behind %q", prefix, e, last)
			}
			last = e.Path
			n++
			return nil
		})
		if err != nil || n != want {
			t.Errorf("%q: got %d entries, %v, want %d", prefix, n, err, want)
		}
	}
	enough, n := errors.New("enough"), 0
	err := get4.List(t.Context(), s, "", func(v4.Entry) error {
		if n++; n == 1500 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || n != 1500 {
		t.Errorf("got %v after %d, want the error of yield after 1500", err, n)
	}
}

func (c *client) open(t *testing.T) *session4.Session {
	t.Helper()
	s, err := session4.Open(t.Context(), c.Settings, c.me, session4.NewRun(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestLiesInLists(t *testing.T) {
	t.Parallel()
	page := func(entries ...v4.Entry) *v4.Entries { return &v4.Entries{Entries: entries} }
	named := func(names ...string) *v4.Entries {
		p := page()
		for _, name := range names {
			p.Entries = append(p.Entries, entryOf(name, "x"))
		}
		return p
	}
	goesOn := func(p *v4.Entries) *v4.Entries {
		p.More = true
		return p
	}
	for outcome, test := range map[string]struct {
		pages []*v4.Entries
		words string
	}{
		"not sorted":             {[]*v4.Entries{named("tree/b", "tree/a")}, `lists "tree/a" behind "tree/b"`},
		"twice":                  {[]*v4.Entries{named("tree/b", "tree/b")}, `lists "tree/b" behind "tree/b"`},
		"a page again":           {[]*v4.Entries{goesOn(named("tree/a", "tree/b")), named("tree/b")}, `lists "tree/b" behind "tree/b"`},
		"goes on with nothing":   {[]*v4.Entries{goesOn(page())}, "goes on with nothing"},
		"outside":                {[]*v4.Entries{named("tree/../../x")}, `"tree/../../x" has a part ".."`},
		"absolute":               {[]*v4.Entries{named("/etc/passwd")}, `"/etc/passwd" has an empty part`},
		"no name":                {[]*v4.Entries{named("")}, "0 bytes"},
		"an escape":              {[]*v4.Entries{named("tree/\x1b[2J")}, `"tree/\x1b[2J"`},
		"a neighbour":            {[]*v4.Entries{named("treetop/a")}, `"treetop/a", which is not below "tree"`},
		"another folder":         {[]*v4.Entries{named("zoo")}, `"zoo", which is not below "tree"`},
		"a size below zero":      {[]*v4.Entries{page(v4.Entry{Path: "tree/a", Size: 1 << 63})}, "9223372036854775808 bytes"},
		"a mode with setuid set": {[]*v4.Entries{page(v4.Entry{Path: "tree/a", Mode: 0o4755})}, "mode 4755"},
	} {
		t.Run(outcome, func(t *testing.T) {
			t.Parallel()
			answer := func() func(message any) []any {
				pages := test.pages
				return func(message any) []any {
					m, ok := message.(*v4.List)
					if !ok || len(pages) == 0 {
						return nil
					}
					p := *pages[0]
					p.Number = m.Number
					pages = pages[1:]
					return []any{&p}
				}
			}
			_, c := serveLies(t, 64, honest(nil, answer()))
			err := get4.List(t.Context(), c.open(t), "tree", func(v4.Entry) error { return nil })
			if !errors.Is(err, v4.ErrFrame) {
				t.Errorf("List: got %v, want ErrFrame", err)
			}
			wantWords(t, err, test.words)

			_, c = serveLies(t, 64, honest(map[string]string{"tree/a": "x", "tree/b": "x"}, answer()))
			dir := t.TempDir()
			g := c.get(t.Context(), dir, retrying, "tree")
			wantWords(t, g.err, test.words)
			for name, r := range g.results {
				if r.Err == nil && name != "tree/a" && name != "tree/b" {
					t.Errorf("got %q", name)
				}
			}
		})
	}
}
