package execution_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/tokens"
)

// The parties of the scenario, among the accounts of world.
var (
	consumer, operator = keyOf(21), keyOf(22)
	ownerA, ownerB     = keyOf(23), keyOf(24)
	cluster            = keyOf(50)
	nodeA, nodeB       = keyOf(51), keyOf(52)
)

func (w *world) registerCluster() chain.RegisterCluster {
	return chain.RegisterCluster{
		Cluster: cluster.Public(), Bond: chain.Hyper(1_000), FeeBps: 100, Endpoints: []string{"https://nexus.example"},
		Possession: cluster.PrivateKey.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, operator.address())),
	}
}

func (w *world) registerProvider(owner, node key) chain.RegisterProvider {
	return chain.RegisterProvider{
		Node: node.Public(), Bond: chain.Hyper(100), Region: "eu", Millicores: 4_000, MemoryMiB: 4_096,
		Possession: node.PrivateKey.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, owner.address())),
	}
}

// claim is a fully signed claim of a node, for an hour of one core.
func (w *world) claim(policy chain.Policy, nonce uint64, node key) chain.Claim {
	order := chain.Order{
		ChainID: testChain, Consumer: consumer.AccountKey(), Nonce: nonce, Cluster: cluster.Public(),
		Spec: crypto.DomainJobSpec.Hash([]byte("spec")), Policy: chain.PolicyField{Policy: policy},
		Caps:     []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}},
		FixedCap: chain.Hyper(1), MaxCost: chain.Hyper(1), Deadline: genesisTime + 7_200_000,
	}
	id := order.ID()
	c := chain.Claim{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: order.Cluster, Sequence: nonce, Outstanding: order.MaxCost},
		Bid:        chain.Bid{ChainID: testChain, Order: id, Node: node.Public(), Prices: order.Caps, Expiry: order.Deadline},
		Receipt: chain.UsageReceipt{
			ChainID: testChain, Order: id, Node: node.Public(), Sequence: 1,
			Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: 3_600_000}}, Fuel: 1 << 40,
			Result: crypto.DomainResult.Hash([]byte("result")), Started: genesisTime, Ended: genesisTime + 3_600_000, Exit: chain.ExitOK,
		},
	}
	if c.Receipt.CheckTrace(policy) != nil {
		c.Receipt.Trace = &chain.Trace{Runs: crypto.Digest{1}, Panels: crypto.Digest{2}}
	}
	if _, ok := policy.(chain.PolicyZK); ok {
		c.Bid.Prices, c.Bid.Fixed, c.Receipt.Outputs = nil, chain.Hyper(1), []chain.FieldBytes{{31: 9}}
		w.prove(&c)
	}
	w.resign(&c, node)
	return c
}

// prove gives a claim under zk the proof that echo takes of it.
func (w *world) prove(c *chain.Claim) {
	p := c.Order.Policy.Policy.(chain.PolicyZK)
	digest := zk.Statement{
		Kernel: zk.Kernel(p.Kernel), VerifyingKey: p.VerifyingKey, Inputs: []zk.Field{zk.Field(p.Inputs[0])},
		Output: []zk.Field{zk.Field(c.Receipt.Outputs[0])}, Bind: zk.Bind(string(testChain), c.Order.ID(), 1, c.Bid.Node),
	}.Digest()
	c.Proof = digest[:]
}

// resign ties a claim's parts to its order and signs all of them.
func (w *world) resign(c *chain.Claim, node key) {
	id := c.Order.ID()
	c.Acceptance.Order, c.Bid.Order, c.Receipt.Order = id, id, id
	c.OrderSig = consumer.PrivateKey.Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = cluster.PrivateKey.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.PrivateKey.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.PrivateKey.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = cluster.PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, c.Receipt.Digest()))
}

var (
	attested = chain.PolicyNone{}
	twoOf3   = chain.PolicyReplicate{K: 2, N: 3, WindowMs: 60_000}
	multiply = chain.PolicyZK{Kernel: kernel.Name, VerifyingKey: kernel.VerifyingKey, Inputs: []chain.FieldBytes{{31: 3}}}
)

// register brings the parties of the scenario on chain, with 50 HYPER of escrow.
func (w *world) register() execution.Outcome {
	w.Helper()
	return w.block(1_000,
		w.tx(operator, w.registerCluster()),
		w.tx(ownerA, w.registerProvider(ownerA, nodeA)),
		w.tx(ownerB, w.registerProvider(ownerB, nodeB)),
		w.tx(consumer, chain.Deposit{Cluster: cluster.Public(), Amount: chain.Hyper(50)}),
	)
}

// scenario is a script with every message and every policy; it returns the
// outcome of each block.
func (w *world) scenario() []execution.Outcome {
	w.Helper()
	stranger := keyOf(25)
	good := w.claim(attested, 1, nodeA)
	forged := w.claim(attested, 2, nodeA)
	forged.OrderSig[0] ^= 1
	sponsored := w.body(keyOf(99), chain.Transfer{To: stranger.address(), Amount: chain.Hyper(1)})
	payer := stranger.address()
	sponsored.FeePayer = &payer
	poor := w.sign(sponsored, keyOf(99), stranger)
	outs := []execution.Outcome{
		w.block(1, w.tx(stranger, chain.Transfer{To: keyOf(26).address(), Amount: chain.Hyper(5)})),
		w.register(),
		w.block(300, poor, w.tx(stranger,
			chain.Transfer{To: keyOf(26).address(), Amount: chain.Hyper(1)},
			chain.Transfer{To: keyOf(27).address(), Amount: chain.Hyper(2_000_000)},
		)),
		w.block(3_600_000,
			w.tx(stranger, chain.Settle{Claims: []chain.Claim{good, forged, good}}),
			w.tx(stranger, chain.Settle{Claims: []chain.Claim{w.claim(twoOf3, 3, nodeA)}}),
			w.tx(consumer, chain.Withdraw{Cluster: cluster.Public(), Amount: chain.Hyper(7)}),
			w.tx(stranger, chain.Settle{Claims: []chain.Claim{w.claim(twoOf3, 3, nodeB), w.claim(multiply, 4, nodeB)}}),
		),
		w.block(50, w.tx(ownerA, chain.UnbondProvider{Node: nodeA.Public()}), w.tx(operator, chain.UnbondCluster{Cluster: cluster.Public()})),
	}
	return append(outs, w.block(day), w.block(22*day))
}

// TestGoldenScenario freezes what the whole state machine does: a change here
// forks the chain.
func TestGoldenScenario(t *testing.T) {
	var got strings.Builder
	for i, out := range newWorld(t).scenario() {
		changes := crypto.DomainStateValue.Hash(codec.Marshal(pairs(out.Changes)))
		fmt.Fprintf(&got, "block %d gas %d changes %s receipts %s\n", i+1, out.GasUsed.Units(), changes, out.Receipts.Root())
		for _, e := range out.Receipts.Begin {
			fmt.Fprintf(&got, "  begin %s\n", eventLine(t, e))
		}
		for _, r := range out.Receipts.Txs {
			fmt.Fprintf(&got, "  tx gas %d burned %d tip %d rejection %q\n", r.GasUsed.Units(), r.Burned.Nano(), r.Tip.Nano(), r.Rejection)
			for _, e := range r.Events {
				fmt.Fprintf(&got, "    %s\n", eventLine(t, e))
			}
		}
	}
	golden.Check(t, "testdata/scenario.txt", got.String())
}

func pairs(changes []state.Change) [][2][]byte {
	out := make([][2][]byte, len(changes))
	for i, c := range changes {
		out[i] = [2][]byte{c.Key, c.Value}
	}
	return out
}

func eventLine(t *testing.T, e chain.Event) string {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return chain.EventName(e) + " " + string(data)
}

func TestGoldenGasTable(t *testing.T) {
	table, err := json.MarshalIndent(execution.GasTableV1(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "testdata/gas_v1.json", string(table)+"\n")
}

func TestScenarioPaysWhoItShould(t *testing.T) {
	w := newWorld(t)
	outs := w.scenario()
	counts := map[string]int{}
	for _, out := range outs {
		for _, e := range out.Receipts.Begin {
			counts[chain.EventName(e)]++
		}
		for _, r := range out.Receipts.Txs {
			for _, e := range r.Events {
				counts[chain.EventName(e)]++
			}
		}
	}
	// One attested, one proven; the forged one, the one that was posted twice and those of
	// an order under replicate are refused; the withdrawal and two bonds mature.
	for name, want := range map[string]int{
		"transferred": 1, "cluster_registered": 1, "provider_registered": 2, "deposited": 1, "claim_settled": 2,
		"claim_rejected": 4, "claim_recorded": 0, "withdrawal_started": 1, "provider_unbonded": 1, "cluster_unbonded": 1, "matured": 3,
	} {
		if counts[name] != want {
			t.Errorf("%d × %s, want %d", counts[name], name, want)
		}
	}
	supply, err := execution.Recompute(w.state)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := supply.Minted.Sub(supply.Burned); supply.Total != want || !chain.TotalSupply.Less(supply.Minted) || supply.Burned.IsZero() {
		t.Errorf("supply %+v", supply)
	}
	if supply.Bonds != chain.Hyper(100) || supply.Stakes != chain.Hyper(100_000_000) || supply.Rewards.IsZero() || !supply.Maturing.IsZero() || supply.Escrow.IsZero() {
		t.Errorf("supply %+v, want node B's bond, the stakes and some escrow", supply)
	}
	if _, _, ok := settlement.Settlement(w.state, w.claim(attested, 1, nodeA).Order.ID()); ok {
		t.Error("an order outlived its claim window")
	}
}

// TestApplyIsAFunction executes the scenario twice, and each block twice on the
// same parent, and compares everything.
func TestApplyIsAFunction(t *testing.T) {
	first, second := newWorld(t).scenario(), newWorld(t).scenario()
	for i := range first {
		a, b := first[i], second[i]
		if !bytes.Equal(codec.Marshal(pairs(a.Changes)), codec.Marshal(pairs(b.Changes))) || !bytes.Equal(a.Receipts.Encode(), b.Receipts.Encode()) {
			t.Errorf("block %d differs between two runs", i+1)
		}
	}
	w := newWorld(t)
	txs := []*chain.VerifiedTx{w.tx(keyOf(21), chain.Transfer{To: keyOf(22).address(), Amount: chain.Hyper(1)})}
	h := w.header(5)
	var encoded [][]byte
	for range 2 {
		out, err := w.x.Apply(w.state, h, staking.Extras{}, txs)
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, codec.Marshal(pairs(out.Changes)))
	}
	if !bytes.Equal(encoded[0], encoded[1]) {
		t.Error("one block on one parent has two outcomes: Apply wrote to its parent")
	}
}

// TestBlockSplitChangesNoBalance puts the same transfers into one block and
// into many at a constant base fee: who has what does not depend on it.
func TestBlockSplitChangesNoBalance(t *testing.T) {
	run := func(perBlock int) []tokens.Account {
		w := newWorld(t)
		var txs []*chain.VerifiedTx
		for i := range 12 {
			from, to := keyOf(byte(21+i%4)), keyOf(byte(21+(i+1)%5))
			txs = append(txs, w.tx(from, chain.Transfer{To: to.address(), Amount: chain.Hyper(uint64(i) + 1)}))
		}
		for i := 0; i < len(txs); i += perBlock {
			w.block(2_000, txs[i:min(i+perBlock, len(txs))]...) // little gas for its time: the fee rests at its floor
		}
		var list []tokens.Account
		for n := byte(1); n <= 42; n++ {
			list = append(list, tokens.AccountOf(w.state, keyOf(n).address()))
		}
		return list
	}
	whole := codec.Marshal(run(12))
	for _, perBlock := range []int{1, 5} {
		if !bytes.Equal(whole, codec.Marshal(run(perBlock))) {
			t.Errorf("balances differ with %d transactions per block", perBlock)
		}
	}
}
