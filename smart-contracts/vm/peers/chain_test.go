package peers

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
	"github.com/hypermesh/hypermesh/tokens"
)

// ledger is a chain of nothing but accounts and contracts, which runs them on the machine.
type ledger struct {
	testing.TB
	state *state.Overlay
	env   contract.Env
}

func account(name string) chain.Address { return chain.ModuleAddress(name) }

func newLedger(t testing.TB) *ledger {
	machine, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	p := contract.PricesV1()
	p.Read, p.ReadByte, p.Write, p.Insert, p.WriteByte = 800, 1, 1_000, 800, 4
	l := &ledger{TB: t, state: state.NewOverlay(state.NewMemoryBackend())}
	l.env = contract.Env{ChainID: "hyper-test", Height: 1, Now: 1_790_000_000_000, Payer: account("payer"), Prices: p, VM: machine}
	for _, name := range []string{"alice", "fred", "bob", "mallory", "payer"} {
		tokens.Credit(l.state, account(name), chain.Hyper(100))
		tokens.Mint(l.state, chain.Hyper(100))
	}
	return l
}

func (l *ledger) do(from string, m any) contract.Result {
	switch call := m.(type) {
	case chain.InstantiateContract:
		call.MaxDeposit = chain.Hyper(10)
		m = call
	case chain.ExecuteContract:
		call.MaxDeposit = chain.Hyper(10)
		m = call
	case chain.MigrateContract:
		call.MaxDeposit = chain.Hyper(10)
		m = call
	}
	layer := state.NewOverlay(l.state)
	did := contract.Do(layer, &l.env, account(from), m, 60_000_000)
	if did.Why == nil {
		layer.Flush(l.state)
	}
	return did
}

func (l *ledger) must(from string, m any) chain.Events {
	l.Helper()
	did := l.do(from, m)
	if did.Why != nil {
		l.Fatal(did.Why.Reason())
	}
	return did.Events
}

// stored stores one of CosmWasm's contracts, in as many parts as it takes, and waits until it
// is callable.
func (l *ledger) stored(name string) {
	l.Helper()
	code := wasmOf(l, name)
	for at := 0; at < len(code); at += chain.MaxCodePart {
		part := code[at:min(at+chain.MaxCodePart, len(code))]
		l.must("alice", chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Offset: uint64(at), Part: part})
	}
	if did := l.do("alice", chain.InstantiateContract{Code: 1, Label: "too early", Msg: []byte("{}")}); did.Why == nil || !strings.Contains(did.Why.Reason(), "runs from height") {
		l.Errorf("before its time: %+v", did.Why)
	}
	l.env.Height += contract.CallableAfter
	l.env.ProgressMs += contract.MaxDebtMs
}

func (l *ledger) has(a chain.Address) uint64 { return tokens.AccountOf(l.state, a).Balance.Nano() }

// TestHackatomOnChain: the contract's life, with messages of the chain and HYPER.
func TestHackatomOnChain(t *testing.T) {
	l := newLedger(t)
	l.stored("hackatom.wasm")
	admin := account("alice")
	begin := fmt.Sprintf(`{"verifier":%q,"beneficiary":%q}`, account("fred"), account("bob"))
	made := l.must("alice", chain.InstantiateContract{Code: 1, Admin: &admin, Label: "escrow", Msg: []byte(begin), Funds: chain.Nano(700)})
	hackatom := made[1].(chain.ContractInstantiated).Contract
	if got := l.has(hackatom); got != 700 {
		t.Fatalf("the contract has %d", got)
	}
	ask := func(query string) string {
		answer, _, why := contract.Ask(l.state, &l.env, hackatom, []byte(query), 10_000_000)
		if why != nil {
			return why.Reason()
		}
		return string(answer)
	}
	if got, want := ask(`{"verifier":{}}`), fmt.Sprintf(`{"verifier":%q}`, account("fred")); got != want {
		t.Errorf("the verifier is %s, want %s", got, want)
	}
	if got := ask(fmt.Sprintf(`{"other_balance":{"address":%q}}`, hackatom)); !strings.Contains(got, "700") {
		t.Errorf("its balance is %s", got)
	}
	execute := func(from, msg string) contract.Result {
		return l.do(from, chain.ExecuteContract{Contract: hackatom, Msg: []byte(msg)})
	}
	release := fmt.Sprintf(`{"release":{"denom":%q}}`, contract.Denom)
	if did := execute("mallory", release); did.Why == nil || !strings.Contains(did.Why.Reason(), "Unauthorized") {
		t.Errorf("whoever is not the verifier: %+v", did)
	}
	before := l.has(account("bob"))
	if did := execute("fred", release); did.Why != nil || l.has(account("bob")) != before+700 || l.has(hackatom) != 0 {
		t.Errorf("the verifier: %+v", did)
	}
	l.must("alice", chain.MigrateContract{Contract: hackatom, Code: 1, Msg: fmt.Appendf(nil, `{"verifier":%q}`, account("mallory"))})
	if got := ask(`{"verifier":{}}`); !strings.Contains(got, account("mallory").String()) {
		t.Errorf("after migrating the verifier is %s", got)
	}
	for _, loop := range []string{"cpu_loop", "storage_loop", "memory_loop"} {
		did := execute("mallory", fmt.Sprintf(`{%q:{}}`, loop))
		if did.Why == nil || loop == "cpu_loop" && !did.Spent || did.Gas > 60_000_000 {
			t.Errorf("%s: %+v", loop, did)
		}
		t.Logf("%s: %s, %d gas", loop, did.Why.Reason(), did.Gas)
	}
	if did := execute("mallory", `{"panic":{}}`); did.Why == nil || did.Spent {
		t.Errorf("panic: %+v", did)
	}
	supply := tokens.SupplyOf(l.state)
	var held uint64
	for key, value := range l.state.Iterate([]byte{0}, nil) {
		switch key[0] {
		case tokens.Prefix:
			_, a := tokens.ValueOf(key, value)
			held += a.Nano()
		case contract.Prefix:
			_, a := contract.ValueOf(key, value)
			held += a.Nano()
		}
	}
	if held != supply.Minted.Nano()-supply.Burned.Nano() {
		t.Errorf("there is %d of %d", held, supply.Minted.Nano()-supply.Burned.Nano())
	}
}

// TestQueueOnChain walks over what a contract keeps, in calls and in queries, on the real
// machine, whose imports run in callbacks of its own.
func TestQueueOnChain(t *testing.T) {
	l := newLedger(t)
	l.stored("queue.wasm")
	made := l.must("alice", chain.InstantiateContract{Code: 1, Label: "queue", Msg: []byte("{}")})
	queue := made[0].(chain.ContractInstantiated).Contract
	for _, msg := range []string{`{"enqueue":{"value":17}}`, `{"enqueue":{"value":22}}`, `{"enqueue":{"value":4}}`, `{"dequeue":{}}`} {
		l.must("bob", chain.ExecuteContract{Contract: queue, Msg: []byte(msg)})
	}
	for query, want := range map[string]string{
		`{"count":{}}`:                    `{"count":2}`,
		`{"sum":{}}`:                      `{"sum":26}`,
		`{"reducer":{}}`:                  `{"counters":[[22,0],[4,22]]}`,
		`{"open_iterators":{"count":50}}`: `{}`,
		`{"list":{}}`:                     `{"empty":[],"early":[1,2],"late":[]}`,
	} {
		answer, _, why := contract.Ask(l.state, &l.env, queue, []byte(query), 60_000_000)
		if why != nil || string(answer) != want {
			t.Errorf("%s: %s %v, want %s", query, answer, why, want)
		}
	}
}
