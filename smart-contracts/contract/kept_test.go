package contract_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// calledAt sets how much was called in all, and when some code was.
func (w *world) calledAt(code []byte, at, now, native uint64) {
	state.Save(w.state, contract.CallsKey(), contract.Calls{Bytes: now})
	state.Save(w.state, contract.CalledKey(crypto.Digest(sha256.Sum256(code))), contract.Called{At: at, Native: native})
}

func (w *world) called(code []byte) (contract.Calls, contract.Called) {
	calls, _ := state.Load[contract.Calls](w.state, contract.CallsKey())
	called, _ := state.Load[contract.Called](w.state, contract.CalledKey(crypto.Digest(sha256.Sum256(code))))
	return calls, called
}

// TestColdCodeIsPaidFor: who calls code that was not called lately pays for its size, by whatever
// way it is called; what was stored or called lately is not paid for, and what a transaction that
// failed has called is not noted.
func TestColdCodeIsPaidFor(t *testing.T) {
	const native, kib = 10<<20 + 1, 10<<10 + 1
	p := prices()
	w := newWorld()
	code := moduleCode("x")
	w.store(person("alice"), code)
	if calls, called := w.called(code); called.Native < uint64(8*len(code)) || called.At != called.Native || calls.Bytes != called.At {
		t.Fatalf("what was stored counts as %+v of %+v", called, calls)
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
		for _, c := range []struct{ since, gas uint64 }{
			{contract.KeptBytes / 8, 0}, {contract.KeptBytes/8 + 1, 2 * p.Write}, {contract.KeptBytes, 2 * p.Write}, {contract.KeptBytes + 1, 2*p.Write + kib*p.LoadKiB},
		} {
			w.calledAt(code, 1<<40, 1<<40+c.since, native)
			if got := execute(msg) - warm; got != c.gas {
				t.Errorf("%s, %d bytes after the last: %d gas more, want %d", name, c.since, got, c.gas)
			}
			calls, called := w.called(code)
			if want := uint64(1<<40) + c.since; c.gas == 0 && calls.Bytes != want || c.gas > 0 && (calls.Bytes != want+native || called.At != calls.Bytes || called.Native != native) {
				t.Errorf("%s, %d bytes after the last: %+v of %+v", name, c.since, called, calls)
			}
		}
	}
	w.calledAt(code, 1<<40, 1<<40+contract.KeptBytes+1, native)
	short := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[0], Msg: []byte(`{}`)}, kib*p.LoadKiB)
	if !short.Spent {
		t.Errorf("with too little gas: %+v", short)
	}
	failed := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[0], Msg: []byte(`{"error":"no"}`)}, blockGas)
	if calls, called := w.called(code); failed.Why == nil || failed.Gas < kib*p.LoadKiB || called.At != 1<<40 || calls.Bytes != 1<<40+contract.KeptBytes+1 {
		t.Errorf("what failed: %+v, noted %+v of %+v", failed, called, calls)
	}
	w.env.Tx = nil
	if _, used, why := contract.Ask(w.state, &w.env, w.made[0], []byte(`{}`), testGas); why != nil || used > p.LoadKiB*kib/10 {
		t.Errorf("who asks from outside: %d gas, %v", used, why)
	}
}

// TestWhatIsFreeIsKept: in any history, a call that does not pay for its code's size is of code
// that is among the last that ran, within what a node keeps.
func TestWhatIsFreeIsKept(t *testing.T) {
	const codes, largest = 60, 20 << 20
	base := newWorld()
	var all [][]byte
	for i := range codes {
		all = append(all, moduleCode(fmt.Sprint("code ", i)))
		base.store(person("alice"), all[i])
		if did := base.do(person("alice"), chain.InstantiateContract{Code: uint64(i) + 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
	}
	warm := base.do(person("alice"), chain.ExecuteContract{Contract: base.made[0], Msg: []byte(`{}`)}, testGas).Gas
	paid, free := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := &world{state: state.NewOverlay(base.state), vm: base.vm, env: base.env, made: base.made}
		native := make([]uint64, codes)
		for i := range native { // as if all had been called long ago
			native[i] = rapid.Uint64Range(largest/2, largest).Draw(t, "native")
			w.calledAt(all[i], 0, contract.KeptBytes+1, native[i])
		}
		some := rapid.SampledFrom([]int{3, 14, 24, codes}).Draw(t, "some") // less than is kept, about as much, more
		var order []int                                                    // as they ran, the last last
		i := 0
		for range 3 * codes {
			if i = (i + 1) % some; rapid.IntRange(0, 3).Draw(t, "jump") == 0 {
				i = rapid.IntRange(0, some-1).Draw(t, "code")
			}
			did := w.do(person("alice"), chain.ExecuteContract{Contract: w.made[i], Msg: []byte(`{}`)}, blockGas)
			if did.Why != nil {
				t.Fatal(did.Why.Reason())
			}
			at := slices.Index(order, i)
			if did.Gas > warm+2*prices().Write {
				paid++
			} else {
				free++
				distance := uint64(0)
				for _, since := range order[max(at, 0):] {
					distance += native[since]
				}
				if at < 0 || distance > contract.KeptBytes/8*9+2*largest {
					t.Fatalf("a call is free, of code that ran %d bytes ago (place %d of %v)", distance, at, order)
				}
			}
			order = append(slices.DeleteFunc(order, func(j int) bool { return j == i }), i)
		}
	})
	if paid == 0 || free == 0 {
		t.Errorf("%d paid, %d did not", paid, free)
	}
}

// TestByCall: code in the order in which it was called last.
func TestByCall(t *testing.T) {
	w := newWorld()
	for i := range 4 {
		w.store(person("alice"), moduleCode(fmt.Sprint(i)))
	}
	if got := contract.ByCall(w.state); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
		t.Errorf("as it was stored: %v", got)
	}
	w.calledAt(moduleCode("1"), 1<<40, 1<<40, 1)
	w.calledAt(moduleCode("0"), 1<<41, 1<<41, 1)
	if got := contract.ByCall(w.state); !slices.Equal(got, []uint64{3, 4, 2, 1}) {
		t.Errorf("as it was called: %v", got)
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
		_, called := w.called(code)
		w.calledAt(code, 0, contract.KeptBytes+1, called.Native)
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
