package serve4

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"fenc/model"
	"fenc/model/storage"
	"fenc/wire"
	"fenc/wire/v4"
)

var errNoRead = fmt.Errorf("%w: this client has no right to read", model.ErrNotAllowed)

// takeList answers 1112.
func (k *Session) takeList(m v4.List) error {
	if _, err := k.open(m.Number, reading); err != nil {
		return err
	}
	if err := k.may(model.RightRead, errNoRead); err != nil {
		k.refuse(m.Number, reasonOf(err), err)
		return nil
	}
	for _, p := range []string{m.Prefix, m.After} {
		if p == "" {
			continue
		}
		if err := wire.CheckPath(p); err != nil {
			k.refuse(m.Number, v4.ReasonBadPath, err)
			return nil
		}
	}
	if m.Limit == 0 || m.Limit > v4.MaxEntries {
		return fmt.Errorf("%w: a page of %d entries", errProtocol, m.Limit)
	}
	worked, err := k.takeWork()
	if err != nil {
		return err
	}
	giveBack, err := k.takeRoom()
	if err != nil {
		worked()
		return err
	}
	k.inBackground(m.Number, func() {
		defer worked()
		files, err := k.server.archive.Catalogue.List(k.client.ID, m.Prefix, m.After, int(m.Limit)+1)
		if err != nil {
			giveBack()
			k.refuse(m.Number, reasonOf(err), err)
			return
		}
		answer := &v4.Entries{Number: m.Number, More: len(files) > int(m.Limit)}
		for _, f := range files[:min(len(files), int(m.Limit))] {
			answer.Entries = append(answer.Entries, v4.Entry{
				Size: uint64(f.Size), ModTime: f.ModTime, Received: f.ReceivedAt.UnixNano(), Mode: uint16(f.Mode),
				Digest: v4.Digest(f.Digest), Path: f.FileName,
			})
		}
		k.answer(m.Number, &page{answer, giveBack})
	})
	return nil
}

// page is a 2113, which takes as much room as a block until it is written.
type page struct {
	entries  *v4.Entries
	giveBack func()
}

func (p *page) send(w io.Writer) error {
	defer p.giveBack()
	_, err := w.Write(v4.Append(nil, p.entries))
	return err
}

// takeFetch answers 1113.
func (k *Session) takeFetch(m v4.Fetch) error {
	r, err := k.open(m.Number, reading)
	if err != nil {
		return err
	}
	k.mu.Lock()
	r.offer.Path = m.Path
	k.mu.Unlock()
	if err := k.may(model.RightRead, errNoRead); err != nil {
		k.refuse(m.Number, reasonOf(err), err)
		return nil
	}
	file, ok, err := k.server.archive.Catalogue.File(k.client.ID, m.Path)
	switch {
	case err != nil:
		k.refuse(m.Number, reasonOf(err), err)
		return nil
	case !ok || !file.Verified:
		k.refuse(m.Number, v4.ReasonNotFound, fmt.Errorf("%q is not here", m.Path))
		return nil
	case m.Digest != (v4.Digest{}) && m.Digest != v4.Digest(file.Digest):
		k.refuse(m.Number, v4.ReasonNotFound, fmt.Errorf("another version of %q stands there now", m.Path))
		return nil
	case m.Offset > uint64(file.Size):
		return fmt.Errorf("%w: offset %d in a file of %d bytes", errProtocol, m.Offset, file.Size)
	}
	giveBack, err := k.takeWork()
	if err != nil {
		return err
	}
	k.mu.Lock()
	r.offer.Size, r.sent = uint64(file.Size), int64(m.Offset)
	k.mu.Unlock()
	k.inBackground(m.Number, func() {
		defer giveBack()
		k.fetch(m, file, r)
	})
	return nil
}

// fetch sends a file's content.
func (k *Session) fetch(m v4.Fetch, file model.File, r *request) {
	content, err := k.server.archive.OpenFile(file)
	if err != nil {
		k.cannotRead(m, file, err)
		return
	}
	defer content.Close()
	k.reply(&v4.File{Number: m.Number, Size: uint64(file.Size), ModTime: file.ModTime, Mode: uint16(file.Mode), Digest: v4.Digest(file.Digest)})
	for off := int64(m.Offset); off < file.Size; {
		frame, err := k.readData(content, m.Number, off, int(min(v4.MaxBlock, file.Size-off)))
		if err != nil {
			if k.ctx.Err() == nil {
				k.cannotRead(m, file, err)
			}
			return
		}
		select {
		case k.replies <- frame:
		case <-k.ctx.Done():
			frame.release()
			return
		}
		off += int64(frame.n)
		k.counts.Sent(frame.n)
		k.mu.Lock()
		r.sent = off
		k.mu.Unlock()
	}
	if k.settle(m.Number, func() { k.reply(&v4.DataEnd{Number: m.Number}) }) { // after its data
		k.end(errStopping)
	}
}

// cannotRead refuses what could not be read, or not to its end.
func (k *Session) cannotRead(m v4.Fetch, file model.File, err error) {
	gone := errors.Is(err, storage.ErrGone)
	if gone {
		if now, ok, err := k.server.archive.Catalogue.File(k.client.ID, m.Path); err == nil && (!ok || now.Object != file.Object) {
			k.refuse(m.Number, v4.ReasonNotFound, fmt.Errorf("another version of %q stands there now", m.Path))
			return
		}
	}
	k.log.Error("file cannot be read", "file", wire.Printable(m.Path), "error", err)
	if gone {
		if err := k.server.archive.Lost(file); err != nil {
			k.log.Error("the catalogue cannot be told that content is missing", "error", err)
		}
	}
	if gone || errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO) {
		k.refuse(m.Number, v4.ReasonDamaged, errors.New("the stored content is lost or damaged; ask the server's operator"))
		return
	}
	k.refuse(m.Number, v4.ReasonFault, errors.New("the stored content cannot be read for now"))
}

// dataFrame is a 2115 with its content in a block.
type dataFrame struct {
	head    [v4.BlockHeadSize]byte
	block   *storage.Block
	n       int
	release func()
}

func (k *Session) readData(content io.ReaderAt, number uint32, off int64, n int) (*dataFrame, error) {
	giveBack, err := k.takeRoom()
	if err != nil {
		return nil, err
	}
	f := &dataFrame{block: storage.NewBlock(), n: n}
	f.release = func() {
		storage.FreeBlock(f.block)
		giveBack()
	}
	if got, err := content.ReadAt((*f.block)[:n], off); got < n {
		f.release()
		return nil, err
	}
	v4.PutBlockHead(f.head[:], v4.CodeData, number, off, n)
	return f, nil
}

// send writes the frame and gives its block back.
func (f *dataFrame) send(w io.Writer) error {
	defer f.release()
	if _, err := w.Write(f.head[:]); err != nil {
		return err
	}
	_, err := w.Write((*f.block)[:f.n])
	return err
}
