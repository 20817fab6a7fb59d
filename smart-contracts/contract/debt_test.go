package contract_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// paidNs is how long nodes have for code, by what its upload pays for them to compile it, in nanoseconds.
func paidNs(t interface{ Fatal(...any) }, code []byte) uint64 {
	module, err := meter.Prepare(code, meter.Capabilities(), meter.WeightsV1())
	if err != nil {
		t.Fatal(err)
	}
	p := contract.PricesV1()
	gas := p.Code + uint64(len(code))*p.CodeByte + module.Spans()*p.CodeSpan + (module.Native()+1023)/1024*p.LoadKiB
	return gas * 600
}

// waiting is code that was stored, and what a node that takes all the time it has has left of it.
type waiting struct{ owed uint64 } // nanoseconds

// TestCodeRunsOnceItIsCompiled: a node that compiles one code after the other, in the order in which they were stored, and
// takes for each all the time that its upload has paid for, has compiled what runs, whenever it is
// called; and what it has compiled for a millisecond, and that is ten blocks old, runs. What is
// refused leaves nobody waiting.
func TestCodeRunsOnceItIsCompiled(t *testing.T) {
	const ms = 1_000_000
	codes := [][]byte{must(os.ReadFile("../vm/testdata/worst.wasm"))}
	for i := range 5 {
		codes = append(codes, moduleCode(fmt.Sprint("code ", i)))
	}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		var node []*waiting
		known := map[int]*waiting{}
		var all []*waiting
		if rapid.Bool().Draw(t, "nearly full") {
			owed := contract.MaxDebtMs + 1_000 - rapid.OneOf(rapid.Uint64Range(0, 200), rapid.Uint64Range(0, 2_000)).Draw(t, "room")
			state.Save(w.state, contract.DebtKey(), contract.Debt{Until: owed})
			node = append(node, &waiting{owed: owed * ms})
		}
		pass := func(time uint64) {
			w.env.ProgressMs += time
			for left := time * ms; left > 0 && len(node) > 0; {
				does := min(left, node[0].owed)
				left -= does
				if node[0].owed -= does; node[0].owed == 0 {
					node = node[1:]
				}
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "passes") {
				w.env.Height += chain.Height(rapid.Uint64Range(0, 12).Draw(t, "blocks"))
				nearly := w.debt().Until - min(w.debt().Until, w.env.ProgressMs)
				nearly -= min(nearly, rapid.Uint64Range(0, 10).Draw(t, "but for"))
				pass(rapid.OneOf(rapid.Uint64Range(0, 150), rapid.Uint64Range(0, 5_000), rapid.Just(nearly), rapid.Just(uint64(contract.MaxDebtMs))).Draw(t, "ms"))
			} else {
				at := rapid.IntRange(0, len(codes)-1).Draw(t, "code")
				owed := uint64(0)
				for _, c := range node {
					owed += c.owed
				}
				did := w.upload(person("alice"), codes[at])
				mine, is := known[at]
				if did.Why != nil {
					if is || owed+uint64(len(node)+2)*ms <= contract.MaxDebtMs*ms {
						t.Fatalf("refused with %d ns owed: %s", owed, did.Why.Reason())
					}
					continue
				}
				if !is {
					mine = &waiting{owed: paidNs(t, codes[at])}
					node, known[at] = append(node, mine), mine
					if owed > contract.MaxDebtMs*ms {
						t.Fatalf("taken with %d ns owed", owed)
					}
				}
				if all = append(all, mine); contract.NumbersOf(w.state).Codes != uint64(len(all)) {
					t.Fatalf("%+v of %d", contract.NumbersOf(w.state), len(all))
				}
			}
			w.holdToNode(t, all, len(node))
		}
	})
}

// holdToNode calls all code, and holds whether it runs to what a node has compiled.
func (w *world) holdToNode(t *rapid.T, all []*waiting, behind int) {
	for i, c := range all {
		stored, _ := contract.CodeOf(w.state, uint64(i+1))
		layer := state.NewOverlay(w.state)
		env := w.env
		env.Tx = &contract.Tx{}
		did := contract.Do(layer, &env, person("bob"), chain.InstantiateContract{Code: uint64(i + 1), Label: "l", Msg: []byte(`{}`), MaxDeposit: chain.Hyper(1)}, testGas)
		switch old := w.env.Height >= stored.Callable; {
		case did.Why == nil && (!old || c.owed > 0):
			t.Fatalf("code %d runs at height %d of %d, with %d ns to go", i+1, w.env.Height, stored.Callable, c.owed)
		case did.Why != nil && old && c.owed == 0 && stored.WaitMs(w.env.ProgressMs) > uint64(len(all)): // each is rounded up
			t.Fatalf("code %d is compiled, %d are not, and is refused: %s", i+1, behind, did.Why.Reason())
		}
	}
}

// TestNothingIsBurnedForWhatIsRefused: while nodes have as much to compile as there may be, nobody begins to bring code, and
// nothing is burned; who has begun keeps his parts, and sends only the last again. The same code again is nobody's
// to wait for.
func TestNothingIsBurnedForWhatIsRefused(t *testing.T) {
	w, alice := newWorld(), person("alice")
	code := wasm.AppendSection(moduleCode("long"), wasm.SectionCustom, append([]byte{1, 'n'}, make([]byte, chain.MaxCodePart)...))
	first := chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code[:chain.MaxCodePart]}
	last := first
	last.Offset, last.Part = chain.MaxCodePart, code[chain.MaxCodePart:]
	owing := func(ms uint64) {
		state.Save(w.state, contract.DebtKey(), contract.Debt{Until: w.env.ProgressMs + ms})
	}
	send := func(m chain.StoreCode, refused bool) {
		t.Helper()
		before := tokens.AccountOf(w.state, alice).Balance
		did := w.do(alice, m, testGas)
		after := tokens.AccountOf(w.state, alice).Balance
		if (did.Why != nil) != refused || (before == after) != refused {
			t.Fatalf("refused: %v, want %t; of %s there are %s", did.Why, refused, before, after)
		}
		if !refused {
			return
		}
		if ms, ok := contract.StoreInMs("message 1: " + did.Why.Reason()); !ok || ms != 1 || did.Gas > 20_000 {
			t.Fatalf("%d gas, again in %d ms: %s", did.Gas, ms, did.Why.Reason())
		}
	}
	owing(contract.MaxDebtMs + 1)
	send(first, true)
	owing(contract.MaxDebtMs)
	send(first, false)
	owing(contract.MaxDebtMs + 1)
	send(last, true)
	send(last, true)
	owing(contract.MaxDebtMs)
	send(last, false)
	if got := contract.NumbersOf(w.state).Codes; got != 1 {
		t.Fatalf("%d codes", got)
	}
	send(first, false)
	send(last, false)
	for _, other := range []string{"", "hypermesh 9: ", "hypermesh 2: code 1 runs from height 11 on", "hypermesh 9: nodes have 1 ms of code to compile, limit 1: store it in -1 ms"} {
		if ms, ok := contract.StoreInMs(other); ok {
			t.Errorf("%q: in %d ms", other, ms)
		}
	}
}
