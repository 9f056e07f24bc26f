package archive

import (
	"bytes"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"fenc/model"
)

// receive takes an upload as far as its bytes.
func (s *site) receive(t *testing.T, name, content string) *Incoming {
	t.Helper()
	in, err := s.Receive(t.Context(), s.upload(name, len(content)+15))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(t.Context(), strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	return in
}

// seal records that the upload is verified, and no more.
func (s *site) seal(t *testing.T, in *Incoming, content string) {
	t.Helper()
	if err := s.Catalogue.Seal(in.upload.ID, int64(len(content)), model.Sums{CRC32: crc32.ChecksumIEEE([]byte(content))}, 0); err != nil {
		t.Fatal(err)
	}
}

// promote makes the upload's bytes an object.
func (s *site) promote(t *testing.T, in *Incoming, content string) {
	t.Helper()
	if err := in.part.Seal(t.Context(), int64(len(content)), nil); err != nil {
		t.Fatal(err)
	}
}

// Each crash leaves what a process leaves that ends between two steps; the name
// "a" may have an older file.
func TestStartAfterACrash(t *testing.T) {
	t.Parallel()
	const content = "the new content"
	for _, c := range []struct {
		outcome string
		crash   func(t *testing.T, s *site) *Incoming
		kept    bool // the new content is the file afterwards
	}{
		{"row without bytes forgotten", func(t *testing.T, s *site) *Incoming {
			if _, err := s.Catalogue.Begin(s.upload("a", 100), model.Bounds{}); err != nil {
				t.Fatal(err)
			}
			return nil
		}, false},
		{"unverified bytes removed", func(t *testing.T, s *site) *Incoming {
			return s.receive(t, "a", content)
		}, false},
		{"verified upload completed", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			return in
		}, true},
		{"verified object completed", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			s.promote(t, in, content)
			return in
		}, true},
		{"object with its other name completed", func(t *testing.T, s *site) *Incoming {
			// A rename that reached the disk by half: the other name was once
			// removed as a stray, and the object with it.
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			s.promote(t, in, content)
			if err := os.Link(s.object(in.upload.ID), s.part(in.upload.ID)); err != nil {
				t.Fatal(err)
			}
			return in
		}, true},
		{"damaged upload removed", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			damage(t, s.part(in.upload.ID))
			return in
		}, false},
		{"damaged object removed", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			s.promote(t, in, content)
			damage(t, s.object(in.upload.ID))
			return in
		}, false},
		{"short upload removed", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			if err := os.Truncate(s.part(in.upload.ID), 5); err != nil {
				t.Fatal(err)
			}
			return in
		}, false},
		{"short object removed", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			s.promote(t, in, content)
			if err := os.Truncate(s.object(in.upload.ID), 5); err != nil {
				t.Fatal(err)
			}
			return in
		}, false},
		{"verified upload whose bytes are gone forgotten", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			if err := os.Remove(s.part(in.upload.ID)); err != nil {
				t.Fatal(err)
			}
			return in
		}, false},
		{"committed file shown", func(t *testing.T, s *site) *Incoming {
			in := s.receive(t, "a", content)
			s.seal(t, in, content)
			s.promote(t, in, content)
			if _, err := s.Catalogue.Commit(in.upload.ID, nil, 0); err != nil {
				t.Fatal(err)
			}
			return in
		}, true},
		{"stray bytes removed", func(t *testing.T, s *site) *Incoming {
			for _, name := range []string{model.NewID().String(), "x"} {
				if err := os.WriteFile(filepath.Join(s.dir, ".fenc", "part", name), []byte("stray"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return nil
		}, false},
	} {
		for _, old := range []string{"", "the old content"} {
			name := c.outcome
			if old != "" {
				name += ", replacing"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				if old != "" {
					s.mustSend(t, "a", []byte(old))
				}
				if in := c.crash(t, s); in != nil {
					defer in.part.Close()
				}
				for range 2 { // a second start finds nothing left to do
					s.reopen(t)
					switch _, known, _ := s.Catalogue.File(s.client.ID, "a"); {
					case c.kept:
						s.wantVerified(t, "a", []byte(content))
					case old != "":
						s.wantVerified(t, "a", []byte(old))
					case known:
						t.Error("it became a file")
					}
					s.wantNoUploads(t)
					s.wantNoStrays(t)
				}
				s.mustSend(t, "a", []byte("sent again"))
				s.wantVerified(t, "a", []byte("sent again"))
			})
		}
	}
}

// damage changes one byte.
func damage(t *testing.T, name string) {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)/2] ^= 1
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileWhoseContentIsMissingIsUnverifiedLoudly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	gone := s.mustSend(t, "gone", []byte("gone"))
	short := s.mustSend(t, "short", []byte("short"))
	s.mustSend(t, "whole", []byte("whole"))
	if err := errors.Join(os.Remove(s.object(gone.Object)), os.Truncate(s.object(short.Object), 1)); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	for _, lost := range []model.File{gone, short} {
		if file, known, _ := s.Catalogue.File(s.client.ID, lost.FileName); !known || file.Verified {
			t.Errorf("%s: known %v, verified %v, want a row that is not verified", lost.FileName, known, file.Verified)
		}
		if log := s.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, lost.FilePath) {
			t.Errorf("log says %q, want an error about %s", log, lost.FilePath)
		}
	}
	s.wantVerified(t, "whole", []byte("whole"))
	s.mustSend(t, "gone", []byte("again"))
	s.wantVerified(t, "gone", []byte("again"))
}

func TestFileTakenFromTheTreeIsShownAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := s.mustSend(t, "a/b", []byte("content"))
	if err := os.RemoveAll(filepath.Join(s.dir, "grace")); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	s.wantVerified(t, "a/b", []byte("content"))
	if err := s.Close(); err != nil { // agreed: from here on it is the operator's
		t.Fatal(err)
	}
	s.Archive = nil
	if err := os.Remove(filepath.Join(s.dir, file.FilePath)); err != nil {
		t.Fatal(err)
	}
	s.open(t)
	if _, err := os.Stat(filepath.Join(s.dir, file.FilePath)); err == nil {
		t.Error("a name that was freed by hand is back")
	}
}

// A verdict whose commit failed, answered with an error, once took the name back
// at the next start from what its sender had verified since.
func TestUploadLeftBehindDoesNotReplaceALaterFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in := s.receive(t, "a", "left behind")
	s.seal(t, in, "left behind")
	s.promote(t, in, "left behind")
	s.mustSend(t, "a", []byte("verified since"))
	s.reopen(t)
	s.wantVerified(t, "a", []byte("verified since"))
	s.wantNoUploads(t)
	s.wantNoStrays(t)
}

// After a failed sync the content may stand in memory and not on the disk, so
// the next start must not take what it can read for what is kept.
func TestContentThatFailedToSyncIsNotCompleted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	failed := false
	s.fsys.Before = func(call, _ string) error {
		if failed = failed || call == "sync"; failed {
			return syscall.EIO
		}
		return nil
	}
	if _, err := s.send(t.Context(), "a", []byte("content")); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want EIO", err)
	}
	s.reopen(t)
	if _, known, _ := s.Catalogue.File(s.client.ID, "a"); known {
		t.Error("it became a file")
	}
	s.wantNoUploads(t)
	s.wantNoStrays(t)
}

// A disk that fails for good at the kth call, and a start on a mended one: what
// Keep promised is there, and what it did not is whole or absent.
func TestFaultAtAnyCall(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // three writes
	for _, old := range [][]byte{nil, []byte("the old content")} {
		name := "first upload"
		if old != nil {
			name = "replacement"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			faults := 0
			for reached := true; reached; faults++ {
				name := string(rune('A'+faults/26)) + string(rune('A'+faults%26))
				if old != nil {
					s.mustSend(t, name, old)
				}
				reached = s.sendWithFault(t, name, content, faults)
				kept := !reached
				if _, known, _ := s.Catalogue.File(s.client.ID, name); known || kept {
					if file, _, _ := s.Catalogue.File(s.client.ID, name); old != nil && file.Version == 1 && !kept {
						s.wantVerified(t, name, old)
					} else {
						s.wantVerified(t, name, content)
					}
				} else if old != nil {
					t.Errorf("fault %d: the old file is gone", faults)
				}
				s.wantNoUploads(t)
				s.wantNoStrays(t)
				if t.Failed() {
					t.Fatalf("after a fault at call %d", faults)
				}
			}
			if faults < 15 {
				t.Errorf("%d calls in a whole upload, want more: are they announced?", faults)
			}
		})
	}
}

// sendWithFault sends a file to a disk that fails from the kth call on, and
// starts anew on a sound one. It reports whether the call was reached.
func (s *site) sendWithFault(t *testing.T, name string, content []byte, k int) (reached bool) {
	t.Helper()
	calls := make(chan int, 1)
	calls <- 0
	s.fsys.Before = func(string, string) error {
		n := <-calls
		calls <- n + 1
		if n >= k {
			return syscall.EIO
		}
		return nil
	}
	_, err := s.send(t.Context(), name, content)
	reached = <-calls > k
	if got := s.fsys.OpenFiles(); got != 0 {
		t.Errorf("%d files left open, want 0", got)
	}
	s.reopen(t)
	if err == nil {
		s.wantVerified(t, name, content)
	} else if !reached {
		t.Errorf("no fault, and %v", err)
	}
	return reached
}
