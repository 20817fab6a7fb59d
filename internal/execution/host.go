package execution

import (
	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// host is what of the chain contracts reach by messages and queries that only it has.
type host struct{ run *run }

var _ contract.Host = (*host)(nil)

// maxAskedClaims is how many claims of an order a contract is told of.
const maxAskedClaims = 64

// metered does something with a state of which everything is charged, as far as there is gas.
func (h *host) metered(layer *state.Overlay, gas uint64, do func(kv *meteredKV, m *meter)) (used uint64, spent bool) {
	m := &meter{table: &h.run.x.gas, limit: gas}
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(exhausted); !ours {
				panic(p)
			}
		}
		used, spent = min(m.used, gas), m.exceeded()
	}()
	do(&meteredKV{kv: layer, meter: m}, m)
	return 0, false
}

// Message does one of the messages that contracts have.
func (h *host) Message(layer *state.Overlay, from chain.Address, m chain.Msg, gas uint64) (out contract.Result) {
	env := h.run.env
	out.Gas, out.Spent = h.metered(layer, gas, func(kv *meteredKV, meter *meter) {
		meter.demand(h.run.x.gas.message(m))
		switch m := any(m).(type) {
		case chain.Deposit:
			out.Events, out.Why = one(settlement.Deposit(kv, &env, from, m))
		case chain.Withdraw:
			out.Events, out.Why = one(settlement.Withdraw(kv, &env, from, m))
		case chain.OpenChannel:
			out.Events, out.Why = one(settlement.OpenChannel(kv, &env, from, m))
		case chain.FundChannel:
			out.Events, out.Why = one(settlement.FundChannel(kv, &env, from, m))
		case chain.CloseChannel:
			out.Events, out.Why = one(settlement.CloseChannel(kv, &env, from, m))
		case chain.ExtendLease:
			out.Events, out.Why = one(settlement.ExtendLease(kv, &env, from, m))
		default:
			panic("execution: a message that contracts do not have")
		}
	})
	return out
}

// Query answers what contracts ask about settlement, and for proofs.
func (h *host) Query(r state.Reader, q contract.Question, gas uint64) (answer any, used uint64) {
	used, spent := h.metered(state.NewOverlay(r), gas, func(kv *meteredKV, m *meter) {
		switch q := q.(type) {
		case contract.AskEscrow:
			answer = contract.EscrowAnswer{Balance: contract.Number(settlement.EscrowOf(kv, q.Consumer, q.Cluster).Balance.Nano())}
		case contract.AskOrder:
			answer = orderAnswer(kv, &q)
		case contract.AskLease:
			answer = h.leaseAnswer(kv, &q)
		case contract.AskNode:
			answer = h.nodeAnswer(kv, &q)
		case contract.AskProof:
			answer = h.proofAnswer(m, &q)
		}
	})
	if spent {
		return nil, used
	}
	return answer, used
}

func orderAnswer(r state.Reader, q *contract.AskOrder) contract.OrderAnswer {
	order, claims, ok := settlement.Settlement(r, q.Order)
	if !ok {
		return contract.OrderAnswer{}
	}
	out := &contract.OrderState{
		Consumer: order.Consumer, Cluster: order.Cluster, Policy: order.Policy.Policy.String(), MaxCost: contract.Number(order.MaxCost.Nano()),
		Spent: contract.Number(order.Spent.Nano()), Deadline: contract.Number(uint64(order.Deadline)), Closed: order.Closed, Claims: []contract.ClaimState{},
	}
	_, replicated := order.Policy.Policy.(chain.PolicyReplicate)
	for i := range claims[:min(len(claims), maxAskedClaims)] {
		c := &claims[i]
		out.Claims = append(out.Claims, contract.ClaimState{
			Node: c.Node, Provider: c.Provider, Sequence: contract.Number(c.Sequence), Result: c.Result, Exit: c.Exit.String(),
			Settled: c.Settled(), Verified: c.Settled() && (c.ProofVerified || replicated), Cost: contract.Number(c.Cost.Nano()),
		})
	}
	return contract.OrderAnswer{Order: out}
}

func (h *host) leaseAnswer(r state.Reader, q *contract.AskLease) contract.LeaseAnswer {
	l, ok := settlement.LeaseOf(r, q.Lease)
	if !ok || h.run.env.Now >= l.Expires { // which is over, whichever block deletes it
		return contract.LeaseAnswer{}
	}
	return contract.LeaseAnswer{Lease: &contract.LeaseState{
		Consumer: l.Consumer, Provider: l.Provider, Cluster: l.Cluster, Terms: l.Order, Rate: contract.Number(l.Rate), Held: contract.Number(l.Held.Nano()),
		PaidTo: contract.Number(uint64(l.Until)), Expires: contract.Number(uint64(l.Expires)), Closing: l.Closing,
	}}
}

func (h *host) nodeAnswer(r state.Reader, q *contract.AskNode) contract.NodeAnswer {
	p, ok := settlement.ProviderOf(r, q.Node)
	if !ok {
		return contract.NodeAnswer{}
	}
	facts := p.Record.At(h.run.env.Now)
	return contract.NodeAnswer{Node: &contract.NodeState{
		Owner: p.Owner, Bond: contract.Number(p.Bond.Nano()), Score: contract.Number(facts.Score()),
	}}
}

// proofAnswer has a proof verified that was paid for, under the key that genesis pins.
func (h *host) proofAnswer(m *meter, q *contract.AskProof) contract.ProofAnswer {
	pinned, ok := h.run.x.kernels[q.Kernel]
	if !ok || len(q.Proof) > chain.MaxProof {
		return contract.ProofAnswer{}
	}
	s := zk.Statement{Kernel: zk.Kernel(q.Kernel), VerifyingKey: pinned, Inputs: elements(q.Inputs), Output: elements(q.Outputs), Bind: zk.Field(q.Bind)}
	if s.Check() != nil {
		return contract.ProofAnswer{}
	}
	m.demand(h.run.x.proofGas[s.Kernel].Units())
	return contract.ProofAnswer{Valid: h.run.proofs.Verify(s, q.Proof) == nil}
}

func elements(list []chain.FieldBytes) []zk.Field {
	out := make([]zk.Field, len(list))
	for i, f := range list {
		out[i] = zk.Field(f)
	}
	return out
}
