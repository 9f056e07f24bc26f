package model

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"fenc/model/postgrestest"
)

// cutAt is a moment of a COMMIT at which its connection breaks.
type cutAt int

const (
	never        cutAt = iota
	beforeCommit       // the database never hears of it
	afterCommit        // it is done, and its answer lost
)

// breaker breaks the connection of one COMMIT whenever it is told to.
type breaker struct {
	mu    sync.Mutex
	armed cutAt
	cuts  int
}

// cut has the next COMMIT break its connection.
func (b *breaker) cut(at cutAt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = at
}

func (b *breaker) breaks(done bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at := map[bool]cutAt{false: beforeCommit, true: afterCommit}[done]; b.armed != at {
		return false
	}
	b.armed = never
	b.cuts++
	return true
}

func (b *breaker) done() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cuts
}

// Whatever is written is written once, whether the connection breaks before the
// database has heard of the commit or after it has done it, and is answered as if
// nothing had happened.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, at := range []cutAt{beforeCommit, afterCommit} {
		t.Run([]string{"", "before", "after"}[at], func(t *testing.T) {
			t.Parallel()
			testLostAnswers(t, at)
		})
	}
}

func testLostAnswers(t *testing.T, at cutAt) {
	line, l := postgrestest.NewLine(t), new(breaker)
	line.OnCommit(l.breaks)
	c := open(t, line.Address, Options{Destinations: []string{"webhook"}})
	var grace Client
	cuts := 0
	// write does something whose first commit breaks.
	write := func(what string, do func() error) {
		t.Helper()
		l.cut(at)
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if cuts++; l.done() != cuts {
			t.Fatalf("%s: the connection was not cut", what)
		}
	}
	write("register", func() (err error) {
		grace, err = c.Register("grace", 3)
		return err
	})
	token := Hash{7}
	write("invite", func() error {
		return c.Invite(Invite{TokenHash: token, Name: "ada", Rights: AllRights, ExpiresAt: Time{time.Now().Add(time.Hour)}})
	})
	write("admit", func() error {
		client, _, err := c.Admit(Admission{Key: PublicKey{1}, Fingerprint: Hash{1}, Token: token, Registration: RegistrationInvite})
		if err == nil && client.Name != "ada" {
			err = fmt.Errorf("got %+v", client)
		}
		return err
	})
	if clients, err := c.Clients(); err != nil || len(clients) != 2 {
		t.Errorf("clients: got %+v, %v, want two", clients, err)
	}

	// A large file, with a quota that it fits into once.
	var u Upload
	write("offer", func() (err error) {
		u, err = c.Offer(Upload{ClientID: grace.ID, FileName: "a", Path: "a", Size: 7, Protocol: 4, ChunkSize: 4}, Bounds{Bytes: 10, Files: 1, Uploads: 1})
		return err
	})
	write("token", func() error {
		kept, err := c.SetToken(u.ID, "x")
		if err == nil && kept != "x" {
			err = fmt.Errorf("kept %q", kept)
		}
		return err
	})
	write("chunks", func() error {
		return c.HoldChunks(u.ID, []Chunk{{UploadID: u.ID, Number: 0, Hash: Hash{1}}, {UploadID: u.ID, Number: 1, Hash: Hash{2}}})
	})
	var epoch int64
	write("lease", func() (err error) {
		epoch, err = c.Lease(u.ID, time.Hour)
		return err
	})
	write("seal", func() error { return c.Seal(u.ID, 7, Sums{BLAKE3: Hash{9}}, epoch) })
	var a File
	write("commit", func() (err error) {
		a, err = c.Commit(u.ID, &Tree{ChunkSize: 4, Hashes: make([]byte, 64)}, epoch)
		return err
	})
	if a.Object != u.ID || a.Version != 1 || !a.Verified {
		t.Errorf("commit: got %+v, want version 1 of %s", a, u.ID)
	}
	if _, ok, err := c.Tree(u.ID); err != nil || !ok {
		t.Errorf("its tree: %t, %v", ok, err)
	}

	// The same content again: its own object is garbage, the one that stands is not.
	again := begin(t, c, grace, "a", 7)
	if err := c.Seal(again.ID, 7, Sums{BLAKE3: Hash{9}}, 0); err != nil {
		t.Fatal(err)
	}
	write("commit of what stands there", func() error {
		f, err := c.Commit(again.ID, nil, 0)
		if err == nil && (f.Object != u.ID || f.Version != 1) {
			err = fmt.Errorf("got %+v", f)
		}
		return err
	})
	wantGarbage(t, c, again.ID)

	// Small files, one by one and in a pack.
	var ids []ID
	write("reserve", func() (err error) {
		ids, err = c.Reserve(3)
		return err
	})
	for i, pack := range []*ID{nil, &ids[2]} {
		group := []SmallFile{
			{Client: grace.ID, Name: fmt.Sprintf("small-%d", i), Size: 1, Digest: Hash{byte(10 + i)}, Object: ids[i]},
			{Client: grace.ID, Name: "a", Size: 7, Digest: Hash{9}, Object: NewID()}, // stands there
		}
		if pack != nil {
			group[0].Object = NewID()
		}
		write("small files", func() error {
			out, err := c.CommitSmall(group, pack, Bounds{Files: 4 + i}) // what there is, and these
			if err != nil {
				return err
			}
			if out[0].Err != nil || out[0].Unchanged || out[0].File.Object != group[0].Object || out[0].File.Version != 1 {
				return fmt.Errorf("new: got %+v", out[0])
			}
			if out[1].Err != nil || !out[1].Unchanged || out[1].File.Object != u.ID {
				return fmt.Errorf("unchanged: got %+v", out[1])
			}
			return nil
		})
	}
	wantGarbage(t, c, again.ID, ids[1]) // the one that was not used, and none that is
	if objects, err := c.Objects(); err != nil || len(objects) != 4 {
		t.Errorf("objects: got %d, %v, want those of 3 files and a pack", len(objects), err)
	}

	files, versions, err := c.Expired(Retention{ExpireAfter: time.Nanosecond}, 10)
	if err != nil || len(files) != 3 || len(versions) != 0 {
		t.Fatalf("expired: got %d and %d, %v, want 3 files", len(files), len(versions), err)
	}
	write("expire", func() error {
		gone, err := c.Expire(files[:1])
		if err == nil && !gone[0] {
			err = fmt.Errorf("the file is still there")
		}
		return err
	})
	write("revoke", func() error { return c.Revoke("grace") })
	if events := query[int](t, c, "SELECT COUNT(*) FROM events"); events != 4 {
		t.Errorf("%d events, want one for each file, and one for what expired", events)
	}
}

// wantGarbage checks which objects are garbage.
func wantGarbage(t *testing.T, c *Catalogue, want ...ID) {
	t.Helper()
	got, err := c.GarbageBefore(time.Now().Add(time.Hour), 100)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, ID.compare)
	slices.SortFunc(want, ID.compare)
	if !slices.Equal(got, want) {
		t.Errorf("garbage: got %v, want %v", got, want)
	}
}
