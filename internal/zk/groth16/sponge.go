package groth16

import (
	"fmt"

	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/std/permutation/poseidon2"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// sponge is zk's sponge inside a circuit: 363 constraints for each started
// block of SpongeRate elements, three for each of the 121 S-boxes.
func sponge(api frontend.API, use zk.SpongeUse, message []frontend.Variable) (frontend.Variable, error) {
	permutation, err := poseidon2.NewPoseidon2FromParameters(
		api, zk.SpongeWidth, zk.SpongeFullRounds, zk.SpongePartialRounds)
	if err != nil {
		return nil, fmt.Errorf("poseidon2: %w", err)
	}
	state := make([]frontend.Variable, zk.SpongeWidth)
	for i := range state {
		state[i] = 0
	}
	state[zk.SpongeRate] = zk.SpongeCapacity(use, len(message))
	for len(message) > 0 {
		n := min(zk.SpongeRate, len(message))
		for i := range n {
			state[i] = api.Add(state[i], message[i])
		}
		message = message[n:]
		if err := permutation.Permutation(state); err != nil {
			return nil, fmt.Errorf("poseidon2: %w", err)
		}
	}
	return state[0], nil
}
