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
left is gone on with; what is here already is left alone.

   fenc get --dir restored photos/ report.pdf`,
		Flags: append(readFlags(
			&cli.StringFlag{Name: "dir", Usage: "write below `DIR`", Value: "."},
			&cli.BoolFlag{Name: "replace", Usage: "replace files that are here with other content", DisableDefaultText: true},
			listFlag("get what `FILE` names, a path a line (-: standard input); may be repeated"), nulFlag(),
			bandwidthFlag(),
			&cli.StringFlag{Name: "retry-for", Usage: "try again for `DURATION` after a failure that may pass; given, also where nothing listens at first (FENC_RETRY_FOR; default: 10m)"},
		), showFlags()...),
		Action: func(c *cli.Context) error {
			listed, err := listedPaths(c, s)
			if err != nil {
				return err
			}
			if !c.Args().Present() && len(listed) == 0 {
				return usagef("get: nothing to get: name a PATH; fenc list shows what is there")
			}
			var paths []string
			for _, arg := range append(c.Args().Slice(), listed...) {
				path, err := remotePath(arg)
				if err != nil {
					return err
				}
				paths = append(paths, path)
			}
			k, err := reading(c, s, "retry-for", "bwlimit")
			if err != nil {
				return fmt.Errorf("get: %w", err)
			}
			v := showing(c, s, true)
			if err := v.end(get(c, k, paths, v)); err != nil {
				return fmt.Errorf("get: %w", err)
			}
			return nil
		},
	}
}

func get(c *cli.Context, k *contact, paths []string, v *show) error {
	settings := get4.Settings{
		Settings: k.to(), Dir: c.String("dir"), RetryFor: time.Duration(k.settings.RetryFor), Replace: c.Bool("replace"), Attempts: k.settings.Attempts,
	}
	settings.Waits = v.waits
	err := get4.Run(c.Context, settings, k.me, paths, v)
	return v.outcome(c.Context, err, k.explain)
}
