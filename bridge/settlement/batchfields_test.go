package settlement_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// batchMutation changes one part of a batch; what is said of it is as mutation has it.
type batchMutation struct {
	part          string
	change        func(b *chain.UsageBatch)
	alone, agreed string
}

const (
	batchUnsigned = "a signature of the batch does not verify"
	ofOrder       = "batch is of order"
)

var batchMutations = []batchMutation{
	{"Order.ChainID", func(b *chain.UsageBatch) { b.Order.ChainID = "another-1" }, ofOrder, "order is of chain"},
	{"Order.Consumer", func(b *chain.UsageBatch) { b.Order.Consumer = party{key(other)}.AccountKey() }, ofOrder, "the escrow holds 0 HYPER"},
	{"Order.Nonce", func(b *chain.UsageBatch) { b.Order.Nonce++ }, ofOrder, paid},
	{"Order.Cluster", func(b *chain.UsageBatch) { b.Order.Cluster = key(31).Public() }, ofOrder, "is not registered"},
	{"Order.Spec", func(b *chain.UsageBatch) { b.Order.Spec[0] ^= 1 }, ofOrder, paid},
	{"Order.Policy", func(b *chain.UsageBatch) { b.Order.Policy.Policy = twoOf3 }, ofOrder, "policy is replicate(2 of 3)"},
	{"Order.Caps", func(b *chain.UsageBatch) { b.Order.Caps = nil }, ofOrder, "CPU was used, the order has no cap for it"},
	{"Order.Caps[0].Resource", func(b *chain.UsageBatch) { b.Order.Caps[0].Resource = chain.Memory }, ofOrder, "CPU was used, the order has no cap for it"},
	{"Order.Caps[0].Price", func(b *chain.UsageBatch) { b.Order.Caps[0].Price-- }, ofOrder, "its cap is 999999999"},
	{"Order.Caps[1].Resource", func(b *chain.UsageBatch) { b.Order.Caps[1].Resource = chain.GPU }, ofOrder, "Network was used, the order has no cap for it"},
	{"Order.Caps[1].Price", func(b *chain.UsageBatch) { b.Order.Caps[1].Price++ }, ofOrder, paid},
	{"Order.FixedCap", func(b *chain.UsageBatch) { b.Order.FixedCap = chain.Hyper(3) }, ofOrder, paid},
	{"Order.MaxCost", func(b *chain.UsageBatch) { b.Order.MaxCost = chain.Nano(7_200_014) }, ofOrder, "above the max cost"},
	{"Order.Deadline", func(b *chain.UsageBatch) { b.Order.Deadline += 24 * hour }, ofOrder, "longer work is a lease"},
	{"Order.Term", func(b *chain.UsageBatch) {
		b.Order.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 1}}, NoticeMs: hour}
	}, ofOrder, "is for a lease"},
	{"Order.Fair", func(b *chain.UsageBatch) { b.Order.Fair = true }, ofOrder, "is under fair exchange"},
	{"Order.Countersignable", func(b *chain.UsageBatch) { b.Order.Countersignable = true }, ofOrder, paid},
	{"Order.PriorityBps", func(b *chain.UsageBatch) { b.Order.PriorityBps = 1 }, ofOrder, "price of CPU is 1000000000, its cap is 999900009 beside the priority fee of 1 bps"},
	{"Acceptance.ChainID", func(b *chain.UsageBatch) { b.Acceptance.ChainID = "another-1" }, "acceptance is of chain", ""},
	{"Acceptance.Order", func(b *chain.UsageBatch) { b.Acceptance.Order[0] ^= 1 }, otherOrder, ""},
	{"Acceptance.Cluster", func(b *chain.UsageBatch) { b.Acceptance.Cluster = key(31).Public() }, "acceptance is by cluster", ""},
	{"Acceptance.Sequence", func(b *chain.UsageBatch) { b.Acceptance.Sequence = 0 }, "acceptance has sequence 0", ""},
	{"Acceptance.Outstanding", func(b *chain.UsageBatch) { b.Acceptance.Outstanding = chain.Hyper(9) }, "acceptance covers 9 HYPER", ""},
	{"Bid.ChainID", func(b *chain.UsageBatch) { b.Bid.ChainID = "another-1" }, "bid is of chain", ""},
	{"Bid.Order", func(b *chain.UsageBatch) { b.Bid.Order[0] ^= 1 }, "bid is of order", ""},
	{"Bid.Node", func(b *chain.UsageBatch) { b.Bid.Node = key(50).Public() }, "batch is of node", ""},
	{"Bid.Prices", func(b *chain.UsageBatch) { b.Bid.Prices = nil }, "CPU was used, the bid has no price for it", ""},
	{"Bid.Prices[0].Resource", func(b *chain.UsageBatch) { b.Bid.Prices[0].Resource = chain.Memory }, "CPU was used, the bid has no price for it", ""},
	{"Bid.Prices[0].Price", func(b *chain.UsageBatch) { b.Bid.Prices[0].Price++ }, "price of CPU is 1000000001, its cap is", ""},
	{"Bid.Prices[1].Resource", func(b *chain.UsageBatch) { b.Bid.Prices[1].Resource = chain.GPU }, "Network was used, the bid has no price for it", ""},
	{"Bid.Prices[1].Price", func(b *chain.UsageBatch) { b.Bid.Prices[1].Price++ }, "price of Network is 5000000001, its cap is", ""},
	{"Bid.Fixed", func(b *chain.UsageBatch) { b.Bid.Fixed = chain.Nano(1) }, "for metered work", ""},
	{"Bid.Expiry", func(b *chain.UsageBatch) { b.Bid.Expiry = b.Summary.Started - 1 }, "the bid expired at", ""},
	{"Summary.ChainID", func(b *chain.UsageBatch) { b.Summary.ChainID = "another-1" }, "batch is of chain", ""},
	{"Summary.Order", func(b *chain.UsageBatch) { b.Summary.Order[0] ^= 1 }, ofOrder, ""},
	{"Summary.Node", func(b *chain.UsageBatch) { b.Summary.Node = key(41).Public() }, "batch is of node", ""},
	{"Summary.Meter", func(b *chain.UsageBatch) { b.Summary.Meter[0] ^= 1 }, "batch is of metering key", ""},
	{"Summary.After", func(b *chain.UsageBatch) { b.Summary.After = 1 }, "batch begins after sequence 1, the last of node", ""},
	{"Summary.Last", func(b *chain.UsageBatch) { b.Summary.Last++ }, "proof: zk: false proof", ""},
	{"Summary.Count", func(b *chain.UsageBatch) { b.Summary.Count = 2 }, "proof: zk: false proof", ""},
	{"Summary.Count", func(b *chain.UsageBatch) { b.Summary.Count = 5 }, "batch of 5 records, usage-batch-4 takes 4", ""},
	{"Summary.Totals", func(b *chain.UsageBatch) { b.Summary.Totals = b.Summary.Totals[:1] }, "proof: zk: false proof", ""},
	{"Summary.Totals[0].Resource", func(b *chain.UsageBatch) { b.Summary.Totals[0].Resource = chain.Memory }, "Memory was used, the order has no cap for it", ""},
	{"Summary.Totals[0].High", func(b *chain.UsageBatch) { b.Summary.Totals[0].High = 1 }, "above the max cost", ""},
	{"Summary.Totals[0].Low", func(b *chain.UsageBatch) { b.Summary.Totals[0].Low++ }, "proof: zk: false proof", ""},
	{"Summary.Totals[1].Resource", func(b *chain.UsageBatch) { b.Summary.Totals[1].Resource = chain.GPU }, "GPU was used, the order has no cap for it", ""},
	{"Summary.Totals[1].High", func(b *chain.UsageBatch) { b.Summary.Totals[1].High = 1 }, "the charge does not fit an amount", ""},
	{"Summary.Totals[1].Low", func(b *chain.UsageBatch) { b.Summary.Totals[1].Low-- }, "proof: zk: false proof", ""},
	{"Summary.Root", func(b *chain.UsageBatch) { b.Summary.Root[31] ^= 1 }, "proof: zk: false proof", ""},
	{"Summary.Started", func(b *chain.UsageBatch) { b.Summary.Started-- }, paid, ""},
	{"Summary.Started", func(b *chain.UsageBatch) { b.Summary.Started = b.Summary.Ended + 1 }, "batch ended at", ""},
	{"Summary.Ended", func(b *chain.UsageBatch) { b.Summary.Ended = b.Order.Deadline + 1 }, "work ended at", ""},
	{"Kernel", func(b *chain.UsageBatch) { b.Kernel = "matmul-4" }, "does not sum up usage", ""},
	{"Kernel", func(b *chain.UsageBatch) { b.Kernel = "usage-batch-32" }, "is not pinned by genesis", ""},
	{"Proof", func(b *chain.UsageBatch) { b.Proof[0] ^= 1 }, "proof: zk: false proof", ""},
	{"Proof", func(b *chain.UsageBatch) { b.Proof = nil }, "proof: ", ""},
	{"OrderSig", func(b *chain.UsageBatch) { b.OrderSig[3] ^= 1 }, batchUnsigned, ""},
	{"AcceptanceSig", func(b *chain.UsageBatch) { b.AcceptanceSig[3] ^= 1 }, batchUnsigned, ""},
	{"BidSig", func(b *chain.UsageBatch) { b.BidSig[3] ^= 1 }, batchUnsigned, ""},
	{"Attestation", func(b *chain.UsageBatch) { b.Attestation[3] ^= 1 }, batchUnsigned, ""},
	{"Attestation", func(b *chain.UsageBatch) { b.Attestation = crypto.Signature{} }, "batch has no attestation of cluster", ""},
}

// signBatch has who each form names sign it, and the cluster attest.
func signBatch(b *chain.UsageBatch) {
	consumer, err := b.Order.Consumer.Ed25519()
	if err != nil {
		panic(err)
	}
	b.OrderSig = keyBy(consumer).Sign(crypto.DomainOrder, b.Order.Payload())
	b.AcceptanceSig = keyBy(b.Acceptance.Cluster).Sign(crypto.DomainAcceptance, b.Acceptance.Payload())
	b.BidSig = keyBy(b.Bid.Node).Sign(crypto.DomainBid, b.Bid.Payload())
	b.Attestation = keyBy(b.Order.Cluster).Sign(crypto.DomainBatch, b.Summary.Payload())
}

// arriveBatch is arrive for a batch.
func (m *market) arriveBatch(b chain.UsageBatch) (cost chain.Amount, refusal string) {
	m.Helper()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: account(12), Expiry: 1, GasLimit: chain.GasUnits(5_000_000), MaxFee: chain.PricePerGas(1),
		Messages: chain.Msgs{chain.SettleBatch{Batch: b}},
	}, party{key(12)})
	if err != nil {
		m.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		return cost, err.Error()
	}
	verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)
	if verified[0] == nil {
		m.Fatal("the transaction's own signature does not verify")
	}
	event, why := settlement.SettleBatch(m.kv, &m.env, chain.SettleBatch{Batch: b}, verified[0].DealSigned(0))
	if why != nil {
		return cost, why.Reason()
	}
	return event.(chain.BatchSettled).Cost, ""
}

// batchMutant is a market with a batch that is in order and signed, of an order that change changed.
func batchMutant(t *testing.T, change func(b *chain.UsageBatch)) (*market, chain.UsageBatch) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	m.registerMeter(4, 40)
	of := chain.UsageBatch{Order: m.order(consumer, 1, none)}
	prices := slices.Clone(of.Order.Caps)
	if change != nil {
		change(&of)
	}
	b := m.batch(of.Order, 40, 0, records(0, 3))
	b.Order.Caps, b.Bid.Prices = slices.Clone(of.Order.Caps), prices
	signBatch(&b)
	return m, b
}

// TestEveryPartOfABatchIsRefusedByItsName is TestEveryPartOfAClaimIsRefusedByItsName for batches: whoever changes a
// part and signs nothing is refused; so is the party whose form it is, by the part's name, and so are all together,
// but for what is theirs to choose, which moves no money.
func TestEveryPartOfABatchIsRefusedByItsName(t *testing.T) {
	m, b := batchMutant(t, nil)
	left := parts(&b)
	for _, x := range batchMutations {
		delete(left, x.part)
	}
	if len(left) > 0 {
		t.Errorf("nothing changes %q", slices.Sorted(maps.Keys(left)))
	}
	cost, refusal := m.arriveBatch(b)
	if refusal != "" {
		t.Fatalf("the batch that all of them begin as: %s", refusal)
	}
	for _, x := range batchMutations {
		x.try(t, cost)
	}
}

// try posts the changed batch as a stranger, as the form's party, and as all parties.
func (x *batchMutation) try(t *testing.T, cost chain.Amount) {
	t.Helper()
	post := func(who string, m *market, b chain.UsageBatch, wants ...string) {
		t.Helper()
		before := m.dump()
		paidFor, refusal := m.arriveBatch(b)
		switch {
		case wants[0] == paid && len(wants) == 1:
			if refusal != "" || paidFor != cost {
				t.Errorf("%s, %s: paid %s, %q; want %s", x.part, who, paidFor, refusal, cost)
			}
		case refusal == "" || !slices.ContainsFunc(wants, func(want string) bool { return strings.Contains(refusal, want) }):
			t.Errorf("%s, %s: %q, want one of %q in it", x.part, who, refusal, wants)
		case string(before) != string(m.dump()):
			t.Errorf("%s, %s: refused, and the state is another", x.part, who)
		}
	}
	m, was := batchMutant(t, nil)
	_, is := batchMutant(t, nil)
	x.change(&is)
	changesOnly(t, x.part, parts(&was), parts(&is))
	form, _, inForm := strings.Cut(x.part, ".")
	post("by a stranger", m, is, batchUnsigned, x.alone)
	if inForm {
		m, b := batchMutant(t, nil)
		x.change(&b)
		signBatch(&b)
		post("alone", m, b, x.alone)
	}
	if form == "Order" {
		m, b := batchMutant(t, x.change)
		post("agreed", m, b, x.agreed)
	}
}
