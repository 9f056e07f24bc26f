package modes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send/walk"
	"fenc/modes/send4"
	"fenc/wire"
)

// feed finds the files to send while they are sent.
type feed struct {
	streams Streams
	walker  *walk.Walker
	roots   []string
	as      string
	tally   *tally

	ctx    context.Context
	cancel context.CancelFunc
	items  chan send4.Item
	first  *send4.Item // looked at by any, not given yet
	spool  *send.Source
	found  int64 // files, of which
	bytes  int64 // so many bytes, as they were found
	ended  chan struct{}
}

// newFeed looks at what is to be sent as far as that goes without looking at files,
// and begins to walk.
func newFeed(ctx context.Context, s Streams, settings config.Transfer, as string, t *tally) (*feed, error) {
	walker, err := walk.New(walk.Options{Exclude: settings.Exclude, ExcludeFrom: settings.ExcludeFrom, FollowLinks: settings.FollowLinks})
	if err != nil {
		return nil, &usageError{err}
	}
	f := &feed{streams: s, walker: walker, roots: settings.ExpandFiles(), as: as, tally: t, items: make(chan send4.Item, 256), ended: make(chan struct{})}
	if as != "" {
		if len(f.roots) > 1 {
			return nil, usagef("--as %q names one file or folder, and there are %d", as, len(f.roots))
		}
		if err := wire.CheckPath(as); err != nil {
			return nil, usagef("--as: %w", err)
		}
	}
	of := make(map[string]string)
	for _, root := range f.roots {
		name := cmp.Or(as, walk.RootName(root))
		if root == "-" {
			name = cmp.Or(as, "stdin")
		}
		if other, twice := of[name]; twice {
			return nil, usagef("%s and %s would both be %q at the server and replace each other: send them one by one, one with --as", other, root, name)
		}
		of[name] = root
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	go f.walk()
	return f, nil
}

// walk walks the roots.
func (f *feed) walk() {
	defer close(f.ended)
	defer close(f.items)
	for _, root := range f.roots {
		err := f.root(root)
		if f.ctx.Err() != nil {
			return
		}
		if err != nil {
			f.Fail(root, err)
		}
	}
}

func (f *feed) root(root string) error {
	if root != "-" {
		return f.walker.Walk(f.ctx, root, f.as, f)
	}
	if f.spool != nil {
		return errors.New("standard input can be read once")
	}
	spool, err := send.Spool(f.ctx, f.streams.In, cmp.Or(f.as, "stdin"), math.MaxInt64-1)
	if err != nil {
		return err
	}
	f.spool = spool
	f.found, f.bytes = f.found+1, f.bytes+spool.Size()
	return f.give(send4.Item{Path: spool.OpenPath(), Name: spool.Name})
}

// File implements walk.Visitor.
func (f *feed) File(file walk.File) error {
	f.found, f.bytes = f.found+1, f.bytes+file.Info.Size()
	return f.give(send4.Item{Path: file.Path, Name: file.Name})
}

// Fail implements walk.Visitor.
func (f *feed) Fail(path string, err error) { f.tally.report(send.Result{Name: path, Err: err}) }

// Skip implements walk.Visitor.
func (f *feed) Skip(path, why string) {
	fmt.Fprintf(f.streams.Err, "fenc: %s skipped: %s\n", wire.Printable(path), why)
}

func (f *feed) give(item send4.Item) error {
	select {
	case f.items <- item:
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// any reports whether there is anything to send.
func (f *feed) any() bool {
	item, ok := <-f.items
	if ok {
		f.first = &item
	}
	return ok
}

// next gives the next file.
func (f *feed) next() (send4.Item, bool) {
	if item := f.first; item != nil {
		f.first = nil
		return *item, true
	}
	item, ok := <-f.items
	return item, ok
}

// list shows what would be sent.
func (f *feed) list(ctx context.Context, s Streams) error {
	files := 0
	for item := range f.items {
		files++
		if _, err := fmt.Fprintf(s.Out, "%s  would be sent as %s\n", wire.Printable(item.Path), wire.Printable(item.Name)); err != nil {
			return err
		}
	}
	<-f.ended
	if ctx.Err() != nil {
		return &interrupted{errors.New("nothing was sent")}
	}
	fmt.Fprintf(s.Err, "fenc: %d files, %s; nothing was sent\n", f.found, config.Size(f.bytes))
	return f.tally.err(ctx)
}

// close ends the walk.
func (f *feed) close() {
	f.cancel()
	for range f.items { // until the walk has ended
	}
	if f.spool != nil {
		f.spool.Close()
	}
}
