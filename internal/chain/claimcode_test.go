package chain_test

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// anyNumber is a number at an edge of the encoding, or any.
func anyNumber(t *rapid.T, name string) uint64 {
	edges := []uint64{0, 23, 24, 255, 256, 65_535, 65_536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}
	return rapid.OneOf(rapid.SampledFrom(edges), rapid.Uint64()).Draw(t, name)
}

// anyClaim is a claim of any numbers, under any policy, of a lease or not.
func anyClaim(t *rapid.T, policy chain.Policy) chain.Claim {
	c := sampleClaim(policy)
	number := func(name string) uint64 { return anyNumber(t, name) }
	var prices []chain.UnitPrice
	c.Receipt.Usage = nil
	for _, r := range chain.Resources[:rapid.IntRange(0, len(chain.Resources)).Draw(t, "resources")] {
		prices = append(prices, chain.UnitPrice{Resource: r, Price: number("price")})
		c.Receipt.Usage = append(c.Receipt.Usage, chain.Usage{Resource: r, Amount: number("amount"), DurationMs: number("duration")})
	}
	c.Order.Nonce, c.Order.Caps, c.Bid.Prices = number("nonce"), prices, prices
	c.Order.FixedCap, c.Order.MaxCost, c.Order.Deadline = chain.Nano(number("fixed cap")), chain.Nano(number("max cost")), chain.TimeMs(number("deadline"))
	c.Acceptance.Sequence, c.Acceptance.Outstanding = number("acceptance"), chain.Nano(number("outstanding"))
	c.Bid.Fixed, c.Bid.Expiry = chain.Nano(number("fixed")), chain.TimeMs(number("expiry"))
	c.Receipt.Sequence, c.Receipt.Fuel = number("sequence"), number("fuel")
	c.Receipt.Started, c.Receipt.Ended = chain.TimeMs(number("started")), chain.TimeMs(number("ended"))
	c.Receipt.Exit, c.Receipt.ExitCode = chain.ExitStatus(rapid.Uint8().Draw(t, "exit")), rapid.Uint32().Draw(t, "code")
	c.Receipt.Outputs = make([]chain.FieldBytes, rapid.IntRange(0, chain.MaxFields).Draw(t, "outputs"))
	c.Acceptance.ChainID = chain.ChainID(rapid.String().Draw(t, "chain"))
	if rapid.Bool().Draw(t, "sealed") {
		c.Receipt.Sealed = &chain.SealedOutput{Output: c.Order.Spec, KeyHash: c.Receipt.Result}
	}
	if c.Receipt.Trace = nil; rapid.Bool().Draw(t, "traced") {
		c.Receipt.Trace = &chain.Trace{Runs: c.Receipt.Result, Panels: c.Order.Spec}
	}
	c.Order.Fair, c.Order.Countersignable = rapid.Bool().Draw(t, "fair"), rapid.Bool().Draw(t, "countersignable")
	c.Order.PriorityBps = chain.PriorityFee(rapid.Uint16().Draw(t, "priority"))
	if rapid.Bool().Draw(t, "lease") {
		c.Order.Term = sampleDeal().Order.Term
	}
	return c
}

func TestClaimsAreWrittenByHandAsByTheCodec(t *testing.T) {
	policies := []chain.Policy{chain.PolicyNone{}, replicated, chain.PolicyZK{Kernel: "k", Inputs: []chain.FieldBytes{{1}}}, chain.PolicyOptimistic{WindowMs: 5}}
	rapid.Check(t, func(t *rapid.T) {
		c := anyClaim(t, rapid.SampledFrom(policies).Draw(t, "policy"))
		for name, pair := range map[string][2][]byte{
			"order":      {c.Order.Payload(), codec.Marshal(c.Order)},
			"acceptance": {c.Acceptance.Payload(), codec.Marshal(c.Acceptance)},
			"bid":        {c.Bid.Payload(), codec.Marshal(c.Bid)},
			"receipt":    {c.Receipt.Payload(), codec.Marshal(c.Receipt)},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Fatalf("%s is %x, the codec's is %x", name, pair[0], pair[1])
			}
		}
		settled := chain.ClaimSettled{
			Order: c.Order.Spec, Node: c.Bid.Node, Sequence: chain.Number(anyNumber(t, "n")), Consumer: testKey(1).address(), Provider: testKey(2).address(),
			Cluster: c.Order.Cluster, Policy: rapid.String().Draw(t, "policy text"), Exit: c.Receipt.Exit, Cost: c.Order.MaxCost, Paid: c.Order.FixedCap,
			Burned: c.Bid.Fixed, Treasury: c.Acceptance.Outstanding, ClusterFee: chain.Nano(anyNumber(t, "fee")),
			PriorityBurned: chain.Nano(anyNumber(t, "priority burned")), PriorityFee: chain.Nano(anyNumber(t, "priority fee")), ProofVerified: rapid.Bool().Draw(t, "proof"),
		}
		for _, u := range c.Receipt.Usage {
			settled.Records = append(settled.Records, chain.ResourceTransaction{
				NodeID: c.Bid.Node, ResourceType: u.Resource, Amount: u.Amount, DurationMs: u.DurationMs, PricePerUnit: chain.Number(u.Amount),
				Consumer: settled.Consumer, Provider: settled.Provider, Timestamp: c.Receipt.Ended,
			})
		}
		lease := chain.LeaseID{Node: c.Bid.Node, Order: c.Order.Spec}
		for _, event := range []chain.Event{settled, chain.LeasePaid{
			Lease: lease, Consumer: settled.Consumer, Provider: settled.Provider, Cluster: settled.Cluster, Until: c.Receipt.Ended, Cost: settled.Cost,
			Paid: settled.Paid, Burned: settled.Burned, Treasury: settled.Treasury, ClusterFee: settled.ClusterFee,
			PriorityBurned: settled.PriorityBurned, PriorityFee: settled.PriorityFee, Records: settled.Records,
		}, chain.LeaseEnded{Lease: lease, At: c.Receipt.Ended, Closed: settled.ProofVerified, Refunded: settled.Paid}} {
			got, err := chain.Events{event}.MarshalCBOR()
			if err != nil {
				t.Fatal(err)
			}
			if want := chain.AppendEventByCodec(event); !bytes.Equal(got, want) {
				t.Fatalf("event is %x, the codec's is %x", got, want)
			}
		}
	})
}

// claimTxs are encoded transactions of claims that are read by hand.
func claimTxs(t testing.TB) [][]byte {
	t.Helper()
	plain := sampleClaim(chain.PolicyNone{})
	bare := plain
	bare.Order.Caps, bare.Bid.Prices, bare.Receipt.Usage, bare.Receipt.Outputs, bare.Proof = []chain.UnitPrice{}, []chain.UnitPrice{}, []chain.Usage{}, []chain.FieldBytes{}, []byte{}
	elsewhere := plain
	elsewhere.Bid.ChainID, elsewhere.Acceptance.ChainID = "anö", ""
	return [][]byte{
		signedTx(t, chain.Msgs{chain.Settle{Claims: chain.Claims{plain}}}).Encode(),
		signedTx(t, chain.Msgs{chain.Settle{Claims: slices.Repeat(chain.Claims{plain}, chain.MaxClaims)}, chain.Transfer{To: testKey(4).address(), Amount: chain.Hyper(3)}}).Encode(),
		signedTx(t, chain.Msgs{chain.Settle{Claims: chain.Claims{bare, elsewhere}}}).Encode(),
		signedTx(t, chain.Msgs{chain.Settle{Claims: chain.Claims{fairClaim(), plain}}}).Encode(),
	}
}

func TestClaimsAreReadByHandAsByTheCodec(t *testing.T) {
	for i, raw := range claimTxs(t) {
		if !agree(t, raw) {
			t.Errorf("transaction %d was left to the codec", i)
		}
		if _, err := chain.DecodeTx(raw); err != nil {
			t.Errorf("transaction %d: %v", i, err)
		}
	}
	of := func(c chain.Claim) []byte {
		return signedTx(t, chain.Msgs{chain.Settle{Claims: chain.Claims{c}}}).Encode()
	}
	leased := sampleClaim(chain.PolicyNone{})
	leased.Order.Term = sampleDeal().Order.Term
	for _, raw := range [][]byte{of(sampleClaim(replicated)), of(leased)} {
		if agree(t, raw) {
			t.Errorf("%x was not left to the codec", raw)
		}
	}
}

// TestEveryChangeOfAClaimIsReadAlike changes each byte in every bit, leaves out each, and
// puts some before each.
func TestEveryChangeOfAClaimIsReadAlike(t *testing.T) {
	list := claimTxs(t)
	for _, raw := range [][]byte{list[0], list[3]} {
		everyChange(t, raw)
	}
}

func everyChange(t *testing.T, raw []byte) {
	t.Helper()
	for at := range raw {
		for bit := range 8 {
			changed := slices.Clone(raw)
			changed[at] ^= 1 << bit
			agree(t, changed)
		}
		agree(t, slices.Delete(slices.Clone(raw), at, at+1))
		for _, b := range []byte{0x00, 0x18, 0x58, 0x80, 0xf6, 0xff} {
			agree(t, slices.Insert(slices.Clone(raw), at, b))
		}
	}
}

// TestTheSignedBodyIsPartOfTheBytes looks at transactions that the codec reads.
func TestTheSignedBodyIsPartOfTheBytes(t *testing.T) {
	for _, messages := range []chain.Msgs{allMessages(), stakingMessages()} {
		tx := signedTx(t, messages)
		decoded, err := chain.DecodeTx(tx.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(chain.PayloadOf(&decoded), codec.Marshal(tx.Body)) {
			t.Error("what was signed is not the body's encoding")
		}
	}
	var refused chain.DecodedTx
	if got := chain.VerifyTxs([]chain.DecodedTx{refused}, 1); len(got) != 1 {
		t.Errorf("%d verdicts of one", len(got))
	}
	if crypto.DomainTxBody.Hash(chain.PayloadOf(&refused)) != crypto.DomainTxBody.Hash(nil) {
		t.Error("nothing was read, and it has a body")
	}
}
