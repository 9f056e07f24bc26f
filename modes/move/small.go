package move

import (
	"bytes"
	"context"
	"errors"
	"io"

	"golang.org/x/sync/errgroup"

	"fenc/model"
	"fenc/modes/check"
)

// spare is how many bytes between the files of a pack are read with them.
const spare = 64 << 10

// read reads small files, and proves each. Those of one pack are read at once.
func (r *run) read(ctx context.Context, all []model.Copied) (data [][]byte, errs []error) {
	data, errs = make([][]byte, len(all)), make([]error, len(all))
	var reading errgroup.Group
	reading.SetLimit(readers)
	packs := make(map[model.ID][]int)
	for i, k := range all {
		if k.File.Pack != nil {
			packs[*k.File.Pack] = append(packs[*k.File.Pack], i)
			continue
		}
		reading.Go(func() error {
			data[i], errs[i] = r.whole(ctx, k.File)
			return nil
		})
	}
	for pack, at := range packs {
		reading.Go(func() error {
			files := make([]model.File, len(at))
			for j, i := range at {
				files[j] = all[i].File
			}
			span, from := r.span(ctx, pack, files)
			for j, i := range at {
				if off := files[j].PackOffset - from; span != nil {
					data[i], errs[i] = proved(files[j], span[off:off+files[j].Size])
				} else { // what is wrong, and whose, shows one by one
					data[i], errs[i] = r.whole(ctx, files[j])
				}
			}
			return nil
		})
	}
	reading.Wait()
	return data, errs
}

// span reads the part of a pack in which files lie, and returns it with its offset; nil
// where they lie far apart or it cannot be read.
func (r *run) span(ctx context.Context, pack model.ID, files []model.File) (span []byte, from int64) {
	from, end, need := files[0].PackOffset, int64(0), int64(spare)
	for _, f := range files {
		from, end, need = min(from, f.PackOffset), max(end, f.PackOffset+f.Size), need+2*f.Size
	}
	if ctx.Err() != nil || from < 0 || end-from > need {
		return nil, 0
	}
	object, err := r.from.Store.Open(pack.String())
	if err != nil {
		return nil, 0
	}
	defer object.Close()
	span = make([]byte, end-from)
	if n, _ := object.ReadAt(span, from); n < len(span) {
		return nil, 0
	}
	return span, from
}

// whole reads a small file and proves it.
func (r *run) whole(ctx context.Context, f model.File) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	source, err := r.open(f)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	data := make([]byte, f.Size)
	if _, err := io.ReadFull(source, data); err != nil {
		return nil, r.unreadable(err)
	}
	return proved(f, data)
}

func proved(f model.File, data []byte) ([]byte, error) {
	if right, err := check.Proves(f, bytes.NewReader(data)); err != nil || !right {
		return nil, errors.Join(err, differs)
	}
	return data, nil
}
