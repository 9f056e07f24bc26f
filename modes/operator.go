package modes

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
)

// serverFlags say whose catalogue an operator's command is about.
func serverFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read the server's settings from `FILE` (default: server.toml, where there is one)"},
		&cli.StringFlag{Name: "database", Usage: "the server's catalogue, the path of a SQLite file or postgres://USER@HOST/NAME (FENC_DATABASE; default: fenc.db)"},
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
	catalogue, err := openCatalogue(settings, o)
	if err != nil {
		return fmt.Errorf("%s: %w", commandName(c), explainMissing(err, settings))
	}
	if err := errors.Join(do(catalogue), catalogue.Close()); err != nil {
		return fmt.Errorf("%s: %w", commandName(c), err)
	}
	return nil
}

// errand is what a command does over the catalogue of a server.
type errand struct {
	*cli.Context
	args      []string // as many as the words of the command's ArgsUsage
	settings  config.Server
	catalogue *model.Catalogue
}

// errandOf is the action of such a command. Its options of the names in keys override
// settings.
func errandOf(o model.Options, do func(errand) error, keys ...string) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c)
		if err != nil {
			return err
		}
		settings, err := serverSettings(c, keys...)
		if err != nil {
			return err
		}
		return beside(c, settings, o, func(catalogue *model.Catalogue) error { return do(errand{c, args, settings, catalogue}) })
	}
}

// arguments returns the command's arguments, of which there must be as many as the
// words of its ArgsUsage.
func arguments(c *cli.Context) ([]string, error) {
	switch {
	case c.Args().Present() && len(c.Command.Subcommands) > 0:
		return nil, unknownCommand(c.App.Name+" "+commandName(c), c.Command.Subcommands, c.Args().First())
	case c.Command.ArgsUsage == "":
		return nil, noArguments(c)
	}
	if c.NArg() != len(strings.Fields(c.Command.ArgsUsage)) {
		return nil, usagef("%s takes %s, got %d arguments: fenc %[1]s --help shows how", commandName(c), c.Command.ArgsUsage, c.NArg())
	}
	return c.Args().Slice(), nil
}
