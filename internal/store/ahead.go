package store

import (
	"math"
	"runtime"
	"slices"

	"github.com/hypermesh/hypermesh/internal/state"
)

// keysAhead is how many keys are looked for together.
const keysAhead = 64

var (
	_ state.AheadReader = latest{}
	_ state.AheadReader = flat{}
)

// Ahead looks for what keys have in memory, for who is going to read them: the processor
// waits for many at a time, where each read for itself waits for one place after the
// other. It says nothing, and reads nothing from the disk.
func (l latest) Ahead(keys [][]byte) {
	flat{view: l.s.view.Load(), height: math.MaxUint64, records: l.s.records}.Ahead(keys)
}

// Ahead is that of latest.
func (f flat) Ahead(keys [][]byte) {
	var seen byte
	for some := range slices.Chunk(keys, keysAhead) {
		var hashes [keysAhead]uint32
		for i, key := range some {
			hashes[i] = pendingHash(key)
		}
		seen ^= f.view.new.look(hashes[:len(some)])
		if f.view.old != nil {
			seen ^= f.view.old.look(hashes[:len(some)])
		}
		seen ^= f.records.look(some)
	}
	runtime.KeepAlive(seen)
}

// look reads where the last changes of hashes are.
func (p *pending) look(hashes []uint32) (seen byte) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	seen = p.newest.look(hashes)
	for _, hash := range hashes {
		if s := p.newest.slot(hash); s.block != 0 {
			seen ^= p.blocks[s.block-1].changes.Look(s.place)
		}
	}
	return seen
}

// look reads the first slots for hashes.
func (x *cellIndex) look(hashes []uint32) (seen byte) {
	mask := uint32(len(x.slots) - 1)
	for _, hash := range hashes {
		seen ^= byte(x.slots[hash&mask].hash)
	}
	return seen
}

// look reads where the records of up to keysAhead keys are.
func (c *records) look(keys [][]byte) (seen byte) {
	if !c.any.Load() {
		return 0
	}
	var shards [keysAhead]*recordShard
	var places [keysAhead]uint32
	for i, key := range keys {
		s, hash := c.shard(key)
		shards[i], places[i] = s, s.lookFor(hash)
	}
	for i, s := range shards[:len(keys)] {
		seen ^= s.lookAt(places[i])
	}
	return seen
}

// lookFor returns what is in the first place for a hash.
func (s *recordShard) lookFor(hash uint32) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		return 0
	}
	return s.place(hash & s.mask)
}

// lookAt reads where the record of a place was, and may still be.
func (s *recordShard) lookAt(place uint32) byte {
	if place == 0 {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := offsetOf(place)
	if at >= len(s.ring) {
		return 0
	}
	return s.ring[at] ^ s.ring[min(at+recordHeader+recordLook, len(s.ring)-1)]
}
