package execution

import (
	"context"
	"math"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// ContractPricesV1 are what contracts cost in gas: of what the state does, what it costs
// every message.
func ContractPricesV1() contract.Prices {
	p, t := contract.PricesV1(), GasTableV1()
	p.Read, p.ReadByte, p.Write, p.Insert, p.WriteByte = t.Read, t.ReadByte, t.Write, t.Insert, t.WriteByte
	return p
}

// contractMessage executes a message about contracts, which counts its own gas.
func (r *run) contractMessage(tx *chain.VerifiedTx, m any) (chain.Events, *chain.Rejection) {
	body := &tx.Tx().Body
	env := contract.Env{
		ChainID: r.x.chainID, Height: r.at.height, Now: r.at.now, ProgressMs: r.env.ProgressMs, Payer: body.Payer(), Prices: r.x.prices, VM: r.x.vm,
		Tx:   &contract.Tx{Index: uint32(len(r.receipts.Txs)), ID: tx.ID()},
		Said: &r.said,
	}
	env.Host = r.reached()
	did := contract.Do(r.tx, &env, body.Sender, m, r.meter.limit-min(r.meter.used, r.meter.limit))
	if r.meter.charge(did.Gas); did.Spent {
		r.meter.charge(math.MaxUint64) // metered says so
		return nil, nil
	}
	return did.Events, did.Why
}

// reached is what of the chain contracts reach.
func (r *run) reached() contract.Host {
	if r.x.over == nil {
		return &host{run: r}
	}
	return r.x.over(&host{run: r})
}

// maxQueryGas is what a query from outside may use.
const maxQueryGas = 2_000_000

// AskContract has a contract answer a query on a state, as of the block that left it. When ctx
// ends, so does the call, with its error, as soon as the contract reaches for something.
func (x *Executor) AskContract(ctx context.Context, r state.Reader, to chain.Address, msg []byte) (answer []byte, gas chain.Gas, why *chain.Rejection, err error) {
	defer recoverFault(&err)
	head, err := HeadOf(r)
	if err != nil {
		return nil, gas, nil, err
	}
	asked := &run{x: x, env: settlement.Env{ChainID: x.chainID, Height: head.Height, Now: head.TimeMs}, proofs: newProofs(x.verifier)}
	env := contract.Env{
		ChainID: x.chainID, Height: head.Height, Now: head.TimeMs, ProgressMs: head.ProgressMs, Prices: x.prices, VM: x.vm, Host: asked.reached(), Ended: ctx.Err,
	}
	answer, used, why := contract.Ask(r, &env, to, msg, maxQueryGas)
	return answer, chain.GasUnits(used), why, nil
}
