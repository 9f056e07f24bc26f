// Package walk finds the files to send while they are sent: those that are named,
// and those below folders that are named.
package walk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

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
	// FollowLinks sends what symbolic links lead to; else they are skipped.
	FollowLinks bool
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

// Walker walks roots.
type Walker struct {
	rules  []rule
	follow bool
}

// New makes a walker. The error names the file and the line of a pattern that is
// none.
func New(o Options) (*Walker, error) {
	rules, err := o.rules()
	if err != nil {
		return nil, err
	}
	return &Walker{rules: rules, follow: o.FollowLinks}, nil
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
	return walk.file(root, name, info)
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
	if err := wire.CheckPath(name); err != nil {
		k.visitor.Fail(osPath, err)
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
	if excludes(k.walker.rules, below, info.IsDir()) {
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
	if isLink && slices.ContainsFunc(above, func(a fs.FileInfo) bool { return os.SameFile(a, info) }) {
		k.visitor.Skip(osPath, "is a link back to a folder that it is in")
		return nil
	}
	return k.folder(osPath, name, below, append(above[:len(above):len(above)], info))
}
