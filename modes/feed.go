package modes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send/walk"
	"fenc/modes/send4"
	"fenc/wire"
)

// feed finds the files to send while they are sent.
type feed struct {
	streams  Streams
	walker   *walk.Walker
	roots    []string
	as       string
	lists    []io.ReadCloser // of paths, those of --files-from
	nul      bool            // ends their paths
	reporter send.Reporter
	ahead    bool // what is to be sent is counted ahead of the walk, for who looks on

	ctx    context.Context
	cancel context.CancelFunc
	items  chan send4.Item
	first  *send4.Item // looked at by any, not given yet
	spool  *send.Source
	found  int64 // files, of which
	bytes  int64 // so many bytes, as they were found
	ended  chan struct{}

	counting sync.WaitGroup
}

// newFeed looks at what is to be sent as far as that goes without looking at files,
// and begins to walk.
func newFeed(ctx context.Context, k *contact, o sendOptions, v *show) (*feed, error) {
	s, settings := k.streams, k.settings
	var needed string
	if o.remove {
		needed = k.source.Path
	}
	walker, err := walk.New(walk.Options{
		Exclude: settings.Exclude, ExcludeFrom: settings.ExcludeFrom, FollowLinks: settings.FollowLinks,
		MinSize: int64(settings.MinSize), MaxSize: int64(settings.MaxSize), Withhold: withheld(k.mePath, needed),
	})
	if err != nil {
		return nil, &usageError{err}
	}
	f := &feed{streams: s, walker: walker, roots: settings.ExpandFiles(), as: o.as, nul: o.nul, reporter: v, items: make(chan send4.Item, 256), ended: make(chan struct{})}
	if o.as != "" {
		if len(o.lists) > 0 {
			return nil, usagef("--as %q names one file or folder, and --files-from many: leave one of the two out", o.as)
		}
		if len(f.roots) > 1 {
			return nil, usagef("--as %q names one file or folder, and there are %d", o.as, len(f.roots))
		}
		if err := wire.CheckPath(o.as); err != nil {
			return nil, usagef("--as: %w", err)
		}
	}
	of := make(map[string]string)
	given := f.roots
	f.roots = nil
	for _, root := range given {
		name := cmp.Or(o.as, walk.RootName(root))
		if root == "-" {
			name = cmp.Or(o.as, "stdin")
		}
		other, twice := of[name]
		if twice && root != "-" && other != "-" && sameFile(root, other) {
			v.Note(fmt.Sprintf("%s and %s are the same, which is sent once", wire.Printable(other), wire.Printable(root)))
			continue
		}
		if twice {
			return nil, usagef("%s and %s would both be %q at the server and replace each other: send them one by one, one with --as", other, root, name)
		}
		of[name] = root
		f.roots = append(f.roots, root)
	}
	if err := f.openLists(o.lists); err != nil {
		return nil, err
	}
	// Lists and standard input can be read once.
	f.ahead = v.Draws() && len(f.lists) == 0 && !slices.Contains(f.roots, "-")
	f.ctx, f.cancel = context.WithCancel(ctx)
	if f.ahead {
		f.counting.Go(f.count)
	}
	go f.walk()
	return f, nil
}

// openLists opens the lists of paths.
func (f *feed) openLists(lists []string) error {
	if slices.Contains(lists, "-") && (slices.Contains(f.roots, "-") || slices.Index(lists, "-") < len(lists)-1) {
		return usagef("standard input is asked for twice: as a list of paths, and as something else behind it")
	}
	for _, path := range lists {
		list, err := openList(path, f.streams)
		if err != nil {
			f.closeLists()
			return err
		}
		f.lists = append(f.lists, list)
	}
	return nil
}

func (f *feed) closeLists() {
	for _, list := range f.lists {
		list.Close()
	}
}

// walk walks the roots, and what the lists name.
func (f *feed) walk() {
	defer close(f.ended)
	defer close(f.items)
	if !f.ahead {
		defer f.reporter.Counted()
	}
	for _, root := range f.roots {
		err := f.root(root)
		if f.ctx.Err() != nil {
			return
		}
		if err != nil {
			f.Fail(root, err)
		}
	}
	for i, list := range f.lists {
		err := f.walker.WalkList(f.ctx, list, f.nul, f)
		if f.ctx.Err() != nil {
			return
		}
		if err != nil {
			f.Fail(fmt.Sprintf("list %d of --files-from", i+1), err)
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
	f.note(spool.Size())
	return f.give(send4.Item{Path: spool.OpenPath(), Name: spool.Name, Spool: true})
}

// note notes that a file was found.
func (f *feed) note(bytes int64) {
	f.found, f.bytes = f.found+1, f.bytes+bytes
	if !f.ahead {
		f.reporter.Found(1, bytes)
	}
}

// count counts the files to send, which walk gives no faster than they are sent.
func (f *feed) count() {
	for _, root := range f.roots {
		if f.walker.Walk(f.ctx, root, f.as, counter{f.reporter}) != nil {
			return
		}
	}
	f.reporter.Counted()
}

// counter is a walk.Visitor that counts. What else it is told, walk reports.
type counter struct{ send.Reporter }

func (c counter) File(file walk.File) error {
	c.Found(1, file.Info.Size())
	return nil
}
func (counter) Fail(string, error)  {}
func (counter) Skip(string, string) {}

// File implements walk.Visitor.
func (f *feed) File(file walk.File) error {
	f.note(file.Info.Size())
	return f.give(send4.Item{Path: file.Path, Name: file.Name})
}

// Fail implements walk.Visitor.
func (f *feed) Fail(path string, err error) { f.reporter.End(nil, send.Result{Name: path, Err: err}) }

// Skip implements walk.Visitor.
func (f *feed) Skip(path, why string) { f.reporter.Skip(path, why) }

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
func (f *feed) list(ctx context.Context, v *show, remove bool) error {
	for item := range f.items {
		v.Plan(item.Path, item.Name, remove)
	}
	<-f.ended
	if ctx.Err() != nil {
		return &interrupted{errors.New("nothing was sent")}
	}
	v.Note(fmt.Sprintf("%s, %s; nothing was sent", inFiles(f.found), config.Size(f.bytes)))
	return nil
}

// close ends the walk.
func (f *feed) close() {
	f.cancel()
	for range f.items { // until the walk has ended
	}
	f.counting.Wait()
	f.closeLists()
	if f.spool != nil {
		f.spool.Close()
	}
}
