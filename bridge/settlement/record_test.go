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
			Until: chain.TimeMs(number("until")), Held: chain.Nano(number("held")), Expires: chain.TimeMs(number("expires")), Closing: rapid.Bool().Draw(rt, "closing"),
			Resources: []chain.Quantity{}, Prices: []chain.UnitPrice{},
		}
		for _, r := range chain.Resources[:rapid.IntRange(0, len(chain.Resources)).Draw(rt, "resources")] {
			l.Resources = append(l.Resources, chain.Quantity{Resource: r, Amount: number("amount")})
			l.Prices = append(l.Prices, chain.UnitPrice{Resource: r, Price: number("price")})
		}
		e := settlement.Escrow{Balance: chain.Nano(number("balance")), Withdrawals: []chain.TimeMs{}, Record: match.Record{Period: number("period"), Credit: number("credit"), Debt: number("debt")}}
		for range rapid.IntRange(0, settlement.MaxWithdrawals).Draw(rt, "withdrawals") {
			e.Withdrawals = append(e.Withdrawals, chain.TimeMs(number("at")))
		}
		if got, whole := settlement.LeaseByHand(codec.Marshal(l)); !whole || !reflect.DeepEqual(got, l) {
			rt.Fatalf("read %+v by hand, it is %+v", got, l)
		}
		if got, whole := settlement.EscrowByHand(codec.Marshal(e)); !whole || !reflect.DeepEqual(got, e) {
			rt.Fatalf("read %+v by hand, it is %+v", got, e)
		}
		for _, whole := range [][]byte{codec.Marshal(l), codec.Marshal(e)} { // what is no record is left to the general decoder
			cut := bytes.Clone(whole[:rapid.IntRange(0, len(whole)-1).Draw(rt, "cut")])
			if _, ok := settlement.LeaseByHand(cut); ok {
				rt.Fatalf("%x reads as a lease", cut)
			}
			if _, ok := settlement.EscrowByHand(cut); ok {
				rt.Fatalf("%x reads as an escrow", cut)
			}
		}
	})
}
