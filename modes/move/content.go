package move

import (
	"context"
	"errors"
	"fmt"
	"io"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/check"
)

const (
	smallFile  = 1 << 20 // bytes of the largest file that is copied among others
	groupFiles = 256
	groupBytes = 8 << 20
	readers    = 8 // of small files, at once
)

// damaged is why content cannot be copied, however often one tries.
type damaged string

func (d damaged) Error() string { return string(d) }

const differs = damaged("its content is damaged: the checksum differs")

// open opens content where it is copied from. It returns damaged where it is not there
// with its size.
func (r *run) open(f model.File) (*content, error) {
	key, size := f.Object.String(), f.Size
	if f.Pack != nil {
		key, size = f.Pack.String(), f.PackOffset+f.Size
	}
	object, err := r.from.Store.Open(key)
	if errors.Is(err, storage.ErrGone) {
		return nil, damaged("its content is missing")
	}
	if err != nil {
		return nil, r.unreadable(err)
	}
	if have := object.Size(); have < size || f.Pack == nil && have != size {
		return nil, errors.Join(damaged(fmt.Sprintf("its content has %d bytes, want %d", have, size)), object.Close())
	}
	return &content{io.NewSectionReader(object, f.PackOffset, f.Size), object}, nil
}

type content struct {
	io.Reader
	object io.Closer
}

func (c *content) Close() error { return c.object.Close() }

// unreadable sorts an error of reading: a disk that is failing is a reason to copy what
// it has else; a store that does not answer will.
func (r *run) unreadable(err error) error {
	if r.fromFolder {
		return damaged("its content cannot be read: " + err.Error())
	}
	return err
}

// large copies content that is read and written as a stream.
func (r *run) large(ctx context.Context, k model.Copied) error {
	err := r.stream(ctx, &k)
	rows := []model.Copied{k}
	if fault, ok := errors.AsType[damaged](err); ok && ctx.Err() == nil {
		rows, err = r.fault(k, string(fault)), nil
	}
	if err != nil || len(rows) == 0 {
		return err
	}
	return r.to.Catalogue.CommitCopy(rows, nil, 0)
}

func (r *run) stream(ctx context.Context, k *model.Copied) error {
	source, err := r.open(k.File)
	if err != nil {
		return err
	}
	defer source.Close()
	tree, kept, err := r.from.Catalogue.Tree(k.File.Object)
	if err != nil {
		return err
	}
	if err := r.to.Catalogue.StageCopy(k.File.Object); err != nil {
		return err
	}
	part, err := r.to.Store.Begin(ctx, k.File.Object.String(), k.File.Size)
	if err != nil {
		return err
	}
	if err := r.fill(ctx, part, k.File, source); err != nil {
		return errors.Join(err, part.Discard())
	}
	if kept {
		k.Tree = &tree
	}
	k.File.Verified, k.File.Pack, k.File.PackOffset = true, nil, 0
	return nil
}

// fill writes content to an upload, proves it meanwhile, and makes it an object.
func (r *run) fill(ctx context.Context, part storage.Partial, f model.File, source io.Reader) error {
	proof := prove(f)
	reading := &counted{ctx: ctx, r: source, progress: r.Progress}
	_, err := part.WriteStream(ctx, io.TeeReader(reading, proof), f.Size)
	proved, proofErr := proof.end(err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case reading.err != nil:
		return r.unreadable(reading.err)
	case err != nil:
		return err
	case proofErr != nil:
		return proofErr
	case !proved:
		return differs
	}
	if r.folder != nil {
		label, err := r.from.Catalogue.LabelFile(f)
		if err == nil {
			err = part.SetLabel(label.Encode())
		}
		if err != nil {
			return err
		}
	}
	return part.Seal(ctx, f.Size, nil)
}

// proof proves content that is written to it.
type proof struct {
	*io.PipeWriter
	done  chan struct{}
	right bool
	err   error
}

func prove(f model.File) *proof {
	r, w := io.Pipe()
	p := &proof{PipeWriter: w, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.right, p.err = check.Proves(f, r)
		io.Copy(io.Discard, r) // who writes is not held up
	}()
	return p
}

// end returns whether all that was written is right. cause is why there is no more;
// nil: it was all.
func (p *proof) end(cause error) (bool, error) {
	p.CloseWithError(cause)
	<-p.done
	if p.err == nil || errors.Is(p.err, io.EOF) {
		return p.right && p.err == nil, nil
	}
	return false, p.err
}

// counted tells of what is read through it, and remembers why that ended.
type counted struct {
	ctx      context.Context
	r        io.Reader
	progress func(int64)
	err      error
}

func (c *counted) Read(p []byte) (n int, err error) {
	if err = c.ctx.Err(); err == nil {
		n, err = c.r.Read(p)
		c.progress(int64(n))
	}
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// group copies small files together.
func (r *run) group(ctx context.Context, all []model.Copied) error {
	data, errs := r.read(ctx, all)
	var rows, good []model.Copied
	var contents [][]byte
	for i, k := range all {
		r.Progress(k.File.Size)
		fault, isDamaged := errors.AsType[damaged](errs[i])
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isDamaged:
			rows = append(rows, r.fault(k, string(fault))...)
		case errs[i] != nil:
			return fmt.Errorf("read %s: %w", k.File.FilePath, errs[i])
		default:
			k.File.Verified, k.File.Pack, k.File.PackOffset = true, nil, 0
			good, contents = append(good, k), append(contents, data[i])
		}
	}
	if len(good) == 0 {
		if len(rows) == 0 {
			return nil
		}
		return r.to.Catalogue.CommitCopy(rows, nil, 0)
	}
	if r.limits.PackAll {
		return r.packUp(ctx, good, contents, rows)
	}
	ids := make([]model.ID, len(good))
	objects := make([]storage.Small, len(good))
	for i, k := range good {
		ids[i] = k.File.Object
		objects[i] = storage.Small{Key: k.File.Object.String(), Data: [][]byte{contents[i]}}
		if r.folder == nil {
			continue
		}
		label, err := r.from.Catalogue.LabelFile(k.File)
		if err != nil {
			return err
		}
		objects[i].Label = label.Encode()
	}
	if err := r.to.Catalogue.StageCopy(ids...); err != nil {
		return err
	}
	if err := r.to.Store.PutAll(ctx, objects...); err != nil {
		return err
	}
	return r.to.Catalogue.CommitCopy(append(rows, good...), nil, 0)
}

// packUp copies small files into one object. rows are of others, without content.
func (r *run) packUp(ctx context.Context, good []model.Copied, contents [][]byte, rows []model.Copied) error {
	pack := model.NewID()
	size := int64(0)
	for i := range good {
		good[i].File.Pack, good[i].File.PackOffset = &pack, size
		size += int64(len(contents[i]))
	}
	if err := r.to.Catalogue.StageCopy(pack); err != nil {
		return err
	}
	if err := r.to.Store.PutAll(ctx, storage.Small{Key: pack.String(), Data: contents}); err != nil {
		return err
	}
	return r.to.Catalogue.CommitCopy(append(rows, good...), &pack, size)
}
