package execution

import (
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// Genesis writes the first state of a chain: the one that block 1 is executed
// on. It is an error if the genesis breaks a rule or the state is not empty.
func Genesis(kv state.KV, g *chain.Genesis) (err error) {
	defer recoverFault(&err)
	if err := g.Check(); err != nil {
		return err
	}
	for range kv.Iterate([]byte{0}, nil) {
		return errors.New("execution: genesis on a state that is not empty")
	}
	staked, err := staking.Genesis(kv, g)
	if err != nil {
		return err
	}
	if err := tokens.Genesis(kv, g.Allocations, staked); err != nil {
		return err
	}
	state.Save(kv, ParamsKey(), g.Params)
	state.Save(kv, HeadKey(), Head{TimeMs: g.TimeMs, BaseFee: g.Params.BaseFeeFloor})
	if _, err := Recompute(kv); err != nil {
		return fmt.Errorf("execution: genesis: %w", err)
	}
	return nil
}
