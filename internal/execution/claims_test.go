package execution_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// bazaar is a world in which many have claims: a cluster, and as many consumers as nodes of
// different owners.
type bazaar struct {
	*world
	cluster key
	people  []key // each consumer, and each owner of the node with its number
	nodes   []key
	posted  uint64
}

func newBazaar(t testing.TB, size int) *bazaar {
	t.Helper()
	return bazaarOf(newWorld(t), size)
}

func bazaarOf(w *world, size int) *bazaar {
	w.Helper()
	z := &bazaar{world: w, cluster: keyOf(50)}
	faucet, operator := keyOf(40), keyOf(21)
	var gifts, registrations []*chain.VerifiedTx
	for i := range size {
		z.people = append(z.people, numbered('u', i))
		z.nodes = append(z.nodes, numbered('n', i))
		gifts = append(gifts, z.tx(faucet, chain.Transfer{To: z.people[i].address(), Amount: chain.Hyper(2_000)}))
	}
	z.blocks(gifts)
	z.block(100, z.tx(operator, chain.RegisterCluster{
		Cluster: z.cluster.Public(), Bond: chain.Hyper(1_000), FeeBps: 100,
		Possession: z.cluster.PrivateKey.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, operator.address())),
	}))
	for i, owner := range z.people {
		registrations = append(registrations, z.tx(owner,
			chain.RegisterProvider{
				Node: z.nodes[i].Public(), Bond: chain.Hyper(100), Region: "eu", Millicores: 1_000, MemoryMiB: 1_024,
				Possession: z.nodes[i].PrivateKey.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, owner.address())),
			},
			chain.Deposit{Cluster: z.cluster.Public(), Amount: chain.Hyper(500)}))
	}
	z.blocks(registrations)
	return z
}

// blocks executes transactions, some in each block.
func (z *bazaar) blocks(txs []*chain.VerifiedTx) {
	for part := range slices.Chunk(txs, 32) {
		for _, r := range z.block(100, part...).Receipts.Txs {
			if !r.Accepted() {
				z.Fatal(r.Rejection)
			}
		}
	}
}

// claim is the next one, of an order of its own.
func (z *bazaar) claim() chain.Claim {
	n := int(z.posted)
	consumer, node := z.people[n%len(z.people)], z.nodes[(n/len(z.nodes)+n)%len(z.nodes)]
	return z.claimOf(consumer, node, func(*chain.Claim) {})
}

// claimOf is the next one, of an order of a consumer that a node carried out; change changes what
// matters of it before it is signed.
func (z *bazaar) claimOf(consumer, node key, change func(*chain.Claim)) chain.Claim {
	z.posted++
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1_000_000_000}}
	c := chain.Claim{Order: chain.Order{
		ChainID: testChain, Consumer: consumer.AccountKey(), Nonce: z.posted, Cluster: z.cluster.Public(), Spec: crypto.DomainJobSpec.Hash([]byte("bench")),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: prices, MaxCost: chain.Nano(3_600_000), Deadline: z.now + 900_000,
	}}
	c.Receipt = chain.UsageReceipt{
		ChainID: testChain, Node: node.Public(), Sequence: 1, Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1_000, DurationMs: 3_600_000}}, Fuel: 1,
		Result: crypto.DomainResult.Hash([]byte("bench")), Started: z.now - 3_600_000, Ended: z.now, Exit: chain.ExitOK,
	}
	change(&c)
	id := c.Order.ID()
	c.Receipt.Order = id
	c.Acceptance = chain.Acceptance{ChainID: testChain, Order: id, Cluster: c.Order.Cluster, Sequence: z.posted, Outstanding: c.Order.MaxCost}
	c.Bid = chain.Bid{ChainID: testChain, Order: id, Node: node.Public(), Prices: prices, Expiry: c.Order.Deadline}
	c.OrderSig = consumer.PrivateKey.Sign(crypto.DomainOrder, c.Order.Payload())
	c.AcceptanceSig = z.cluster.PrivateKey.Sign(crypto.DomainAcceptance, c.Acceptance.Payload())
	c.BidSig = node.PrivateKey.Sign(crypto.DomainBid, c.Bid.Payload())
	c.ReceiptSig = node.PrivateKey.Sign(crypto.DomainUsage, c.Receipt.Payload())
	c.Attestation = z.cluster.PrivateKey.Sign(crypto.DomainAttestation, chain.AttestationPayload(testChain, c.Receipt.Digest()))
	return c
}

// settlement is a transaction with so many claims.
func (z *bazaar) settlement(claims int) *chain.VerifiedTx {
	var list chain.Claims
	for range claims {
		list = append(list, z.claim())
	}
	return z.tx(keyOf(22), chain.Settle{Claims: list})
}

// TestSettledClaimsCostLess: each claim that is not rejected is given back a part of its price, which has to be
// there before; one that was there, and all of a message with a forged one, are given nothing.
func TestSettledClaimsCostLess(t *testing.T) {
	z, table, sender := newBazaar(t, 4), execution.GasTableV1(), keyOf(22)
	z.block(500, z.tx(sender, chain.Settle{Claims: chain.Claims{z.claim()}})) // the treasury has an account from now on
	forged := func() chain.Claim {
		c := z.claim()
		c.Attestation[0] ^= 1
		return c
	}
	settled := z.claim()
	for _, c := range []struct {
		name   string
		claims chain.Claims
		back   uint64 // claims
	}{
		{"settled", chain.Claims{settled}, 1},
		{"twice", chain.Claims{settled}, 0},
		{"forged", chain.Claims{forged()}, 0},
		{"beside a forged one", chain.Claims{z.claim(), forged(), z.claim()}, 0},
		{"beside one that was there", chain.Claims{z.claim(), settled, z.claim()}, 2},
	} {
		tx := z.tx(sender, chain.Settle{Claims: c.claims})
		r := z.block(500, tx).Receipts.Txs[0]
		if back := execution.GivenBack(tx, r.Events); !r.Accepted() || back != c.back*table.ClaimSettled {
			t.Fatalf("%s: %q, %d gas back", c.name, r.Rejection, back)
		}
		metered := r.GasUsed.Units() + c.back*table.ClaimSettled
		if least := execution.IntrinsicGas(&tx.DecodedTx); metered < least || len(c.claims) == 1 && c.back == 0 && metered > least+10*table.Read {
			t.Errorf("%s: %d gas used, intrinsic %d", c.name, r.GasUsed.Units(), least)
		}
	}
	// What comes back is not there to be spent before: the least limit that will do is above what is used in the end.
	last := chain.Settle{Claims: chain.Claims{z.claim()}}
	r, limit := leastLimit(z, last, 1_000)
	if used := r.GasUsed.Units(); used > limit-table.ClaimSettled || used <= limit-table.ClaimSettled-1_000 {
		t.Errorf("%d gas used, %d given back, the least limit is %d", used, table.ClaimSettled, limit)
	}
}

// leastLimit executes a settlement with more and more gas, until it does not run out.
func leastLimit(z *bazaar, m chain.Settle, step uint64) (r chain.Receipt, limit uint64) {
	sender := keyOf(22)
	body := z.body(sender, m)
	for limit = execution.IntrinsicGas(&z.sign(body, sender).DecodedTx); ; limit += step {
		body.GasLimit = chain.GasUnits(limit)
		r = z.block(10, z.sign(body, sender)).Receipts.Txs[0]
		if r.Accepted() {
			return r, limit
		}
		if !strings.HasPrefix(r.Rejection, "out of gas") || r.GasUsed.Units() != limit {
			z.Fatalf("%d gas: %q, %d used", limit, r.Rejection, r.GasUsed.Units())
		}
		body = z.body(sender, m)
	}
}

// TestGasBackPaysForNoProof: a proof that was not paid for is not verified, and its transaction out of gas, also where
// other claims' gas comes back.
func TestGasBackPaysForNoProof(t *testing.T) {
	z := newBazaar(t, 12)
	z.block(10, z.tx(keyOf(22), chain.Settle{Claims: chain.Claims{z.claim()}}))
	var claims chain.Claims
	for i := range 6 {
		claims = append(claims, z.locked(i, 60_000))
	}
	proven := z.claimOf(z.people[7], z.nodes[8], func(c *chain.Claim) {
		c.Order.Policy.Policy = multiply
		c.Order.FixedCap, c.Order.MaxCost = chain.Hyper(1), chain.Hyper(1)
		c.Receipt.Outputs = []chain.FieldBytes{{31: 9}}
	})
	proven.Bid.Prices, proven.Bid.Fixed = nil, chain.Hyper(1)
	proven.BidSig = z.nodes[8].PrivateKey.Sign(crypto.DomainBid, proven.Bid.Payload())
	statement := zk.Statement{
		Kernel: zk.Kernel(multiply.Kernel), VerifyingKey: multiply.VerifyingKey, Inputs: []zk.Field{zk.Field(multiply.Inputs[0])},
		Output: []zk.Field{{31: 9}}, Bind: zk.Bind(string(testChain), proven.Order.ID(), 1, z.nodes[8].Public()),
	}
	digest := statement.Digest()
	proven.Proof = digest[:]
	verified := z.proofs.calls
	r, _ := leastLimit(z, chain.Settle{Claims: append(claims, proven)}, 4_000)
	for _, e := range r.Events {
		if rejected, ok := e.(chain.ClaimRejected); ok {
			t.Errorf("accepted, with a claim rejected: %s", rejected.Reason)
		}
	}
	if z.proofs.calls == verified {
		t.Error("no proof was verified")
	}
}

// BenchmarkClaims takes blocks of 512 claims, sixteen a transaction, through each part of
// what a validator does with them. The figure that matters is the processor time of a claim.
func BenchmarkClaims(b *testing.B) {
	const txs = 32
	z := newBazaar(b, 64)
	var raws [][]byte
	var verified []*chain.VerifiedTx
	for range txs {
		tx := z.settlement(chain.MaxClaims)
		raws, verified = append(raws, tx.Raw()), append(verified, tx)
	}
	header := z.header(500)
	out, err := z.x.Apply(z.state, header, staking.Extras{}, verified)
	if err != nil {
		b.Fatal(err)
	}
	part := func(name string, do func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			began := processor()
			for b.Loop() {
				do()
			}
			b.ReportMetric(float64((processor()-began)/time.Nanosecond)/1_000/float64(b.N*txs*chain.MaxClaims), "core-µs/claim")
			b.ReportMetric(0, "ns/op")
		})
	}
	part("decode", func() {
		if _, errs := chain.DecodeTxs(raws); errs[0] != nil {
			b.Fatal(errs[0])
		}
	})
	decoded, _ := chain.DecodeTxs(raws)
	part("verify", func() {
		for _, v := range chain.VerifyTxs(decoded, 1) {
			if v == nil || v.ClaimsSigned(0)[15] != chain.AllSigned {
				b.Fatal("a signature does not verify")
			}
		}
	})
	part("apply", func() {
		if _, err := z.x.Apply(z.state, header, staking.Extras{}, verified); err != nil {
			b.Fatal(err)
		}
	})
	part("receipts", func() { out.Receipts.EncodeAndRoot() })
	b.Logf("%d keys change for %d claims", len(out.Changes), txs*chain.MaxClaims)
}

// TestAClaimWritesFourLeaves counts the leaves of the state that a block of claims changes:
// their order, new; the consumer's escrow, the node's record and its owner's account. What all
// claims of a message share beside is one entry of the queue in which their orders expire,
// and what all of a block share is the operator's account, the treasury's, and the supply's
// record, which fees change in any case. Later the order is deleted, and the entry: nothing
// else of a claim is left to be deleted. A block full of claims changes fewer than four leaves
// for each, all counted, as soon as some have a consumer or a node in common.
func TestAClaimWritesFourLeaves(t *testing.T) {
	for _, c := range []struct{ people, claims, own int }{
		{chain.MaxClaims, chain.MaxClaims, 4 * chain.MaxClaims}, // nobody has two
		{4, chain.MaxClaims, chain.MaxClaims + 3*4},
		{1, 1, 4},
		{512, 512, 4 * 512},
		{64, 512, 512 + 3*64},
	} {
		z := newBazaar(t, c.people)
		stranger := keyOf(22)
		forged := z.claim()
		forged.OrderSig[0] ^= 1
		z.block(500, z.tx(stranger, chain.Settle{Claims: chain.Claims{z.claim()}})) // the treasury has an account from now on
		idle := z.block(500, z.tx(stranger, chain.Settle{Claims: chain.Claims{forged}}))
		known := map[string]bool{}
		for _, change := range idle.Changes {
			known[string(change.Key)] = true
		}
		z.posted = uint64(2 * c.people) // the first turn of each consumer and each node
		var txs []*chain.VerifiedTx
		for left := c.claims; left > 0; left -= chain.MaxClaims {
			txs = append(txs, z.settlement(min(left, chain.MaxClaims)))
		}
		out := z.block(500, txs...)
		added := 0
		for _, change := range out.Changes {
			if change.Deleted {
				t.Errorf("%d claims of %d people delete %x", c.claims, c.people, change.Key)
			}
			if !known[string(change.Key)] {
				added++
			}
		}
		settled, shared := 0, len(txs)+2 // an entry of the queue each, the operator's account and the treasury's
		for _, r := range out.Receipts.Txs {
			settled += len(r.Events)
		}
		if settled != c.claims || added != c.own+shared || added-shared > 4*settled {
			t.Errorf("%d of %d claims of %d people settled and wrote %d leaves, want %d and %d", settled, c.claims, c.people, added, c.own, shared)
		}
		if c.people < c.claims && len(out.Changes) > 4*settled {
			t.Errorf("a block with %d claims of %d people changes %d leaves", settled, c.people, len(out.Changes))
		}
		gone, before := 0, len(slices.Collect(keysOf(z.state)))
		for _, change := range z.block(8 * 3_600_000).Changes {
			if change.Deleted {
				gone++
			}
		}
		if after := len(slices.Collect(keysOf(z.state))); gone != c.claims+len(txs)+2 || before-after != gone { // and those of the first block
			t.Errorf("%d claims left %d records to delete, want %d; there were %d, there are %d", c.claims, gone, c.claims+len(txs)+2, before, after)
		}
	}
}

func keysOf(r state.Reader) func(func(string) bool) {
	return func(yield func(string) bool) {
		for key := range r.Iterate([]byte{0}, nil) {
			if !yield(string(key)) {
				return
			}
		}
	}
}
