package check

import (
	"hash/crc32"
	"io"

	"fenc/model"
	"fenc/wire/v4/tree"
)

// claim is what content should be.
type claim struct {
	size     int64
	protocol int
	checksum uint32     // CRC-32 (IEEE); protocol 3
	digest   model.Hash // BLAKE3; protocol 4
}

func claimOf(f model.File) claim { return claim{f.Size, f.Protocol, f.Checksum, f.Digest} }

func claimOfLabel(l model.Label) claim { return claim{l.Size, l.Protocol, l.Checksum, l.Digest} }

// Proves reads a file's content and reports whether it is what the catalogue says.
func Proves(f model.File, content io.Reader) (bool, error) { return claimOf(f).proved(content) }

// proved reads the content and reports whether it is what the claim says.
func (c claim) proved(content io.Reader) (bool, error) {
	if c.digest.IsZero() {
		sum := crc32.NewIEEE()
		n, err := io.Copy(sum, content)
		return n == c.size && sum.Sum32() == c.checksum, err
	}
	chunk := tree.ChunkSize(c.size)
	hashes := make([]tree.Hash, tree.Chunks(c.size, chunk))
	buffer := make([]byte, 1<<20)
	for i := range hashes {
		var h tree.Hasher
		start := int64(i) * chunk
		h.Reset(start, len(hashes) == 1)
		if _, err := io.CopyBuffer(&h, io.LimitReader(content, min(chunk, c.size-start)), buffer); err != nil {
			return false, err
		}
		hashes[i] = h.Sum()
	}
	return model.Hash(tree.Root(hashes)) == c.digest, nil
}
