package contract_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
)

// blockGas is all that a block has.
var blockGas = chain.DefaultParams().BlockGas.Units()

// withOne is a world with one contract.
func withOne(t *testing.T) (*world, chain.Address) {
	t.Helper()
	w := newWorld()
	w.store(person("alice"), moduleCode("x"))
	if did := w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "l", Msg: []byte(`{}`)}, testGas); did.Why != nil {
		t.Fatal(did.Why.Reason())
	}
	return w, w.made[0]
}

// repeated is a list of n times the same.
func repeated(n int, element string) string {
	return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
}

// telling is what a contract is to do to send itself n messages, which tell so much each.
func telling(to chain.Address, n int, each, replyOn string) string {
	message := fmt.Sprintf(`{"id":1,"msg":{"wasm":{"execute":{"contract_addr":"%s","msg":<<%s>>,"funds":[]}}},"payload":<<{}>>,"gas_limit":null,"reply_on":"%s"}`, to, each, replyOn)
	return `{"ok":{"messages":[` + repeated(n, inBase64(message)) + `],"attributes":[],"events":[]}}`
}

// TestEventsAreBounded: what the contracts of a transaction make known has a bound, for all its
// messages together; what has failed does not count.
func TestEventsAreBounded(t *testing.T) {
	w, a := withOne(t)
	events := `"attributes":[],"events":[` + repeated(256, `{"type":"aa","attributes":[]}`) + `]`
	said := contract.Said{}
	w.env.Said = &said
	do := func(msg string) contract.Result {
		w.tx++
		return contract.Do(state.NewOverlay(w.state), &w.env, person("alice"), chain.ExecuteContract{Contract: a, Msg: []byte(msg)}, blockGas)
	}
	const half = contract.MaxTxEvents / 2 / 256
	did := do(telling(a, half-1, `{"ok":{"messages":[],`+events+`}}`, "never"))
	if did.Why != nil || len(did.Events) != (half-1)*257+1 || said.Events != len(did.Events) {
		t.Fatalf("%v, %d events, %d counted", did.Why, len(did.Events), said.Events)
	}
	failing := `{"ok":{"messages":[{"id":1,"msg":{"bank":{"burn":{"amount":[]}}},"gas_limit":null,"reply_on":"never"}],` + events + `}}`
	if did := do(telling(a, 2*half, failing, "error")); did.Why != nil || len(did.Events) != 2*2*half+1 {
		t.Fatalf("who fails, and is told so: %v, %d events", did.Why, len(did.Events))
	}
	before := said
	if did := do(telling(a, half+1, `{"ok":{"messages":[],`+events+`}}`, "never")); did.Why == nil || !strings.Contains(did.Why.Reason(), "more than 8192 events") || said != before {
		t.Errorf("more than a transaction has: %v, %d events", did.Why, len(did.Events))
	}
	w.env.Said = nil
	wordy := `{"ok":{"messages":[],"events":[],"attributes":[` + repeated(20, `{"key":"k","value":"`+strings.Repeat("v", 16<<10)+`"}`) + `]}}`
	if did := do(telling(a, 1, wordy, "never")); did.Why != nil {
		t.Errorf("one that says much: %v", did.Why)
	}
	var thrice []string
	for range 4 {
		thrice = append(thrice, wordy)
	}
	said, w.env.Said = contract.Said{}, &said
	for i, msg := range thrice {
		if did := do(msg); (did.Why != nil) != (i == 3) {
			t.Errorf("message %d that says 320 KiB: %v", i, did.Why)
		}
	}
}
