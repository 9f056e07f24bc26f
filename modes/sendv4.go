package modes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send4"
	"fenc/modes/session4"
	"fenc/wire"
)

// sendOptions are the flags of fenc send that are no settings.
type sendOptions struct {
	as        string
	acceptNew bool
	noInput   bool
	dryRun    bool
}

// runSend4 is fenc send by protocol 4.
func runSend4(ctx context.Context, s Streams, settings config.Transfer, source config.Source, o sendOptions) error {
	k, err := newContact(s, settings, source)
	if err != nil {
		return err
	}
	k.acceptNew, k.noInput = o.acceptNew, o.noInput
	files, err := newFeed(ctx, settings, o.as, s.In)
	if err != nil {
		return err
	}
	defer files.close()
	if o.dryRun {
		return files.list(s.Out)
	}
	tally := &tally{out: s.Out}
	if err := k.pin(ctx); err != nil {
		return k.explain(err)
	}
	run := session4.NewRun()
	var first *session4.Session
	if !k.known {
		if first, err = k.open(ctx, run); err != nil {
			return k.explain(err)
		}
	}
	to := send4.Settings{
		Settings: k.to(), Streams: settings.Streams, Attempts: settings.Attempts, RetryFor: time.Duration(settings.RetryFor),
		Notice: func(text string) { fmt.Fprintf(s.Err, "fenc: %s\n", text) },
	}
	err = send4.Run(ctx, to, k.me, run, first, files.next(tally.report), tally.report)
	switch {
	case ctx.Err() != nil:
		return &interrupted{fmt.Errorf("%d files verified; what was sent of others is kept, sending again goes on there", tally.files-tally.failed)}
	case err != nil:
		return k.explain(err)
	}
	return tally.err(ctx)
}

// feed gives the files to send, one after the other.
type feed struct {
	items  chan send4.Item
	cancel context.CancelFunc
}

func newFeed(ctx context.Context, settings config.Transfer, as string, in any) (*feed, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{items: make(chan send4.Item, 256), cancel: cancel}
	go func() {
		defer close(f.items)
		for _, root := range settings.ExpandFiles() {
			base := filepath.Dir(filepath.Clean(root))
			filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return nil
				}
				name, _ := filepath.Rel(base, path)
				if as != "" {
					name = as
				}
				select {
				case f.items <- send4.Item{Path: path, Name: filepath.ToSlash(name)}:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
		}
	}()
	return f, nil
}

func (f *feed) next(report func(send.Result)) func() (send4.Item, bool) {
	return func() (send4.Item, bool) {
		item, ok := <-f.items
		return item, ok
	}
}

func (f *feed) list(w any) error { return errors.New("not yet") }
func (f *feed) close()           { f.cancel() }

var _ = wire.Printable
