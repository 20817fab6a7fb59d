package contract_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/tokens"
)

// someScript is a script of steps, and of messages with scripts of their own.
func someScript(t *rapid.T, made []chain.Address, depth int) string {
	var steps []string
	for range rapid.IntRange(0, 4).Draw(t, "steps") {
		key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
		switch rapid.IntRange(0, 5).Draw(t, "step") {
		case 0, 1:
			steps = append(steps, fmt.Sprintf(`{"write":[%q,%q]}`, key, strings.Repeat("v", rapid.IntRange(1, 300).Draw(t, "value"))))
		case 2:
			steps = append(steps, fmt.Sprintf(`{"remove":%q}`, key))
		case 3:
			steps = append(steps, fmt.Sprintf(`{"read":%q}`, key), `{"scan":["down","",""]}`)
		case 4:
			steps = append(steps, fmt.Sprintf(`{"spend":%d}`, rapid.IntRange(1, 2_000_000).Draw(t, "spend")))
		case 5:
			steps = append(steps, fmt.Sprintf(`{"query":{"wasm":{"smart":{"contract_addr":%q,"msg":%q}}}}`, rapid.SampledFrom(made).Draw(t, "asked"),
				base64.StdEncoding.EncodeToString([]byte(`{"do":[{"read":"a"}]}`))))
		}
	}
	end := ""
	switch rapid.IntRange(0, 9).Draw(t, "end") {
	case 0:
		end = `,"error":"no"`
	case 1:
		steps = append(steps, fmt.Sprintf(`{"end":%q}`, rapid.SampledFrom([]string{"aborted", "trapped", "misused", "spent", "refused by the compiler"}).Draw(t, "how")))
	default:
		end = fmt.Sprintf(`,"ok":{"messages":[%s],"attributes":[{"key":"k","value":"v"}],"events":[],"data":"aGk="}`, strings.Join(someMessages(t, made, depth), ","))
	}
	return fmt.Sprintf(`{"do":[%s]%s}`, strings.Join(steps, ","), end)
}

func someMessages(t *rapid.T, made []chain.Address, depth int) (out []string) {
	if depth == 0 {
		return nil
	}
	inside := func() string {
		return base64.StdEncoding.EncodeToString([]byte(someScript(t, made, depth-1)))
	}
	for range rapid.IntRange(0, 3).Draw(t, "messages") {
		to, amount := rapid.SampledFrom(made).Draw(t, "to"), rapid.IntRange(0, 600).Draw(t, "amount")
		coins := fmt.Sprintf(`[{"denom":"nhyper","amount":"%d"}]`, amount)
		var m string
		switch rapid.IntRange(0, 6).Draw(t, "message") {
		case 0:
			m = fmt.Sprintf(`{"bank":{"send":{"to_address":%q,"amount":%s}}}`, to, coins)
		case 1:
			m = fmt.Sprintf(`{"bank":{"burn":{"amount":%s}}}`, coins)
		case 2:
			m = fmt.Sprintf(`{"wasm":{"instantiate":{"admin":null,"code_id":1,"msg":%q,"funds":%s,"label":"child"}}}`, inside(), coins)
		case 3:
			m = fmt.Sprintf(`{"wasm":{"migrate":{"contract_addr":%q,"new_code_id":1,"msg":%q}}}`, to, inside())
		default:
			m = fmt.Sprintf(`{"wasm":{"execute":{"contract_addr":%q,"msg":%q,"funds":%s}}}`, to, inside(), coins)
		}
		limit := "null"
		if rapid.Bool().Draw(t, "limited") {
			limit = fmt.Sprint(rapid.IntRange(0, 300_000).Draw(t, "limit"))
		}
		reply := rapid.SampledFrom([]string{"always", "success", "error", "never"}).Draw(t, "reply")
		out = append(out, fmt.Sprintf(`{"id":7,"payload":%q,"msg":%s,"gas_limit":%s,"reply_on":%q}`, inside(), m, limit, reply))
	}
	return out
}

// rooms demands that what each contract is said to take is what it takes, and that whoever
// takes room has paid for it.
func rooms(w *world) error {
	for key, value := range w.state.Iterate(contract.ContractKey(chain.Address{}), contract.ContractKey(chain.Address(slicesOf(0xff)))) {
		c, err := contract.DecodeContract(value)
		if err != nil {
			return err
		}
		a := chain.Address(key[2:])
		takes := uint64(512)
		for own, kept := range w.state.Iterate(contract.StorageKey(a, nil), contract.StorageKey(a, []byte{0xff})) {
			takes += uint64(64 + len(own) - len(contract.StorageKey(a, nil)) + len(kept))
		}
		if c.Bytes != takes {
			return fmt.Errorf("%s takes %d bytes and is said to take %d", a.Short(), takes, c.Bytes)
		}
		if least, _ := chain.Nano(contract.NanoPerByte).ShareFloor(takes, 1); c.Pool.Less(least) {
			return fmt.Errorf("%s takes %d bytes for %s", a.Short(), takes, c.Pool)
		}
	}
	return nil
}

func slicesOf(b byte) (out [32]byte) {
	for i := range out {
		out[i] = b
	}
	return out
}

// TestHistories: whatever contracts do to each other, no money comes or goes, room is what
// was paid for, gas is bounded, and all of it is the same again.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.store(person("alice"), moduleCode("one"))
		for range 3 {
			admin := person("alice")
			w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "c", Admin: &admin, Msg: []byte("{}"), Funds: chain.Nano(1_000)}, testGas)
		}
		for range rapid.IntRange(1, 8).Draw(t, "transactions") {
			gas := rapid.SampledFrom([]uint64{20_000, 100_000, 400_000, testGas}).Draw(t, "gas")
			m := chain.ExecuteContract{
				Contract: rapid.SampledFrom(w.made).Draw(t, "contract"), Msg: []byte(someScript(t, w.made, 3)), Funds: chain.Nano(rapid.Uint64Range(0, 900).Draw(t, "funds")),
			}
			twin := *w
			twin.state = state.NewOverlay(w.state)
			again := twin.do(person("bob"), m, gas)
			did := w.do(person("bob"), m, gas)
			if !reflect.DeepEqual(did, again) {
				t.Fatalf("once %+v, and again %+v", did, again)
			}
			if did.Gas > gas || did.Spent && did.Gas != gas || did.Why != nil && did.Events != nil {
				t.Fatalf("with %d gas: %+v", gas, did)
			}
			if err := w.conserved(); err != nil {
				t.Fatal(err)
			}
			if err := rooms(w); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestGasIsPaidBefore: with any less gas than a call uses it is not done, and nothing of it is
// left.
func TestGasIsPaidBefore(t *testing.T) {
	w := newWorld()
	w.store(person("alice"), moduleCode("one"))
	w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "c", Msg: []byte("{}")}, testGas)
	w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "c", Msg: []byte("{}")}, testGas)
	inner := must(json.Marshal([]byte(`{"do":[{"write":["k","value"]},{"scan":["up","",""]}],"ok":{"messages":[],"attributes":[{"key":"k","value":"v"}],"events":[],"data":"aGk="}}`)))
	m := chain.ExecuteContract{Contract: w.made[0], Funds: chain.Nano(5), Msg: fmt.Appendf(nil,
		`{"ok":{"messages":[{"id":1,"payload":"e30=","msg":{"wasm":{"execute":{"contract_addr":%q,"msg":%s,"funds":[]}}},"gas_limit":null,"reply_on":"always"}],"attributes":[],"events":[]}}`, w.made[1], inner)}
	try := func(gas uint64) (contract.Result, *world) {
		twin := *w
		twin.state = state.NewOverlay(w.state)
		return twin.do(person("bob"), m, gas), &twin
	}
	full, _ := try(testGas)
	if full.Why != nil {
		t.Fatal(full.Why.Reason())
	}
	for gas := uint64(0); gas < full.Gas; gas += full.Gas/199 + 1 {
		did, twin := try(gas)
		if !did.Spent || did.Gas != gas || twin.state.Len() != 0 {
			t.Fatalf("with %d of %d gas: %+v", gas, full.Gas, did)
		}
	}
	if did, _ := try(full.Gas); did.Why != nil || did.Gas != full.Gas {
		t.Errorf("with the gas that it uses: %+v", did)
	}
}

// TestUploads: parts come in order, of one upload, and make code that was checked.
func TestUploads(t *testing.T) {
	w := newWorld()
	alice, bob := person("alice"), person("bob")
	code := moduleCode(strings.Repeat("x", 100))
	large := append(append([]byte{}, code...), customSection(250_000)...)
	parts := partsOf(large)
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	refused := func(from chain.Address, m chain.StoreCode, says string) {
		t.Helper()
		before := tokens.AccountOf(w.state, from).Balance
		did := w.do(from, m, 60_000_000)
		if did.Why == nil || !strings.Contains(did.Why.Reason(), says) || tokens.AccountOf(w.state, from).Balance != before {
			t.Errorf("%+v, want %q", did, says)
		}
	}
	taken := func(from chain.Address, m chain.StoreCode) chain.Events {
		t.Helper()
		did := w.do(from, m, 60_000_000)
		if did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		return did.Events
	}
	refused(alice, parts[1], "there are 0 bytes")
	taken(alice, parts[0])
	refused(alice, parts[2], "part at 196608")
	refused(bob, parts[1], "there are 0 bytes")
	taken(alice, parts[1])
	refused(alice, parts[1], "there are 196608 bytes")
	other := parts[2]
	other.Part = append([]byte{}, other.Part...)
	other.Part[len(other.Part)-1]++
	refused(alice, other, "checksum is")
	taken(bob, parts[0])
	events := taken(alice, parts[2])
	stored, ok := events[0].(chain.CodeStored)
	if !ok || stored.Code != 1 || stored.Creator != alice || uint64(stored.Size) != uint64(len(large)) || stored.Callable != chain.Number(w.env.Height+contract.CallableAfter) {
		t.Errorf("%+v", events)
	}
	if kept, _ := w.state.Get(contract.BytesKey(stored.Checksum)); string(kept) != string(large) {
		t.Errorf("%d bytes are kept of %d", len(kept), len(large))
	}
	left := func() {
		t.Helper()
		for _, kind := range []byte{'p', 'u'} {
			for key := range w.state.Iterate([]byte{contract.Prefix, kind}, []byte{contract.Prefix, kind + 1}) {
				if string(key[2:34]) == string(alice[:]) {
					t.Errorf("of an upload is left %x", key)
				}
			}
		}
	}
	left()
	taken(alice, parts[0]) // another upload, of which nothing is left when a third begins
	taken(alice, partsOf(code)[0])
	left()
	bad := append([]byte{}, code...)
	bad[8]++
	refused(alice, partsOf(bad)[0], "wasm 2: ")
	refused(alice, partsOf([]byte("garbage"))[0], "wasm 2: format")
	if did := w.do(alice, partsOf(code)[0], 5_000); !did.Spent {
		t.Errorf("without the gas for it: %+v", did)
	}
	if err := w.conserved(); err != nil {
		t.Error(err)
	}
}

// TestFaultOfTheMachine: it is nobody's result.
func TestFaultOfTheMachine(t *testing.T) {
	w := newWorld()
	w.store(person("alice"), moduleCode("one"))
	w.vm.fault = errNoMemory
	defer func() {
		if fault, ok := recover().(*state.Fault); !ok || !errors.Is(fault, errNoMemory) {
			t.Errorf("recovered %v", fault)
		}
	}()
	w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "c", Msg: []byte("{}")}, testGas)
	t.Error("a contract was made without a machine")
}

// TestWalksBackwardsArePaidFor: a call that has not the gas for all keys looks at no more of them
// than it has the gas for, and is spent.
func TestWalksBackwardsArePaidFor(t *testing.T) {
	w := newWorld()
	w.store(person("alice"), moduleCode("one"))
	w.do(person("alice"), chain.InstantiateContract{Code: 1, Label: "c", Msg: []byte("{}")}, testGas)
	for i := range 2_000 {
		w.state.Set(contract.StorageKey(w.made[0], fmt.Append(nil, i)), []byte("v"))
	}
	read := 0
	w.state = state.NewOverlay(&counting{w.state, &read})
	walk := chain.ExecuteContract{Contract: w.made[0], Msg: []byte(`{"do":[{"scan":["down","",""]}]}`)}
	if did := w.do(person("bob"), walk, 100_000); !did.Spent || read > 125 {
		t.Errorf("%+v, and %d keys were looked at", did, read)
	}
	if did := w.do(person("bob"), walk, 10*testGas); did.Why != nil || read < 2_000 {
		t.Errorf("%+v, and %d keys were looked at", did.Why, read)
	}
}

// counting counts what is walked over.
type counting struct {
	state.Reader
	read *int
}

func (c *counting) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for key, value := range c.Reader.Iterate(start, end) {
			if *c.read++; !yield(key, value) {
				return
			}
		}
	}
}
