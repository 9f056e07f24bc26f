package walk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"fenc/modes/send"
)

// maxLine is the longest line of a list, in bytes.
const maxLine = 64 << 10

// WalkList tells v of the files that a list names, a path a line; empty lines and
// those that begin with # or ; say nothing. With nul, a NUL byte ends each path
// instead, and all other bytes are part of it.
//
// A file goes by its path as it stands there, without what makes it absolute, not
// by its last part alone: a list has the files of many folders. What the walker
// leaves out of folders it leaves out here. A folder is skipped, since the list
// that find writes has what is in it too.
//
// The end of ctx ends it, even while the list is silent; reading goes on then
// until what is awaited comes.
func (w *Walker) WalkList(ctx context.Context, list io.Reader, nul bool, v Visitor) error {
	paths, ended := make(chan string), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(paths)
		ended <- ReadList(list, nul, func(path string) bool {
			select {
			case paths <- path:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	walk := &walk{walker: w, visitor: v, ctx: ctx}
	for {
		select {
		case listed, ok := <-paths:
			if !ok {
				return <-ended
			}
			if err := walk.listed(listed); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ReadList gives each path of a list, as WalkList has them, as long as give wants
// more.
func ReadList(list io.Reader, nul bool, give func(path string) bool) error {
	lines := bufio.NewScanner(list)
	lines.Buffer(nil, maxLine)
	if nul {
		lines.Split(splitNUL)
	}
	n := 0
	for lines.Scan() {
		n++
		line := lines.Text()
		if !nul {
			if n == 1 {
				line = strings.TrimPrefix(line, "\ufeff")
			}
			if line = strings.TrimSuffix(line, "\r"); strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
				continue
			}
		}
		if line != "" && !give(line) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read path %d: %w", n+1, send.Plain(err))
	}
	return nil
}

func splitNUL(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// listed is one path of a list.
func (k *walk) listed(osPath string) error {
	clean := filepath.Clean(osPath)
	below := strings.TrimLeft(filepath.ToSlash(clean[len(filepath.VolumeName(clean)):]), "/")
	if below == ".." || strings.HasPrefix(below, "../") {
		k.visitor.Fail(osPath, errors.New("climbs out of the folder that fenc runs in, and so has no name: run it further up, or name the file as an argument"))
		return nil
	}
	info, err := os.Lstat(osPath)
	if err != nil {
		k.visitor.Fail(osPath, send.Plain(err))
		return nil
	}
	for at, r := range below { // a folder above that is left out
		if r == '/' && excludes(k.walker.rules, below[:at], true) {
			return nil
		}
	}
	if info.Mode()&fs.ModeSymlink != 0 && k.walker.follow {
		if followed, err := os.Stat(osPath); err == nil {
			info = followed
		}
	}
	if info.IsDir() {
		if !excludes(k.walker.rules, below, true) {
			k.visitor.Skip(osPath, "is a folder, and a list names files (find DIR -type f writes one)")
		}
		return nil
	}
	return k.entry(filepath.Clean(osPath), path.Clean(below), below, nil)
}
