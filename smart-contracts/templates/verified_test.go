package templates_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

// telling is a verifier whose proof of a statement is the statement's digest: it tells statements
// apart as a proof system does.
type telling struct{}

func (telling) Verify(s zk.Statement, proof []byte) error {
	if digest := s.Digest(); s.Check() != nil || string(proof) != string(digest[:]) {
		return zk.ErrFalseProof
	}
	return nil
}

var multiply = chain.PolicyZK{Kernel: "matmul-4", VerifyingKey: crypto.Digest{7}, Inputs: []chain.FieldBytes{{31: 3}}}

// prover makes proofs of one piece of work, as jobs of a kernel have it.
type prover struct {
	zk.Verifier
	policy chain.PolicyZK
	prove  func(bind zk.Field) (output zk.Field, proof []byte)
}

// tells proves to a verifier that is telling.
func tells() prover {
	return prover{telling{}, multiply, func(bind zk.Field) (zk.Field, []byte) {
		output := zk.Field{31: 9}
		digest := zk.Statement{
			Kernel: zk.Kernel(multiply.Kernel), VerifyingKey: multiply.VerifyingKey, Inputs: []zk.Field{zk.Field(multiply.Inputs[0])}, Output: []zk.Field{output}, Bind: bind,
		}.Digest()
		return output, digest[:]
	}}
}

// compute is a chain with a market for compute: nothing of its answers is a stand-in's. The cluster is owner's, a node
// is bob's, another is dave's, and alice has money in escrow.
type compute struct {
	*contract
	proofs  prover
	cluster harness.Account
	nodes   map[string]harness.Account // by their owners
	nonce   uint64
}

func newCompute(t *testing.T, template string, proofs prover) *compute {
	t.Helper()
	c := &compute{
		contract: deployOn(t, template, harness.Config{Proofs: proofs, Genesis: func(g *chain.Genesis) {
			g.Kernels = []chain.GenesisKernel{{Name: proofs.policy.Kernel, VerifyingKey: proofs.policy.VerifyingKey, FixedGas: chain.GasUnits(700_000)}}
		}}),
		proofs:  proofs,
		cluster: harness.AccountOf("template cluster"),
		nodes:   map[string]harness.Account{"bob": harness.AccountOf("template node"), "dave": harness.AccountOf("template node of dave")},
	}
	c.fund(t, 2_000*harness.Hyper, "alice", "bob", "dave", "owner")
	possessed := func(key harness.Account, by string) crypto.Signature {
		signature, err := key.Sign(crypto.DomainPossession, chain.PossessionPayload(chainName, account(by).Address()))
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	c.do(t, "owner", chain.RegisterCluster{Cluster: c.cluster.PublicKey(), Bond: chain.Hyper(1_000), FeeBps: 100, Possession: possessed(c.cluster, "owner")})
	for _, who := range []string{"bob", "dave"} {
		c.do(t, who, chain.RegisterProvider{
			Node: c.nodes[who].PublicKey(), Bond: chain.Hyper(100), Region: "eu", Millicores: 4_000, MemoryMiB: 4_096, Possession: possessed(c.nodes[who], who),
		})
	}
	c.do(t, "alice", chain.Deposit{Cluster: c.cluster.PublicKey(), Amount: chain.Hyper(50)})
	return c
}

// chainName is the name of the harness' chains.
const chainName = "harness-1"

func (c *compute) do(t *testing.T, from string, m chain.Msg) *harness.Result {
	t.Helper()
	r, err := c.Do(account(from), m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// claim is what the node of an owner has done for alice, signed by all, with its proof where the policy has one.
func (c *compute) claim(t *testing.T, policy chain.Policy, owner string) chain.Claim {
	t.Helper()
	return c.claimFor(t, "alice", policy, owner)
}

// claimFor is the same by an order of somebody.
func (c *compute) claimFor(t *testing.T, consumer string, policy chain.Policy, owner string) chain.Claim {
	t.Helper()
	c.nonce++
	now, node := chain.TimeMs(c.Time().UnixMilli()), c.nodes[owner]
	order := chain.Order{
		ChainID: chainName, Consumer: account(consumer).AccountKey(), Nonce: c.nonce, Cluster: c.cluster.PublicKey(), Spec: crypto.DomainJobSpec.Hash([]byte("spec")),
		Policy: chain.PolicyField{Policy: policy}, Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}},
		FixedCap: chain.Hyper(1), MaxCost: chain.Hyper(1), Deadline: now + 7_200_000,
	}
	id := order.ID()
	out := chain.Claim{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: chainName, Order: id, Cluster: order.Cluster, Sequence: c.nonce, Outstanding: order.MaxCost},
		Bid:        chain.Bid{ChainID: chainName, Order: id, Node: node.PublicKey(), Prices: order.Caps, Expiry: order.Deadline},
		Receipt: chain.UsageReceipt{
			ChainID: chainName, Order: id, Node: node.PublicKey(), Sequence: 1,
			Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: 3_600_000}}, Fuel: 1 << 40,
			Result: crypto.DomainResult.Hash([]byte("result")), Started: now - 3_600_000, Ended: now, Exit: chain.ExitOK,
		},
	}
	if _, ok := policy.(chain.PolicyZK); ok {
		output, proof := c.proofs.prove(zk.Bind(chainName, id, out.Receipt.Sequence, node.PublicKey()))
		out.Bid.Prices, out.Bid.Fixed, out.Receipt.Outputs, out.Proof = nil, chain.Hyper(1), []chain.FieldBytes{chain.FieldBytes(output)}, proof
	}
	for _, s := range []struct {
		into    *crypto.Signature
		by      harness.Account
		domain  *crypto.Domain
		payload []byte
	}{
		{&out.OrderSig, account(consumer), crypto.DomainOrder, out.Order.Payload()}, {&out.AcceptanceSig, c.cluster, crypto.DomainAcceptance, out.Acceptance.Payload()},
		{&out.BidSig, node, crypto.DomainBid, out.Bid.Payload()}, {&out.ReceiptSig, node, crypto.DomainUsage, out.Receipt.Payload()},
		{&out.Attestation, c.cluster, crypto.DomainAttestation, chain.AttestationPayload(chainName, out.Receipt.Digest())},
	} {
		signature, err := s.by.Sign(s.domain, s.payload)
		if err != nil {
			t.Fatal(err)
		}
		*s.into = signature
	}
	return out
}

// settle brings a claim to the chain, which takes it or not.
func (c *compute) settle(t *testing.T, claim chain.Claim, taken bool) {
	t.Helper()
	settled := false
	for _, event := range c.do(t, "owner", chain.Settle{Claims: chain.Claims{claim}}).Events {
		_, ok := event.(chain.ClaimSettled)
		settled = settled || ok
	}
	if settled != taken {
		t.Fatalf("the claim is settled: %v, want %v", settled, taken)
	}
}

// TestServiceOnTheChain: an agreement rents compute and lets money go against what the chain itself has verified, and
// against nothing else, with orders, claims, proofs and channels that are the chain's own.
func TestServiceOnTheChain(t *testing.T) {
	c := newCompute(t, "service", tells())
	node := fmt.Sprintf(`"node":{"id":"%s","min_bond":"100000000000","min_score":500000},"dispute"`, c.nodes["bob"].PublicKey())
	if _, refusal := c.instantiate(t, "erin", strings.Replace(serviceBegin, `"dispute"`, node, 1)); refusal != "" {
		t.Fatal(refusal)
	}
	proven, attested, foreign := c.claim(t, multiply, "bob"), c.claim(t, chain.PolicyNone{}, "bob"), c.claim(t, multiply, "dave")
	for i, claim := range []chain.Claim{proven, attested, foreign} {
		c.must(t, "alice", fmt.Sprintf(`{"offer":{"evidence":{"order":{"id":"%s"}},"stake":"200"}}`, claim.Order.ID()), 1_000)
		c.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, i+1), 200)
		c.refused(t, "bob", fmt.Sprintf(`{"deliver":{"task":%d}}`, i+1), "the order has no claim")
	}
	const none = "no result of the order is paid, verified and as agreed"
	c.settle(t, attested, true) // by the cluster's word alone
	c.refused(t, "bob", `{"deliver":{"task":2}}`, none)
	c.settle(t, foreign, true) // proven, by somebody else
	c.refused(t, "bob", `{"deliver":{"task":3}}`, none)
	lie := proven
	lie.Proof = append([]byte{}, proven.Proof...)
	lie.Proof[0] ^= 1
	c.settle(t, lie, false)
	if _, refusal := c.execute(t, "bob", `{"deliver":{"task":1}}`); refusal == "" || c.has("it") != 3_600 {
		t.Fatalf("upon a false proof: %q, the agreement has %d", refusal, c.has("it"))
	}
	c.settle(t, proven, true)
	before := c.has("bob")
	if r := c.must(t, "bob", `{"deliver":{"task":1}}`); said(r, "to_provider") != "1200" || c.has("bob") != before+1_200 || c.has("it") != 2_400 {
		t.Errorf("the agreement has %d, bob %d more: %v", c.has("it"), c.has("bob")-before, r.Attributes)
	}
	c.rents(t)
}

// TestServicePaysWhoOrdered is the whole way of money that a contract holds, whose own escrow would pay for no order: bob orders
// with his key, and out of his escrow; dave does the work, and is paid by the order; against its result, which the chain has
// verified, the agreement pays bob. What others have ordered of dave pays nobody.
func TestServicePaysWhoOrdered(t *testing.T) {
	c := newCompute(t, "service", tells())
	if _, refusal := c.instantiate(t, "erin", serviceBegin); refusal != "" {
		t.Fatal(refusal)
	}
	c.do(t, "bob", chain.Deposit{Cluster: c.cluster.PublicKey(), Amount: chain.Hyper(5)})
	own, foreign := c.claimFor(t, "bob", multiply, "dave"), c.claim(t, multiply, "dave")
	for i, claim := range []chain.Claim{own, foreign} {
		c.must(t, "alice", fmt.Sprintf(`{"offer":{"evidence":{"order":{"id":"%s"}},"stake":"200"}}`, claim.Order.ID()), 1_000)
		c.must(t, "bob", fmt.Sprintf(`{"accept":{"task":%d}}`, i+1), 200)
	}
	c.refused(t, "bob", `{"deliver":{"task":1}}`, "the order has no claim")
	dave := c.has("dave")
	c.settle(t, foreign, true)
	c.settle(t, own, true)
	escrow := settlement.EscrowOf(c.State(), account("bob").Address(), c.cluster.PublicKey()).Balance
	if escrow != chain.Hyper(4) || c.has("dave") == dave {
		t.Errorf("of 5 HYPER bob has %s in escrow, dave has %d more", escrow, c.has("dave")-dave)
	}
	c.refused(t, "bob", `{"deliver":{"task":2}}`, "no result of the order is paid, verified and as agreed")
	before := c.has("bob")
	c.must(t, "bob", `{"deliver":{"task":1}}`)
	if c.has("bob") != before+1_200 || c.has("it") != 1_200 {
		t.Errorf("bob has %d more, the agreement %d", c.has("bob")-before, c.has("it"))
	}
}

// rents has the agreement rent compute: what the client's key signs, job by job, is the provider's, and the rest comes back.
func (c *compute) rents(t *testing.T) {
	t.Helper()
	signer := harness.AccountOf("template signer")
	r, err := c.Execute(account("alice"), c.at, fmt.Sprintf(`{"rent":{"signer":"%s","nonce":1,"window_ms":60000}}`, signer.PublicKey()), 700)
	if err != nil {
		t.Fatal(err)
	}
	var channel chain.ChannelID
	for _, event := range r.Events {
		if e, ok := event.(chain.ChannelChanged); ok {
			channel = e.Channel
		}
	}
	voucher := chain.Voucher{ChainID: chainName, Channel: channel, Total: chain.Nano(400)}
	signature, err := signer.Sign(crypto.DomainVoucher, voucher.Payload())
	if err != nil {
		t.Fatal(err)
	}
	unsigned := chain.RedeemVoucher{Voucher: voucher, Signature: signature}
	unsigned.Voucher.Total = chain.Nano(700)
	if _, err := c.Do(account("bob"), unsigned); err == nil {
		t.Error("bob was paid what nobody has signed")
	}
	before := c.has("bob")
	c.do(t, "bob", chain.RedeemVoucher{Voucher: voucher, Signature: signature})
	if got := c.has("bob") - before; got == 0 || got > 400 {
		t.Errorf("of 400 that were signed bob was paid %d", got)
	}
	held := c.has("it")
	c.do(t, "bob", chain.CloseChannel{Channel: channel}) // at once, as the payee
	if got := said(c.must(t, "alice", `{"collect":{}}`), "amount"); got != "300" || c.has("it") != held {
		t.Errorf("of 700 came back %s, the agreement has %d of %d", got, c.has("it"), held)
	}
}

// TestEscrowOnTheChain: a milestone that names an order is paid when the chain itself has verified a result of the worker.
func TestEscrowOnTheChain(t *testing.T) {
	c := newCompute(t, "escrow", tells())
	if _, refusal := c.instantiate(t, "owner", `{}`); refusal != "" {
		t.Fatal(refusal)
	}
	proven, attested := c.claim(t, multiply, "bob"), c.claim(t, chain.PolicyNone{}, "bob")
	c.must(t, "alice", fmt.Sprintf(`{"open":{"worker":"@bob","arbiter":"@ann","fee":"0","review_seconds":60,"arbitration_seconds":60,"unjudged_percent":0,`+
		`"milestones":[{"title":"one","amount":"9","due":1700001000,"order":"%s"},{"title":"two","amount":"5","due":1700001000,"order":"%s"}]}}`,
		proven.Order.ID(), attested.Order.ID()), 14)
	c.must(t, "bob", `{"accept":{"deal":1}}`)
	const unproven = "the order has no verified result of the worker"
	c.refused(t, "bob", `{"prove":{"deal":1,"milestone":0}}`, unproven)
	c.settle(t, attested, true)
	c.refused(t, "bob", `{"prove":{"deal":1,"milestone":1}}`, unproven)
	c.settle(t, proven, true)
	before := c.has("bob")
	c.must(t, "carol", `{"prove":{"deal":1,"milestone":0}}`)
	if c.has("bob") != before+9 || c.has("it") != 5 {
		t.Errorf("bob has %d more, the escrow %d", c.has("bob")-before, c.has("it"))
	}
	c.refused(t, "bob", `{"prove":{"deal":1,"milestone":1}}`, unproven)
}
