package modes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"

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

From other programs' habits:

   find . -newer last -type f | fenc send --files-from -
   fenc send --bwlimit "08:00,1M 19:00,off" --remove-source-files outbox/

` + exitText(),
		Flags: slices.Concat(senderFlags(), []cli.Flag{
			&cli.StringFlag{Name: "protocol", Usage: "speak this `VERSION`, 3 or 4 (FENC_PROTOCOL; default: 4)"},
			&cli.StringFlag{Name: "as", Usage: "call the one FILE `NAME` at the server (default: its own name; stdin for -)"},
			&cli.StringFlag{Name: "retry-for", Usage: "try again for `DURATION` after a failure that may pass; given, also where nothing listens at first (FENC_RETRY_FOR; default: 10m)"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would be sent, and send nothing", DisableDefaultText: true},
		}, filterFlags(), showFlags()),
		Action: func(c *cli.Context) error {
			settings, source, err := config.LoadTransfer(c.String("config"))
			if err == nil {
				err = overridden(c, settings.Override, "me", "server", "server-key", "name", "protocol", "streams", "retry-for", "follow-links", "min-size", "max-size", "bwlimit")
			}
			if err == nil && c.Args().Present() {
				err = settings.Override("files", c.Args().Slice()...)
			}
			settings.Exclude = append(settings.Exclude, c.StringSlice("exclude")...)
			settings.ExcludeFrom = append(settings.ExcludeFrom, c.StringSlice("exclude-from")...)
			if err == nil {
				err = checkExcludeFrom(c)
			}
			if err == nil {
				err = settings.Validate()
			}
			if err != nil {
				return &usageError{err}
			}
			lists := c.StringSlice("files-from")
			if len(lists) > 0 && !c.Args().Present() {
				settings.Files = nil // of transfer.toml, which are for when nothing is named
			}
			if len(settings.Files)+len(lists) == 0 {
				return usagef("send: nothing to send: name a FILE, or set files in transfer.toml")
			}
			if settings.Protocol == v3.Version {
				if err := checkProtocol3(c, settings); err != nil {
					return err
				}
				v := showing(c, s, false)
				err = v.end(runSend3(c.Context, s, settings, source, c.String("as"), v))
			} else {
				v := showing(c, s, false)
				err = v.end(runSend4(c.Context, s, settings, source, sendOptions{
					as: c.String("as"), acceptNew: c.Bool("accept-new"), noInput: c.Bool("no-input"), dryRun: c.Bool("dry-run"),
					lists: lists, nul: c.Bool("from0"), readAll: c.Bool("checksum"), remove: c.Bool("remove-source-files"),
				}, v))
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
