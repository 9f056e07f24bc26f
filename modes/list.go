package modes

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/get4"
	"fenc/modes/session4"
	"fenc/wire"
	"fenc/wire/v4"
)

// readFlags are those of the commands that read back.
func readFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: transfer.toml, where there is one)"},
		&cli.StringFlag{Name: "me", Usage: "identity `FILE` (FENC_ME; default: me.toml)"},
		&cli.StringFlag{Name: "server", Usage: "ask the server at `ADDR`, host:port (FENC_SERVER; default: server of transfer.toml)"},
		&cli.StringFlag{Name: "server-key", Usage: "trust the server whose key has this `FINGERPRINT` (FENC_SERVER_KEY)"},
	}, more...)
}

// reading prepares a command that reads back: only a client that the server knows
// has something there.
func reading(c *cli.Context, s Streams, keys ...string) (*contact, error) {
	settings, source, err := config.LoadTransfer(c.String("config"))
	if err == nil {
		err = overridden(c, settings.Override, append(keys, "me", "server", "server-key")...)
	}
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		return nil, &usageError{err}
	}
	if settings.Protocol != v4.Version {
		return nil, usagef("protocol %d cannot read back: only a client of protocol 4 can", settings.Protocol)
	}
	k, err := newContact(s, settings, source, only4Remedy)
	if err != nil {
		return nil, err
	}
	if !k.known {
		return nil, usagef("%s is not there, and without it the server does not know you: fenc join or fenc send make it", k.mePath)
	}
	k.waits = slices.Contains(keys, "retry-for")
	return k, k.pin(c.Context)
}

// entryLine is a file as fenc list --json prints it, one object a line.
type entryLine struct {
	Path       string    `json:"path"`
	Bytes      uint64    `json:"bytes"`
	BLAKE3     string    `json:"blake3"`
	Mode       string    `json:"mode"` // permission bits, octal
	ModifiedAt time.Time `json:"modified_at"`
	ReceivedAt time.Time `json:"received_at"`
}

func listCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list your files on the server",
		ArgsUsage: "PREFIX",
		UsageText: "fenc list [--json] [PREFIX]",
		Description: `PREFIX is a file, or a folder of which all is listed; all of your files without it.

   fenc list photos/`,
		Flags: readFlags(&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each file", DisableDefaultText: true}),
		Action: func(c *cli.Context) error {
			if c.NArg() > 1 {
				return usagef("list takes one PREFIX, got %d arguments", c.NArg())
			}
			prefix, err := remotePath(c.Args().First())
			if err != nil {
				return err
			}
			k, err := reading(c, s)
			if err != nil {
				return fmt.Errorf("list: %w", err)
			}
			if err := list(c.Context, k, prefix, c.Bool("json")); err != nil {
				return fmt.Errorf("list: %w", k.explain(err))
			}
			return nil
		},
	}
}

// remotePath is a path as the server has it, of one that was typed: a folder may
// have a "/" behind it, and "." is all.
func remotePath(typed string) (string, error) {
	path := typed
	for len(path) > 1 && path[len(path)-1] == '/' {
		path = path[:len(path)-1]
	}
	if path == "" || path == "." || path == "/" {
		return "", nil
	}
	if err := wire.CheckPath(path); err != nil {
		return "", usagef("%s: %w", wire.Printable(typed), err)
	}
	return path, nil
}

func list(ctx context.Context, k *contact, prefix string, asJSON bool) error {
	session, err := k.open(ctx, session4.NewRun())
	if err != nil {
		return err
	}
	defer session.Close()
	table := tabwriter.NewWriter(k.streams.Out, 0, 8, 2, ' ', 0)
	out := jsonLines(k.streams.Out)
	files := 0
	err = get4.List(ctx, session, prefix, func(e v4.Entry) error {
		files++
		line := entryLine{
			Path: e.Path, Bytes: e.Size, BLAKE3: e.Digest.String(), Mode: fmt.Sprintf("%04o", e.Mode),
			ModifiedAt: time.Unix(0, e.ModTime).UTC(), ReceivedAt: time.Unix(0, e.Received).UTC(),
		}
		if asJSON {
			return out.Encode(line)
		}
		_, err := fmt.Fprintf(table, "%s\t%d\t%s\t%.16s\t%s\n", fs.FileMode(e.Mode), line.Bytes, line.ModifiedAt.Format(time.RFC3339), line.BLAKE3, wire.Printable(e.Path))
		if files%1000 == 0 && err == nil {
			err = table.Flush()
		}
		return err
	})
	if err != nil {
		return err
	}
	if files == 0 && prefix != "" {
		return fmt.Errorf("nothing of yours there is called %s", wire.Printable(prefix))
	}
	return table.Flush()
}
