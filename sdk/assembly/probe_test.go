package assembly_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/sdk/assembly"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// probe is the contract that does with the kit what it is asked to.
type probe struct {
	machine *vm.Machine
	code    vm.Code
	host    *assembly.Memory
}

func newProbe(t *testing.T) *probe {
	t.Helper()
	module, err := os.ReadFile(probeFile)
	if err != nil {
		t.Fatal(err)
	}
	machine, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	return &probe{machine, assembly.CodeOf(module), assembly.NewMemory()}
}

// call returns an answer, or why there is none.
func (p *probe) call(t *testing.T, entry meter.Entry, args ...string) (answer []byte, refusal string) {
	t.Helper()
	var all [][]byte
	for _, arg := range args {
		all = append(all, []byte(arg))
	}
	out, err := p.machine.Run(p.code, vm.Call{Entry: entry, Args: all, Points: 1 << 34}, p.host)
	if err != nil {
		t.Fatal(err)
	}
	if out.End != vm.Returned && out.End != vm.Aborted {
		t.Fatalf("%s%s: %v: %s", entry, args, out.End, out.Detail)
	}
	return out.Data, out.Detail
}

// query returns an answer's JSON, or "!" and why there is none.
func (p *probe) query(t *testing.T, msg string) string {
	t.Helper()
	data, refusal := p.call(t, meter.Query, "{}", msg)
	if refusal != "" {
		return "!" + refusal
	}
	answer, err := cosmwasm.DecodeQueryAnswer(data)
	if err != nil {
		t.Fatalf("%s: %s: %v", msg, data, err)
	}
	return string(answer.(cosmwasm.Data).Bytes)
}

func (p *probe) expect(t *testing.T, msg, want string) {
	t.Helper()
	if got := p.query(t, msg); got != want {
		t.Fatalf("%s: %s, want %s", msg, got, want)
	}
}

// number returns a number of at most some bits, often one of few, or near a power.
func number(r *rand.Rand, bits uint) *big.Int {
	one := big.NewInt(1)
	n := new(big.Int).Lsh(one, r.UintN(bits+1))
	switch r.IntN(4) {
	case 0:
		n.Sub(n, one)
	case 1:
		n.Add(n, one)
	case 2:
		n.SetInt64(int64(r.IntN(3)))
	default:
		for range 4 {
			n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(r.Uint64()))
		}
		n.Rsh(n, uint(n.BitLen())-min(uint(n.BitLen()), r.UintN(bits)))
	}
	return n.And(n, new(big.Int).Sub(new(big.Int).Lsh(one, bits), one))
}

// arithmetic is what an operation comes to.
func arithmetic(op string, a, b *big.Int, bits int) string {
	out := new(big.Int)
	switch op {
	case "+":
		out.Add(a, b)
	case "-":
		out.Sub(a, b)
	case "*":
		out.Mul(a, b)
	case "/", "%":
		if b.Sign() == 0 {
			return "!division by zero"
		}
		if op == "/" {
			out.Quo(a, b)
		} else {
			out.Rem(a, b)
		}
	case "compare":
		c := a.Cmp(b)
		return fmt.Sprintf("[%v,%v,%v,%v,%v,%v]", c < 0, c <= 0, c == 0, c != 0, c >= 0, c > 0)
	}
	if out.Sign() < 0 || out.BitLen() > bits {
		return "!overflow"
	}
	return `"` + out.String() + `"`
}

// TestIntegers holds the kit's numbers against math/big.
func TestIntegers(t *testing.T) {
	p := newProbe(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 3_000 {
		bits, kind := 128, "u128"
		if r.IntN(2) == 0 {
			bits, kind = 256, "u256"
		}
		op := []string{"+", "-", "*", "/", "%", "compare"}[r.IntN(6)]
		a, b := number(r, uint(bits)), number(r, uint(bits))
		p.expect(t, fmt.Sprintf(`{%q:{"op":%q,"a":"%v","b":"%v"}}`, kind, op, a, b), arithmetic(op, a, b, bits))
	}
	for range 300 {
		a, b, c := number(r, 128), number(r, 128), number(r, 128)
		want := "!division by zero"
		if c.Sign() > 0 {
			want = arithmetic("/", new(big.Int).Mul(a, b), c, 128)
		}
		p.expect(t, fmt.Sprintf(`{"u128":{"op":"share","a":"%v","b":"%v","c":"%v"}}`, a, b, c), want)
		n := number(r, 256)
		p.expect(t, fmt.Sprintf(`{"u256":{"op":"narrow","a":"%v","b":"0"}}`, n), arithmetic("+", n, new(big.Int), 128))
		p.expect(t, fmt.Sprintf(`{"u256":{"op":"bytes","a":"%v","b":"0"}}`, n),
			fmt.Sprintf(`["%s","%v"]`, base64.StdEncoding.EncodeToString(n.FillBytes(make([]byte, 32))), n))
	}
	for _, bad := range []string{"", "-1", "01", "00", "1e3", "1.0", " 1", "+1", "٣", "340282366920938463463374607431768211456"} {
		if got := p.query(t, fmt.Sprintf(`{"u128":{"op":"+","a":"%s","b":"0"}}`, bad)); got[0] != '!' {
			t.Errorf("%q is taken as %s", bad, got)
		}
	}
}

// TestEcho has the kit write what it has read.
func TestEcho(t *testing.T) {
	p := newProbe(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	letters := []rune("aé€😀\"\\/\n\t\x00\x1f\x7f߿ࠀ\uffff𐀀\U0010ffff")
	for range 500 {
		var text strings.Builder
		for range r.IntN(12) {
			text.WriteRune(letters[r.IntN(len(letters))])
		}
		in := []any{
			map[string]any{"text": text.String()}, map[string]any{"bytes": []byte(text.String())}, map[string]any{"bool": r.IntN(2) == 0},
			map[string]any{"u64": r.Uint64() >> r.UintN(64)}, map[string]any{"i64": int64(r.Uint64()) >> r.UintN(64)},
			map[string]any{"u32": r.Uint32()}, map[string]any{"quoted": fmt.Sprint(r.Uint64())},
		}
		msg, err := json.Marshal(map[string]any{"echo": in})
		if err != nil {
			t.Fatal(err)
		}
		var want []any
		for _, one := range in {
			for _, v := range one.(map[string]any) { // order-free: one each
				want = append(want, v)
			}
		}
		wanted, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		got := p.query(t, string(msg))
		if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal(wanted, &b) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Fatalf("%s: %s, want %s", msg, got, wanted)
		}
	}
	p.expect(t, `{"echo":[{"text":"\ud83d\ude00\u00e9\/\b\f"}]}`, "[\"😀é/\\u0008\\u000c\"]")
	p.expect(t, `{"echo":[{"raw": {"a" : [1, "\u0041}",null]} },{"raw":-1.5e3},{"raw":"\""}]}`, `[{"a" : [1, "\u0041}",null]},-1.5e3,"\""]`)
	p.expect(t, `{"echo":[{"i64":-9223372036854775808},{"i64":9223372036854775807}]}`, "[-9223372036854775808,9223372036854775807]")
	for msg, want := range map[string]string{
		`{"text":"\ud83d"}`: "JSON: malformed", `{"text":"\ude00"}`: "JSON: malformed", `{"text":"\ud83d\u0041"}`: "JSON: malformed",
		`{"bytes":"AA="}`: "JSON: not base64", `{"bytes":"AB=="}`: "JSON: not base64", `{"bytes":"A==="}`: "JSON: not base64", `{"bytes":"AA-_"}`: "JSON: not base64",
		`{"bytes":"="}`: "JSON: not base64", `{"bytes":"===="}`: "JSON: not base64", `{"bytes":"AA==AA=="}`: "JSON: not base64",
		`{"i64":9223372036854775808}`: "JSON: number out of range", `{"i64":-9223372036854775809}`: "JSON: number out of range",
		`{"u32":4294967296}`: "JSON: number out of range", `{"u64":-1}`: "JSON: not a whole number", `{"bool":1}`: "JSON: want true or false", `{"quoted":5}`: "JSON: want a number in quotes",
	} {
		p.expect(t, `{"echo":[`+msg+`]}`, "!"+want)
	}
}

// TestStorage walks over a map, and over parts of it, as a sorted list has it.
func TestStorage(t *testing.T) {
	p := newProbe(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	kept := map[string]map[string]string{"": {}, "ann": {}, "bob": {}}
	owners := []string{"", "ann", "bob"}
	names := []string{"", "a", "aa", "ab", "b", "z", "é", "😀"}
	with := func(owner string) string {
		if owner == "" {
			return ""
		}
		return fmt.Sprintf(`"owner":%q,`, owner)
	}
	for range 200 {
		owner, name := owners[r.IntN(3)], names[r.IntN(len(names))]
		if owner == "" {
			name = "root-" + name // a part's keys lie among the map's own
		}
		if r.IntN(3) == 0 {
			delete(kept[owner], name)
			p.must(t, fmt.Sprintf(`{"put":{%s"key":%q}}`, with(owner), name))
		} else {
			value := fmt.Sprintf(`{"left":%q,"right":%d,"big":"%v"}`, name, int32(r.Uint32()), number(r, 128))
			kept[owner][name] = value
			p.must(t, fmt.Sprintf(`{"put":{%s"key":%q,"value":%s}}`, with(owner), name, value))
		}
		owner = owners[1+r.IntN(2)]
		list := func(keep func(name string) bool, down bool) string {
			var all []string
			for name := range kept[owner] { // order-free: sorted below
				if keep(name) {
					all = append(all, name)
				}
			}
			if slices.Sort(all); down {
				slices.Reverse(all)
			}
			for i, name := range all {
				all[i] = fmt.Sprintf(`[%q,%s]`, name, kept[owner][name])
			}
			return "[" + strings.Join(all, ",") + "]"
		}
		pivot := names[r.IntN(len(names))]
		p.expect(t, fmt.Sprintf(`{"walk":{%s"up":true}}`, with(owner)), list(func(string) bool { return true }, false))
		p.expect(t, fmt.Sprintf(`{"walk":{%s"up":false}}`, with(owner)), list(func(string) bool { return true }, true))
		p.expect(t, fmt.Sprintf(`{"walk":{%s"after":%q}}`, with(owner), pivot), list(func(name string) bool { return name > pivot }, false))
		p.expect(t, fmt.Sprintf(`{"walk":{%s"before":%q}}`, with(owner), pivot), list(func(name string) bool { return name < pivot }, true))
	}
	for _, n := range []uint64{256, 1, 0, 1 << 63, 255} {
		p.must(t, fmt.Sprintf(`{"put":{"key":"n%d","number":%d}}`, n, n))
	}
	p.expect(t, `{"numbers":{}}`, `[[9223372036854775808,"n9223372036854775808"],[256,"n256"],[255,"n255"],[1,"n1"],[0,"n0"]]`)
	p.expect(t, `{"numbers":{"after":255}}`, `[[256,"n256"],[9223372036854775808,"n9223372036854775808"]]`)
	// Where values lie is what other programs read.
	for key, want := range map[string]string{"count": "205", "\x00\x08numbered\x00\x00\x00\x00\x00\x00\x00\xff": `"n255"`} {
		if value, _, err := p.host.Read([]byte(key)); err != nil || string(value) != want {
			t.Errorf("%q has %q, want %q (%v)", key, value, want, err)
		}
	}
	p.must(t, `{"put":{"owner":"ann","key":"k","value":{"left":"l","right":1,"big":"2"}}}`)
	if value, _, err := p.host.Read([]byte("\x00\x05pairs\x00\x03annk")); err != nil || string(value) != `{"left":"l","right":1,"big":"2"}` {
		t.Errorf("a pair's value is %q (%v)", value, err)
	}
}

func (p *probe) must(t *testing.T, msg string) cosmwasm.Response {
	t.Helper()
	env := cosmwasm.Encode(cosmwasm.Env{Block: cosmwasm.Block{Height: 12, Time: 34e9, ChainID: "test-1"}, Contract: "probe"})
	funds := []cosmwasm.Coin{{Denom: "hyper", Amount: cosmwasm.Uint128Of(7)}, {Denom: "cpu", Amount: cosmwasm.Uint128Of(1)}}
	return p.response(t, meter.Execute, string(env), string(cosmwasm.Encode(cosmwasm.MessageInfo{Sender: "alice", Funds: funds})), msg)
}

func (p *probe) response(t *testing.T, entry meter.Entry, args ...string) cosmwasm.Response {
	t.Helper()
	data, refusal := p.call(t, entry, args...)
	if refusal != "" {
		t.Fatalf("%s: %s", args, refusal)
	}
	answer, err := cosmwasm.DecodeAnswer(data)
	if err != nil {
		t.Fatalf("%s: %s: %v", args, data, err)
	}
	return answer.(cosmwasm.Response)
}

// TestMessages reads all that the kit has the chain do as the chain reads it.
func TestMessages(t *testing.T) {
	p := newProbe(t)
	r := p.must(t, `{"everything":{}}`)
	want := []string{
		`{"bank":{"send":{"to_address":"bob","amount":COINS}}}`, `{"bank":{"burn":{"amount":[]}}}`,
		`{"wasm":{"execute":{"contract_addr":"token","msg":"MSG","funds":COINS}}}`,
		`{"wasm":{"instantiate":{"admin":null,"code_id":7,"msg":"MSG","funds":[],"label":"a token"}}}`,
		`{"wasm":{"instantiate2":{"admin":"alice","code_id":7,"label":"a token","msg":"MSG","funds":COINS,"salt":"cGF5"}}}`,
		`{"wasm":{"migrate":{"contract_addr":"token","new_code_id":8,"msg":"MSG"}}}`,
		`{"wasm":{"update_admin":{"contract_addr":"token","admin":"bob"}}}`, `{"wasm":{"clear_admin":{"contract_addr":"token"}}}`,
		`{"staking":{"delegate":{"validator":"val","amount":COIN}}}`, `{"staking":{"undelegate":{"validator":"val","amount":COIN}}}`,
		`{"staking":{"redelegate":{"src_validator":"val","dst_validator":"wal","amount":COIN}}}`,
		`{"distribution":{"set_withdraw_address":{"address":"bob"}}}`, `{"distribution":{"withdraw_delegator_reward":{"validator":"val"}}}`,
		`{"distribution":{"fund_community_pool":{"amount":COINS}}}`, `{"gov":{"vote":{"proposal_id":3,"option":"no_with_veto"}}}`, `{"custom":{"burn":{}}}`,
	}
	words := strings.NewReplacer("COINS", `[{"denom":"hyper","amount":"7"},{"denom":"cpu","amount":"1"}]`, "COIN", `{"denom":"hyper","amount":"5"}`, "MSG", "eyJidXJuIjp7fX0=")
	for i, m := range r.Messages {
		if got := string(cosmwasm.EncodeMessage(m.Msg)); i >= len(want) || got != words.Replace(want[i]) {
			t.Errorf("message %d: %s", i, got)
		}
	}
	if len(r.Messages) != len(want) {
		t.Errorf("%d messages, want %d", len(r.Messages), len(want))
	}
	subs := r.Messages[2:5]
	if s := subs[0]; s.ID != 1 || s.ReplyOn != cosmwasm.ReplyAlways || s.GasLimit == nil || *s.GasLimit != 5000 || string(s.Payload) != "pay" {
		t.Errorf("%+v", s)
	}
	if s := subs[1]; s.ID != 1<<64-1 || s.ReplyOn != cosmwasm.ReplySuccess || s.GasLimit != nil || s.Payload != nil {
		t.Errorf("%+v", s)
	}
	if s := subs[2]; s.ID != 2 || s.ReplyOn != cosmwasm.ReplyError {
		t.Errorf("%+v", s)
	}
	if s := r.Messages[0]; s.ReplyOn != cosmwasm.ReplyNever {
		t.Errorf("%+v", s)
	}
	if got := fmt.Sprintf("%s %q %s", r.Attributes, r.Events, r.Data); got != `[{sender alice} {chain test-1} {contract probe} {height 12} {time 34000000000} {hyper 7}] `+
		`[{"sale" [{"price" "3 €"} {"text" "\"\\\n\x01"}]}] pay` {
		t.Error(got)
	}
}

// wide are keys, digests and elements, by their first two digits.
var wide = strings.NewReplacer(`"aa"`, wideOf("aa"), `"cc"`, wideOf("cc"), `"dd"`, wideOf("dd"), `"ee"`, wideOf("ee"), `"ff"`, wideOf("ff"),
	`"0a"`, wideOf("0a"), `"0b"`, wideOf("0b"), `"0c"`, wideOf("0c"), `"0d"`, wideOf("0d"))

func wideOf(two string) string { return `"` + strings.Repeat(two, 32) + `"` }

// TestComputeMessages reads what the kit has this chain alone do. That the chain reads it too, and that the kit has all of it, the
// templates' tests show, on a chain.
func TestComputeMessages(t *testing.T) {
	p := newProbe(t)
	for name, want := range map[string]string{
		"deposit": `{"cluster":"aa","amount":"5"}`, "withdraw": `{"cluster":"aa","amount":"5"}`,
		"open_channel": `{"payee":"bob","nonce":"18446744073709551615","signer":"cc","amount":"5","window_ms":"60000"}`,
		"fund_channel": `{"channel":"dd","amount":"5"}`, "close_channel": `{"channel":"dd"}`, "extend_lease": `{"node":"ee","order":"ff","amount":"5"}`,
	} {
		r := p.must(t, fmt.Sprintf(`{"compute":{"send":%q,"who":"bob"}}`, name))
		want = wide.Replace(fmt.Sprintf(`{"custom":{%q:%s}}`, name, want))
		if len(r.Messages) != 1 || string(cosmwasm.EncodeMessage(r.Messages[0].Msg)) != want {
			t.Errorf("%s is %+v, want %s", name, r.Messages, want)
		}
	}
}

// TestReplies tells the probe how submessages ended.
func TestReplies(t *testing.T) {
	p := newProbe(t)
	for told, want := range map[string]string{
		`{"id":1,"gas_used":77,"result":{"error":"contract:5"}}`:                                                       "[{id 1} {gas 77} {error contract:5}] ",
		`{"id":2,"payload":"cGF5","gas_used":0,"result":{"ok":{"events":[],"data":"AQ==","msg_responses":[]}}}`:        "[{id 2} {gas 0} {payload pay}] \x01",
		`{"id":3,"gas_used":0,"result":{"ok":{"events":[],"data":null,"msg_responses":[]}},"of_a_later_version":true}`: "[{id 3} {gas 0} {payload }] ",
	} {
		if r := p.response(t, meter.Reply, "{}", told); fmt.Sprintf("%s %s", r.Attributes, r.Data) != want {
			t.Errorf("%s: %s %q", told, r.Attributes, r.Data)
		}
	}
}

// TestQuestions has the kit ask what the chain reads, and read what it answers.
func TestQuestions(t *testing.T) {
	const refused = `{"ok":{"error":"no"}}`
	const none = `{"error":{"no_such_contract":{"addr":"token"}}}`
	for _, c := range []struct{ name, query, answer, want string }{
		{"balance", `{"bank":{"balance":{"address":"bob","denom":"hyper"}}}`, answered(`{"amount":{"denom":"hyper","amount":"12"}}`), `"12"`},
		{"balances", `{"bank":{"all_balances":{"address":"bob"}}}`, answered(`{"amount":[{"denom":"hyper","amount":"12"}]}`), `[{"denom":"hyper","amount":"12"}]`},
		{"supply", `{"bank":{"supply":{"denom":"hyper"}}}`, answered(`{"amount":{"denom":"hyper","amount":"12"}}`), `"12"`},
		{"smart", `{"wasm":{"smart":{"contract_addr":"token","msg":"eyJiYWxhbmNlIjp7fX0="}}}`, answered(`{"balance":"3"}`), `"3"`},
		{"smart", `{"wasm":{"smart":{"contract_addr":"token","msg":"eyJiYWxhbmNlIjp7fX0="}}}`, refused, "!query: no"},
		{"smart", `{"wasm":{"smart":{"contract_addr":"token","msg":"eyJiYWxhbmNlIjp7fX0="}}}`, none, "!query: no_such_contract"},
		{"raw", `{"wasm":{"raw":{"contract_addr":"token","key":"Y291bnQ="}}}`, answered("abc"), `"YWJj"`},
		{"raw", `{"wasm":{"raw":{"contract_addr":"token","key":"Y291bnQ="}}}`, answered(""), "null"},
		{"contract", `{"wasm":{"contract_info":{"contract_addr":"token"}}}`, answered(`{"code_id":7,"creator":"bob","admin":null,"pinned":false,"ibc_port":null}`), "7"},
		{"code", `{"wasm":{"code_info":{"code_id":7}}}`, answered(`{"code_id":7,"creator":"bob","checksum":""}`), `"bob"`},
		{"bonded", `{"staking":{"bonded_denom":{}}}`, answered(`{"denom":"hyper"}`), `"hyper"`},
		{"delegation", `{"staking":{"delegation":{"delegator":"bob","validator":"val"}}}`, answered(`{"delegation":null}`), "false"},
		{"custom", `{"custom":{"balance":{}}}`, answered(`{"valid":true}`), "true"},
		{"failing", `{"custom":{"balance":{}}}`, refused, `[false,"no"]`},
		{"failing", `{"custom":{"balance":{}}}`, none, `[false,"no_such_contract"]`},
	} {
		asks(t, fmt.Sprintf(`{"ask":%q}`, c.name), c.query, c.answer, c.want)
	}
}

// asks has a probe ask something, and be answered.
func asks(t *testing.T, msg, query, answer, want string) {
	t.Helper()
	if _, err := cosmwasm.DecodeQuery([]byte(query)); err != nil {
		t.Errorf("%s: %v", query, err)
	}
	if _, err := cosmwasm.DecodeReached([]byte(answer)); err != nil {
		t.Errorf("%s: %v", answer, err)
	}
	p := newProbe(t)
	if _, err := p.host.Write(append([]byte{0xff}, query...), []byte(answer)); err != nil {
		t.Fatal(err)
	}
	p.expect(t, msg, want)
}

// answered is how the chain hands in an answer.
func answered(text string) string {
	return `{"ok":{"ok":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `"}}`
}

// TestChainQuestions has the kit ask what this chain alone answers.
func TestChainQuestions(t *testing.T) {
	const order = `{"order":{"consumer":"bob","cluster":"c","policy":"none","max_cost":"5","spent":"4","deadline_ms":"9","closed":true,"claims":[` +
		`{"node":"n","provider":"ann","sequence":"1","result":"r","exit":"ok","settled":true,"verified":false,"cost":"3"}]}}`
	const lease = `{"lease":{"consumer":"bob","provider":"ann","cluster":"c","terms":"t","rate":"18446744073709551615","held":"5","paid_ms":"7","expires_ms":"9","closing":true}}`
	for _, c := range []struct{ name, fields, answer, want string }{
		{"escrow", `{"consumer":"bob","cluster":"aa"}`, `{"balance":"7"}`, `"7"`},
		{"order", `{"id":"aa"}`, `{"order":null}`, "null"},
		{"order", `{"id":"aa"}`, order, `["bob","c","none","5","4",9,true,["n","ann",1,"r","ok",true,false,"3"]]`},
		{"lease", `{"node":"ee","order":"ff"}`, `{"lease":null}`, "null"},
		{"lease", `{"node":"ee","order":"ff"}`, lease, `["bob","ann","c","t",18446744073709551615,"5",7,9,true]`},
		{"lease", `{"node":"ee","order":"ff"}`, strings.Replace(lease, `"rate":"18446744073709551615"`, `"rate":"18446744073709551616"`, 1), "!JSON: number out of range"},
		{"lease", `{"node":"ee","order":"ff"}`, strings.Replace(lease, `"closing":true`, `"closing":1`, 1), "!JSON: want true or false"},
		{"node", `{"id":"aa"}`, `{"node":null}`, "null"},
		{"node", `{"id":"aa"}`, `{"node":{"owner":"ann","bond":"5","score":"500000"}}`, `["ann","5",500000]`},
		{"verify_proof", `{"kernel":"matmul-4","inputs":["0a","0b"],"outputs":["0c"],"bind":"0d","proof":"cGF5"}`, `{"valid":true}`, "true"},
	} {
		asks(t, fmt.Sprintf(`{"chain":{"ask":%q,"who":"bob"}}`, c.name), wide.Replace(fmt.Sprintf(`{"custom":{%q:%s}}`, c.name, c.fields)), answered(c.answer), c.want)
	}
}

// TestSignatures has the chain verify, and the kit hash.
func TestSignatures(t *testing.T) {
	p := newProbe(t)
	b64 := base64.StdEncoding.EncodeToString
	for _, n := range []int{0, 1, 55, 56, 63, 64, 65, 119, 120, 1000} {
		text := []byte(strings.Repeat("é", n))[:n]
		sum := sha256.Sum256(text)
		p.expect(t, fmt.Sprintf(`{"sha256":%q}`, b64(text)), `"`+b64(sum[:])+`"`)
	}
	var all []string
	for i := range 3 {
		key := ed25519.NewKeyFromSeed([]byte(strings.Repeat(fmt.Sprint(i), 32)))
		text := fmt.Appendf(nil, "message %d", i)
		one := fmt.Sprintf(`"message":%q,"signature":%q,"key":%q}`, b64(text), b64(ed25519.Sign(key, text)), b64(key.Public().(ed25519.PublicKey)))
		all = append(all, "{"+one)
		p.expect(t, `{"signature":{"kind":"ed25519",`+one+"}", "true")
		p.expect(t, `{"signature":{"kind":"ed25519",`+strings.Replace(one, b64(text), b64([]byte("another")), 1)+"}", "false")
	}
	p.expect(t, `{"batch":[`+strings.Join(all, ",")+"]}", "true")
	p.expect(t, `{"batch":[`+strings.Join(all, ",")+`,{"message":"AA==",`+all[0][strings.Index(all[0], `"signature"`):]+"]}", "false")
	p.expect(t, `{"signature":{"kind":"ed25519","message":"","signature":"","key":""}}`, "!signature: malformed")
	p.expect(t, `{"address":"bob"}`, `["bob","Ym9i","bob"]`)
	p.expect(t, `{"address":"B"}`, "!address: invalid address")
}

// TestPairings has the chain calculate on BLS12-381.
func TestPairings(t *testing.T) {
	p := newProbe(t)
	b64 := base64.StdEncoding.EncodeToString
	ask := func(op string, parts ...[]byte) string {
		for len(parts) < 4 {
			parts = append(parts, nil)
		}
		return p.query(t, fmt.Sprintf(`{"bls":{"op":%q,"a":%q,"b":%q,"c":%q,"d":%q}}`, op, b64(parts[0]), b64(parts[1]), b64(parts[2]), b64(parts[3])))
	}
	point := func(text string) []byte {
		p, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	sum := func(op string, points ...[]byte) (out []byte) {
		if err := json.Unmarshal([]byte(ask(op, slices.Concat(points...))), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	// The generators of the two groups, twice and three times.
	one := point("97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb")
	large := point("93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e" +
		"024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8")
	two, three := sum("sum_g1", one, one), sum("sum_g1", one, one, one)
	large2, large3 := sum("sum_g2", large, large), sum("sum_g2", large, large, large)
	// RFC 9380, appendices J.9.1 and J.10.1, of the empty message.
	const domain = "QUUX-V01-CS02-with-BLS12381G1_XMD:SHA-256_SSWU_RO_"
	hash1 := point("852926add2207b76ca4fa57a8734416c8dc95e24501772c814278700eed6d1e4e8cf62d9c09db0fac349612b759e79a1")
	hash2 := point("a5cb8437535e20ecffaef7752baddf98034139c38452458baeefab379ba13dff5bf5dd71b72418717047f5b0f37da03d" +
		"0141ebfbdca40eb85b87142e130ab689c673cf60f1a3e98d69335266f30d9b8d4ac44c1038e9dcdd5393faf5c41fb78a")
	for _, c := range []struct{ got, want string }{
		{ask("hash_g1", nil, []byte(domain)), `"` + b64(hash1) + `"`},
		{ask("hash_g2", nil, []byte(strings.Replace(domain, "G1", "G2", 1))), `"` + b64(hash2) + `"`},
		{ask("pairings", one, large2, two, large), "true"}, {ask("pairings", one, large3, three, large), "true"},
		{ask("pairings", one, large2, three, large), "false"}, {ask("pairings", slices.Concat(one, two), slices.Concat(large, large), one, large3), "true"},
		{ask("pairings", one, nil, two, large), "!BLS12-381: malformed"}, {ask("sum_g1", one[1:]), "!BLS12-381: malformed"},
		{ask("sum_g2"), "!BLS12-381: malformed"},
	} {
		if c.got != c.want {
			t.Errorf("%s, want %s", c.got, c.want)
		}
	}
}
