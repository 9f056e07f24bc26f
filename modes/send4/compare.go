package send4

import (
	"context"
	"fmt"
	"slices"

	"fenc/modes/send"
	"fenc/wire/v4"
	"fenc/wire/v4/tree"
)

func (u *upload) compareWith(m *v4.Earlier) error {
	if m.Size > 1<<62 || !tree.ValidChunkSize(int64(m.Size), int64(m.ChunkSize)) || tree.Chunks(int64(m.Size), int64(m.ChunkSize)) != len(m.Hashes) {
		return fmt.Errorf("%w: %d hashes of chunks of %d bytes for a file of %d", v4.ErrFrame, len(m.Hashes), m.ChunkSize, m.Size)
	}
	u.chunkSize = int64(m.ChunkSize)
	for _, h := range m.Hashes {
		u.earlier = append(u.earlier, tree.Hash(h))
	}
	return nil
}

// known is the hash that the server has for chunk i, if it told one.
func (u *upload) known(i int) bool {
	_, held := u.held[i]
	return held || i < len(u.earlier)
}

// replaceStale sends the chunks of which the server holds something else: the file
// has changed since. The server must have forgotten them before a block of them comes,
// over whichever connection.
func (u *upload) replaceStale() error {
	if len(u.stale) == 0 {
		return nil
	}
	again := &v4.Resend{Number: u.number}
	for _, i := range u.stale {
		again.Chunks = append(again.Chunks, uint32(i))
	}
	if err := u.s.main.Send(again); err != nil {
		return err
	}
	if err := u.s.main.Barrier(u.s.ctx); err != nil {
		return err
	}
	u.staleBytes.Store(0)
	return u.transfer(u.stale, false)
}

// spare reports whether chunk i, which was hashed, need not be sent, or not yet.
func (u *upload) spare(i int) bool {
	u.comparing.Lock()
	defer u.comparing.Unlock()
	if h, ok := u.held[i]; ok && h == u.hashes[i] {
		u.differed = true // an upload has begun: what is as before must be copied
		u.f.item.progress.Spare(u.length(i))
		return true
	}
	if _, stale := u.held[i]; stale {
		u.stale, u.differed = append(u.stale, i), true
		u.staleBytes.Add(u.length(i))
		u.f.item.progress.Lose(u.length(i))
		return true
	}
	if i < len(u.earlier) && u.earlier[i] == u.hashes[i] {
		u.same = append(u.same, i)
		u.f.item.progress.Spare(u.length(i))
		return true
	}
	return false
}

// readAndCompare hashes a chunk of several blocks before any of it is sent.
func (u *upload) readAndCompare(ctx context.Context, i int, free chan *[]byte) (bool, error) {
	var h tree.Hasher
	start := int64(i) * u.chunkSize
	h.Reset(start, len(u.hashes) == 1)
	for off, end := start, start+u.length(i); off < end; {
		p, err := u.readBlock(ctx, i, off, int(min(v4.MaxBlock, end-off)), free)
		if err != nil {
			return false, err
		}
		u.s.engine.settings.Waits.Enter(send.Hashing)
		h.Write((*p.buf)[v4.BlockHeadSize : v4.BlockHeadSize+p.n])
		u.s.engine.settings.Waits.Leave(send.Hashing)
		free <- p.buf
		off += int64(p.n)
	}
	u.hashes[i] = h.Sum()
	return u.spare(i), nil
}

// copySome tells the server of equal chunks, once enough of them wait.
func (u *upload) copySome() error {
	u.comparing.Lock()
	enough := u.differed && len(u.same) >= copyAtOnce
	u.comparing.Unlock()
	if !enough {
		return nil
	}
	return u.copy()
}

// copy has the server take equal chunks from the version before.
func (u *upload) copy() error {
	u.comparing.Lock()
	same := u.same
	u.same = nil
	u.comparing.Unlock()
	for part := range slices.Chunk(same, copyAtOnce) {
		m := &v4.Copy{Number: u.number}
		for _, i := range part {
			m.Chunks = append(m.Chunks, uint32(i))
		}
		if err := u.s.main.Send(m); err != nil {
			return err
		}
	}
	return nil
}
