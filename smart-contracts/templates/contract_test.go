package templates_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// contract is a template on a chain of its own. Texts name accounts by @, as in @alice, and the
// contract itself as @it.
type contract struct {
	*harness.Harness
	code   uint64
	at     harness.Address
	gas    uint64            // that the last call used
	others map[string]string // addresses of contracts, by name
	schema *schema.Schema    // that calls are held to; nil: none

	rejection string // of the last call, as the receipt has it; empty: it took effect
}

// began is when the chains of the tests begin. A block is a millisecond, so that what is
// counted in seconds goes by only where a test says so.
var began = time.Unix(1_700_000_000, 0)

// machine runs the contracts of all tests, so that each template is compiled once.
var machine = sync.OnceValues(func() (*vm.Machine, error) { return vm.New(vm.Config{}) })

// people are the accounts, whose addresses have the order of the names.
var people = sync.OnceValue(func() map[string]harness.Account {
	names := []string{"ada", "alice", "ann", "anyone", "art", "bob", "carl", "carol", "dave", "erin", "ivy", "mint", "ned", "owner", "will"}
	for i := range 16 {
		names = append(names, fmt.Sprintf("user%02d", i))
	}
	slices.Sort(names)
	accounts := make([]harness.Account, len(names))
	for i := range names {
		accounts[i] = harness.AccountOf(fmt.Sprint("template ", i))
	}
	slices.SortFunc(accounts, func(a, b harness.Account) int { return strings.Compare(a.String(), b.String()) })
	out := map[string]harness.Account{}
	for i, name := range names {
		out[name] = accounts[i]
	}
	return out
})

func account(name string) harness.Account {
	a, ok := people()[name]
	if !ok {
		panic("there is nobody of the name " + name)
	}
	return a
}

// deploy stores a template, on a chain where some answers may be a stand-in's.
func deploy(t *testing.T, name string, custom ...harness.Custom) *contract {
	t.Helper()
	config := harness.Config{}
	for _, c := range custom {
		config.Custom = c
	}
	return deployOn(t, name, config)
}

// deployOn stores a template on a chain of its own, which is what a config says beside machine and time.
func deployOn(t *testing.T, name string, config harness.Config) *contract {
	t.Helper()
	m, err := machine()
	if err != nil {
		t.Fatal(err)
	}
	config.Machine, config.Start, config.BlockTime = m, began, time.Millisecond
	h, err := harness.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	module, _ := load(t, name)
	s, err := schema.Of(module)
	if err != nil {
		t.Fatal(err)
	}
	c := &contract{Harness: h, others: map[string]string{}, schema: s}
	c.code = c.store(t, module)
	return c
}

func (c *contract) store(t *testing.T, module []byte) uint64 {
	t.Helper()
	code, err := c.Store(module)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// made makes another contract, that texts name as an account.
func (c *contract) made(t *testing.T, name string, code uint64, msg string, how harness.Making) harness.Address {
	t.Helper()
	r, err := c.Instantiate(c.Treasury(), code, c.text(msg), how)
	if err != nil {
		t.Fatalf("%s: %v", msg, err)
	}
	c.others[name] = r.Contract.String()
	return r.Contract
}

// fund gives accounts so much each.
func (c *contract) fund(t *testing.T, nano uint64, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := c.Fund(account(name).Address(), nano); err != nil {
			t.Fatal(err)
		}
	}
}

// has returns what an account has, or the contract: "it".
func (c *contract) has(name string) uint64 {
	if name == "it" {
		return c.Balance(c.at)
	}
	return c.Balance(account(name).Address())
}

// now is the last block's time in nanoseconds, and next that of the block in which the next call will be.
func (c *contract) now() uint64 { return uint64(c.Time().UnixNano()) }

func (c *contract) next() uint64 { return c.now() + uint64(time.Millisecond) }

// seconds is the next call's time in whole seconds.
func (c *contract) seconds() uint64 { return c.next() / 1e9 }

// script makes another contract, of Go, that texts name as an account.
func (c *contract) script(t *testing.T, name string, s harness.Script) harness.Address {
	t.Helper()
	code, err := c.StoreScript(s)
	if err != nil {
		t.Fatal(err)
	}
	return c.made(t, name, code, "{}", harness.Making{})
}

var named = regexp.MustCompile("@[a-z0-9]+")

// text puts addresses in place of names.
func (c *contract) text(s string) string {
	return named.ReplaceAllStringFunc(s, func(name string) string {
		if address, ok := c.others[name[1:]]; ok {
			return address
		}
		return account(name[1:]).String()
	})
}

// names puts names in place of addresses.
func (c *contract) names(s string) string {
	for name, address := range maps.All(c.others) { // order-free: no address is within another
		s = strings.ReplaceAll(s, address, "@"+name)
	}
	for name, a := range people() { // order-free: the same
		s = strings.ReplaceAll(s, a.String(), "@"+name)
	}
	return s
}

// inOrder is a list of names in the order of their addresses, as JSON.
func (c *contract) inOrder(names ...string) string {
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(c.text(a), c.text(b)) })
	return `["` + strings.Join(names, `","`) + `"]`
}

// answer is what the template answered to a call, with names, or why it was refused.
func (c *contract) answer(t *testing.T, r *harness.Result, err error) (cosmwasm.Response, string) {
	t.Helper()
	if refused, ok := errors.AsType[*harness.Refused](err); ok {
		c.gas, c.rejection = refused.Gas, refused.Text
		return cosmwasm.Response{}, c.names(refused.Words)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.gas, c.rejection = r.Gas, ""
	call := r.Calls[0]
	call.Answer = []byte(c.names(string(call.Answer)))
	response, err := call.Response()
	if err != nil {
		t.Fatal(err)
	}
	return response, ""
}

// told holds a contract to its schema: what it takes is what the schema takes, and what it refuses for
// its form is not.
func (c *contract) told(t *testing.T, entry, msg, refusal string) {
	t.Helper()
	if c.schema == nil {
		return
	}
	switch err := c.schema.Check(entry, []byte(c.text(msg))); {
	case refusal == "" && err != nil:
		t.Errorf("%s takes %s, and the schema does not: %v", entry, msg, err)
	case err == nil && strings.HasPrefix(refusal, "JSON: ") && refusal != "JSON: an escape in a name":
		t.Errorf("the schema takes %s, and %s does not: %s", msg, entry, refusal)
	}
}

// stateful is the contract without its schema, for a message whose form depends on what the contract has, or that has
// another within it.
func (c *contract) stateful() *contract {
	out := *c
	out.schema = nil
	return &out
}

func (c *contract) instantiate(t *testing.T, sender, msg string, funds ...uint64) (cosmwasm.Response, string) {
	t.Helper()
	how := harness.Making{}
	for _, nano := range funds {
		how.Funds += nano
	}
	r, err := c.Instantiate(account(sender), c.code, c.text(msg), how)
	if err == nil {
		c.at = r.Contract
		c.others["it"] = c.at.String()
	}
	response, refusal := c.answer(t, r, err)
	c.told(t, "instantiate", msg, refusal)
	return response, refusal
}

func (c *contract) execute(t *testing.T, sender, msg string, funds ...uint64) (cosmwasm.Response, string) {
	t.Helper()
	r, err := c.Execute(account(sender), c.at, c.text(msg), funds...)
	response, refusal := c.answer(t, r, err)
	c.told(t, "execute", msg, refusal)
	return response, refusal
}

// must executes what is not refused.
func (c *contract) must(t *testing.T, sender, msg string, funds ...uint64) cosmwasm.Response {
	t.Helper()
	response, refusal := c.execute(t, sender, msg, funds...)
	if refusal != "" {
		t.Fatalf("%s: %s: %s", sender, msg, refusal)
	}
	return response
}

// refused executes what is refused, with those words.
func (c *contract) refused(t *testing.T, sender, msg, want string, funds ...uint64) {
	t.Helper()
	if _, refusal := c.execute(t, sender, msg, funds...); refusal != want {
		t.Errorf("%s: %s: refused with %q, want %q", sender, msg, refusal, want)
	}
}

// query returns an answer's JSON, with names, or why there is none.
func (c *contract) query(t *testing.T, msg string) string {
	t.Helper()
	answer, err := c.Query(c.at, c.text(msg))
	if refused, ok := errors.AsType[*harness.Refused](err); ok {
		c.told(t, "query", msg, refused.Words)
		return c.names(refused.Words)
	}
	if err != nil {
		t.Fatal(err)
	}
	c.told(t, "query", msg, "")
	if c.schema != nil {
		if err := c.schema.CheckAnswer(strings.SplitN(msg, `"`, 3)[1], answer.JSON); err != nil {
			t.Errorf("%s answers %s: %v", msg, answer.JSON, err)
		}
	}
	return c.names(string(answer.JSON))
}

// answers holds an answer against what it should be.
func (c *contract) answers(t *testing.T, msg, want string) {
	t.Helper()
	if got := c.query(t, msg); got != c.names(want) {
		t.Errorf("%s answers %s, want %s", msg, got, want)
	}
}

// pass lets time go by: the last block is so much later than it was.
func (c *contract) pass(t *testing.T, d time.Duration) {
	t.Helper()
	if d == 0 {
		return
	}
	if err := c.Pass(d); err != nil {
		t.Fatal(err)
	}
}

// said returns an attribute of an answer, empty if it has none of that name.
func said(r cosmwasm.Response, key string) string {
	for _, a := range r.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// shop is a contract that is sent things.
type shop struct {
	c      *contract
	closed bool
	heard  []string // messages of the template
}

func shopOf(t *testing.T, c *contract) *shop {
	t.Helper()
	s := &shop{c: c}
	c.script(t, "shop", func(scene *harness.Scene) (any, error) {
		switch {
		case scene.Entry != "execute":
		case s.closed:
			return nil, errors.New("the shop is closed")
		case scene.Info.Sender == c.at.String():
			s.heard = append(s.heard, c.names(string(scene.Msg)))
		}
		return nil, nil
	})
	return s
}

// got holds what the shop was told last against what it should be.
func (s *shop) got(t *testing.T, want string) {
	t.Helper()
	if n := len(s.heard); n == 0 || s.heard[n-1] != want {
		t.Errorf("the shop heard %q, want %s", s.heard, want)
	}
}
