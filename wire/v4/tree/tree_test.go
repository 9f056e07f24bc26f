package tree_test

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"lukechampine.com/blake3"

	"fenc/wire/fuzztest"
	"fenc/wire/v4/tree"
)

// pattern is the content of the vectors: 0 1 2 … 250 0 1 …
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// vectors reads lines of numbers with a hash at their end.
func vectors(t testing.TB, path string, each func(numbers []int64, want tree.Hash)) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		sum, err := hex.DecodeString(fields[len(fields)-1])
		if err != nil || len(sum) != 32 {
			t.Fatalf("%s: %q is no hash", path, lines.Text())
		}
		var numbers []int64
		for _, text := range fields[:len(fields)-1] {
			var n int64
			if _, err := fmt.Sscan(text, &n); err != nil {
				t.Fatal(err)
			}
			numbers = append(numbers, n)
		}
		each(numbers, tree.Hash(sum))
	}
}

// hashes hashes a file's chunks in the order that order gives, by several workers.
func hashes(content []byte, chunkSize int64, order []int, workers int) []tree.Hash {
	all := make([]tree.Hash, tree.Chunks(int64(len(content)), chunkSize))
	queue := make(chan int)
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			for i := range queue {
				start := int64(i) * chunkSize
				all[i] = tree.Sum(content[start:min(int64(len(content)), start+chunkSize)], start, len(all) == 1)
			}
		})
	}
	for _, i := range order {
		queue <- i
	}
	close(queue)
	working.Wait()
	return all
}

func TestDigestsOfOtherImplementations(t *testing.T) {
	t.Parallel()
	seen := 0
	vectors(t, "testdata/digests.txt", func(numbers []int64, want tree.Hash) {
		seen++
		content := pattern(int(numbers[0]))
		size := tree.ChunkSize(numbers[0])
		order := rand.New(rand.NewPCG(1, uint64(numbers[0]))).Perm(tree.Chunks(numbers[0], size))
		if got := tree.Root(hashes(content, size, order, 2)); got != want {
			t.Errorf("%d bytes: got %x, want %x", numbers[0], got, want)
		}
	})
	vectors(t, "testdata/chunks.txt", func(numbers []int64, want tree.Hash) {
		seen++
		if got := tree.Sum(pattern(int(numbers[1])), numbers[0], false); got != want {
			t.Errorf("%d bytes at %d: got %x, want %x", numbers[1], numbers[0], got, want)
		}
	})
	if seen < 30 {
		t.Errorf("%d vectors, want more: is testdata whole?", seen)
	}
}

// Sizes around every boundary, chunks in any order, any number of workers, content in
// pieces of any length: the root is BLAKE3's.
func TestRootIsBLAKE3(t *testing.T) {
	t.Parallel()
	const c = tree.MinChunkSize
	content := pattern(33*c + 1)
	random := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, 63, 64, 65, 1023, 1024, 1025, 16383, 16384, 16385, 16386, c - 1, c, c + 1, 2*c - 1, 2 * c, 2*c + 1, 3 * c,
		3*c + 1, 4 * c, 5*c - 1, 7*c + 1025, 8*c + 1, 15 * c, 16*c - 1, 16 * c, 17*c + 1, 31*c + 16385, 32 * c, 33*c + 1}
	for _, size := range sizes {
		want := tree.Hash(blake3.Sum256(content[:size]))
		for _, chunkSize := range []int64{c, 4 * c} {
			order := random.Perm(tree.Chunks(int64(size), chunkSize))
			all := hashes(content[:size], chunkSize, order, 1+random.IntN(4))
			if got := tree.Root(all); got != want {
				t.Errorf("%d bytes, chunks of %d: got %x, want %x", size, chunkSize, got, want)
			}
			for i, h := range all {
				var pieces tree.Hasher
				start := int64(i) * chunkSize
				pieces.Reset(start, len(all) == 1)
				for left := content[start:min(int64(size), start+chunkSize)]; len(left) > 0; {
					n := min(len(left), 1+random.IntN(300_000))
					pieces.Write(left[:n])
					left = left[n:]
				}
				if got := pieces.Sum(); got != h {
					t.Errorf("%d bytes, chunk %d of %d in pieces: got %x, want %x", size, i, chunkSize, got, h)
				}
			}
		}
	}
}

func TestChunkSizes(t *testing.T) {
	t.Parallel()
	const c, most = tree.MinChunkSize, tree.MaxChunks
	for _, v := range []struct {
		size, chunkSize int64
		chunks          int
	}{{0, c, 0}, {1, c, 1}, {c, c, 1}, {c + 1, c, 2}, {c * most, c, most}, {c*most + 1, 2 * c, most/2 + 1}, {1 << 62, 1 << 48, most}} {
		if got := tree.ChunkSize(v.size); got != v.chunkSize || tree.Chunks(v.size, got) != v.chunks || !tree.ValidChunkSize(v.size, got) {
			t.Errorf("%d bytes: got %d chunks of %d, want %d of %d", v.size, tree.Chunks(v.size, got), got, v.chunks, v.chunkSize)
		}
	}
	for _, v := range [][2]int64{{1, 0}, {1, -c}, {1, c - 1}, {1, c + 1}, {1, 3 * c}, {1, c / 2}, {c*most + 1, c}, {-1, c}, {1 << 62, 1 << 47}} {
		if tree.ValidChunkSize(v[0], v[1]) {
			t.Errorf("chunks of %d for %d bytes: want them refused", v[1], v[0])
		}
	}
}

func TestHashingAllocatesNothing(t *testing.T) {
	chunk := pattern(tree.MinChunkSize)
	var h tree.Hasher
	if n := testing.AllocsPerRun(5, func() {
		h.Reset(1<<40, false)
		h.Write(chunk)
		h.Sum()
		tree.Sum(chunk, 0, true)
	}); n > 0 {
		t.Errorf("got %.0f allocations, want none", n)
	}
}

func FuzzRoot(tf *testing.F) {
	f := fuzztest.New(tf)
	for _, size := range []uint32{0, 1, 1024, tree.MinChunkSize, tree.MinChunkSize + 1, 3*tree.MinChunkSize - 1} {
		f.Add(size, uint64(size))
	}
	f.Fuzz(func(t *testing.T, size uint32, seed uint64) {
		content := make([]byte, size%(5<<20))
		rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(content)
		chunkSize := int64(tree.MinChunkSize) << (seed % 3)
		order := rand.New(rand.NewPCG(seed, 0)).Perm(tree.Chunks(int64(len(content)), chunkSize))
		if got, want := tree.Root(hashes(content, chunkSize, order, 2)), tree.Hash(blake3.Sum256(content)); got != want {
			t.Errorf("%d bytes: got %x, want %x", len(content), got, want)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	chunk := pattern(tree.MinChunkSize)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		tree.Sum(chunk, 1<<30, false)
	}
}
