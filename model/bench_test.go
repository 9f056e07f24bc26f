package model

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"fenc/model/postgrestest"
)

// What the catalogue costs on each database: groups of 256 new small files, single large
// ones from many uploads at once, and a lookup; and what a file takes there.
func BenchmarkCatalogue(b *testing.B) {
	for _, database := range []string{"sqlite", "postgres"} {
		b.Run(database, func(b *testing.B) {
			address := filepath.Join(b.TempDir(), "fenc.db")
			if database == "postgres" {
				address = postgrestest.Start(b, "fsync=on", "synchronous_commit=on").Database(b)
			}
			c, err := Open(address, Options{})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { c.Close() })
			benchmarkCatalogue(b, c)
		})
	}
}

func benchmarkCatalogue(b *testing.B, c *Catalogue) {
	const clients = 8
	of := make([]Client, clients)
	for i := range of {
		var err error
		if of[i], err = c.Register(fmt.Sprint("client-", i), 4); err != nil {
			b.Fatal(err)
		}
	}
	var number atomic.Int64
	b.Run("256 small", func(b *testing.B) {
		for b.Loop() {
			ids, err := c.Reserve(1)
			if err != nil {
				b.Fatal(err)
			}
			group := make([]SmallFile, 256)
			for i := range group {
				n := number.Add(1)
				group[i] = SmallFile{Client: of[0].ID, Name: fmt.Sprintf("folder/%d/file-%d", n/1000, n), Size: 4096, Digest: Hash{1, byte(n), byte(n >> 8)}, Object: NewID(), PackOffset: int64(i) * 4096}
			}
			if _, err := c.CommitSmall(group, &ids[0], Bounds{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "files/s")
		if bytes, rows := c.roomOfFiles(b); rows > 0 {
			b.ReportMetric(float64(bytes)/float64(rows), "B/file")
		}
	})
	b.Run("large", func(b *testing.B) {
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				n := number.Add(1)
				u, err := c.Offer(Upload{ClientID: of[n%clients].ID, FileName: fmt.Sprint("large-", n), Path: fmt.Sprint("large-", n), Size: 64 << 20, ChunkSize: 8 << 20, Protocol: 4}, Bounds{})
				if err == nil {
					chunks := make([]Chunk, 8)
					for i := range chunks {
						chunks[i] = Chunk{UploadID: u.ID, Number: int64(i), Hash: Hash{1, byte(i)}, Mark: "0123456789abcdef0123456789abcdef"}
					}
					err = c.HoldChunks(u.ID, chunks)
				}
				if err == nil {
					err = c.Seal(u.ID, u.Size, Sums{BLAKE3: Hash{1, byte(n), byte(n >> 8)}}, 0)
				}
				if err == nil {
					_, err = c.Commit(u.ID, nil, 0)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "files/s")
	})
	b.Run("lookup", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := c.File(of[0].ID, "folder/0/file-1"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// roomOfFiles is what the table of files takes with its indexes, and its rows; nothing
// where the database does not tell.
func (c *Catalogue) roomOfFiles(b *testing.B) (bytes, rows int64) {
	b.Helper()
	if c.db.Name() != "postgres" {
		return 0, 0
	}
	if err := c.db.Raw("SELECT pg_total_relation_size('files')").Scan(&bytes).Error; err != nil {
		b.Fatal(err)
	}
	if err := c.db.Model(&File{}).Count(&rows).Error; err != nil {
		b.Fatal(err)
	}
	return bytes, rows
}
