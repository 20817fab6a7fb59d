package executor

import (
	"encoding/binary"
	"io"
)

// This file is the part of preview 1 that is not about files: arguments,
// environment, clocks, randomness, waiting, signals and sockets.

func (p *process) argsGet(a *args) errno { return p.vectorGet(p.args, a.u32(0), a.u32(1)) }

func (p *process) argsSizesGet(a *args) errno { return p.vectorSizes(p.args, a.u32(0), a.u32(1)) }

func (p *process) environGet(a *args) errno { return p.vectorGet(p.env, a.u32(0), a.u32(1)) }

func (p *process) environSizesGet(a *args) errno { return p.vectorSizes(p.env, a.u32(0), a.u32(1)) }

func (p *process) vectorSizes(list []string, countPtr, bytesPtr uint32) errno {
	total := 0
	for _, s := range list {
		total += len(s) + 1
	}
	if e := p.put32(countPtr, uint32(len(list))); e != errnoSuccess {
		return e
	}
	return p.put32(bytesPtr, uint32(total))
}

// vectorGet writes the strings, each with a NUL, at data, and a pointer to
// each at table.
func (p *process) vectorGet(list []string, table, data uint32) errno {
	for i, s := range list {
		if e := p.put32(table+4*uint32(i), data); e != errnoSuccess {
			return e
		}
		b, e := p.bytes(data, uint32(len(s)+1))
		if e != errnoSuccess {
			return e
		}
		copy(b, s)
		b[len(s)] = 0
		data += uint32(len(b))
		p.cost += fuelByte * uint64(len(b))
	}
	return errnoSuccess
}

// Clock ids.
const (
	clockRealtime   = 0
	clockMonotonic  = 1
	clockProcessCPU = 2
	clockThreadCPU  = 3
)

func (p *process) readClock(id uint32) (uint64, errno) {
	switch id {
	case clockRealtime:
		return p.clock.now(), errnoSuccess
	case clockMonotonic:
		return p.clock.elapsed(), errnoSuccess
	case clockProcessCPU, clockThreadCPU:
		return p.fuelUsed() / fuelPerNano, errnoSuccess
	}
	return 0, errnoInval
}

func (p *process) clockResGet(a *args) errno {
	if a.u32(0) > clockThreadCPU {
		return errnoInval
	}
	return p.put64(a.u32(1), 1)
}

func (p *process) clockTimeGet(a *args) errno {
	now, e := p.readClock(a.u32(0))
	if e != errnoSuccess {
		return e
	}
	return p.put64(a.u32(2), now)
}

func (p *process) randomGet(a *args) errno {
	b, e := p.bytes(a.u32(0), a.u32(1))
	if e != errnoSuccess {
		return e
	}
	p.cost += fuelByte * uint64(len(b))
	if _, err := io.ReadFull(p.random, b); err != nil {
		p.noteFault(err)
		return errnoIO
	}
	return errnoSuccess
}

func (p *process) schedYield(*args) errno { return errnoSuccess }

// procRaise: there are no signals here.
func (p *process) procRaise(*args) errno { return errnoNotsup }

// sock: no descriptor is a socket.
func (p *process) sock(a *args) errno {
	if _, e := p.handle(a.u32(0)); e != errnoSuccess {
		return e
	}
	return errnoNotsock
}

const (
	subscriptionBytes = 48
	eventBytes        = 32
	maxSubscriptions  = 4096

	eventClock = 0
	eventRead  = 1
	eventWrite = 2

	clockAbsolute = 1
)

// subscription is one thing that poll_oneoff waits for.
type subscription struct {
	userdata uint64
	kind     byte
	err      errno
	wait     uint64 // of a clock: ns from now
	ready    bool
}

// pollOneoff waits until one of the subscriptions is ready. Files and streams
// always are.
func (p *process) pollOneoff(a *args) errno {
	in, out, count := a.u32(0), a.u32(1), a.u32(2)
	if count == 0 || count > maxSubscriptions {
		return errnoInval
	}
	p.cost += fuelByte * subscriptionBytes * uint64(count)
	raw, e := p.bytes(in, count*subscriptionBytes)
	if e != errnoSuccess {
		return e
	}
	subs := make([]subscription, count)
	shortest, immediate := uint64(1<<64-1), false
	for i := range subs {
		subs[i] = p.subscription(raw[i*subscriptionBytes:])
		if subs[i].ready {
			immediate = true
		} else {
			shortest = min(shortest, subs[i].wait)
		}
	}
	if immediate {
		shortest = 0
	} else if !p.clock.sleep(shortest) {
		p.interrupted()
		return errnoInval
	}
	return p.events(subs, shortest, out, a.u32(3))
}

func (p *process) subscription(raw []byte) subscription {
	s := subscription{userdata: binary.LittleEndian.Uint64(raw), kind: raw[8]}
	switch s.kind {
	case eventClock:
		now, e := p.readClock(binary.LittleEndian.Uint32(raw[16:]))
		s.wait = binary.LittleEndian.Uint64(raw[24:])
		if binary.LittleEndian.Uint16(raw[40:])&clockAbsolute != 0 {
			s.wait -= min(now, s.wait)
		}
		s.err = e
	case eventRead, eventWrite:
		_, s.err = p.handle(binary.LittleEndian.Uint32(raw[16:]))
		s.ready = true
	default:
		s.err = errnoInval
	}
	s.ready = s.ready || s.err != errnoSuccess || s.wait == 0
	return s
}

// events writes one event for each subscription that is ready after waiting.
func (p *process) events(subs []subscription, waited uint64, out, countPtr uint32) errno {
	b, e := p.bytes(out, uint32(len(subs))*eventBytes)
	if e != errnoSuccess {
		return e
	}
	n := uint32(0)
	for _, s := range subs {
		if !s.ready && s.wait > waited {
			continue
		}
		event := b[n*eventBytes:][:eventBytes]
		clear(event)
		binary.LittleEndian.PutUint64(event, s.userdata)
		binary.LittleEndian.PutUint16(event[8:], uint16(s.err))
		event[10] = s.kind
		n++
	}
	return p.put32(countPtr, n)
}
