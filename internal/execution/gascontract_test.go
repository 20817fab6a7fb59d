package execution_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/templates"
)

// contracts are those that calls are measured of: one of a token, one that does what it is told, and one
// of that kind of each user's own.
type contracts struct {
	token, worst chain.Address
	own          []chain.Address
}

const (
	tokenEach = 1_000_000_000 // that each user has of the token
	keptKeys  = 256           // that the contracts of the worst kind keep
	goneKeys  = 4_096         // that the first of them removed, a block before; and of those of the second
	fewKeys   = 15            // before each that is there, which is as many as walks pass and never learn
	loopBytes = 90_000        // of code that is nothing but loops
)

// worstCode is the contract that does one thing often.
func (w *gasWorld) worstCode() []byte {
	w.Helper()
	code, err := os.ReadFile("../../smart-contracts/vm/testdata/worst.wasm")
	if err != nil {
		w.Fatal(err)
	}
	return code
}

func (w *gasWorld) tokenCode() []byte {
	w.Helper()
	code, err := templates.Module("cw20")
	if err != nil {
		w.Fatal(err)
	}
	return code
}

// doing does a message about contracts on the state, outside of any block.
func (w *gasWorld) doing(from chain.Address, m chain.Msg) chain.Events {
	w.Helper()
	return w.doingOn(w.state, from, m)
}

func (w *gasWorld) doingOn(kv *state.Overlay, from chain.Address, m chain.Msg) chain.Events {
	w.Helper()
	env := contract.Env{ChainID: testChain, Height: w.height, Now: w.now, Payer: from, Prices: execution.ContractPricesV1(), VM: w.machine}
	did := contract.Do(kv, &env, from, m, 1e9)
	if did.Why != nil {
		w.Fatal(did.Why.Reason())
	}
	return did.Events
}

// openContracts makes the contracts.
func (w *gasWorld) openContracts(p *prepared) {
	w.Helper()
	maker := w.users[0].address()
	for n, code := range [][]byte{w.tokenCode(), w.worstCode()} {
		w.doing(maker, storing(code))
		kept, _ := contract.CodeOf(w.state, uint64(n+1))
		kept.Callable, kept.Ready = 1, 0 // as if long ago
		state.Save(w.state, contract.CodeKey(uint64(n+1)), kept)
	}
	made := func(from chain.Address, m chain.InstantiateContract) chain.Address {
		m.Label, m.MaxDeposit = "gas", chain.Hyper(100)
		for _, e := range w.doing(from, m) {
			if e, ok := e.(chain.ContractInstantiated); ok {
				return e.Contract
			}
		}
		w.Fatal("no contract was made")
		return chain.Address{}
	}
	var have []string
	for _, u := range w.users {
		have = append(have, fmt.Sprintf(`{"address":%q,"amount":"%d"}`, u.address(), tokenEach))
	}
	p.contracts.token = made(maker, chain.InstantiateContract{Code: 1, Msg: []byte(beginToken(have...))})
	p.contracts.worst = made(maker, chain.InstantiateContract{Code: 2, Msg: []byte("{}"), Funds: chain.Hyper(1_000)})
	for _, u := range w.users {
		a := u.address()
		p.contracts.own = append(p.contracts.own, made(a, chain.InstantiateContract{Code: 2, Msg: []byte("{}"), Admin: &a}))
	}
	w.doing(maker, calling(p.contracts.worst, often('w', keptKeys, "")))
	w.doing(maker, calling(p.contracts.own[0], often('w', goneKeys, "")))
	w.doing(maker, calling(p.contracts.own[1], often('w', goneKeys, "")))
}

func beginToken(have ...string) string {
	return fmt.Sprintf(`{"name":"Gas token","symbol":"GAS","decimals":6,"initial_balances":[%s]}`, strings.Join(have, ","))
}

// storing is the message that stores code, which is no longer than one part.
func storing(code []byte) chain.StoreCode {
	return chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}
}

// differing is code with a section of no meaning behind it.
func differing(code []byte, n int) []byte {
	return append(slices.Clone(code), 0, 4, 1, 'n', byte(n), byte(n>>8))
}

func calling(c chain.Address, msg string) chain.ExecuteContract {
	return chain.ExecuteContract{Contract: c, Msg: []byte(msg), MaxDeposit: chain.Hyper(10)}
}

// often is what the worst contract is told: to do something so many times.
func often(what byte, times uint32, rest string) string {
	return string(binary.LittleEndian.AppendUint32([]byte{what}, times)) + rest
}

// loops is code that takes longer to check and to rewrite than any other of its length: of loops, each of which is
// counted by itself.
func (w *gasWorld) loops(bytes int) []byte {
	w.Helper()
	code, err := hex.DecodeString(emptyContract)
	if err != nil {
		w.Fatal(err)
	}
	const functions = "030908" // eight of them
	at := strings.Index(emptyContract, functions) / 2
	body := strings.Index(emptyContract, "0a2108") / 2
	if at < 0 || body < 0 {
		w.Fatal("the empty contract is another")
	}
	const each = 48_000 // a function may have hardly more ways
	var bodies [][]byte
	for have := 0; have < bytes; have += each {
		loop := slices.Concat([]byte{0}, []byte(strings.Repeat("\x03\x40\x0b", min(each, bytes-have)/3)), []byte{0x0b})
		bodies = append(bodies, append(binary.AppendUvarint(nil, uint64(len(loop))), loop...))
	}
	all := slices.Concat(bodies...)
	out := slices.Clone(code[:at])
	out = append(out, 3, byte(9+len(bodies)), byte(8+len(bodies)))
	out = append(out, code[at+3:at+11]...)
	out = append(out, []byte(strings.Repeat("\x01", len(bodies)))...)
	out = append(out, code[at+11:body]...)
	out = binary.AppendUvarint(append(out, 10), uint64(0x21+len(all)))
	out = append(out, byte(8+len(bodies)))
	return slices.Concat(out, code[body+3:body+2+0x21], all, code[body+2+0x21:])
}

// ofContracts are the messages about contracts, an operation each, and calls that do much of one thing.
func ofContracts(p prepared) []operation {
	worst := func(name string, n int, msg func(i int) string) operation {
		return oneOf("execute_contract/"+name, n, func(_ *gasWorld, i int, _ key) chain.Msg { return calling(p.contracts.worst, msg(i)) })
	}
	past := oneOf("execute_contract/walk past removed", 64, func(_ *gasWorld, _ int, _ key) chain.Msg {
		return calling(p.contracts.own[0], often('s', 4, ""))
	})
	past.on = func(w *gasWorld, kv *state.Overlay) {
		w.doingOn(kv, w.users[0].address(), calling(p.contracts.own[0], often('x', goneKeys, "")))
	}
	few := oneOf("execute_contract/walks past few", 32, func(_ *gasWorld, _ int, _ key) chain.Msg {
		return calling(p.contracts.own[1], often('n', goneKeys/(fewKeys+1)-8, ""))
	})
	few.on = func(w *gasWorld, kv *state.Overlay) {
		w.doingOn(kv, w.users[1].address(), calling(p.contracts.own[1], often('x', goneKeys/(fewKeys+1)*fewKeys, "")))
		kept, _ := contract.ContractOf(kv, p.contracts.own[1])
		kept.Removed, kept.Before = 0, 0 // as if long ago: nobody pays for them any more
		state.Save(kv, contract.ContractKey(p.contracts.own[1]), kept)
	}
	out := []operation{
		past, few,
		oneOf("store_code", 4, func(w *gasWorld, i int, _ key) chain.Msg { return storing(differing(w.tokenCode(), i)) }),
		oneOf("store_code/loops", 2, func(w *gasWorld, i int, _ key) chain.Msg { return storing(differing(w.loops(loopBytes), i)) }),
		oneOf("instantiate_contract", 64, func(_ *gasWorld, _ int, from key) chain.Msg {
			return chain.InstantiateContract{
				Code: 1, Label: "gas", MaxDeposit: chain.Hyper(100), Msg: []byte(beginToken(fmt.Sprintf(`{"address":%q,"amount":"1"}`, from.address()))),
			}
		}),
		oneOf("migrate_contract", gasUsers, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.MigrateContract{Contract: p.contracts.own[i], Code: 2, Msg: []byte("{}"), MaxDeposit: chain.Hyper(1)}
		}),
		oneOf("set_contract_admin", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			admin := w.users[(i+1)%gasUsers].address()
			return chain.SetContractAdmin{Contract: p.contracts.own[i], Admin: &admin}
		}),
		oneOf("pin_code", chain.MaxPinPeriods, func(_ *gasWorld, i int, _ key) chain.Msg {
			return chain.PinCode{Code: uint64(1 + i%2), Periods: 2, MaxBurn: chain.Hyper(100)}
		}),
		oneOf("execute_contract", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg { return w.payment(p, i, "1") }),
		rejectedCall(oneOf("execute_contract/rejected", gasUsers, func(w *gasWorld, i int, _ key) chain.Msg {
			return w.payment(p, i, "99999999999999")
		})),
	}
	return append(append(out, ofCalls(p, worst)...), ofAnswers(p, worst)...)
}

func rejectedCall(o operation) operation {
	o.want = refused
	return o
}

// payment is a transfer of the token from user i to the next.
func (w *gasWorld) payment(p prepared, i int, amount string) chain.Msg {
	return calling(p.contracts.token, fmt.Sprintf(`{"transfer":{"recipient":%q,"amount":%q}}`, w.users[(i+1)%gasUsers].address(), amount))
}

// ofCalls are calls that reach for something again and again.
func ofCalls(p prepared, worst func(name string, n int, msg func(i int) string) operation) []operation {
	does := func(name string, n int, what byte, times uint32, rest string) operation {
		return worst(name, n, func(int) string { return often(what, times, rest) })
	}
	smart := fmt.Sprintf(`{"wasm":{"smart":{"contract_addr":%q,"msg":"e30="}}}`, p.contracts.worst)
	return []operation{
		does("nothing", gasUsers, 'r', 0, ""),
		does("reads", 32, 'r', 200, ""),
		does("writes", 32, 'w', 200, ""),
		worst("inserts", 1, func(int) string { return often('w', 2*keptKeys, "") }),
		does("removes", 1, 'x', 200, ""),
		does("scans", 32, 's', 100, ""),
		does("walks", 32, 'n', 200, ""),
		does("backwards", 8, 'b', 10, ""),
		does("queries of contracts", 32, 'q', 50, smart),
		does("queries of balances", 32, 'q', 200, fmt.Sprintf(`{"bank":{"balance":{"address":%q,"denom":"nhyper"}}}`, crowdOf(1))),
		does("addresses", 32, 'v', 200, crowdOf(1).String()),
		does("computes", 16, 'c', 300, ""),
		does("memory", 16, 'm', 200, ""),
	}
}

// ofAnswers are calls that answer with much of something.
func ofAnswers(p prepared, worst func(name string, n int, msg func(i int) string) operation) []operation {
	const head, tail = `{"ok":{"messages":[`, `],"attributes":[],"events":[]}}`
	message := func(on, msg string) string {
		return fmt.Sprintf(`{"id":1,"msg":%s,"gas_limit":null,"reply_on":%q}`, msg, on)
	}
	list := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	nothing := base64.StdEncoding.EncodeToString([]byte(often('r', 0, "")))
	self := fmt.Sprintf(`{"wasm":{"execute":{"contract_addr":%q,"msg":%q,"funds":[]}}}`, p.contracts.worst, nothing)
	return []operation{
		worst("sends", 16, func(i int) string {
			send := fmt.Sprintf(`{"bank":{"send":{"to_address":%q,"amount":[{"denom":"nhyper","amount":"1"}]}}}`, crowdOf(i))
			return head + list(manyMessages, message("never", send)) + tail
		}),
		worst("messages", 16, func(int) string { return head + list(manyMessages, message("never", self)) + tail }),
		worst("replies", 16, func(int) string { return head + list(manyMessages, message("always", self)) + tail }),
		worst("events", 16, func(int) string {
			return `{"ok":{"messages":[],"attributes":[],"events":[` + list(manyEvents, `{"type":"ab","attributes":[{"key":"a","value":"b"}]}`) + `]}}`
		}),
		worst("event bytes", 8, func(int) string {
			one := fmt.Sprintf(`{"key":"a","value":%q}`, strings.Repeat("v", 16_000))
			return `{"ok":{"messages":[],"attributes":[` + list(5, one) + `],"events":[]}}`
		}),
		worst("empty objects", 8, func(int) string {
			return `{"ok":{"messages":[],"attributes":[],"events":[],"data":null,"x":[` + list(25_000, "{}") + `]}}`
		}),
	}
}

const (
	manyMessages = 64
	manyEvents   = 200
	manyBytes    = 5 * 16_000
)

// contractPrices says of each price of contracts what it would be if it were derived: what is left of an
// operation's time after all else that it pays for, by so many of what is priced. They are not derived, but held against
// what they take, as all else that is metered.
func (d *derivation) contractPrices(t *testing.T) {
	t.Helper()
	p := contract.PricesV1()
	for _, e := range []struct {
		name  string
		price uint64
		of    string
		many  float64
	}{
		{"call", p.Call, "execute_contract/nothing", 1},
		{"message", p.Message, "execute_contract/sends", manyMessages + 1},
		{"code byte", p.CodeByte, "store_code/loops", loopBytes},
		{"event", p.Event, "execute_contract/events", manyEvents},
		{"event byte", p.EventByte, "execute_contract/event bytes", manyBytes},
	} {
		t.Logf("contracts: %-10s costs %d gas, and takes %.1f, by %s", e.name, e.price, float64(e.price)+(d.costs(e.of)-d.known(e.of))/e.many, e.of)
	}
	nothing := d.shapes["execute_contract/nothing"]
	for _, name := range []string{"execute_contract/computes", "execute_contract/memory"} {
		k := d.shapes[name]
		gas := float64(k.gas)/float64(k.txs) - float64(nothing.gas)/float64(nothing.txs)
		t.Logf("contracts: %d points are a unit, and are %.1f, by %s", p.Points, float64(p.Points)*gas/(d.costs(name)-d.costs("execute_contract/nothing")), name)
	}
}
