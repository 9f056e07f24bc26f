package get4

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"lukechampine.com/blake3"

	"fenc/modes/send"
	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v4"
)

// ErrOther: a local file stands in the way.
var ErrOther = errors.New("is here already with other content: --replace overwrites it")

// file makes sure that the file is here, verified. It reports whether it was.
func (g *getting) file(ctx context.Context, s *session4.Session, i *item) (unchanged bool, err error) {
	if i.Digest == (v4.Digest{}) {
		return false, errors.New("came by protocol 3, whose checksum does not prove it: get it on the server")
	}
	if _, err := filepath.Localize(i.Path); err != nil {
		return false, errors.New("cannot be a file's name on this system: get it on another one")
	}
	if isPartialName(i.Path) {
		return false, errors.New("has the name of a file that fenc get has not finished, and could be taken for one: send it under another name")
	}
	if err := g.folders(i.Path); err != nil {
		return false, err
	}
	same, err := g.compare(ctx, i)
	if err != nil || same {
		return same, err
	}
	return false, g.fetch(ctx, s, i)
}

// folders makes the folders above a file. None of them may be a link: that would
// write somewhere else than where was asked for.
func (g *getting) folders(name string) error {
	for at, r := range name {
		if r != '/' {
			continue
		}
		folder := name[:at]
		err := g.root.Mkdir(folder, 0o777)
		if err == nil {
			g.syncFolder(path.Dir(folder))
			continue
		}
		info, statErr := g.root.Lstat(folder)
		if statErr != nil {
			return fmt.Errorf("make the folder %s: %w", wire.Printable(folder), g.notWritten(err))
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is here already, and is no folder: move it away", wire.Printable(folder))
		}
	}
	return nil
}

// compare reports whether the file is here with the same content. Another one is an
// error unless it may be replaced.
func (g *getting) compare(ctx context.Context, i *item) (same bool, err error) {
	info, err := g.root.Lstat(i.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at what is here: %w", plain(err))
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is here already, and is no file: move it away", wire.Printable(i.Path))
	case info.Size() == int64(i.Size):
		f, err := g.root.Open(i.Path)
		if err != nil {
			return false, fmt.Errorf("read what is here: %w", plain(err))
		}
		defer f.Close()
		sum := blake3.New(len(i.Digest), nil)
		if _, err := g.hash(ctx, sum, f); err != nil {
			return false, fmt.Errorf("read what is here: %w", plain(err))
		}
		if v4.Digest(sum.Sum(nil)) == i.Digest {
			return true, nil
		}
	}
	if !g.settings.Replace {
		return false, ErrOther
	}
	return false, nil
}

// partialName is what a file's content is written to until it is verified: in the
// same folder, and another one for each content, so that what is gone on with is
// never of another. It has 44 bytes, whatever the file's name.
func partialName(i *item) string {
	sum := blake3.Sum256([]byte(i.Path))
	return path.Join(path.Dir(i.Path), fmt.Sprintf(".fenc-%x-%x.part", sum[:8], i.Digest[:8]))
}

// isPartialName reports whether a file could be taken for one of partialName's, in
// some spelling that is the same name here.
func isPartialName(name string) bool {
	base := strings.ToLower(path.Base(name))
	return strings.HasPrefix(base, ".fenc-") && strings.HasSuffix(strings.TrimRight(base, ". "), ".part")
}

// fetch gets the content, verifies it, and puts it in its place.
func (g *getting) fetch(ctx context.Context, s *session4.Session, i *item) error {
	partial := partialName(i)
	f, err := g.openPartial(partial, i)
	if err != nil {
		return err
	}
	t := &transfer{getting: g, item: i, file: f, sum: blake3.New(len(i.Digest), nil), done: make(chan struct{})}
	err = t.resume(ctx)
	if err == nil {
		err = t.run(ctx, s)
	}
	if err == nil && v4.Digest(t.sum.Sum(nil)) != i.Digest {
		// What was there before, or what came, is wrong: the next attempt begins anew.
		err, t.off = send.ErrChecksum, 0
	}
	if err == nil {
		g.settings.Waits.Enter(send.Disk)
		err = t.settle()
		g.settings.Waits.Leave(send.Disk)
	}
	if closeErr := f.Close(); err == nil {
		err = plain(closeErr)
	}
	if err != nil {
		if t.off == 0 { // there is nothing to go on with
			g.root.Remove(partial)
		}
		return err
	}
	if err := g.root.Chtimes(partial, time.Now(), time.Unix(0, i.ModTime)); err != nil {
		return fmt.Errorf("set its time: %w", plain(err))
	}
	if err := g.root.Rename(partial, i.Path); err != nil {
		return fmt.Errorf("put it in its place: %w", plain(err))
	}
	g.syncFolder(path.Dir(i.Path))
	return nil
}

// openPartial opens what an earlier attempt has left, or makes it.
func (g *getting) openPartial(partial string, i *item) (*os.File, error) {
	if info, err := g.root.Lstat(partial); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is in the way: remove it", wire.Printable(partial))
	}
	const mode = 0o600 // nobody else's until settle says whose
	f, err := g.root.OpenFile(partial, os.O_RDWR|os.O_CREATE, mode)
	if errors.Is(err, fs.ErrPermission) && g.root.Remove(partial) == nil {
		// It was about to be put in its place, and had its permissions already.
		f, err = g.root.OpenFile(partial, os.O_RDWR|os.O_CREATE, mode)
	}
	if err != nil {
		return nil, g.notWritten(err)
	}
	return f, nil
}

// notWritten says where writing failed, and what to do about it.
func (g *getting) notWritten(err error) error {
	remedy := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = ": make room there, or choose another folder with --dir"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		remedy = ": choose a folder that you may write with --dir"
	}
	return fmt.Errorf("write into %s: %w%s", wire.Printable(g.settings.Dir), plain(err), remedy)
}

// plain is an error of a file's without the names, which the result has.
func plain(err error) error {
	var named *fs.PathError
	var linked *os.LinkError
	switch {
	case errors.As(err, &named):
		return named.Err
	case errors.As(err, &linked):
		return linked.Err
	}
	return err
}

// hash takes what is left of a local file into sum, until ctx is done: a large file
// takes minutes.
func (g *getting) hash(ctx context.Context, sum hash.Hash, f *os.File) (int64, error) {
	waits := g.settings.Waits
	waits.Enter(send.Hashing)
	defer waits.Leave(send.Hashing)
	return io.CopyBuffer(sum, &untilDone{ctx, waits, f}, make([]byte, 256<<10))
}

// untilDone reads a local file until ctx is done.
type untilDone struct {
	ctx   context.Context
	waits *send.Waits
	file  *os.File
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	u.waits.Leave(send.Hashing)
	u.waits.Enter(send.Disk)
	defer u.waits.Enter(send.Hashing)
	defer u.waits.Leave(send.Disk)
	return u.file.Read(p)
}

// syncFolder makes the names in a folder durable, where the system knows how to.
func (g *getting) syncFolder(folder string) {
	if d, err := g.root.Open(folder); err == nil {
		d.Sync() // which Windows refuses
		d.Close()
	}
}

// transfer is one file's content on its way.
type transfer struct {
	getting *getting
	item    *item
	file    *os.File
	sum     hash.Hash
	number  uint32
	done    chan struct{} // closed with err, or nil, when the content is here

	mu     sync.Mutex // held while an answer is taken
	off    int64      // so many bytes are here and in sum
	begun  bool       // 2114 has come
	coming bool       // and send.Content was entered
	ended  bool
	err    error
}

// resume takes what an earlier attempt has left into the sum.
func (t *transfer) resume(ctx context.Context) error {
	info, err := t.file.Stat()
	if err == nil && info.Size() > int64(t.item.Size) {
		err = t.file.Truncate(0)
	}
	if err == nil {
		t.off, err = t.getting.hash(ctx, t.sum, t.file)
	}
	if err != nil {
		return fmt.Errorf("go on with what is here: %w", plain(err))
	}
	t.item.progress.Start(t.off)
	t.item.progress.Spare(t.off)
	return nil
}

// run asks for the rest, and waits for it.
func (t *transfer) run(ctx context.Context, s *session4.Session) error {
	if t.off == int64(t.item.Size) && t.off > 0 {
		return nil
	}
	waits := t.getting.settings.Waits
	waits.Enter(send.Asking)
	defer waits.Leave(send.Asking)
	err := s.Begin(t.take, func(number uint32) any {
		t.number = number
		return &v4.Fetch{Number: number, Offset: uint64(t.off), Digest: t.item.Digest, Path: t.item.Path}
	})
	defer func() { s.Forget(t.number) }()
	if err == nil {
		select {
		case <-t.done:
		case <-s.Done():
			err = s.Err()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.coming {
		waits.Leave(send.Content)
	}
	t.ended = true // whatever is still taken is thrown away
	if t.err != nil || err == nil {
		return t.err
	}
	return err
}

// take takes an answer. It writes content as it comes, which holds back the server
// where this disk is slower.
func (t *transfer) take(message any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	over, err := t.answer(message)
	if over || err != nil {
		t.ended, t.err = true, err
		// What is sent already, or will be, comes all the same.
		t.item.adrift = err != nil && t.begun && t.item.Size-uint64(t.off) > tolerated
		close(t.done)
	}
}

func (t *transfer) answer(message any) (over bool, err error) {
	switch m := message.(type) {
	case *v4.Refused:
		t.begun = false // nothing of it comes any more
		return true, &session4.RefusalError{Reason: m.Reason, Again: m.Again, Text: m.Text}
	case *v4.Wait:
		return false, nil
	case *v4.File:
		if t.begun || m.Size != t.item.Size || m.Digest != t.item.Digest {
			return true, fmt.Errorf("%w: another file than was asked for, %d bytes with digest %s", v4.ErrFrame, m.Size, m.Digest)
		}
		t.begun, t.coming = true, true
		t.getting.settings.Waits.Enter(send.Content)
		return false, nil
	case *v4.Data:
		if !t.begun || len(m.Data) == 0 || m.Offset != uint64(t.off) || uint64(len(m.Data)) > t.item.Size-m.Offset {
			return true, fmt.Errorf("%w: %d bytes at %d of a file of %d, of which %d are here", v4.ErrFrame, len(m.Data), m.Offset, t.item.Size, t.off)
		}
		waits := t.getting.settings.Waits
		waits.Enter(send.Disk)
		_, err := t.file.WriteAt(m.Data, t.off)
		waits.Leave(send.Disk)
		if err != nil {
			return true, t.getting.notWritten(err)
		}
		waits.Enter(send.Hashing)
		t.sum.Write(m.Data)
		waits.Leave(send.Hashing)
		t.off += int64(len(m.Data))
		t.item.progress.Move(int64(len(m.Data)))
		t.item.progress.Hold(t.off)
		t.getting.retrying.Advance()
		return false, nil
	case *v4.DataEnd:
		if !t.begun || t.off != int64(t.item.Size) {
			return true, fmt.Errorf("%w: the end after %d of %d bytes", v4.ErrFrame, t.off, t.item.Size)
		}
		return true, nil
	}
	return true, fmt.Errorf("%w: %s answers a request for a file", v4.ErrFrame, strings.TrimPrefix(fmt.Sprintf("%T", message), "*v4."))
}

// settle gives the content the file's permissions, whatever the umask, and makes it
// durable.
func (t *transfer) settle() error {
	if err := t.file.Chmod(fs.FileMode(t.item.Mode)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("set its permissions: %w", plain(err))
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("make it durable: %w", t.getting.notWritten(err))
	}
	return nil
}
