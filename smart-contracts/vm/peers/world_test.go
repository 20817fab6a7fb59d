package peers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	wasmvm "github.com/CosmWasm/wasmvm/v3"
	"github.com/CosmWasm/wasmvm/v3/types"

	"github.com/hypermesh/hypermesh/smart-contracts/cosmwasm"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// storage is a contract's storage in memory.
type storage map[string][]byte

// between are the keys from start to end.
func (s storage) between(start, end []byte, descending bool) (keys []string) {
	for key := range s {
		if (start == nil || key >= string(start)) && (end == nil || key < string(end)) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if descending {
		slices.Reverse(keys)
	}
	return keys
}

// What both worlds answer to queries for what an address has.
const (
	balance  = `{"amount":{"denom":"earth","amount":"1000"}}`
	balances = `{"amount":[{"denom":"earth","amount":"1000"}]}`
)

var errAddress = errors.New("invalid address")

// canonical is the addresses of both worlds: their own bytes, from 3 to 64, in
// lower case.
func canonical(address string) ([]byte, error) {
	if len(address) < 3 || len(address) > 64 {
		return nil, errAddress
	}
	return []byte(strings.ToLower(address)), nil
}

func human(bytes []byte) (string, error) {
	if len(bytes) < 3 || len(bytes) > 64 {
		return "", errAddress
	}
	return string(bytes), nil
}

// host is our machine's world.
type host struct{ storage }

func (h host) Read(key []byte) ([]byte, uint64, error) { return h.storage[string(key)], 1, nil }

func (h host) Write(key, value []byte) (uint64, error) {
	h.storage[string(key)] = value
	return 1, nil
}

func (h host) Remove(key []byte) (uint64, error) {
	delete(h.storage, string(key))
	return 1, nil
}

func (h host) Scan(start, end []byte, order vm.Order, _ uint64) (vm.Iterator, uint64, error) {
	return &walk{storage: h.storage, keys: h.between(start, end, order == vm.Descending)}, 1, nil
}

func (h host) Canonical(address string) ([]byte, bool) {
	c, err := canonical(address)
	return c, err == nil
}

func (h host) Human(c []byte) (string, bool) {
	a, err := human(c)
	return a, err == nil
}

func (h host) Query(request []byte, _ uint64) ([]byte, uint64, error) {
	if _, err := cosmwasm.DecodeQuery(request); err != nil {
		return nil, 1, err
	}
	answer := cosmwasm.Answered{Answer: cosmwasm.Data{Bytes: answerOf(request)}}
	return cosmwasm.EncodeReached(answer), 1, nil
}

// answerOf is the answer to any query.
func answerOf(request []byte) []byte {
	if bytes.Contains(request, []byte(`"balance"`)) {
		return []byte(balance)
	}
	if bytes.Contains(request, []byte(`"all_balances"`)) {
		return []byte(balances)
	}
	return []byte(`{}`)
}

// walk is an iterator of both.
type walk struct {
	storage
	keys []string
	at   int
}

func (w *walk) done() bool { return w.at >= len(w.keys) }

func (w *walk) step() (key, value []byte) {
	w.at++
	return []byte(w.keys[w.at-1]), w.storage[w.keys[w.at-1]]
}

// Next is our machine's.
func (w *walk) Next() (key, value []byte, points uint64, err error) {
	if w.done() {
		return nil, nil, 1, nil
	}
	key, value = w.step()
	return key, value, 1, nil
}

// Close is our machine's.
func (w *walk) Close() {}

// store is wasmvm's world.
type store struct{ storage }

func (s store) Get(key []byte) []byte { return s.storage[string(key)] }
func (s store) Set(key, value []byte) { s.storage[string(key)] = bytes.Clone(value) }
func (s store) Delete(key []byte)     { delete(s.storage, string(key)) }

func (s store) Iterator(start, end []byte) types.Iterator {
	return &theirWalk{walk: walk{storage: s.storage, keys: s.between(start, end, false)}, start: start, end: end}
}

func (s store) ReverseIterator(start, end []byte) types.Iterator {
	return &theirWalk{walk: walk{storage: s.storage, keys: s.between(start, end, true)}, start: start, end: end}
}

type theirWalk struct {
	walk       walk
	start, end []byte
}

func (w *theirWalk) Domain() (start, end []byte) { return w.start, w.end }
func (w *theirWalk) Valid() bool                 { return !w.walk.done() }
func (w *theirWalk) Next()                       { w.walk.at++ }
func (w *theirWalk) Key() []byte                 { return []byte(w.walk.keys[w.walk.at]) }
func (w *theirWalk) Value() []byte               { return w.walk.storage[w.walk.keys[w.walk.at]] }
func (w *theirWalk) Error() error                { return nil }
func (w *theirWalk) Close() error                { return nil }

var theirAPI = types.GoAPI{
	HumanizeAddress: func(c []byte) (string, uint64, error) {
		a, err := human(c)
		return a, 1, err
	},
	CanonicalizeAddress: func(a string) ([]byte, uint64, error) {
		c, err := canonical(a)
		return c, 1, err
	},
	ValidateAddress: func(a string) (uint64, error) {
		c, err := canonical(a)
		if err == nil && string(c) != a {
			err = errors.New("Address is not normalized")
		}
		return 1, err
	},
}

type querier struct{}

func (querier) Query(request types.QueryRequest, _ uint64) ([]byte, error) {
	text, err := json.Marshal(request)
	return answerOf(text), err
}

func (querier) GasConsumed() uint64 { return 0 }

// capabilities are what both offer.
var capabilities = meter.Capabilities()

const (
	ourPoints = 4_000_000_000
	theirGas  = 500_000_000_000_000
)

// world is one contract under both machines.
type world struct {
	t        testing.TB
	ours     *vm.Machine
	code     vm.Code
	theirs   *wasmvm.VM
	checksum wasmvm.Checksum
	ourStore storage
	store    storage
	points   uint64 // of our calls
	gas      uint64 // of theirs
}

func newWorld(t testing.TB, code []byte) *world {
	t.Helper()
	return newWorldWith(t, code, capabilities)
}

// newWorldWith is one where both offer some capabilities.
func newWorldWith(t testing.TB, code []byte, capabilities []string) *world {
	t.Helper()
	w := &world{t: t, points: ourPoints, gas: theirGas, ourStore: storage{}, store: storage{}}
	module, err := meter.Prepare(code, capabilities, meter.WeightsV1())
	if err != nil {
		t.Fatal(err)
	}
	w.code = vm.Code{ID: [32]byte{1}, Load: func() (*meter.Module, error) { return module, nil }}
	if w.ours, err = vm.New(vm.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.ours.Close)
	if w.theirs, err = wasmvm.NewVM(t.TempDir(), capabilities, 32, false, 100); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.theirs.Cleanup)
	if w.checksum, _, err = w.theirs.StoreCode(code, theirGas); err != nil {
		t.Fatal(err)
	}
	return w
}

var env = types.Env{
	Block:       types.BlockInfo{Height: 12345, Time: 1571797419879305533, ChainID: "hypermesh-1"},
	Transaction: &types.TransactionInfo{Index: 3},
	Contract:    types.ContractInfo{Address: "contract"},
}

// ourEnv is env in our types.
var ourEnv = cosmwasm.Env{
	Block:       cosmwasm.Block{Height: env.Block.Height, Time: uint64(env.Block.Time), ChainID: env.Block.ChainID},
	Transaction: &cosmwasm.Transaction{Index: env.Transaction.Index},
	Contract:    env.Contract.Address,
}

// ourInfo is who calls in our types.
func ourInfo(t testing.TB, info types.MessageInfo) cosmwasm.MessageInfo {
	t.Helper()
	out := cosmwasm.MessageInfo{Sender: info.Sender}
	for _, coin := range info.Funds {
		amount, canonical, fits := cosmwasm.ParseUint128(coin.Amount)
		if !canonical || !fits {
			t.Fatalf("%s of %s", coin.Amount, coin.Denom)
		}
		out.Funds = append(out.Funds, cosmwasm.Coin{Denom: coin.Denom, Amount: amount})
	}
	return out
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ourText is a text as our types write it after they have read it.
func (w *world) ourText(kind string, text []byte) []byte {
	w.t.Helper()
	out, err := interfaces[kind].ours(text)
	if err != nil {
		w.t.Fatalf("%s %s: %v", kind, text, err)
	}
	return out
}

// ourCall runs a call under our machine.
func (w *world) ourCall(entry meter.Entry, info types.MessageInfo, msg []byte) vm.Outcome {
	w.t.Helper()
	args := [][]byte{cosmwasm.Encode(ourEnv), cosmwasm.Encode(ourInfo(w.t, info)), msg}
	if !slices.Contains([]meter.Entry{meter.Instantiate, meter.Execute}, entry) {
		args = [][]byte{args[0], msg}
	}
	o, err := w.ours.Run(w.code, vm.Call{Entry: entry, Args: args, Points: w.points}, host{w.ourStore})
	if err != nil {
		w.t.Fatalf("%s %s: %v", entry, msg, err)
	}
	return o
}

// theirCall runs a call under wasmvm, and returns the result as JSON, or the error
// that stopped the contract.
func (w *world) theirCall(entry meter.Entry, info types.MessageInfo, msg []byte) (any, error) {
	s, q, fraction := store{w.store}, querier{}, types.UFraction{Numerator: 1, Denominator: 1}
	switch entry {
	case meter.Instantiate:
		r, _, err := w.theirs.Instantiate(w.checksum, env, info, msg, s, theirAPI, q, q, w.gas, fraction)
		return r, err
	case meter.Execute:
		r, _, err := w.theirs.Execute(w.checksum, env, info, msg, s, theirAPI, q, q, w.gas, fraction)
		return r, err
	case meter.Query:
		r, _, err := w.theirs.Query(w.checksum, env, msg, s, theirAPI, q, q, w.gas, fraction)
		return r, err
	case meter.Migrate:
		r, _, err := w.theirs.Migrate(w.checksum, env, msg, s, theirAPI, q, q, w.gas, fraction)
		return r, err
	case meter.Sudo:
		r, _, err := w.theirs.Sudo(w.checksum, env, msg, s, theirAPI, q, q, w.gas, fraction)
		return r, err
	default:
		var reply types.Reply
		if err := json.Unmarshal(msg, &reply); err != nil {
			return nil, err
		}
		r, _, err := w.theirs.Reply(w.checksum, env, reply, s, theirAPI, q, q, w.gas, fraction)
		return r, err
	}
}

// both runs a call under both, which must agree on whether the contract answered,
// on the answer, and on what it left in its storage. A contract that was stopped
// leaves nothing: what it had written is taken back, as a chain does.
func (w *world) both(entry meter.Entry, sender, msg string) vm.Outcome {
	w.t.Helper()
	who := info(sender)
	ourBefore, before := maps.Clone(w.ourStore), maps.Clone(w.store)
	ours := w.ourCall(entry, who, []byte(msg))
	theirs, err := w.theirCall(entry, who, []byte(msg))
	if err != nil {
		if ours.End == vm.Returned {
			w.t.Errorf("%s %s: ours answers %s, theirs fails: %v", entry, msg, ours.Data, err)
		}
		w.ourStore, w.store = ourBefore, before
		return ours
	}
	if ours.End != vm.Returned {
		w.t.Errorf("%s %s: ours is %v (%s), theirs answers %s", entry, msg, ours.End, ours.Detail, encoded(w.t, theirs))
		return ours
	}
	// Both answers in their types, since they give theirs decoded; ours by way of ours.
	kind, answer := "answer", any(new(types.ContractResult))
	if entry == meter.Query {
		kind, answer = "queryanswer", new(types.QueryResult)
	}
	if err := json.Unmarshal(w.ourText(kind, ours.Data), answer); err != nil {
		w.t.Fatalf("%s %s: %s: %v", entry, msg, ours.Data, err)
	}
	if got, want := encoded(w.t, answer), encoded(w.t, theirs); !bytes.Equal(got, want) {
		w.t.Errorf("%s %s: ours answers %s, theirs %s", entry, msg, got, want)
	}
	if got, want := fmt.Sprint(w.ourStore), fmt.Sprint(w.store); got != want {
		w.t.Errorf("%s %s: ours leaves %s, theirs %s", entry, msg, got, want)
	}
	return ours
}

func info(sender string) types.MessageInfo {
	return types.MessageInfo{Sender: sender, Funds: types.Array[types.Coin]{types.NewCoin(1000, "earth")}}
}
