package modes

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/wire"
)

// fileLine is a file as fenc files --json prints it, one object a line.
type fileLine struct {
	Client     string    `json:"client"`
	Name       string    `json:"name"` // as it was sent
	Path       string    `json:"path"` // below the storage
	Bytes      int64     `json:"bytes"`
	CRC32      string    `json:"crc32,omitempty"`  // 8 hexadecimal digits; protocol 3
	BLAKE3     string    `json:"blake3,omitempty"` // 64 hexadecimal digits; protocol 4
	Verified   bool      `json:"verified"`
	Version    int64     `json:"version"` // 1, and one more with each replacement
	ReceivedAt time.Time `json:"received_at"`
}

func filesCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "files",
		Usage:     "list the catalogue's files",
		UsageText: "fenc files [--config server.toml] [--database DSN] [--client NAME] [--unverified] [--json]",
		Description: `Lists what the server has, beside the running server or without it. A file is
not verified if its content was found lost or damaged since.

   fenc files --client grace`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read settings from `FILE` (default: server.toml, where there is one)"},
			&cli.StringFlag{Name: "database", Usage: "read the catalogue in `DSN`, the path of a SQLite file (FENC_DATABASE; default: fenc.db)"},
			&cli.StringFlag{Name: "client", Usage: "only the files of the client `NAME`"},
			&cli.BoolFlag{Name: "unverified", Usage: "only files that are not verified"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each file"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			settings, _, err := config.LoadServer(c.String("config"))
			if err == nil {
				err = overridden(c, settings.Override, "database")
			}
			if err == nil {
				err = settings.Validate()
			}
			if err != nil {
				return &usageError{err}
			}
			catalogue, err := model.Open(settings.Database, model.Options{ReadOnly: true})
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					err = fmt.Errorf("%w: name the server's with --database, or with --config its server.toml", err)
				}
				return fmt.Errorf("files: %w", explainPermission(err))
			}
			defer catalogue.Close()
			if name := c.String("client"); name != "" {
				if _, ok := catalogue.ClientNamed(name); !ok {
					return fmt.Errorf("files: no client is called %q", name)
				}
			}
			var lines []fileLine
			for _, f := range catalogue.Files() {
				if name := c.String("client"); name != "" && name != f.Client || c.Bool("unverified") && f.File.Verified {
					continue
				}
				line := fileLine{
					Client: f.Client, Name: f.File.FileName, Path: f.File.FilePath, Bytes: f.File.Size,
					Verified: f.File.Verified, Version: f.File.Version, ReceivedAt: f.File.ReceivedAt.Time,
				}
				if f.File.Digest.IsZero() {
					line.CRC32 = fmt.Sprintf("%08x", f.File.Checksum)
				} else {
					line.BLAKE3 = f.File.Digest.String()
				}
				lines = append(lines, line)
			}
			if c.Bool("json") {
				return printJSON(s, lines)
			}
			return printTable(s, lines)
		},
	}
}

func printJSON(s Streams, lines []fileLine) error {
	out := json.NewEncoder(s.Out)
	for _, l := range lines {
		if err := out.Encode(l); err != nil {
			return fmt.Errorf("files: %w", err)
		}
	}
	return nil
}

func printTable(s Streams, lines []fileLine) error {
	table := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tNAME\tBYTES\tCHECKSUM\tVERIFIED\tVERSION\tRECEIVED\tPATH")
	for _, l := range lines {
		verified := "yes"
		if !l.Verified {
			verified = "NO"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%d\t%s\t%s\n", wire.Printable(l.Client), wire.Printable(l.Name), l.Bytes, cmp.Or(l.CRC32, l.BLAKE3[:min(16, len(l.BLAKE3))]),
			verified, l.Version, l.ReceivedAt.Format(time.RFC3339), wire.Printable(l.Path))
	}
	return table.Flush()
}
