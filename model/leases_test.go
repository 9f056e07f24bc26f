package model

import (
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// begin offers an upload of protocol 4.
func begin(t *testing.T, c *Catalogue, client Client, name string, size int64) Upload {
	t.Helper()
	u, err := c.Offer(Upload{ClientID: client.ID, FileName: name, Path: name, Size: size, Protocol: 4, ChunkSize: 1 << 20}, Bounds{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// One process at a time completes an upload, and what one does whose lease has
// passed on is refused.
func TestLease(t *testing.T) {
	t.Parallel()
	clock := newClock()
	c := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{Now: clock.Now})
	u := begin(t, c, register(t, c, "grace"), "a", 5)
	sums := Sums{BLAKE3: Hash{1}}
	first, err := c.Lease(u.ID, time.Minute)
	if err != nil || first == 0 {
		t.Fatalf("lease: got %d, %v", first, err)
	}
	if _, err := c.Lease(u.ID, time.Minute); !errors.Is(err, ErrLeased) {
		t.Errorf("lease what is leased: got %v, want ErrLeased", err)
	}
	if err := c.Seal(u.ID, 5, sums, first); err != nil {
		t.Fatal(err)
	}
	if left, err := c.SealingUnleased(10); err != nil || len(left) != 0 {
		t.Errorf("unleased: got %v, %v, want none", left, err)
	}
	clock.advance(50 * time.Second)
	if err := c.Renew(u.ID, first, time.Minute); err != nil {
		t.Fatal(err)
	}
	clock.advance(50 * time.Second)
	if _, err := c.Lease(u.ID, time.Minute); !errors.Is(err, ErrLeased) {
		t.Errorf("lease what was renewed: got %v, want ErrLeased", err)
	}
	clock.advance(10 * time.Second)
	if left, err := c.SealingUnleased(10); err != nil || len(left) != 1 || left[0].ID != u.ID || left[0].Client == nil {
		t.Errorf("unleased: got %v, %v, want %s", left, err, u.ID)
	}
	second, err := c.Lease(u.ID, time.Minute)
	if err != nil || second == first {
		t.Fatalf("lease what is over: got %d, %v, want another number than %d", second, err, first)
	}
	if err := c.Renew(u.ID, first, time.Minute); !errors.Is(err, ErrNoUpload) {
		t.Errorf("renew by the first: got %v, want ErrNoUpload", err)
	}
	if err := c.Seal(u.ID, 5, sums, first); !errors.Is(err, ErrNoUpload) {
		t.Errorf("seal by the first: got %v, want ErrNoUpload", err)
	}
	if err := c.Seal(u.ID, 5, sums, second); err != nil {
		t.Errorf("seal again by the second: %v", err)
	}
	if _, err := c.Commit(u.ID, nil, first); !errors.Is(err, ErrNoUpload) {
		t.Errorf("commit by the first: got %v, want ErrNoUpload", err)
	}
	f, err := c.Commit(u.ID, nil, second)
	if err != nil || f.Object != u.ID || f.Version != 1 {
		t.Fatalf("commit by the second: got %+v, %v", f, err)
	}
	if again, err := c.Commit(u.ID, nil, second); err != nil || again.ID != f.ID || again.Version != 1 {
		t.Errorf("commit again: got %+v, %v, want the same file", again, err)
	}
	if _, err := c.Lease(u.ID, time.Minute); !errors.Is(err, ErrNoUpload) {
		t.Errorf("lease what is committed: got %v, want ErrNoUpload", err)
	}
}

func TestSetToken(t *testing.T) { onEach(t, testSetToken) }

func testSetToken(t *testing.T, fresh func(*testing.T) string) {
	c := open(t, fresh(t), Options{})
	u := begin(t, c, register(t, c, "grace"), "a", 5)
	for _, token := range []string{"first", "second", "first"} {
		if kept, err := c.SetToken(u.ID, token); err != nil || kept != "first" {
			t.Errorf("set %q: got %q, %v, want the first", token, kept, err)
		}
	}
	if _, err := c.SetToken(NewID(), "x"); !errors.Is(err, ErrNoUpload) {
		t.Errorf("token of no upload: got %v, want ErrNoUpload", err)
	}
	if err := c.HoldChunks(u.ID, []Chunk{{UploadID: u.ID, Number: 0, Hash: Hash{1}, Mark: "etag"}}); err != nil {
		t.Fatal(err)
	}
	if chunks, err := c.Chunks(u.ID); err != nil || len(chunks) != 1 || chunks[0].Mark != "etag" {
		t.Errorf("chunks: got %+v, %v, want the mark", chunks, err)
	}
}
