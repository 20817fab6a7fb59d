package execution_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// cool has it be long ago that the code of number 1 was loaded.
func (w *world) cool() {
	w.Helper()
	loads, _ := state.Load[contract.Loads](w.state, contract.LoadsKey())
	loads.Bytes += 1 << 30
	state.Save(w.state, contract.LoadsKey(), loads)
}

// TestPinsInBlocks: code is pinned by the block's time, and to the end of a day that a block may jump over, and calls go by
// that when every node has it in memory, ten blocks later; who pins it pays what it costs and a fee, and for a pin that is refused the fee alone.
func TestPinsInBlocks(t *testing.T) {
	const hour = 3_600_000
	var told []string
	var at chain.Address
	w, at := withContract(t, func(_ meter.Entry, msg string, ask func(string) string) string {
		if msg == "ask" {
			told = append(told, ask(`{"wasm":{"contract_info":{"contract_addr":"`+at.String()+`"}}}`))
		}
		return nothing
	})
	pinner, caller := keyOf(27), keyOf(28)
	pin := func(periods uint64, most chain.Amount) *chain.VerifiedTx {
		return w.tx(pinner, chain.PinCode{Code: 1, Periods: periods, MaxBurn: most})
	}
	call := func() *chain.VerifiedTx {
		return w.tx(caller, chain.ExecuteContract{Contract: at, Msg: []byte("ask")})
	}
	w.block(hour - uint64(w.now)%hour) // on the hour
	for w.now%contract.PinPeriodMs != 0 {
		w.block(hour)
	}
	w.cool()
	has, burned := w.has(pinner.address()), tokens.SupplyOf(w.state).Burned
	out := w.block(1_000, call(), pin(2, chain.Hyper(1)), pin(1, chain.Nano(1)), call()).Receipts.Txs
	if !out[0].Accepted() || !out[1].Accepted() || !strings.Contains(out[2].Rejection, "hypermesh 8: to pin code 1 for 1 periods costs") || !out[3].Accepted() {
		t.Fatal(out)
	}
	event := w.paidForPin(out[1], has, burned, 2, out[2])
	w.cool()
	warm, cold := out[3].GasUsed.Units(), out[0].GasUsed.Units()
	load := execution.ContractPricesV1().LoadKiB * ((uint64(event.Native) + 1023) / 1024)
	if cold < warm+load {
		t.Errorf("a call took %d gas before, and %d after the code was pinned; a load costs %d", cold, warm, load)
	}
	for blocks := 1; blocks <= contract.PinnedAfter; blocks++ {
		w.cool()
		if r := w.block(1, call()).Receipts.Txs[0]; (r.GasUsed.Units() == warm) != (blocks == contract.PinnedAfter) {
			t.Errorf("%d blocks after it was pinned a call takes %d gas", blocks, r.GasUsed.Units())
		}
	}
	for _, c := range []struct {
		after uint64
		gas   uint64
		why   string
	}{
		{24 * hour, warm, "on the second day"}, {24*hour - 1_011, warm, "in its last millisecond"}, {1, cold, "when it is over"}, {1, warm, "and loaded"},
	} {
		if c.after == 1 && c.gas == cold {
			w.cool()
		}
		if r := w.block(c.after, call()).Receipts.Txs[0]; !r.Accepted() || r.GasUsed.Units() != c.gas {
			t.Errorf("%s: %d gas, want %d; %q", c.why, r.GasUsed.Units(), c.gas, r.Rejection)
		}
	}
	if r := w.block(1, pin(1, chain.Hyper(1))).Receipts.Txs[0]; !r.Accepted() {
		t.Fatal(r.Rejection)
	}
	w.cool()
	if r := w.block(40*24*hour, call()).Receipts.Txs[0]; r.GasUsed.Units() != cold {
		t.Errorf("forty days after it was pinned for one, it takes %d gas, want %d", r.GasUsed.Units(), cold)
	}
	for i, pinned := range slices.Concat(make([]bool, contract.PinnedAfter+1), []bool{true, true, true, false, false, false}) {
		if !strings.Contains(told[i], `"pinned":`+map[bool]string{true: "true", false: "false"}[pinned]) {
			t.Errorf("call %d was told %s", i, told[i])
		}
	}
}

// paidForPin holds what a pin says, and what who sent it paid for it and for one that was refused, who had so much before.
func (w *world) paidForPin(pin chain.Receipt, has, burned chain.Amount, periods uint64, refused chain.Receipt) chain.CodePinned {
	w.Helper()
	event := pin.Events[len(pin.Events)-1].(chain.CodePinned)
	cost := contract.PinCost(uint64(event.Native), periods)
	if event.Burned != cost || event.Until != contract.PinsBegin(contract.PinPeriod(w.now)+periods) || event.Native == 0 {
		w.Errorf("%+v, want %s burned", event, cost)
	}
	paid, _ := sum(pin.Burned, pin.Tip, refused.Burned, refused.Tip, cost)
	if left, _ := has.Sub(paid); w.has(event.Sender) != left {
		w.Errorf("who pins it had %s, paid %s and has %s", has, paid, w.has(event.Sender))
	}
	if more, _ := tokens.SupplyOf(w.state).Burned.Sub(burned); more.Less(cost) {
		w.Errorf("%s was burned, for a pin of %s", more, cost)
	}
	return event
}

func sum(list ...chain.Amount) (out chain.Amount, ok bool) {
	for _, a := range list {
		if out, ok = out.Add(a); !ok {
			return out, false
		}
	}
	return out, true
}

// TestPinsOfAStateAddUp: a state whose sums are not those of its codes is found out.
func TestPinsOfAStateAddUp(t *testing.T) {
	w, _ := withContract(t, func(meter.Entry, string, func(string) string) string { return nothing })
	w.accept(w.tx(keyOf(27), chain.PinCode{Code: 1, Periods: 2, MaxBurn: chain.Hyper(1)}))
	pins, ok := state.Load[contract.Pinned](w.state, contract.PinnedKey())
	if !ok || len(pins.Bytes) != 2 {
		t.Fatalf("%+v", pins)
	}
	pins.Bytes[1]--
	state.Save(w.state, contract.PinnedKey(), pins)
	if _, err := execution.Recompute(w.state); !errors.Is(err, execution.ErrPins) {
		t.Error(err)
	}
}
