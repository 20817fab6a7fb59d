package execution_test

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
)

func TestBaseFeeFollowsDemandOverTime(t *testing.T) {
	params := chain.DefaultParams() // 30,000,000 gas a second
	for _, c := range []struct {
		base, gas, sinceMs, want uint64
	}{
		{1_000, 30_000_000, 1_000, 1_000}, // at the target it rests
		{1_000, 0, 1_000, 900},            // an idle second: −1/10
		{1_000, 0, 2_000, 875},            // two: the clamp at −1/8
		{1_000, 0, 1 << 40, 875},          // a long rest counts as two seconds
		{1_000, 60_000_000, 1_000, 1_100},
		{1_000, 60_000_000, 100, 1_125}, // the clamp at +1/8
		{1_000, 3_000_001, 100, 1_001},  // a rise is rounded up
		{1_000, 2_999_999, 100, 999},    // a fall is at least one
		{1, 3_000_001, 100, 2},          // and so is a rise
		{1, 0, 2_000, 1},                // never below the floor
		{math.MaxUint64, 60_000_000, 1, math.MaxUint64},
	} {
		got := execution.NextBaseFee(chain.PricePerGas(c.base), chain.GasUnits(c.gas), c.sinceMs, &params)
		if got.Nano() != c.want {
			t.Errorf("base %d, gas %d in %d ms: %d, want %d", c.base, c.gas, c.sinceMs, got.Nano(), c.want)
		}
	}
}

// TestBaseFeeAgreesWithRationals compares with ledger.md's formula on numbers
// without bounds.
func TestBaseFeeAgreesWithRationals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		params := chain.DefaultParams()
		params.BlockGas = chain.GasUnits(rapid.Uint64Range(1, 1e12).Draw(t, "block gas"))
		params.TargetGasPerSec = chain.GasUnits(rapid.Uint64Range(1, 1e12).Draw(t, "target"))
		params.BaseFeeFloor = chain.PricePerGas(rapid.Uint64Range(1, 1e6).Draw(t, "floor"))
		base := rapid.OneOf(rapid.Uint64Range(1, 1e6), rapid.Uint64()).Draw(t, "base")
		gas := rapid.Uint64Range(0, params.BlockGas.Units()).Draw(t, "gas")
		since := rapid.Uint64Range(1, 3_000).Draw(t, "ms")

		n := func(v uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(v)) }
		target := n(params.TargetGasPerSec.Units())
		dt := new(big.Rat).Quo(n(min(since, 2_000)), n(1_000))
		share := new(big.Rat).Sub(n(gas), new(big.Rat).Mul(target, dt))
		share.Quo(share, new(big.Rat).Mul(target, n(10)))
		eighth := big.NewRat(1, 8)
		if new(big.Rat).Abs(share).Cmp(eighth) > 0 {
			share.Set(eighth).Mul(share, n(1))
			if gas*1_000 < params.TargetGasPerSec.Units()*min(since, 2_000) {
				share.Neg(share)
			}
		}
		exact := new(big.Rat).Mul(n(base), share) // the step
		got := execution.NextBaseFee(chain.PricePerGas(base), chain.GasUnits(gas), since, &params).Nano()
		floor := params.BaseFeeFloor.Nano()
		diff := new(big.Int).Sub(new(big.Int).SetUint64(got), new(big.Int).SetUint64(base))
		switch {
		case got < floor:
			t.Fatalf("fee %d below the floor %d", got, floor)
		case got == floor || got == math.MaxUint64:
		case share.Sign() == 0 && diff.Sign() != 0:
			t.Fatalf("at the target: %d became %d", base, got)
		case share.Sign() != 0 && diff.Sign() != share.Sign():
			t.Fatalf("%d became %d, the share is %v", base, got, share)
		default:
			// Within one of the exact step, never below it.
			gap := new(big.Rat).Sub(new(big.Rat).SetInt(diff), exact)
			if diff.CmpAbs(big.NewInt(1)) != 0 && (gap.Sign() < 0 || gap.Cmp(n(1)) >= 0) {
				t.Fatalf("%d became %d, the exact step is %v", base, got, exact)
			}
		}
	})
}

func TestBaseFeeIsKeptInState(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.block(10, w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)}))
	}
	fee, err := execution.BaseFee(w.state)
	if err != nil || fee.Nano() != 1 {
		t.Errorf("base fee %d after quiet blocks, %v", fee.Nano(), err)
	}
	w.block(1, w.busy()...)
	if fee, err = execution.BaseFee(w.state); err != nil || fee.Nano() != 2 {
		t.Errorf("base fee %d after a busy block, %v", fee.Nano(), err)
	}
	r := w.block(1, w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)})).Receipts.Txs[0]
	if r.Burned != chain.Nano(2*r.GasUsed.Units()) {
		t.Errorf("burned %v for %d gas at 2", r.Burned, r.GasUsed.Units())
	}
	head, err := execution.HeadOf(w.state)
	if err != nil || head.Height != w.height || head.TimeMs != w.now {
		t.Errorf("head %+v, %v", head, err)
	}
}

// busy is a block's worth of transfers that use more than a millisecond's
// target.
func (w *world) busy() []*chain.VerifiedTx {
	var txs []*chain.VerifiedTx
	for range 10 {
		txs = append(txs, w.tx(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)}))
	}
	return txs
}

func TestTipIsCutToTheMaxFee(t *testing.T) {
	w := newWorld(t)
	body := w.body(alice, chain.Transfer{To: bob.address(), Amount: chain.Nano(1)})
	body.MaxFee, body.Tip = chain.PricePerGas(5), chain.PricePerGas(5)
	r := w.block(1, w.sign(body, alice)).Receipts.Txs[0]
	if gas := r.GasUsed.Units(); r.Burned != chain.Nano(gas) || r.Tip != chain.Nano(4*gas) {
		t.Errorf("burned %v, tip %v for %d gas at 5 in all", r.Burned, r.Tip, gas)
	}
}
