package storagetest

import (
	"encoding/binary"
	"hash/maphash"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// Replay takes a disk's changes one by one and knows of each what is durable:
//
//   - A file's content, length and label are as of its last sync. Of what was
//     written since, each write may be there, not be there, be there by half, or
//     be zeros; a change of length or label may be there or not; in any order.
//   - A name in a folder is as of the folder's last sync. Of later changes each
//     may be there or not, whatever became of others.
//   - A renamed file has its new name or its old one, or both; never neither.
type Replay struct {
	disk  *Disk
	next  int
	nodes []*durable
}

// durable is what is certain of a node, and what may be.
type durable struct {
	mode    fs.FileMode
	data    []byte
	label   []byte
	pending []change // of content, length and label

	entries map[string]int
	names   []*naming
}

// naming is a change of a folder's entries that is not certain.
type naming struct {
	folder int
	name   string
	node   int     // 0 takes the name away
	needs  *naming // there as well where this one is
	done   bool
}

func newReplay(d *Disk) *Replay {
	r := &Replay{disk: d}
	for _, n := range d.nodes {
		r.nodes = append(r.nodes, &durable{mode: n.mode, data: n.data, label: n.label, entries: maps.Clone(n.entries)})
	}
	return r
}

// Replay begins before the first change. The disk must not be used meanwhile.
func (d *Disk) Replay() *Replay {
	return d.base.clone(d)
}

// clone returns what r knows, of another disk.
func (r *Replay) clone(d *Disk) *Replay {
	c := &Replay{disk: d}
	twin := make(map[*naming]*naming)
	var copied func(n *naming) *naming
	copied = func(n *naming) *naming {
		if n == nil || twin[n] != nil {
			return twin[n]
		}
		name := *n
		twin[n] = &name
		name.needs = copied(n.needs)
		return &name
	}
	for _, was := range r.nodes {
		if was == nil {
			c.nodes = append(c.nodes, nil)
			continue
		}
		n := *was
		n.pending, n.entries, n.names = slices.Clone(was.pending), maps.Clone(was.entries), nil
		for _, name := range was.names {
			n.names = append(n.names, copied(name))
		}
		c.nodes = append(c.nodes, &n)
	}
	return c
}

// Step takes the next change; false says that there is none.
func (r *Replay) Step() bool {
	if r.next == len(r.disk.log) {
		return false
	}
	c := r.disk.log[r.next]
	r.next++
	switch c.kind {
	case enter:
		r.know(c)
		r.name(&naming{folder: c.folder, name: c.name, node: c.node})
	case move:
		entered := &naming{folder: c.folder, name: c.name, node: c.node}
		r.name(entered)
		r.name(&naming{folder: c.from, name: c.oldName, needs: entered})
	case write, cut, label:
		n := r.nodes[c.node]
		n.pending = append(n.pending, c)
	case keep:
		n := r.nodes[c.node]
		n.keepPending(func(change) fate { return there })
		n.pending = nil
	case keepIn:
		n := r.nodes[c.node]
		for len(n.names) > 0 {
			r.settle(n.names[0])
		}
	}
	return true
}

// know makes room for a node that the log meets for the first time.
func (r *Replay) know(c change) {
	for len(r.nodes) <= c.node {
		r.nodes = append(r.nodes, nil)
	}
	if c.node > 0 && r.nodes[c.node] == nil {
		n := &durable{mode: c.mode, data: c.data} // a symbolic link's target
		if c.mode.IsDir() {
			n.entries = make(map[string]int)
		}
		r.nodes[c.node] = n
	}
}

func (r *Replay) name(n *naming) {
	folder := r.nodes[n.folder]
	folder.names = append(folder.names, n)
}

// settle makes a change of names certain, and what it needs. Earlier changes of
// the same name are overtaken.
func (r *Replay) settle(n *naming) {
	if n.needs != nil && !n.needs.done {
		r.settle(n.needs)
	}
	folder := r.nodes[n.folder]
	enterName(folder.entries, n)
	i := slices.Index(folder.names, n)
	for _, earlier := range folder.names[:i+1] {
		earlier.done = earlier.done || earlier.name == n.name
	}
	folder.names = slices.DeleteFunc(folder.names, func(n *naming) bool { return n.done })
}

func enterName(entries map[string]int, n *naming) {
	if n.node == 0 {
		delete(entries, n.name)
	} else {
		entries[n.name] = n.node
	}
}

// fate is what became of a change that was not certain.
type fate uint8

const (
	there fate = iota
	lost
	half
	zeros
)

// keepPending takes the pending changes into a content of its own.
func (n *durable) keepPending(choose func(change) fate) {
	if len(n.pending) == 0 {
		return
	}
	n.data = slices.Clone(n.data)
	for _, c := range n.pending {
		f := choose(c)
		switch {
		case f == lost:
			continue
		case c.kind == label:
			n.label = c.data
			continue
		case c.kind == write && f == half:
			c.data = c.data[:len(c.data)/2]
		case c.kind == write && f == zeros:
			c.data = make([]byte, len(c.data))
		}
		n.data = c.content(n.data)
	}
}

// Meanwhile returns what Disk.Meanwhile said after the last change that was
// taken, and before the next: between them lie the moments of a cut now. Without
// a last or a next one it is -1.
func (r *Replay) Meanwhile() (from, to int64) {
	from, to = -1, -1
	if r.next > 0 {
		from = r.disk.log[r.next-1].after
	}
	if r.next < len(r.disk.log) {
		to = r.disk.log[r.next].before
	}
	return from, to
}

// Taken returns how many changes have been taken.
func (r *Replay) Taken() int { return r.next }

// Certain reports whether a cut now leaves one state only.
func (r *Replay) Certain() bool {
	for _, n := range r.nodes {
		if n != nil && (len(n.pending) > 0 || len(n.names) > 0) {
			return false
		}
	}
	return true
}

// Cut returns a disk as a power cut now may leave it: of what is not certain each
// change is there with probability part. 0 and 1 leave nothing to chance.
func (r *Replay) Cut(part float64, random *rand.Rand) *Disk {
	choose := func(change) fate {
		switch {
		case part == 1 || part > 0 && random.Float64() < part:
			return there
		case part == 0 || random.IntN(2) == 0:
			return lost
		default:
			return half + fate(random.IntN(2))
		}
	}
	chosen := make(map[*naming]bool)
	for _, n := range r.nodes {
		if n == nil {
			continue
		}
		for _, name := range n.names {
			if chosen[name] || choose(change{kind: enter}) != there {
				continue
			}
			for ; name != nil && !name.done; name = name.needs {
				chosen[name] = true
			}
		}
	}
	d := &Disk{NoLinks: r.disk.NoLinks, NoLabels: r.disk.NoLabels}
	for i, was := range r.nodes {
		if was == nil { // never entered anywhere
			d.nodes = append(d.nodes, &node{number: i})
			continue
		}
		n := &node{number: i, mode: was.mode, data: was.data, shared: true, label: was.label, entries: maps.Clone(was.entries)}
		if len(was.pending) > 0 {
			c := *was
			c.keepPending(choose)
			n.data, n.label, n.shared = c.data, c.label, false
		}
		for _, name := range was.names {
			if chosen[name] {
				enterName(n.entries, name)
			}
		}
		d.nodes = append(d.nodes, n)
	}
	for _, n := range d.nodes {
		n.shared = true // the base has it too
	}
	d.base = newReplay(d)
	return d
}

// Kill returns the disk as the end of the process alone leaves it: everything is
// there, and what was not certain is not more certain than before.
func (r *Replay) Kill() *Disk {
	d := r.Cut(1, nil)
	d.base = r.clone(d)
	return d
}

var seed = maphash.MakeSeed()

// Sum returns a number that two disks with the same names, content and labels
// share, within this process.
func (d *Disk) Sum() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var h maphash.Hash
	h.SetSeed(seed)
	d.sum(&h, d.nodes[0])
	return h.Sum64()
}

func (d *Disk) sum(h *maphash.Hash, n *node) {
	field := func(p []byte) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		h.Write(length[:])
		h.Write(p)
	}
	field(n.data)
	field(n.label)
	for _, name := range slices.Sorted(maps.Keys(n.entries)) {
		field([]byte(name))
		d.sum(h, d.nodes[n.entries[name]])
	}
	h.WriteByte(byte(len(n.entries)))
}
