package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// Small is a whole object in memory.
type Small struct {
	Key   string
	Data  [][]byte // its content, in pieces
	Label []byte   // nil: none
}

// writers is how many small objects are written and synced at once: their syncs
// share the disk's work.
const writers = 8

// PutAll makes small objects, durable under their keys when it returns. After an
// error none of them counts; Remove takes away what is there.
func (f *Folder) PutAll(ctx context.Context, objects ...Small) error {
	if err := errors.Join(ctx.Err(), f.Degraded()); err != nil {
		return err
	}
	var (
		next = make(chan Small)
		wait sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for range min(writers, len(objects)) {
		wait.Go(func() {
			for o := range next {
				if err := f.putSmall(o); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, o := range objects {
		next <- o
	}
	close(next)
	wait.Wait()
	if len(errs) > 0 {
		return fmt.Errorf("make objects durable: %w", f.distrust(errs[0]))
	}
	synced := make(map[string]bool)
	for _, o := range objects {
		dir := objectDir(o.Key)
		if synced[dir] {
			continue
		}
		synced[dir] = true
		if err := f.fs.SyncDir(dir); err != nil {
			return fmt.Errorf("make objects durable: %w", f.distrust(err))
		}
	}
	return nil
}

func (f *Folder) putSmall(o Small) error {
	file, err := f.fs.OpenFile(objectPath(o.Key), os.O_WRONLY|os.O_CREATE|os.O_EXCL, objectMode)
	if errors.Is(err, fs.ErrExist) {
		// Of a try that ended before its row: nothing names it.
		if err = f.fs.Remove(objectPath(o.Key)); err == nil {
			file, err = f.fs.OpenFile(objectPath(o.Key), os.O_WRONLY|os.O_CREATE|os.O_EXCL, objectMode)
		}
	}
	if err != nil {
		return err
	}
	if o.Label != nil {
		err = f.putLabel(file, o.Key, o.Label)
	}
	off := int64(0)
	for _, p := range o.Data {
		if err != nil {
			break
		}
		_, err = file.WriteAt(p, off)
		off += int64(len(p))
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}
