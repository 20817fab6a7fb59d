package contract_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// loadedAt sets how much was loaded in all, and when some code was.
func (w *world) loadedAt(code []byte, at, now, native uint64) {
	state.Save(w.state, contract.LoadsKey(), contract.Loads{Bytes: now})
	_, loaded := w.loaded(code)
	loaded.At, loaded.Native = at, native
	state.Save(w.state, contract.LoadedKey(crypto.Digest(sha256.Sum256(code))), loaded)
}

func (w *world) loaded(code []byte) (contract.Loads, contract.Loaded) {
	loads, _ := state.Load[contract.Loads](w.state, contract.LoadsKey())
	loaded, _ := state.Load[contract.Loaded](w.state, contract.LoadedKey(crypto.Digest(sha256.Sum256(code))))
	return loads, loaded
}

// TestColdCodeIsPaidFor: who calls code that was not loaded lately pays for its size, by whatever
// way it is called; what was stored or loaded lately is not paid for, and what a transaction that
// failed has loaded is not noted.
func TestColdCodeIsPaidFor(t *testing.T) {
	const native, kib, full = 10<<20 + 1, 10<<10 + 1, contract.KeptBytes - (10<<20 + 1)
	p := prices()
	w := newWorld()
	code := moduleCode("x")
	w.store(person("alice"), code)
	if loads, loaded := w.loaded(code); loaded.Native < uint64(8*len(code)) || loaded.At != loaded.Native || loads.Bytes != loaded.At {
		t.Fatalf("what was stored counts as %+v of %+v", loaded, loads)
	}
	for range 2 {
		if did := w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
	}
	execute := func(msg string) uint64 {
		t.Helper()
		did := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[0], Msg: []byte(msg)}, blockGas)
		if did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		return did.Gas
	}
	smart := fmt.Sprintf(`{"do":[{"query":{"wasm":{"smart":{"contract_addr":"%s","msg":"e30="}}}}]}`, w.made[1])
	message := telling(w.made[1], 2, `{}`, "always")
	for name, msg := range map[string]string{"a call": `{}`, "with a query": smart, "with messages and replies": message} {
		warm := execute(msg)
		for _, c := range []struct{ since, gas uint64 }{{0, 0}, {full, 0}, {full + 1, 2*p.Write + kib*p.LoadKiB}} {
			w.loadedAt(code, 1<<40, 1<<40+c.since, native)
			if got := execute(msg) - warm; got != c.gas {
				t.Errorf("%s, %d bytes after the last: %d gas more, want %d", name, c.since, got, c.gas)
			}
			loads, loaded := w.loaded(code)
			if want := uint64(1<<40) + c.since; c.gas == 0 && loads.Bytes != want || c.gas > 0 && (loads.Bytes != want+native || loaded.At != loads.Bytes || loaded.Native != native) {
				t.Errorf("%s, %d bytes after the last: %+v of %+v", name, c.since, loaded, loads)
			}
		}
	}
	w.loadedAt(code, 1<<40, 1<<40+full+1, native)
	short := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[0], Msg: []byte(`{}`)}, kib*p.LoadKiB)
	if !short.Spent {
		t.Errorf("with too little gas: %+v", short)
	}
	failed := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[0], Msg: []byte(`{"error":"no"}`)}, blockGas)
	if loads, loaded := w.loaded(code); failed.Why == nil || failed.Gas < kib*p.LoadKiB || loaded.At != 1<<40 || loads.Bytes != 1<<40+full+1 {
		t.Errorf("what failed: %+v, noted %+v of %+v", failed, loaded, loads)
	}
	w.env.Tx = nil
	if _, used, why := contract.Ask(w.state, &w.env, w.made[0], []byte(`{}`), testGas); why != nil || used > p.LoadKiB*kib/10 {
		t.Errorf("who asks from outside: %d gas, %v", used, why)
	}
}

// TestStoringPaysForCompilingAndALoad: what is stored is compiled, which takes long if ways of its functions go
// past much, and moves on what was loaded: it pays for both. The same again does neither.
func TestStoringPaysForCompilingAndALoad(t *testing.T) {
	p, w := prices(), newWorld()
	code, err := os.ReadFile("../vm/testdata/worst.wasm")
	if err != nil {
		t.Fatal(err)
	}
	module, err := meter.Prepare(code, meter.Capabilities(), meter.WeightsV1())
	if err != nil {
		t.Fatal(err)
	}
	gas := func() uint64 {
		t.Helper()
		did := w.store(person("alice"), code)
		if did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		return did.Gas
	}
	first := gas()
	loads, loaded := w.loaded(code)
	if more, want := first-gas(), p.CodeSpan*module.Spans()+p.LoadKiB*((module.Native()+1023)/1024)+p.Write; more != want || module.Spans() == 0 {
		t.Errorf("storing %d bytes of native code with %d spans costs %d gas more than storing nothing new, want %d", module.Native(), module.Spans(), more, want)
	}
	if again, _ := w.loaded(code); again != loads || loads.Bytes != module.Native() || loaded.Native != module.Native() {
		t.Errorf("%+v were loaded, and %+v after the same again", loads, again)
	}
}

// called are codes with a contract each, that were all loaded long ago.
type called struct {
	*world
	codes  [][]byte
	native []uint64
	warm   uint64 // what a call costs that loads nothing
}

const manyCodes = 60

// withCodes makes manyCodes contracts, each of a code of its own.
func withCodes(t *testing.T) *called {
	t.Helper()
	c := &called{world: newWorld(), native: make([]uint64, manyCodes)}
	for i := range manyCodes {
		c.codes = append(c.codes, moduleCode(fmt.Sprint("code ", i)))
		c.store(person("alice"), c.codes[i])
		if did := c.do(person("alice"), chain.InstantiateContract{Code: uint64(i) + 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
	}
	c.warm = c.do(person("alice"), chain.ExecuteContract{Contract: c.made[0], Msg: []byte(`{}`)}, testGas).Gas
	return c
}

// anew is a copy in which the codes have become so much native code.
func (c *called) anew(native func(i int) uint64) *called {
	out := &called{world: &world{state: state.NewOverlay(c.state), vm: c.vm, env: c.env, made: c.made}, codes: c.codes, warm: c.warm}
	for i := range c.codes {
		out.native = append(out.native, native(i))
		out.loadedAt(c.codes[i], out.native[i], 1<<40, out.native[i])
	}
	return out
}

// call calls the contract of a code, in a transaction that fails or does not, and returns what loading the code
// has cost.
func (c *called) call(t interface{ Fatalf(string, ...any) }, i int, fails bool) uint64 {
	msg := `{}`
	if fails {
		msg = `{"error":"no"}`
	}
	did := c.do(person("alice"), chain.ExecuteContract{Contract: c.made[i], Msg: []byte(msg)}, blockGas)
	if (did.Why != nil) != fails {
		t.Fatalf("a call of code %d: %+v", i, did.Why)
	}
	if did.Gas < c.warm+2*prices().Write {
		return 0
	}
	return prices().LoadKiB * ((c.native[i] + 1023) / 1024)
}

// kept is what a node keeps: of what ran last, so many bytes.
type kept struct {
	order []int // the last last
	reads uint64
	read  uint64 // by what ran last
}

func (k *kept) has(i int) bool { return slices.Contains(k.order, i) }

// runs has a code run, and reports whether it was kept.
func (k *kept) runs(i int, native []uint64) bool {
	at := slices.Index(k.order, i)
	if k.read = 0; at >= 0 {
		k.order = slices.Delete(k.order, at, at+1)
	} else {
		k.read = native[i]
	}
	k.reads += k.read
	k.order = append(k.order, i)
	sum := uint64(0)
	for j := len(k.order) - 1; j >= 0; j-- {
		if sum += native[k.order[j]]; sum > contract.CacheBytes {
			k.order = slices.Delete(k.order, 0, j+1)
			break
		}
	}
	return at >= 0
}

// TestWhatIsFreeIsKept: in any history of calls that succeed, a call that does not pay for its code's size is
// of code that a node has in memory that keeps what contract says. With calls that fail among them, which pay
// and leave no note, it reads at most twice what was paid for.
func TestWhatIsFreeIsKept(t *testing.T) {
	const largest = 20 << 20
	base := withCodes(t)
	paid, free, missed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := base.anew(func(int) uint64 { return rapid.Uint64Range(largest/2, largest).Draw(t, "native") })
		some := rapid.SampledFrom([]int{3, 14, 24, 40, manyCodes}).Draw(t, "some") // less than is kept, about as much, more
		failing := rapid.SampledFrom([]int{0, 0, 4, 20}).Draw(t, "failing")        // codes whose calls fail
		node, i, paidFor := kept{}, 0, uint64(0)
		for range 3 * manyCodes {
			if i = (i + 1) % some; rapid.IntRange(0, 3).Draw(t, "jump") == 0 {
				i = rapid.IntRange(0, some-1).Draw(t, "code")
			}
			cost := c.call(t, i, i < failing)
			had := node.runs(i, c.native)
			switch {
			case cost > 0:
				paid++
				paidFor += c.native[i]
			case had:
				free++
			default:
				missed++
				if failing == 0 {
					t.Fatalf("a call of code %d is free, which is not kept: %v", i, node.order)
				}
			}
			if node.reads > 2*paidFor+contract.KeptBytes {
				t.Fatalf("%d bytes are read, %d paid for", node.reads, paidFor)
			}
		}
	})
	if paid == 0 || free == 0 {
		t.Errorf("%d paid, %d did not", paid, free)
	}
	t.Logf("%d paid, %d did not, %d of those were not there", paid, free+missed, missed)
}

// TestMakingOthersCold: who has others' code count as gone pays as much for it as they then do, if they use half of
// what is kept; three large codes that are called in turn cost nobody anything.
func TestMakingOthersCold(t *testing.T) {
	const mib = 1 << 20
	base := withCodes(t)
	for _, a := range []struct {
		name           string
		mine, each     int    // codes of who attacks, and how many MiB each is
		others, theirs int    // codes of others, and how many MiB each is
		times          int    // calls of his for one of each of theirs
		percent        uint64 // what they pay of what he does, at most
	}{
		{"three codes in turn", 3, 17, 20, 4, 100, 0},
		{"as many as are kept beside others'", 10, 17, 20, 4, 100, 0},
		{"one more than are kept", 16, 17, 4, 4, 16, 10},
		{"others that use a quarter", 14, 17, 16, 4, 14, 34},
		{"others that use half", 9, 17, 32, 4, 9, 100},
		{"others that use half, called seldom", 9, 17, 32, 4, 90, 100},
		{"small codes", 40, 5, 16, 5, 40, 50},
	} {
		c := base.anew(func(i int) uint64 {
			if i < a.mine {
				return uint64(a.each) * mib
			}
			return uint64(a.theirs) * mib
		})
		his, others, first := uint64(0), uint64(0), uint64(0)
		for round := range 60 {
			for i := range a.times {
				his += c.call(t, (round*a.times+i)%a.mine, false)
			}
			for i := range a.others {
				cost := c.call(t, a.mine+i, false)
				if round == 0 {
					first += cost
				} else {
					others += cost
				}
			}
		}
		if others*100 > his*a.percent {
			t.Errorf("%s: he pays %d gas for loads, and others %d", a.name, his, others)
		}
		t.Logf("%s: he pays %d M gas for loads, others %d M after their first, which cost %d M", a.name, his/1e6, others/1e6, first/1e6)
	}
}

// TestByLoad: code in the order in which it was loaded last.
func TestByLoad(t *testing.T) {
	w := newWorld()
	for i := range 4 {
		w.store(person("alice"), moduleCode(fmt.Sprint(i)))
	}
	if got := contract.ByLoad(w.state); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("as it was stored: %v", got)
	}
	w.loadedAt(moduleCode("1"), 1<<40, 1<<40, 1)
	w.loadedAt(moduleCode("0"), 1<<41, 1<<41, 1)
	if got := contract.ByLoad(w.state); !slices.Equal(got, []uint64{3, 4, 2, 1}) {
		t.Errorf("as it was loaded: %v", got)
	}
	for id, want := range map[uint64]bool{1: true, 2: false, 3: false} {
		if code, _ := contract.CodeOf(w.state, id); code.InMemory(w.state).Kept != want {
			t.Errorf("code %d counts as kept: %v", id, !want)
		}
	}
}

// TestColdCodeOfOne: of two codes alike but for their size the larger costs more to call, by the
// pages of prices and nothing else.
func TestColdCodeOfOne(t *testing.T) {
	w := newWorld()
	small, large := moduleCode("x"), append(moduleCode("x"), customSection(60<<10)...)
	var gas []uint64
	for i, code := range [][]byte{small, large} {
		w.store(person("alice"), code)
		if did := w.do(person("alice"), chain.InstantiateContract{Code: uint64(i) + 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		_, loaded := w.loaded(code)
		w.loadedAt(code, loaded.Native, 1<<40, loaded.Native)
		did := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[i], Msg: []byte(`{}`)}, testGas)
		if did.Why != nil {
			t.Fatal(strings.TrimSpace(did.Why.Reason()))
		}
		gas = append(gas, did.Gas)
	}
	if more := gas[1] - gas[0]; more/prices().LoadKiB != 7*60 {
		t.Errorf("60 KiB of code more cost %d gas more", more)
	}
}
