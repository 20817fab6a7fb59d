package harness_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/harness"
)

func fresh(t *testing.T, config harness.Config) *harness.Harness {
	t.Helper()
	h, err := harness.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// scripted makes a contract of a script.
func scripted(t *testing.T, h *harness.Harness, s harness.Script) harness.Address {
	t.Helper()
	code, err := h.StoreScript(s)
	if err != nil {
		t.Fatal(err)
	}
	r, err := h.Instantiate(h.Treasury(), code, `{}`, harness.Making{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Contract
}

func refused(t *testing.T, err error, words string) *harness.Refused {
	t.Helper()
	r, ok := errors.AsType[*harness.Refused](err)
	if !ok || r.Words != words {
		t.Fatalf("%v, want a refusal with %q", err, words)
	}
	return r
}

// puppet does what its message says, and writes it down.
func puppet(s *harness.Scene) (any, error) {
	verb, rest, _ := strings.Cut(string(s.Msg), " ")
	if s.Entry == "reply" {
		reply, err := cosmwasm.Decode[cosmwasm.Reply](s.Msg)
		if err != nil {
			return nil, err
		}
		_, failed := reply.Result.(cosmwasm.Failure)
		return cosmwasm.Response{Attributes: []cosmwasm.Attribute{{Key: "failed", Value: fmt.Sprint(failed)}}, Data: []byte("replied")}, nil
	}
	switch verb {
	case "refuse":
		return nil, errors.New(rest)
	case "keep":
		s.Set("kept", []byte(rest))
		return cosmwasm.Response{Attributes: []cosmwasm.Attribute{{Key: "by", Value: s.Info.Sender}}, Data: []byte("done")}, nil
	case "forget":
		s.Set("kept", nil)
	case "kept":
		return string(s.Get("kept")), nil
	case "loop":
		for {
			s.Get("kept")
		}
	case "ask":
		text, err := s.Ask(rest)
		return string(text), err
	case "send":
		m, err := cosmwasm.DecodeMessage([]byte(rest))
		return cosmwasm.Response{Messages: []cosmwasm.SubMsg{{Msg: m, ReplyOn: cosmwasm.ReplyAlways}}}, err
	case "wrong":
		return 5, nil
	}
	return nil, nil
}

// TestCalls: events, gas, data and what is kept, of calls that take effect and that do not.
func TestCalls(t *testing.T) {
	h := fresh(t, harness.Config{})
	alice := harness.AccountOf("alice")
	at := scripted(t, h, puppet)
	height, when := h.Height(), h.Time()
	r, err := h.Execute(alice, at, "keep this")
	if err != nil {
		t.Fatal(err)
	}
	if r.Attribute(at, "by") != alice.String() || string(r.Data) != "done" || r.Contract != at || r.Height != height+1 || r.Gas == 0 || r.Fee == 0 {
		t.Errorf("%+v", r)
	}
	if len(r.Calls) != 1 || r.Calls[0].Entry != "execute" || r.Calls[0].Ended != "returned" || r.Calls[0].Gas == 0 || r.Calls[0].Gas >= r.Gas || string(r.Calls[0].Msg) != "keep this" {
		t.Errorf("%+v", r.Calls)
	}
	if h.Height() != height+1 || h.Time() != when.Add(time.Second) {
		t.Errorf("height %d at %s", h.Height(), h.Time())
	}
	if paid, back := r.Room(); paid != 10_000*(64+uint64(len("kept"+"this"))) || back != 0 {
		t.Errorf("room for %d, %d came back", paid, back)
	}
	if string(h.Raw(at, []byte("kept"))) != "this" || h.Raw(at, []byte("else")) != nil {
		t.Errorf("it keeps %q", h.Raw(at, []byte("kept")))
	}
	if answer, err := h.Query(at, "kept"); err != nil || string(answer.JSON) != `"this"` || answer.Gas == 0 || len(answer.Calls) != 1 {
		t.Errorf("%+v, %v", answer, err)
	}
	_, err = h.Execute(alice, at, "refuse it is closed")
	why := refused(t, err, "it is closed")
	if why.Contract != at || why.Gas == 0 || !strings.HasPrefix(why.Text, "wasm 5: ") || len(why.Calls) != 1 {
		t.Errorf("%+v", why)
	}
	if h.Height() != height+2 {
		t.Errorf("a refusal is at height %d", h.Height())
	}
	_, err = h.Query(at, "refuse nobody asks")
	_ = refused(t, err, "nobody asks")
	_, err = h.Query(at, "keep nothing")
	if why := refused(t, err, err.Error()); why.Calls[0].Ended != "misused" {
		t.Errorf("a query that writes: %+v", why)
	}
	if r, err := h.Execute(alice, at, "forget"); err != nil || h.Raw(at, []byte("kept")) != nil {
		t.Errorf("%+v, %v", r, err)
	} else if paid, back := r.Room(); paid != 0 || back == 0 {
		t.Errorf("room for %d, %d came back", paid, back)
	}
	if _, err := h.Execute(alice, at, "wrong"); !errors.Is(err, harness.ErrScript) {
		t.Errorf("a script that answers a number: %v", err)
	}
	if r, err := h.Execute(alice, at, map[string]any{"who": alice}); err != nil || string(r.Calls[0].Msg) != fmt.Sprintf(`{"who":%q}`, alice) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := h.Execute(alice, at, func() {}); !errors.Is(err, harness.ErrMessage) {
		t.Errorf("no JSON: %v", err)
	}
}

// TestMoney: funds go with calls and come back with refusals, fees are the harness' unless they are to be the sender's.
func TestMoney(t *testing.T) {
	h := fresh(t, harness.Config{})
	alice, bob := harness.AccountOf("alice"), harness.AccountOf("bob")
	at := scripted(t, h, puppet)
	_, err := h.Execute(alice, at, "keep x", 5)
	if err == nil || h.Balance(alice.Address()) != 0 || h.Balance(at) != 0 {
		t.Fatalf("%v: without money alice sends some", err)
	}
	if err := h.Fund(alice.Address(), 10*harness.Hyper); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Execute(alice, at, "keep x", 3, 4); err != nil {
		t.Fatal(err)
	}
	if h.Balance(alice.Address()) != 10*harness.Hyper-7 || h.Balance(at) != 7 {
		t.Errorf("alice has %d, the contract %d", h.Balance(alice.Address()), h.Balance(at))
	}
	if _, err := h.Execute(alice, at, "refuse no", 3); err == nil || h.Balance(at) != 7 {
		t.Errorf("%v: the contract has %d", err, h.Balance(at))
	}
	if _, err := h.Execute(alice, at, "keep x", 1<<63, 1<<63); !errors.Is(err, harness.ErrNotIncluded) {
		t.Errorf("more than there can be: %v", err)
	}
	pay := fmt.Sprintf(`send {"bank":{"send":{"to_address":%q,"amount":[{"denom":"nhyper","amount":"6"}]}}}`, bob)
	r, err := h.Execute(alice, at, pay)
	if err != nil || h.Balance(bob.Address()) != 6 || r.Attribute(at, "failed") != "false" || string(r.Data) != "replied" {
		t.Errorf("%+v, %v: bob has %d", r, err, h.Balance(bob.Address()))
	}
	r, err = h.Execute(alice, at, pay)
	if err != nil || h.Balance(bob.Address()) != 6 || r.Attribute(at, "failed") != "true" {
		t.Errorf("%+v, %v: bob has %d", r, err, h.Balance(bob.Address()))
	}
	before := h.Balance(alice.Address())
	results, err := h.Block(harness.Tx{From: alice, OwnFee: true, Gas: 1_000_000, Messages: []chain.Msg{
		chain.ExecuteContract{Contract: at, Msg: []byte("keep longer"), MaxDeposit: chain.Hyper(1)},
	}})
	if err != nil || results[0].Refused != nil {
		t.Fatal(err, results)
	}
	if paid, _ := results[0].Room(); before-h.Balance(alice.Address()) != results[0].Fee+paid {
		t.Errorf("alice paid %d, want %d and %d", before-h.Balance(alice.Address()), results[0].Fee, paid)
	}
}

// TestBlocks: several transactions in one, what no block may have, gas, and time.
func TestBlocks(t *testing.T) {
	h := fresh(t, harness.Config{BlockTime: 3 * time.Second, ChainID: "another-1", Start: time.UnixMilli(1_800_000_000_000)})
	alice := harness.AccountOf("alice")
	at := scripted(t, h, puppet)
	say := func(text string) chain.Msg {
		return chain.ExecuteContract{Contract: at, Msg: []byte(text), MaxDeposit: chain.Hyper(1)}
	}
	height := h.Height()
	results, err := h.Block(
		harness.Tx{From: alice, Messages: []chain.Msg{say("keep one")}},
		harness.Tx{From: alice, Messages: []chain.Msg{say("keep two"), say("refuse both")}},
		harness.Tx{From: alice, Gas: 100_000, Messages: []chain.Msg{say("loop")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Refused != nil || len(results[0].Calls) != 1 || h.Height() != height+1 || string(h.Raw(at, []byte("kept"))) != "one" {
		t.Errorf("%+v", results[0])
	}
	if why := results[1].Refused; why == nil || why.Words != "both" || !strings.HasPrefix(why.Text, "message 1: ") || len(why.Calls) != 2 || len(results[1].Events) != 0 {
		t.Errorf("%+v", results[1])
	}
	if why := results[2].Refused; why == nil || why.Text != "out of gas: limit 100000" || why.Gas != 100_000 || why.Calls[0].Ended != "spent" {
		t.Errorf("%+v", results[2])
	}
	for name, tx := range map[string]harness.Tx{
		"gas_limit":          {From: alice, Gas: 1 << 60, Messages: []chain.Msg{say("x")}},
		"insufficient_funds": {From: alice, OwnFee: true, Messages: []chain.Msg{say("x")}},
		"messages":           {From: alice},
		"bytes":              {From: alice, Messages: []chain.Msg{say(strings.Repeat("x", 1<<20))}},
	} {
		if _, err := h.Block(tx); !errors.Is(err, harness.ErrNotIncluded) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	when := h.Time()
	if err := errors.Join(h.Blocks(2), h.Pass(200*24*time.Hour), h.Pass(time.Millisecond)); err != nil || h.Height() != height+5 {
		t.Errorf("%v, height %d", err, h.Height())
	}
	if want := when.Add(6*time.Second + 200*24*time.Hour + time.Millisecond); h.Time() != want {
		t.Errorf("it is %s, want %s", h.Time(), want)
	}
	for _, d := range []time.Duration{0, -time.Second, time.Microsecond, time.Millisecond + 1, 400 * 24 * time.Hour} {
		if err := h.Pass(d); !errors.Is(err, harness.ErrTime) || h.Height() != height+5 {
			t.Errorf("%s later: %v", d, err)
		}
	}
	if _, err := h.Execute(alice, at, "keep on"); err != nil {
		t.Errorf("after epochs: %v", err)
	}
}

// TestContracts: admins, migration, predictable addresses, code in parts, and a contract that asks another.
func TestContracts(t *testing.T) {
	h := fresh(t, harness.Config{})
	alice, bob := harness.AccountOf("alice"), harness.AccountOf("bob")
	one, err := h.StoreScript(puppet)
	if err != nil {
		t.Fatal(err)
	}
	two, err := h.StoreScript(func(s *harness.Scene) (any, error) {
		if s.Entry == "query" {
			return "two", nil
		}
		return nil, nil
	})
	if err != nil || two != one+1 {
		t.Fatal(two, err)
	}
	admin := alice.Address()
	made, err := h.Instantiate(bob, one, "keep x", harness.Making{Label: "first", Admin: &admin, Salt: []byte("salt")})
	if err != nil {
		t.Fatal(err)
	}
	info, ok := h.Contract(made.Contract)
	code, _ := contract.CodeOf(h.State(), one)
	if want := contract.PredictableAddress(code.Checksum, bob.Address(), []byte("salt")); !ok || made.Contract != want || info.Label != "first" || *info.Admin != admin {
		t.Errorf("%+v at %s, want %s", info, made.Contract, want)
	}
	if _, err := h.Migrate(bob, made.Contract, two, `{}`); err == nil {
		t.Error("bob migrates what is alice's")
	}
	if r, err := h.Migrate(alice, made.Contract, two, `{}`); err != nil || r.Calls[0].Entry != "migrate" {
		t.Errorf("%+v, %v", r, err)
	}
	asker := scripted(t, h, puppet)
	answer, err := h.Query(asker, fmt.Sprintf(`ask {"wasm":{"smart":{"contract_addr":%q,"msg":"e30="}}}`, made.Contract))
	if err != nil || string(answer.JSON) != `"\"two\""` || len(answer.Calls) != 2 || answer.Calls[1].Waiting != 1 || answer.Calls[1].Contract != made.Contract {
		t.Errorf("%+v, %v", answer, err)
	}
	_, err = h.Query(asker, fmt.Sprintf(`ask {"wasm":{"smart":{"contract_addr":%q,"msg":%q}}}`, asker, base64.StdEncoding.EncodeToString([]byte("refuse so"))))
	if why := refused(t, err, "codespace: wasm, code: 9"); why.Contract != asker || len(why.Calls) != 2 || why.Calls[1].Why != "so" {
		t.Errorf("%+v", why)
	}
	if _, err := h.SetAdmin(alice, made.Contract, nil); err != nil {
		t.Error(err)
	}
	if _, err := h.Migrate(alice, made.Contract, one, `{}`); err == nil {
		t.Error("alice migrates what is nobody's")
	}
	if _, ok := h.Contract(admin); ok {
		t.Error("alice is a contract")
	}
	if _, err := h.Store([]byte("\x00asm")); err == nil {
		t.Error("no module is stored")
	}
	large := append(module(t, "cw20"), 0)
	large = append(large, 0x83, 0x80, 0x08) // a section of 128 KiB and its name
	large = append(large, append([]byte{2, 'x', 'x'}, make([]byte, 128<<10)...)...)
	if code, err := h.Store(large); err != nil || code != two+1+1 {
		t.Errorf("code in parts: %d, %v", code, err)
	}
}

func module(t *testing.T, name string) []byte {
	t.Helper()
	code, err := os.ReadFile("../templates/" + name + "/" + name + ".wasm")
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// TestCustom: what only this chain has is as the chain has it, unless somebody stands in.
func TestCustom(t *testing.T) {
	cluster := crypto.PrivateKeyFromSeed(sha256.Sum256([]byte("cluster"))).Public()
	deposit := fmt.Sprintf(`send {"custom":{"deposit":{"cluster":%q,"amount":"5"}}}`, cluster)
	escrow := func(of harness.Address) string {
		return fmt.Sprintf(`ask {"custom":{"escrow":{"consumer":%q,"cluster":%q}}}`, of, cluster)
	}
	var told []any
	config := harness.Config{Custom: harness.Custom{
		Message: func(from harness.Address, message any) (bool, string) {
			told = append(told, from, message)
			switch m := message.(type) {
			case harness.Deposit:
				return m.Amount == chain.Nano(5), ""
			case harness.Withdraw:
				return true, "it is locked"
			}
			return false, ""
		},
		Query: func(q contract.Question) any {
			if _, ok := q.(contract.AskEscrow); ok {
				return contract.EscrowAnswer{Balance: "77"}
			}
			return nil
		},
	}}
	for name, c := range map[string]struct {
		config harness.Config
		failed string
		has    string
		told   int
	}{
		"the chain":  {harness.Config{}, "true", `"{\"balance\":\"0\"}"`, 0}, // there is no such cluster
		"a stand-in": {config, "false", `"{\"balance\":\"77\"}"`, 2},
	} {
		h := fresh(t, c.config)
		at := scripted(t, h, puppet)
		if err := h.Fund(at, 100); err != nil {
			t.Fatal(err)
		}
		r, err := h.Execute(harness.AccountOf("alice"), at, deposit)
		if err != nil || r.Attribute(at, "failed") != c.failed || len(told) != c.told || h.Balance(at) != 100 {
			t.Errorf("%s: %+v, %v, %v", name, r, err, told)
		}
		if answer, err := h.Query(at, escrow(at)); err != nil || string(answer.JSON) != c.has {
			t.Errorf("%s: %s, %v", name, answer.JSON, err)
		}
		r, err = h.Execute(harness.AccountOf("alice"), at, strings.Replace(deposit, `"deposit"`, `"withdraw"`, 1))
		if err != nil || r.Attribute(at, "failed") != "true" {
			t.Errorf("%s: a withdrawal: %+v, %v", name, r, err)
		}
		if answer, err := h.Query(at, fmt.Sprintf(`ask {"custom":{"node":{"id":%q}}}`, cluster)); err != nil || string(answer.JSON) != `"{\"node\":null}"` {
			t.Errorf("%s: of a node the chain says %s, %v", name, answer.JSON, err)
		}
		told = nil
	}
}

// TestRealEscrow: a contract deposits at a cluster that somebody has registered, and gets it back in time.
func TestRealEscrow(t *testing.T) {
	h := fresh(t, harness.Config{})
	operator := harness.AccountOf("operator")
	at := scripted(t, h, puppet)
	if err := errors.Join(h.Fund(at, 100), h.Fund(operator.Address(), 2_000*harness.Hyper)); err != nil {
		t.Fatal(err)
	}
	cluster := harness.AccountOf("cluster")
	proof, err := cluster.Sign(crypto.DomainPossession, chain.PossessionPayload("harness-1", operator.Address()))
	if err != nil {
		t.Fatal(err)
	}
	register := chain.RegisterCluster{Cluster: cluster.PublicKey(), Bond: chain.Hyper(1_000), Possession: proof}
	if _, err := h.Do(operator, register); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Execute(operator, at, fmt.Sprintf(`send {"custom":{"deposit":{"cluster":%q,"amount":"60"}}}`, cluster.PublicKey())); err != nil || h.Balance(at) != 40 {
		t.Fatal(err, h.Balance(at))
	}
	if _, err := h.Execute(operator, at, fmt.Sprintf(`send {"custom":{"withdraw":{"cluster":%q,"amount":"50"}}}`, cluster.PublicKey())); err != nil {
		t.Fatal(err)
	}
	if err := h.Pass(48 * time.Hour); err != nil || h.Balance(at) != 90 {
		t.Errorf("%v, the contract has %d", err, h.Balance(at))
	}
}

// together is a verifier that can verify proofs together; none of them holds.
type together struct{ asked int }

func (v *together) Verify(zk.Statement, []byte) error {
	v.asked++
	return zk.ErrFalseProof
}

func (v *together) VerifyAll(claims []zk.Claim) []error {
	return slices.Repeat([]error{zk.ErrFalseProof}, len(claims))
}

// TestProofsAreVerifiedOneByOne: of a block with transactions that ask for proofs' verdicts each call is made once, and told once,
// whatever the verifier can.
func TestProofsAreVerifiedOneByOne(t *testing.T) {
	var verdicts []string
	v := &together{}
	h := fresh(t, harness.Config{Proofs: v, Genesis: func(g *chain.Genesis) {
		g.InsecureKeys = true
		g.Kernels = append(g.Kernels, chain.GenesisKernel{Name: "matmul-4", VerifyingKey: crypto.Digest{7}, FixedGas: chain.GasUnits(700_000)})
	}})
	at := scripted(t, h, func(s *harness.Scene) (any, error) {
		if s.Entry != "execute" {
			return nil, nil
		}
		text, err := s.Ask(fmt.Sprintf(`{"custom":{"verify_proof":{"kernel":"matmul-4","inputs":["%064x"],"outputs":["%064x"],"bind":"%064x","proof":"bm8="}}}`, 3, 9, 1))
		verdicts = append(verdicts, string(text))
		return nil, err
	})
	alice := harness.AccountOf("alice")
	prices := []chain.UnitPrice{{Resource: chain.CPU, Price: 1}}
	order := chain.Order{ChainID: "harness-1", Consumer: alice.AccountKey(), Cluster: alice.PublicKey(), Policy: chain.PolicyField{Policy: chain.PolicyZK{Kernel: "matmul-4", VerifyingKey: crypto.Digest{7}, Inputs: []chain.FieldBytes{{31: 3}}}}, Caps: prices}
	claim := chain.Claim{ // nobody has signed it
		Order: order, Bid: chain.Bid{ChainID: "harness-1", Order: order.ID(), Node: alice.PublicKey(), Prices: prices}, Proof: []byte("no"),
		Receipt: chain.UsageReceipt{ChainID: "harness-1", Order: order.ID(), Node: alice.PublicKey(), Sequence: 1, Usage: []chain.Usage{{Resource: chain.CPU, Amount: 1, DurationMs: 1}}, Exit: chain.ExitOK},
	}
	results, err := h.Block(
		harness.Tx{From: alice, Messages: []chain.Msg{chain.Settle{Claims: chain.Claims{claim}}}},
		harness.Tx{From: alice, Messages: []chain.Msg{chain.ExecuteContract{Contract: at, Msg: []byte("{}"), MaxDeposit: chain.Hyper(1)}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	if results[1].Refused != nil {
		t.Fatalf("%+v", results[1])
	}
	if !slices.Equal(verdicts, []string{`{"valid":false}`}) || len(results[1].Calls) != 1 || v.asked != 1 {
		t.Errorf("the contract was told %q, its calls are %+v, the verifier was asked %d times", verdicts, results[1].Calls, v.asked)
	}
}

// TestSnapshots: what was changed since is gone, again and again, and older ones go with it.
func TestSnapshots(t *testing.T) {
	h := fresh(t, harness.Config{})
	at := scripted(t, h, puppet)
	keep := func(text string) {
		t.Helper()
		if _, err := h.Execute(harness.AccountOf("alice"), at, "keep "+text); err != nil {
			t.Fatal(err)
		}
	}
	keep("one")
	height, first := h.Height(), h.Snapshot()
	keep("two")
	second := h.Snapshot()
	keep("three")
	if err := h.Rollback(second); err != nil || string(h.Raw(at, []byte("kept"))) != "two" || h.Height() != height+1 {
		t.Errorf("%v, it keeps %s", err, h.Raw(at, []byte("kept")))
	}
	third := h.Snapshot()
	if err := h.Rollback(first); err != nil || string(h.Raw(at, []byte("kept"))) != "one" || h.Height() != height {
		t.Errorf("%v, it keeps %s", err, h.Raw(at, []byte("kept")))
	}
	other := fresh(t, harness.Config{})
	for _, s := range []*harness.Snapshot{first, second, third, other.Snapshot(), nil} {
		if err := h.Rollback(s); !errors.Is(err, harness.ErrSnapshot) {
			t.Errorf("a snapshot that is gone: %v", err)
		}
	}
	keep("four")
	if got := string(h.Raw(at, []byte("kept"))); got != "four" {
		t.Errorf("it keeps %s", got)
	}
}

// TestTheSameAgain: the same calls give the same state, to the byte, and receipts.
func TestTheSameAgain(t *testing.T) {
	history := func() (all []byte, ids []string) {
		h := fresh(t, harness.Config{})
		code, err := h.Store(module(t, "counter"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := h.Instantiate(harness.AccountOf("alice"), code, `{"count":5}`, harness.Making{})
		if err != nil {
			t.Fatal(err)
		}
		at := r.Contract
		for i := range 20 {
			if r, err = h.Execute(harness.AccountOf(fmt.Sprint("user", i%3)), at, `{"increment":{}}`); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, fmt.Sprintf("%s %d", r.ID, r.Gas))
		}
		for key, value := range h.State().Iterate([]byte{0}, nil) {
			all = append(append(all, key...), value...)
		}
		return all, ids
	}
	one, ids := history()
	two, again := history()
	if !bytes.Equal(one, two) || !slices.Equal(ids, again) || len(one) == 0 {
		t.Errorf("%d and %d bytes, %v and %v", len(one), len(two), ids, again)
	}
}

func TestConfigs(t *testing.T) {
	for name, config := range map[string]harness.Config{
		"Start":     {Start: time.UnixMilli(-5)},
		"BlockTime": {BlockTime: time.Microsecond},
		"chain id":  {ChainID: "X"},
		"bucket":    {Genesis: func(g *chain.Genesis) { g.Allocations = nil }},
	} {
		if h, err := harness.New(config); !errors.Is(err, harness.ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
}

// TestPin: who has code pinned pays for it, and it ends with its last day.
func TestPin(t *testing.T) {
	h := fresh(t, harness.Config{})
	bob := harness.AccountOf("bob")
	at := scripted(t, h, puppet)
	info, _ := h.Contract(at)
	pinned := func() bool {
		code, _ := contract.CodeOf(h.State(), info.Code)
		return code.InMemory(h.State()).PinnedTo > contract.PinPeriod(chain.TimeMs(h.Time().UnixMilli()))
	}
	if _, err := h.Pin(bob, info.Code, 1); err == nil || pinned() {
		t.Errorf("without money: %v", err)
	}
	const funds = 1_000_000_000
	if err := h.Fund(bob.Address(), funds); err != nil {
		t.Fatal(err)
	}
	r, err := h.Pin(bob, info.Code, 2)
	if err != nil {
		t.Fatal(err)
	}
	event, ok := r.Events[len(r.Events)-1].(chain.CodePinned)
	if !ok || h.Balance(bob.Address()) != funds-event.Burned.Nano() || event.Burned.IsZero() || !pinned() {
		t.Errorf("%+v, bob has %d", r.Events, h.Balance(bob.Address()))
	}
	if err := h.Pass(48 * time.Hour); err != nil || pinned() {
		t.Errorf("it is pinned after two days; %v", err)
	}
}
