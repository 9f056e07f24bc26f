package modes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fenc/config"
	"fenc/modes/send/digests"
	"fenc/modes/send4"
	"fenc/modes/session4"
)

// openDigests opens the cache of digests of this user; nil where there is none to
// be had.
func openDigests() *digests.Cache {
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil
	}
	cache, err := digests.Open(filepath.Join(dir, "fenc", "digests.db"))
	if err != nil {
		return nil
	}
	return cache
}

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
	tally := &tally{out: s.Out}
	files, err := newFeed(ctx, s, settings, o.as, tally)
	if err != nil {
		return err
	}
	defer files.close()
	if o.dryRun {
		return files.list(ctx, s)
	}
	if !files.any() {
		if ctx.Err() != nil {
			return &interrupted{errors.New("nothing was sent")}
		}
		return tally.err(ctx)
	}
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
	if cache := openDigests(); cache != nil {
		defer cache.Close() // what it could not keep costs time alone
		to.Digests = cache
	}
	err = send4.Run(ctx, to, k.me, run, first, files.next, tally.report)
	switch {
	case ctx.Err() != nil:
		return &interrupted{fmt.Errorf("%d files verified; what was sent of others is kept, sending again goes on there", tally.files-tally.failed)}
	case err != nil:
		return k.explain(err)
	}
	return tally.err(ctx)
}
