package settlement_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/tokens"
)

const (
	testChain chain.ChainID = "settle-test-1"
	start     chain.TimeMs  = 1_790_000_000_000
	hour                    = 3_600_000
	window                  = 6 * hour
	delay                   = 24 * hour
)

// key is the key of account, node or cluster n.
func key(n byte) crypto.PrivateKey { return keys[n] }

var keys = func() (list [100]crypto.PrivateKey) {
	for n := range list {
		list[n] = crypto.PrivateKeyFromSeed([32]byte{byte(n), 's'})
	}
	return list
}()

func account(n byte) chain.Address { return chain.AddressOf(crypto.AccountKeyOf(key(n).Public())) }

// The cast: accounts 1 and 2 are consumers, 3 operates cluster 30 (fee 5 %), 4
// … 7 own nodes 40 … 70; node 41 is owner 4's second.
const (
	consumer, other, operator = 1, 2, 3
	cluster                   = 30
)

// echo accepts as a proof of a statement its digest, and nothing else.
type echo struct{ calls int }

func (e *echo) Verify(s zk.Statement, proof []byte) error {
	e.calls++
	if err := s.Check(); err != nil {
		return err
	}
	if digest := s.Digest(); !bytes.Equal(proof, digest[:]) {
		return zk.ErrFalseProof
	}
	return nil
}

var verifyingKey = crypto.Digest{0xee}

// market is a state with registered parties, and the block in which messages
// are executed.
type market struct {
	fee chain.PriorityFee // of the orders that are made
	testing.TB
	kv     *state.Overlay
	env    settlement.Env
	events chain.Events
	proofs *echo
	locked bool // a test has locked bonds for work that there is not
	gifts  []gift
}

// gift is what somebody has extended another's lease by.
type gift struct {
	from, to chain.Address
	amount   chain.Amount
}

func newMarket(t testing.TB) *market {
	t.Helper()
	m := &market{TB: t, kv: state.NewOverlay(state.NewMemoryBackend()), proofs: &echo{}}
	m.env = settlement.Env{
		ChainID: testChain, Height: 1, Now: start, Params: chain.DefaultParams(),
		Kernels: map[string]crypto.Digest{"matmul-4": verifyingKey, "usage-batch-4": verifyingKey}, Verifier: m.proofs,
	}
	var allocations []chain.Allocation
	for n := byte(1); n <= 12; n++ {
		allocations = append(allocations, chain.Allocation{Address: account(n), Amount: chain.Hyper(10_000)})
	}
	if err := tokens.Genesis(m.kv, allocations, chain.Amount{}); err != nil {
		t.Fatal(err)
	}
	m.must(settlement.RegisterCluster(m.kv, &m.env, account(operator), m.registerCluster(operator)))
	for n := byte(4); n <= 7; n++ {
		m.register(n, 10*n)
	}
	m.register(4, 41)
	return m
}

func (m *market) registerCluster(by byte) chain.RegisterCluster {
	return chain.RegisterCluster{
		Cluster: key(cluster).Public(), Bond: chain.Hyper(1_000), FeeBps: 500, Endpoints: []string{"https://nexus.example"},
		Possession: key(cluster).Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, account(by))),
	}
}

func (m *market) registerProvider(owner, node byte) chain.RegisterProvider {
	return chain.RegisterProvider{
		Node: key(node).Public(), Bond: chain.Hyper(100), Region: "eu", Millicores: 4_000, MemoryMiB: 8_192,
		Possession: key(node).Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, account(owner))),
	}
}

func (m *market) register(owner, node byte) {
	m.Helper()
	m.must(settlement.RegisterProvider(m.kv, &m.env, account(owner), m.registerProvider(owner, node)))
}

func (m *market) must(event chain.Event, why *chain.Rejection) chain.Event {
	m.Helper()
	if why != nil {
		m.Fatal(why.Reason())
	}
	m.events = append(m.events, event)
	return event
}

func (m *market) deposit(who byte, amount chain.Amount) {
	m.Helper()
	m.must(settlement.Deposit(m.kv, &m.env, account(who), chain.Deposit{Cluster: key(cluster).Public(), Amount: amount}))
}

func (m *market) withdraw(who byte, amount chain.Amount) {
	m.Helper()
	m.must(settlement.Withdraw(m.kv, &m.env, account(who), chain.Withdraw{Cluster: key(cluster).Public(), Amount: amount}))
}

// pass lets time pass, and does what begins a block.
func (m *market) pass(ms uint64) {
	m.env.Now += chain.TimeMs(ms)
	m.env.Height++
	m.events = append(m.events, tokens.ReleaseMatured(m.kv, m.env.Now, 8)...)
	settlement.ExpireOrders(m.kv, &m.env, 4)
}

// settle posts claims whose signatures all verified.
func (m *market) settle(claims ...chain.Claim) chain.Events {
	signed := slices.Repeat([]chain.Signing{chain.AllSigned}, len(claims))
	events := settlement.Settle(m.kv, &m.env, chain.Settle{Claims: claims}, signed)
	m.events = append(m.events, events...)
	return events
}

func (m *market) wantSettled(claims ...chain.Claim) []chain.ClaimSettled {
	m.Helper()
	var list []chain.ClaimSettled
	for _, e := range m.settle(claims...) {
		settled, ok := e.(chain.ClaimSettled)
		if !ok {
			m.Fatalf("got %s %+v, want claim_settled", chain.EventName(e), e)
		}
		list = append(list, settled)
	}
	return list
}

// wantRejected also checks that the claim changed nothing.
func (m *market) wantRejected(part string, claims ...chain.Claim) {
	m.Helper()
	before := m.dump()
	for _, e := range m.settle(claims...) {
		rejected, ok := e.(chain.ClaimRejected)
		if !ok {
			m.Errorf("got %s, want a rejection with %q", chain.EventName(e), part)
		} else if !strings.Contains(rejected.Reason, part) {
			m.Errorf("rejected with %q, want %q in it", rejected.Reason, part)
		}
	}
	if !bytes.Equal(before, m.dump()) {
		m.Errorf("a rejected claim (%s) changed the state", part)
	}
}

func (m *market) dump() []byte {
	var out []byte
	for key, value := range m.kv.Iterate([]byte{0}, nil) {
		out = append(append(out, codec.Marshal(key)...), codec.Marshal(value)...)
	}
	return out
}

func (m *market) balance(n byte) chain.Amount { return tokens.AccountOf(m.kv, account(n)).Balance }

func (m *market) escrow(n byte) settlement.Escrow {
	return settlement.EscrowOf(m.kv, account(n), key(cluster).Public())
}

// anyFee has the orders that are made from now on have a priority fee, or none.
func (m *market) anyFee(t *rapid.T) {
	m.fee = rapid.SampledFrom([]chain.PriorityFee{0, 0, 1, 2_500, chain.MaxPriorityFee}).Draw(t, "priority fee")
}

// order is an order of a consumer that allows 1 nHYPER per millicore·second beside its priority fee
// and 10 HYPER in all, within three hours.
func (m *market) order(who byte, nonce uint64, policy chain.Policy) chain.Order {
	return chain.Order{
		ChainID: testChain, Consumer: crypto.AccountKeyOf(key(who).Public()), Nonce: nonce,
		Cluster: key(cluster).Public(), Spec: crypto.DomainJobSpec.Hash([]byte("spec")),
		Policy: chain.PolicyField{Policy: policy}, FixedCap: chain.Hyper(2), MaxCost: chain.Hyper(10),
		Caps: []chain.UnitPrice{
			{Resource: chain.CPU, Price: m.fee.Above(1_000_000_000)}, {Resource: chain.Network, Price: m.fee.Above(5_000_000_000)},
		},
		Deadline: m.env.Now + 3*hour, PriorityBps: m.fee,
	}
}

// claim is a node's claim for an hour of one core at the cap's price, 3,600,000
// nHYPER, without bid or receipt signatures, which Settle does not look at.
func (m *market) claim(order chain.Order, node byte, sequence uint64) chain.Claim {
	id := order.ID()
	c := chain.Claim{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: order.Cluster, Sequence: 1, Outstanding: order.MaxCost},
		Bid:        chain.Bid{ChainID: testChain, Order: id, Node: key(node).Public(), Prices: []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}, Expiry: order.Deadline},
		Receipt: chain.UsageReceipt{
			ChainID: testChain, Order: id, Node: key(node).Public(), Sequence: sequence,
			Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: hour}}, Fuel: 1_000_000,
			Result: crypto.DomainResult.Hash([]byte("right")), Started: order.Deadline - 2*hour, Ended: order.Deadline - hour, Exit: chain.ExitOK,
		},
		Attestation: crypto.Signature{1},
	}
	if c.Receipt.CheckTrace(order.Policy.Policy) != nil {
		traced(&c.Receipt, 0)
	}
	if policy, ok := order.Policy.Policy.(chain.PolicyZK); ok {
		c.Bid.Prices, c.Bid.Fixed, c.Receipt.Outputs = nil, chain.Hyper(1), []chain.FieldBytes{{31: 9}}
		statement := zk.Statement{
			Kernel: zk.Kernel(policy.Kernel), VerifyingKey: policy.VerifyingKey,
			Inputs: []zk.Field{zk.Field(policy.Inputs[0])}, Output: []zk.Field{{31: 9}},
			Bind: zk.Bind(string(testChain), id, sequence, key(node).Public()),
		}
		digest := statement.Digest()
		c.Proof = digest[:]
	}
	return c
}

var (
	none    = chain.PolicyNone{}
	twoOf3  = chain.PolicyReplicate{K: 2, N: 3, Stake: chain.Hyper(20), WindowMs: 60_000}
	product = chain.PolicyZK{Kernel: "matmul-4", VerifyingKey: verifyingKey, Inputs: []chain.FieldBytes{{31: 3}}}
)
