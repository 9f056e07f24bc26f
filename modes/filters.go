package modes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"fenc/config"
	"fenc/modes/send"
	"fenc/modes/send/digests"
	"fenc/modes/send/walk"
	"fenc/modes/send4"
	"fenc/wire"
)

// filterFlags say which files are sent, and what becomes of them here, by the names
// that rsync and rclone have for it.
func filterFlags() []cli.Flag {
	return append(walkFlags(),
		listFlag("send the files that `FILE` names, a path a line (-: standard input), under these paths; may be repeated"), nulFlag(),
		&cli.BoolFlag{Name: "checksum", Aliases: []string{"c"}, Usage: "compare by content: read every file, also one that looks as it did when it was sent", DisableDefaultText: true},
		&cli.BoolFlag{Name: "remove-source-files", Usage: "remove each file here once it is verified there, unless it has changed since it was read", DisableDefaultText: true},
		bandwidthFlag(),
	)
}

// walkFlags say which files of a folder are sent.
func walkFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what matches `PATTERN`, as .gitignore has them; may be repeated"},
		&cli.StringSliceFlag{Name: "exclude-from", Usage: "leave out what matches a pattern in `FILE`; may be repeated"},
		&cli.StringFlag{Name: "min-size", Usage: "leave out files under `SIZE`, such as 1K or 10MiB (FENC_MIN_SIZE)"},
		&cli.StringFlag{Name: "max-size", Usage: "leave out files over `SIZE` (FENC_MAX_SIZE)"},
		&cli.BoolFlag{Name: "follow-links", Usage: "send what symbolic links lead to, instead of skipping them", DisableDefaultText: true},
	}
}

// checkExcludeFrom refuses files of --exclude-from that cannot be read.
func checkExcludeFrom(c *cli.Context) error {
	for _, path := range c.StringSlice("exclude-from") {
		info, err := os.Stat(path)
		if err == nil && info.IsDir() {
			err = syscall.EISDIR
		}
		if err != nil {
			return usagef("--exclude-from %s: %w: name a file of patterns, one a line", path, send.Plain(err))
		}
	}
	return nil
}

func listFlag(usage string) cli.Flag { return &cli.StringSliceFlag{Name: "files-from", Usage: usage} }

func nulFlag() cli.Flag {
	return &cli.BoolFlag{Name: "from0", Aliases: []string{"0"}, Usage: "a NUL byte ends each path of --files-from, as find -print0 writes them", DisableDefaultText: true}
}

func bandwidthFlag() cli.Flag {
	return &cli.StringFlag{Name: "bwlimit", Usage: "take `RATE` bytes a second at most, such as 10M, or by a timetable: \"08:00,1M 19:00,off\" (FENC_BWLIMIT)"}
}

// only4 are the options of fenc send that protocol 3 has no way to follow.
var only4 = []string{"exclude", "exclude-from", "files-from", "from0", "min-size", "max-size", "follow-links", "checksum", "remove-source-files",
	"bwlimit", "streams", "retry-for", "dry-run", "accept-new", "server-key"}

// checkProtocol3 refuses what would not happen by protocol 3.
func checkProtocol3(c *cli.Context, settings config.Transfer) error {
	for _, name := range only4 {
		if c.IsSet(name) {
			return usagef("--%s is for protocol 4, and protocol 3 was asked for, which sends single files as they are: leave one of the two out", name)
		}
	}
	for key, set := range map[string]bool{"min_size": settings.MinSize > 0, "max_size": settings.MaxSize > 0, "bwlimit": settings.BWLimit.Bounds()} {
		if set {
			return usagef("%s is set and is for protocol 4, and protocol 3 was asked for: leave one of the two out", key)
		}
	}
	return nil
}

// openList opens a list of paths.
func openList(path string, s Streams) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(s.In), nil
	}
	f, err := os.Open(path)
	if err == nil {
		if info, statErr := f.Stat(); statErr == nil && info.IsDir() {
			f.Close()
			err = &fs.PathError{Op: "read", Path: path, Err: errors.New("is a folder: name a file that holds paths, a line each; a folder itself is sent as an argument")}
		}
	}
	if err != nil {
		return nil, usagef("--files-from %s: %w", path, send.Plain(err))
	}
	return f, nil
}

// listedPaths are the paths in the lists of --files-from.
func listedPaths(c *cli.Context, s Streams) (paths []string, err error) {
	for _, name := range c.StringSlice("files-from") {
		list, err := openList(name, s)
		if err != nil {
			return nil, err
		}
		err = errors.Join(walk.ReadList(list, c.Bool("from0"), func(path string) bool {
			paths = append(paths, path)
			return true
		}), list.Close())
		if err != nil {
			return nil, usagef("--files-from %s: %w", name, err)
		}
	}
	return paths, nil
}

// digestsOf is the cache as the options want it: not asked where content decides.
func digestsOf(cache *digests.Cache, readAll bool) send4.Digests {
	if readAll {
		return unasked{cache}
	}
	return cache
}

// unasked remembers digests and tells none.
type unasked struct{ send4.Digests }

func (unasked) Get(fs.FileInfo) (digest [32]byte, ok bool) { return digest, false }

// removal removes files here once they are verified there.
type removal struct {
	send.Reporter
	warn func(text string)

	mu   sync.Mutex
	left int // verified, and not removed
}

// End implements send.Reporter.
func (m *removal) End(p *send.Progress, r send.Result) {
	if r.Err == nil && r.Path != "" {
		m.remove(r)
	}
	m.Reporter.End(p, r)
}

func (m *removal) remove(r send.Result) {
	err := send.Remove(r.Path, r.State)
	if err == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left++
	m.warn(fmt.Sprintf("%s not removed: %s", wire.Printable(r.Path), strings.ReplaceAll(err.Error(), "\n", "; ")))
}

// err says that something is left that was to be removed.
func (m *removal) err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.left {
	case 0:
		return nil
	case 1:
		return errors.New("1 file is verified and was not removed here")
	}
	return fmt.Errorf("%d files are verified and were not removed here", m.left)
}
