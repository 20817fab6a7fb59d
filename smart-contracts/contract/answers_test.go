package contract_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// answers are what contracts may answer, of which few can be done.
var answers = []string{
	"", "{", "null", "[]", "\x00\xff", `{"ok":null}`, `{"error":null}`, `{"ok":{},"error":"both"}`, `{"error":"\ud800"}`, `{"ok":"aGk="}`, `{"ok":"not base64"}`,
	`{"ok":{"messages":[],"attributes":[],"events":[]}}`, `{"ok":{"messages":[],"attributes":[{"key":"","value":""},{"key":"_contract_address","value":"x"}],"events":[]}}`,
	`{"ok":{"messages":[],"attributes":[],"events":[{"type":"a","attributes":[]},{"type":"  ","attributes":[]}]}}`,
	answering(`{"bank":{"send":{"to_address":"$","amount":[{"denom":"nhyper","amount":"1"}]}}}`),
	answering(`{"bank":{"send":{"to_address":"HYPER1QQQQ","amount":[{"denom":"nhyper","amount":"1"}]}}}`),
	answering(`{"bank":{"send":{"to_address":"","amount":[{"denom":"","amount":"340282366920938463463374607431768211456"}]}}}`),
	answering(`{"bank":{"burn":{"amount":[{"denom":"nhyper","amount":"7"}]}}}`), answering(`{"bank":{"burn":{"amount":[{"denom":"nhyper","amount":"3000"}]}}}`),
	answering(`{"bank":{"burn":{"amount":[{"denom":"nhyper","amount":"-1"}]}}}`), answering(`{"bank":{"burn":{"amount":[{"denom":"nhyper","amount":"07"}]}}}`),
	answering(`{"bank":{"burn":{"amount":[{"denom":"nhyper","amount":"18446744073709551615"},{"denom":"nhyper","amount":"1"}]}}}`),
	answering(`{"wasm":{"execute":{"contract_addr":"$","msg":"e30=","funds":[]}}}`), answering(`{"wasm":{"execute":{"contract_addr":"$","msg":"e30","funds":[]}}}`),
	answering(`{"wasm":{"instantiate":{"admin":"nobody","code_id":1,"msg":"e30=","funds":[],"label":"l"}}}`),
	answering(`{"wasm":{"instantiate":{"admin":null,"code_id":18446744073709551615,"msg":"e30=","funds":[],"label":""}}}`),
	answering(`{"wasm":{"instantiate2":{"admin":null,"code_id":1,"msg":"e30=","funds":[],"label":"l","salt":""}}}`),
	answering(`{"wasm":{"migrate":{"contract_addr":"$","new_code_id":1,"msg":"e30="}}}`), answering(`{"wasm":{"update_admin":{"contract_addr":"$","admin":"$"}}}`),
	answering(`{"wasm":{"clear_admin":{"contract_addr":"$"}}}`), answering(`{"custom":{"deposit":{"cluster":"00","amount":"1"}}}`), answering(`{"staking":{"delegate":{}}}`),
	answering(`{"stargate":{"type_url":"/a","value":""}}`), answering(`{}`),
}

// answering sends one message and wants to know what comes of it; $ is who answers.
func answering(message string) string {
	return `{"ok":{"messages":[{"id":18446744073709551615,"payload":"","msg":` + message + `,"gas_limit":90000,"reply_on":"always"}],"attributes":[],"events":[],"data":""}}`
}

// repeating answers the same to every call, to every reply and to every query.
type repeating struct{ calls, replies, queries []byte }

func (v *repeating) Run(_ contract.Program, call contract.Call, _ contract.Reach) (contract.Outcome, error) {
	if call.Points < scriptPoints {
		return contract.Outcome{End: contract.Spent, Points: call.Points}, nil
	}
	out := contract.Outcome{End: contract.Returned, Data: v.calls, Points: scriptPoints}
	switch call.Entry {
	case meter.Instantiate, meter.Execute, meter.Migrate, meter.Sudo:
	case meter.Reply:
		out.Data = v.replies
	case meter.Query:
		out.Data = v.queries
	}
	return out, nil
}

// FuzzAnswers: whatever contracts answer, to each entry, comes to a rejection or takes effect, and never to a fault: no
// money comes or goes, room is what is kept, what is refused has changed nothing, and the same again comes to the same.
func FuzzAnswers(f *testing.F) {
	for entry := range byte(4) {
		for _, text := range answers {
			f.Add(entry, []byte(text), saysNothing, []byte(text))
			f.Add(entry, []byte(answering(`{"bank":{"burn":{"amount":[]}}}`)), []byte(text), []byte(text))
		}
	}
	begun := newWorld()
	begun.store(person("alice"), moduleCode("one"))
	admin := person("alice")
	first := chain.InstantiateContract{Code: 1, Label: "c", Admin: &admin, Msg: []byte("{}"), Funds: chain.Nano(1_000)}
	if did := begun.do(admin, first, testGas); did.Why != nil {
		f.Fatal(did.Why.Reason())
	}
	it := begun.made[0]
	f.Fuzz(func(t *testing.T, entry byte, calls, replies, queries []byte) {
		swap := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(`"$"`), []byte(`"`+it.String()+`"`)) }
		once := func() (*world, contract.Result) {
			w := *begun
			w.state = state.NewOverlay(begun.state)
			w.env.VM = &repeating{swap(calls), swap(replies), swap(queries)}
			var m chain.Msg = chain.ExecuteContract{Contract: it, Msg: []byte("{}"), Funds: chain.Nano(7)}
			switch entry % 4 {
			case 1:
				m = chain.InstantiateContract{Code: 1, Label: "d", Msg: []byte("{}")}
			case 2:
				m = chain.MigrateContract{Contract: it, Code: 1, Msg: []byte("{}")}
			case 3:
				_, _, why := contract.Ask(w.state, &w.env, it, []byte("{}"), testGas)
				return &w, contract.Result{Why: why}
			}
			return &w, w.do(admin, m, 1_000_000)
		}
		w, did := once()
		if _, again := once(); !reflect.DeepEqual(did, again) {
			t.Fatalf("once %+v, and again %+v", did, again)
		}
		if did.Gas > 1_000_000 || did.Why != nil && (len(did.Events) > 0 || w.state.Len() > 0) {
			t.Fatalf("%+v, with %d changes", did, w.state.Len())
		}
		if err := w.conserved(); err != nil {
			t.Fatal(err)
		}
		if err := rooms(w); err != nil {
			t.Fatal(err)
		}
	})
}
