package contract_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/smart-contracts/contract"
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
		m, err := contract.DecodeMessage(data)
		return after(m, err, contract.EncodeMessage)
	},
	"query": func(data []byte) (any, []byte, error) {
		q, err := contract.DecodeQuery(data)
		return after(q, err, contract.EncodeQuery)
	},
	"answer": func(data []byte) (any, []byte, error) {
		a, err := contract.DecodeAnswer(data)
		return after(a, err, contract.EncodeAnswer)
	},
	"queryanswer": func(data []byte) (any, []byte, error) {
		a, err := contract.DecodeQueryAnswer(data)
		return after(a, err, contract.EncodeQueryAnswer)
	},
	"reached": func(data []byte) (any, []byte, error) {
		r, err := contract.DecodeReached(data)
		return after(r, err, contract.EncodeReached)
	},
	"env":         coded(contract.Decode[contract.Env], contract.Encode[contract.Env]),
	"info":        coded(contract.Decode[contract.MessageInfo], contract.Encode[contract.MessageInfo]),
	"migrateinfo": coded(contract.Decode[contract.MigrateInfo], contract.Encode[contract.MigrateInfo]),
	"reply":       coded(contract.Decode[contract.Reply], contract.Encode[contract.Reply]),

	"supply":              coded(contract.Decode[contract.SupplyAnswer], contract.Encode[contract.SupplyAnswer]),
	"balances":            coded(contract.Decode[contract.BalancesAnswer], contract.Encode[contract.BalancesAnswer]),
	"metadata":            coded(contract.Decode[contract.MetadataAnswer], contract.Encode[contract.MetadataAnswer]),
	"allmetadata":         coded(contract.Decode[contract.AllMetadataAnswer], contract.Encode[contract.AllMetadataAnswer]),
	"bondeddenom":         coded(contract.Decode[contract.BondedDenomAnswer], contract.Encode[contract.BondedDenomAnswer]),
	"validators":          coded(contract.Decode[contract.ValidatorsAnswer], contract.Encode[contract.ValidatorsAnswer]),
	"validator":           coded(contract.Decode[contract.ValidatorAnswer], contract.Encode[contract.ValidatorAnswer]),
	"delegations":         coded(contract.Decode[contract.DelegationsAnswer], contract.Encode[contract.DelegationsAnswer]),
	"delegation":          coded(contract.Decode[contract.DelegationAnswer], contract.Encode[contract.DelegationAnswer]),
	"withdrawaddress":     coded(contract.Decode[contract.WithdrawAddressAnswer], contract.Encode[contract.WithdrawAddressAnswer]),
	"rewards":             coded(contract.Decode[contract.RewardsAnswer], contract.Encode[contract.RewardsAnswer]),
	"totalrewards":        coded(contract.Decode[contract.TotalRewardsAnswer], contract.Encode[contract.TotalRewardsAnswer]),
	"delegatorvalidators": coded(contract.Decode[contract.DelegatorValidatorsAnswer], contract.Encode[contract.DelegatorValidatorsAnswer]),
	"contractinfo":        coded(contract.Decode[contract.ContractInfoAnswer], contract.Encode[contract.ContractInfoAnswer]),
	"codeinfo":            coded(contract.Decode[contract.CodeInfoAnswer], contract.Encode[contract.CodeInfoAnswer]),
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
		if r, ok := errors.AsType[*contract.Refusal](err); !ok || r.Rule == "" || r.Detail == "" {
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
			contract.Instantiate{Admin: &admin, Code: 7, Msg: []byte("{}"), Funds: []contract.Coin{{Denom: "hyper", Amount: contract.Uint128Of(3)}}, Label: "😀é/"}},
		{"message", `{"wasm":{"instantiate":{"label":"","code_id":0,"funds":[],"msg":""}}}`, contract.Instantiate{Msg: []byte{}}},
		{"message", `{"gov":{"vote":{"proposal_id":1,"vote":"abstain"}}}`, contract.Vote{Proposal: 1, Option: contract.VoteAbstain}},
		{"message", `{"wasm":{"clear_admin":{"contract_addr":"token","later":{"a":[{"b":null}]},"more":1e9}}}`, contract.ClearAdmin{Contract: "token"}},
		{"answer", `{"ok":{"messages":[{"id":1,"msg":{"bank":{"burn":{"amount":[]}}},"reply_on":"success","gas_limit":5}],"attributes":[],"events":[]}}`,
			contract.Response{Messages: []contract.SubMsg{{ID: 1, Msg: contract.BankBurn{}, GasLimit: &limit, ReplyOn: contract.ReplySuccess}}}},
		{"reply", `{"id":1,"gas_used":2,"result":{"ok":{"events":[],"data":null}}}`, contract.Reply{ID: 1, GasUsed: 2, Result: contract.SubResponse{}}},
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
		_, err := contract.DecodeQuery([]byte(text))
		r, ok := errors.AsType[*contract.Refusal](err)
		if !ok {
			t.Fatalf("%s: %v", text, err)
		}
		if got := string(contract.EncodeReached(contract.Unanswered([]byte(text), r))); got != want {
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
		r, err := contract.ParseRaw(data)
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
		if again, err := contract.ParseRaw([]byte(r.String())); err != nil || again != r {
			t.Fatalf("%q: %s, then %s (%v)", data, r, again, err)
		}
	})
}
