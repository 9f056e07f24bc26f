package modes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send/walk"
	"fenc/modes/watch"
	"fenc/wire"
)

// namedFolders are the folders of the command line, and where it names none those of
// transfer.toml.
func namedFolders(c *cli.Context, tables []config.Watch) ([]config.Watch, error) {
	ofOne := []string{"as", "settle", "rescan", "after", "move-to"}
	if !c.Args().Present() {
		for _, key := range ofOne {
			if c.IsSet(key) {
				return nil, fmt.Errorf("--%s is for folders that the command line names: name a DIR, or write %s into the [[watch]] tables of transfer.toml", key, strings.ReplaceAll(key, "-", "_"))
			}
		}
		for i, w := range tables {
			if w.As == "" {
				tables[i].As = walk.RootName(w.Dir)
			}
		}
		return tables, nil
	}
	if c.IsSet("as") && c.NArg() > 1 {
		return nil, fmt.Errorf("--as %q is for one DIR, and there are %d: write [[watch]] tables into transfer.toml", c.String("as"), c.NArg())
	}
	var folders []config.Watch
	for _, dir := range c.Args().Slice() {
		w := config.DefaultWatch()
		if err := overridden(c, w.Override, ofOne...); err != nil {
			return nil, err
		}
		if !c.IsSet("as") {
			w.As = walk.RootName(dir) // nothing for "."
		}
		w.Dir = dir
		folders = append(folders, w)
	}
	return folders, nil
}

// watchedFolders turns the settings into folders to watch.
func watchedFolders(settings config.Transfer, source config.Source, queue string) ([]watch.Folder, error) {
	if len(settings.Watch) == 0 {
		return nil, usagef("nothing to watch: name a DIR, or write a [[watch]] table into transfer.toml")
	}
	queue, err := filepath.Abs(queue)
	if err != nil {
		return nil, err
	}
	private := []string{resolved(queue)}
	var folders []watch.Folder
	for _, w := range settings.Watch {
		f, err := watchedFolder(settings, w)
		if err != nil {
			return nil, &usageError{err}
		}
		for _, other := range folders {
			if err := keepFoldersApart(other, f); err != nil {
				return nil, &usageError{err}
			}
		}
		if f.MoveTo != "" {
			private = append(private, resolved(f.MoveTo))
		}
		folders = append(folders, f)
	}
	mePath, _ := config.System().MePath(settings.Me, source)
	for i := range folders {
		var needed string
		if folders[i].After != watch.Keep {
			needed = source.Path
		}
		folders[i].Walk.Withhold = withheld(mePath, needed)
		real := resolved(folders[i].Dir)
		dir := folders[i].Dir
		folders[i].Walk.Prune = func(path string) bool {
			below, err := filepath.Rel(dir, path)
			if err != nil {
				return false
			}
			path = filepath.Join(real, below)
			for _, p := range private {
				if path == p || p == private[0] && strings.HasPrefix(path, p+"-") || path == private[0]+".lock" {
					return true
				}
			}
			return false
		}
	}
	return folders, nil
}

func watchedFolder(settings config.Transfer, w config.Watch) (f watch.Folder, err error) {
	f = watch.Folder{
		Name: w.As, Settle: time.Duration(w.Settle), Rescan: time.Duration(w.Rescan), After: watch.After(w.After),
		Walk: walk.Options{
			Exclude: append(append([]string{}, w.Exclude...), settings.Exclude...), ExcludeFrom: settings.ExcludeFrom,
			MinSize: int64(settings.MinSize), MaxSize: int64(settings.MaxSize), FollowLinks: settings.FollowLinks,
		},
	}
	if f.Dir, err = filepath.Abs(w.Dir); err != nil {
		return f, err
	}
	if info, err := os.Stat(f.Dir); err != nil {
		return f, fmt.Errorf("%s: %w: make the folder, or name another", w.Dir, send.Plain(err))
	} else if !info.IsDir() {
		return f, fmt.Errorf("%s: is a file, and folders are watched: name the folder that it is in, or use fenc send", w.Dir)
	}
	if _, err := walk.New(f.Walk); err != nil {
		return f, err
	}
	if f.Name != "" {
		if err := wire.CheckPath(f.Name); err != nil {
			return f, fmt.Errorf("%s: as: %w", w.Dir, err)
		}
	}
	if w.MoveTo == "" {
		return f, nil
	}
	if f.MoveTo, err = filepath.Abs(w.MoveTo); err != nil {
		return f, err
	}
	if resolved(f.MoveTo) == resolved(f.Dir) {
		return f, fmt.Errorf("%s: move_to is the folder itself: name another", w.Dir)
	}
	return f, checkSameDevice(f.Dir, f.MoveTo)
}

// checkSameDevice refuses a folder to move to that a rename cannot reach.
func checkSameDevice(dir, moveTo string) error {
	from, err := os.Stat(dir)
	if err != nil {
		return err
	}
	to, err := os.Stat(moveTo)
	for at := moveTo; err != nil && at != filepath.Dir(at); {
		at = filepath.Dir(at)
		to, err = os.Stat(at)
	}
	if err == nil && send.StateOf(from).Device != send.StateOf(to).Device {
		return fmt.Errorf("move_to %s is on another file system than %s: choose a folder on the same one", moveTo, dir)
	}
	return nil
}

// keepFoldersApart refuses two folders of which one lies in the other, or whose files
// could have the same names.
func keepFoldersApart(a, b watch.Folder) error {
	within := func(inner, outer string) bool {
		rel, err := filepath.Rel(outer, inner)
		return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
	}
	da, db := resolved(a.Dir), resolved(b.Dir)
	switch {
	case within(da, db), within(db, da):
		return fmt.Errorf("%s and %s are one in the other: watch the outer one alone", a.Dir, b.Dir)
	case a.Name == "", b.Name == "", a.Name == b.Name, strings.HasPrefix(a.Name, b.Name+"/"), strings.HasPrefix(b.Name, a.Name+"/"):
		return fmt.Errorf("files of %s and %s could have the same name at the server (%q and %q): choose names with as, in [[watch]] tables of transfer.toml", a.Dir, b.Dir, a.Name, b.Name)
	}
	return nil
}
