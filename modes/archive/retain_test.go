package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire/v4/tree"
)

// aged is a site whose clock tests set.
func aged(t *testing.T, retention model.Retention) (s *site, advance func(time.Duration)) {
	t.Helper()
	s = newSite(t)
	var ahead atomic.Int64
	s.options.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s.options.KeepVersions = retention.KeepVersions
	s.options.Destinations = []string{"test"}
	s.reopen(t)
	s.SetPolicy(Policy{Retention: retention})
	s.now = s.options.Now
	return s, func(d time.Duration) { ahead.Add(int64(d)) }
}

func (s *site) mustRetain(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.retain(t.Context()), s.sweep()); err != nil {
		t.Fatal(err)
	}
}

// events lists what is to be delivered, by kind and name.
func (s *site) events(t *testing.T) (list []string) {
	t.Helper()
	err := s.Catalogue.EachEvent(false, func(e model.Event) error {
		list = append(list, string(e.Kind)+" "+e.FileName)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestFilesExpire(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	s, advance := aged(t, model.Retention{ExpireAfter: 10 * day})
	old := s.mustSend(t, "2026/old/a.txt", []byte("old"))
	s.mustSend(t, "top.txt", []byte("top"))
	advance(9 * day)
	s.mustSend(t, "2026/young.txt", []byte("young"))
	s.mustRetain(t)
	s.wantVerified(t, "2026/old/a.txt", []byte("old"))
	advance(2 * day)
	s.mustRetain(t)
	for _, gone := range []string{"2026/old", "top.txt"} {
		if _, err := os.Lstat(filepath.Join(s.dir, "grace", gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s in the tree: got %v, want it gone", gone, err)
		}
	}
	s.wantVerified(t, "2026/young.txt", []byte("young"))
	if files, bytes, _ := s.Catalogue.Used(s.client.ID); files != 1 || bytes != 5 {
		t.Errorf("in use: got %d files of %d bytes, want 1 of 5: the quota is free", files, bytes)
	}
	if _, ok, _ := s.Catalogue.File(s.client.ID, "top.txt"); ok {
		t.Error("the catalogue still has top.txt")
	}
	if _, err := os.Stat(s.object(old.Object)); err != nil {
		t.Errorf("within the grace: %v, want the content there for who reads it", err)
	}
	if n := strings.Count(s.log.String(), `msg="file expired" client=grace`); n != 2 {
		t.Errorf("the log has %d lines of expired files, want 2:\n%s", n, &s.log)
	}
	advance(garbageGrace + time.Second)
	s.mustRetain(t)
	if n := len(s.objects(t)); n != 1 {
		t.Errorf("after the grace: got %d objects, want 1", n)
	}
	want := "file.verified 2026/old/a.txt,file.verified top.txt,file.verified 2026/young.txt,file.expired 2026/old/a.txt,file.expired top.txt"
	if got := strings.Join(s.events(t), ","); got != want {
		t.Errorf("events: got %s, want %s", got, want)
	}
	again := s.mustSend(t, "top.txt", []byte("again"))
	s.wantVerified(t, "top.txt", []byte("again"))
	if again.Version != 1 {
		t.Errorf("sent again: got version %d, want 1: it is another file", again.Version)
	}
}

// Wherever expiry is interrupted, the next one completes it, and the file is there
// whole until its row goes.
func TestExpiryInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	for step := 0; ; step++ {
		s, advance := aged(t, model.Retention{ExpireAfter: time.Hour})
		s.mustSend(t, "a/b/c.txt", []byte("content"))
		advance(2 * time.Hour)
		left := step
		s.fsys.Before = func(op, name string) error {
			if left--; left < 0 {
				return errors.New("the process ends here")
			}
			return nil
		}
		err := s.retain(t.Context())
		s.reopen(t)
		s.SetPolicy(Policy{Retention: model.Retention{ExpireAfter: time.Hour}})
		s.now = s.options.Now
		if f, ok, _ := s.Catalogue.File(s.client.ID, "a/b/c.txt"); ok {
			if _, err := os.Stat(s.object(f.Object)); err != nil || !f.Verified {
				t.Errorf("step %d: the catalogue has %+v, its content: %v", step, f, err)
			}
		}
		s.mustRetain(t)
		if _, err := os.Lstat(filepath.Join(s.dir, "grace", "a", "b", "c.txt")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("step %d: in the tree: got %v, want it gone", step, err)
		}
		if got := s.events(t); len(got) != 2 {
			t.Errorf("step %d: events %q, want two", step, got)
		}
		s.wantNoUploads(t)
		if err == nil {
			if step < 3 {
				t.Errorf("expiry has %d steps, want more: nothing was interrupted", step)
			}
			return
		}
	}
}

// A server that stops leaves the rest of a backlog to the next one: it once went through
// all of it first.
func TestExpiryEndsWithItsServer(t *testing.T) {
	t.Parallel()
	s, advance := aged(t, model.Retention{ExpireAfter: time.Hour})
	s.endUnpacking()
	var group []SmallFile
	for i := range filesAtOnce + 1 {
		f := small(s, strconv.Itoa(i), "content")
		f.Done = func(_ bool, err error) {
			if err != nil {
				t.Error(err)
			}
		}
		group = append(group, f)
	}
	s.keepGroup(group, model.Bounds{})
	advance(2 * time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	s.Archive.log = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		cancel() // with the first file that is gone
		return a
	}}))
	left := func() int {
		files, _, err := s.Catalogue.Used(s.client.ID)
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	if err := s.retain(ctx); err != nil || left() != 1 {
		t.Errorf("stopped in its first turn: %d files are left, %v, want 1", left(), err)
	}
	s.mustRetain(t)
	if left() != 0 {
		t.Errorf("%d files are left, want none", left())
	}
}

// A file that is replaced while it expires stays, and is shown.
func TestReplacedFileDoesNotExpire(t *testing.T) {
	t.Parallel()
	s, advance := aged(t, model.Retention{ExpireAfter: time.Hour})
	s.mustSend(t, "a", []byte("old"))
	advance(2 * time.Hour)
	expired, _, err := s.Catalogue.Expired(model.Retention{ExpireAfter: time.Hour}, 10)
	if err != nil || len(expired) != 1 {
		t.Fatalf("got %v, %v", expired, err)
	}
	s.mustSend(t, "a", []byte("new"))
	if gone, err := s.expireSome(expired); gone != 0 || err != nil {
		t.Errorf("got %d gone, %v, want none", gone, err)
	}
	s.wantVerified(t, "a", []byte("new"))
}

func TestEarlierVersions(t *testing.T) {
	t.Parallel()
	s, advance := aged(t, model.Retention{KeepVersions: 2})
	for _, content := range []string{"one", "two", "three", "four"} {
		s.mustSend(t, "a", []byte(content))
	}
	s.mustRetain(t)
	versions := func() (list []model.File) {
		f, _, _ := s.Catalogue.File(s.client.ID, "a")
		all, err := s.Catalogue.Versions([]model.File{f})
		if err != nil {
			t.Fatal(err)
		}
		return all[f.ID]
	}
	want := func(contents ...string) {
		t.Helper()
		got := versions()
		if len(got) != len(contents) {
			t.Fatalf("got %d versions, want %d", len(got), len(contents))
		}
		for i, v := range got {
			if text, err := os.ReadFile(s.object(v.Object)); err != nil || string(text) != contents[i] {
				t.Errorf("version %d: got %q, %v, want %q", v.Version, text, err, contents[i])
			}
		}
	}
	want("three", "two")
	if files, bytes, _ := s.Catalogue.Used(s.client.ID); files != 1 || bytes != 4 {
		t.Errorf("in use: got %d files of %d bytes, want 1 of 4: versions are the operator's", files, bytes)
	}
	if n := strings.Count(s.log.String(), `msg="earlier version removed"`); n != 1 {
		t.Errorf("the log has %d lines of removed versions, want 1:\n%s", n, &s.log)
	}

	// While the present content is lost, what could take its place is not removed.
	f, _, _ := s.Catalogue.File(s.client.ID, "a")
	if err := s.Catalogue.Lost(f); err != nil {
		t.Fatal(err)
	}
	s.SetPolicy(Policy{})
	s.mustRetain(t)
	want("three", "two")
	s.options.KeepVersions = 0
	s.reopen(t)
	s.mustSend(t, "a", []byte("five"))
	s.SetPolicy(Policy{})
	s.now = s.options.Now
	s.mustRetain(t)
	want()
	advance(garbageGrace + time.Second)
	s.mustRetain(t)
	if n := len(s.objects(t)); n != 1 {
		t.Errorf("after the grace: got %d objects, want 1", n)
	}
}

// Versions of small files that lie in a pack get objects of their own like the
// files themselves.
func TestEarlierVersionsInPacks(t *testing.T) {
	t.Parallel()
	s, _ := aged(t, model.Retention{KeepVersions: 1})
	s.endUnpacking()
	for _, content := range []string{"old", "new"} {
		var group []SmallFile
		for i := range packFrom {
			f := small(s, string(rune('a'+i)), content)
			f.Done = func(_ bool, err error) {
				if err != nil {
					t.Error(err)
				}
			}
			group = append(group, f)
		}
		s.keepGroup(group, model.Bounds{})
	}
	s.unpackAll(func() bool { return false })
	for i := range packFrom {
		f, _, _ := s.Catalogue.File(s.client.ID, string(rune('a'+i)))
		all, err := s.Catalogue.Versions([]model.File{f})
		if err != nil || len(all[f.ID]) != 1 || all[f.ID][0].Pack != nil || f.Pack != nil {
			t.Fatalf("%s: got %+v, %v, want one version, unpacked", f.FileName, all, err)
		}
		for object, want := range map[model.ID]string{f.Object: "new", all[f.ID][0].Object: "old"} {
			if text, err := os.ReadFile(s.object(object)); err != nil || string(text) != want {
				t.Errorf("%s: got %q, %v, want %q", f.FileName, text, err, want)
			}
		}
		if text, err := os.ReadFile(filepath.Join(s.dir, "grace", f.FileName)); err != nil || string(text) != "new" {
			t.Errorf("%s in the tree: got %q, %v, want new", f.FileName, text, err)
		}
		if has, err := s.folder.Shows(f.Object.String(), f.FilePath); !has || err != nil && !errors.Is(err, storage.ErrGone) {
			t.Errorf("%s: shown %t, %v", f.FileName, has, err)
		}
	}
	if got := s.events(t); len(got) != 2*packFrom {
		t.Errorf("got %d events, want %d", len(got), 2*packFrom)
	}
}

// endUnpacking leaves packs, from here on, to the test.
func (s *site) endUnpacking() {
	s.small.once.Do(func() { close(s.small.stop) })
	<-s.unpack.done
}

func small(s *site, name, content string) SmallFile {
	return SmallFile{Client: s.client.ID, Path: name, Digest: model.Hash(tree.Sum([]byte(content), 0, true)), Data: []byte(content)}
}

// A small file that is replaced while it is unpacked was listed twice, and what the
// second one did turned the earlier version's content to garbage.
func TestUnpackedTwiceIsNoGarbage(t *testing.T) {
	t.Parallel()
	s, _ := aged(t, model.Retention{KeepVersions: 1})
	s.endUnpacking()
	keep := func(content string) {
		var group []SmallFile
		for i := range packFrom {
			f := small(s, string(rune('a'+i)), content)
			f.Done = func(bool, error) {}
			group = append(group, f)
		}
		s.keepGroup(group, model.Bounds{})
	}
	keep("old")
	listed, err := s.Catalogue.Packed(groupFiles)
	if err != nil || len(listed) != packFrom {
		t.Fatalf("got %d packed files, %v, want %d", len(listed), err, packFrom)
	}
	keep("new")
	if err := s.unpackGroup(append(listed, listed...)); err != nil {
		t.Fatal(err)
	}
	for _, f := range listed {
		if standing, err := s.Catalogue.Standing(f.Object); err != nil || !standing.Named || !standing.Discarded.IsZero() {
			t.Errorf("%s: the earlier version's object: got %+v, %v, want it counted on and not to be removed", f.FileName, standing, err)
		}
	}
}
