package modes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send4"
	"fenc/modes/session4"
	"fenc/modes/watch"
	"fenc/modes/watch/queue"
	"fenc/wire/v3"
)

func watchCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "watch",
		Usage:     "send what appears or changes in folders, for as long as it runs",
		ArgsUsage: "DIR...",
		UsageText: "fenc watch [--config transfer.toml] [--settle 3s] [--after keep|remove|move] [--once] [DIR...]",
		Description: `Sends the files below each DIR, or below the folders of the [[watch]] tables of
transfer.toml where none is named, and from then on what appears there or changes,
as soon as it has been left alone for --settle. What waits stays in a queue on the
disk, through restarts and for as long as the server cannot be reached; what was
verified is remembered and not sent again. Logs to standard error.

   fenc watch outbox
   fenc watch --after move --move-to sent outbox

For cron, --once sends what there is and ends; its exit status is that of fenc
send. --status shows what waits, beside the fenc watch that runs.

Speaks protocol 4, as a client that fenc join or fenc send has made. SIGINT or
SIGTERM ends it; examples/fenc-watch.service runs it under systemd.`,
		Flags: slices.Concat(senderFlags(), []cli.Flag{
			&cli.StringFlag{Name: "as", Usage: "begin the names of the one DIR's files with `NAME` at the server (default: its own name)"},
			&cli.StringFlag{Name: "settle", Usage: "send a file once it has been left alone for `DURATION` (default: 3s)"},
			&cli.StringFlag{Name: "rescan", Usage: "look through everything each `DURATION`, whatever the system tells (default: 15m)"},
			&cli.StringFlag{Name: "after", Usage: "`WHAT` becomes of a file that was verified: keep, remove or move (default: keep)"},
			&cli.StringFlag{Name: "move-to", Usage: "move such files to `FOLDER`, on the same file system"},
			bandwidthFlag(),
			&cli.StringFlag{Name: "queue", Usage: "remember what waits and what was verified in `FILE` (FENC_QUEUE; default: watch.db in fenc/ of your state directory)"},
			&cli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn or error (FENC_LOG_LEVEL; default: info)"},
			&cli.StringFlag{Name: "log-format", Usage: "log as `FORMAT`: text or json (FENC_LOG_FORMAT; default: text)"},
			&cli.BoolFlag{Name: "once", Usage: "send what there is, and end", DisableDefaultText: true},
			&cli.StringFlag{Name: "retry-for", Usage: "with --once, try again for `DURATION` after a failure that may pass; given, also where nothing listens at first (FENC_RETRY_FOR; default: 10m)"},
			&cli.BoolFlag{Name: "status", Usage: "show what waits and what cannot be sent, and end", DisableDefaultText: true},
			&cli.BoolFlag{Name: "json", Usage: "with --status, as JSON", DisableDefaultText: true},
		}, walkFlags()),
		Action: func(c *cli.Context) error {
			if c.Bool("json") && !c.Bool("status") {
				return usagef("watch: --json is for --status: --log-format json has the log as JSON")
			}
			if err := checkExcludeFrom(c); err != nil {
				return err
			}
			settings, source, err := watchSettings(c)
			if err != nil {
				return err
			}
			path, err := queuePath(settings)
			if err != nil {
				return err
			}
			if c.Bool("status") {
				err = showQueue(s, path, c.Bool("json"))
			} else {
				err = runWatch(c, s, settings, source, path)
			}
			if err != nil {
				return fmt.Errorf("watch: %w", err)
			}
			return nil
		},
	}
}

// watchSettings reads the settings as they are now.
func watchSettings(c *cli.Context) (config.Transfer, config.Source, error) {
	settings, source, err := config.LoadTransfer(c.String("config"))
	if err == nil {
		err = overridden(c, settings.Override, "me", "server", "server-key", "name", "streams", "retry-for", "follow-links", "min-size", "max-size",
			"bwlimit", "queue", "log-level", "log-format")
	}
	settings.ExcludeFrom = append(settings.ExcludeFrom, c.StringSlice("exclude-from")...)
	settings.Exclude = append(settings.Exclude, c.StringSlice("exclude")...)
	if err == nil {
		settings.Watch, err = namedFolders(c, settings.Watch)
	}
	if err == nil {
		err = settings.Validate()
	}
	if err == nil && settings.Protocol == v3.Version {
		err = errors.New("fenc watch speaks protocol 4 alone: take protocol = 3 out of transfer.toml, or name another with --config")
	}
	if err != nil {
		return settings, source, &usageError{err}
	}
	return settings, source, nil
}

// queuePath is the file of the queue: the one that is set or, without one, watch.db in
// the user's state directory.
func queuePath(settings config.Transfer) (string, error) {
	if settings.Queue != "" {
		return settings.Queue, nil
	}
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" { // systemd.exec(5)
		return filepath.Join(dir, "watch.db"), nil
	}
	dir := os.Getenv("XDG_STATE_HOME")
	if runtime.GOOS == "windows" {
		dir = os.Getenv("LocalAppData")
	}
	if !filepath.IsAbs(dir) { // as the XDG Base Directory Specification has it
		home, err := os.UserHomeDir()
		if err != nil {
			return "", usagef("watch: no state directory for the queue (%w): name a file with --queue", err)
		}
		dir = filepath.Join(home, ".local", "state")
		if runtime.GOOS == "darwin" {
			dir = filepath.Join(home, "Library", "Application Support")
		}
	}
	return filepath.Join(dir, "fenc", "watch.db"), nil
}

// runWatch is fenc watch.
func runWatch(c *cli.Context, s Streams, settings config.Transfer, source config.Source, queueAt string) (err error) {
	ctx := c.Context
	log := newLog(s.Err, settings.LogLevel, settings.LogFormat).Logger
	folders, err := watchedFolders(settings, source, queueAt)
	if err != nil {
		return err
	}
	kept, err := queue.Open(queueAt)
	if errors.Is(err, queue.ErrInUse) {
		return usagef("%w: one fenc watch can watch several folders; for another server or client, name another file with --queue", err)
	}
	if err != nil {
		return explainQueue(err)
	}
	defer func() { err = errors.Join(err, kept.Close()) }()
	k, err := firstContact(ctx, c, s, log)
	if err != nil {
		return err
	}
	to := watch.Settings{
		Folders: folders, Queue: kept, Once: c.Bool("once"), Log: log,
		Explain: func(err error) error { return k.explain(err) },
		Notify:  func(state string) { daemon.SdNotify(false, state) }, // where there is no systemd, nobody hears it
	}
	cache := openDigests()
	if cache != nil {
		defer cache.Close() // what it could not keep costs time alone
	}
	takesAway := slices.ContainsFunc(folders, func(f watch.Folder) bool { return f.After != watch.Keep })
	to.Connect = func() (watch.Target, error) {
		next, err := knownContact(c, s, k)
		if err != nil {
			return watch.Target{}, err
		}
		k = next
		target, err := k.target()
		if cache != nil {
			target.Digests = digestsOf(cache, takesAway)
		}
		return target, err
	}
	err = watch.Run(ctx, to)
	switch {
	case to.Once && ctx.Err() != nil:
		return &interrupted{errors.New("what was not verified stays in the queue")}
	case err == nil && !to.Once:
		log.Info("stopped")
	}
	return err
}

// explainQueue adds what to do about a file that cannot be the queue.
func explainQueue(err error) error {
	switch {
	case errors.Is(err, queue.ErrNoQueue):
		return usagef("%w; name another file with --queue", err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return usagef("%w: name a file that you may write with --queue", err)
	}
	return err
}

// firstContact makes sure that there is a server's key to trust and an identity, as
// fenc send does.
func firstContact(ctx context.Context, c *cli.Context, s Streams, log *slog.Logger) (*contact, error) {
	settings, source, err := watchSettings(c)
	if err != nil {
		return nil, err
	}
	k, err := newContact(s, settings, source, only4Remedy)
	if err != nil {
		return nil, err
	}
	k.acceptNew, k.noInput, k.waits = c.Bool("accept-new"), c.Bool("no-input"), c.Bool("once")
	k.reporter = noticing(func(why error, pause time.Duration) {
		log.Info("no contact yet: trying again", "error", why, "in", pause.Round(time.Millisecond))
	})
	if err := k.pin(ctx); err != nil {
		return nil, k.explain(err)
	}
	return k, k.explain(k.register(ctx))
}

// knownContact is the contact as the files have it now: the server's key may have been
// pinned anew, the client registered again. before is the one before.
func knownContact(c *cli.Context, s Streams, before *contact) (*contact, error) {
	settings, source, err := watchSettings(c)
	if err != nil {
		return nil, err
	}
	if len(settings.ServerKey) == 0 {
		settings.ServerKey = before.settings.ServerKey // which may have had no file to go to
	}
	k, err := newContact(s, settings, source, only4Remedy)
	if err == nil && !k.known {
		err = usagef("%s is gone: bring it back, or register again with fenc join and start fenc watch anew", k.mePath)
	}
	if err == nil {
		k.waits = before.waits
	}
	return k, err
}

// target is the server and the client of a contact.
func (k *contact) target() (watch.Target, error) {
	me, err := config.LoadMe(k.mePath)
	if err != nil {
		return watch.Target{}, &usageError{err}
	}
	return watch.Target{
		Settings: send4.Settings{
			Settings: k.to(), Streams: k.settings.Streams, Attempts: k.settings.Attempts, RetryFor: time.Duration(k.settings.RetryFor),
		},
		Me: k.me, Client: me.ID + " " + strings.Join(k.settings.ServerKey, " "), // a server set up anew has another key
	}, nil
}

// register makes the client known to the server, where it is not yet.
func (k *contact) register(ctx context.Context) error {
	if k.known {
		return nil
	}
	session, err := k.openPatiently(ctx, session4.NewRun())
	if err == nil {
		session.Close()
	}
	return err
}
