package serve3

import (
	"hash/crc32"
	"io"

	"fenc/wire/v3"
)

// pieceSize is how much content is read and decrypted at once: little enough to
// stay in the processor's cache, much enough to make system calls cheap.
const pieceSize = 256 << 10

// content is the plaintext of a 1103's content as it arrives. Its checksum and
// whether it is damaged are known once Read has returned io.EOF.
//
// Padding that is wrong is no error of Read: it must not be told apart from a
// wrong checksum, or a listener who alters content could find out the plaintext
// from the answers (a padding oracle).
type content struct {
	r        io.Reader
	decrypt  *v3.Decrypter
	left     int64  // bytes of ciphertext still to come
	checksum uint32 // CRC-32 of the plaintext; one that matches nothing if damaged
	damaged  bool
}

func newContent(r io.Reader, key v3.SessionKey, size int64) *content {
	return &content{r: r, decrypt: v3.NewDecrypter(key), left: size}
}

// Read fills p with whole blocks of plaintext; p must hold a block at least.
func (c *content) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), c.left, pieceSize) &^ (v3.BlockSize - 1)
	if n == 0 {
		return 0, io.ErrShortBuffer
	}
	p = p[:n]
	got, err := io.ReadFull(c.r, p)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		c.left -= int64(got)
		return 0, err
	}
	c.decrypt.Blocks(p)
	c.left -= n
	if c.left > 0 {
		c.checksum = crc32.Update(c.checksum, crc32.IEEETable, p)
		return len(p), nil
	}
	last := p[n-v3.BlockSize:]
	c.checksum = crc32.Update(c.checksum, crc32.IEEETable, p[:n-v3.BlockSize])
	length, ok := v3.Unpad(last)
	if !ok {
		c.damaged, c.checksum = true, v3.Impossible(c.checksum, last)
		return 0, io.EOF
	}
	c.checksum = crc32.Update(c.checksum, crc32.IEEETable, last[:length])
	return len(p) - v3.BlockSize + length, io.EOF
}
