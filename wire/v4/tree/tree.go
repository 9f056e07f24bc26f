// Package tree is the BLAKE3 digest of a file from the hashes of its chunks
// (protocol 4, part 14). A chunk here is fenc's, a power of two from 1 MiB; its
// hash is the chaining value of BLAKE3's own tree at its place in the file, so that
// chunks may be hashed in any order and the root is what b3sum prints.
package tree

import (
	"encoding/binary"
	"math/bits"

	"lukechampine.com/blake3/guts"
)

// Hash is a chunk's hash, or the digest of a whole file.
type Hash = [32]byte

const (
	// MinChunkSize is the least size of a chunk, in bytes.
	MinChunkSize = 1 << 20
	// MaxChunks is the most chunks that a file has.
	MaxChunks = 16384
)

// ChunkSize is the smallest chunk size at which a file of size bytes has at most
// MaxChunks chunks.
func ChunkSize(size int64) int64 {
	chunkSize := int64(MinChunkSize)
	for chunks(size, chunkSize) > MaxChunks {
		chunkSize *= 2
	}
	return chunkSize
}

// Chunks is the number of chunks of a file; 0 for an empty one. chunkSize is a
// valid one.
func Chunks(size, chunkSize int64) int { return int(chunks(size, chunkSize)) }

func chunks(size, chunkSize int64) int64 {
	n := size / chunkSize
	if size%chunkSize > 0 {
		n++
	}
	return n
}

// ValidChunkSize reports whether chunkSize may be that of a file of size bytes: a
// power of two from MinChunkSize that makes at most MaxChunks chunks. For a
// negative size none is.
func ValidChunkSize(size, chunkSize int64) bool {
	return size >= 0 && chunkSize >= MinChunkSize && chunkSize&(chunkSize-1) == 0 &&
		chunks(size, chunkSize) <= MaxChunks
}

// group is what the library compresses at once: 16 of BLAKE3's own chunks.
const group = guts.MaxSIMD * guts.ChunkSize

// Hasher hashes one chunk that comes in pieces, in order. Reset begins a chunk.
type Hasher struct {
	counter uint64 // of the next group, in BLAKE3's chunks
	only    bool
	groups  uint64        // compressed so far
	stack   [48][8]uint32 // chaining values of whole subtrees, the largest first
	depth   int           // of stack
	last    [group]byte   // not compressed yet: the end of the chunk is treated differently
	n       int           // bytes in last
}

// Reset begins the chunk at offset, a multiple of its size. only says that it is
// the file's only one, whose hash is the digest itself.
func (h *Hasher) Reset(offset int64, only bool) {
	h.counter, h.only, h.groups, h.depth, h.n = uint64(offset)/guts.ChunkSize, only, 0, 0, 0
}

// Write adds p. It never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if h.n == group {
			h.compress(&h.last)
			h.n = 0
		}
		if h.n == 0 {
			for len(p) > group {
				h.compress((*[group]byte)(p))
				p = p[group:]
			}
		}
		n := copy(h.last[h.n:], p)
		h.n += n
		p = p[n:]
	}
	return written, nil
}

// compress adds a whole group, which is not the chunk's last, and joins subtrees
// of equal height.
func (h *Hasher) compress(p *[group]byte) {
	cv := guts.ChainingValue(guts.CompressBuffer(p, group, &guts.IV, h.counter, 0))
	h.counter += guts.MaxSIMD
	h.groups++
	for t := h.groups; t&1 == 0; t >>= 1 {
		h.depth--
		cv = guts.ChainingValue(guts.ParentNode(h.stack[h.depth], cv, &guts.IV, 0))
	}
	h.stack[h.depth] = cv
	h.depth++
}

// Sum returns the chunk's hash.
func (h *Hasher) Sum() Hash { return h.finish(&h.last, h.n) }

func (h *Hasher) finish(last *[group]byte, n int) Hash {
	node := guts.CompressBuffer(last, n, &guts.IV, h.counter, 0)
	for i := h.depth - 1; i >= 0; i-- {
		node = guts.ParentNode(h.stack[i], guts.ChainingValue(node), &guts.IV, 0)
	}
	return output(node, h.only)
}

// output is a node's hash, as the root of the file or as a part of it.
func output(node guts.Node, root bool) (h Hash) {
	if root {
		node.Flags |= guts.FlagRoot
	}
	words := guts.ChainingValue(node)
	for i, w := range words {
		binary.LittleEndian.PutUint32(h[4*i:], w)
	}
	return h
}

func words(h Hash) (cv [8]uint32) {
	for i := range cv {
		cv[i] = binary.LittleEndian.Uint32(h[4*i:])
	}
	return cv
}

// Sum hashes a whole chunk.
func Sum(chunk []byte, offset int64, only bool) Hash {
	var h Hasher
	h.Reset(offset, only)
	for len(chunk) > group {
		h.compress((*[group]byte)(chunk))
		chunk = chunk[group:]
	}
	if len(chunk) == group {
		return h.finish((*[group]byte)(chunk), group)
	}
	h.n = copy(h.last[:], chunk)
	return h.Sum()
}

// Root joins the hashes of all chunks of a file, in order, to its digest. Of none
// it is BLAKE3 of nothing, of one that hash itself.
func Root(hashes []Hash) Hash {
	switch len(hashes) {
	case 0:
		return Sum(nil, 0, true)
	case 1:
		return hashes[0]
	}
	return output(join(hashes), true)
}

// join is the parent node over two or more hashes: the left subtree is the
// largest power of two that leaves something for the right one.
func join(hashes []Hash) guts.Node {
	left := 1 << (bits.Len(uint(len(hashes)-1)) - 1)
	return guts.ParentNode(subtree(hashes[:left]), subtree(hashes[left:]), &guts.IV, 0)
}

func subtree(hashes []Hash) [8]uint32 {
	if len(hashes) == 1 {
		return words(hashes[0])
	}
	return guts.ChainingValue(join(hashes))
}
