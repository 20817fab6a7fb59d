package execution_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// agreement is the template of a service agreement, on the machine, on a chain with
// settlement.
type agreement struct {
	*world
	at                        chain.Address
	client, provider, arbiter key
}

// eventOf is the first event of a type.
func eventOf[T chain.Event](w *world, events chain.Events) T {
	w.Helper()
	for _, e := range events {
		if found, ok := e.(T); ok {
			return found
		}
	}
	w.Fatalf("no %T among %+v", *new(T), events)
	return *new(T)
}

func newAgreement(t *testing.T) *agreement {
	t.Helper()
	machine, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	module, err := os.ReadFile("../../smart-contracts/templates/service/service.wasm")
	if err != nil {
		t.Fatal(err)
	}
	a := &agreement{world: newWorld(t), client: keyOf(26), provider: keyOf(27), arbiter: keyOf(28)}
	a.x = execution.New(genesis(), a.proofs, machine)
	a.accept(a.tx(a.client, chain.StoreCode{Checksum: sha256.Sum256(module), Size: uint64(len(module)), Part: module}))
	for range contract.CallableAfter {
		a.block(1_000)
	}
	return a.again()
}

// again is another agreement of the same chain, with the parties as they are.
func (a *agreement) again() *agreement {
	a.Helper()
	b := *a
	terms := fmt.Sprintf(`{"client":%q,"provider":%q,"arbiter":%q,"sla":{"due":3600,"grace":0,"late_every":60,"late_permille":100},`+
		`"dispute":60,"ruling":60,"node":{"id":%q,"min_bond":"1","min_score":500000}}`, b.client.address(), b.provider.address(), b.arbiter.address(), nodeA.Public())
	events := b.accept(b.tx(b.client, chain.InstantiateContract{Code: 1, Label: "agreement", Msg: []byte(terms), MaxDeposit: chain.Hyper(1)}))
	b.at = eventOf[chain.ContractInstantiated](b.world, events).Contract
	return &b
}

// does calls the agreement with so many HYPER.
func (a *agreement) does(from key, funds uint64, format string, args ...any) chain.Receipt {
	a.Helper()
	msg := fmt.Appendf(nil, format, args...)
	return a.block(1_000, a.tx(from, chain.ExecuteContract{Contract: a.at, Msg: msg, Funds: chain.Hyper(funds), MaxDeposit: chain.Hyper(1)})).Receipts.Txs[0]
}

func (a *agreement) must(from key, funds uint64, format string, args ...any) chain.Events {
	a.Helper()
	r := a.does(from, funds, format, args...)
	if !r.Accepted() {
		a.Fatalf(format+": %s", append(args, r.Rejection)...)
	}
	return r.Events
}

func (a *agreement) refused(want string, r chain.Receipt) {
	a.Helper()
	if r.Accepted() || !strings.HasSuffix(r.Rejection, ": "+want) {
		a.Errorf("refused with %q, want %q", r.Rejection, want)
	}
}

// task is a task of 10 HYPER with a stake of 2, which the provider has accepted.
func (a *agreement) task(evidence string) {
	a.Helper()
	a.must(a.client, 10, `{"offer":{"evidence":%s,"stake":"2000000000"}}`, evidence)
	a.must(a.provider, 2, `{"accept":{"task":%d}}`, len(a.tasks()))
}

// taskState is a task, and what a proof of it is bound to.
type taskState struct {
	State string `json:"state"`
	Bind  string `json:"bind"`
}

func (a *agreement) tasks() []taskState {
	a.Helper()
	answer, _, why, err := a.x.AskContract(a.Context(), a.state, a.at, []byte(`{"tasks":{}}`))
	if why != nil || err != nil {
		a.Fatal(why, err)
	}
	var list struct {
		Tasks []taskState `json:"tasks"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		a.Fatal(err)
	}
	return list.Tasks
}

// TestAgreementPaysForVerifiedResults: money goes against what settlement has verified,
// and against nothing else.
func TestAgreementPaysForVerifiedResults(t *testing.T) {
	a := newAgreement(t)
	a.must(a.client, 10, `{"offer":{"evidence":{"word":{}},"stake":"0"}}`)
	a.refused("the node is not the provider's", a.does(a.provider, 0, `{"accept":{"task":1}}`))
	a.provider = ownerA // whose the node will be
	b := a.again()
	b.register()
	proven, attestedOnly, other := b.claim(multiply, 1, nodeA), b.claim(attested, 2, nodeA), b.claim(multiply, 3, nodeA)
	b.task(fmt.Sprintf(`{"order":{"id":%q,"result":%q}}`, proven.Order.ID(), proven.Receipt.Result))
	b.task(fmt.Sprintf(`{"order":{"id":%q}}`, attestedOnly.Order.ID()))
	b.task(fmt.Sprintf(`{"order":{"id":%q,"result":%q}}`, other.Order.ID(), crypto.Digest{9}))
	b.refused("the order has no claim", b.does(b.provider, 0, `{"deliver":{"task":1}}`))
	b.accept(b.tx(consumer, chain.Settle{Claims: chain.Claims{proven, attestedOnly, other}}))
	const none = "no result of the order is paid, verified and as agreed"
	b.refused(none, b.does(b.provider, 0, `{"deliver":{"task":2}}`))
	b.refused(none, b.does(b.provider, 0, `{"deliver":{"task":3}}`))
	before := b.has(b.provider.address())
	b.must(b.provider, 0, `{"deliver":{"task":1}}`)
	gained, ok := b.has(b.provider.address()).Sub(before)
	if !ok || gained.Nano() > 12e9 || gained.Nano() < 11.9e9 || b.has(b.at) != chain.Hyper(24) {
		t.Errorf("the provider has %s more, the agreement %s", gained, b.has(b.at))
	}
	b.refused("the task is paid", b.does(b.provider, 0, `{"deliver":{"task":1}}`))
	// A proof that is shown to the contract itself, for this task alone.
	for range 2 {
		b.task(fmt.Sprintf(`{"proof":{"kernel":"matmul-4","inputs":["%064x"]}}`, 3))
	}
	proof := func(task int) string {
		bind, err := crypto.ParseDigest(b.tasks()[task-1].Bind)
		if err != nil {
			t.Fatal(err)
		}
		s := zk.Statement{Kernel: "matmul-4", VerifyingKey: kernel.VerifyingKey, Inputs: []zk.Field{{31: 3}}, Output: []zk.Field{{31: 9}}, Bind: zk.Field(bind)}
		digest := s.Digest()
		return base64.StdEncoding.EncodeToString(digest[:])
	}
	const deliver = `{"deliver":{"task":%d,"outputs":["%064x"],"proof":%q}}`
	b.refused("the proof does not hold", b.does(b.provider, 0, deliver, 4, 9, proof(5)))
	b.refused("the proof does not hold", b.does(b.provider, 0, deliver, 4, 8, proof(4)))
	b.must(b.provider, 0, deliver, 4, 9, proof(4))
	if b.has(b.at) != chain.Hyper(36) {
		t.Errorf("the agreement has %s", b.has(b.at))
	}
	if got := b.tasks(); got[0].State != "paid" || got[1].State != "accepted" || got[3].State != "paid" || got[4].State != "accepted" {
		t.Errorf("the tasks are %+v", got)
	}
}

// TestAgreementRents: a channel out of the agreement's money, and back what is left of it.
func TestAgreementRents(t *testing.T) {
	a := newAgreement(t)
	a.provider = ownerA
	a = a.again()
	a.register()
	a.task(`{"word":{}}`)
	opened := eventOf[chain.ChannelChanged](a.world, a.must(a.client, 5, `{"rent":{"signer":%q,"nonce":1,"window_ms":60000}}`, a.client.Public()))
	if opened.Payer != a.at || opened.Payee != a.provider.address() || a.has(a.at) != chain.Hyper(12) {
		t.Errorf("the channel is %+v, the agreement has %s", opened, a.has(a.at))
	}
	a.refused("only the client may", a.does(a.provider, 0, `{"end_rent":{"channel":%q}}`, opened.Channel))
	a.must(a.client, 0, `{"end_rent":{"channel":%q}}`, opened.Channel)
	a.refused("there is nothing to collect", a.does(a.client, 0, `{"collect":{}}`))
	for range 70 { // the window is of the chain's progress
		a.block(1_000)
	}
	if a.has(a.at) != chain.Hyper(17) {
		t.Errorf("after the window the agreement has %s", a.has(a.at))
	}
	a.must(a.client, 0, `{"collect":{}}`)
	if a.has(a.at) != chain.Hyper(12) {
		t.Errorf("the agreement has %s", a.has(a.at))
	}
}
