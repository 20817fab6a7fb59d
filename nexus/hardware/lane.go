// Package hardware is the benchmark that shows how many cores and how much memory a machine
// has at one time.
//
// A core runs a lane. A lane fills its share of memory with blocks, each made of three others
// that only the block before it names, and then walks over them in an order that each step
// decides for the next. So a lane takes one core from its beginning to its end, and all of its
// memory until then: what is not kept has to be made again, block out of block. The digests of
// all blocks, and the steps of the walk, are the leaves of two trees, whose roots are what a
// lane gives; a few leaves that are drawn after the roots were given show that the lane was
// run. Nobody who checks them needs the memory.
//
// Everything is a pure function of its arguments.
package hardware

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

const (
	// BlockBytes is how large a block is: so many that a processor's wide units are busy.
	BlockBytes = 8 << 10
	// References are the blocks that a block is made of.
	References = 3
	// MinBlocks and MaxBlocks bound a lane's memory, to 8 GiB.
	MinBlocks = 64
	MaxBlocks = 1 << 20
	// walkSteps are the steps of the walk for each block.
	walkSteps = 2
	// MaxLanes bounds the lanes of a challenge: chain.MaxMillicores is below.
	MaxLanes = 1 << 11
	// blocksPerMiB is how many blocks are a MiB.
	blocksPerMiB = 1 << 20 / BlockBytes
	// slackMs is what messages may take beside.
	slackMs = 2_000
)

// Task is what a challenge asks for.
type Task struct {
	Seed   crypto.Digest // the chain's, for this node and challenge
	Lanes  uint64        // 1 to MaxLanes
	Blocks uint64        // of each lane, MinBlocks to MaxBlocks
}

// TaskOf returns the task of a machine with so many lanes and so much memory for all of them
// together, of which an eighth stays for what keeps the trees and for the system: no lane fills
// more than laneMiB. It is false if that is nothing to ask for.
func TaskOf(seed crypto.Digest, lanes, memoryMiB, laneMiB uint64) (Task, bool) {
	if lanes == 0 || lanes > MaxLanes {
		return Task{}, false
	}
	each := min(memoryMiB/lanes, laneMiB, MaxBlocks/blocksPerMiB)
	t := Task{Seed: seed, Lanes: lanes, Blocks: max(each*blocksPerMiB/8*7, MinBlocks)}
	return t, t.Check() == nil
}

// LimitMs is how long the task may take until its roots are there, where a step may take so long.
func (t *Task) LimitMs(stepNs uint64) uint64 { return t.Steps()*stepNs/1_000_000 + slackMs }

// Check returns an error that names the first field that is outside its limits.
func (t *Task) Check() error {
	switch {
	case t.Lanes < 1 || t.Lanes > MaxLanes:
		return fmt.Errorf("hardware: lanes is %d, want 1 to %d", t.Lanes, MaxLanes)
	case t.Blocks < MinBlocks || t.Blocks > MaxBlocks:
		return fmt.Errorf("hardware: blocks is %d, want %d to %d", t.Blocks, MinBlocks, MaxBlocks)
	}
	return nil
}

// Steps is how many steps of about one length a lane takes, one after the other.
func (t *Task) Steps() uint64 { return t.Blocks * (1 + walkSteps) }

// walked is how many leaves the tree of the walk has: where it begins, and each step.
func (t *Task) walked() uint64 { return t.Blocks*walkSteps + 1 }

// Roots is what a lane gives.
type Roots struct {
	_    struct{} `cbor:",toarray"`
	Fill crypto.Digest
	Walk crypto.Digest
}

// Lane is a lane that was run: it holds all of its memory.
type Lane struct {
	task   Task
	memory []byte
	fill   []tree
	walk   []tree
}

// seedOf returns what a lane is made from.
func (t *Task) seedOf(lane uint64) crypto.Digest {
	return crypto.DomainLane.Hash(binary.BigEndian.AppendUint64(t.Seed[:], lane))
}

// Run runs a lane. stop is asked now and then, and ends it if it says so: then there is none.
func Run(t Task, lane uint64, stop func() bool) *Lane {
	if err := t.Check(); err != nil || lane >= t.Lanes {
		panic(fmt.Sprintf("hardware: lane %d of a task that was not checked: %v", lane, err))
	}
	const often = 1 << 10
	l := &Lane{task: t, memory: make([]byte, t.Blocks*BlockBytes)}
	seed := t.seedOf(lane)
	leaves := make([]crypto.Digest, t.Blocks)
	for i := range t.Blocks {
		if i%often == 0 && stop() {
			return nil
		}
		key := l.task.key(seed, i, leaves)
		expand(l.block(i), key)
		for _, r := range references(key, i) {
			subtle.XORBytes(l.block(i), l.block(i), l.block(r))
		}
		leaves[i] = crypto.DomainLane.Hash(l.block(i))
	}
	l.fill = newTree(leaves)
	steps := make([]crypto.Digest, t.walked())
	steps[0] = start(seed, l.Roots().Fill)
	buffer := make([]byte, 0, crypto.DigestSize+BlockBytes)
	for i := uint64(1); i < t.walked(); i++ {
		if i%often == 0 && stop() {
			return nil
		}
		last := steps[i-1]
		buffer = append(append(buffer[:0], last[:]...), l.block(next(last, t.Blocks))...)
		steps[i] = crypto.DomainLane.Hash(buffer)
	}
	l.walk = newTree(steps)
	return l
}

func (l *Lane) block(i uint64) []byte { return l.memory[i*BlockBytes : (i+1)*BlockBytes] }

// Roots returns what the lane gives.
func (l *Lane) Roots() Roots {
	r := Roots{Fill: l.fill[len(l.fill)-1][0]}
	if l.walk != nil {
		r.Walk = l.walk[len(l.walk)-1][0]
	}
	return r
}

// key is what a block begins with, from the digest of the one before it.
func (t *Task) key(seed crypto.Digest, i uint64, leaves []crypto.Digest) crypto.Digest {
	before := crypto.Digest{}
	if i > 0 {
		before = leaves[i-1]
	}
	return keyOf(seed, i, before)
}

func keyOf(seed crypto.Digest, i uint64, before crypto.Digest) crypto.Digest {
	return crypto.DomainLane.Hash(append(binary.BigEndian.AppendUint64(seed[:], i), before[:]...))
}

// references returns the blocks before the i-th that a key names: none of the first.
func references(key crypto.Digest, i uint64) []uint64 {
	if i == 0 {
		return nil
	}
	list := make([]uint64, References)
	for n := range list {
		list[n] = scale(binary.BigEndian.Uint64(key[8*n:]), i)
	}
	return list
}

// start is where the walk begins, once the memory is filled.
func start(seed, fill crypto.Digest) crypto.Digest {
	return crypto.DomainLane.Hash(append(seed[:], fill[:]...))
}

// next is the block that a walk looks at after a step.
func next(step crypto.Digest, blocks uint64) uint64 {
	return scale(binary.BigEndian.Uint64(step[:]), blocks)
}

// expand fills a block from a key: with the cipher that processors have built in, so that
// nobody's program is much faster than this one.
func expand(block []byte, key crypto.Digest) {
	c, err := aes.NewCipher(key[:])
	if err != nil {
		panic("hardware: a digest is no key: " + err.Error())
	}
	clear(block)
	cipher.NewCTR(c, make([]byte, aes.BlockSize)).XORKeyStream(block, block)
}

func scale(lot, n uint64) uint64 {
	scaled, _ := bits.Mul64(lot, n)
	return scaled
}
