package modes

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
)

// serverFlags say whose catalogue an operator's command is about.
func serverFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read the server's settings from `FILE` (default: server.toml, where there is one)"},
		&cli.StringFlag{Name: "database", Usage: "the server's catalogue, the path of a SQLite file (FENC_DATABASE; default: fenc.db)"},
	}, more...)
}

// serverSettings reads the settings of the server that the command is about.
func serverSettings(c *cli.Context, keys ...string) (config.Server, error) {
	at, _ := given(c, "config")
	settings, _, err := config.LoadServer(at.String("config"))
	if err == nil {
		err = overridden(c, settings.Override, append(keys, "database")...)
	}
	if err == nil {
		err = settings.Validate()
	}
	if err != nil {
		return settings, &usageError{err}
	}
	return settings, nil
}

// commandName is the command as it is typed, without fenc.
func commandName(c *cli.Context) string {
	return strings.TrimPrefix(c.Command.HelpName, c.App.Name+" ")
}

// beside runs do over the catalogue of a server, which may be running.
func beside(c *cli.Context, settings config.Server, o model.Options, do func(*model.Catalogue) error) error {
	catalogue, err := model.Open(settings.Database, o)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: name the server's with --database, or with --config its server.toml; fenc serve makes it at its first start", err)
		}
		return fmt.Errorf("%s: %w", commandName(c), explainPermission(err))
	}
	if err := errors.Join(do(catalogue), catalogue.Close()); err != nil {
		return fmt.Errorf("%s: %w", commandName(c), err)
	}
	return nil
}

// arguments returns the command's arguments, of which there must be as many as the
// words of its ArgsUsage.
func arguments(c *cli.Context) ([]string, error) {
	if err := checkOptionsFirst(c); err != nil {
		return nil, err
	}
	if c.NArg() != len(strings.Fields(c.Command.ArgsUsage)) {
		return nil, usagef("%s takes %s, got %d arguments: fenc %[1]s --help shows how", commandName(c), c.Command.ArgsUsage, c.NArg())
	}
	return c.Args().Slice(), nil
}
