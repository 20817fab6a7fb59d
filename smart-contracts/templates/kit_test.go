package templates_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	onchain "github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

// readByTheChain returns the names of the custom messages, or questions, that the chain reads: those of the cases of the method
// that reads them.
func readByTheChain(t *testing.T, method string) (names []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../contract/host.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != method {
			continue
		}
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if e, ok := n.(*ast.BinaryExpr); ok && e.Op == token.EQL {
				if literal, ok := e.Y.(*ast.BasicLit); ok {
					name, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, name)
				}
			}
			return true
		})
	}
	return names
}

// probing is the kit's probe on a chain whose messages and questions of its own a stand-in hears, and answers.
type probing struct {
	*contract
	messages  []any
	questions []onchain.Question
	answer    any
}

func newProbing(t *testing.T) *probing {
	t.Helper()
	p := &probing{}
	p.contract = deploy(t, "counter", harness.Custom{
		Message: func(_ harness.Address, m any) (bool, string) {
			p.messages = append(p.messages, m)
			return true, ""
		},
		Query: func(q onchain.Question) any {
			p.questions = append(p.questions, q)
			return p.answer
		},
	})
	module, err := os.ReadFile("../../sdk/assembly/testdata/probe/probe.wasm")
	if err != nil {
		t.Fatal(err)
	}
	p.schema = nil // the counter's
	p.at = p.made(t, "probe", p.store(t, module), "{}", harness.Making{})
	return p
}

// TestKitHasAllMessagesOfTheChain: each custom message that the chain reads the kit has a function for, and the chain
// reads what that writes.
func TestKitHasAllMessagesOfTheChain(t *testing.T) {
	key := func(two string) (k crypto.Digest) {
		k, err := crypto.ParseDigest(strings.Repeat(two, 32))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	five := chain.Nano(5)
	want := map[string]any{
		"deposit":       chain.Deposit{Cluster: crypto.PublicKey(key("aa")), Amount: five},
		"withdraw":      chain.Withdraw{Cluster: crypto.PublicKey(key("aa")), Amount: five},
		"open_channel":  chain.OpenChannel{Payee: account("bob").Address(), Nonce: 1<<64 - 1, Signer: crypto.PublicKey(key("cc")), Amount: five, WindowMs: 60_000},
		"fund_channel":  chain.FundChannel{Channel: key("dd"), Amount: five},
		"close_channel": chain.CloseChannel{Channel: key("dd")},
		"extend_lease":  chain.ExtendLease{Lease: chain.LeaseID{Node: crypto.PublicKey(key("ee")), Order: key("ff")}, Amount: five},
	}
	names := readByTheChain(t, "message")
	if got := slices.Sorted(maps.Keys(want)); !slices.Equal(got, slices.Sorted(slices.Values(names))) {
		t.Errorf("the chain reads %s, the test knows %s", names, got)
	}
	p := newProbing(t)
	for _, name := range names {
		p.messages = nil
		if _, refusal := p.execute(t, "alice", fmt.Sprintf(`{"compute":{"send":%q,"who":"@bob"}}`, name)); refusal != "" {
			t.Errorf("%s: %s", name, refusal)
		} else if !reflect.DeepEqual(p.messages, []any{want[name]}) {
			t.Errorf("%s is read as %+v, want %+v", name, p.messages, want[name])
		}
	}
}

// told is each answer of the chain, in which no field is as if it were left out, and how the probe writes it.
func told() map[string]struct {
	question onchain.Question
	answer   any
	want     string
} {
	type row = struct {
		question onchain.Question
		answer   any
		want     string
	}
	two := func(b byte) (d [32]byte) {
		for i := range d {
			d[i] = b
		}
		return d
	}
	text := func(b byte) string { return strings.Repeat(fmt.Sprintf("%02x", b), 32) }
	bob, aa := account("bob").Address(), crypto.PublicKey(two(0xaa))
	return map[string]row{
		"escrow": {onchain.AskEscrow{Consumer: bob, Cluster: aa}, onchain.EscrowAnswer{Balance: "7"}, `"7"`},
		"order": {
			onchain.AskOrder{Order: two(0xaa)},
			onchain.OrderAnswer{Order: &onchain.OrderState{
				Consumer: bob, Cluster: two(1), Policy: "none", MaxCost: "5", Spent: "4", Deadline: "9", Closed: true,
				Claims: []onchain.ClaimState{{Node: two(2), Provider: bob, Sequence: "1", Result: two(3), Exit: "ok", Settled: true, Verified: true, Cost: "3"}},
			}},
			fmt.Sprintf(`["@bob",%q,"none","5","4",9,true,[%q,"@bob",1,%q,"ok",true,true,"3"]]`, text(1), text(2), text(3)),
		},
		"lease": {
			onchain.AskLease{Lease: chain.LeaseID{Node: two(0xee), Order: two(0xff)}},
			onchain.LeaseAnswer{Lease: &onchain.LeaseState{
				Consumer: bob, Provider: account("dave").Address(), Cluster: two(1), Terms: two(2), Rate: "18446744073709551615", Held: "5", PaidTo: "7", Expires: "9", Closing: true,
			}},
			fmt.Sprintf(`["@bob","@dave",%q,%q,18446744073709551615,"5",7,9,true]`, text(1), text(2)),
		},
		"node": {onchain.AskNode{Node: aa}, onchain.NodeAnswer{Node: &onchain.NodeState{Owner: bob, Bond: "5", Score: "500000"}}, `["@bob","5",500000]`},
		"verify_proof": {
			onchain.AskProof{
				Kernel: "matmul-4", Inputs: []chain.FieldBytes{two(10), two(11)}, Outputs: []chain.FieldBytes{two(12)}, Bind: two(13), Proof: []byte("pay"),
			},
			onchain.ProofAnswer{Valid: true}, "true",
		},
	}
}

// TestKitHasAllQuestionsOfTheChain: each question that the chain answers the kit asks, as the chain reads it, and of the answer it
// reads every field.
func TestKitHasAllQuestionsOfTheChain(t *testing.T) {
	rows, names := told(), readByTheChain(t, "question")
	if got := slices.Sorted(maps.Keys(rows)); !slices.Equal(got, slices.Sorted(slices.Values(names))) {
		t.Errorf("the chain answers %s, the test knows %s", names, got)
	}
	p := newProbing(t)
	for _, name := range names {
		row := rows[name]
		p.answer, p.questions = row.answer, nil
		ask := fmt.Sprintf(`{"chain":{"ask":%q,"who":"@bob"}}`, name)
		if got := p.query(t, ask); got != row.want {
			t.Errorf("%s: %s, want %s", name, got, row.want)
		}
		if !reflect.DeepEqual(p.questions, []onchain.Question{row.question}) {
			t.Errorf("%s is read as %+v, want %+v", name, p.questions, row.question)
		}
		text, err := json.Marshal(row.answer)
		if err != nil {
			t.Fatal(err)
		}
		for field, without := range lacking(t, text) {
			p.answer = without
			if field == name { // null: there is none
				continue
			}
			if got := p.query(t, ask); !strings.HasSuffix(got, "JSON: no field "+field) {
				t.Errorf("%s without %s: %s", name, field, got)
			}
		}
	}
}

// lacking returns a JSON text without one field, for each field that there is in it.
func lacking(t *testing.T, text []byte) map[string]json.RawMessage {
	t.Helper()
	out := map[string]json.RawMessage{}
	var without func(v any, whole any)
	written := func(whole any) json.RawMessage {
		data, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	without = func(v, whole any) {
		switch v := v.(type) {
		case map[string]any:
			for field, value := range maps.Clone(v) { // order-free: each by itself
				delete(v, field)
				if out[field] != nil {
					t.Fatalf("two fields are called %s", field)
				}
				out[field] = written(whole)
				v[field] = value
				without(value, whole)
			}
		case []any:
			for _, one := range v {
				without(one, whole)
			}
		}
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	without(whole, whole)
	return out
}
