package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// putSmall commits small files, whose digests tell contents apart.
func putSmall(t *testing.T, c *Catalogue, bounds Bounds, files ...SmallFile) []Outcome {
	t.Helper()
	ids, err := c.Reserve(len(files))
	if err != nil {
		t.Fatal(err)
	}
	for i := range files {
		files[i].Object = ids[i]
	}
	outcomes, err := c.CommitSmall(files, nil, bounds)
	if err != nil {
		t.Fatal(err)
	}
	return outcomes
}

// finish makes an open upload the file of its name.
func finish(t *testing.T, c *Catalogue, u Upload, digest Hash) {
	t.Helper()
	if err := c.Seal(u.ID, u.Size, Sums{BLAKE3: digest}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(u.ID, nil, 0); err != nil {
		t.Fatal(err)
	}
}

// A replacement counted on top of what it replaces: a client whose quota was nearly full
// could not change its files.
func TestQuotaCountsWhatReplacementsAreLonger(t *testing.T) {
	onEach(t, func(t *testing.T, fresh func(t *testing.T) string) {
		c := open(t, fresh(t), Options{})
		grace := register(t, c, "grace")
		bounds := Bounds{Bytes: 10, Files: 2}
		small := func(name string, size int64, digest byte) SmallFile {
			return SmallFile{Client: grace.ID, Name: name, Size: size, Digest: Hash{digest}}
		}
		offer := func(name string, size int64, want error, says string) Upload {
			t.Helper()
			u, err := c.Offer(Upload{ClientID: grace.ID, FileName: name, Path: name, Size: size, Protocol: 4, ChunkSize: 4}, bounds)
			if !errors.Is(err, want) || err != nil && err.Error() != says {
				t.Fatalf("offer of %s, %d bytes: got %v, want %s", name, size, err, says)
			}
			return u
		}
		discard := func(u Upload) {
			t.Helper()
			if _, err := c.Discard(u.ID); err != nil {
				t.Fatal(err)
			}
		}
		for _, o := range putSmall(t, c, bounds, small("a", 4, 1), small("b", 4, 2)) {
			if o.Err != nil {
				t.Fatal(o.Err)
			}
		}
		offer("a", 7, ErrQuota, "over the client's quota: 3 bytes more, 8 are taken of 10")
		offer("a", math.MaxInt64, ErrQuota, "over the client's quota: 9223372036854775803 bytes more, 8 are taken of 10")
		first := offer("a", 6, nil, "")
		offer("a", 6, ErrQuota, "over the client's quota: 6 bytes more, 10 are taken of 10") // what it replaces counts once
		offer("a", math.MaxInt64, ErrQuota, "over the client's quota: 9223372036854775801 bytes more, 10 are taken of 10")
		offer("c", 0, ErrManyFiles, "too many files: 2 with those under way, the most is 2")
		got := putSmall(t, c, bounds, small("a", 6, 3), small("b", 4, 3), small("c", 1, 3))
		if !errors.Is(got[0].Err, ErrQuota) || got[1].Err != nil || got[1].File.Version != 2 || !errors.Is(got[2].Err, ErrManyFiles) {
			t.Errorf("beside the upload: got %+v, want b alone replaced", got)
		}
		finish(t, c, first, Hash{4})
		again := offer("a", 6, nil, "")
		offer("b", 5, ErrQuota, "over the client's quota: 1 bytes more, 10 are taken of 10")
		discard(again)
		if _, err := c.Begin(Upload{ClientID: grace.ID, FileName: "b", Path: "b", Size: 5, Protocol: 3}, bounds); !errors.Is(err, ErrQuota) || strings.Contains(err.Error(), "begin upload") {
			t.Errorf("by protocol 3: got %v, want ErrQuota alone", err)
		}
		old, err := c.Begin(Upload{ClientID: grace.ID, FileName: "b", Path: "b", Size: 4, Protocol: 3}, bounds)
		if err != nil {
			t.Fatal(err)
		}
		discard(old)

		// Over a quota that was lowered, it may take less, and no more.
		if err := c.SetQuota("grace", 5); err != nil {
			t.Fatal(err)
		}
		offer("a", 7, ErrQuota, "over the client's quota: 1 bytes more, 10 are taken of 5")
		finish(t, c, offer("a", 5, nil, ""), Hash{5})
		if o := putSmall(t, c, bounds, small("b", 0, 6)); o[0].Err != nil {
			t.Error(o[0].Err)
		}
		offer("b", 1, ErrQuota, "over the client's quota: 1 bytes more, 5 are taken of 5")
	})
}

// Whatever becomes of what was admitted, the files keep to the bounds.
func TestAdmittedUploadsKeepToTheQuota(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fenc.db"), Options{})
	grace := register(t, c, "grace")
	bounds := Bounds{Bytes: 20, Files: 3}
	random := rand.New(rand.NewPCG(1, 0))
	var opened []Upload
	refused := 0
	for i := range 400 {
		name, size, digest := fmt.Sprint("f", random.IntN(4)), random.Int64N(12), Hash{byte(i), byte(i >> 8), 1}
		switch random.IntN(4) {
		case 0, 1:
			u, err := c.Offer(Upload{ClientID: grace.ID, FileName: name, Path: name, Size: size, Protocol: 4, ChunkSize: 4}, bounds)
			if err == nil {
				opened = append(opened, u)
			} else if refused++; !errors.Is(err, ErrQuota) && !errors.Is(err, ErrManyFiles) {
				t.Fatal(err)
			}
		case 2:
			putSmall(t, c, bounds, SmallFile{Client: grace.ID, Name: name, Size: size, Digest: digest},
				SmallFile{Client: grace.ID, Name: "f0", Size: random.Int64N(12), Digest: Hash{byte(i), byte(i >> 8), 2}})
		case 3:
			if len(opened) == 0 {
				continue
			}
			at := random.IntN(len(opened))
			u := opened[at]
			opened = append(opened[:at], opened[at+1:]...)
			if random.IntN(3) > 0 {
				finish(t, c, u, digest)
			} else if _, err := c.Discard(u.ID); err != nil {
				t.Fatal(err)
			}
		}
		clients, err := c.Clients()
		if err != nil {
			t.Fatal(err)
		}
		if use := clients[0]; use.Bytes > bounds.Bytes || use.Files > int64(bounds.Files) {
			t.Fatalf("step %d: %d files of %d bytes, want %+v at most", i, use.Files, use.Bytes, bounds)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused: the bounds were not tried")
	}
}
