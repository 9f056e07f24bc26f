package modes

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"fenc/config"
)

func importCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "turn transfer.info, me.info and port.info into TOML files",
		ArgsUsage: "DIR",
		UsageText: "fenc import [--force] DIR",
		Description: `Reads the first client's and server's files in DIR and writes transfer.toml,
me.toml and server.toml beside them. The old files stay as they are.

   fenc import ~/old-client`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "replace TOML files that exist"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usagef("import takes one DIR, got %d arguments", c.NArg())
			}
			written, err := config.Import(c.Args().First(), c.Bool("force"))
			for _, path := range written {
				fmt.Fprintln(s.Out, path)
			}
			if err != nil {
				return &usageError{fmt.Errorf("import: %w", err)}
			}
			return nil
		},
	}
}
