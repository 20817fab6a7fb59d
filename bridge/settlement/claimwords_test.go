package settlement_test

import (
	"bytes"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestNothingIsPaidWithoutItsWords is invariant 3. Claims of a few orders come in the bytes of transactions,
// changed in any parts and signed anew by their parties, by a stranger or by nobody: whichever is paid has
// the word of consumer, cluster and node for what it says, and a proof where one is due; it costs no more
// than was agreed, and each is paid once. What is refused moves nothing.
func TestNothingIsPaidWithoutItsWords(t *testing.T) {
	settled, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		// rapid's own draws are mostly small, so that half of all claims would be changed in one way.
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		m := newMarket(t)
		m.deposit(consumer, chain.Nano(20_000_000_000))
		m.deposit(other, chain.Nano(rng.Uint64N(20_000_000_000)+1))
		var orders []chain.Order
		for nonce := range uint64(6) {
			m.fee = pick(rng, []chain.PriorityFee{0, 0, 3_333, chain.MaxPriorityFee})
			order := m.order(pick(rng, []byte{consumer, other}), nonce, pick(rng, []chain.Policy{none, none, product}))
			order.Countersignable = rng.IntN(2) == 0
			order.MaxCost = chain.Nano(pick(rng, []uint64{3_599_999, 3_600_000, 8_000_000, 10_000_000_000}))
			orders = append(orders, order)
		}
		w := &witness{market: m, rng: rng, paid: map[chain.ClaimKey]bool{}, spent: map[crypto.Digest]uint64{}}
		for range rapid.IntRange(1, 40).Draw(rt, "claims") {
			if rng.IntN(12) == 0 {
				m.pass(pick(rng, []uint64{1, hour, 4 * hour}))
			}
			w.post(rt, w.disturbed(pick(rng, orders)))
			m.checkBooks(rt, orders)
		}
		settled, refused = settled+len(w.paid), refused+w.refused
	})
	if settled == 0 || refused == 0 {
		t.Errorf("%d claims were paid, %d refused: want some of each", settled, refused)
	}
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// witness looks at each claim that is paid with the plainest of eyes.
type witness struct {
	*market
	rng     *rand.Rand
	paid    map[chain.ClaimKey]bool
	spent   map[crypto.Digest]uint64
	refused int
}

// disturbed is a claim of an order that somebody changed, and somebody signed.
func (w *witness) disturbed(order chain.Order) chain.Claim {
	c := w.claim(order, pick(w.rng, []byte{40, 50}), 1+w.rng.Uint64N(2))
	c.Countersigned = order.Countersignable && w.rng.IntN(3) == 0
	signForms(&c)
	list := slices.Concat(orderMutations, formMutations, provenMutations)
	for changes := pick(w.rng, []int{0, 1, 1, 1, 2}); changes > 0; {
		if x := pick(w.rng, list); x.fits(&c) {
			x.change(&c)
			changes--
		}
	}
	switch w.rng.IntN(8) {
	case 0: // nobody signs what was changed
	case 1: // a stranger has keys of its own
		c.OrderSig = key(12).Sign(crypto.DomainOrder, c.Order.Payload())
	case 2:
		c.ReceiptSig = key(12).Sign(crypto.DomainUsage, c.Receipt.Payload())
	default:
		signForms(&c)
	}
	if w.rng.IntN(10) == 0 {
		c.Attestation = crypto.Signature{}
	}
	return c
}

// fits says whether the claim still has the part.
func (x *mutation) fits(c *chain.Claim) bool {
	_, ok := parts(c)[x.part]
	return ok && (x.part != "Proof" || len(c.Proof) > 0)
}

func (w *witness) post(t *rapid.T, c chain.Claim) {
	before, balances := w.dump(), w.balances()
	cost, refusal := w.arrive(c)
	if refusal != "" {
		w.refused++
		if !bytes.Equal(before, w.dump()) {
			t.Fatalf("refused (%s), and the state is another", refusal)
		}
		return
	}
	by, err := c.Order.Consumer.Ed25519()
	id, node := c.Order.ID(), c.Receipt.Node
	switch {
	case err != nil || !by.Verify(crypto.DomainOrder, c.Order.Payload(), c.OrderSig):
		t.Fatal("paid without the consumer's order")
	case c.Acceptance.Order != id || c.Acceptance.Outstanding.Less(c.Order.MaxCost) ||
		!c.Order.Cluster.Verify(crypto.DomainAcceptance, c.Acceptance.Payload(), c.AcceptanceSig):
		t.Fatal("paid without the cluster's acceptance")
	case c.Bid.Order != id || !node.Verify(crypto.DomainBid, c.Bid.Payload(), c.BidSig):
		t.Fatal("paid without the node's bid")
	case c.Receipt.Order != id || !node.Verify(crypto.DomainUsage, c.Receipt.Payload(), c.ReceiptSig):
		t.Fatal("paid without the node's receipt")
	case w.paid[c.Key()]:
		t.Fatal("paid twice")
	}
	w.paid[c.Key()] = true
	w.spent[id] += cost.Nano()
	if w.spent[id] > c.Order.MaxCost.Nano() || cost != agreedCost(&c) {
		t.Fatalf("paid %s, agreed were %s; %d of %s in all", cost, agreedCost(&c), w.spent[id], c.Order.MaxCost)
	}
	w.policyHeld(t, &c, by)
	w.moved(t, &c, balances, cost)
}

// policyHeld demands what the order's policy asks for.
func (w *witness) policyHeld(t *rapid.T, c *chain.Claim, consumer crypto.PublicKey) {
	payload := chain.AttestationPayload(testChain, c.Receipt.Digest())
	policy, zk := c.Order.Policy.Policy.(chain.PolicyZK)
	switch {
	case zk:
		statement := settlement.Statement(&policy, &c.Receipt)
		if digest := statement.Digest(); !bytes.Equal(c.Proof, digest[:]) || policy.VerifyingKey != verifyingKey || c.Receipt.Exit != chain.ExitOK {
			t.Fatal("paid without a proof of its statement")
		}
	case c.Countersigned:
		half := uint64(c.Order.Deadline) + w.env.Params.ClaimWindowMs/2
		if !c.Order.Countersignable || uint64(w.env.Now) < half || !consumer.Verify(crypto.DomainCountersign, payload, c.Attestation) {
			t.Fatal("paid upon a consumer's word that does not count")
		}
	case !c.Order.Cluster.Verify(crypto.DomainAttestation, payload, c.Attestation):
		t.Fatal("paid without the cluster's word")
	}
}

// agreedCost is Σ amount × duration × price in 10⁻¹⁸ HYPER, floored to nHYPER once, with no price above
// its cap; under zk the one price of the bid. The priority fee comes upon it, and is under the caps.
func agreedCost(c *chain.Claim) chain.Amount {
	const whole = 10_000
	fee := big.NewInt(int64(c.Order.PriorityBps))
	with := func(cost *big.Int) chain.Amount {
		part := new(big.Int).Mul(cost, fee)
		return chain.Nano(cost.Add(cost, part.Div(part, big.NewInt(whole))).Uint64())
	}
	above := func(price, limit uint64) bool {
		asked := new(big.Int).SetUint64(price)
		asked.Mul(asked, new(big.Int).Add(big.NewInt(whole), fee))
		return asked.Cmp(new(big.Int).Mul(new(big.Int).SetUint64(limit), big.NewInt(whole))) > 0
	}
	if _, zk := c.Order.Policy.Policy.(chain.PolicyZK); zk {
		if above(c.Bid.Fixed.Nano(), c.Order.FixedCap.Nano()) {
			return chain.Amount{}
		}
		return with(new(big.Int).SetUint64(c.Bid.Fixed.Nano()))
	}
	sum := new(big.Int)
	for _, u := range c.Receipt.Usage {
		price, _ := chain.PriceOf(c.Bid.Prices, u.Resource)
		limit, capped := chain.PriceOf(c.Order.Caps, u.Resource)
		if !capped || above(price, limit) {
			return chain.Amount{}
		}
		term := new(big.Int).SetUint64(u.Amount)
		term.Mul(term, new(big.Int).SetUint64(price))
		if u.Resource == chain.Network {
			term.Mul(term, big.NewInt(1_000))
		} else {
			term.Mul(term, new(big.Int).SetUint64(u.DurationMs))
		}
		sum.Add(sum, term)
	}
	return with(sum.Div(sum, big.NewInt(1_000*1_000_000_000)))
}

// balances are what the consumers have in escrow, and what owners, operator and the rest have.
func (w *witness) balances() map[string]uint64 {
	out := map[string]uint64{"consumer": w.escrow(consumer).Balance.Nano(), "other": w.escrow(other).Balance.Nano()}
	for n := byte(1); n <= 12; n++ {
		out[account(n).String()] = w.balance(n).Nano()
	}
	return out
}

// moved demands that a payment came out of its consumer's escrow, and went to its node's owner and the operator.
func (w *witness) moved(t *rapid.T, c *chain.Claim, before map[string]uint64, cost chain.Amount) {
	from := "consumer"
	if c.Order.ConsumerAddress() == account(other) {
		from = "other"
	}
	owner := account(4)
	if c.Receipt.Node == key(50).Public() {
		owner = account(5)
	}
	e := w.events[slices.IndexFunc(w.events, func(e chain.Event) bool {
		s, ok := e.(chain.ClaimSettled)
		return ok && s.Order == c.Order.ID() && s.Node == c.Receipt.Node && uint64(s.Sequence) == c.Receipt.Sequence
	})].(chain.ClaimSettled)
	want := before
	want[from] -= cost.Nano()
	want[owner.String()] += e.Paid.Nano()
	want[account(operator).String()] += e.ClusterFee.Nano()
	for name, is := range w.balances() {
		if is != want[name] {
			t.Fatalf("%s has %d after a payment of %s, want %d", name, is, cost, want[name])
		}
	}
}
