package settlement_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// party signs transactions and forms with a key of the cast.
type party struct{ crypto.PrivateKey }

func (p party) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(p.Public()) }

func (p party) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return p.PrivateKey.Sign(d, payload), nil
}

// keyBy is the private key of a public one of the cast.
func keyBy(public crypto.PublicKey) crypto.PrivateKey {
	return keys[slices.IndexFunc(keys[:], func(k crypto.PrivateKey) bool { return k.Public() == public })]
}

// signForms has who each form names sign it, and the cluster attest.
func signForms(c *chain.Claim) {
	consumer, err := c.Order.Consumer.Ed25519()
	if err != nil {
		panic(err)
	}
	c.OrderSig = keyBy(consumer).Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = keyBy(c.Acceptance.Cluster).Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = keyBy(c.Bid.Node).Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = keyBy(c.Receipt.Node).Sign(crypto.DomainUsage, c.Receipt.Payload())
	by, domain := keyBy(c.Order.Cluster), crypto.DomainAttestation
	if c.Countersigned {
		by, domain = keyBy(consumer), crypto.DomainCountersign
	}
	c.Attestation = by.Sign(domain, chain.AttestationPayload(c.Order.ChainID, c.Receipt.Digest()))
}

// arrive has a claim come as it would, in the bytes of a transaction whose signatures are verified,
// and returns what it cost, or why it was refused.
func (m *market) arrive(c chain.Claim) (cost chain.Amount, refusal string) {
	m.Helper()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: account(12), Expiry: 1, GasLimit: chain.GasUnits(5_000_000), MaxFee: chain.PricePerGas(1),
		Messages: chain.Msgs{chain.Settle{Claims: chain.Claims{c}}},
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
	events := settlement.Settle(m.kv, &m.env, chain.Settle{Claims: []chain.Claim{c}}, verified[0].ClaimsSigned(0))
	m.events = append(m.events, events...)
	switch e := events[0].(type) {
	case chain.ClaimSettled:
		return e.Cost, ""
	case chain.ClaimRejected:
		return cost, e.Reason
	}
	m.Fatalf("%s of a claim", chain.EventName(events[0]))
	return cost, ""
}

// parts lists all that a claim or a batch is made of, by name: what has no parts of its own, and of a list
// how long it is as well.
func parts(c any) map[string]string {
	out := map[string]string{}
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		bytes := v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8
		switch {
		case v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type() != reflect.TypeFor[chain.PolicyField]() && v.Type() != reflect.TypeFor[crypto.AccountKey]() && v.Type() != reflect.TypeFor[chain.Amount]():
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					walk(strings.TrimPrefix(name+"."+f.Name, "."), v.Field(i))
				} else if f.Name != "_" {
					panic("a part that is hidden: " + name + "." + f.Name)
				}
			}
		case v.Kind() == reflect.Slice && !bytes:
			out[name] = fmt.Sprint(v.Len(), " of them")
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", name, i), v.Index(i))
			}
		case v.Kind() == reflect.Pointer && !v.IsNil():
			out[name] = fmt.Sprintf("%#v", v.Elem().Interface())
		default:
			out[name] = fmt.Sprintf("%#v", v.Interface())
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	return out
}

// mutation changes one part of a claim.
type mutation struct {
	part   string
	change func(c *chain.Claim)
	// alone is what is said if the part's own form is signed as it is then, and no other form
	// follows it; agreed, of a part of the order, if all others are made for the order as it is then.
	// "paid" is that the claim is paid what it would have cost: the part is free, and moves nothing.
	alone, agreed string
}

const (
	paid       = "paid"
	unsigned   = "the signature of %s does not verify"
	otherOrder = "acceptance is of order"
	undecoded  = "chain: transaction: message 0: claim 0: chain: outside its limit: " // whoever posts it
)

// orderMutations are of the order's parts.
var orderMutations = []mutation{
	{"Order.ChainID", func(c *chain.Claim) { c.Order.ChainID = "another-1" }, "order is of chain", "order is of chain"},
	{"Order.Consumer", func(c *chain.Claim) { c.Order.Consumer = party{key(other)}.AccountKey() }, otherOrder, "the escrow holds 0 HYPER"},
	{"Order.Nonce", func(c *chain.Claim) { c.Order.Nonce++ }, otherOrder, paid},
	{"Order.Cluster", func(c *chain.Claim) { c.Order.Cluster = key(31).Public() }, otherOrder, "is not registered"},
	{"Order.Spec", func(c *chain.Claim) { c.Order.Spec[0] ^= 1 }, otherOrder, paid},
	{"Order.Policy", func(c *chain.Claim) { c.Order.Policy.Policy = twoOf3 }, undecoded + "receipt has no trace of its run", "its runs are committed and revealed"},
	{"Order.Caps", func(c *chain.Claim) { c.Order.Caps = nil }, otherOrder, "CPU was used, the order has no cap for it"},
	{"Order.Caps[0].Resource", func(c *chain.Claim) { c.Order.Caps[0].Resource = chain.Memory }, otherOrder, "CPU was used, the order has no cap for it"},
	{"Order.Caps[0].Price", func(c *chain.Claim) { c.Order.Caps[0].Price-- }, otherOrder, "its cap is 999999999"},
	{"Order.Caps[1].Resource", func(c *chain.Claim) { c.Order.Caps[1].Resource = chain.GPU }, otherOrder, paid},
	{"Order.Caps[1].Price", func(c *chain.Claim) { c.Order.Caps[1].Price++ }, otherOrder, paid},
	{"Order.FixedCap", func(c *chain.Claim) { c.Order.FixedCap = chain.Hyper(3) }, otherOrder, paid},
	{"Order.MaxCost", func(c *chain.Claim) { c.Order.MaxCost = chain.Nano(3_599_999) }, otherOrder, "above the max cost"},
	{"Order.Deadline", func(c *chain.Claim) { c.Order.Deadline += 24 * hour }, otherOrder, "longer work is a lease"},
	{"Order.Term", func(c *chain.Claim) {
		c.Order.Term = &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 1}}, NoticeMs: hour}
	}, "is for a lease", "is for a lease"},
	{"Order.Fair", func(c *chain.Claim) { c.Order.Fair = true }, otherOrder, "asks for a fair exchange, the receipt seals no output"},
	{"Order.Countersignable", func(c *chain.Claim) { c.Order.Countersignable = true }, otherOrder, paid},
	{"Order.PriorityBps", func(c *chain.Claim) { c.Order.PriorityBps = 1 }, otherOrder, "price of CPU is 1000000000, its cap is 999900009 beside the priority fee of 1 bps"},
	{"Order.PriorityBps", func(c *chain.Claim) { c.Order.PriorityBps = 10_001 }, undecoded + "priority_bps has 10001, limit 10000", undecoded + "priority_bps has 10001, limit 10000"},
}

// formMutations are of the other forms' parts, and of what no form has.
var formMutations = []mutation{
	{"Acceptance.ChainID", func(c *chain.Claim) { c.Acceptance.ChainID = "another-1" }, "acceptance is of chain", ""},
	{"Acceptance.Order", func(c *chain.Claim) { c.Acceptance.Order[0] ^= 1 }, otherOrder, ""},
	{"Acceptance.Cluster", func(c *chain.Claim) { c.Acceptance.Cluster = key(31).Public() }, "acceptance is by cluster", ""},
	{"Acceptance.Sequence", func(c *chain.Claim) { c.Acceptance.Sequence = 0 }, "acceptance has sequence 0", ""},
	{"Acceptance.Outstanding", func(c *chain.Claim) { c.Acceptance.Outstanding = chain.Hyper(9) }, "acceptance covers 9 HYPER", ""},
	{"Bid.ChainID", func(c *chain.Claim) { c.Bid.ChainID = "another-1" }, "bid is of chain", ""},
	{"Bid.Order", func(c *chain.Claim) { c.Bid.Order[0] ^= 1 }, "bid is of order", ""},
	{"Bid.Node", func(c *chain.Claim) { c.Bid.Node = key(50).Public() }, "bid is by node", ""},
	{"Bid.Prices", func(c *chain.Claim) { c.Bid.Prices = nil }, "CPU was used, the bid has no price for it", ""},
	{"Bid.Prices[0].Resource", func(c *chain.Claim) { c.Bid.Prices[0].Resource = chain.Memory }, "CPU was used, the bid has no price for it", ""},
	{"Bid.Prices[0].Price", func(c *chain.Claim) { c.Bid.Prices[0].Price++ }, "price of CPU is 1000000001, its cap is", ""},
	{"Bid.Fixed", func(c *chain.Claim) { c.Bid.Fixed = chain.Nano(1) }, "for metered work", ""},
	{"Bid.Expiry", func(c *chain.Claim) { c.Bid.Expiry = c.Receipt.Started - 1 }, "the bid expired at", ""},
	{"Receipt.ChainID", func(c *chain.Claim) { c.Receipt.ChainID = "another-1" }, "receipt is of chain", ""},
	{"Receipt.Order", func(c *chain.Claim) { c.Receipt.Order[0] ^= 1 }, "receipt is of order", ""},
	{"Receipt.Node", func(c *chain.Claim) { c.Receipt.Node = key(50).Public() }, "receipt by", ""},
	{"Receipt.Sequence", func(c *chain.Claim) { c.Receipt.Sequence = 2 }, "sequence is 2, the next of node", ""},
	{"Receipt.Usage", func(c *chain.Claim) {
		c.Receipt.Usage = append(c.Receipt.Usage, chain.Usage{Resource: chain.GPU, Amount: 1})
	}, "GPU was used, the order has no cap for it", ""},
	{"Receipt.Usage[0].Resource", func(c *chain.Claim) { c.Receipt.Usage[0].Resource = chain.Memory }, "Memory was used, the order has no cap for it", ""},
	{"Receipt.Usage[0].Amount", func(c *chain.Claim) { c.Receipt.Usage[0].Amount *= 2_778 }, "above the max cost", ""},
	{"Receipt.Usage[0].DurationMs", func(c *chain.Claim) { c.Receipt.Usage[0].DurationMs = 2_778 * hour / 2 }, "the escrow holds 5 HYPER", ""},
	{"Receipt.Fuel", func(c *chain.Claim) { c.Receipt.Fuel++ }, paid, ""},
	{"Receipt.Result", func(c *chain.Claim) { c.Receipt.Result[0] ^= 1 }, paid, ""},
	{"Receipt.Outputs", func(c *chain.Claim) { c.Receipt.Outputs = []chain.FieldBytes{{1}} }, paid, ""},
	{"Receipt.Started", func(c *chain.Claim) { c.Receipt.Started = c.Receipt.Ended + 1 }, undecoded + "work ended at", ""},
	{"Receipt.Ended", func(c *chain.Claim) { c.Receipt.Ended = c.Order.Deadline + 1 }, "work ended at", ""},
	{"Receipt.Exit", func(c *chain.Claim) { c.Receipt.Exit = chain.ExitFuel }, paid, ""},
	{"Receipt.ExitCode", func(c *chain.Claim) { c.Receipt.ExitCode++ }, paid, ""},
	{"Receipt.Trace", func(c *chain.Claim) { c.Receipt.Trace = &chain.Trace{} }, undecoded + "receipt has the trace of a run that nobody judges", ""},
	{"Receipt.Sealed", func(c *chain.Claim) { c.Receipt.Sealed = &chain.SealedOutput{KeyHash: crypto.Digest{1}} }, "asks for no fair exchange", ""},
	{"Proof", func(c *chain.Claim) { c.Proof = []byte{1} }, paid, ""},
	{"Countersigned", func(c *chain.Claim) { c.Countersigned = true }, "claim is countersigned, which order", ""},
	{"OutputKey", func(c *chain.Claim) { c.OutputKey = &chain.OutputKey{1} }, "a key is shown, and no output is sealed", ""},
	{"OrderSig", func(c *chain.Claim) { c.OrderSig[3] ^= 1 }, fmt.Sprintf(unsigned, "the order"), ""},
	{"AcceptanceSig", func(c *chain.Claim) { c.AcceptanceSig[3] ^= 1 }, fmt.Sprintf(unsigned, "the acceptance"), ""},
	{"BidSig", func(c *chain.Claim) { c.BidSig[3] ^= 1 }, fmt.Sprintf(unsigned, "the bid"), ""},
	{"ReceiptSig", func(c *chain.Claim) { c.ReceiptSig[3] ^= 1 }, fmt.Sprintf(unsigned, "the receipt"), ""},
	{"Attestation", func(c *chain.Claim) { c.Attestation[3] ^= 1 }, fmt.Sprintf(unsigned, "the attestation"), ""},
	{"Attestation", func(c *chain.Claim) { c.Attestation = crypto.Signature{} }, "claim has no attestation of cluster", ""},
}

// provenMutations are those of which a claim under zk is refused in another way.
var provenMutations = []mutation{
	{"Order.Nonce", func(c *chain.Claim) { c.Order.Nonce++ }, otherOrder, "false proof"},
	{"Order.Policy", func(c *chain.Claim) { c.Order.Policy.Policy = ofKernel("matmul-8", verifyingKey, 3) }, otherOrder, "not pinned by genesis"},
	{"Order.Policy", func(c *chain.Claim) { c.Order.Policy.Policy = ofKernel("matmul-4", crypto.Digest{1}, 3) }, otherOrder, "genesis pins"},
	{"Order.Policy", func(c *chain.Claim) { c.Order.Policy.Policy = ofKernel("matmul-4", verifyingKey, 4) }, otherOrder, "false proof"},
	{"Order.FixedCap", func(c *chain.Claim) { c.Order.FixedCap = chain.Nano(999_999_999) }, otherOrder, "is above its cap, 0.999999999 HYPER"},
	{"Order.PriorityBps", func(c *chain.Claim) { c.Order.PriorityBps = 10_000 }, otherOrder, "false proof"},
	{"Order.MaxCost", func(c *chain.Claim) { c.Order.MaxCost = chain.Nano(999_999_999) }, otherOrder, "above the max cost"},
	{"Bid.Fixed", func(c *chain.Claim) { c.Bid.Fixed = chain.Hyper(3) }, "is above its cap", ""},
	{"Receipt.Outputs", func(c *chain.Claim) { c.Receipt.Outputs = nil }, "wrong number of publics", ""},
	{"Receipt.Outputs[0]", func(c *chain.Claim) { c.Receipt.Outputs[0][31] ^= 1 }, "false proof", ""},
	{"Receipt.Exit", func(c *chain.Claim) { c.Receipt.Exit = chain.ExitFailed }, "only a proven result is paid", ""},
	{"Proof", func(c *chain.Claim) { c.Proof[0] ^= 1 }, "false proof", ""},
	{"Attestation", func(c *chain.Claim) { c.Attestation = crypto.Signature{} }, paid, ""}, // the proof stands for it
}

func ofKernel(kernel string, key crypto.Digest, input byte) chain.PolicyZK {
	return chain.PolicyZK{Kernel: kernel, VerifyingKey: key, Inputs: []chain.FieldBytes{{31: input}}}
}

// mutant is a market with a claim that is in order and signed, before it is changed.
func mutant(t *testing.T, policy chain.Policy) (*market, chain.Claim) {
	m := newMarket(t)
	m.deposit(consumer, chain.Hyper(5))
	c := m.claim(m.order(consumer, 1, policy), 40, 1)
	signForms(&c)
	return m, c
}

// TestEveryPartOfAClaimIsRefusedByItsName changes each part of a claim that is in order, one at a
// time. A stranger, who signs nothing, is refused for the signature of the form that the part is of; the party whose form it is, by the
// part's name; and so are all of them together, but for what is theirs to choose, which moves no money.
func TestEveryPartOfAClaimIsRefusedByItsName(t *testing.T) {
	plain := append(slices.Clone(orderMutations), formMutations...)
	m, c := mutant(t, none)
	left := parts(&c)
	for _, x := range plain {
		delete(left, x.part)
	}
	if len(left) > 0 {
		t.Errorf("nothing changes %q", slices.Sorted(maps.Keys(left)))
	}
	want, refusal := m.arrive(c)
	if refusal != "" {
		t.Fatalf("the claim that all of them begin as: %s", refusal)
	}
	for _, x := range plain {
		x.try(t, none, want)
	}
	m, c = mutant(t, product)
	if want, refusal = m.arrive(c); refusal != "" || want != chain.Hyper(1) {
		t.Fatalf("the claim with a proof: %v, %s", want, refusal)
	}
	for _, x := range provenMutations {
		x.try(t, product, want)
	}
}

// try posts the changed claim as a stranger, as the form's party, and as all parties.
func (x *mutation) try(t *testing.T, policy chain.Policy, cost chain.Amount) {
	t.Helper()
	post := func(who, want string, sign func(m *market, c *chain.Claim)) {
		t.Helper()
		m, c := mutant(t, policy)
		before := m.dump()
		x.change(&c)
		sign(m, &c)
		paidFor, refusal := m.arrive(c)
		switch {
		case want == paid:
			if refusal != "" || paidFor != cost {
				t.Errorf("%s, %s: paid %s, %q; want %s", x.part, who, paidFor, refusal, cost)
			}
		case !strings.Contains(refusal, want):
			t.Errorf("%s, %s: %q, want %q in it", x.part, who, refusal, want)
		case string(before) != string(m.dump()):
			t.Errorf("%s, %s: refused, and the state is another", x.part, who)
		}
	}
	_, was := mutant(t, policy)
	_, is := mutant(t, policy)
	x.change(&is)
	changesOnly(t, x.part, parts(&was), parts(&is))
	form, _, inForm := strings.Cut(x.part, ".")
	stranger := fmt.Sprintf(unsigned, "the "+strings.ToLower(form))
	if form == "Countersigned" {
		stranger = fmt.Sprintf(unsigned, "the countersignature")
	}
	if !inForm && form != "Countersigned" || strings.HasPrefix(x.alone, undecoded) {
		stranger = x.alone
	}
	post("by a stranger", stranger, func(*market, *chain.Claim) {})
	if inForm || form == "Countersigned" {
		post("alone", x.alone, func(_ *market, c *chain.Claim) { signForms(c) })
	}
	if form == "Order" {
		post("agreed", x.agreed, func(m *market, c *chain.Claim) {
			proof := c.Proof
			*c = m.claim(c.Order, 40, 1)
			c.Proof = proof
			signForms(c)
		})
	}
}

// changesOnly demands that of what is signed a part is changed, and nothing but that and what is in it.
func changesOnly(t *testing.T, part string, old, changed map[string]string) {
	t.Helper()
	for other, value := range changed { // order-free: each by itself
		if old[other] != value && !strings.HasPrefix(other, part) {
			t.Errorf("%s: %s is changed too", part, other)
		}
	}
	if old[part] == changed[part] {
		t.Errorf("%s is not changed", part)
	}
}
