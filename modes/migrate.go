package modes

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
)

func migrateCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Usage:     "make the catalogue's tables, or bring them up to date",
		UsageText: "fenc migrate [--config server.toml] [--database DSN]",
		Description: `Does what the start of fenc serve does as well: makes the tables where there are
none, and changes those of an older fenc. Several at once do no harm: one does it, the
others wait. Where the servers' user may not make tables, run it as one who may.

   fenc migrate --config /etc/fenc/server.toml`,
		Flags: serverFlags(),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			settings, err := serverSettings(c)
			if err != nil {
				return err
			}
			password, err := config.System().DatabasePassword()
			if err != nil {
				return fmt.Errorf("migrate: %w", err)
			}
			before, now, err := model.Migrate(settings.Database, model.Options{Password: password.Reveal()})
			if err != nil {
				return fmt.Errorf("migrate: %w", explainDatabase(err, settings.Database))
			}
			name := model.DatabaseName(settings.Database)
			switch before {
			case now:
				_, err = fmt.Fprintf(s.Out, "%s: tables of version %d, as they were\n", name, now)
			case 0:
				_, err = fmt.Fprintf(s.Out, "%s: tables of version %d made\n", name, now)
			default:
				_, err = fmt.Fprintf(s.Out, "%s: tables of version %d, of version %d before\n", name, now, before)
			}
			return err
		},
	}
}
