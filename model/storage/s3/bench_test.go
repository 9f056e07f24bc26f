package s3_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"

	"fenc/model/storage"
)

// What the layer costs: an upload of eight parts through it, and the same parts by the
// client alone, as many at once.
func BenchmarkUpload(b *testing.B) {
	const parts, atOnce = 8, 4
	data := content(50, parts*chunk)
	b.Run("layer", func(b *testing.B) {
		s := open(b, options(b))
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			key := newKey()
			p := begin(b, s, key, len(data))
			var wait sync.WaitGroup
			for i := range atOnce {
				wait.Go(func() {
					for c := i; c < parts; c += atOnce {
						write(b, p, data, c*chunk)
					}
				})
			}
			wait.Wait()
			if err := p.Seal(b.Context(), int64(len(data)), nil); err != nil {
				b.Fatal(err)
			}
			p.Close()
			if err := s.Purge(key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("client", func(b *testing.B) {
		o := options(b)
		core, err := shared(b).Client()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
		ctx, bucket := context.Background(), o.Buckets[0].Name
		for b.Loop() {
			id, err := core.NewMultipartUpload(ctx, bucket, "object", minio.PutObjectOptions{})
			if err != nil {
				b.Fatal(err)
			}
			done := make([]minio.CompletePart, parts)
			var wait sync.WaitGroup
			for i := range atOnce {
				wait.Go(func() {
					for c := i; c < parts; c += atOnce {
						p := data[c*chunk : (c+1)*chunk]
						sum := sha256.Sum256(p)
						part, err := core.PutObjectPart(ctx, bucket, "object", id, c+1, bytes.NewReader(p), chunk,
							minio.PutObjectPartOptions{Sha256Hex: hex.EncodeToString(sum[:]), DisableContentSha256: true})
						if err != nil {
							b.Error(err)
						}
						done[c] = minio.CompletePart{PartNumber: c + 1, ETag: part.ETag}
					}
				})
			}
			wait.Wait()
			if _, err := core.CompleteMultipartUpload(ctx, bucket, "object", id, done, minio.PutObjectOptions{}); err != nil {
				b.Fatal(err)
			}
			if err := core.RemoveObject(ctx, bucket, "object", minio.RemoveObjectOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Small files in packs, and as an object each.
func BenchmarkSmall(b *testing.B) {
	const files = 256
	data := content(51, 4096)
	s := open(b, options(b))
	b.Run("pack", func(b *testing.B) {
		for b.Loop() {
			pack := storage.Small{Key: newKey()}
			for range files {
				pack.Data = append(pack.Data, data)
			}
			if err := s.PutAll(b.Context(), pack); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(files*float64(b.N)/b.Elapsed().Seconds(), "files/s")
	})
	b.Run("each", func(b *testing.B) {
		for b.Loop() {
			objects := make([]storage.Small, files)
			for i := range objects {
				objects[i] = storage.Small{Key: newKey(), Data: [][]byte{data}}
			}
			if err := s.PutAll(b.Context(), objects...); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(files*float64(b.N)/b.Elapsed().Seconds(), "files/s")
	})
}

func BenchmarkRead(b *testing.B) {
	s := open(b, options(b))
	key, data := newKey(), content(52, 64*mib)
	if _, err := upload(b, s, key, data); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, mib)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, err := s.Open(key)
		if err != nil {
			b.Fatal(err)
		}
		for off := int64(0); off < r.Size(); off += mib {
			if _, err := r.ReadAt(p, off); err != nil {
				b.Fatal(err)
			}
		}
		r.Close()
	}
}
