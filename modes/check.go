package modes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/dustin/go-humanize/english"
	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/check"
	"fenc/modes/progress"
	"fenc/wire"
)

func checkCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "compare the catalogue with the storage, and mend what differs",
		UsageText: "fenc check [--config server.toml] [--database DSN] [--storage DIR] [--deep] [--repair | --rebuild]",
		Description: `Looks whether everything that the catalogue has is in the storage, with its
size, and the other way round, beside the running server or without it. It
prints what differs, a line each, and exits with 1 if something does that it has
not mended.

--deep reads all content and compares it with the digests. --repair mends what
content proves of itself: a file that the tree does not show is shown again;
content that is lost is taken from the tree if it is whole there, and its file
is not counted as verified otherwise, so that it can be sent again; content that
the catalogue does not know is catalogued if it is what its label says; clients
and revocations that the storage lists and it does not know are taken up. Nothing
that may be somebody's is removed.

--rebuild makes a lost database anew from the storage, while no server runs. It
reads all content. Open invites and uploads under way are lost; clients and their
keys are taken from the storage.

   fenc check --deep`,
		Flags: serverFlags(
			&cli.StringFlag{Name: "storage", Usage: "the server's storage, a `DIR` (FENC_STORAGE; default: files)"},
			&cli.BoolFlag{Name: "deep", Usage: "read all content and compare digests"},
			&cli.BoolFlag{Name: "repair", Usage: "mend what can be mended without guessing"},
			&cli.BoolFlag{Name: "rebuild", Usage: "make a lost database anew from the storage"},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("rebuild") && (c.Bool("repair") || c.Bool("deep")) {
				return usagef("--rebuild reads and mends everything: give it alone")
			}
			settings, err := serverSettings(c, "storage")
			if err != nil {
				return err
			}
			a := audit{streams: s, settings: settings, options: check.Options{Deep: c.Bool("deep"), Repair: c.Bool("repair")}}
			if !c.Bool("rebuild") {
				return a.compare(c)
			}
			if err := a.rebuild(c.Context); err != nil {
				return fmt.Errorf("check: %w", explainPermission(err, a.settings.Storage))
			}
			return nil
		},
	}
}

// audit is one fenc check.
type audit struct {
	streams  Streams
	settings config.Server
	options  check.Options
}

// compare checks beside whoever serves.
func (a audit) compare(c *cli.Context) error {
	store, err := openBeside(a.settings)
	if err != nil {
		return fmt.Errorf("check: %w: name the server's with --storage, or with --config its server.toml", explainStorage(err, a.settings.Storage))
	}
	if !a.settings.InBuckets() { // of which nobody can tell who else writes there
		served, err := storage.Served(a.settings.Storage)
		if err != nil {
			return errors.Join(err, store.Close())
		}
		a.options.Alone = !served
	}
	if folder, ok := store.(*storage.Folder); ok {
		if a.options.Roster, err = folder.Note(archive.RosterNote); err != nil {
			return errors.Join(fmt.Errorf("check: %w", err), store.Close())
		}
	}
	err = beside(c, a.settings, model.Options{Beside: true, Fold: foldOf(store), KeepVersions: int64(a.settings.KeepVersions)}, func(catalogue *model.Catalogue) error {
		return a.run(c.Context, catalogue, store)
	})
	return errors.Join(err, store.Close())
}

// foldOf is how names are compared that a folder takes for the same; nil: as they are.
func foldOf(store storage.Store) func(string) string {
	if folder, ok := store.(*storage.Folder); ok && folder.Folds() {
		return model.Fold
	}
	return nil
}

// rebuild makes the database under another name, and gives it its own when it is
// complete.
func (a audit) rebuild(ctx context.Context) error {
	if a.settings.InPostgres() {
		return &usageError{errors.New("a lost catalogue in PostgreSQL is restored from its backup, and then mended by fenc check --repair; --rebuild makes one in SQLite: name its path with --database")}
	}
	if a.settings.InBuckets() {
		return &usageError{errors.New("objects in buckets do not say whose files they are: restore the database from a backup (fenc backup), or by PostgreSQL's own means")}
	}
	path := a.settings.Database
	if there, err := hasContent(path); err != nil {
		return err
	} else if there {
		return &usageError{fmt.Errorf("there is a database at %s: fenc check --repair mends it; move it away, with its -wal and -shm, to make it anew", path)}
	}
	store, err := storage.OpenBeside(a.settings.Storage) // not to make one where there is none
	if err == nil {
		err = store.Close()
	}
	if err == nil {
		store, err = storage.OpenFolder(a.settings.Storage)
	}
	if err != nil {
		return err
	}
	defer store.Close()
	unfinished := path + ".rebuild"
	for _, left := range []string{unfinished, unfinished + "-wal", unfinished + "-shm"} {
		if err := os.Remove(left); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	catalogue, err := model.Open(unfinished, model.Options{Fold: foldOf(store), KeepVersions: int64(a.settings.KeepVersions)})
	if err != nil {
		return err
	}
	a.options.Repair, a.options.Alone = true, true
	var differs *differsError
	enrolled, err := archive.Enrol(catalogue, store)
	if err == nil {
		err = a.run(ctx, catalogue, store)
	}
	if closed := catalogue.Close(); closed != nil || err != nil && !errors.As(err, &differs) {
		return errors.Join(err, closed)
	}
	// A log that the lost database left would be taken for the new one's.
	for _, left := range []string{path + "-wal", path + "-shm"} {
		if err := os.Rename(left, left+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("the new database is at %s", unfinished))
		}
	}
	if err := os.Rename(unfinished, path); err != nil {
		return errors.Join(err, fmt.Errorf("the new database is at %s", unfinished))
	}
	fmt.Fprintf(a.streams.Out, "database made anew: %s\n", path)
	if !enrolled {
		fmt.Fprintln(a.streams.Out, "clients have no keys in it: give each another with fenc clients rekey NAME")
	}
	return err
}

// differsError: something differs that was not mended.
type differsError struct{ left int64 }

func (e *differsError) Error() string {
	return english.Plural(int(e.left), "difference is", "differences are") + " left"
}

// run prints what differs, and returns a *differsError if something stays.
func (a audit) run(ctx context.Context, catalogue *model.Catalogue, store check.Store) error {
	var out io.Writer = a.streams.Out
	if a.options.Deep || a.options.Repair {
		var total int64
		if a.options.Deep {
			total = totalBytes(catalogue)
		}
		reading := progress.NewReading(progress.Options{Out: a.streams.Out, Err: a.streams.Err}, total)
		defer reading.Close()
		out, a.options.Progress = reading, reading.Add
	}
	a.options.Report = func(f check.Finding) {
		what := f.Path
		switch {
		case what == "" && f.Object == "":
			what = "client " + f.Client
		case what == "":
			what = f.Object
		}
		line := fmt.Sprintf("%s: %s", wire.Printable(what), f.Text)
		switch {
		case f.Mended != "":
			line += "; mended: " + f.Mended
		case f.Remedy != "":
			line += "; " + f.Remedy
		}
		fmt.Fprintln(out, line)
	}
	sum, err := check.Run(ctx, catalogue, store, a.options)
	if err != nil {
		return err
	}
	count := func(n int64, of string) string { return fmt.Sprintf("%d %s", n, english.PluralWord(int(n), of, "")) }
	fmt.Fprintf(out, "compared %s of %s with %s: %s, %d mended\n",
		count(sum.Files, "file"), count(sum.Bytes, "byte"), count(sum.Objects, "object"), count(sum.Findings, "difference"), sum.Mended)
	if left := sum.Findings - sum.Mended; left > 0 {
		return &differsError{left}
	}
	return nil
}

// totalBytes is what the catalogue has; 0 where it does not say.
func totalBytes(catalogue *model.Catalogue) (total int64) {
	clients, err := catalogue.Clients()
	if err != nil {
		return 0
	}
	for _, k := range clients {
		total += k.Bytes
	}
	return total
}
