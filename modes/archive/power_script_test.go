package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lukechampine.com/blake3"

	"fenc/model"
	"fenc/model/storage"
	"fenc/model/storage/storagetest"
	"fenc/wire/v4/tree"
)

// script is a list of steps that one seed makes, and what came of it.
type script struct {
	machine // as it was before
	disk    *storagetest.Disk
	wal     []byte // all of it
	began   int    // changes before there was a database
	noted   moment // when the list of clients was in the storage

	promises []promise
	holdings []holding
	run      *running
	random   *rand.Rand
}

// record runs a script on a machine.
func record(m machine, dir string, seed uint64, steps int, skip func(string) bool) (*script, error) {
	s := &script{machine: m, disk: m.disk, noted: never, random: rand.New(rand.NewPCG(seed, 0))}
	db := filepath.Join(dir, "fenc.db")
	s.disk.Meanwhile = func() int64 {
		info, err := os.Stat(db + "-wal")
		if err != nil {
			return 0
		}
		return info.Size()
	}
	s.disk.Skip = skip
	// The changes of the start are cut as well: of a database there is by then what
	// was there before, for the start writes little and a later state of it.
	var err error
	if s.run, err = m.start(dir); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	defer func() {
		s.disk.Meanwhile, s.disk.Skip = nil, nil
		s.run.Close()
	}()
	if m.db == nil {
		// The first state with a database is the first that is looked at.
		if s.machine.db, err = os.ReadFile(db); err != nil {
			return nil, err
		}
		s.began = s.disk.Changes()
	}
	s.promises = slices.Clone(m.files)
	files, err := s.run.Catalogue.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		content, err := s.run.content(f.File)
		if err != nil {
			return nil, err
		}
		s.promises = append(s.promises, promise{f.File.FileName, content, moment{}, s.now()})
	}
	if err := s.run.sweep(); err != nil {
		return nil, err
	}
	for range steps {
		if err := s.step(); err != nil {
			return nil, err
		}
	}
	if err := s.run.finish(); err != nil {
		return nil, err
	}
	if s.wal, err = os.ReadFile(db + "-wal"); err == nil && !bytes.HasPrefix(s.wal, m.wal) {
		err = errors.New("script too long: SQLite began its WAL anew")
	}
	return s, err
}

// content reads a file as a client that gets it does.
func (r *running) content(f model.File) ([]byte, error) {
	c, err := r.OpenFile(f)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(io.NewSectionReader(c, 0, f.Size))
}

// bytes makes content that comes once.
func (s *script) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(s.random.Uint32())
	}
	return p
}

func (s *script) name() string { return []string{"a", "b", "d/e", "d/f"}[s.random.IntN(4)] }

func (s *script) now() moment { return moment{s.disk.Changes(), s.disk.Meanwhile()} }

// offered notes that content may be the file from now on; the function it returns,
// that it must be.
func (s *script) offered(name string, content []byte) (kept func()) {
	i := len(s.promises)
	s.promises = append(s.promises, promise{name, content, s.now(), never})
	return func() { s.promises[i].kept = s.now() }
}

// step takes one step by chance.
func (s *script) step() error {
	switch s.random.IntN(8) {
	case 0, 1:
		return s.version3(s.name(), s.bytes(1+s.random.IntN(5000)))
	case 2:
		return s.group(1 + s.random.IntN(4))
	case 3:
		return s.group(packFrom + s.random.IntN(4))
	case 4, 5:
		return s.blocks(s.name())
	case 6:
		return s.leave()
	default:
		err := errors.Join(s.run.retain(context.Background()), s.run.markSettled(), s.run.noteRoster())
		if s.noted == never {
			s.noted = s.now()
		}
		return err
	}
}

// version3 sends a file whole.
func (s *script) version3(name string, content []byte) error {
	in, err := s.run.Receive(context.Background(), model.Upload{ClientID: s.run.client.ID, FileName: name, Path: name, Size: int64(len(content) + 15), Protocol: 3})
	if err != nil {
		return err
	}
	n, err := in.Write(context.Background(), bytes.NewReader(content))
	if err != nil {
		return err
	}
	kept := s.offered(name, content)
	if _, err := in.Keep(context.Background(), n, crc32.ChecksumIEEE(content)); err != nil {
		return err
	}
	kept()
	return nil
}

// leave begins a file of protocol 3 and discards it, or leaves it.
func (s *script) leave() error {
	in, err := s.run.Receive(context.Background(), model.Upload{ClientID: s.run.client.ID, FileName: "left", Path: "left", Size: 100, Protocol: 3})
	if err != nil {
		return err
	}
	if _, err := in.Write(context.Background(), strings.NewReader("left where it is")); err != nil {
		return err
	}
	if s.random.IntN(2) == 0 {
		return in.Discard()
	}
	return in.part.Close()
}

// group sends n small files together.
func (s *script) group(n int) error {
	var group []SmallFile
	var failed error
	for i := range n {
		name := fmt.Sprintf("g/%d/%d", s.random.IntN(2), i)
		content := s.bytes(s.random.IntN(300))
		kept := s.offered(name, content)
		group = append(group, SmallFile{
			Client: s.run.client.ID, Path: name, Digest: blake3.Sum256(content), Data: content,
			Done: func(_ bool, err error) {
				failed = errors.Join(failed, err)
				kept()
			},
		})
	}
	s.run.keepGroup(group, model.Bounds{})
	return failed
}

// blocks sends a file of several chunks, perhaps in two parts.
func (s *script) blocks(name string) error {
	content := s.bytes(tree.MinChunkSize + 1 + s.random.IntN(5000))
	if s.random.IntN(2) == 0 {
		first := s.random.IntN(2)
		if err := s.someBlocks(name, content, first); err != nil {
			return err
		}
		s.holdings = append(s.holdings, holding{name, content, first, s.now(), never})
		if s.random.IntN(3) == 0 {
			return nil // left for the next start
		}
	}
	for i := range s.holdings {
		if h := &s.holdings[i]; h.name == name && h.over == never {
			h.over = s.now() // an upload of the same name is about to take its place
		}
	}
	kept := s.offered(name, content)
	if err := s.run.sendBlocks(name, content); err != nil {
		return err
	}
	kept()
	return nil
}

// someBlocks sends one chunk and loses its connection.
func (s *script) someBlocks(name string, content []byte, chunk int) error {
	for i := range s.holdings {
		if h := &s.holdings[i]; h.name == name && h.over == never {
			h.over = s.now()
		}
	}
	offered, err := s.run.Offer(context.Background(), s.run.row(name, content), model.Bounds{}, true, false, s, deaf{})
	if err != nil {
		return err
	}
	if _, held := offered.Held[chunk]; !held {
		err = sendChunk(offered.Upload, s, content, chunk)
	}
	offered.Upload.Detach(s)
	return err
}

func (r *running) row(name string, content []byte) model.Upload {
	return model.Upload{ClientID: r.client.ID, FileName: name, Path: name, Size: int64(len(content)), Protocol: 4}
}

// sendBlocks sends what is missing of a file, and finishes it.
func (r *running) sendBlocks(name string, content []byte) error {
	offered, err := r.Offer(context.Background(), r.row(name, content), model.Bounds{}, true, true, r, deaf{})
	if err != nil {
		return err
	}
	defer offered.Upload.Detach(r)
	for i := range offered.Upload.chunks {
		if h, held := offered.Held[i]; held && h == chunkHash(content, i) {
			continue
		} else if held {
			if err := offered.Upload.Release([]int{i}); err != nil {
				return err
			}
		}
		if err := sendChunk(offered.Upload, r, content, i); err != nil {
			return err
		}
	}
	_, err = offered.Upload.Finish(context.Background(), blake3.Sum256(content))
	return err
}

func chunkHash(content []byte, i int) tree.Hash {
	start := i * tree.MinChunkSize
	return tree.Sum(content[start:min(len(content), start+tree.MinChunkSize)], int64(start), len(content) <= tree.MinChunkSize)
}

func sendChunk(u *Upload, owner Owner, content []byte, i int) error {
	start := i * tree.MinChunkSize
	part := content[start:min(len(content), start+tree.MinChunkSize)]
	if err := u.Claim(owner, uint64(start), len(part)); err != nil {
		return err
	}
	b := storage.NewBlock()
	defer storage.FreeBlock(b)
	n := copy(*b, part)
	u.Hash((*b)[:n], int64(start))
	u.Write(b, n, int64(start))
	return nil
}

// deaf is a Watcher that does not listen.
type deaf struct{}

func (deaf) Held(int64)   {}
func (deaf) Failed(error) {}

// commits are the lengths of a WAL at which a transaction ends
// (https://sqlite.org/fileformat2.html#walformat).
func commits(wal []byte) []int64 {
	const header, frameHeader = 32, 24
	ends := []int64{0}
	if len(wal) < header {
		return ends
	}
	page := int(binary.BigEndian.Uint32(wal[8:]))
	for off := header; off+frameHeader+page <= len(wal); off += frameHeader + page {
		if binary.BigEndian.Uint32(wal[off+4:]) != 0 {
			ends = append(ends, int64(off+frameHeader+page))
		}
	}
	return ends
}
