package s3

import (
	"context"
	"errors"
	"io"

	"fenc/model/storage"
)

// streamChunk returns the bytes of a part of a stream of at most size bytes.
func streamChunk(size int64) int64 {
	least := max(minChunk, (size+maxChunks-1)/maxChunks)
	return (least + storage.BlockSize - 1) / storage.BlockSize * storage.BlockSize
}

// WriteStream implements storage.Partial. Parts are sent as soon as it is known that
// more follow; what fits into one waits for Seal.
func (p *partial) WriteStream(ctx context.Context, r io.Reader, limit int64) (n int64, err error) {
	p.mu.Lock()
	err = p.usable()
	if err == nil && (p.single || p.chunks != nil || p.held != nil) {
		err = errors.New("write a stream: the upload has content already")
	}
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	block := storage.NewBlock()
	defer storage.FreeBlock(block)
	var part *filling  // what is coming
	var whole *buffer  // a part that is whole; whether it is the last is not known yet
	var hashed *hashes // of whole
	defer func() {
		if part != nil {
			part.drop()
		}
		if whole != nil {
			whole.free()
		}
	}()
	for {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		got, readErr := fill(r, *block)
		if n+int64(got) > limit {
			return n, storage.ErrTooLong
		}
		n += int64(got)
		if got > 0 && whole != nil {
			if err := p.launchNext(whole, hashed); err != nil {
				return n, err
			}
			whole = nil
		}
		if got > 0 {
			if part == nil {
				buffer, err := p.room(ctx, p.each)
				if err != nil {
					return n, err
				}
				part = p.newFilling(0, p.each, buffer)
			}
			whole, err = part.write((*block)[:got], part.buffer.n)
			if err != nil {
				p.mu.Lock()
				defer p.mu.Unlock()
				return n, p.fail(err)
			}
			if whole != nil {
				hashed, part = part.hashes, nil
			}
		}
		if readErr != nil && readErr != io.EOF {
			return n, readErr
		}
		if readErr == nil {
			continue
		}
		if part != nil {
			whole, hashed, part.buffer = part.buffer, part.hashes, nil
		}
		if whole == nil {
			return n, nil // there was nothing
		}
		p.mu.Lock()
		first := len(p.chunks) == 0
		if first {
			p.held, whole = whole, nil
		}
		p.mu.Unlock()
		if first {
			return n, nil
		}
		if err := p.launchNext(whole, hashed); err != nil {
			return n, err
		}
		whole = nil
		return n, nil
	}
}

// launchNext sends the next part of a stream. It takes the buffer unless it fails.
func (p *partial) launchNext(b *buffer, h *hashes) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usable(); err != nil {
		return err
	}
	p.chunks = append(p.chunks, chunk{})
	p.launch(len(p.chunks)-1, 0, b, h)
	return nil
}

// fill reads until p is full or r gives an error, which it returns as it is.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = r.Read(p[n:])
		n += got
	}
	return n, err
}
