package modes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/model"
)

// backupName is the name of a backup by its time, so that names sort by age.
const backupName = "fenc-20060102T150405.000Z.db"

func backupCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "backup",
		Usage:     "copy the catalogue while the server runs",
		ArgsUsage: "DIR",
		UsageText: "fenc backup [--config server.toml] [--database DSN] DIR",
		Description: `Writes a consistent copy of the catalogue into DIR, under a name that holds the
time, beside the running server or without it. The copy is checked and on the
disk when its path is printed.

Copy the storage after it, and keep a copy of the server's key, once: without
the key no client trusts the server again. To restore, stop the server, move the
database away with its -wal and -shm, put the copy in its place, and run
fenc check --repair: it takes up what the storage has received since, and from
the storage's list of clients who has joined and who was revoked.

   fenc backup /var/backups/fenc`,
		Flags: serverFlags(),
		Action: func(c *cli.Context) error {
			args, err := arguments(c)
			if err != nil {
				return err
			}
			settings, err := serverSettings(c)
			if err != nil {
				return err
			}
			if settings.InPostgres() {
				return &usageError{fmt.Errorf("backup: the catalogue is in PostgreSQL, whose own tools copy it while servers run: pg_dump --format=custom, or a standby; %s", model.DatabaseName(settings.Database))}
			}
			dir := args[0]
			if err := keepApart("backup", dir, settings.Storage); err != nil {
				return &usageError{err}
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return fmt.Errorf("backup: %w", explainPermission(err, dir))
			}
			var path string
			err = beside(c, settings, model.Options{Beside: true}, func(catalogue *model.Catalogue) (err error) {
				for range 100 { // another backup may be of the same millisecond
					path = filepath.Join(dir, time.Now().UTC().Format(backupName))
					if err = catalogue.Backup(path); !errors.Is(err, fs.ErrExist) {
						break
					}
					time.Sleep(time.Millisecond)
				}
				return explainPermission(err, path)
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.Out, path)
			return err
		},
	}
}
