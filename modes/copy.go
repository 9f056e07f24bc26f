package modes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/model"
	"fenc/model/storage"
	"fenc/modes/archive"
	"fenc/modes/check"
	"fenc/modes/control"
	"fenc/modes/move"
	"fenc/modes/progress"
	"fenc/wire"
)

func copyCommand(s Streams) *cli.Command {
	return &cli.Command{
		Name:      "copy",
		Usage:     "move a server to another database and storage",
		UsageText: "fenc copy [--config server.toml] [--database DSN] [--storage DIR] --to OTHER.toml",
		Description: `Copies the catalogue and all content to where another server.toml says, from a
SQLite file and a folder to PostgreSQL and buckets, back, or between any of
them. All content is proved by its digest on the way. What is here is only read.

Stop the server first, all of them where several share a catalogue: clients wait
and go on at the new one, as long as their retry_for. What clients have sent of
files that are not complete is sent again. If the copy is interrupted, the same
command goes on where it ended; until it is complete, no server starts on it.

Content that is damaged or missing is named and not copied, and the exit status
is 1: its file does not count as verified at the new server, and is sent again.

FENC_ variables of the environment hold for --config alone. The credentials of
both come from where a server has them.

   fenc copy --config /etc/fenc/server.toml --to /etc/fenc/cluster.toml`,
		Flags: serverFlags(
			&cli.StringFlag{Name: "storage", Usage: "the server's storage, a `DIR` (FENC_STORAGE; default: files)"},
			&cli.StringFlag{Name: "to", Usage: "copy to the database and the storage of this server.toml, a `FILE`"},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.String("to") == "" {
				return usagef("copy: --to names the server.toml of the new server: fenc copy --help has an example")
			}
			from, err := serverSettings(c, "storage")
			if err != nil {
				return err
			}
			to, err := settingsOfCopy(c.String("to"))
			if err != nil {
				return err
			}
			m := moving{streams: s, from: from, to: to, toPath: c.String("to")}
			if err := m.run(c.Context); err != nil {
				if c.Context.Err() != nil {
					err = &interrupted{errors.New(goesOn)}
				}
				return fmt.Errorf("copy: %w", err)
			}
			return nil
		},
	}
}

// settingsOfCopy reads where to copy to: from the file alone, since what stands in the
// environment over a file would stand over both.
func settingsOfCopy(path string) (config.Server, error) {
	lookup := config.System()
	if getenv := lookup.Getenv; getenv != nil {
		lookup.Getenv = func(name string) string {
			if strings.HasPrefix(name, "FENC_") {
				return ""
			}
			return getenv(name)
		}
	}
	settings, _, err := lookup.LoadServer(path)
	if err == nil {
		err = settings.Validate()
	}
	if err == nil {
		err = keepDatabaseApart(settings)
	}
	if err != nil {
		return settings, &usageError{err}
	}
	return settings, nil
}

// moving is one fenc copy.
type moving struct {
	streams  Streams
	from, to config.Server
	toPath   string
	began    time.Time
}

// programOfCopy is what PostgreSQL lists its connections by.
const programOfCopy = "fenc copy"

func (m moving) run(ctx context.Context) (err error) {
	m.began = time.Now()
	if err := m.refuseOne(); err != nil {
		return &usageError{err}
	}
	for _, settings := range []config.Server{m.from, m.to} {
		if _, err := control.Dial(settings.ControlPath()).Health(ctx); !errors.Is(err, control.ErrNotRunning) {
			return errors.Join(fmt.Errorf("a server runs: %s", stopFirst), err)
		}
	}
	source, err := m.openSource()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Catalogue.Close(), source.Store.Close()) }()
	target, err := m.openTarget(ctx)
	if err != nil {
		return err
	}
	if err := m.begin(source, target); err != nil {
		return errors.Join(err, target.Catalogue.Close(), target.Store.Close())
	}
	totals, err := source.Catalogue.CopyTotals()
	if err != nil {
		return errors.Join(err, target.Catalogue.Close(), target.Store.Close())
	}
	reading := progress.NewReading(progress.Options{Out: m.streams.Out, Err: m.streams.Err}, totals.Bytes)
	sum, err := move.Run(ctx, source, target, move.Options{Progress: reading.Add, Report: func(f move.Fault) { m.report(reading, f) }})
	reading.Close()
	if err != nil {
		err = errors.Join(explainCopy(err), target.Catalogue.Close(), target.Store.Close())
	} else {
		err = m.end(target)
	}
	if err != nil {
		return err
	}
	sum.Clients = totals.Clients
	m.tell(sum, totals.Uploads)
	if sum.Faults > 0 {
		return fmt.Errorf("%d contents are missing or damaged where they were copied from: all else is copied", sum.Faults)
	}
	return nil
}

// goesOn is what becomes of a copy that ends early.
const goesOn = "the same command goes on where this one ended"

// explainCopy adds to what ended a copy what to do about it.
func explainCopy(err error) error {
	switch {
	case errors.Is(err, move.ErrChanged):
		return fmt.Errorf("%w: %s; %s", err, stopFirst, goesOn)
	case errors.Is(err, model.ErrOneName):
		return fmt.Errorf("%w: choose a storage on a file system that tells upper from lower case", err)
	}
	return fmt.Errorf("%w: once that is mended, %s", err, goesOn)
}

const stopFirst = "stop the server first; clients wait and go on, as long as their retry_for"

// refuseOne refuses to copy a server's things onto themselves.
func (m moving) refuseOne() error {
	if m.from.InPostgres() == m.to.InPostgres() {
		from, to := m.from.Database, m.to.Database
		if !m.from.InPostgres() {
			from, to = resolved(from), resolved(to)
		}
		if from == to {
			return fmt.Errorf("both are of the database %s: --to names the settings of the new server", model.DatabaseName(m.to.Database))
		}
	}
	one := false
	if !m.from.InBuckets() && !m.to.InBuckets() {
		one = resolved(m.from.Storage) == resolved(m.to.Storage)
	} else if m.from.S3.Endpoint == m.to.S3.Endpoint {
		one = slices.ContainsFunc(m.from.Buckets(), func(b config.Bucket) bool { return slices.Contains(m.to.Buckets(), b) })
	}
	if one {
		return fmt.Errorf("both are of the storage %s: content is copied to another one; in buckets another prefix is enough", m.to.Storage)
	}
	return nil
}

// openSource opens what is copied, and keeps servers from it as far as that can be done.
func (m moving) openSource() (side move.Side, err error) {
	if m.from.InBuckets() {
		store, err := bucketsOf(m.from, nil)
		if err != nil {
			return side, &usageError{err}
		}
		side.Store = store
	} else {
		beside, err := storage.OpenBeside(m.from.Storage) // not to make one where there is none
		if err == nil {
			err = beside.Close()
		}
		var store *storage.Folder
		if err == nil {
			store, err = storage.OpenFolder(m.from.Storage)
		}
		if err != nil {
			return side, explainCopied(err, m.from)
		}
		side.Store = store
	}
	side.Catalogue, err = openCatalogue(m.from, model.Options{ReadOnly: true, Program: programOfCopy})
	if err != nil {
		return side, errors.Join(explainMissing(err, m.from), side.Store.Close())
	}
	if err := refuseServed(side.Catalogue, m.from); err != nil {
		return side, errors.Join(err, side.Catalogue.Close(), side.Store.Close())
	}
	if err := explainUnfinished(side.Catalogue.RefuseUnfinished(), m.from); err != nil {
		return side, errors.Join(err, side.Catalogue.Close(), side.Store.Close())
	}
	return side, nil
}

func explainCopied(err error, settings config.Server) error {
	if errors.Is(err, storage.ErrLocked) {
		return fmt.Errorf("%w: %s", err, stopFirst)
	}
	return explainStorage(err, settings.Storage)
}

// refuseServed refuses a catalogue that servers work with, where that can be seen.
func refuseServed(catalogue *model.Catalogue, settings config.Server) error {
	served, err := catalogue.Served()
	if err == nil && served {
		err = fmt.Errorf("servers work with the catalogue in %s: stop all of them first; clients wait and go on, as long as their retry_for", model.DatabaseName(settings.Database))
	}
	return err
}

// explainUnfinished adds to the refusal of an unfinished copy what to do about it.
func explainUnfinished(err error, settings config.Server) error {
	if errors.Is(err, model.ErrUnfinished) {
		return &usageError{fmt.Errorf("%s: %w: run the fenc copy again that made it, which goes on where it ended", model.DatabaseName(settings.Database), err)}
	}
	return err
}

// openTarget opens what is copied to, and makes it where there is nothing.
func (m moving) openTarget(ctx context.Context) (side move.Side, err error) {
	o := model.Options{Beside: true, Program: programOfCopy}
	if m.to.InBuckets() {
		if side.Store, err = openBuckets(ctx, m.to, nil, newLog(m.streams.Err, "warn", "text").Logger); err != nil {
			return side, err
		}
	} else {
		store, err := storage.OpenFolder(m.to.Storage)
		if err != nil {
			return side, explainCopied(err, m.to)
		}
		side.Store, o.Fold = store, foldOf(store)
	}
	password, err := config.System().DatabasePassword()
	if err == nil {
		_, _, err = model.Migrate(m.to.Database, model.Options{Password: password.Reveal(), Program: programOfCopy})
	}
	if err == nil {
		side.Catalogue, err = openCatalogue(m.to, o)
	}
	if err != nil {
		return side, errors.Join(explainDatabase(err, m.to.Database), side.Store.Close())
	}
	return side, nil
}

// begin marks the target as a copy of the source, if it can be.
func (m moving) begin(source, target move.Side) error {
	if err := refuseServed(target.Catalogue, m.to); err != nil {
		return err
	}
	identity, err := source.Catalogue.Identity()
	if err != nil {
		return err
	}
	of, err := target.Catalogue.Copying()
	if err != nil {
		return err
	}
	if of == "" {
		if used, err := holdsContent(target.Store); err != nil {
			return err
		} else if used {
			return &usageError{fmt.Errorf("the storage %s is not empty: copy to another one, or remove what is there if it is nobody's", m.to.Storage)}
		}
	}
	err = target.Catalogue.BeginCopy(identity)
	name := model.DatabaseName(m.to.Database)
	switch {
	case errors.Is(err, model.ErrNotEmpty):
		return &usageError{fmt.Errorf("%s: %w: copy to an empty database, and a storage of its own", name, err)}
	case errors.Is(err, model.ErrOtherCopy):
		return &usageError{fmt.Errorf("%s: %w: go on with that one, or copy to an empty database and a storage of its own", name, err)}
	}
	return err
}

// holdsContent reports whether a store has any objects.
func holdsContent(store storage.Store) (bool, error) {
	if folder, ok := store.(*storage.Folder); ok {
		return archive.Used(folder)
	}
	found := errors.New("content")
	err := store.(check.Store).Objects(func(storage.Listed) error { return found }, func(string) error { return nil })
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// end completes the copy, and closes it.
func (m moving) end(target move.Side) error {
	folder, ok := target.Store.(*storage.Folder)
	if !ok {
		return errors.Join(target.Catalogue.EndCopy(), target.Catalogue.Close(), target.Store.Close())
	}
	if err := target.Catalogue.Close(); err != nil {
		return errors.Join(err, folder.Close())
	}
	var err error
	target.Catalogue, err = openCatalogue(m.to, model.Options{Fold: foldOf(folder), Program: programOfCopy})
	if err != nil {
		return errors.Join(err, folder.Close())
	}
	return move.Show(target, newLog(m.streams.Err, "warn", "text").Logger)
}

func (m moving) report(out io.Writer, f move.Fault) {
	what, then := "", "; not counted as verified in the copy: its client sends it again"
	if f.Version > 0 {
		what, then = fmt.Sprintf("of its earlier version %d, ", f.Version), "; the version is left out"
	}
	fmt.Fprintf(out, "%s: %s%s%s\n", wire.Printable(f.Path), what, f.Text, then)
}

// tell says what was copied, and what is to be done next.
func (m moving) tell(sum move.Summary, uploads int64) {
	out := m.streams.Out
	there := ""
	if sum.There > 0 {
		there = fmt.Sprintf(", %d of them by an earlier run", sum.There)
	}
	fmt.Fprintf(out, "copied and verified: %d files and %d earlier versions of %d bytes%s, %d clients, in %.1f s\n",
		sum.Files, sum.Versions, sum.Bytes, there, sum.Clients, time.Since(m.began).Seconds())
	if uploads > 0 {
		fmt.Fprintf(out, "uploads that are not complete, which clients begin again: %d\n", uploads)
	}
	fmt.Fprintf(out, "next: %s\n", m.key())
	fmt.Fprintf(out, "      fenc check --deep --config %s\n", m.toPath)
	fmt.Fprintf(out, "      fenc serve --config %s, at the address that clients know; do not start the old one again\n", m.toPath)
}

// key says what is to be done about the server's key, which is not copied.
func (m moving) key() string {
	from, to := absolute(m.from.KeyPath()), absolute(m.to.KeyPath())
	old, err := os.ReadFile(from)
	if err != nil {
		return fmt.Sprintf("give the new server the old one's key, in %s: clients trust no other", to)
	}
	if has, err := os.ReadFile(to); err == nil && bytes.Equal(has, old) {
		return fmt.Sprintf("%s is the old server's key already", to)
	} else if err == nil {
		return fmt.Sprintf("replace %s by the old server's key, %s: clients trust no other", to, from)
	}
	return fmt.Sprintf("copy the server's key, which clients trust: %s to %s", from, to)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
