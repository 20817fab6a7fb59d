package harness_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

func must[T any](v T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return v
}

// A counter counts, for everybody, and is set by its owner alone.
func ExampleNew() {
	h := must(harness.New(harness.Config{}))
	defer h.Close()
	alice, bob := harness.AccountOf("alice"), harness.AccountOf("bob")

	code := must(h.Store(must(os.ReadFile("../templates/counter/counter.wasm"))))
	counter := must(h.Instantiate(alice, code, `{"count":5}`, harness.Making{})).Contract

	r := must(h.Execute(bob, counter, `{"increment":{}}`))
	fmt.Println(r.Attribute(counter, "action"), "takes gas:", r.Gas > 0)
	fmt.Println(string(must(h.Query(counter, `{"count":{}}`)).JSON))

	_, err := h.Execute(bob, counter, `{"reset":{"count":0}}`)
	if refused, ok := errors.AsType[*harness.Refused](err); ok {
		fmt.Println("refused:", refused.Words)
	}
	// Output:
	// increment takes gas: true
	// {"count":6}
	// refused: only the owner may
}

// A token is made and moved, and says so.
func Example() {
	h := must(harness.New(harness.Config{}))
	defer h.Close()
	alice, bob := harness.AccountOf("alice"), harness.AccountOf("bob")

	code := must(h.Store(must(os.ReadFile("../templates/cw20/cw20.wasm"))))
	token := must(h.Instantiate(alice, code, map[string]any{
		"name": "Token", "symbol": "TOK", "decimals": 6,
		"initial_balances": []any{map[string]any{"address": alice, "amount": "100"}},
	}, harness.Making{})).Contract

	r := must(h.Execute(alice, token, map[string]any{"transfer": map[string]any{"recipient": bob, "amount": "30"}}))
	fmt.Println("action:", r.Attribute(token, "action"))

	var has struct{ Balance string }
	if err := h.QueryInto(token, map[string]any{"balance": map[string]any{"address": bob}}, &has); err != nil {
		log.Panic(err)
	}
	fmt.Println("bob has", has.Balance)

	_, err := h.Execute(bob, token, map[string]any{"burn": map[string]any{"amount": "31"}})
	if refused, ok := errors.AsType[*harness.Refused](err); ok {
		fmt.Println("refused:", refused.Words)
	}
	// Output:
	// action: transfer
	// bob has 30
	// refused: not enough tokens
}

// An allowance that ends with time.
func ExampleHarness_Pass() {
	h := must(harness.New(harness.Config{}))
	defer h.Close()
	alice, bob := harness.AccountOf("alice"), harness.AccountOf("bob")
	code := must(h.Store(must(os.ReadFile("../templates/cw20/cw20.wasm"))))
	begin := fmt.Sprintf(`{"name":"Token","symbol":"TOK","decimals":6,"initial_balances":[{"address":%q,"amount":"100"}]}`, alice)
	token := must(h.Instantiate(alice, code, begin, harness.Making{})).Contract

	until := h.Time().Add(time.Hour).UnixNano()
	must(h.Execute(alice, token, fmt.Sprintf(`{"increase_allowance":{"spender":%q,"amount":"5","expires":{"at_time":"%d"}}}`, bob, until)))
	before := h.Snapshot()
	if err := h.Pass(time.Hour); err != nil {
		log.Panic(err)
	}
	take := fmt.Sprintf(`{"burn_from":{"owner":%q,"amount":"5"}}`, alice)
	_, err := h.Execute(bob, token, take)
	fmt.Println("an hour later it is refused:", err != nil)
	if err := h.Rollback(before); err != nil {
		log.Panic(err)
	}
	_, err = h.Execute(bob, token, take)
	fmt.Println("now it is refused:", err != nil)
	// Output:
	// an hour later it is refused: true
	// now it is refused: false
}

// A shop in Go, which a token is sent to.
func ExampleHarness_StoreScript() {
	h := must(harness.New(harness.Config{}))
	defer h.Close()
	alice := harness.AccountOf("alice")
	code := must(h.Store(must(os.ReadFile("../templates/cw20/cw20.wasm"))))
	begin := fmt.Sprintf(`{"name":"Token","symbol":"TOK","decimals":6,"initial_balances":[{"address":%q,"amount":"100"}]}`, alice)
	token := must(h.Instantiate(alice, code, begin, harness.Making{})).Contract

	shops := must(h.StoreScript(func(s *harness.Scene) (any, error) {
		if s.Entry == "execute" {
			s.Set("sold", s.Msg)
			return cosmwasm.Response{Attributes: []cosmwasm.Attribute{{Key: "shop", Value: "thanks"}}}, nil
		}
		return nil, nil
	}))
	shop := must(h.Instantiate(alice, shops, `{}`, harness.Making{})).Contract

	r := must(h.Execute(alice, token, fmt.Sprintf(`{"send":{"contract":%q,"amount":"7","msg":"e30="}}`, shop)))
	fmt.Println(r.Attribute(shop, "shop"))
	for _, call := range r.Calls {
		fmt.Println(call.Entry, call.Ended, call.Contract == shop)
	}
	// Output:
	// thanks
	// execute returned false
	// execute returned true
}

// What the chain would know of an order is made up.
func ExampleCustom() {
	h := must(harness.New(harness.Config{Custom: harness.Custom{
		Query: func(question contract.Question) any {
			if _, ok := question.(contract.AskOrder); ok {
				return contract.OrderAnswer{Order: &contract.OrderState{Closed: true, Claims: []contract.ClaimState{{Settled: true, Verified: true}}}}
			}
			return nil
		},
	}}))
	defer h.Close()
	alice := harness.AccountOf("alice")
	judges := must(h.StoreScript(func(s *harness.Scene) (any, error) {
		if s.Entry != "query" {
			return nil, nil
		}
		text, err := s.Ask(fmt.Sprintf(`{"custom":{"order":{"id":"%064d"}}}`, 1))
		return json.RawMessage(text), err
	}))
	judge := must(h.Instantiate(alice, judges, `{}`, harness.Making{})).Contract
	var told contract.OrderAnswer
	if err := h.QueryInto(judge, `{}`, &told); err != nil {
		log.Panic(err)
	}
	fmt.Println("verified:", told.Order.Claims[0].Verified)
	// Output: verified: true
}
