package executor

// This file is the part of preview 1 that works on paths.

const (
	openCreate    = 1
	openDirectory = 2
	openExclusive = 4
	openTruncate  = 8
)

// at resolves the path at ptr from the directory fd.
func (p *process) at(fd, ptr, length uint32) (place, errno) {
	h, e := p.directory(fd)
	if e != errnoSuccess {
		return place{}, e
	}
	path, e := p.text(ptr, length)
	if e != errnoSuccess {
		return place{}, e
	}
	p.cost += fuelByte * uint64(length)
	return walk(h.node, path)
}

// entry is a place whose name may be removed: something, not reached through
// "." or "..", in a mount that may be written to.
func (p *process) entry(fd, ptr, length uint32) (place, errno) {
	at, e := p.at(fd, ptr, length)
	switch {
	case e != errnoSuccess:
		return place{}, e
	case at.node == nil:
		return place{}, errnoNoent
	case at.node.mount.readOnly:
		return place{}, errnoRofs
	case at.name == "":
		return place{}, errnoInval
	}
	return at, errnoSuccess
}

// pathOpen: (fd, lookup flags, path, path length, open flags, rights,
// inheriting rights, descriptor flags, result). Nothing changes on failure.
func (p *process) pathOpen(a *args) errno {
	at, e := p.at(a.u32(0), a.u32(2), a.u32(3))
	if e != errnoSuccess {
		return e
	}
	how, rights, flags := a.u32(4), a[5], a.u32(7)
	if flags > allFlags {
		return errnoInval
	}
	if e := at.openable(how, rights); e != errnoSuccess {
		return e
	}
	h := &handle{node: at.node, flags: uint16(flags), rights: rights & allRights}
	fd, e := p.install(h)
	if e != errnoSuccess {
		return e
	}
	if e := p.put32(a.u32(8), fd); e != errnoSuccess {
		p.handles[fd] = nil
		return e
	}
	now := p.clock.now()
	if h.node == nil {
		if h.node, e = at.dir.mount.create(at, false, now); e != errnoSuccess {
			p.handles[fd] = nil
			return e
		}
	}
	if e := h.node.mount.open(h.node); e != errnoSuccess {
		return e // a fault, which ends the run
	}
	if !h.node.isDir() {
		h.rights |= rightSeek | rightTell
	}
	if how&openTruncate != 0 && h.node.size > 0 {
		return h.node.truncate(0, now)
	}
	return errnoSuccess
}

// openable refuses what cannot be opened that way.
func (at place) openable(how uint32, rights uint64) errno {
	const writing = rightWrite | rightAlloc
	n := at.node
	switch {
	case how > openCreate|openDirectory|openExclusive|openTruncate:
		return errnoInval
	case n == nil && how&openCreate == 0:
		return errnoNoent
	case n == nil && (how&openDirectory != 0 || at.mustDir):
		return errnoInval
	case n != nil && how&openCreate != 0 && how&openExclusive != 0:
		return errnoExist
	case n != nil && how&openDirectory != 0 && !n.isDir():
		return errnoNotdir
	case n != nil && n.isDir() && how&(openCreate|openTruncate) != 0:
		return errnoIsdir
	case n != nil && n.isDir():
		// Whoever opens a path without knowing what it is asks for every right.
		return errnoSuccess
	case at.dir.mount.readOnly && (rights&writing != 0 || how&openTruncate != 0):
		return errnoRofs
	}
	return errnoSuccess
}

func (p *process) pathCreateDirectory(a *args) errno {
	at, e := p.at(a.u32(0), a.u32(1), a.u32(2))
	switch {
	case e != errnoSuccess:
		return e
	case at.node != nil:
		return errnoExist
	}
	_, e = at.dir.mount.create(at, true, p.clock.now())
	return e
}

func (p *process) pathFilestatGet(a *args) errno {
	at, e := p.at(a.u32(0), a.u32(2), a.u32(3))
	switch {
	case e != errnoSuccess:
		return e
	case at.node == nil:
		return errnoNoent
	}
	return p.putFilestat(a.u32(4), at.node)
}

func (p *process) pathFilestatSetTimes(a *args) errno {
	at, e := p.at(a.u32(0), a.u32(2), a.u32(3))
	switch {
	case e != errnoSuccess:
		return e
	case at.node == nil:
		return errnoNoent
	}
	return p.setTimes(at.node, a[4], a[5], a.u32(6))
}

// pathLink: there are no hard links here.
func (p *process) pathLink(*args) errno { return errnoNotsup }

// pathSymlink: there are no symbolic links here.
func (p *process) pathSymlink(*args) errno { return errnoNotsup }

// pathReadlink: what there is, is not a link.
func (p *process) pathReadlink(a *args) errno {
	at, e := p.at(a.u32(0), a.u32(1), a.u32(2))
	switch {
	case e != errnoSuccess:
		return e
	case at.node == nil:
		return errnoNoent
	}
	return errnoInval
}

func (p *process) pathRemoveDirectory(a *args) errno {
	at, e := p.entry(a.u32(0), a.u32(1), a.u32(2))
	switch {
	case e != errnoSuccess:
		return e
	case !at.node.isDir():
		return errnoNotdir
	case len(at.node.children) > 0:
		return errnoNotempty
	}
	return at.node.mount.unlink(at, p.clock.now())
}

func (p *process) pathUnlinkFile(a *args) errno {
	at, e := p.entry(a.u32(0), a.u32(1), a.u32(2))
	switch {
	case e != errnoSuccess:
		return e
	case at.node.isDir():
		return errnoIsdir
	}
	return at.node.mount.unlink(at, p.clock.now())
}

func (p *process) pathRename(a *args) errno {
	from, e := p.entry(a.u32(0), a.u32(1), a.u32(2))
	if e != errnoSuccess {
		return e
	}
	to, e := p.at(a.u32(3), a.u32(4), a.u32(5))
	switch {
	case e != errnoSuccess:
		return e
	case to.dir.mount != from.dir.mount:
		return errnoXdev
	case to.name == "":
		return errnoInval
	}
	p.cost += fuelEntry * from.node.weight()
	return from.dir.mount.rename(from, to, p.clock.now())
}
