package vm_test

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bytecodealliance/wasmtime-go/v44"

	hyper "github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
	"github.com/hypermesh/hypermesh/tokens"
)

// made is a contract's text with an instantiate, which stores what key and value say.
func made(text string) string {
	const answer = `{"ok":{"messages":[],"attributes":[],"events":[]}}`
	return strings.Replace(text, `(func (export "interface_version_8"))`, fmt.Sprintf(`(data (i32.const 1024) "%s")
		(func (export "instantiate") (param i32 i32 i32) (result i32)
			%s%s(call $db_write (i32.const 16) (i32.const 32))
			(call $region (i32.const 32) (i32.const 1024) (i32.const %d) (i32.const %d)) (i32.const 32))
		(func (export "interface_version_8"))`, strings.ReplaceAll(answer, `"`, `\"`), key, value, len(answer), len(answer)), 1)
}

// onChain is a chain of accounts and contracts, with a caller (callerSource) as its contract: the host that its
// imports reach is the chain itself.
type onChain struct {
	state *state.Overlay
	env   contract.Env
	it    hyper.Address
}

func newOnChain(t testing.TB) *onChain {
	t.Helper()
	text := made(callerSource())
	code, err := wasmtime.Wat2Wasm(text)
	if err != nil {
		t.Fatal(err)
	}
	prices := contract.PricesV1()
	prices.Read, prices.ReadByte, prices.Write, prices.Insert, prices.WriteByte = 800, 1, 1_000, 800, 4
	c := &onChain{state: state.NewOverlay(state.NewMemoryBackend())}
	c.env = contract.Env{
		ChainID: "hyper-test", Height: 1, Now: 1_790_000_000_000, Payer: hyper.ModuleAddress("payer"), Prices: prices,
		VM: newMachine(t, vm.Config{}), Tx: &contract.Tx{Index: 3, ID: hyper.TxID{1}},
	}
	for _, name := range []string{"alice", "payer"} {
		tokens.Credit(c.state, hyper.ModuleAddress(name), hyper.Hyper(100))
		tokens.Mint(c.state, hyper.Hyper(100))
	}
	must := func(m any) hyper.Events {
		did := contract.Do(c.state, &c.env, hyper.ModuleAddress("alice"), m, 60_000_000)
		if did.Why != nil {
			t.Fatal(did.Why.Reason())
		}
		return did.Events
	}
	must(hyper.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code})
	c.env.Height += contract.CallableAfter
	c.env.ProgressMs += contract.MaxDebtMs
	made := must(hyper.InstantiateContract{Code: 1, Label: "caller", Msg: []byte("{}"), Funds: hyper.Nano(1_000), MaxDeposit: hyper.Hyper(10)})
	c.it = made[1].(hyper.ContractInstantiated).Contract
	if kept, ok := c.state.Get(contract.StorageKey(c.it, []byte("key"))); !ok || string(kept) != "value" {
		t.Fatalf("the caller has kept %q", kept)
	}
	return c
}

// attempt has the caller call an import, in a transaction and as who asks, and holds both to what a chain may do.
func (c *onChain) attempt(t *testing.T, message []byte) contract.Result {
	t.Helper()
	const gas = 3_000_000
	call := hyper.ExecuteContract{Contract: c.it, Msg: message, MaxDeposit: hyper.Hyper(10)}
	once := func() (*state.Overlay, contract.Result) {
		layer := state.NewOverlay(c.state)
		return layer, contract.Do(layer, &c.env, hyper.ModuleAddress("alice"), call, gas)
	}
	layer, did := once()
	if _, again := once(); !reflect.DeepEqual(did, again) {
		t.Fatalf("%x: once %+v, and again %+v", message, did, again)
	}
	if did.Gas > gas || did.Why != nil && len(did.Events) > 0 {
		t.Fatalf("%x: %+v", message, did)
	}
	if did.Why == nil {
		c.counts(t, layer, message)
	}
	if _, used, _ := contract.Ask(c.state, &c.env, c.it, message, gas); used > gas {
		t.Fatalf("%x: a query has used %d", message, used)
	}
	return did
}

// counts demands that no money has come or gone, and that the contract has paid for the room that it takes.
func (c *onChain) counts(t *testing.T, layer *state.Overlay, message []byte) {
	t.Helper()
	var held hyper.Amount
	for key, value := range layer.Iterate([]byte{0}, nil) {
		amount := hyper.Amount{}
		switch key[0] {
		case tokens.Prefix:
			_, amount = tokens.ValueOf(key, value)
		case contract.Prefix:
			_, amount = contract.ValueOf(key, value)
		}
		held, _ = held.Add(amount)
	}
	supply := tokens.SupplyOf(layer)
	if all, _ := supply.Minted.Sub(supply.Burned); held != all {
		t.Fatalf("%x: there is %s of %s", message, held, all)
	}
	const recordBytes, entryBytes = 512, 64
	takes, prefix := uint64(recordBytes), contract.StorageKey(c.it, nil)
	for key, value := range layer.Iterate(prefix, append(slices.Clone(prefix), 0xff)) {
		takes += uint64(entryBytes + len(key) - len(prefix) + len(value))
	}
	if record, _ := contract.ContractOf(layer, c.it); record.Bytes != takes || record.Pool.Nano() < takes*contract.NanoPerByte {
		t.Fatalf("%x: it takes %d bytes, and is said to take %d for %s", message, takes, record.Bytes, record.Pool)
	}
}

// FuzzImportsOnChain is FuzzImports with the chain behind the imports: storage, walks, addresses and queries are the
// contract module's own. Whatever a contract hands to them, and answers of what they gave it, is a rejection or
// takes effect, and never a fault.
func FuzzImportsOnChain(f *testing.F) {
	c := newOnChain(f)
	queries := []string{
		`{"bank":{"balance":{"address":"` + c.it.String() + `","denom":"nhyper"}}}`, `{"bank":{"all_balances":{"address":"nobody"}}}`, `{"bank":{"supply":{"denom":""}}}`,
		`{"wasm":{"smart":{"contract_addr":"` + c.it.String() + `","msg":""}}}`, `{"wasm":{"raw":{"contract_addr":"` + c.it.String() + `","key":"a2V5"}}}`,
		`{"wasm":{"raw":{"contract_addr":"","key":"="}}}`, `{"wasm":{"contract_info":{"contract_addr":"` + c.it.String() + `"}}}`, `{"wasm":{"code_info":{"code_id":18446744073709551615}}}`,
		`{"staking":{"bonded_denom":{}}}`, `{"custom":{"order":{"id":"x"}}}`, `{"stargate":{"path":"/","data":""}}`, "", "{", "null", `{"bank":{"bank":{}}}`, "\xff\xfe",
	}
	for which, call := range meter.HostCalls() {
		for i, g := range hostileRegions {
			f.Add(byte(which), byte(i%9), uint32(patchAt), hostileArguments[i%len(hostileArguments)], uint32(patchAt), uint32(i), regionText(g[0], g[1], g[2]))
			f.Add(byte(which), byte(0), uint32(patchAt), uint32(patchAt), uint32(patchAt), uint32(patchAt), regionText(g[0], g[1], g[2]))
		}
		for _, text := range append(queries, c.it.String(), "key", strings.Repeat("k", contract.MaxKeyBytes+1)) {
			body := append(regionText(patchAt+12, uint32(len(text)), uint32(len(text))), text...)
			f.Add(byte(which), byte(0), uint32(patchAt), uint32(patchAt), uint32(1), uint32(patchAt), body)
			if call.Name == "db_scan" {
				f.Add(byte(which), byte(0), uint32(0), uint32(patchAt), uint32(2), uint32(0), body)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which, mode byte, a, b, x, y uint32, patch []byte) {
		c.attempt(t, callerMessage(which%byte(len(meter.HostCalls())), mode, [4]uint32{a, b, x, y}, patch))
	})
}
