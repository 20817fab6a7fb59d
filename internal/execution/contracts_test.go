package execution_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/tokens"
)

// emptyContract is a module of the contract interface whose functions do nothing.
const emptyContract = "0061736d01000000011a0560017f017f60017f0060000060037f7f7f017f60027f7f017f03090800010203030404040503010001076a0908616c6c6f6361746500000a6465616c6c6f63617465000113696e746572666163655f76657273696f6e5f3800020b696e7374616e74696174650003076578656375746500040571756572790005076d6967726174650006057265706c790007066d656d6f727902000a21080300000b0300000b0300000b0300000b0300000b0300000b0300000b0300000b0b07010041080b0178"

// puppet is a VM whose contracts do what a test says: what they answer to a message, with
// what they reach.
type puppet func(entry meter.Entry, msg string, ask func(query string) string) string

func (p puppet) Run(_ contract.Program, call contract.Call, reach contract.Reach) (contract.Outcome, error) {
	used := uint64(1_000)
	ask := func(query string) string {
		if used > call.Points {
			return ""
		}
		answer, points, err := reach.Query([]byte(query), call.Points-used)
		if err != nil {
			panic(err)
		}
		if used += points; used > call.Points {
			return ""
		}
		var told struct {
			Ok struct{ Ok []byte }
		}
		if err := json.Unmarshal(answer, &told); err != nil {
			panic(err)
		}
		if told.Ok.Ok == nil {
			return string(answer)
		}
		return string(told.Ok.Ok)
	}
	answer := p(call.Entry, string(call.Args[len(call.Args)-1]), ask)
	if used > call.Points {
		return contract.Outcome{End: contract.Spent, Points: call.Points}, nil
	}
	if answer == "" {
		return contract.Outcome{End: contract.Aborted, Points: used}, nil
	}
	return contract.Outcome{End: contract.Returned, Data: []byte(answer), Points: used}, nil
}

const nothing = `{"ok":{"messages":[],"attributes":[],"events":[]}}`

func sending(messages ...string) string {
	for i, m := range messages {
		messages[i] = fmt.Sprintf(`{"id":0,"msg":%s,"gas_limit":null,"reply_on":"never"}`, m)
	}
	return fmt.Sprintf(`{"ok":{"messages":[%s],"attributes":[],"events":[]}}`, strings.Join(messages, ","))
}

// withContract is a world with a contract, and its address.
func withContract(t *testing.T, p puppet) (*world, chain.Address) {
	t.Helper()
	w := newWorld(t)
	w.x = execution.New(genesis(), w.proofs, p)
	code, err := hex.DecodeString(emptyContract)
	if err != nil {
		t.Fatal(err)
	}
	maker := keyOf(25)
	w.accept(w.tx(maker, chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}))
	for range contract.CallableAfter {
		w.block(1_000)
	}
	events := w.accept(w.tx(maker, chain.InstantiateContract{Code: 1, Label: "test", Msg: []byte("begin"), Funds: chain.Hyper(10), MaxDeposit: chain.Hyper(1)}))
	return w, events[1].(chain.ContractInstantiated).Contract
}

// accept executes a transaction, which is accepted, in a block of its own.
func (w *world) accept(tx *chain.VerifiedTx) chain.Events {
	w.Helper()
	receipt := w.block(1_000, tx).Receipts.Txs[0]
	if !receipt.Accepted() {
		w.Fatal(receipt.Rejection)
	}
	return receipt.Events
}

// TestContractsInBlocks: what a contract does is a transaction's: all or nothing, and paid for.
func TestContractsInBlocks(t *testing.T) {
	bob := keyOf(26).address()
	w, address := withContract(t, func(_ meter.Entry, msg string, ask func(string) string) string {
		switch msg {
		case "begin":
			return nothing
		case "pay":
			return sending(fmt.Sprintf(`{"bank":{"send":{"to_address":%q,"amount":[{"denom":"nhyper","amount":"5"}]}}}`, bob))
		case "endless":
			for range 1_000 {
				ask(`{"bank":{"supply":{"denom":"nhyper"}}}`)
			}
			return nothing
		}
		return ""
	})
	from, before := keyOf(27), w.has(bob)
	call := func(msg string) chain.ExecuteContract {
		return chain.ExecuteContract{Contract: address, Msg: []byte(msg), Funds: chain.Hyper(1)}
	}
	w.accept(w.tx(from, call("pay")))
	if got, _ := w.has(bob).Sub(before); got != chain.Nano(5) || w.has(address) != must(chain.Hyper(11).Sub(chain.Nano(5))) {
		t.Fatalf("bob has %s more, the contract %s", got, w.has(address))
	}
	held := w.has(address)
	two := w.block(1_000, w.tx(from, call("pay"), call("fail"))).Receipts.Txs[0]
	if two.Accepted() || !strings.Contains(two.Rejection, "message 1: wasm 5") || w.has(address) != held || len(two.Events) != 0 {
		t.Errorf("a transaction whose second message fails: %+v, the contract has %s", two, w.has(address))
	}
	body := w.body(from, call("pay"), call("endless"))
	body.GasLimit = chain.GasUnits(200_000)
	had, bobHad := w.has(from.address()), w.has(bob)
	spent := w.block(1_000, w.sign(body, from)).Receipts.Txs[0]
	if !strings.Contains(spent.Rejection, "out of gas: limit 200000") || spent.GasUsed != body.GasLimit || w.has(address) != held || w.has(bob) != bobHad || len(spent.Events) != 0 {
		t.Errorf("a transaction without enough gas: %+v", spent)
	}
	if fee := must(spent.Burned.Add(spent.Tip)); fee.IsZero() || must(had.Sub(w.has(from.address()))) != fee {
		t.Errorf("it has paid %s, and lost %s", fee, must(had.Sub(w.has(from.address()))))
	}
	answer, _, why, err := w.x.AskContract(t.Context(), w.state, address, []byte("x"))
	if err != nil || why == nil || !strings.Contains(why.Reason(), "wasm 9") {
		t.Errorf("a query that is aborted: %s, %v, %v", answer, why, err)
	}
}

func must[T any](v T, ok bool) T {
	if !ok {
		panic("it does not fit")
	}
	return v
}

// TestContractsReachSettlement: escrow, channels and the state of orders, nodes and proofs.
func TestContractsReachSettlement(t *testing.T) {
	var said string // what the contract sends, or asks
	var heard []string
	w, address := withContract(t, func(_ meter.Entry, msg string, ask func(string) string) string {
		switch msg {
		case "send":
			return sending(`{"custom":` + said + `}`)
		case "ask":
			heard = append(heard, ask(`{"custom":`+said+`}`))
		}
		return nothing
	})
	from := keyOf(27)
	do := func(what, text string) chain.Receipt {
		said = text
		return w.block(1_000, w.tx(from, chain.ExecuteContract{Contract: address, Msg: []byte(what)})).Receipts.Txs[0]
	}
	ask := func(text string) string {
		t.Helper()
		if r := do("ask", text); !r.Accepted() {
			t.Fatal(r.Rejection)
		}
		return heard[len(heard)-1]
	}
	w.register()
	deposit := fmt.Sprintf(`{"deposit":{"cluster":%q,"amount":"2000000000"}}`, cluster.Public())
	if r := do("send", deposit); !r.Accepted() || settlement.EscrowOf(w.state, address, cluster.Public()).Balance != chain.Hyper(2) || w.has(address) != chain.Hyper(8) {
		t.Errorf("a deposit: %+v", r)
	}
	if got, want := ask(fmt.Sprintf(`{"escrow":{"consumer":%q,"cluster":%q}}`, address, cluster.Public())), `{"balance":"2000000000"}`; got != want {
		t.Errorf("the escrow is %s", got)
	}
	channel := fmt.Sprintf(`{"open_channel":{"payee":%q,"nonce":"1","signer":%q,"amount":"5","window_ms":"60000"}}`, ownerA.address(), nodeA.Public())
	if r := do("send", channel); !r.Accepted() || r.Events[1].(chain.ChannelChanged).Payer != address {
		t.Errorf("a channel: %+v", r)
	}
	for text, says := range map[string]string{
		strings.Replace(deposit, "2000000000", "9000000000", 1):               "hypermesh 3: deposit: ",
		strings.Replace(channel, `"window_ms":"60000"`, `"window_ms":"0"`, 1): "hypermesh 3: open_channel: ",
		strings.Replace(deposit, `"2000000000"`, `2000000000`, 1):             "hypermesh 1: ",
		strings.Replace(deposit, `"amount"`, `"Amount"`, 1):                   "hypermesh 1: ",
		strings.Replace(deposit, `"deposit"`, `"transfer"`, 1):                "hypermesh 1: ",
		strings.Replace(deposit, `"amount"`, `"more":"1","amount"`, 1):        "hypermesh 1: ",
		fmt.Sprintf(`{"fund_channel":{"channel":"%064d","amount":"5"}}`, 0):   "hypermesh 3: fund_channel: ",
	} {
		if r := do("send", text); !strings.Contains(r.Rejection, says) {
			t.Errorf("%s: %+v", text, r)
		}
	}
	if got := ask(fmt.Sprintf(`{"node":{"id":%q}}`, nodeA.Public())); !strings.Contains(got, ownerA.address().String()) || !strings.Contains(got, `"score":"500000"`) {
		t.Errorf("a node is %s", got)
	}
	if got := ask(fmt.Sprintf(`{"node":{"id":%q}}`, cluster.Public())); got != `{"node":null}` {
		t.Errorf("no node is %s", got)
	}
	order := w.claim(multiply, 1, nodeA)
	query := fmt.Sprintf(`{"order":{"id":%q}}`, order.Order.ID())
	if got := ask(query); got != `{"order":null}` {
		t.Errorf("an order without claims is %s", got)
	}
	w.accept(w.tx(consumer, chain.Settle{Claims: chain.Claims{order}}))
	if got := ask(query); !strings.Contains(got, `"settled":true,"verified":true`) || !strings.Contains(got, order.Receipt.Result.String()) || !strings.Contains(got, `"policy":"zk(matmul-4)"`) {
		t.Errorf("a proven order is %s", got)
	}
	if got := ask(`{"nonsense":{}}`); !strings.Contains(got, "unsupported_request") {
		t.Errorf("nonsense is %s", got)
	}
}

// TestContractsPayForLeases: a contract adds to a lease that a person has signed, which then lasts the longer, and is told
// of it until it is over; what is left is the consumer's.
func TestContractsPayForLeases(t *testing.T) {
	var said, heard string
	w, address := withContract(t, func(_ meter.Entry, msg string, ask func(string) string) string {
		switch msg {
		case "send":
			return sending(`{"custom":` + said + `}`)
		case "ask":
			heard = ask(`{"custom":` + said + `}`)
		}
		return nothing
	})
	do := func(what, text string) chain.Receipt {
		said = text
		return w.block(1_000, w.tx(keyOf(27), chain.ExecuteContract{Contract: address, Msg: []byte(what)})).Receipts.Txs[0]
	}
	w.register()
	deal := w.leaseDeal()
	id := chain.LeaseID{Node: deal.Bid.Node, Order: deal.Order.ID()}
	query := fmt.Sprintf(`{"lease":{"node":"%s","order":"%s"}}`, id.Node, id.Order)
	lease := func() (l *contract.LeaseState) {
		t.Helper()
		if r := do("ask", query); !r.Accepted() {
			t.Fatal(r.Rejection)
		}
		var answer contract.LeaseAnswer
		if err := json.Unmarshal([]byte(heard), &answer); err != nil {
			t.Fatalf("%s: %v", heard, err)
		}
		return answer.Lease
	}
	if l := lease(); l != nil {
		t.Errorf("a lease that nobody has opened: %+v", l)
	}
	w.accept(w.tx(consumer, chain.OpenLease{Deal: deal}))
	before := lease()
	if before == nil || before.Consumer != consumer.address() || before.Provider != ownerA.address() || before.Terms != id.Order || before.Held != "1000000000" || before.Closing {
		t.Fatalf("the lease: %s", heard)
	}
	has := w.has(address)
	extend := fmt.Sprintf(`{"extend_lease":{"node":"%s","order":"%s","amount":"%%s"}}`, id.Node, id.Order)
	if r := do("send", fmt.Sprintf(extend, "500000000")); !r.Accepted() {
		t.Fatal(r.Rejection)
	}
	if got, _ := has.Sub(w.has(address)); got != chain.Nano(500_000_000) {
		t.Errorf("the contract has paid %s", got)
	}
	after := lease()
	if after.Held != "1500000000" || after.Expires <= before.Expires || len(after.Expires) != len(before.Expires) {
		t.Errorf("it holds %s until %s, and held %s until %s", after.Held, after.Expires, before.Held, before.Expires)
	}
	for amount, says := range map[string]string{"0": "by nothing", "99000000000": "can spend"} {
		if r := do("send", fmt.Sprintf(extend, amount)); !strings.Contains(r.Rejection, "hypermesh 3: extend_lease: ") || !strings.Contains(r.Rejection, says) {
			t.Errorf("by %s: %+v", amount, r)
		}
	}
	w.accept(w.tx(consumer, chain.CloseLease{Lease: id}))
	if l := lease(); l == nil || !l.Closing {
		t.Errorf("after notice: %s", heard)
	}
	if r := do("send", fmt.Sprintf(extend, "1")); !strings.Contains(r.Rejection, "upon notice") {
		t.Errorf("after notice: %+v", r)
	}
	w.block(deal.Order.Term.NoticeMs)
	if l := lease(); l != nil {
		t.Errorf("a lease that is over: %+v", l)
	}
	if escrow := settlement.EscrowOf(w.state, consumer.address(), cluster.Public()).Balance; !chain.Hyper(50).Less(escrow) {
		t.Errorf("of 51.5 HYPER, less some minutes, the consumer has %s", escrow)
	}
}

// leaseDeal is a lease of a core by nodeA for consumer, which holds a HYPER.
func (w *world) leaseDeal() chain.LeaseDeal {
	order := chain.Order{
		ChainID: testChain, Consumer: consumer.AccountKey(), Nonce: 70, Cluster: cluster.Public(), Spec: crypto.DomainJobSpec.Hash([]byte("spec")),
		Policy: chain.PolicyField{Policy: chain.PolicyNone{}}, Caps: []chain.UnitPrice{{Resource: chain.CPU, Price: 100_000_000_000}},
		MaxCost: chain.Hyper(1), Deadline: w.now + 7_200_000, Term: &chain.Term{Resources: []chain.Quantity{{Resource: chain.CPU, Amount: 1_000}}, NoticeMs: 60_000},
	}
	id := order.ID()
	d := chain.LeaseDeal{
		Order:      order,
		Acceptance: chain.Acceptance{ChainID: testChain, Order: id, Cluster: order.Cluster, Sequence: 1, Outstanding: order.MaxCost},
		Bid:        chain.Bid{ChainID: testChain, Order: id, Node: nodeA.Public(), Prices: order.Caps, Expiry: order.Deadline},
	}
	d.OrderSig = consumer.PrivateKey.Sign(crypto.DomainOrder, order.Payload())
	d.AcceptanceSig = cluster.PrivateKey.Sign(crypto.DomainAcceptance, d.Acceptance.Payload())
	d.BidSig = nodeA.PrivateKey.Sign(crypto.DomainBid, d.Bid.Payload())
	d.AwardSig = cluster.PrivateKey.Sign(crypto.DomainAward, d.Bid.Payload())
	return d
}

// TestContractsVerifyProofs: under the key that genesis pins, paid for first.
func TestContractsVerifyProofs(t *testing.T) {
	statement := zk.Statement{Kernel: "matmul-4", VerifyingKey: kernel.VerifyingKey, Inputs: []zk.Field{{31: 3}}, Output: []zk.Field{{31: 9}}, Bind: zk.Field{31: 1}}
	good := statement.Digest()
	var said, heard string
	w, address := withContract(t, func(_ meter.Entry, msg string, ask func(string) string) string {
		if msg == "ask" {
			heard = ask(`{"custom":` + said + `}`)
		}
		return nothing
	})
	from := keyOf(27)
	ask := func(kernel string, proof []byte, gas uint64) chain.Receipt {
		text, err := json.Marshal(proof)
		if err != nil {
			t.Fatal(err)
		}
		said = fmt.Sprintf(`{"verify_proof":{"kernel":%q,"inputs":["%064x"],"outputs":["%064x"],"bind":"%064x","proof":%s}}`, kernel, 3, 9, 1, text)
		body := w.body(from, chain.ExecuteContract{Contract: address, Msg: []byte("ask")})
		body.GasLimit = chain.GasUnits(gas)
		return w.block(1_000, w.sign(body, from)).Receipts.Txs[0]
	}
	if r := ask("matmul-4", good[:], 5_000_000); !r.Accepted() || heard != `{"valid":true}` || r.GasUsed.Less(kernel.FixedGas) {
		t.Errorf("a proof: %s, %+v", heard, r)
	}
	if r := ask("matmul-4", []byte("no"), 5_000_000); !r.Accepted() || heard != `{"valid":false}` {
		t.Errorf("a false proof: %s, %+v", heard, r)
	}
	if ask("other", good[:], 5_000_000); heard != `{"valid":false}` {
		t.Errorf("a kernel that genesis does not pin: %s", heard)
	}
	if answer, _, why, err := w.x.AskContract(t.Context(), w.state, address, []byte("ask")); err != nil || why == nil || heard != `{"valid":false}` {
		t.Errorf("in a query from outside: %s, %v, %v, %s", answer, why, err, heard)
	}
	calls := w.proofs.calls
	if r := ask("matmul-4", good[:], 500_000); !strings.Contains(r.Rejection, "out of gas") || w.proofs.calls != calls {
		t.Errorf("a proof that is not paid for: %+v, %d verified", r, w.proofs.calls-calls)
	}
}

func (w *world) has(a chain.Address) chain.Amount { return tokens.AccountOf(w.state, a).Balance }

// TestProofsOfContractsInWaves: what a contract did upon a proof that was supposed to hold, and
// does not, is not there.
func TestProofsOfContractsInWaves(t *testing.T) {
	var query string
	bob := keyOf(26).address()
	p := puppet(func(_ meter.Entry, msg string, ask func(string) string) string {
		if msg == "begin" || ask(`{"custom":`+query+`}`) != `{"valid":true}` {
			return nothing
		}
		return sending(fmt.Sprintf(`{"bank":{"send":{"to_address":%q,"amount":[{"denom":"nhyper","amount":"5"}]}}}`, bob))
	})
	w, address := withContract(t, p)
	w.x = execution.New(genesis(), &echoes{}, p)
	w.register()
	query = fmt.Sprintf(`{"verify_proof":{"kernel":"matmul-4","inputs":["%064x"],"outputs":["%064x"],"bind":"%064x","proof":"bm8="}}`, 3, 9, 1)
	before := w.has(bob)
	out := w.block(1_000,
		w.tx(consumer, chain.Settle{Claims: chain.Claims{w.claim(multiply, 1, nodeA)}}),
		w.tx(keyOf(27), chain.ExecuteContract{Contract: address, Msg: []byte("pay")}))
	if settled, ok := out.Receipts.Txs[0].Events[0].(chain.ClaimSettled); !ok || !settled.ProofVerified {
		t.Errorf("the claim before it: %+v", out.Receipts.Txs[0])
	}
	if r := out.Receipts.Txs[1]; !r.Accepted() || len(r.Events) != 1 || w.has(bob) != before {
		t.Errorf("a contract that pays upon a false proof: %+v, bob has %s of %s", r, w.has(bob), before)
	}
}

// TestEventsOfATransactionAreBounded: its messages have one bound together, and each transaction has it anew.
func TestEventsOfATransactionAreBounded(t *testing.T) {
	self := ""
	w, address := withContract(t, func(_ meter.Entry, msg string, _ func(string) string) string {
		switch msg {
		case "fan":
			call := fmt.Sprintf(`{"wasm":{"execute":{"contract_addr":%q,"msg":"dGVsbA==","funds":[]}}}`, self)
			return sending(slices.Repeat([]string{call}, contract.MaxTxEvents/256/2)...)
		case "tell":
			return `{"ok":{"messages":[],"attributes":[],"events":[` + strings.TrimSuffix(strings.Repeat(`{"type":"aa","attributes":[]},`, 256), ",") + `]}}`
		}
		return nothing
	})
	self = address.String()
	fan := func(from, times int) *chain.VerifiedTx {
		body := w.body(keyOf(byte(from)), slices.Repeat([]chain.Msg{chain.ExecuteContract{Contract: address, Msg: []byte("fan")}}, times)...)
		body.GasLimit = chain.GasUnits(20_000_000)
		return w.sign(body, keyOf(byte(from)))
	}
	receipts := w.block(1_000, fan(27, 1), fan(26, 1), fan(25, 2)).Receipts.Txs
	for i := range receipts[:2] {
		if r := &receipts[i]; !r.Accepted() {
			t.Fatal(r.Rejection)
		}
	}
	if r := &receipts[2]; r.Accepted() || !strings.Contains(r.Rejection, "message 1: hypermesh 4: more than 8192 events") {
		t.Errorf("two messages: %q, %d events", r.Rejection, len(r.Events))
	}
}

// deaf is a chain of which contracts learn nothing, and where they do nothing.
type deaf struct{ contract.Host }

func (deaf) Message(*state.Overlay, chain.Address, chain.Msg, uint64) contract.Result {
	return contract.Result{Gas: 7, Why: chain.Reject("nobody listens")}
}

func (deaf) Query(state.Reader, contract.Question, uint64) (any, uint64) { return 5, 7 }

// TestWithHost: what stands in for the chain is asked in blocks and in queries, by the executor
// that has it, and no other.
func TestWithHost(t *testing.T) {
	deposit := fmt.Sprintf(`{"custom":{"deposit":{"cluster":%q,"amount":"5"}}}`, cluster.Public())
	var heard string
	w, address := withContract(t, func(_ meter.Entry, msg string, ask func(string) string) string {
		switch msg {
		case "send":
			return sending(deposit)
		case "ask":
			heard = ask(fmt.Sprintf(`{"custom":{"node":{"id":%q}}}`, nodeA.Public()))
		}
		return nothing
	})
	w.register()
	do := func(msg string) chain.Receipt {
		return w.block(1_000, w.tx(keyOf(27), chain.ExecuteContract{Contract: address, Msg: []byte(msg)})).Receipts.Txs[0]
	}
	plain := w.x
	w.x = plain.WithHost(func(host contract.Host) contract.Host { return deaf{host} })
	if r := do("send"); !strings.HasSuffix(r.Rejection, "hypermesh 3: deposit: nobody listens") {
		t.Errorf("%+v", r)
	}
	if r := do("ask"); !r.Accepted() || heard != "5" {
		t.Errorf("%s, %+v", heard, r)
	}
	heard = ""
	if _, _, _, err := w.x.AskContract(t.Context(), w.state, address, []byte("ask")); err != nil || heard != "5" {
		t.Errorf("a query from outside: %s, %v", heard, err)
	}
	w.x = plain
	if r := do("ask"); !r.Accepted() || !strings.Contains(heard, ownerA.address().String()) {
		t.Errorf("the chain itself: %s, %+v", heard, r)
	}
	if r := do("send"); !r.Accepted() {
		t.Errorf("the chain itself: %+v", r)
	}
}
