package storagetest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"fenc/model/storage"
)

// Disk is a file system in memory that writes down every change. A Replay takes
// the changes again, one by one, and tells what a power cut between any two of
// them may leave: what was synced for certain, of the rest any part.
type Disk struct {
	// NoLinks and NoLabels say what the file system cannot do.
	NoLinks, NoLabels bool
	// Meanwhile, if set, is asked before and after each change, and Replay tells
	// what it said: how far something beside the disk had got.
	Meanwhile func() int64
	// Skip, if set, is asked at each sync whether it is left out. site is the
	// method of package storage that asks for it, and the call: "PutAll SyncDir".
	Skip func(site string) bool

	mu    sync.Mutex
	nodes []*node // by number; 0 is the root
	log   []change
	base  *Replay // what the log begins from
}

// node is a file, folder or symbolic link.
type node struct {
	number  int
	mode    fs.FileMode
	data    []byte
	shared  bool // data is another disk's as well: copied before it is changed
	label   []byte
	entries map[string]int // of a folder
}

type changeKind uint8

const (
	enter  changeKind = iota // a name in a folder: node 0 takes it away
	move                     // a name becomes another
	write                    // bytes of a file
	cut                      // length of a file
	label                    // of a file
	keep                     // file synced
	keepIn                   // folder synced
)

type change struct {
	kind          changeKind
	node          int // the file, or what is entered
	mode          fs.FileMode
	folder, from  int
	name, oldName string
	off           int64
	data          []byte
	before, after int64 // as Meanwhile said
}

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	d := &Disk{nodes: []*node{{mode: fs.ModeDir | 0o700, entries: make(map[string]int)}}}
	d.base = newReplay(d)
	return d
}

// Changes returns how many changes have been written down.
func (d *Disk) Changes() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.log)
}

// record writes down what do does. d.mu is held.
func (d *Disk) record(c change) {
	if d.Meanwhile != nil {
		c.before = d.Meanwhile()
	}
	d.apply(c)
	if d.Meanwhile != nil {
		c.after = d.Meanwhile()
	}
	d.log = append(d.log, c)
}

func (d *Disk) apply(c change) {
	switch c.kind {
	case enter:
		d.enter(c.folder, c.name, c.node)
	case move:
		d.enter(c.folder, c.name, c.node)
		if c.folder != c.from || c.name != c.oldName {
			d.enter(c.from, c.oldName, 0)
		}
	case write, cut:
		n := d.nodes[c.node]
		if n.shared {
			n.data, n.shared = slices.Clone(n.data), false
		}
		n.data = c.content(n.data)
	case label:
		d.nodes[c.node].label = c.data
	}
}

func (d *Disk) enter(folder int, name string, node int) {
	if node == 0 {
		delete(d.nodes[folder].entries, name)
	} else {
		d.nodes[folder].entries[name] = node
	}
}

// content returns what the change makes of a file's content, which it may change.
func (c change) content(data []byte) []byte {
	if c.kind == cut {
		if c.off <= int64(len(data)) {
			return data[:c.off:c.off]
		}
		return append(data, make([]byte, c.off-int64(len(data)))...)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(data)) {
		data = append(data, make([]byte, end-int64(len(data)))...)
	}
	copy(data[c.off:], c.data)
	return data
}

// add makes a node that no folder has yet. d.mu is held.
func (d *Disk) add(mode fs.FileMode) *node {
	n := &node{number: len(d.nodes), mode: mode}
	if mode.IsDir() {
		n.entries = make(map[string]int)
	}
	d.nodes = append(d.nodes, n)
	return n
}

// find returns the folder of name, the last part of it, and the node it has; nil
// if there is none. d.mu is held.
func (d *Disk) find(name string) (folder *node, last string, there *node, err error) {
	folder = d.nodes[0]
	if name == "." {
		return folder, ".", folder, nil
	}
	parts := strings.Split(name, "/")
	for _, p := range parts[:len(parts)-1] {
		n, ok := folder.entries[p]
		if !ok {
			return nil, "", nil, fs.ErrNotExist
		}
		if folder = d.nodes[n]; !folder.mode.IsDir() {
			return nil, "", nil, syscall.ENOTDIR
		}
	}
	last = parts[len(parts)-1]
	if n, ok := folder.entries[last]; ok {
		there = d.nodes[n]
	}
	return folder, last, there, nil
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// existing is find for what must be there.
func (d *Disk) existing(op, name string) (*node, string, *node, error) {
	folder, last, there, err := d.find(name)
	if err == nil && there == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, "", nil, pathError(op, name, err)
	}
	return folder, last, there, nil
}

// OpenFile implements storage.FS.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (storage.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, last, there, err := d.find(name)
	switch {
	case err != nil:
	case there == nil && flag&os.O_CREATE == 0:
		err = fs.ErrNotExist
	case there == nil:
		there = d.add(perm)
		d.record(change{kind: enter, folder: folder.number, name: last, node: there.number, mode: perm})
	case flag&os.O_EXCL != 0:
		err = fs.ErrExist
	case !there.mode.IsRegular():
		err = syscall.EISDIR
	case flag&os.O_TRUNC != 0 && len(there.data) > 0:
		d.record(change{kind: cut, node: there.number})
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &diskFile{d, there, name}, nil
}

// Mkdir implements storage.FS.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, last, there, err := d.find(name)
	switch {
	case err != nil:
		return pathError("mkdir", name, err)
	case there == nil:
		n := d.add(fs.ModeDir | perm)
		d.record(change{kind: enter, folder: folder.number, name: last, node: n.number, mode: n.mode})
	case !there.mode.IsDir():
		return pathError("mkdir", name, syscall.ENOTDIR)
	}
	return nil
}

// Link implements storage.FS.
func (d *Disk) Link(old, new string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.NoLinks {
		return pathError("link", new, errors.ErrUnsupported)
	}
	_, _, there, err := d.existing("link", old)
	if err != nil {
		return err
	}
	folder, last, taken, err := d.find(new)
	if err == nil && taken != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return pathError("link", new, err)
	}
	d.record(change{kind: enter, folder: folder.number, name: last, node: there.number, mode: there.mode})
	return nil
}

// Symlink implements storage.FS.
func (d *Disk) Symlink(target, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, last, taken, err := d.find(name)
	if err == nil && taken != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return pathError("symlink", name, err)
	}
	n := d.add(fs.ModeSymlink | 0o777)
	n.data = []byte(target)
	d.record(change{kind: enter, folder: folder.number, name: last, node: n.number, mode: n.mode, data: n.data})
	return nil
}

// Readlink implements storage.FS.
func (d *Disk) Readlink(name string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _, there, err := d.existing("readlink", name)
	if err == nil && there.mode&fs.ModeSymlink == 0 {
		err = pathError("readlink", name, syscall.EINVAL)
	}
	if err != nil {
		return "", err
	}
	return string(there.data), nil
}

// Rename implements storage.FS.
func (d *Disk) Rename(old, new string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, oldName, there, err := d.existing("rename", old)
	if err != nil {
		return err
	}
	folder, name, taken, err := d.find(new)
	switch {
	case err != nil:
	case taken == there:
		return nil // two names of one file: rename(2) does nothing
	case taken != nil && taken.mode.IsDir() != there.mode.IsDir():
		err = syscall.EISDIR
	}
	if err != nil {
		return pathError("rename", new, err)
	}
	d.record(change{kind: move, node: there.number, folder: folder.number, name: name, from: from.number, oldName: oldName})
	return nil
}

// Remove implements storage.FS.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	folder, last, there, err := d.existing("remove", name)
	if err == nil && len(there.entries) > 0 {
		err = pathError("remove", name, syscall.ENOTEMPTY)
	}
	if err == nil {
		d.record(change{kind: enter, folder: folder.number, name: last})
	}
	return err
}

// Lstat implements storage.FS.
func (d *Disk) Lstat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, last, there, err := d.existing("lstat", name)
	if err != nil {
		return nil, err
	}
	return there.info(last), nil
}

// SameFile implements storage.FS.
func (d *Disk) SameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

// ReadDir implements storage.FS.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _, there, err := d.existing("readdir", name)
	if err == nil && !there.mode.IsDir() {
		err = pathError("readdir", name, syscall.ENOTDIR)
	}
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	for name, n := range there.entries {
		entries = append(entries, fs.FileInfoToDirEntry(d.nodes[n].info(name)))
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// SyncDir implements storage.FS.
func (d *Disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _, there, err := d.existing("syncdir", name)
	if err == nil && !d.skips("SyncDir") {
		d.record(change{kind: keepIn, node: there.number})
	}
	return err
}

// skips reports whether a sync is left out.
func (d *Disk) skips(call string) bool {
	if d.Skip == nil {
		return false
	}
	callers := make([]uintptr, 8)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		f, more := frames.Next()
		if _, method, ok := strings.Cut(f.Function, "model/storage."); ok {
			return d.Skip(strings.TrimPrefix(method, "(*Folder).") + " " + call)
		}
		if !more {
			return false
		}
	}
}

// Free implements storage.FS.
func (d *Disk) Free() (int64, error) { return 1 << 40, nil }

// Close implements storage.FS. The disk can be used again.
func (d *Disk) Close() error { return nil }

func (n *node) info(name string) fs.FileInfo { return nodeInfo{name, int64(len(n.data)), n.mode, n} }

type nodeInfo struct {
	name string
	size int64
	mode fs.FileMode
	node *node
}

func (i nodeInfo) Name() string       { return i.name }
func (i nodeInfo) Size() int64        { return i.size }
func (i nodeInfo) Mode() fs.FileMode  { return i.mode }
func (i nodeInfo) ModTime() time.Time { return time.Time{} }
func (i nodeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i nodeInfo) Sys() any           { return i.node }

// diskFile is an open file of a Disk. It stays whole after its name is gone.
type diskFile struct {
	disk *Disk
	node *node
	name string
}

func (f *diskFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.record(change{kind: write, node: f.node.number, off: off, data: slices.Clone(p)})
	return len(p), nil
}

func (f *diskFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if size != int64(len(f.node.data)) {
		f.disk.record(change{kind: cut, node: f.node.number, off: size})
	}
	return nil
}

func (f *diskFile) Stat() (fs.FileInfo, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return f.node.info(f.name), nil
}

func (f *diskFile) SetLabel(text []byte) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.NoLabels {
		return errors.ErrUnsupported
	}
	f.disk.record(change{kind: label, node: f.node.number, data: slices.Clone(text)})
	return nil
}

func (f *diskFile) Label() ([]byte, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.disk.NoLabels {
		return nil, errors.ErrUnsupported
	}
	return f.node.label, nil
}

func (f *diskFile) Sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if !f.disk.skips("Sync") {
		f.disk.record(change{kind: keep, node: f.node.number})
	}
	return nil
}

func (f *diskFile) Reserve(int64) error { return nil }
func (f *diskFile) Direct(bool) error   { return errors.ErrUnsupported }
func (f *diskFile) Push(_, _ int64)     {}
func (f *diskFile) Close() error        { return nil }
