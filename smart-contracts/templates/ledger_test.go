package templates_test

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	onchain "github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
	"github.com/hypermesh/hypermesh/tokens"
)

// ledger is a chain of accounts and contracts, which runs them on the machine. A text
// names its accounts by @, as in @alice.
type ledger struct {
	testing.TB
	state *state.Overlay
	env   onchain.Env
	codes uint64
	names *strings.Replacer
}

var people = []string{"alice", "bob", "carol", "dave", "erin"}

// began is what each of them has at first.
const began = 1_000_000_000_000

func account(name string) chain.Address { return chain.ModuleAddress(name) }

func newLedger(t testing.TB, host onchain.Host) *ledger {
	t.Helper()
	machine, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	prices := onchain.PricesV1()
	prices.Read, prices.ReadByte, prices.Write, prices.Insert, prices.WriteByte = 800, 1, 1_000, 800, 4
	l := &ledger{TB: t, state: state.NewOverlay(state.NewMemoryBackend())}
	l.env = onchain.Env{ChainID: "hyper-test", Height: 1, Now: 1_790_000_000_000, Payer: account("payer"), Prices: prices, VM: machine, Host: host}
	var names []string
	for _, name := range append([]string{"payer"}, people...) {
		tokens.Credit(l.state, account(name), chain.Nano(began))
		tokens.Mint(l.state, chain.Nano(began))
		names = append(names, "@"+name, account(name).String())
	}
	l.names = strings.NewReplacer(names...)
	return l
}

// text puts addresses in place of names, and of @it that of a contract.
func (l *ledger) text(it chain.Address, msg string) string {
	return l.names.Replace(strings.ReplaceAll(msg, "@it", it.String()))
}

func (l *ledger) do(from string, m any) onchain.Result {
	layer := state.NewOverlay(l.state)
	did := onchain.Do(layer, &l.env, account(from), m, 60_000_000)
	if did.Why == nil {
		layer.Flush(l.state)
	}
	return did
}

// store puts code on the chain, waits until it runs, and returns its number.
func (l *ledger) store(code []byte) uint64 {
	l.Helper()
	if did := l.do("payer", chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}); did.Why != nil {
		l.Fatal(did.Why.Reason())
	}
	l.env.Height += onchain.CallableAfter
	l.codes++
	return l.codes
}

func (l *ledger) template(name string) uint64 {
	l.Helper()
	module, err := templates.Module(name)
	if err != nil {
		l.Fatal(err)
	}
	return l.store(module)
}

// making is a contract to be.
type making struct {
	code  uint64
	msg   string
	funds uint64
	admin *chain.Address
}

// begin makes a contract, or says why there is none.
func (l *ledger) begin(from string, m making) (at chain.Address, refusal string) {
	l.Helper()
	did := l.do(from, chain.InstantiateContract{Code: m.code, Label: "test", Msg: []byte(l.text(at, m.msg)), Funds: chain.Nano(m.funds), Admin: m.admin})
	if did.Why != nil {
		return at, did.Why.Reason()
	}
	for _, e := range did.Events {
		if made, ok := e.(chain.ContractInstantiated); ok {
			return made.Contract, ""
		}
	}
	l.Fatal("no contract was made")
	return at, ""
}

func (l *ledger) made(from string, m making) chain.Address {
	l.Helper()
	at, refusal := l.begin(from, m)
	if refusal != "" {
		l.Fatalf("%s: %s", m.msg, refusal)
	}
	return at
}

// call calls a contract, and says why it was refused.
func (l *ledger) call(from string, it chain.Address, msg string, funds uint64) (chain.Events, string) {
	l.Helper()
	did := l.do(from, chain.ExecuteContract{Contract: it, Msg: []byte(l.text(it, msg)), Funds: chain.Nano(funds)})
	if did.Why != nil {
		return nil, did.Why.Reason()
	}
	return did.Events, ""
}

func (l *ledger) must(from string, it chain.Address, msg string, funds uint64) chain.Events {
	l.Helper()
	events, refusal := l.call(from, it, msg, funds)
	if refusal != "" {
		l.Fatalf("%s: %s: %s", from, msg, refusal)
	}
	return events
}

// refused calls what is refused, for a reason that ends so.
func (l *ledger) refused(from string, it chain.Address, msg, want string) {
	l.Helper()
	if _, refusal := l.call(from, it, msg, 0); !strings.HasSuffix(refusal, ": "+want) {
		l.Errorf("%s: %s: refused with %q, want %q", from, msg, refusal, want)
	}
}

// asked returns an answer.
func (l *ledger) asked(it chain.Address, msg string) string {
	l.Helper()
	answer, _, why := onchain.Ask(l.state, &l.env, it, []byte(l.text(it, msg)), 60_000_000)
	if why != nil {
		return why.Reason()
	}
	return string(answer)
}

// answers holds an answer against what it should be.
func (l *ledger) answers(it chain.Address, msg, want string) {
	l.Helper()
	if got := l.asked(it, msg); got != l.text(it, want) {
		l.Errorf("%s answers %s, want %s", msg, got, l.text(it, want))
	}
}

func (l *ledger) wait(seconds uint64) {
	l.env.Now += chain.TimeMs(seconds * 1_000)
	l.env.Height++
}

// nanos is the time as contracts see it.
func (l *ledger) nanos() uint64 { return uint64(l.env.Now) * 1_000_000 }

func (l *ledger) has(a chain.Address) uint64 { return tokens.AccountOf(l.state, a).Balance.Nano() }

// audit counts the money: nothing came or went.
func (l *ledger) audit() {
	l.Helper()
	supply := tokens.SupplyOf(l.state)
	var held uint64
	for key, value := range l.state.Iterate([]byte{0}, nil) {
		switch key[0] {
		case tokens.Prefix:
			_, a := tokens.ValueOf(key, value)
			held += a.Nano()
		case onchain.Prefix:
			_, a := onchain.ValueOf(key, value)
			held += a.Nano()
		}
	}
	if want := supply.Minted.Nano() - supply.Burned.Nano(); held != want {
		l.Fatalf("there is %d, want %d", held, want)
	}
}

// said returns what a contract said in an attribute, of the first event that has it.
func said(events chain.Events, key string) string {
	for _, e := range events {
		if emitted, ok := e.(chain.ContractEmitted); ok {
			for _, a := range emitted.Attributes {
				if a.Key == key {
					return a.Value
				}
			}
		}
	}
	return ""
}

func base64Of(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
