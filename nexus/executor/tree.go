package executor

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of names in a program's file system.
const (
	maxPathBytes = 4096
	maxNameBytes = 255
	maxDepth     = 64 // directories above a file, the mount included
)

// mount is one of a program's two directory trees. The tree is held here, in
// memory; only the bytes of files are on disk, so that no path of the
// program's is ever given to the host.
type mount struct {
	device   uint64 // 1 is /in, 2 is /out
	readOnly bool
	root     *node
	lastIno  uint64
	disk     disk

	maxBytes, maxFiles   uint64
	bytes, files         uint64 // held now, unlinked but open files included
	peakBytes, peakFiles uint64
	exceeded             string // the limit that was reached, or empty
	fault                error  // the host's disk failed
}

// disk is where the bytes of a mount's files are.
type disk interface {
	// open makes n's bytes accessible through n.file.
	open(n *node) error
	// discard ends the bytes of n, which is closed and unlinked.
	discard(n *node) error
	// close ends the disk, whose nodes are all closed.
	close() error
}

// node is a file or a directory.
type node struct {
	mount    *mount
	ino      uint64
	parent   *node            // nil of a mount's root, and once unlinked
	children map[string]*node // nil of a file
	source   string           // of a file of /in: its path under InputDir
	file     hostFile         // of a file, while opens > 0
	size     uint64
	opens    int
	times    fileTimes
}

type fileTimes struct{ access, modify, change uint64 } // ns since 1970

// hostFile is the part of os.File that carries bytes.
type hostFile interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Close() error
}

func newMount(device uint64, now uint64) *mount {
	m := &mount{device: device}
	m.root = m.newNode(true, now)
	return m
}

func (m *mount) newNode(dir bool, now uint64) *node {
	m.lastIno++
	n := &node{mount: m, ino: m.lastIno, times: fileTimes{now, now, now}}
	if dir {
		n.children = map[string]*node{}
	}
	return n
}

func (n *node) isDir() bool { return n.children != nil }

// place is where a path leads: a directory, and a name in it that may or may
// not exist.
type place struct {
	dir     *node
	name    string // empty when the path ends at dir itself
	node    *node  // nil when there is nothing yet
	mustDir bool   // the path ended with a slash
}

// walk follows path from dir. It never leaves dir's mount, and there are no
// links to follow.
func walk(dir *node, path string) (place, errno) {
	switch {
	case len(path) > maxPathBytes:
		return place{}, errnoNametoo
	case !utf8.ValidString(path) || strings.ContainsRune(path, 0):
		return place{}, errnoIlseq
	case path == "":
		return place{}, errnoNoent
	case path[0] == '/':
		return place{}, errnoNotcapable
	}
	at := place{dir: dir, node: dir, mustDir: strings.HasSuffix(path, "/")}
	for part := range strings.SplitSeq(path, "/") {
		if at.node == nil {
			if part == "" {
				continue // slashes at the end
			}
			return place{}, errnoNoent
		}
		if part == "" || part == "." {
			if !at.node.isDir() && part == "." {
				return place{}, errnoNotdir
			}
			continue
		}
		if !at.node.isDir() {
			return place{}, errnoNotdir
		}
		if part == ".." {
			parent := at.node.parent
			if parent == nil {
				return place{}, errnoNotcapable
			}
			at.dir, at.name, at.node = parent, "", parent
			continue
		}
		if len(part) > maxNameBytes {
			return place{}, errnoNametoo
		}
		at.dir, at.name, at.node = at.node, part, at.node.children[part]
	}
	if at.mustDir && at.node != nil && !at.node.isDir() {
		return place{}, errnoNotdir
	}
	if at.name == "" {
		at.dir = at.node
	}
	return at, errnoSuccess
}

func (n *node) depth() int {
	d := 0
	for p := n.parent; p != nil; p = p.parent {
		d++
	}
	return d
}

// height is the number of levels of directories under n.
func (n *node) height() int {
	h := 0
	for _, c := range n.children {
		h = max(h, 1+c.height())
	}
	return h
}

// weight is the number of files and directories under n, itself included.
func (n *node) weight() uint64 {
	w := uint64(1)
	for _, c := range n.children {
		w += c.weight()
	}
	return w
}

// create makes a file or a directory at an empty place.
func (m *mount) create(at place, dir bool, now uint64) (*node, errno) {
	switch {
	case m.readOnly:
		return nil, errnoRofs
	case at.dir.parent == nil && at.dir != m.root:
		return nil, errnoNoent // the directory was removed while open
	case at.dir.depth()+1 > maxDepth:
		return nil, errnoNametoo
	case m.files >= m.maxFiles:
		m.exceeded = "output_files"
		return nil, errnoIO
	}
	m.files++
	m.peakFiles = max(m.peakFiles, m.files)
	n := m.newNode(dir, now)
	n.parent = at.dir
	at.dir.children[at.name] = n
	at.dir.touch(now)
	return n, errnoSuccess
}

func (n *node) touch(now uint64) { n.times.modify, n.times.change = now, now }

// unlink removes the name of the node at a place; the node itself lives until
// it is closed.
func (m *mount) unlink(at place, now uint64) errno {
	delete(at.dir.children, at.name)
	at.dir.touch(now)
	at.node.parent = nil
	return m.reap(at.node)
}

// reap gives back what a node held, once it has neither a name nor a handle.
func (m *mount) reap(n *node) errno {
	if n.parent != nil || n == m.root || n.opens > 0 {
		return errnoSuccess
	}
	m.files--
	m.bytes -= n.size
	if n.isDir() {
		return errnoSuccess
	}
	return m.check(m.disk.discard(n))
}

// check turns a failure of the host's disk into a fault, which ends the run.
func (m *mount) check(err error) errno {
	if err == nil {
		return errnoSuccess
	}
	if m.fault == nil {
		m.fault = err
	}
	return errnoIO
}

// open counts one more handle on n.
func (m *mount) open(n *node) errno {
	if n.opens == 0 && !n.isDir() {
		if e := m.check(m.disk.open(n)); e != errnoSuccess {
			return e
		}
	}
	n.opens++
	return errnoSuccess
}

// close counts one handle on n less.
func (m *mount) close(n *node) errno {
	n.opens--
	if n.opens > 0 {
		return errnoSuccess
	}
	if n.file != nil {
		if e := m.check(n.file.Close()); e != errnoSuccess {
			return e
		}
		n.file = nil
	}
	return m.reap(n)
}

// resize makes room for n to be size bytes long, or ends the run.
func (m *mount) resize(n *node, size uint64) errno {
	held := m.bytes - n.size
	if size > m.maxBytes || held > m.maxBytes-size {
		m.exceeded = "output_bytes"
		return errnoIO
	}
	m.bytes = held + size
	m.peakBytes = max(m.peakBytes, m.bytes)
	n.size = size
	return errnoSuccess
}

func (n *node) writeAt(p []byte, off, now uint64) errno {
	if len(p) == 0 {
		return errnoSuccess
	}
	end := off + uint64(len(p))
	if end < off {
		end = 1<<64 - 1
	}
	if end > n.size {
		if e := n.mount.resize(n, end); e != errnoSuccess {
			return e
		}
	}
	n.touch(now)
	_, err := n.file.WriteAt(p, int64(off))
	return n.mount.check(err)
}

// readAt reads up to len(p) bytes; fewer only at the end of the file.
func (n *node) readAt(p []byte, off uint64) (int, errno) {
	if off >= n.size {
		return 0, errnoSuccess
	}
	p = p[:min(uint64(len(p)), n.size-off)]
	got, err := n.file.ReadAt(p, int64(off))
	if got == len(p) {
		return got, errnoSuccess
	}
	return 0, n.mount.check(err)
}

func (n *node) truncate(size, now uint64) errno {
	if e := n.mount.resize(n, size); e != errnoSuccess {
		return e
	}
	n.touch(now)
	return n.mount.check(n.file.Truncate(int64(size)))
}

// rename moves what is at from to to, replacing a file or an empty directory
// there as POSIX does.
func (m *mount) rename(from, to place, now uint64) errno {
	moved := from.node
	switch {
	case moved == to.node:
		return errnoSuccess
	case to.dir.parent == nil && to.dir != m.root:
		return errnoNoent
	case to.mustDir && !moved.isDir():
		return errnoNotdir
	case to.dir.depth()+1+moved.height() > maxDepth:
		return errnoNametoo
	}
	for p := to.dir; p != nil; p = p.parent {
		if p == moved {
			return errnoInval // into itself
		}
	}
	if old := to.node; old != nil {
		switch {
		case moved.isDir() && !old.isDir():
			return errnoNotdir
		case !moved.isDir() && old.isDir():
			return errnoIsdir
		case len(old.children) > 0:
			return errnoNotempty
		}
		if e := m.unlink(to, now); e != errnoSuccess {
			return e
		}
	}
	delete(from.dir.children, from.name)
	from.dir.touch(now)
	moved.parent = to.dir
	to.dir.children[to.name] = moved
	to.dir.touch(now)
	return errnoSuccess
}

// names returns the names in a directory, ascending by bytes.
func (n *node) names() []string { return slices.Sorted(maps.Keys(n.children)) }
