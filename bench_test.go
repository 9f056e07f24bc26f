package main

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkUpload sends 1 GiB through the whole of client and server, fsync and
// all, and in the same run measures what AES-128-CBC encryption of as much does
// alone: of_aes is the upload's speed as a share of that.
func BenchmarkUpload(b *testing.B) {
	const size = 1 << 30
	d := serve(b, b.TempDir())
	dir, settings := client(b, d.addr, "bench")
	path := filepath.Join(dir, "big")
	if err := os.WriteFile(path, benchContent(size), 0o600); err != nil {
		b.Fatal(err)
	}
	fenc(b.Context(), nil, "send", "--config", settings, path).want(b, 0)
	b.SetBytes(size)
	b.ResetTimer()
	var encrypting time.Duration
	for range b.N {
		b.StopTimer()
		encrypting += timeToEncrypt(size)
		b.StartTimer()
		fenc(b.Context(), nil, "send", "--config", settings, path).want(b, 0)
	}
	b.ReportMetric(encrypting.Seconds()/b.Elapsed().Seconds(), "of_aes")
	b.ReportMetric(float64(b.N)*size/1e6/encrypting.Seconds(), "aes_MB/s")
}

// benchContent is n bytes that no file system takes for a hole.
func benchContent(n int) []byte {
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(i*7 + i>>8*13)
	}
	return content
}

// timeToEncrypt encrypts n bytes, in pieces that stay in the cache.
func timeToEncrypt(n int) time.Duration {
	var key, iv [aes.BlockSize]byte
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	mode, piece := cipher.NewCBCEncrypter(block, iv[:]), make([]byte, 512<<10)
	begun := time.Now()
	for range n / len(piece) {
		mode.CryptBlocks(piece, piece)
	}
	return time.Since(begun)
}

// BenchmarkUploadSmall sends 256 files of 4 KiB on one connection; each is
// durable and catalogued before the next.
func BenchmarkUploadSmall(b *testing.B) {
	const files, size = 256, 4 << 10
	d := serve(b, b.TempDir())
	dir, settings := client(b, d.addr, "bench")
	args := []string{"send", "--config", settings}
	for i := range files {
		path := filepath.Join(dir, fmt.Sprintf("small-%03d", i))
		if err := os.WriteFile(path, benchContent(size), 0o600); err != nil {
			b.Fatal(err)
		}
		args = append(args, path)
	}
	b.SetBytes(files * size)
	b.ResetTimer()
	for range b.N {
		fenc(b.Context(), nil, args...).want(b, 0)
	}
	b.ReportMetric(float64(b.N*files)/b.Elapsed().Seconds(), "files/s")
}
