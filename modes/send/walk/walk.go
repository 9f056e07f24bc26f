// Package walk finds the files to send while they are sent: those that are named,
// and those below folders that are named.
package walk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"fenc/modes/send"
	"fenc/wire"
)

// Options say what is left out, and what links are taken for.
type Options struct {
	// Exclude has patterns as lines of gitignore(5) have them, matched with the
	// path below each root; a folder that is left out is not looked into.
	Exclude []string
	// ExcludeFrom has paths of files of such lines. Exclude wins over them.
	ExcludeFrom []string
	// MinSize and MaxSize are the bytes of the shortest and the longest file that is
	// not left out; a MaxSize of 0 is no bound.
	MinSize, MaxSize int64
	// FollowLinks sends what symbolic links lead to; else they are skipped.
	FollowLinks bool
	// Prune, unless nil, leaves out the file or folder at a path, without a word.
	Prune func(path string) bool
	// Withhold, unless nil, says why a file must not be sent; empty where it may.
	Withhold func(path string, info fs.FileInfo) (why string)
}

// File is a file to send.
type File struct {
	Path string      // to open
	Name string      // to send it under: relative, "/"-separated
	Info fs.FileInfo // what Path leads to
}

// Visitor is told what a walk comes by. An error of File ends the walk.
type Visitor interface {
	// File is a regular file with a name that can be sent.
	File(File) error
	// Fail is something that should be sent and cannot be.
	Fail(path string, err error)
	// Skip is something that is not sent, and why.
	Skip(path, why string)
}

// FolderVisitor is a Visitor that is told of folders, too.
type FolderVisitor interface {
	Visitor
	// Folder is a folder that is listed next. fs.SkipDir leaves it out, another error
	// ends the walk.
	Folder(path string) error
}

// Walker walks roots.
type Walker struct {
	rules            []rule
	minSize, maxSize int64
	follow           bool
	prune            func(path string) bool
	withhold         func(path string, info fs.FileInfo) (why string)
}

// New makes a walker. The error names the file and the line of a pattern that is
// none.
func New(o Options) (*Walker, error) {
	rules, err := o.rules()
	if err != nil {
		return nil, err
	}
	w := &Walker{rules: rules, minSize: o.MinSize, maxSize: o.MaxSize, follow: o.FollowLinks, prune: o.Prune, withhold: o.Withhold}
	if w.maxSize == 0 {
		w.maxSize = math.MaxInt64
	}
	if w.prune == nil {
		w.prune = func(string) bool { return false }
	}
	if w.withhold == nil {
		w.withhold = func(string, fs.FileInfo) string { return "" }
	}
	return w, nil
}

// Walk tells v of the file at root or, where root is a folder, of the files below
// it, in the order of their names' bytes. A file goes by its last part, what is in
// a folder by the folder's name and the path below it; below "." and "..", and
// what else has no name of its own, by that path alone. as, unless empty, is the
// name of the root instead. A root that is a link is followed.
//
// Of a tree, it holds no more than the names in the folders on the way down.
func (w *Walker) Walk(ctx context.Context, root, as string, v Visitor) error {
	info, err := os.Stat(root)
	if err != nil {
		v.Fail(root, send.Plain(err))
		return nil
	}
	name := cmp.Or(as, RootName(root))
	walk := &walk{walker: w, visitor: v, ctx: ctx}
	if info.IsDir() {
		return walk.folder(root, name, "", []fs.FileInfo{info})
	}
	if why := w.offSize(info); why != "" { // it was named: unlike those of a folder, not in silence
		v.Skip(root, why)
		return nil
	}
	if why := w.withhold(root, info); why != "" {
		v.Fail(root, errors.New(why))
		return nil
	}
	if !info.Mode().IsRegular() {
		v.Fail(root, errors.New(kindOf(info.Mode())+", so its size cannot be known: pipe it in, as in fenc send - --as NAME"))
		return nil
	}
	return walk.file(root, name, info)
}

// WalkBelow is Walk for what is at the path below the folder root, "/"-separated, as
// Walk comes by it there: nothing where it is left out, or not there (any more). The
// root's own path is "". name is what the names of root's files begin with.
func (w *Walker) WalkBelow(ctx context.Context, root, name, below string, v Visitor) error {
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = errors.New("is no folder")
	}
	if err != nil {
		v.Fail(root, send.Plain(err))
		return nil
	}
	k := &walk{walker: w, visitor: v, ctx: ctx}
	osPath, at, above := root, "", []fs.FileInfo{info}
	if below == "" {
		return k.folder(root, name, "", above)
	}
	parts := strings.Split(below, "/")
	for _, part := range parts[:len(parts)-1] {
		osPath, at = filepath.Join(osPath, part), path.Join(at, part)
		info, err := os.Lstat(osPath)
		isLink := err == nil && info.Mode()&fs.ModeSymlink != 0
		if isLink && w.follow {
			info, err = os.Stat(osPath)
		}
		if err != nil || !info.IsDir() || isLink && isAmong(above, info) || excludes(w.rules, at, true) || w.prune(osPath) {
			return nil
		}
		above = append(above, info)
	}
	return k.entry(filepath.Join(osPath, parts[len(parts)-1]), path.Join(name, below), below, above)
}

// offSize says why a file is left out for its size; empty where it is not.
func (w *Walker) offSize(info fs.FileInfo) string {
	switch size := info.Size(); {
	case !info.Mode().IsRegular():
	case size < w.minSize:
		return fmt.Sprintf("has %d bytes, under min_size", size)
	case size > w.maxSize:
		return fmt.Sprintf("has %d bytes, over max_size", size)
	}
	return ""
}

// RootName is what the names of root's files begin with; empty for a folder that
// has no name of its own.
func RootName(root string) string {
	name := filepath.Base(filepath.Clean(root))
	if name == "." || name == ".." || name == string(filepath.Separator) {
		return ""
	}
	return name
}

// walk is one walk of one root.
type walk struct {
	walker  *Walker
	visitor Visitor
	ctx     context.Context
}

func (k *walk) file(osPath, name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		k.visitor.Skip(osPath, kindOf(info.Mode())+": only files can be sent")
		return nil
	}
	if k.walker.offSize(info) != "" {
		return nil
	}
	if why := k.walker.withhold(osPath, info); why != "" {
		k.visitor.Skip(osPath, why)
		return nil
	}
	if err := wire.CheckPath(name); err != nil {
		k.visitor.Fail(osPath, fmt.Errorf("%w: rename it, or send it alone with fenc send --as NAME", err))
		return nil
	}
	return k.visitor.File(File{Path: osPath, Name: name, Info: info})
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "is a pipe"
	case mode&fs.ModeSocket != 0:
		return "is a socket"
	case mode&fs.ModeDevice != 0:
		return "is a device"
	}
	return "is no file"
}

// folder walks a folder: name is what its files' names begin with, below its path
// below the root, above the folders on the way down to it and itself.
func (k *walk) folder(osPath, name, below string, above []fs.FileInfo) error {
	if v, tell := k.visitor.(FolderVisitor); tell {
		if err := v.Folder(osPath); err == fs.SkipDir {
			return nil
		} else if err != nil {
			return err
		}
	}
	entries, err := readNames(osPath)
	if err != nil {
		k.visitor.Fail(osPath, err)
	}
	for _, entry := range entries {
		if err := k.ctx.Err(); err != nil {
			return err
		}
		if err := k.entry(filepath.Join(osPath, entry), path.Join(name, entry), path.Join(below, entry), above); err != nil {
			return err
		}
	}
	return nil
}

// readNames lists a folder. What could be read before an error is returned with it.
func readNames(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, send.Plain(err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	if err != nil {
		return names, fmt.Errorf("list the folder: %w", send.Plain(err))
	}
	return names, nil
}

func (k *walk) entry(osPath, name, below string, above []fs.FileInfo) error {
	info, err := os.Lstat(osPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since the folder was listed
	}
	if err != nil {
		k.visitor.Fail(osPath, send.Plain(err))
		return nil
	}
	isLink := info.Mode()&fs.ModeSymlink != 0
	if excludes(k.walker.rules, below, info.IsDir()) || k.walker.prune(osPath) {
		return nil
	}
	if isLink {
		if !k.walker.follow {
			k.visitor.Skip(osPath, "is a symbolic link: --follow-links sends what it leads to")
			return nil
		}
		if info, err = os.Stat(osPath); err != nil {
			k.visitor.Fail(osPath, fmt.Errorf("follow the link: %w", send.Plain(err)))
			return nil
		}
		if info.IsDir() && excludes(k.walker.rules, below, true) {
			return nil
		}
	}
	if !info.IsDir() {
		return k.file(osPath, name, info)
	}
	if isLink && isAmong(above, info) {
		k.visitor.Skip(osPath, "is a link back to a folder that it is in")
		return nil
	}
	return k.folder(osPath, name, below, append(above[:len(above):len(above)], info))
}

// isAmong reports whether a folder is one of those on the way down to it.
func isAmong(above []fs.FileInfo, info fs.FileInfo) bool {
	return slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) })
}
