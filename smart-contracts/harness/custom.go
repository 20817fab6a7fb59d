package harness

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// The custom messages of contracts.
type (
	Deposit      = chain.Deposit
	Withdraw     = chain.Withdraw
	OpenChannel  = chain.OpenChannel
	FundChannel  = chain.FundChannel
	CloseChannel = chain.CloseChannel
	ExtendLease  = chain.ExtendLease
)

// Custom stands in for what contracts do and ask that only this chain has: escrow, channels and leases, orders, nodes and
// proofs. What it has nothing to say to, the chain does and answers, as it does all where a function is nil. A stand-in's
// word costs no gas.
type Custom struct {
	// Message is told of a contract's message, a Deposit, Withdraw, OpenChannel, FundChannel, CloseChannel or ExtendLease. If done,
	// the chain does nothing, and the message has taken effect unless refused says why not.
	Message func(from Address, message any) (done bool, refused string)
	// Query answers a contract.AskEscrow, AskOrder, AskLease, AskNode or AskProof with a contract.EscrowAnswer,
	// OrderAnswer, LeaseAnswer, NodeAnswer or ProofAnswer; nil leaves it to the chain.
	Query func(question contract.Question) (answer any)
}

// over puts the stand-in before the chain.
func (c Custom) over(host contract.Host) contract.Host {
	if c.Message == nil && c.Query == nil {
		return host
	}
	return &standIn{Custom: c, host: host}
}

type standIn struct {
	Custom
	host contract.Host
}

func (s *standIn) Message(layer *state.Overlay, from chain.Address, m chain.Msg, gas uint64) contract.Result {
	if s.Custom.Message != nil {
		done, refused := s.Custom.Message(from, m)
		if done && refused != "" {
			return contract.Result{Why: chain.Reject("%s", refused)}
		}
		if done {
			return contract.Result{}
		}
	}
	return s.host.Message(layer, from, m, gas)
}

func (s *standIn) Query(r state.Reader, q contract.Question, gas uint64) (answer any, used uint64) {
	if s.Custom.Query != nil {
		if answer := s.Custom.Query(q); answer != nil {
			return answer, 0
		}
	}
	return s.host.Query(r, q, gas)
}
