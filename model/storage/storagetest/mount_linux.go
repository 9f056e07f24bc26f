package storagetest

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount shows the disk at dir, through FUSE, to processes that know nothing of it:
// each change that they make is written down, and each sync. It needs /dev/fuse
// and the right to mount. No process may have anything open there when unmount is
// called.
//
// This process must keep away from dir, and start no other in it: what waits for the
// disk here, in a page fault or a fork, keeps the runtime from stopping for garbage,
// and that keeps the disk from answering. See CopyTo.
func (d *Disk) Mount(dir string) (unmount func() error, err error) {
	server, err := fusefs.Mount(dir, &mounted{disk: d}, &fusefs.Options{
		MountOptions:    fuse.MountOptions{DirectMountStrict: true, FsName: "forgetful", Name: "fenc-test", MaxWrite: 1 << 20},
		NullPermissions: true,
		RootStableAttr:  &fusefs.StableAttr{Ino: 1},
	})
	if err != nil {
		return nil, err
	}
	return server.Unmount, nil
}

// mounted is a node as the kernel sees it.
type mounted struct {
	fusefs.Inode
	disk   *Disk
	number int
}

var _ = (interface {
	fusefs.NodeLookuper
	fusefs.NodeGetattrer
	fusefs.NodeSetattrer
	fusefs.NodeOpener
	fusefs.NodeCreater
	fusefs.NodeReader
	fusefs.NodeWriter
	fusefs.NodeFsyncer
	fusefs.NodeAllocater
	fusefs.NodeMkdirer
	fusefs.NodeUnlinker
	fusefs.NodeRmdirer
	fusefs.NodeRenamer
	fusefs.NodeLinker
	fusefs.NodeSymlinker
	fusefs.NodeReadlinker
	fusefs.NodeReaddirer
	fusefs.NodeSetxattrer
	fusefs.NodeGetxattrer
	fusefs.NodeStatfser
})((*mounted)(nil))

// node returns what the disk has of it. The disk's mu is held.
func (m *mounted) node() *node { return m.disk.nodes[m.number] }

// child returns the kernel's view of a node. The disk's mu is held.
func (m *mounted) child(ctx context.Context, n *node, out *fuse.EntryOut) *fusefs.Inode {
	n.attributes(&out.Attr)
	return m.NewInode(ctx, &mounted{disk: m.disk, number: n.number}, fusefs.StableAttr{Mode: out.Mode & syscall.S_IFMT, Ino: out.Ino})
}

func (n *node) attributes(out *fuse.Attr) {
	out.Ino, out.Size, out.Nlink, out.Blksize = uint64(n.number)+1, uint64(len(n.data)), 1, 4096
	out.Blocks = (out.Size + 511) / 512
	out.Mode = uint32(n.mode.Perm())
	switch {
	case n.mode.IsDir():
		out.Mode |= syscall.S_IFDIR
	case n.mode&fs.ModeSymlink != 0:
		out.Mode |= syscall.S_IFLNK
	default:
		out.Mode |= syscall.S_IFREG
	}
}

func (m *mounted) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	n, ok := m.node().entries[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return m.child(ctx, m.disk.nodes[n], out), 0
}

func (m *mounted) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.node().attributes(&out.Attr)
	return 0
}

// Setattr takes a length. Modes and times of files are not what the tests of power
// cuts are about.
func (m *mounted) Setattr(_ context.Context, _ fusefs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok && int(size) != len(m.node().data) {
		m.disk.record(change{kind: cut, node: m.number, off: int64(size)})
	}
	m.node().attributes(&out.Attr)
	return 0
}

func (m *mounted) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0
}

// enterNew makes a node under a name that must be free.
func (m *mounted) enterNew(ctx context.Context, name string, mode fs.FileMode, data []byte, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if _, taken := m.node().entries[name]; taken {
		return nil, syscall.EEXIST
	}
	n := m.disk.add(mode)
	n.data = data
	m.disk.record(change{kind: enter, folder: m.number, name: name, node: n.number, mode: mode, data: data})
	return m.child(ctx, n, out), 0
}

func (m *mounted) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, fusefs.FileHandle, uint32, syscall.Errno) {
	n, errno := m.enterNew(ctx, name, fs.FileMode(mode).Perm(), nil, out)
	return n, nil, 0, errno
}

func (m *mounted) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return m.enterNew(ctx, name, fs.ModeDir|fs.FileMode(mode).Perm(), nil, out)
}

func (m *mounted) Symlink(ctx context.Context, target, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return m.enterNew(ctx, name, fs.ModeSymlink|0o777, []byte(target), out)
}

func (m *mounted) Readlink(context.Context) ([]byte, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.node().data, 0
}

func (m *mounted) Link(ctx context.Context, target fusefs.InodeEmbedder, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.NoLinks {
		return nil, syscall.EPERM
	}
	n := target.(*mounted).node()
	m.disk.record(change{kind: enter, folder: m.number, name: name, node: n.number, mode: n.mode})
	return m.child(ctx, n, out), 0
}

func (m *mounted) Unlink(_ context.Context, name string) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.record(change{kind: enter, folder: m.number, name: name})
	return 0
}

func (m *mounted) Rmdir(_ context.Context, name string) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if len(m.disk.nodes[m.node().entries[name]].entries) > 0 {
		return syscall.ENOTEMPTY
	}
	m.disk.record(change{kind: enter, folder: m.number, name: name})
	return 0
}

func (m *mounted) Rename(_ context.Context, name string, parent fusefs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	to := parent.(*mounted)
	n, taken := m.node().entries[name], to.node().entries[newName]
	if flags != 0 { // RENAME_NOREPLACE, RENAME_EXCHANGE
		return syscall.EINVAL
	}
	if n != taken { // two names of one file: rename(2) does nothing
		m.disk.record(change{kind: move, node: n, folder: to.number, name: newName, from: m.number, oldName: name})
	}
	return 0
}

func (m *mounted) Readdir(context.Context) (fusefs.DirStream, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	var entries []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(m.node().entries)) {
		var a fuse.Attr
		m.disk.nodes[m.node().entries[name]].attributes(&a)
		entries = append(entries, fuse.DirEntry{Name: name, Mode: a.Mode, Ino: a.Ino})
	}
	return fusefs.NewListDirStream(entries), 0
}

func (m *mounted) Read(_ context.Context, _ fusefs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	data := m.node().data
	if off >= int64(len(data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, data[off:])]), 0
}

func (m *mounted) Write(_ context.Context, _ fusefs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.record(change{kind: write, node: m.number, off: off, data: slices.Clone(data)})
	return uint32(len(data)), 0
}

// Fsync is of files and folders.
func (m *mounted) Fsync(context.Context, fusefs.FileHandle, uint32) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	kind := keep
	if m.node().mode.IsDir() {
		kind = keepIn
	}
	m.disk.record(change{kind: kind, node: m.number})
	return 0
}

// Allocate has room for everything, and lengthens nothing: what asks for that gets
// EOPNOTSUPP and writes zeros.
func (m *mounted) Allocate(_ context.Context, _ fusefs.FileHandle, _, _ uint64, mode uint32) syscall.Errno {
	const keepSize = 1
	if mode != keepSize {
		return syscall.EOPNOTSUPP
	}
	return 0
}

func (m *mounted) Setxattr(_ context.Context, name string, data []byte, _ uint32) syscall.Errno {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.NoLabels || name != labelAttribute {
		return syscall.EOPNOTSUPP
	}
	m.disk.record(change{kind: label, node: m.number, data: slices.Clone(data)})
	return 0
}

func (m *mounted) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	text := m.node().label
	switch {
	case m.disk.NoLabels:
		return 0, syscall.EOPNOTSUPP
	case name != labelAttribute || text == nil:
		return 0, syscall.ENODATA
	case len(dest) < len(text):
		return uint32(len(text)), syscall.ERANGE
	}
	return uint32(copy(dest, text)), 0
}

func (m *mounted) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	const block = 4096
	free, _ := m.disk.Free()
	out.Bsize, out.Frsize, out.NameLen = block, block, 255
	out.Blocks, out.Bfree, out.Bavail = uint64(free/block), uint64(free/block), uint64(free/block)
	out.Files, out.Ffree = 1<<30, 1<<30
	return 0
}
