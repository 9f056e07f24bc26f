package serve4

import (
	"context"
	"sync"

	"fenc/model/storage"
	"fenc/modes/archive"
)

// pipeline takes blocks that were read through hashing and writing, each a stage
// of its own, so that the network, the processor and the disk keep each other
// busy. Blocks leave it in the order they came.
type pipeline struct {
	start  sync.Once
	hashes chan step
	writes chan step
	ended  sync.WaitGroup
	closed bool
}

// step is one block on its way, or a barrier.
type step struct {
	upload  *archive.Upload
	block   *storage.Block
	n       int
	off     int64
	release func()
	barrier func() // called when every block before it is written
}

// stageLength is how many blocks wait before a stage.
const stageLength = 2

// put hands on a step; the pipeline owns its block from here.
func (p *pipeline) put(ctx context.Context, s step) error {
	p.start.Do(func() {
		p.hashes, p.writes = make(chan step, stageLength), make(chan step, stageLength)
		p.ended.Go(func() {
			defer close(p.writes)
			for s := range p.hashes {
				if s.upload != nil {
					s.upload.Hash((*s.block)[:s.n], s.off)
				}
				p.writes <- s
			}
		})
		p.ended.Go(func() {
			for s := range p.writes {
				if s.barrier != nil {
					s.barrier()
					continue
				}
				s.upload.Write(s.block, s.n, s.off)
				s.release()
			}
		})
	})
	select {
	case p.hashes <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close lets what is under way come to its end. Nothing may be put any more.
func (p *pipeline) close() {
	p.start.Do(func() {}) // none was put
	if p.hashes != nil && !p.closed {
		p.closed = true
		close(p.hashes)
	}
	p.ended.Wait()
}
