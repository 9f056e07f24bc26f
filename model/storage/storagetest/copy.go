package storagetest

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/pkg/xattr"
)

// CopyTo makes what the disk has in the real folder dir, hard links, modes and
// labels included.
func (d *Disk) CopyTo(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.copyFolder(d.nodes[0], dir, make(map[int]string))
}

// copyFolder copies what a folder has. made are the files that have a name already.
func (d *Disk) copyFolder(folder *node, dir string, made map[int]string) error {
	for _, name := range slices.Sorted(maps.Keys(folder.entries)) {
		n, path := d.nodes[folder.entries[name]], filepath.Join(dir, name)
		var err error
		first, again := made[n.number]
		switch {
		case n.mode.IsDir():
			if err = os.Mkdir(path, n.mode.Perm()); err == nil {
				err = d.copyFolder(n, path, made)
			}
		case again:
			err = os.Link(first, path)
		case n.mode&fs.ModeSymlink != 0:
			err = os.Symlink(string(n.data), path)
		default:
			made[n.number] = path
			err = os.WriteFile(path, n.data, n.mode.Perm())
			if err == nil && n.label != nil {
				err = xattr.Set(path, labelAttribute, n.label)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// labelAttribute is where package storage keeps labels.
const labelAttribute = "user.fenc"
