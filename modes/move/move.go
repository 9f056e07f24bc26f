// Package move copies what a server keeps, its catalogue and all content, to where
// another one keeps it. All content is proved on the way by what the catalogue says of
// it. A copy that was interrupted goes on where it ended.
package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
)

// ErrChanged: somebody has changed the catalogue while it was copied.
var ErrChanged = errors.New("the catalogue has changed while it was copied")

// Side is where a server keeps things.
type Side struct {
	Catalogue *model.Catalogue
	Store     storage.Store
}

// Options says how to copy.
type Options struct {
	// Report is called for content that is missing or damaged where it is copied from.
	Report func(Fault)
	// Progress is called with the bytes that were read, or need not be read again, since
	// the last call, from several goroutines.
	Progress func(bytes int64)
}

// Fault is content that was not copied.
type Fault struct {
	Path    string // below the storage
	Version int64  // of an earlier version that is left out; 0: the present content, of a file that does not count as verified in the copy
	Text    string // what is wrong
}

// Summary counts what the copy has that Run has made or found.
type Summary struct {
	Clients  int64
	Files    int64
	Versions int64 // earlier ones that are kept
	Bytes    int64 // of the content of both
	There    int64 // of files and versions, those that an earlier run had copied
	Faults   int64
}

const (
	filesAtOnce   = 256
	atOnce        = 4 // large files and groups of small ones
	garbageAtOnce = 1000
)

// Run copies one side to the other, whose catalogue model.Catalogue.BeginCopy has
// marked, and which is opened for that alone: Beside. What an interrupted copy has left
// is removed. The copy stays marked: see Show and model.Catalogue.EndCopy.
func Run(ctx context.Context, from, to Side, o Options) (Summary, error) {
	r := &run{from: from, to: to, Options: o, limits: to.Store.Limits()}
	r.folder, _ = to.Store.(*storage.Folder)
	_, r.fromFolder = from.Store.(*storage.Folder)
	before, err := from.Catalogue.CopyState()
	if err != nil {
		return r.sum, err
	}
	for _, step := range []func(context.Context) error{r.clear, r.clients, r.content, r.news} {
		if err := step(ctx); err != nil {
			return r.sum, err
		}
	}
	after, err := from.Catalogue.CopyState()
	if err == nil && after != before {
		err = ErrChanged
	}
	return r.sum, err
}

type run struct {
	Options
	from, to   Side
	limits     storage.Limits  // of the store that is written
	folder     *storage.Folder // it, where people see files in it; else nil
	fromFolder bool            // what is read is a folder

	mu  sync.Mutex // held to tell of faults
	sum Summary
}

// clear removes what an earlier run has left, and what has changed since.
func (r *run) clear(ctx context.Context) error {
	hide := func(f model.File) error {
		if r.folder == nil {
			return nil
		}
		return r.folder.Hide(f.Object.String(), f.FilePath) // which Show may have shown already
	}
	if err := r.to.Catalogue.Retract(r.from.Catalogue, hide); err != nil {
		return err
	}
	distant := time.Now().AddDate(100, 0, 0)
	for {
		garbage, err := r.to.Catalogue.GarbageBefore(distant, garbageAtOnce)
		if err != nil || len(garbage) == 0 {
			return err
		}
		keys := make([]string, len(garbage))
		for i, id := range garbage {
			keys[i] = id.String()
		}
		if err := errors.Join(ctx.Err(), r.to.Store.Remove(keys...)); err != nil {
			return err
		}
		if err := r.to.Catalogue.Removed(garbage); err != nil {
			return err
		}
	}
}

func (r *run) clients(context.Context) error { return r.to.Catalogue.CopyClients(r.from.Catalogue) }

func (r *run) news(context.Context) error { return r.to.Catalogue.CopyNews(r.from.Catalogue) }

// content copies all content, in the order of its files.
func (r *run) content(ctx context.Context) error {
	for last := int64(0); ; {
		content, next, err := r.from.Catalogue.CopyAfter(last, filesAtOnce)
		if err != nil || len(content) == 0 {
			return err
		}
		last = next
		left, err := r.to.Catalogue.NotCopied(content)
		if err != nil {
			return err
		}
		r.sum.There += int64(len(content) - len(left))
		if there := r.count(content) - bytesOf(left); there > 0 {
			r.Progress(there)
		}
		if err := r.some(ctx, left); err != nil {
			return err
		}
	}
}

// count counts content as copied, and returns its bytes; what turns out not to be
// copied is taken away again.
func (r *run) count(content []model.Copied) int64 {
	for _, k := range content {
		if k.Kept == nil {
			r.sum.Files++
		} else {
			r.sum.Versions++
		}
	}
	bytes := bytesOf(content)
	r.sum.Bytes += bytes
	return bytes
}

func bytesOf(content []model.Copied) (bytes int64) {
	for _, k := range content {
		bytes += k.File.Size
	}
	return bytes
}

// some copies content that is not there yet: small files together, others each for
// itself, several at once.
func (r *run) some(ctx context.Context, content []model.Copied) error {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atOnce)
	var small []model.Copied
	bytes := int64(0)
	for _, k := range content {
		if k.File.Size > smallFile {
			work.Go(func() error {
				if err := r.large(ctx, k); err != nil {
					return fmt.Errorf("copy %s: %w", k.File.FilePath, err)
				}
				return nil
			})
			continue
		}
		if len(small) == groupFiles || bytes+k.File.Size > groupBytes {
			group := small
			work.Go(func() error { return r.group(ctx, group) })
			small, bytes = nil, 0
		}
		small, bytes = append(small, k), bytes+k.File.Size
	}
	work.Go(func() error { return r.group(ctx, small) })
	return work.Wait()
}

// fault notes content that is not copied. Of a file, the row is: it is not counted as
// verified, so that its client sends it again.
func (r *run) fault(k model.Copied, text string) (row []model.Copied) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum.Faults++
	r.sum.Bytes -= k.File.Size
	f := Fault{Path: k.File.FilePath, Text: text}
	if k.Kept != nil {
		f.Version = k.Kept.Version
		r.sum.Versions--
	}
	r.Report(f)
	if k.Kept != nil {
		return nil
	}
	k.File.Verified, k.File.Pack, k.File.PackOffset = false, nil, 0
	return []model.Copied{k}
}

// Show has the copy's folder show its files, and note its clients. It closes both
// sides of what it is given, of which the catalogue is opened as a server does.
func Show(to Side, log *slog.Logger) error {
	kept, err := archive.Open(to.Catalogue, to.Store, log)
	if err != nil {
		return errors.Join(err, to.Catalogue.Close(), to.Store.Close())
	}
	shown, err := to.Catalogue.Settled()
	if err == nil {
		var hidden []model.File
		if hidden, err = to.Catalogue.FilesSince(shown, 1); err == nil && len(hidden) > 0 {
			err = errors.New("the tree does not show all files: mend what the lines above say, and run it again")
		}
	}
	if err == nil {
		err = to.Catalogue.EndCopy()
	}
	return errors.Join(err, kept.Close())
}
