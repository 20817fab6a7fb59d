package executor

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/wasm"
)

// tornBytes are left out at the end of a memory: a store that goes beyond it traps, and whether the
// part before it is done depends on the processor.
const tornBytes = 16

var zeroPage [wasm.PageBytes]byte

// digestBytes is how much of a memory is hashed at most: what a program leaves beyond that proves nothing,
// and costs a node no time that nobody pays for.
const digestBytes = 1 << 30

// memoryDigest is the digest of what a program left in its memory: how large it is, and each page
// that is not zero, with its number, as many as a limit of bytes allows. A page that nobody has written
// to is looked at, not hashed. It ends with ctx.
func memoryDigest(ctx context.Context, memory []byte, limit int) (crypto.Digest, error) {
	hash := crypto.DomainMemory.NewStream()
	put := func(p []byte) {
		if _, err := hash.Write(p); err != nil {
			panic("executor: a hash refused bytes: " + err.Error())
		}
	}
	var head [8]byte
	binary.BigEndian.PutUint64(head[:], uint64(len(memory)))
	put(head[:])
	memory = memory[:max(len(memory), tornBytes)-tornBytes]
	for n := uint64(0); len(memory) > 0; n++ {
		if ctx.Err() != nil {
			return crypto.Digest{}, context.Cause(ctx)
		}
		page := memory[:min(len(memory), wasm.PageBytes)]
		memory = memory[len(page):]
		if bytes.Equal(page, zeroPage[:len(page)]) {
			continue
		}
		if limit -= len(page); limit < 0 {
			break
		}
		binary.BigEndian.PutUint64(head[:], n)
		put(head[:])
		put(page)
	}
	return hash.Sum(), nil
}

// repeatable reports whether the memory is asked for, and other machines can be held to what the program left in its memory: not
// if it was ended by a clock or by somebody, nor if its stack was exhausted, at a depth that depends
// on the processor, nor if it never began.
func (p *process) repeatable() bool {
	return p.digest && p.mode == ModeDeterministic && p.memory != nil && !p.overflowed && p.status != StatusTimedOut && p.status != StatusCancelled
}
