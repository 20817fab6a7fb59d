package contract_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/tokens"
)

// pinCommand does a line of a transcript that is about pins and time.
func (w *world) pinCommand(words []string, gas uint64, number func(name string, otherwise uint64) uint64) string {
	switch words[0] {
	case "pin":
		m := chain.PinCode{Code: number("code", 1), Periods: number("periods", 1), MaxBurn: chain.Nano(number("burn", chain.Hyper(3_000).Nano()))}
		return w.outcome(w.do(person(words[1]), m, gas))
	case "later":
		w.env.Now += chain.TimeMs(number("ms", 0) + contract.PinPeriodMs*number("days", 0))
		w.env.Height += chain.Height(number("blocks", 0))
		return fmt.Sprintf("it is block %d, %s\n", w.env.Height, time.UnixMilli(int64(w.env.Now)).UTC().Format(time.DateTime))
	case "loaded":
		now, last := w.loaded(moduleCode(words[1]))
		w.loadedAt(moduleCode(words[1]), number("at", last.At), number("now", now.Bytes), number("native", last.Native))
		return ""
	}
	pins, _ := state.Load[contract.Pinned](w.state, contract.PinnedKey())
	return fmt.Sprintf("from period %d on: %d\n", pins.From, pins.Bytes)
}

// pinning is a node, and a chain on which code is called and pinned while time passes.
type pinning struct {
	*called
	node    kept
	pinned  map[int]uint64       // what the node has beside: codes, to a period
	from    map[int]chain.Height // from which on calls of them are free
	paidFor uint64
	exact   bool // no call fails
	seen    map[string]int
}

// pin pins code for some periods. The node hears of it when the transaction took effect.
func (p *pinning) pin(t *rapid.T, i int, periods uint64) {
	cold := prices().LoadKiB * ((p.native[i] + 1023) / 1024)
	did := p.do(person("alice"), chain.PinCode{Code: uint64(i) + 1, Periods: periods, MaxBurn: chain.Hyper(3_000)}, blockGas)
	if did.Why != nil {
		p.seen[strings.Fields(did.Why.Reason())[1]]++
		return
	}
	if did.Gas >= cold {
		p.paidFor += p.native[i]
		p.seen["a pin that loads"]++
	}
	if _, there := p.pinned[i]; !there {
		if p.from[i] = p.env.Height + contract.PinnedAfter; !p.node.has(i) {
			p.node.reads += p.native[i]
		}
	}
	p.pinned[i] = contract.PinPeriod(did.Events[0].(chain.CodePinned).Until)
	sum := uint64(0)
	for i := range p.pinned { // order-free: a sum
		sum += p.native[i]
	}
	if sum > contract.PinnedBytes {
		t.Fatalf("%d bytes are pinned", sum)
	}
}

// runs calls code, and has the node run it.
func (p *pinning) runs(t *rapid.T, i int, fails bool) {
	cost := p.call(t, i, fails)
	_, pinned := p.pinned[i]
	known := pinned && p.env.Height >= p.from[i]
	if p.vm.unpaid {
		if cost > 0 || !known {
			t.Fatalf("a call of code %d costs %d, is as of pinned code, and every node has it pinned: %v", i, cost, known)
		}
		p.seen["free by its pin"]++
		return
	}
	had := p.node.has(i) || pinned
	if p.node.runs(i, p.native); pinned && had {
		p.node.reads -= p.node.read // from what is pinned
	}
	switch {
	case cost > 0 && known:
		t.Fatalf("a call of code %d, which is pinned, costs %d", i, cost)
	case cost > 0 && pinned:
		p.paidFor += p.native[i]
		p.seen["paid while pins are not known"]++
	case cost > 0:
		p.paidFor += p.native[i]
		p.seen["paid"]++
	case had:
		p.seen["free"]++
	case p.exact:
		t.Fatalf("a call of code %d is free, which is not kept: %v", i, p.node.order)
	}
}

// TestPinnedIsFreeAndKept: in any history of calls and pins, while time passes, a call that does not pay for its code's size is of
// code that a node has in memory: of what ran last, on which pinned code leaves no mark, or of what is pinned, which is
// within its bound. With calls that fail among them the node reads at most twice what was paid for.
func TestPinnedIsFreeAndKept(t *testing.T) {
	const largest = 20 << 20
	base, seen := withCodes(t), map[string]int{}
	tokens.Credit(base.state, person("alice"), chain.Hyper(1_000_000))
	rapid.Check(t, func(t *rapid.T) {
		p := &pinning{called: base.anew(func(int) uint64 { return rapid.Uint64Range(largest/2, largest).Draw(t, "native") }), pinned: map[int]uint64{}, from: map[int]chain.Height{}, seen: seen}
		some := rapid.SampledFrom([]int{3, 14, 24, 40, manyCodes}).Draw(t, "some")
		failing := rapid.SampledFrom([]int{0, 0, 4, 20}).Draw(t, "failing")
		p.exact = failing == 0
		for n := range 3 * manyCodes {
			i := n % some
			if rapid.IntRange(0, 3).Draw(t, "jump") == 0 {
				i = rapid.IntRange(0, some-1).Draw(t, "code")
			}
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				p.pin(t, i, rapid.Uint64Range(1, chain.MaxPinPeriods).Draw(t, "periods"))
			case 1:
				p.env.Now += chain.TimeMs(rapid.Uint64Range(1, 12*contract.PinPeriodMs).Draw(t, "ms"))
				for i, to := range p.pinned { // order-free: each by itself
					if to <= contract.PinPeriod(p.env.Now) {
						delete(p.pinned, i)
					}
				}
			case 2:
				p.env.Height += chain.Height(rapid.Uint64Range(1, 2*contract.PinnedAfter).Draw(t, "blocks"))
			default:
				p.runs(t, i, i < failing)
			}
			if p.node.reads > 2*p.paidFor+contract.KeptBytes {
				t.Fatalf("%d bytes are read, %d paid for", p.node.reads, p.paidFor)
			}
			if err := p.pins(); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, what := range []string{"paid", "free", "free by its pin", "paid while pins are not known", "a pin that loads", "6:", "7:"} {
		if seen[what] == 0 {
			t.Errorf("never seen: %s, of %v", what, seen)
		}
	}
	t.Log(seen)
}

// TestPinsAddUp: sums that are not those of the codes are found, whichever of them is wrong.
func TestPinsAddUp(t *testing.T) {
	for name, spoil := range map[string]func(p *contract.Pinned, l *contract.Loaded){
		"nothing":                func(*contract.Pinned, *contract.Loaded) {},
		"a sum is larger":        func(p *contract.Pinned, _ *contract.Loaded) { p.Bytes[2]++ },
		"a sum is missing":       func(p *contract.Pinned, _ *contract.Loaded) { p.Bytes = p.Bytes[:2] },
		"a sum too many":         func(p *contract.Pinned, _ *contract.Loaded) { p.Bytes = append(p.Bytes, 1) },
		"the sums of other days": func(p *contract.Pinned, _ *contract.Loaded) { p.From-- },
		"more days than there are": func(p *contract.Pinned, _ *contract.Loaded) {
			p.Bytes = append(p.Bytes, make([]uint64, chain.MaxPinPeriods)...)
		},
		"code that ends earlier": func(_ *contract.Pinned, l *contract.Loaded) { l.PinnedTo-- },
		"code that is larger":    func(_ *contract.Pinned, l *contract.Loaded) { l.Native++ },
		"more than there is room for": func(p *contract.Pinned, l *contract.Loaded) {
			l.Native = contract.PinnedBytes + 1
			for i := range p.Bytes {
				p.Bytes[i] = l.Native
			}
		},
	} {
		w, code := newWorld(), moduleCode("x")
		w.store(person("alice"), code)
		if did := w.do(person("alice"), chain.PinCode{Code: 1, Periods: 3, MaxBurn: chain.Hyper(1)}, testGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		pins, _ := state.Load[contract.Pinned](w.state, contract.PinnedKey())
		_, loaded := w.loaded(code)
		spoil(&pins, &loaded)
		state.Save(w.state, contract.PinnedKey(), pins)
		state.Save(w.state, contract.LoadedKey(crypto.Digest(sha256.Sum256(code))), loaded)
		if err := w.pins(); (err != nil) != (name != "nothing") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCallsPayUntilPinsAreKnown: nodes know of a pin when its block is final, so until then calls pay their loads as before. Else who has
// most of the room pinned could have the rest of it pinned by transactions that fail, each for other code, and have a block read
// all of it again with each of them for the price of one.
func TestCallsPayUntilPinsAreKnown(t *testing.T) {
	w, code := newWorld(), moduleCode("x")
	tokens.Credit(w.state, person("alice"), chain.Hyper(1_000))
	w.store(person("alice"), code)
	if did := w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	const native = 16 << 20
	pin := chain.PinCode{Code: 1, Periods: 1, MaxBurn: chain.Hyper(3_000)}
	gas := func(m chain.Msg) uint64 {
		t.Helper()
		did := w.do(person("alice"), m, blockGas)
		if did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		return did.Gas
	}
	load := prices().LoadKiB * native >> 10
	cool := func() { w.loadedAt(code, native, 1<<40, native) }
	call := chain.ExecuteContract{Contract: w.made[0], Msg: []byte(`{}`)}
	cool()
	if gas(pin) < load {
		t.Error("a pin that loads does not pay for it")
	}
	for blocks := range chain.Height(contract.PinnedAfter + 1) {
		if cool(); (gas(call) >= load) != (blocks < contract.PinnedAfter) {
			t.Errorf("%d blocks after the pin", blocks)
		}
		if cool(); gas(pin) >= load {
			t.Errorf("%d blocks after the pin another pays for a load", blocks)
		}
		w.env.Height++
	}
	w.env.Now += chain.MaxPinPeriods * contract.PinPeriodMs
	if cool(); gas(pin) < load {
		t.Error("a pin after the last was over does not pay for a load")
	}
	if cool(); gas(call) < load {
		t.Error("a pin after the last was over counts at once")
	}
}

// TestOnePinForAllOfTheSame: code that was stored twice is pinned once, under either number.
func TestOnePinForAllOfTheSame(t *testing.T) {
	w, code := newWorld(), moduleCode("x")
	for range 2 {
		w.store(person("alice"), code)
	}
	for id := range uint64(2) {
		if did := w.do(person("bob"), chain.PinCode{Code: id + 1, Periods: 1, MaxBurn: chain.Hyper(1)}, testGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
	}
	now := contract.PinPeriod(w.env.Now)
	for id := range uint64(2) {
		code, _ := contract.CodeOf(w.state, id+1)
		if is := code.InMemory(w.state); is.PinnedTo != now+2 || !is.Kept || is.Native == 0 {
			t.Errorf("code %d: %+v", id+1, is)
		}
	}
	if err := w.pins(); err != nil {
		t.Error(err)
	}
}
