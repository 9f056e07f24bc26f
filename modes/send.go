package modes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"sync"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send"
	"fenc/wire"
	"fenc/wire/v3"
)

func sendCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "send",
		Usage:     "send files to a server and have each verified",
		ArgsUsage: "FILE...",
		UsageText: "fenc send [--config transfer.toml] [--server ADDR] [--exclude PATTERN] [--streams N] [--dry-run] [FILE...]",
		Description: `Sends each FILE, a file, a folder with all that is below it, or - for standard
input; or the files of transfer.toml where none is named. Prints a line for each:
name, bytes, seconds, checksum, and verified, unchanged or why not. What a cut
connection has left is gone on with, and what the server has is not sent again.

   fenc send report.pdf photos/

fenc join makes you a client of a server. Without an invite, the first contact
registers NAME, where the server lets anybody register, and writes me.toml, which
is who you are to that server from then on: keep it secret, and keep a copy.

   fenc send --server files.example.org:1234 --name grace report.pdf

Exit status: 0 all verified, 1 a transfer failed, 2 wrong usage or
configuration, 3 refused by the server, 4 the server has another key than the
pinned one, 130 interrupted.`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: transfer.toml, where there is one)"},
			&cli.StringFlag{Name: "me", Usage: "identity `FILE`; written if it does not exist (FENC_ME; default: me.toml)"},
			&cli.StringFlag{Name: "server", Usage: "send to `ADDR`, host:port (FENC_SERVER; default: 127.0.0.1:1234)"},
			&cli.StringFlag{Name: "name", Usage: "register as `NAME` (FENC_NAME; default: you@this-machine)"},
			&cli.StringFlag{Name: "protocol", Usage: "speak this `VERSION`, 3 or 4 (FENC_PROTOCOL; default: 4)"},
			&cli.StringFlag{Name: "as", Usage: "call the one FILE `NAME` at the server (default: its own name; stdin for -)"},
			&cli.StringFlag{Name: "server-key", Usage: "trust the server whose key has this `FINGERPRINT` (FENC_SERVER_KEY)"},
			&cli.BoolFlag{Name: "accept-new", Usage: "trust a server's key that is seen for the first time, without asking", DisableDefaultText: true},
			&cli.BoolFlag{Name: "no-input", Usage: "never ask", DisableDefaultText: true},
			&cli.StringFlag{Name: "streams", Usage: "send over `N` connections, 1 to 16 (FENC_STREAMS; default: 1)"},
			&cli.StringFlag{Name: "retry-for", Usage: "try again for `DURATION` after a failure that may pass (FENC_RETRY_FOR; default: 10m)"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what matches `PATTERN`, as .gitignore has them; may be repeated"},
			&cli.StringSliceFlag{Name: "exclude-from", Usage: "leave out what matches a pattern in `FILE`; may be repeated"},
			&cli.BoolFlag{Name: "follow-links", Usage: "send what symbolic links lead to, instead of skipping them", DisableDefaultText: true},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would be sent, and send nothing", DisableDefaultText: true},
		},
		Action: func(c *cli.Context) error {
			if err := checkOptionsFirst(c); err != nil {
				return err
			}
			settings, source, err := config.LoadTransfer(c.String("config"))
			if err == nil {
				err = overridden(c, settings.Override, "me", "server", "server-key", "name", "protocol", "streams", "retry-for", "follow-links")
			}
			if err == nil && c.Args().Present() {
				err = settings.Override("files", c.Args().Slice()...)
			}
			settings.Exclude = append(settings.Exclude, c.StringSlice("exclude")...)
			settings.ExcludeFrom = append(settings.ExcludeFrom, c.StringSlice("exclude-from")...)
			if err == nil {
				err = settings.Validate()
			}
			if err != nil {
				return &usageError{err}
			}
			if len(settings.Files) == 0 {
				return usagef("send: nothing to send: name a FILE, or set files in transfer.toml")
			}
			if settings.Protocol == v3.Version {
				err = runSend3(c.Context, s, settings, source, c.String("as"))
			} else {
				err = runSend4(c.Context, s, settings, source, sendOptions{
					as: c.String("as"), acceptNew: c.Bool("accept-new"), noInput: c.Bool("no-input"), dryRun: c.Bool("dry-run"),
				})
			}
			if err != nil {
				return fmt.Errorf("send: %w", err)
			}
			return nil
		},
	}
}

// registrationName is the name to register: the one asked for, or user@host.
func registrationName(name string) (string, error) {
	if name == "" {
		u, err := user.Current()
		host, hostErr := os.Hostname()
		if err := errors.Join(err, hostErr); err != nil {
			return "", fmt.Errorf("no name to register under: give one with --name (%w)", err)
		}
		name = u.Username + "@" + host
	}
	if err := wire.CheckName(name); err != nil {
		return "", fmt.Errorf("cannot register: %w: choose another with --name", err)
	}
	return name, nil
}

// hintAtDefaults says where the server's address came from, when nobody chose it.
func hintAtDefaults(err error, settings config.Transfer, source config.Source) error {
	if source.Path == "" && settings.Server == config.DefaultTransfer().Server &&
		!errors.Is(err, send.ErrRefused) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%w (the default address: no transfer.toml was found; --server names another)", err)
	}
	return err
}

// interrupted is a context.Canceled that says what it left undone.
type interrupted struct{ left error }

func (e *interrupted) Error() string { return "interrupted: " + e.left.Error() }
func (e *interrupted) Unwrap() error { return context.Canceled }

// tally prints results and counts them.
type tally struct {
	out io.Writer

	mu            sync.Mutex
	files, failed int
	last          error
}

func (t *tally) report(r send.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.files++
	if r.Err != nil {
		t.failed++
		t.last = r.Err
	}
	r.Print(t.out, wire.Printable)
}

// err is the error for the whole, nil if every file was verified.
func (t *tally) err(ctx context.Context) error {
	switch {
	case t.failed == 0:
		return nil
	case ctx.Err() != nil:
		return &interrupted{fmt.Errorf("%d of %d files not verified", t.failed, t.files)}
	case t.files == 1 && errors.Is(t.last, send.ErrRefused):
		return send.ErrRefused
	}
	return fmt.Errorf("%d of %d files not verified", t.failed, t.files)
}
