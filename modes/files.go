package modes

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/check"
	"fenc/wire"
)

// fileLine is a file as fenc files --json prints it, one object a line.
type fileLine struct {
	Client     string    `json:"client"`
	Name       string    `json:"name"`           // as it was sent
	Path       string    `json:"path,omitempty"` // below the storage; not of an earlier version
	Bytes      int64     `json:"bytes"`
	CRC32      string    `json:"crc32,omitempty"`  // 8 hexadecimal digits; protocol 3
	BLAKE3     string    `json:"blake3,omitempty"` // 64 hexadecimal digits; protocol 4
	Verified   bool      `json:"verified"`
	Version    int64     `json:"version"`           // 1, and one more with each replacement
	Earlier    bool      `json:"earlier,omitempty"` // it has been replaced, and is kept
	ReceivedAt time.Time `json:"received_at"`
}

func filesCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "files",
		Usage:     "list the catalogue's files",
		UsageText: "fenc files [--client NAME] [--unverified] [--versions] [--json]\n   fenc files get [--version N] [--out FILE] CLIENT NAME",
		Description: `Lists what the server has, beside the running server or without it. A file is
not verified if its content was found lost or damaged since. --versions lists
earlier versions too, where they are kept (keep_versions).

   fenc files --client grace`,
		Flags: serverFlags(
			&cli.StringFlag{Name: "client", Usage: "only the files of the client `NAME`"},
			&cli.BoolFlag{Name: "unverified", Usage: "only files that are not verified", DisableDefaultText: true},
			&cli.BoolFlag{Name: "versions", Usage: "earlier versions as well", DisableDefaultText: true},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each file", DisableDefaultText: true},
		),
		Subcommands: []*cli.Command{filesGetCommand(s)},
		Action: errandOf(model.Options{ReadOnly: true}, func(e errand) error {
			return explainClient(listFiles(e.Context, s, e.catalogue), e.String("client"))
		}),
	}
}

// listFiles prints files as they are read: a list may be longer than memory.
func listFiles(c *cli.Context, s Streams, catalogue *model.Catalogue) error {
	print, flush := filePrinter(s.Out, c.Bool("json"))
	err := catalogue.EachFile(c.String("client"), func(page []model.File) error {
		var versions map[int64][]model.File
		if c.Bool("versions") && !c.Bool("unverified") {
			var err error
			if versions, err = catalogue.Versions(page); err != nil {
				return err
			}
		}
		for _, f := range page {
			if c.Bool("unverified") && f.Verified {
				continue
			}
			if err := print(lineOfFile(f, false)); err != nil {
				return err
			}
			for _, v := range versions[f.ID] {
				if err := print(lineOfFile(v, true)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return errors.Join(err, flush())
}

func lineOfFile(f model.File, earlier bool) fileLine {
	line := fileLine{
		Client: f.Client.Name, Name: f.FileName, Path: f.FilePath, Bytes: f.Size, Verified: f.Verified,
		Version: f.Version, Earlier: earlier, ReceivedAt: f.ReceivedAt.Time,
	}
	if earlier {
		line.Path = ""
	}
	if f.Digest.IsZero() {
		line.CRC32 = fmt.Sprintf("%08x", f.Checksum)
	} else {
		line.BLAKE3 = f.Digest.String()
	}
	return line
}

// tableRows is how many rows of a table are laid out together.
const tableRows = 1000

// filePrinter returns what prints a file, and what ends the list.
func filePrinter(out io.Writer, asJSON bool) (print func(fileLine) error, flush func() error) {
	if asJSON {
		e := jsonLines(out)
		return func(l fileLine) error { return e.Encode(l) }, func() error { return nil }
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "CLIENT\tNAME\tBYTES\tCHECKSUM\tVERIFIED\tVERSION\tRECEIVED\tPATH")
	rows := 0
	return func(l fileLine) error {
		verified := "yes"
		if !l.Verified {
			verified = "NO"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%d\t%s\t%s\n", wire.Printable(l.Client), wire.Printable(l.Name), l.Bytes,
			cmp.Or(l.CRC32, l.BLAKE3[:min(16, len(l.BLAKE3))]), verified, l.Version, l.ReceivedAt.Format(time.RFC3339), cmp.Or(wire.Printable(l.Path), "(earlier version)"))
		if rows++; rows%tableRows == 0 {
			return table.Flush()
		}
		return nil
	}, table.Flush
}

func filesGetCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name: "get", Usage: "copy a file or an earlier version of it out of the storage", ArgsUsage: "CLIENT NAME",
		UsageText: "fenc files get [--version N] [--out FILE] CLIENT NAME",
		Description: `Writes the content, verified, to FILE, which must not exist yet; by default to
the last part of NAME in the working directory.

   fenc files get --version 2 --out report-2.pdf grace report.pdf`,
		Flags: serverFlags(
			&cli.StringFlag{Name: "storage", Usage: "the server's storage, a `DIR` (FENC_STORAGE; default: files)"},
			&cli.Int64Flag{Name: "version", Usage: "the earlier version `N`, as fenc files --versions lists it", DefaultText: "the present one"},
			&cli.StringFlag{Name: "out", Usage: "write to `FILE`, or to standard output where it is -"},
		),
		Action: func(c *cli.Context) error {
			args, err := arguments(c)
			if err != nil {
				return err
			}
			if c.IsSet("version") && c.Int64("version") < 1 {
				return usagef("--version %d: versions count from 1", c.Int64("version"))
			}
			settings, err := serverSettings(c, "storage")
			if err != nil {
				return err
			}
			return beside(c, settings, model.Options{ReadOnly: true}, func(catalogue *model.Catalogue) error {
				f, err := catalogue.FileNamed(args[0], args[1], c.Int64("version"))
				switch {
				case errors.Is(err, model.ErrNoFile) && c.IsSet("version"):
					return fmt.Errorf("client %q has no version %d of %q: fenc files --versions lists what is kept", args[0], c.Int64("version"), args[1])
				case errors.Is(err, model.ErrNoFile):
					return fmt.Errorf("client %q has no file %q: fenc files lists them", args[0], args[1])
				case err != nil:
					return explainClient(err, args[0])
				}
				return copyFile(c, s, settings, f)
			})
		},
	}
}

// copyFile writes a file's content where the command says, if it is what the
// catalogue says.
func copyFile(c *cli.Context, s Streams, settings config.Server, f model.File) (err error) {
	store, err := openBeside(settings)
	if err != nil {
		return fmt.Errorf("%w: name the server's with --storage, or with --config its server.toml", err)
	}
	defer store.Close()
	key := f.Object.String()
	if f.Pack != nil {
		key = f.Pack.String()
	}
	object, err := store.Open(key)
	if errors.Is(err, storage.ErrGone) {
		return fmt.Errorf("%s: its content is not in the storage: if that stays so, fenc check tells more", wire.Printable(f.FileName))
	}
	if err != nil {
		return explainPermission(err, settings.Storage)
	}
	defer object.Close()
	content := func() io.Reader { return io.NewSectionReader(object, f.PackOffset, f.Size) }
	whole, err := check.Proves(f, content())
	if err == nil && !whole {
		err = errors.New("its content is damaged: fenc check --deep --repair")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", wire.Printable(f.FileName), err)
	}
	path := c.String("out")
	if path == "-" {
		_, err := io.Copy(s.Out, content())
		return err
	}
	if path == "" {
		path = filepath.Base(filepath.FromSlash(f.FilePath))
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: name another with --out", err)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content())
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	fmt.Fprintf(s.Out, "%s: version %d, %d bytes, written to %s\n", wire.Printable(f.FileName), f.Version, f.Size, path)
	return nil
}
