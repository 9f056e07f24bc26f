package modes

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"fenc/config"
	"fenc/modes/send"
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
	lists     []string // files of paths to send; "-": standard input
	nul       bool     // ends the paths in them
	readAll   bool     // whether a file is unchanged, its content says
	remove    bool     // files, once they are verified
}

// runSend4 is fenc send by protocol 4.
func runSend4(ctx context.Context, s Streams, settings config.Transfer, source config.Source, o sendOptions, v *show) error {
	k, err := newContact(s, settings, source, "add --protocol 3, or register anew by naming another file with --me")
	if err != nil {
		return err
	}
	k.acceptNew, k.noInput, k.waits, k.reporter = o.acceptNew, o.noInput, true, v
	files, err := newFeed(ctx, k, o, v)
	if err != nil {
		return err
	}
	defer files.close()
	if o.dryRun {
		if err := files.list(ctx, v, o.remove); err != nil {
			return err
		}
		return v.outcome(ctx, nil, k.explain)
	}
	if !files.any() {
		if ctx.Err() != nil {
			return &interrupted{errors.New("nothing was sent")}
		}
		return v.outcome(ctx, nil, k.explain)
	}
	if err := k.pin(ctx); err != nil {
		return k.explain(err)
	}
	run := session4.NewRun()
	var first *session4.Session
	if !k.known {
		if first, err = k.openPatiently(ctx, run); err != nil {
			return k.explain(err)
		}
	}
	to := send4.Settings{
		Settings: k.to(), Streams: settings.Streams, Attempts: settings.Attempts, RetryFor: time.Duration(settings.RetryFor),
	}
	to.Waits = v.waits
	if cache := openDigests(); cache != nil {
		defer cache.Close() // what it could not keep costs time alone
		to.Digests = digestsOf(cache, o.readAll || o.remove)
	}
	var reporter send.Reporter = v
	removal := &removal{Reporter: v, warn: v.Warn}
	if o.remove {
		reporter = removal
	}
	err = send4.Run(ctx, to, k.me, run, first, files.next, reporter)
	return cmp.Or(v.outcome(ctx, err, k.explain), removal.err())
}
