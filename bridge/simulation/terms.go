package simulation

import (
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Policy is how the jobs of a market are verified and paid.
type Policy string

// The policies. Batch is PolicyNone, settled by batches of usage records that nobody sees.
const (
	None        Policy = "none"
	Batch       Policy = "usage-batch"
	TwoOfThree  Policy = "replicate=2/3"
	ThreeOfFive Policy = "replicate=3/5"
	Optimistic  Policy = "optimistic"
	ZK          Policy = "zk"
)

// Policies lists them.
var Policies = []Policy{None, Batch, TwoOfThree, ThreeOfFive, Optimistic, ZK}

func (p Policy) replicated() bool { return p == TwoOfThree || p == ThreeOfFive }

// Terms are what a market is run with.
type Terms struct {
	Policy Policy `json:"policy"`
	Nodes  int    `json:"nodes"` // of equal bonds and of as many owners
	Jobs   int    `json:"jobs"`  // of the hand's nodes; others do as many
	// Bidders is how many nodes an order under replicate may be given to.
	Bidders int `json:"bidders"`
	// Share is how many percent of the nodes are the hand's, if an attack takes more than one.
	Share int `json:"share_percent"`
	// Stake is what an order under replicate asks each run to stake, in its max costs. The chain has a run stake 1 HYPER at least.
	Stake uint64 `json:"stake"`
	// Bond is what a claim under optimistic has at stake, in max costs: OptimisticCover or more.
	Bond uint64 `json:"bond"`
	// Slack is the max cost of an order in percent of what it should cost.
	Slack int `json:"slack_percent"`
	// Record is how much work every node was paid for before, in jobs: with none all that it
	// does is checked.
	Record uint64 `json:"record"`
	// Wrong is how many percent of what others claim is wrong: for jurors who hope that it is not.
	Wrong int `json:"wrong_percent"`
	// Follow is how many percent of the others, as jurors, run nothing and vote for what is claimed.
	Follow int `json:"follow_percent"`
	// Cost is what a run costs a node, in percent of what the job is worth.
	Cost int `json:"cost_percent"`
	// Priority is the priority fee of what the hand orders, in 1/10,000.
	Priority int `json:"priority_bps"`
}

// Defaults are a market of thirty nodes with records, and terms that a careful consumer would
// choose. What is audited seldom is tried often.
func Defaults(p Policy) Terms {
	t := Terms{Policy: p, Nodes: 30, Bidders: 10, Jobs: 40, Share: 20, Stake: 19, Bond: chain.OptimisticCover, Slack: 125, Record: 200, Wrong: 5, Cost: 85}
	switch {
	case p == Optimistic:
		t.Jobs = 160
	case p.replicated():
		t.Jobs = 80
	}
	return t
}

// Check returns an error that names the first term out of range.
func (t *Terms) Check() error {
	for _, bound := range []struct {
		name        string
		value       int
		least, most int
	}{
		{"nodes", t.Nodes, 12, MaxNodes},
		{"bidders", t.Bidders, 5, chain.MaxSlate},
		{"jobs", t.Jobs, 1, 100_000},
		{"share", t.Share, 1, 50},
		{"stake", int(min(t.Stake, 1<<30)), 0, 2_000},
		{"bond", int(min(t.Bond, 1<<30)), chain.OptimisticCover, 10_000},
		{"slack", t.Slack, 100, 400},
		{"record", int(min(t.Record, 1<<30)), 0, 100_000},
		{"wrong", t.Wrong, 0, 100},
		{"follow", t.Follow, 0, 100},
		{"cost", t.Cost, 0, 100},
		{"priority", t.Priority, 0, int(chain.MaxPriorityFee)},
	} {
		if bound.value < bound.least || bound.value > bound.most {
			return fmt.Errorf("%s is %d, want %d to %d", bound.name, bound.value, bound.least, bound.most)
		}
	}
	if !slices.Contains(Policies, t.Policy) {
		return fmt.Errorf("policy is %q, want one of %v", t.Policy, Policies)
	}
	return nil
}

// jobWorth is what a job of size 1 is paid, in nHYPER: 50 s of a core at 1 µHYPER for each
// thousandth of it and second.
const (
	jobWorth  = 50_000_000
	jobMs     = 50_000
	cores     = 1_000             // thousandths
	unitPrice = 1_000_000_000_000 // 10⁻¹⁸ HYPER: with it a ms of a core is worth coreMs nHYPER
	coreMs    = 1_000
)

// replicas returns k and n.
func (p Policy) replicas() (k, n uint8) {
	if p == ThreeOfFive {
		return 3, 5
	}
	return 2, 3
}

// maxCost is that of an order of a size.
func (t *Terms) maxCost(size uint64) chain.Amount {
	cost := jobWorth * size * uint64(t.Slack) / 100
	if t.Policy.replicated() {
		k, _ := t.Policy.replicas()
		cost *= uint64(k)
	}
	return chain.Nano(cost)
}

// priority is the fee that a consumer's orders have.
func (t *Terms) priority(buyer *owner) chain.PriorityFee {
	if !buyer.hand {
		return 0
	}
	return chain.PriorityFee(t.Priority)
}

// orderMost is the max cost of an order of a size by a consumer: with its priority fee.
func (t *Terms) orderMost(buyer *owner, size uint64) chain.Amount {
	return chain.Nano(t.priority(buyer).Above(t.maxCost(size).Nano()))
}

// policy is that of an order.
func (t *Terms) policy(maxCost chain.Amount) chain.Policy {
	switch t.Policy {
	case TwoOfThree, ThreeOfFive:
		k, n := t.Policy.replicas()
		return chain.PolicyReplicate{K: k, N: n, Stake: chain.Nano(maxCost.Nano() * t.Stake), WindowMs: 600_000}
	case Optimistic:
		bond := max(maxCost.Nano()*t.Bond, chain.MinOptimisticBond.Nano())
		return chain.PolicyOptimistic{WindowMs: 120_000, Bond: chain.Nano(bond)}
	case ZK:
		return chain.PolicyZK{Kernel: provenKernel, VerifyingKey: verifyingKey, Inputs: []chain.FieldBytes{{31: 3}}}
	case None, Batch:
	}
	return chain.PolicyNone{}
}

// MaxNodes bounds a market.
const MaxNodes = 256

// Owners of the cluster, of orders of honest consumers and of the hand's; then those of nodes.
const (
	consumerAt  = 1
	handsBuyer  = 2
	firstOwner  = 3
	spareOwners = 64 // for nodes that replace others
)

// Cast is the keys of a market's people, which many markets share.
type Cast struct {
	owners    []crypto.PrivateKey
	addresses []chain.Address
	nodes     []crypto.PrivateKey
}

// NewCast makes the keys for markets of up to so many nodes.
func NewCast(nodes int) *Cast {
	c := &Cast{}
	for i := range firstOwner + nodes + spareOwners {
		key := crypto.PrivateKeyFromSeed(crypto.DomainPossession.Hash([]byte{'o', byte(i), byte(i >> 8)}))
		c.owners = append(c.owners, key)
		c.addresses = append(c.addresses, chain.AddressOf(crypto.AccountKeyOf(key.Public())))
	}
	for i := range nodes + spareOwners {
		c.nodes = append(c.nodes, crypto.PrivateKeyFromSeed(crypto.DomainPossession.Hash([]byte{'n', byte(i), byte(i >> 8)})))
	}
	return c
}
