package cosmwasm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
)

// kind is how one of the kinds of texts is read, and what was read written.
type kind func(data []byte) (v any, written []byte, err error)

// after writes what was read, if it was.
func after[T any](v T, err error, write func(T) []byte) (any, []byte, error) {
	if err != nil {
		return v, nil, err
	}
	return v, write(v), nil
}

var kinds = map[string]kind{
	"message": func(data []byte) (any, []byte, error) {
		m, err := cosmwasm.DecodeMessage(data)
		return after(m, err, cosmwasm.EncodeMessage)
	},
	"query": func(data []byte) (any, []byte, error) {
		q, err := cosmwasm.DecodeQuery(data)
		return after(q, err, cosmwasm.EncodeQuery)
	},
	"answer": func(data []byte) (any, []byte, error) {
		a, err := cosmwasm.DecodeAnswer(data)
		return after(a, err, cosmwasm.EncodeAnswer)
	},
	"queryanswer": func(data []byte) (any, []byte, error) {
		a, err := cosmwasm.DecodeQueryAnswer(data)
		return after(a, err, cosmwasm.EncodeQueryAnswer)
	},
	"reached": func(data []byte) (any, []byte, error) {
		r, err := cosmwasm.DecodeReached(data)
		return after(r, err, cosmwasm.EncodeReached)
	},
	"env":         coded(cosmwasm.Decode[cosmwasm.Env], cosmwasm.Encode[cosmwasm.Env]),
	"info":        coded(cosmwasm.Decode[cosmwasm.MessageInfo], cosmwasm.Encode[cosmwasm.MessageInfo]),
	"migrateinfo": coded(cosmwasm.Decode[cosmwasm.MigrateInfo], cosmwasm.Encode[cosmwasm.MigrateInfo]),
	"reply":       coded(cosmwasm.Decode[cosmwasm.Reply], cosmwasm.Encode[cosmwasm.Reply]),

	"supply":              coded(cosmwasm.Decode[cosmwasm.SupplyAnswer], cosmwasm.Encode[cosmwasm.SupplyAnswer]),
	"balances":            coded(cosmwasm.Decode[cosmwasm.BalancesAnswer], cosmwasm.Encode[cosmwasm.BalancesAnswer]),
	"metadata":            coded(cosmwasm.Decode[cosmwasm.MetadataAnswer], cosmwasm.Encode[cosmwasm.MetadataAnswer]),
	"allmetadata":         coded(cosmwasm.Decode[cosmwasm.AllMetadataAnswer], cosmwasm.Encode[cosmwasm.AllMetadataAnswer]),
	"bondeddenom":         coded(cosmwasm.Decode[cosmwasm.BondedDenomAnswer], cosmwasm.Encode[cosmwasm.BondedDenomAnswer]),
	"validators":          coded(cosmwasm.Decode[cosmwasm.ValidatorsAnswer], cosmwasm.Encode[cosmwasm.ValidatorsAnswer]),
	"validator":           coded(cosmwasm.Decode[cosmwasm.ValidatorAnswer], cosmwasm.Encode[cosmwasm.ValidatorAnswer]),
	"delegations":         coded(cosmwasm.Decode[cosmwasm.DelegationsAnswer], cosmwasm.Encode[cosmwasm.DelegationsAnswer]),
	"delegation":          coded(cosmwasm.Decode[cosmwasm.DelegationAnswer], cosmwasm.Encode[cosmwasm.DelegationAnswer]),
	"withdrawaddress":     coded(cosmwasm.Decode[cosmwasm.WithdrawAddressAnswer], cosmwasm.Encode[cosmwasm.WithdrawAddressAnswer]),
	"rewards":             coded(cosmwasm.Decode[cosmwasm.RewardsAnswer], cosmwasm.Encode[cosmwasm.RewardsAnswer]),
	"totalrewards":        coded(cosmwasm.Decode[cosmwasm.TotalRewardsAnswer], cosmwasm.Encode[cosmwasm.TotalRewardsAnswer]),
	"delegatorvalidators": coded(cosmwasm.Decode[cosmwasm.DelegatorValidatorsAnswer], cosmwasm.Encode[cosmwasm.DelegatorValidatorsAnswer]),
	"contractinfo":        coded(cosmwasm.Decode[cosmwasm.ContractInfoAnswer], cosmwasm.Encode[cosmwasm.ContractInfoAnswer]),
	"codeinfo":            coded(cosmwasm.Decode[cosmwasm.CodeInfoAnswer], cosmwasm.Encode[cosmwasm.CodeInfoAnswer]),
}

func coded[T any](read func([]byte) (T, error), write func(T) []byte) kind {
	return func(data []byte) (any, []byte, error) {
		v, err := read(data)
		return after(v, err, write)
	}
}

// example is a text of a kind.
type example struct{ kind, text string }

func examples(t testing.TB) (out []example) {
	t.Helper()
	file, err := os.ReadFile("testdata/examples.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(file)) {
		if name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); name != "#" {
			out = append(out, example{name, text})
		}
	}
	return out
}

// TestExamples: what is written in its one way is read, and written so again; with
// spaces and other fields in it, it is read as the same.
func TestExamples(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range examples(t) {
		seen[e.kind] = true
		v, written, err := kinds[e.kind]([]byte(e.text))
		if err != nil || string(written) != e.text {
			t.Errorf("%s %s: %v, written %s", e.kind, e.text, err, written)
			continue
		}
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, []byte(e.text), "\r", "\t "); err != nil {
			t.Fatal(err)
		}
		if again, _, err := kinds[e.kind](spaced.Bytes()); err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("%s: %v, %#v, want %#v", &spaced, err, again, v)
		}
	}
	for name := range kinds {
		if !seen[name] {
			t.Errorf("no example of %s", name)
		}
	}
}

// TestCutAndChangedExamples: no part of a text is a text, and with any byte changed it
// is refused or something else that is read again as it is written.
func TestCutAndChangedExamples(t *testing.T) {
	for _, e := range examples(t) {
		for i := range len(e.text) {
			if v, _, err := kinds[e.kind]([]byte(e.text[:i])); err == nil {
				t.Errorf("%s: %#v", e.text[:i], v)
			}
			for _, c := range []byte("\x00\x1f \"'\\,:[]{}019-.eEtfnuéAa=\xff") {
				checkStable(t, kinds[e.kind], []byte(e.text[:i]+string([]byte{c})+e.text[i+1:]))
			}
		}
	}
}

// checkStable: what is read is JSON, and is written so that the same is read again.
func checkStable(t *testing.T, k kind, data []byte) {
	t.Helper()
	v, written, err := k(data)
	if err != nil {
		if r, ok := errors.AsType[*cosmwasm.Refusal](err); !ok || r.Rule == "" || r.Detail == "" {
			t.Fatalf("%q: %v is no refusal", data, err)
		}
		return
	}
	if !json.Valid(data) || !json.Valid(written) {
		t.Fatalf("%q is read, and written as %q, which is no JSON", data, written)
	}
	again, twice, err := k(written)
	if err != nil || !reflect.DeepEqual(v, again) || !bytes.Equal(written, twice) {
		t.Fatalf("%q: written %q, read again %#v (%v), written %q", data, written, again, err, twice)
	}
}

// TestRead: what the texts say is what is read.
func TestRead(t *testing.T) {
	admin, limit := "alice", uint64(5)
	for _, c := range []struct {
		kind, text string
		want       any
	}{
		{"message", `{"wasm":{"instantiate":{"label":"\ud83d\ude00\u00E9\/","code_id":7,"funds":[{"amount":"3","denom":"hyper"}],"msg":"e30=","admin":"alice"}}}`,
			cosmwasm.Instantiate{Admin: &admin, Code: 7, Msg: []byte("{}"), Funds: []cosmwasm.Coin{{Denom: "hyper", Amount: cosmwasm.Uint128Of(3)}}, Label: "😀é/"}},
		{"message", `{"wasm":{"instantiate":{"label":"","code_id":0,"funds":[],"msg":""}}}`, cosmwasm.Instantiate{Msg: []byte{}}},
		{"message", `{"gov":{"vote":{"proposal_id":1,"vote":"abstain"}}}`, cosmwasm.Vote{Proposal: 1, Option: cosmwasm.VoteAbstain}},
		{"message", `{"wasm":{"clear_admin":{"contract_addr":"token","later":{"a":[{"b":null}]},"more":1e9}}}`, cosmwasm.ClearAdmin{Contract: "token"}},
		{"answer", `{"ok":{"messages":[{"id":1,"msg":{"bank":{"burn":{"amount":[]}}},"reply_on":"success","gas_limit":5}],"attributes":[],"events":[]}}`,
			cosmwasm.Response{Messages: []cosmwasm.SubMsg{{ID: 1, Msg: cosmwasm.BankBurn{}, GasLimit: &limit, ReplyOn: cosmwasm.ReplySuccess}}}},
		{"reply", `{"id":1,"gas_used":2,"result":{"ok":{"events":[],"data":null}}}`, cosmwasm.Reply{ID: 1, GasUsed: 2, Result: cosmwasm.SubResponse{}}},
	} {
		if v, _, err := kinds[c.kind]([]byte(c.text)); err != nil || !reflect.DeepEqual(v, c.want) {
			t.Errorf("%s: %v, %#v, want %#v", c.text, err, v, c.want)
		}
	}
}

// TestUnanswered: a contract is told that its query is not supported, by its kind, or
// is none, by the rule.
func TestUnanswered(t *testing.T) {
	for text, want := range map[string]string{
		`{"stargate":{}}`:              `{"error":{"unsupported_request":{"kind":"stargate"}}}`,
		`{"wasm":{"raw_range":{}}}`:    `{"error":{"unsupported_request":{"kind":"raw_range"}}}`,
		`{"bank":{"supply":{}}}`:       `{"error":{"invalid_request":{"error":"missing","request":"eyJiYW5rIjp7InN1cHBseSI6e319fQ=="}}}`,
		`{"bank":{"supply":{}},"a":0}`: `{"error":{"invalid_request":{"error":"missing","request":"eyJiYW5rIjp7InN1cHBseSI6e319LCJhIjowfQ=="}}}`,
	} {
		_, err := cosmwasm.DecodeQuery([]byte(text))
		r, ok := errors.AsType[*cosmwasm.Refusal](err)
		if !ok {
			t.Fatalf("%s: %v", text, err)
		}
		if got := string(cosmwasm.EncodeReached(cosmwasm.Unanswered([]byte(text), r))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func FuzzInterface(f *testing.F) {
	for _, e := range examples(f) {
		f.Add([]byte(e.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, k := range kinds {
			checkStable(t, k, data)
		}
	})
}

// FuzzRaw: JSON that another reads is taken if it is JSON, and its compact form says
// the same.
func FuzzRaw(f *testing.F) {
	for _, e := range examples(f) {
		f.Add([]byte(e.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := cosmwasm.ParseRaw(data)
		if err != nil {
			return
		}
		var want, got any
		if err := json.Unmarshal(data, &want); err != nil {
			if strings.Contains(err.Error(), "number") { // beyond a float
				return
			}
			t.Fatalf("%q is taken: %v", data, err)
		}
		if err := json.Unmarshal([]byte(r.String()), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: %s (%v)", data, r, err)
		}
		if again, err := cosmwasm.ParseRaw([]byte(r.String())); err != nil || again != r {
			t.Fatalf("%q: %s, then %s (%v)", data, r, again, err)
		}
	})
}
