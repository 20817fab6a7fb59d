package zk

import (
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"
)

// Parameters of the sponge: Poseidon2 over BN254 (eprint 2023/323 §5, §6), with
// the round keys and internal matrix that the authors' generator gives for
// width 8 at 128 bits of security. Wide, because a permutation of width 8 costs
// 363 constraints for seven elements, one of width 2 some 230 for one.
const (
	SpongeWidth         = 8 // elements of state
	SpongeRate          = 7 // elements absorbed by each permutation
	SpongeFullRounds    = 8
	SpongePartialRounds = 57
)

// SpongeUse is the purpose of a digest; no two purposes share a starting state.
type SpongeUse uint32

// Every use there is. Changing one changes the kernels that have it.
const (
	SpongeMatmulLeft SpongeUse = iota + 1
	SpongeMatmulRight
	SpongeMatmulProduct
	SpongeHashchain    // one step of the chain
	SpongeTreeNode     // four children
	SpongeTreeUpdates  // positions and new leaves of a merkle-update
	SpongeMLPModel     // salt and parameters
	SpongeMLPSample    // features
	SpongeMLPResult    // class and scores
	SpongeUsageContext // order and metering key
	SpongeUsageRecord  // what a metering key signs, and the leaf of a batch
	SpongeUsageTotals  // what a batch claims
	SpongeMeter        // chain, node and metering key, for the proof of possession
)

// SpongeCapacity returns the starting value of the capacity lane (the last) for
// a message of length elements: use · 2³² + length. All other lanes start at
// zero. With the length fixed in advance, zero padding of the last block is
// injective.
func SpongeCapacity(use SpongeUse, length int) uint64 {
	return uint64(use)<<32 | uint64(uint32(length)) // lengths are a few thousand
}

// permutation holds constants only.
var permutation = poseidon2.NewPermutation(SpongeWidth, SpongeFullRounds, SpongePartialRounds)

// Sponge absorbs the message, SpongeRate elements at a time added into the
// first lanes, and returns the first lane after the last permutation.
func Sponge(use SpongeUse, message []fr.Element) Field {
	var state [SpongeWidth]fr.Element
	state[SpongeRate].SetUint64(SpongeCapacity(use, len(message)))
	for len(message) > 0 {
		n := min(SpongeRate, len(message))
		for i := range n {
			state[i].Add(&state[i], &message[i])
		}
		message = message[n:]
		if err := permutation.Permutation(state[:]); err != nil {
			panic("zk: the permutation refused a state of its own width: " + err.Error())
		}
	}
	return Field(state[0].Bytes())
}
