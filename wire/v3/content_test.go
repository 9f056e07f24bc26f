package v3

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"hash/crc32"
	"testing"

	"fenc/wire/fuzztest"
)

// encrypt encrypts a whole file the short way.
func encrypt(key SessionKey, plain []byte) []byte {
	return encryptIn(key, plain, len(plain)/BlockSize*BlockSize)
}

// encryptIn encrypts plain in pieces of at most piece bytes, whole blocks.
func encryptIn(key SessionKey, plain []byte, piece int) []byte {
	e := NewEncrypter(key)
	buf := make([]byte, len(plain), len(plain)+BlockSize)
	copy(buf, plain)
	at := 0
	for piece > 0 && len(buf)-at >= piece {
		e.Blocks(buf[at : at+piece])
		at += piece
	}
	return append(buf[:at:at], e.Final(buf[at:], len(buf)-at)...)
}

// decrypt decrypts a whole file.
func decrypt(t testing.TB, key SessionKey, content []byte) []byte {
	t.Helper()
	buf := bytes.Clone(content)
	NewDecrypter(key).Blocks(buf)
	n, ok := Unpad(buf[len(buf)-BlockSize:])
	if !ok {
		t.Fatalf("wrong padding: %x", buf[len(buf)-BlockSize:])
	}
	return buf[:len(buf)-BlockSize+n]
}

func crc(p []byte) uint32 { return crc32.ChecksumIEEE(p) }

// pattern returns n bytes that repeat nowhere near.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

func TestContentAroundTheBlock(t *testing.T) {
	t.Parallel()
	key := NewSessionKey()
	for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 257, 4095, 4096, 4097, 1<<16 + 1} {
		plain := pattern(n)
		want := reference(key, plain)
		if int64(len(want)) != CipherSize(int64(n)) {
			t.Errorf("%d bytes: CipherSize says %d, want %d", n, CipherSize(int64(n)), len(want))
		}
		for _, piece := range []int{0, 16, 32, 4096} {
			if got := encryptIn(key, plain, piece); !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d: got %x, want %x", n, piece, got, want)
			}
		}
		if got := decrypt(t, key, want); !bytes.Equal(got, plain) {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
	}
}

// reference encrypts as the tables say: AES-128-CBC, IV of zeros, PKCS#7.
func reference(key SessionKey, plain []byte) []byte {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	padding := 16 - len(plain)%16
	padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, make([]byte, 16)).CryptBlocks(out, padded)
	return out
}

func TestDecryptInPieces(t *testing.T) {
	t.Parallel()
	const n = 5*decryptStride + 1000
	key, plain := NewSessionKey(), pattern(n)
	for _, piece := range []int{16, 48, decryptStride - 16, decryptStride, decryptStride + 16, 3*decryptStride + 48, n + 16} {
		content := reference(key, plain)
		d := NewDecrypter(key)
		for at := 0; at < len(content); at += piece {
			d.Blocks(content[at:min(len(content), at+piece)])
		}
		if !bytes.Equal(content[:n], plain) {
			t.Errorf("other bytes came back in pieces of %d", piece)
		}
	}
}

func TestDecryptWholeBlocksOnly(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 15, 17, decryptStride + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes were decrypted", n)
				}
			}()
			NewDecrypter(SessionKey{}).Blocks(make([]byte, n, n+BlockSize))
		}()
	}
}

// TestFinalStaysInPlace: no buffer but the caller's.
func TestFinalStaysInPlace(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 15, 16, 31} {
		buf := make([]byte, n+BlockSize)
		got := NewEncrypter(SessionKey{}).Final(buf, n)
		if &got[0] != &buf[0] || len(got) != n/16*16+16 {
			t.Errorf("%d bytes: got %d bytes, want %d in the same place", n, len(got), n/16*16+16)
		}
	}
}

func TestMaxFileSizeFits(t *testing.T) {
	t.Parallel()
	const most = 1<<32 - 1
	if got := FileFixedSize + CipherSize(MaxFileSize); got > most {
		t.Errorf("the longest file takes a payload of %d", got)
	}
	if got := FileFixedSize + CipherSize(MaxFileSize+1); got <= most {
		t.Errorf("one byte more takes a payload of %d, which fits", got)
	}
}

func TestUnpad(t *testing.T) {
	t.Parallel()
	block := func(n int, padding ...byte) []byte { return append(bytes.Repeat([]byte{'x'}, n), padding...) }
	type test struct {
		name string
		last []byte
		n    int
		ok   bool
	}
	tests := []test{
		{"padding of 0", block(15, 0), 0, false},
		{"padding of 17", bytes.Repeat([]byte{17}, 16), 0, false},
		{"padding of 255", bytes.Repeat([]byte{255}, 16), 0, false},
		{"zeros", make([]byte, 16), 0, false},
		{"3 with a wrong first", block(13, 2, 3, 3), 0, false},
		{"3 with a wrong second", block(13, 3, 2, 3), 0, false},
		{"1 after another 1", block(14, 1, 1), 15, true},
	}
	for p := 1; p <= 16; p++ {
		good := block(16-p, bytes.Repeat([]byte{byte(p)}, p)...)
		tests = append(tests, test{fmt.Sprintf("%d right", p), good, 16 - p, true})
		for i := 16 - p; i < 15; i++ {
			bad := bytes.Clone(good)
			bad[i] ^= 0x80
			tests = append(tests, test{fmt.Sprintf("%d with byte %d wrong", p, i), bad, 0, false})
		}
	}
	for _, test := range tests {
		if n, ok := Unpad(test.last); n != test.n || ok != test.ok {
			t.Errorf("%s: got %d, %t, want %d, %t", test.name, n, ok, test.n, test.ok)
		}
	}
}

func TestImpossibleNeverMatches(t *testing.T) {
	t.Parallel()
	seen := map[uint32]bool{}
	for i := range 1000 {
		plain := pattern(i*16 + 16)
		head, last := plain[:i*16], plain[i*16:]
		got := Impossible(crc(head), last)
		for n := range 17 {
			if got == crc(plain[:i*16+n]) {
				t.Fatalf("%d bytes: %08x is the checksum of the first %d", len(plain), got, i*16+n)
			}
		}
		seen[got] = true
	}
	if len(seen) < 990 {
		t.Errorf("%d checksums in 1000 tries, want all different", len(seen))
	}
}

func FuzzUnpad(tf *testing.F) {
	f := fuzztest.New(tf)
	f.Add(bytes.Repeat([]byte{16}, 16))
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, last []byte) {
		if len(last) != BlockSize {
			return
		}
		padding := int(last[15])
		want := padding >= 1 && padding <= 16 && bytes.Count(last[16-padding:], last[15:]) == padding
		n, ok := Unpad(last)
		if ok != want || ok && n != 16-padding || !ok && n != 0 {
			t.Errorf("%x: got %d, %t, want %t", last, n, ok, want)
		}
	})
}

const benchmarkPiece = 256 << 10

func BenchmarkEncrypt(b *testing.B) {
	e, buf := NewEncrypter(NewSessionKey()), make([]byte, benchmarkPiece)
	b.SetBytes(benchmarkPiece)
	b.ReportAllocs()
	for b.Loop() {
		e.Blocks(buf)
	}
}

func BenchmarkDecrypt(b *testing.B) {
	d, buf := NewDecrypter(NewSessionKey()), make([]byte, benchmarkPiece)
	b.SetBytes(benchmarkPiece)
	b.ReportAllocs()
	for b.Loop() {
		d.Blocks(buf)
	}
}

func BenchmarkChecksum(b *testing.B) {
	buf := make([]byte, benchmarkPiece)
	b.SetBytes(benchmarkPiece)
	b.ReportAllocs()
	var sum uint32
	for b.Loop() {
		sum = crc32.Update(sum, crc32.IEEETable, buf)
	}
}
