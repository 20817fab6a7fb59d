package sdk_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// fakeCode is code of a contract, whose address has its number.
type fakeCode struct {
	number, native uint64
	callable       chain.Height
	waits          []uint64 // that it says, one after the other; then none
}

func (c *fakeChain) contracts(w http.ResponseWriter, kind, tail string) {
	if kind == "contracts" {
		for _, code := range c.codes {
			if tail == address(int(code.number)).String() {
				c.send(w, &api.Contract{Code: api.Uint64(code.number)})
				return
			}
		}
		sendProblem(c.t, w, http.StatusNotFound)
		return
	}
	code, ok := c.codes[tail]
	if !ok {
		sendProblem(c.t, w, http.StatusNotFound)
		return
	}
	out := &api.ContractCode{Code: api.Uint64(code.number), Native: api.Uint64(code.native), Callable: code.callable}
	if len(code.waits) > 0 {
		out.Wait, code.waits = api.Uint64(code.waits[0]), code.waits[1:]
	}
	c.send(w, out)
}

// TestCallsOfLargeCode: who calls a contract and does not say what gas it may use can pay for its code being loaded, by
// whatever message, for each; of code that is not there, or not yet, nothing is said.
func TestCallsOfLargeCode(t *testing.T) {
	const mib = 1 << 20
	c := newFakeChain(t)
	c.codes = map[string]*fakeCode{"1": {number: 1, native: 100 << 10}, "2": {number: 2, native: 5*mib + 1}, "3": {number: 3, native: 1 << 63}}
	b := connect(t, c).NewBuilder(testKey(1), sdk.BuilderOptions{})
	kib := contract.PricesV1().LoadKiB
	for name, q := range map[string]struct {
		messages []chain.Msg
		kib      uint64 // that are loaded
	}{
		"a call":             {[]chain.Msg{chain.ExecuteContract{Contract: address(2), Msg: []byte("{}")}}, 5<<10 + 1},
		"a small one":        {[]chain.Msg{chain.ExecuteContract{Contract: address(1), Msg: []byte("{}")}}, 100},
		"a contract is made": {[]chain.Msg{chain.InstantiateContract{Code: 2, Label: "l", Msg: []byte("{}")}}, 5<<10 + 1},
		"migrated":           {[]chain.Msg{chain.MigrateContract{Contract: address(1), Code: 2, Msg: []byte("{}")}}, 5<<10 + 1},
		"pinned":             {[]chain.Msg{chain.PinCode{Code: 2, Periods: 1, MaxBurn: chain.Hyper(1)}}, 5<<10 + 1},
		"two":                {[]chain.Msg{chain.ExecuteContract{Contract: address(1), Msg: []byte("{}")}, chain.ExecuteContract{Contract: address(2), Msg: []byte("{}")}}, 5<<10 + 101},
		"none yet":           {[]chain.Msg{chain.ExecuteContract{Contract: address(9), Msg: []byte("{}")}, chain.InstantiateContract{Code: 9, Label: "l", Msg: []byte("{}")}}, 0},
		"nobody's code":      {[]chain.Msg{chain.Transfer{To: address(2), Amount: chain.Nano(1)}}, 0},
	} {
		tx, err := b.Build(t.Context(), q.messages...)
		if err != nil {
			t.Fatal(err)
		}
		least := sdk.EstimateGas(q.messages...).Units() + q.kib*kib
		if got := tx.Body.GasLimit.Units(); got < least || got > least+uint64(len(q.messages))*kib || q.kib == 0 && got != least {
			t.Errorf("%s: %d gas, want %d", name, got, least)
		}
	}
	// What no code can be is a node's word, of which a limit follows that can be counted.
	if tx, err := b.Build(t.Context(), chain.InstantiateContract{Code: 3, Label: "l", Msg: []byte("{}")}); err != nil || tx.Body.GasLimit.Units() > 1<<30 {
		t.Errorf("of a code of 2⁶³ bytes: %+v, %v", tx.Body.GasLimit, err)
	}
	given := connect(t, c).NewBuilder(testKey(1), sdk.BuilderOptions{GasLimit: chain.GasUnits(77)})
	if tx, err := given.Build(t.Context(), chain.ExecuteContract{Contract: address(2), Msg: []byte("{}")}); err != nil || tx.Body.GasLimit != chain.GasUnits(77) {
		t.Errorf("what is given: %v, %v", tx.Body.GasLimit, err)
	}
	c.set(func() {
		c.refuse = func(path string) int {
			if path == "/v1/codes/2" {
				return http.StatusServiceUnavailable
			}
			return 0
		}
	})
	if _, err := b.Build(t.Context(), chain.ExecuteContract{Contract: address(2), Msg: []byte("{}")}); err == nil {
		t.Error("a node that does not answer is not heard")
	}
}

// TestAwaitCode: who waits for code asks until it is compiled, and then until it is ten blocks old; he is told once for how
// long, if he has to wait for a compiler.
func TestAwaitCode(t *testing.T) {
	c := newFakeChain(t)
	c.seal()
	client := connect(t, c)
	var told []time.Duration
	tell := func(wait time.Duration) { told = append(told, wait) }
	c.codes = map[string]*fakeCode{"1": {number: 1, callable: 1, waits: []uint64{3, 2, 1}}, "2": {number: 2, callable: 1}, "3": {number: 3, waits: slices.Repeat([]uint64{math.MaxUint64 / 2}, 9)}}
	for _, code := range []uint64{1, 2} {
		if err := client.AwaitCode(t.Context(), code, tell); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(told, []time.Duration{3 * time.Millisecond}) || c.count("GET /v1/codes/1") != 4 || c.count("GET /v1/codes/2") != 1 {
		t.Errorf("told %v; requests %v", told, c.requests)
	}
	for reason, want := range map[string]time.Duration{
		"hypermesh 9: nodes have 600300 ms of code to compile, limit 600000: store it in 300 ms":                  300 * time.Millisecond,
		"hypermesh 9: nodes have 600300 ms of code to compile, limit 600000: store it in 18446744073709551615 ms": 2 * contract.MaxDebtMs * time.Millisecond,
		"wasm 2: a module without memory": 0,
	} {
		if wait, later := sdk.StoreAgainIn(&sdk.RejectedError{Included: true, Reason: reason}); wait != want || later != (want > 0) {
			t.Errorf("%s: %s, %t", reason, wait, later)
		}
	}
	if wait, later := sdk.StoreAgainIn(nil); later {
		t.Errorf("what is stored is stored again in %s", wait)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("it takes too long")
	if err := client.AwaitCode(ctx, 3, func(wait time.Duration) { told = append(told, wait); cancel(gone) }); !errors.Is(err, gone) || told[1] <= 0 || told[1] > time.Hour {
		t.Errorf("who has gone: %v, told %v", err, told)
	}
	if err := client.AwaitCode(t.Context(), 4, nil); !sdk.IsNotFound(err) {
		t.Errorf("no code: %v", err)
	}
}
