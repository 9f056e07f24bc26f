package modes

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/modes/get4"
)

func getCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "bring your files back from the server",
		ArgsUsage: "PATH...",
		UsageText: "fenc get [--dir DIR] [--replace] PATH...",
		Description: `Brings each PATH, a file or a folder as fenc list shows them, or . for all of your
files, below DIR, verifies it and prints a line for each. What a cut connection has
left is gone on with; what is here already is left alone.`,
		Flags: readFlags(
			&cli.StringFlag{Name: "dir", Usage: "write below `DIR`", Value: "."},
			&cli.BoolFlag{Name: "replace", Usage: "replace files that are here with other content", DisableDefaultText: true},
			&cli.StringFlag{Name: "retry-for", Usage: "try again for `DURATION` after a failure that may pass (FENC_RETRY_FOR; default: 10m)"},
		),
		Action: func(c *cli.Context) error {
			if err := checkOptionsFirst(c); err != nil {
				return err
			}
			if !c.Args().Present() {
				return usagef("get: nothing to get: name a PATH; fenc list shows what is there")
			}
			var paths []string
			for _, arg := range c.Args().Slice() {
				path, err := remotePath(arg)
				if err != nil {
					return err
				}
				paths = append(paths, path)
			}
			k, err := reading(c, s, "retry-for")
			if err != nil {
				return fmt.Errorf("get: %w", err)
			}
			if err := get(c, k, paths); err != nil {
				return fmt.Errorf("get: %w", err)
			}
			return nil
		},
	}
}

func get(c *cli.Context, k *contact, paths []string) error {
	tally := &tally{out: k.streams.Out}
	settings := get4.Settings{
		Settings: k.to(), Dir: c.String("dir"), RetryFor: time.Duration(k.settings.RetryFor), Replace: c.Bool("replace"), Attempts: k.settings.Attempts,
		Notice: func(text string) { fmt.Fprintf(k.streams.Err, "fenc: %s\n", text) },
	}
	err := get4.Run(c.Context, settings, k.me, paths, tally.report)
	switch {
	case c.Context.Err() != nil:
		return &interrupted{fmt.Errorf("%d files verified; getting again goes on where this ended", tally.files-tally.failed)}
	case err != nil:
		return k.explain(err)
	}
	return tally.err(c.Context)
}
