package archive

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire/v4/tree"
)

// Offer begins an upload, or goes on with one that waits.
func (m *stateMachine) Offer(t *rapid.T) { m.offer(t, m.drawClient(t), drawName(t), drawStuff(t)) }

// offer returns the upload; nil where it is refused.
func (m *stateMachine) offer(t *rapid.T, c *owner, name string, content stuff) *way {
	row := model.Upload{ClientID: c.ID, FileName: name, Path: name, Size: int64(content.size), Protocol: 4}
	// Of those that wait under this name the newest that fits is taken up; the others make
	// room. Several wait where each was offered while the earlier ones were open.
	var resumed *way
	for _, w := range slices.Backward(slices.Clone(m.ways)) {
		if w.client == c && w.name == name && w.upload == nil {
			if resumed == nil && w.size == content.size {
				resumed = w
			} else {
				m.drop(w)
			}
		}
	}
	expected := m.room(c, name, content.size)
	if open := len(slices.DeleteFunc(slices.Clone(m.ways), func(w *way) bool { return w.client != c })); expected == nil && m.bounds.Uploads > 0 && open >= m.bounds.Uploads {
		expected = model.ErrManyUploads
	}
	if resumed != nil {
		expected = nil
	}
	got, err := m.Archive.Offer(context.Background(), row, m.bounds, true, true, m, deaf{})
	want(t, "offer", err, expected)
	if err != nil {
		return nil
	}
	have := c.files[name]
	if e := got.Earlier; (e != nil) != (have != nil && have.tree) || e != nil && e.Size != int64(have.content.size) {
		t.Fatalf("the earlier version is %+v, want that of %+v", e, have)
	}
	if resumed == nil {
		w := &way{id: got.Upload.ID(), client: c, name: name, size: content.size, upload: got.Upload, wants: content, chunks: make(map[int][]byte)}
		m.ways = append(m.ways, w)
		if len(got.Held) > 0 {
			t.Fatalf("%d chunks of a new upload are held", len(got.Held))
		}
		return w
	}
	if got.Upload.ID() != resumed.id {
		t.Fatalf("%s is gone on with, want %s", got.Upload.ID(), resumed.id)
	}
	resumed.upload, resumed.wants = got.Upload, content
	if len(got.Held) != len(resumed.chunks) {
		t.Fatalf("%d chunks are held, want %d", len(got.Held), len(resumed.chunks))
	}
	for i, part := range resumed.chunks {
		if got.Held[i] != tree.Sum(part, int64(i)<<20, content.size <= 1<<20) {
			t.Fatalf("chunk %d is held with another hash", i)
		}
	}
	return resumed
}

func chunkOf(content []byte, i int) []byte { return content[i<<20 : min((i+1)<<20, len(content))] }

// Fill brings a chunk, perhaps one that has come.
func (m *stateMachine) Fill(t *rapid.T) {
	w := m.drawOpen(t)
	if w.size == 0 {
		t.Skip("no chunks")
	}
	i := rapid.IntRange(0, tree.Chunks(int64(w.size), 1<<20)-1).Draw(t, "chunk")
	m.fill(t, w, i, rapid.IntRange(0, len(chunkOf(w.wants.bytes(), i))-1).Draw(t, "first block"))
}

// FillAll brings the chunks that are missing.
func (m *stateMachine) FillAll(t *rapid.T) {
	w := m.drawOpen(t)
	for i := range tree.Chunks(int64(w.size), 1<<20) {
		if _, came := w.chunks[i]; !came && w.size > 0 {
			m.fill(t, w, i, 0)
		}
	}
}

// Send is an upload from its offer to its finish.
func (m *stateMachine) Send(t *rapid.T) {
	c, name, content := m.drawClient(t), drawName(t), drawStuff(t)
	if w := m.offer(t, c, name, content); w != nil {
		for i := range tree.Chunks(int64(w.size), 1<<20) {
			if _, came := w.chunks[i]; !came && w.size > 0 {
				m.fill(t, w, i, 0)
			}
		}
		m.finish(t, w)
	}
}

// fill brings a chunk in one block, or in two of which the first has so many bytes.
func (m *stateMachine) fill(t *rapid.T, w *way, i, first int) {
	part := chunkOf(w.wants.bytes(), i)
	blocks := [][]byte{part}
	if first > 0 {
		blocks = [][]byte{part[:first], part[first:]}
	}
	off := i << 20
	for _, p := range blocks {
		err := w.upload.Claim(m, uint64(off), len(p))
		if _, came := w.chunks[i]; came {
			want(t, "a chunk that has come", err, ErrBlock)
			return
		}
		want(t, "claim", err, nil)
		b := storage.NewBlock()
		copy(*b, p)
		w.upload.Hash((*b)[:len(p)], int64(off))
		w.upload.Write(b, len(p), int64(off))
		storage.FreeBlock(b)
		off += len(p)
	}
	w.chunks[i] = part
}

// Hold makes durable what has come.
func (m *stateMachine) Hold(t *rapid.T) {
	want(t, "hold", m.drawOpen(t).upload.makeDurable(false), nil)
}

// Copy takes a chunk from the version that stands there.
func (m *stateMachine) Copy(t *rapid.T) {
	w := m.drawOpen(t)
	have := w.client.files[w.name]
	earlier, err := m.earlier(w.upload.row)
	want(t, "look for the earlier version", err, nil)
	i := rapid.IntRange(0, 2).Draw(t, "chunk")
	err = w.upload.Copy(context.Background(), earlier, []int{i})
	_, came := w.chunks[i]
	if earlier == nil || came || i >= tree.Chunks(int64(w.size), 1<<20) || w.size == 0 || min((i+1)<<20, w.size) > have.content.size {
		want(t, "copy what is not there", err, ErrBlock)
		return
	}
	want(t, "copy", err, nil)
	w.chunks[i] = have.content.bytes()[i<<20 : min((i+1)<<20, w.size)]
}

// Release forgets a chunk that has come and is to be sent again.
func (m *stateMachine) Release(t *rapid.T) {
	w := m.drawOpen(t)
	if len(w.chunks) == 0 {
		t.Skip("no chunks")
	}
	i := rapid.SampledFrom(slices.Sorted(maps.Keys(w.chunks))).Draw(t, "chunk")
	want(t, "release", w.upload.Release([]int{i}), nil)
	delete(w.chunks, i)
	if rapid.Bool().Draw(t, "again") {
		m.fill(t, w, i, 0)
	}
}

// Leave loses the connection.
func (m *stateMachine) Leave(t *rapid.T) { m.detach(m.drawOpen(t)) }

// GiveUp forgets an upload.
func (m *stateMachine) GiveUp(t *rapid.T) {
	w := m.drawOpen(t)
	w.upload.Discard()
	m.detach(w)
	m.drop(w)
}

// Finish says the digest.
func (m *stateMachine) Finish(t *rapid.T) { m.finish(t, m.drawOpen(t)) }

func (m *stateMachine) finish(t *rapid.T, w *way) {
	got, err := w.upload.Finish(context.Background(), w.wants.digest())
	var stored []byte
	for i := range tree.Chunks(int64(w.size), 1<<20) {
		part, came := w.chunks[i]
		if w.size > 0 && !came {
			var missing *MissingError
			if !errors.As(err, &missing) || len(missing.Chunks)+len(w.chunks) != tree.Chunks(int64(w.size), 1<<20) {
				t.Fatalf("finish with holes: %v", err)
			}
			return
		}
		stored = append(stored, part...)
	}
	if !bytes.Equal(stored, w.wants.bytes()) {
		var differs *DiffersError
		if !errors.As(err, &differs) {
			t.Fatalf("finish of other content: %v", err)
		}
		return
	}
	expected := w.client.place(w.name, canonical(w.wants))
	want(t, "finish", err, expected)
	m.detach(w)
	m.drop(w)
	if err == nil {
		version := w.client.keep(w.name, canonical(w.wants), false)
		w.client.files[w.name].tree = version && w.size > 1<<20 || w.client.files[w.name].tree
		m.wantFile(t, w.client, w.name, got)
	}
}

// canonical is the one name of content that has several.
func canonical(s stuff) stuff {
	if s.size == 0 {
		s.letter = 0
	}
	return s
}
