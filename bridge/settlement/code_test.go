package settlement_test

import (
	"bytes"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// TestRecordsReadByHand: as the general decoder reads them, whatever is in them.
func TestRecordsReadByHand(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		number := func(what string) uint64 {
			return rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 300)).Draw(rt, what)
		}
		digest := func(what string) (d crypto.Digest) {
			copy(d[:], rapid.SliceOfN(rapid.Byte(), len(d), len(d)).Draw(rt, what))
			return d
		}
		l := settlement.Lease{
			Consumer: chain.Address(digest("consumer")), Cluster: crypto.PublicKey(digest("cluster")), Provider: chain.Address(digest("provider")),
			Operator: chain.Address(digest("operator")), FeeBps: rapid.Uint16Max(10_000).Draw(rt, "fee"), Order: digest("order"), Spec: digest("spec"),
			NoticeMs: number("notice"), Rate: number("rate"), Since: chain.TimeMs(number("since")), Charged: chain.Nano(number("charged")),
			Until: chain.TimeMs(number("until")), Held: chain.Nano(number("held")), Expires: chain.TimeMs(number("expires")), Closing: rapid.Bool().Draw(rt, "closing"), Promised: rapid.Bool().Draw(rt, "promised"),
			Resources: []chain.Quantity{}, Prices: []chain.UnitPrice{},
		}
		for _, r := range chain.Resources[:rapid.IntRange(0, len(chain.Resources)).Draw(rt, "resources")] {
			l.Resources = append(l.Resources, chain.Quantity{Resource: r, Amount: number("amount")})
			l.Prices = append(l.Prices, chain.UnitPrice{Resource: r, Price: number("price")})
		}
		e := settlement.Escrow{Balance: chain.Nano(number("balance")), Withdrawals: []chain.TimeMs{}, Record: match.Record{Period: number("period"), Credit: number("credit"), Debt: number("debt")}, Highs: settlement.Highs{Period: number("high period"), Now: chain.Nano(number("high")), Before: chain.Nano(number("high before"))}, Elsewhere: chain.Nano(number("elsewhere"))}
		for range rapid.IntRange(0, settlement.MaxWithdrawals).Draw(rt, "withdrawals") {
			e.Withdrawals = append(e.Withdrawals, chain.TimeMs(number("at")))
		}
		if got, whole := settlement.LeaseByHand(codec.Marshal(l)); !whole || !reflect.DeepEqual(got, l) {
			rt.Fatalf("read %+v by hand, it is %+v", got, l)
		}
		if got, whole := settlement.EscrowByHand(codec.Marshal(e)); !whole || !reflect.DeepEqual(got, e) {
			rt.Fatalf("read %+v by hand, it is %+v", got, e)
		}
		p := settlement.Provider{
			Owner: l.Provider, Bond: l.Held, Region: rapid.StringN(0, 8, chain.MaxRegion).Draw(rt, "region"), Millicores: number("millicores"), MemoryMiB: number("memory"), Owed: chain.Nano(number("owed")),
			UnbondedMs: l.Since, Record: e.Record, Locked: l.Charged, Seat: number("seat"), Unchecked: number("unchecked"),
		}
		if got, whole := settlement.ReadProvider(codec.Marshal(p)); !whole || !reflect.DeepEqual(got, p) {
			rt.Fatalf("read %+v by hand, it is %+v", got, p)
		}
		for _, whole := range [][]byte{codec.Marshal(l), codec.Marshal(e), codec.Marshal(p)} { // what is no record is left to the general decoder
			cut := bytes.Clone(whole[:rapid.IntRange(0, len(whole)-1).Draw(rt, "cut")])
			if _, ok := settlement.LeaseByHand(cut); ok {
				rt.Fatalf("%x reads as a lease", cut)
			}
			if _, ok := settlement.EscrowByHand(cut); ok {
				rt.Fatalf("%x reads as an escrow", cut)
			}
			if _, ok := settlement.ReadProvider(cut); ok {
				rt.Fatalf("%x reads as a node", cut)
			}
		}
	})
}

// TestOrdersAreWrittenAndReadByHand: as the codec does, whatever is in them.
func TestOrdersAreWrittenAndReadByHand(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		number := func(what string) uint64 {
			return rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 300)).Draw(rt, what)
		}
		policy := rapid.SampledFrom([]chain.Policy{none, product, twoOf3}).Draw(rt, "policy")
		o := settlement.Order{
			Consumer: account(consumer), Cluster: key(cluster).Public(), Policy: chain.PolicyField{Policy: policy}, MaxCost: chain.Nano(number("max cost")),
			Deadline: chain.TimeMs(number("deadline")), Expires: chain.TimeMs(number("expires")), Spent: chain.Nano(number("spent")), Closed: rapid.Bool().Draw(rt, "closed"),
			Assignments: []settlement.Assignment{}, Finding: chain.RunFinding(rapid.Uint8().Draw(rt, "finding")), Payees: rapid.Uint8().Draw(rt, "payees"),
		}
		for range rapid.IntRange(0, 3).Draw(rt, "assignments") {
			o.Assignments = append(o.Assignments, settlement.Assignment{Node: key(40).Public(), Next: number("next"), Last: number("last")})
		}
		odd := false
		if rapid.Bool().Draw(rt, "first") {
			o.First = &settlement.Claim{
				Node: key(40).Public(), Provider: account(4), Sequence: number("sequence"), Result: crypto.Digest{1}, Exit: chain.ExitStatus(rapid.Uint8().Draw(rt, "exit")),
				Height: chain.Height(number("height")), Cost: chain.Nano(number("cost")), Paid: chain.Nano(number("paid")), Burned: chain.Nano(number("burned")),
				Treasury: chain.Nano(number("treasury")), ClusterFee: chain.Nano(number("fee")), ProofVerified: rapid.Bool().Draw(rt, "proof"),
				Refuted: settlement.Refutation(rapid.Uint8().Draw(rt, "refuted")), Lost: chain.Nano(number("lost")), Records: []chain.ResourceTransaction{},
			}
			if odd = rapid.Bool().Draw(rt, "odd"); odd {
				o.First.Pending = &settlement.Replica{Prices: []chain.UnitPrice{}, Usage: []chain.Usage{}}
			}
		}
		written := settlement.WriteOrder(&o)
		if want := codec.Marshal(o); !bytes.Equal(written, want) {
			rt.Fatalf("wrote %x by hand, it is %x", written, want)
		}
		got, whole := settlement.ReadOrder(written)
		if whole != (policy == none && !odd) {
			rt.Fatalf("read by hand: %v", whole)
		}
		if whole && !reflect.DeepEqual(got, o) {
			rt.Fatalf("read %+v by hand, it is %+v", got, o)
		}
		if again, err := settlement.DecodeOrder(written); err != nil || !reflect.DeepEqual(again, o) {
			rt.Fatalf("the codec reads %+v: %v", again, err)
		}
		cut := bytes.Clone(written[:rapid.IntRange(0, len(written)-1).Draw(rt, "cut")])
		if _, ok := settlement.ReadOrder(cut); ok {
			rt.Fatalf("%x reads as an order", cut)
		}
	})
}
