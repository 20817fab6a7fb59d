package executor

import (
	"encoding/binary"
	"io"
)

// This file is the part of preview 1 that works on descriptors.

// File types.
const (
	typeUnknown   = 0
	typeDirectory = 3
	typeRegular   = 4
)

// Rights that mean something here; the others are granted to whoever asks.
const (
	rightRead    = 1 << 1
	rightSeek    = 1 << 2
	rightTell    = 1 << 5
	rightWrite   = 1 << 6
	rightAlloc   = 1 << 8
	rightPoll    = 1 << 27
	allRights    = 1<<30 - 1
	streamRights = rightRead | rightWrite | rightPoll
)

const (
	flagAppend = 1
	allFlags   = 1<<5 - 1
)

const maxHandles = 256

// handle is one open descriptor.
type handle struct {
	node    *node     // nil of a standard stream
	stream  io.Writer // of stdout and stderr; nil discards
	output  bool      // a stream that is written to
	preopen string    // the path of a directory that was open at the start
	offset  uint64
	flags   uint16
	rights  uint64
	entries []dirent // of a directory: what readdir began to list
}

// dirent is one entry of a directory listing.
type dirent struct {
	name string
	node *node
}

func (p *process) handle(fd uint32) (*handle, errno) {
	if uint64(fd) >= uint64(len(p.handles)) || p.handles[fd] == nil {
		return nil, errnoBadf
	}
	return p.handles[fd], errnoSuccess
}

// file is the descriptor of a regular file.
func (p *process) file(fd uint32, right uint64) (*handle, errno) {
	h, e := p.handle(fd)
	switch {
	case e != errnoSuccess:
		return nil, e
	case h.node == nil:
		return nil, errnoSpipe
	case h.node.isDir():
		return nil, errnoIsdir
	case h.rights&right != right:
		return nil, errnoBadf
	}
	return h, errnoSuccess
}

// directory is the descriptor of a directory.
func (p *process) directory(fd uint32) (*handle, errno) {
	h, e := p.handle(fd)
	switch {
	case e != errnoSuccess:
		return nil, e
	case h.node == nil || !h.node.isDir():
		return nil, errnoNotdir
	}
	return h, errnoSuccess
}

// install gives a handle the lowest free descriptor.
func (p *process) install(h *handle) (uint32, errno) {
	for fd, old := range p.handles {
		if old == nil {
			p.handles[fd] = h
			return uint32(fd), errnoSuccess
		}
	}
	if len(p.handles) >= maxHandles {
		return 0, errnoMfile
	}
	p.handles = append(p.handles, h)
	return uint32(len(p.handles) - 1), errnoSuccess
}

func (p *process) release(h *handle) errno {
	if h.node == nil {
		return errnoSuccess
	}
	return h.node.mount.close(h.node)
}

func (p *process) fdClose(a *args) errno {
	fd := a.u32(0)
	h, e := p.handle(fd)
	if e != errnoSuccess {
		return e
	}
	p.handles[fd] = nil
	return p.release(h)
}

func (p *process) fdRenumber(a *args) errno {
	from, to := a.u32(0), a.u32(1)
	h, e := p.handle(from)
	if e != errnoSuccess {
		return e
	}
	old, e := p.handle(to)
	if e != errnoSuccess || from == to {
		return e
	}
	p.handles[to], p.handles[from] = h, nil
	return p.release(old)
}

func (p *process) fdSync(a *args) errno {
	_, e := p.handle(a.u32(0))
	return e
}

func (p *process) fdAdvise(a *args) errno {
	_, e := p.file(a.u32(0), 0)
	return e
}

func (p *process) fdAllocate(a *args) errno {
	h, e := p.file(a.u32(0), rightWrite)
	if e != errnoSuccess {
		return e
	}
	end := a[1] + a[2]
	if end < a[1] {
		return errnoOverflow
	}
	if end <= h.node.size {
		return errnoSuccess
	}
	return h.node.truncate(end, p.clock.now())
}

func (p *process) fdFdstatGet(a *args) errno {
	h, e := p.handle(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	b, e := p.bytes(a.u32(1), 24)
	if e != errnoSuccess {
		return e
	}
	clear(b)
	inheriting := uint64(0)
	b[0] = h.fileType()
	if b[0] == typeDirectory {
		inheriting = allRights
	}
	binary.LittleEndian.PutUint16(b[2:], h.flags)
	binary.LittleEndian.PutUint64(b[8:], h.rights)
	binary.LittleEndian.PutUint64(b[16:], inheriting)
	return errnoSuccess
}

func (h *handle) fileType() byte {
	switch {
	case h.node == nil:
		return typeUnknown
	case h.node.isDir():
		return typeDirectory
	}
	return typeRegular
}

func (p *process) fdFdstatSetFlags(a *args) errno {
	h, e := p.handle(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	if a.u32(1) > allFlags {
		return errnoInval
	}
	h.flags = uint16(a.u32(1))
	return errnoSuccess
}

func (p *process) fdFdstatSetRights(a *args) errno {
	h, e := p.handle(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	if a[1]&^h.rights != 0 {
		return errnoNotcapable
	}
	h.rights = a[1]
	return errnoSuccess
}

func (p *process) fdFilestatGet(a *args) errno {
	h, e := p.handle(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	return p.putFilestat(a.u32(1), h.node)
}

// putFilestat writes a filestat; n is nil of a stream.
func (p *process) putFilestat(ptr uint32, n *node) errno {
	b, e := p.bytes(ptr, 64)
	if e != errnoSuccess {
		return e
	}
	clear(b)
	b[16] = (&handle{node: n}).fileType()
	if n == nil {
		return errnoSuccess
	}
	binary.LittleEndian.PutUint64(b, n.mount.device)
	binary.LittleEndian.PutUint64(b[8:], n.ino)
	if n.parent != nil || n == n.mount.root {
		binary.LittleEndian.PutUint64(b[24:], 1)
	}
	binary.LittleEndian.PutUint64(b[32:], n.size)
	binary.LittleEndian.PutUint64(b[40:], n.times.access)
	binary.LittleEndian.PutUint64(b[48:], n.times.modify)
	binary.LittleEndian.PutUint64(b[56:], n.times.change)
	return errnoSuccess
}

func (p *process) fdFilestatSetSize(a *args) errno {
	h, e := p.file(a.u32(0), rightWrite)
	if e != errnoSuccess {
		return e
	}
	return h.node.truncate(a[1], p.clock.now())
}

func (p *process) fdFilestatSetTimes(a *args) errno {
	h, e := p.handle(a.u32(0))
	switch {
	case e != errnoSuccess:
		return e
	case h.node == nil:
		return errnoBadf
	}
	return p.setTimes(h.node, a[1], a[2], a.u32(3))
}

// setTimes does what fstflags say: set, or set to now, access and modification.
func (p *process) setTimes(n *node, access, modify uint64, flags uint32) errno {
	if n.mount.readOnly {
		return errnoRofs
	}
	if flags > 15 || flags&3 == 3 || flags&12 == 12 {
		return errnoInval
	}
	now := p.clock.now()
	if flags&2 != 0 {
		access = now
	}
	if flags&8 != 0 {
		modify = now
	}
	if flags&3 != 0 {
		n.times.access = access
	}
	if flags&12 != 0 {
		n.times.modify = modify
	}
	n.times.change = now
	return errnoSuccess
}

func (p *process) fdPrestatGet(a *args) errno {
	h, e := p.handle(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	if h.preopen == "" {
		return errnoBadf
	}
	if e := p.put32(a.u32(1), 0); e != errnoSuccess { // a directory
		return e
	}
	return p.put32(a.u32(1)+4, uint32(len(h.preopen)))
}

func (p *process) fdPrestatDirName(a *args) errno {
	h, e := p.handle(a.u32(0))
	switch {
	case e != errnoSuccess:
		return e
	case h.preopen == "":
		return errnoBadf
	case uint64(a.u32(2)) < uint64(len(h.preopen)):
		return errnoNametoo
	}
	b, e := p.bytes(a.u32(1), uint32(len(h.preopen)))
	copy(b, h.preopen)
	return e
}

const (
	seekSet = 0
	seekCur = 1
	seekEnd = 2
)

func (p *process) fdSeek(a *args) errno {
	h, e := p.file(a.u32(0), rightSeek)
	if e != errnoSuccess {
		return e
	}
	base := uint64(0)
	switch a.u32(2) {
	case seekSet:
	case seekCur:
		base = h.offset
	case seekEnd:
		base = h.node.size
	default:
		return errnoInval
	}
	// Offsets stay below 2⁶³, so that a sum with an int64 cannot wrap unseen.
	to := base + a[1]
	if to > 1<<63-1 {
		return errnoInval
	}
	h.offset = to
	return p.put64(a.u32(3), to)
}

func (p *process) fdTell(a *args) errno {
	h, e := p.file(a.u32(0), rightTell)
	if e != errnoSuccess {
		return e
	}
	return p.put64(a.u32(1), h.offset)
}

// maxVectors bounds a scatter or gather list, as IOV_MAX does.
const maxVectors = 1024

// vectors calls move with each window of an iovec list until move stops it,
// and writes the sum of what move returned at resultPtr.
func (p *process) vectors(list, count, resultPtr uint32, move func([]byte) (int, errno)) errno {
	if count > maxVectors {
		return errnoInval
	}
	raw, e := p.bytes(list, 8*count)
	if e != errnoSuccess {
		return e
	}
	total := uint32(0)
	for ; len(raw) > 0; raw = raw[8:] {
		b, e := p.bytes(binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:]))
		if e != errnoSuccess {
			return e
		}
		if uint64(total)+uint64(len(b)) > 1<<31 {
			b = b[:1<<31-total]
		}
		n, e := move(b)
		if e != errnoSuccess {
			return e
		}
		p.cost += fuelByte * uint64(n)
		total += uint32(n)
		if n < len(b) || total == 1<<31 {
			break
		}
	}
	return p.put32(resultPtr, total)
}

func (p *process) fdRead(a *args) errno {
	h, e := p.handle(a.u32(0))
	switch {
	case e != errnoSuccess:
		return e
	case h.node == nil && !h.output: // stdin is empty
		return p.put32(a.u32(3), 0)
	case h.node == nil:
		return errnoBadf
	}
	if h, e = p.file(a.u32(0), rightRead); e != errnoSuccess {
		return e
	}
	return p.vectors(a.u32(1), a.u32(2), a.u32(3), func(b []byte) (int, errno) {
		n, e := h.node.readAt(b, h.offset)
		h.offset += uint64(n)
		return n, e
	})
}

func (p *process) fdPread(a *args) errno {
	h, e := p.file(a.u32(0), rightRead)
	if e != errnoSuccess {
		return e
	}
	offset := a[3]
	return p.vectors(a.u32(1), a.u32(2), a.u32(4), func(b []byte) (int, errno) {
		n, e := h.node.readAt(b, offset)
		offset += uint64(n)
		return n, e
	})
}

func (p *process) fdWrite(a *args) errno {
	h, e := p.handle(a.u32(0))
	switch {
	case e != errnoSuccess:
		return e
	case h.node == nil && h.output:
		return p.vectors(a.u32(1), a.u32(2), a.u32(3), func(b []byte) (int, errno) { return p.log(h.stream, b) })
	case h.node == nil:
		return errnoBadf
	}
	if h, e = p.file(a.u32(0), rightWrite); e != errnoSuccess {
		return e
	}
	now := p.clock.now()
	return p.vectors(a.u32(1), a.u32(2), a.u32(3), func(b []byte) (int, errno) {
		if h.flags&flagAppend != 0 {
			h.offset = h.node.size
		}
		e := h.node.writeAt(b, h.offset, now)
		h.offset += uint64(len(b))
		return len(b), e
	})
}

func (p *process) fdPwrite(a *args) errno {
	h, e := p.file(a.u32(0), rightWrite)
	if e != errnoSuccess {
		return e
	}
	offset, now := a[3], p.clock.now()
	return p.vectors(a.u32(1), a.u32(2), a.u32(4), func(b []byte) (int, errno) {
		e := h.node.writeAt(b, offset, now)
		offset += uint64(len(b))
		return len(b), e
	})
}

// log passes a program's words on, up to the limit. The part that fits is
// passed on before the limit ends the program.
func (p *process) log(to io.Writer, b []byte) (int, errno) {
	left := p.limits.LogBytes - p.logged
	if uint64(len(b)) > left {
		b = b[:left]
		p.end(StatusOutputLimit, "limit log_bytes reached")
	}
	p.logged += uint64(len(b))
	if to != nil {
		if _, err := to.Write(b); err != nil {
			p.noteFault(err)
			return 0, errnoIO
		}
	}
	return len(b), errnoSuccess
}

const direntBytes = 24

// fdReaddir fills a buffer with entries from a cookie on, the last one cut off
// where the buffer ends. Cookie 0 takes a new look at the directory.
func (p *process) fdReaddir(a *args) errno {
	h, e := p.directory(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	buf, e := p.bytes(a.u32(1), a.u32(2))
	if e != errnoSuccess {
		return e
	}
	cookie := a[3]
	if cookie == 0 {
		p.cost += fuelEntry * uint64(len(h.node.children))
		if e := p.list(h); e != errnoSuccess {
			return e
		}
	}
	if cookie > uint64(len(h.entries)) {
		return errnoInval
	}
	used := 0
	for i, entry := range h.entries[cookie:] {
		if used == len(buf) {
			break
		}
		head := make([]byte, direntBytes, direntBytes+len(entry.name))
		binary.LittleEndian.PutUint64(head, cookie+uint64(i)+1)
		binary.LittleEndian.PutUint64(head[8:], entry.node.ino)
		binary.LittleEndian.PutUint32(head[16:], uint32(len(entry.name)))
		head[20] = (&handle{node: entry.node}).fileType()
		used += copy(buf[used:], append(head, entry.name...))
	}
	p.cost += fuelByte * uint64(used)
	return p.put32(a.u32(4), uint32(used))
}

// maxListed bounds what the descriptors of a program hold of directories that
// they listed: it is memory of the host, and keeps removed files in it.
const maxListed = 1 << 18

// list takes a new look at a directory.
func (p *process) list(h *handle) errno {
	h.entries = nil
	listed := len(h.node.children) + 2
	for _, other := range p.handles {
		if other != nil {
			listed += len(other.entries)
		}
	}
	if listed > maxListed {
		return errnoNomem
	}
	parent := h.node.parent
	if parent == nil {
		parent = h.node
	}
	h.entries = append(make([]dirent, 0, len(h.node.children)+2), dirent{".", h.node}, dirent{"..", parent})
	for _, name := range h.node.names() {
		h.entries = append(h.entries, dirent{name, h.node.children[name]})
	}
	return errnoSuccess
}
