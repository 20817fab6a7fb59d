package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
)

// payableFor is for how long from now on a claim must be paid for it to be worth posting: it takes a few
// blocks to get there, and clocks differ. A chain whose claim window is short asks for less of it.
func payableFor(p *chain.Params) uint64 {
	return min(uint64(time.Minute.Milliseconds()), p.ClaimWindowMs/4)
}

// stateFor is how old a state may be that is asked about a claim: clocks differ, and blocks take their time.
const stateFor = 2 * time.Minute

// ErrClaimed says that the chain has a claim of that order, node and sequence already.
var ErrClaimed = errors.New("sdk: the chain has the claim")

// UnpayableError says why the chain would not pay a claim that is posted now.
type UnpayableError struct{ Why string }

func (e *UnpayableError) Error() string { return "sdk: the claim would not be paid: " + e.Why }

// CheckPayable looks, with proofs, whether the chain would pay a claim under none or zk that is posted within the
// next minute, or a quarter of the claim window if that is less: at the order's state, the claim window, what the escrow holds for as long, and whether cluster and node
// are registered. It looks at neither signatures nor proof. Errors: ErrClaimed, *UnpayableError; any other
// says that nothing is known.
func (c *Client) CheckPayable(ctx context.Context, claim *chain.Claim) (err error) {
	genesis := c.config.Genesis
	if genesis == nil {
		return ErrNoTrust
	}
	defer func() {
		switch fault := recover().(type) {
		case nil:
		case *state.Fault: // a record that this version does not know
			err = fault
		default:
			panic(fault)
		}
	}()
	known := state.NewMemoryBackend()
	for asked := 0; ; {
		keys := settlement.PayableKeys(known, claim)
		if asked == len(keys) {
			break
		}
		for _, key := range keys[asked:] {
			value, err := c.stateThat(ctx, key, recent)
			if err != nil {
				return err
			}
			if raw, there := value.Get(); there {
				known.Set(key, raw)
			}
		}
		asked = len(keys)
	}
	receipt := &claim.Receipt
	if order, there := settlement.OrderOf(known, receipt.Order); there && order.Claimed(receipt.Node, receipt.Sequence) {
		return fmt.Errorf("%w: order %s, node %s, sequence %d", ErrClaimed, receipt.Order.Short(), receipt.Node.Short(), receipt.Sequence)
	}
	env := settlement.Env{
		ChainID: genesis.ChainID, Now: chain.TimeMs(time.Now().UnixMilli()), Params: genesis.Params, Kernels: genesis.VerifyingKeys(),
	}
	if why := settlement.Payable(known, env, claim, payableFor(&genesis.Params)); why != nil {
		return &UnpayableError{Why: why.Reason()}
	}
	return nil
}

// recent says why a state is too old to go by.
func recent(value light.Value) error {
	if age := time.Since(time.UnixMilli(int64(min(value.Header().TimeMs(), 1<<52)))); age > stateFor {
		return fmt.Errorf("the newest state that is shown is %s old: nobody is paid meanwhile", age.Round(time.Second))
	}
	return nil
}
