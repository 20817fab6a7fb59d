package chain_test

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
)

// TestPriorityFixtures: an order with a priority fee, frozen.
func TestPriorityFixtures(t *testing.T) {
	order := sampleOrder(chain.PolicyNone{})
	order.PriorityBps = 2_500
	roundTrip(t, "order_priority", order)
	if order.ID() == sampleOrder(chain.PolicyNone{}).ID() {
		t.Error("the order's id does not cover its fee")
	}
}

// TestPriorityFeeIsBounded demands that an order beyond the bound is refused by the field's name, in a claim and alone.
func TestPriorityFeeIsBounded(t *testing.T) {
	for _, fee := range []chain.PriorityFee{0, 1, chain.MaxPriorityFee} {
		c := sampleClaim(chain.PolicyNone{})
		c.Order.PriorityBps = fee
		if err := c.Check(); err != nil {
			t.Errorf("%d: %v", fee, err)
		}
	}
	for _, fee := range []chain.PriorityFee{chain.MaxPriorityFee + 1, math.MaxUint16} {
		c := sampleClaim(chain.PolicyNone{})
		c.Order.PriorityBps = fee
		if err := c.Check(); !errors.Is(err, chain.ErrLimit) || !strings.Contains(err.Error(), "priority_bps") {
			t.Errorf("%d: %v", fee, err)
		}
	}
}

// TestPriorityFeeArithmetic holds what is charged, what of a charge is the fee, and which prices caps leave, against integers without bounds.
func TestPriorityFeeArithmetic(t *testing.T) {
	const whole = 10_000
	rapid.Check(t, func(t *rapid.T) {
		fee := chain.PriorityFee(rapid.Uint16Range(0, uint16(chain.MaxPriorityFee)).Draw(t, "fee"))
		cost := anyNumber(t, "cost")
		with := new(big.Int).Mul(new(big.Int).SetUint64(cost), big.NewInt(int64(fee)))
		with.Div(with, big.NewInt(whole)).Add(with, new(big.Int).SetUint64(cost))
		charge, ok := fee.Charge(chain.Nano(cost))
		if ok != with.IsUint64() || ok && charge.Nano() != with.Uint64() {
			t.Fatalf("%d with %d bps is charged %s, %v; want %s", cost, fee, charge, ok, with)
		}
		if rest, _ := charge.Sub(fee.Of(charge)); ok && rest.Nano() != cost {
			t.Fatalf("of %s %s is the fee of %d bps, and the work cost %d", charge, fee.Of(charge), fee, cost)
		}
		limit := anyNumber(t, "cap")
		under := func(price uint64) bool { // price · (1 + fee) ≤ cap
			both := new(big.Int).Mul(new(big.Int).SetUint64(price), big.NewInt(whole+int64(fee)))
			return both.Cmp(new(big.Int).Mul(new(big.Int).SetUint64(limit), big.NewInt(whole))) <= 0
		}
		if most := fee.Below(limit); !under(most) || most < math.MaxUint64 && under(most+1) {
			t.Fatalf("a cap of %d leaves %d beside %d bps", limit, most, fee)
		}
		if limit = fee.Above(cost); limit < math.MaxUint64 && (!under(cost) || fee.Below(limit) < cost) {
			t.Fatalf("a price of %d wants a cap of %d with %d bps, below which is %d", cost, limit, fee, fee.Below(limit))
		} else if limit--; cost > 0 && under(cost) && limit+1 < math.MaxUint64 {
			t.Fatalf("a price of %d is under a cap of %d already with %d bps", cost, limit, fee)
		}
	})
}

// TestPriorityRate: a lease's rate has the fee in it, floored once, and what does not fit is refused.
func TestPriorityRate(t *testing.T) {
	order := sampleDeal().Order
	order.Term.Resources = []chain.Quantity{{Resource: chain.CPU, Amount: 3}}
	for _, test := range []struct {
		price uint64
		fee   chain.PriorityFee
		want  uint64
	}{{7, 0, 21}, {7, 2_500, 26}, {7, 10_000, 42}, {math.MaxUint64 / 3, 0, math.MaxUint64}, {math.MaxUint64 / 3, 1, 0}} {
		order.PriorityBps = test.fee
		got, err := order.Rate([]chain.UnitPrice{{Resource: chain.CPU, Price: test.price}})
		if got != test.want || (err != nil) != (test.want == 0) {
			t.Errorf("%d with %d bps: %d, %v; want %d", test.price, test.fee, got, err, test.want)
		}
	}
}

// TestPriorityOfAnUnverifiedEvent: what a node says that its chain told is read before it is verified, and ends no program.
func TestPriorityOfAnUnverifiedEvent(t *testing.T) {
	most := chain.Nano(math.MaxUint64)
	claim := chain.ClaimSettled{PriorityBurned: most, PriorityFee: chain.Nano(1)}
	lease := chain.LeasePaid{PriorityBurned: chain.Nano(1), PriorityFee: most}
	if claim.Priority() != most || lease.Priority() != most {
		t.Errorf("the fees are %s and %s", claim.Priority(), lease.Priority())
	}
}

// TestNoPriorityHasOneEncoding: an order without a fee says 0, in its shortest form and in its place. Orders from before there were fees, and
// what else a program might take for none, are refused, alone and in a transaction, which has a reader of its own.
func TestNoPriorityHasOneEncoding(t *testing.T) {
	c := sampleClaim(chain.PolicyNone{})
	order, tx := codec.Marshal(c.Order), signedTx(t, []chain.Msg{chain.Settle{Claims: chain.Claims{c}}}).Encode()
	if bytes.Count(tx, order) != 1 || order[0] != 0x8e || order[len(order)-1] != 0 {
		t.Fatalf("the order is encoded as %x", order)
	}
	without := order[1 : len(order)-1]
	for name, other := range map[string][]byte{
		"before there were fees": append([]byte{0x8d}, without...),
		"left out":               append([]byte{0x8e}, without...),
		"one more":               slices.Concat([]byte{0x8f}, without, []byte{0, 0}),
		"null":                   slices.Concat([]byte{0x8e}, without, []byte{0xf6}),
		"false":                  slices.Concat([]byte{0x8e}, without, []byte{0xf4}),
		"in two bytes":           slices.Concat([]byte{0x8e}, without, []byte{0x18, 0}),
		"65,536":                 slices.Concat([]byte{0x8e}, without, []byte{0x1a, 0, 1, 0, 0}),
	} {
		var o chain.Order
		if err := codec.Unmarshal(other, &o, len(other)); err == nil {
			t.Errorf("%s: an order with a fee of %d bps", name, o.PriorityBps)
		}
		if decoded, err := chain.DecodeTx(bytes.Replace(tx, order, other, 1)); err == nil {
			t.Errorf("%s: transaction %s", name, decoded.ID().Short())
		}
	}
}
