package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/schema"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// spokenCode is a contract that answers the same to whatever it is told: its regions stand at
// 16, 32 and 48, their texts behind.
func spokenCode() []byte {
	const toCalls, toQueries = `{"ok":{"messages":[],"attributes":[{"key":"said","value":"hello"}],"events":[]}}`, `{"ok":"aGVsbG8="}`
	data := make([]byte, 48)
	for i, r := range [][3]uint32{{256, 128, uint32(len(toCalls))}, {512, 128, uint32(len(toQueries))}, {1024, 4096, 0}} {
		for j, n := range r {
			binary.LittleEndian.PutUint32(data[16*i+4*j:], n)
		}
	}
	i32, none := byte(wasm.I32), byte(0)
	types := [][]byte{{0x60, 1, i32, 1, i32}, {0x60, 1, i32, none}, {0x60, none, none}, {0x60, 3, i32, i32, i32, 1, i32}, {0x60, 2, i32, i32, 1, i32}}
	named := func(name string, rest ...byte) []byte {
		return append(append([]byte{byte(len(name))}, name...), rest...)
	}
	var ofs, exports, bodies []byte
	for i, f := range []struct {
		name string
		of   byte
		at   byte // the region that it returns; 0: nothing
	}{{"allocate", 0, 48}, {"deallocate", 1, 0}, {"interface_version_8", 2, 0}, {"instantiate", 3, 16}, {"execute", 3, 16}, {"query", 4, 32}} {
		ofs = append(ofs, f.of)
		exports = append(exports, named(f.name, 0, byte(i))...)
		body := []byte{0, 0x0b}
		if f.at != 0 {
			body = []byte{0, 0x41, f.at, 0x0b}
		}
		bodies = append(append(bodies, byte(len(body))), body...)
	}
	segment := func(at int64, content []byte) []byte {
		out := append(wasm.AppendSigned([]byte{0, 0x41}, at), 0x0b)
		return append(binary.AppendUvarint(out, uint64(len(content))), content...)
	}
	segments := append(append(segment(16, data), segment(256, []byte(toCalls))...), segment(512, []byte(toQueries))...)
	out := []byte("\x00asm\x01\x00\x00\x00")
	out = wasm.AppendSection(out, 1, append([]byte{byte(len(types))}, bytes.Join(types, nil)...))
	out = wasm.AppendSection(out, 3, append([]byte{byte(len(ofs))}, ofs...))
	out = wasm.AppendSection(out, 5, []byte{1, 0, 1})
	out = wasm.AppendSection(out, 7, append([]byte{byte(len(ofs) + 1)}, append(exports, named("memory", 2, 0)...)...))
	out = wasm.AppendSection(out, 10, append([]byte{byte(len(ofs))}, bodies...))
	return wasm.AppendSection(out, 11, append([]byte{3}, segments...))
}

// TestContractsOfANode: what a block stored is compiled before it is callable, and runs, in
// blocks and for who asks.
func TestContractsOfANode(t *testing.T) {
	machine, err := vm.New(vm.Config{CacheBytes: 1}) // of one code, beside what is pinned
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close) // after the rig
	r := newRig(t, testGenesis(t))
	r.app.executor, r.app.compiler.vm = execution.New(r.genesis, noKernels(t), machine), machine
	on, view := r.genesisParent(), consensus.View(0)
	block := func(txs ...chain.DecodedTx) {
		t.Helper()
		r.submit(txs...)
		view++
		b := r.propose(view, on)
		r.finalize(view, on, b)
		on = parentOf(view, b)
	}
	const said = `{"contract":"spoken","execute":{"say":{}},"instantiate":"any","version":"1"}`
	code := wasm.AppendSection(spokenCode(), wasm.SectionCustom, append([]byte{6}, "schema"+said...))
	block(signedBy(t, 1, 0, chain.StoreCode{Checksum: sha256.Sum256(code), Size: uint64(len(code)), Part: code}))
	r.app.compiler.work.Wait()
	stored, ok := contract.CodeOf(r.store.State(), 1)
	if !ok || !machine.Has(stored.Program(r.store.State()).ID) {
		t.Fatalf("stored: %v, and not compiled", ok)
	}
	for range contract.CallableAfter {
		block()
	}
	block(signedBy(t, 1, 1, chain.InstantiateContract{Code: 1, Label: "spoken", Msg: []byte("{}"), MaxDeposit: chain.Hyper(1)}))
	address := contract.AddressOf(1, 1)
	if c, ok := contract.ContractOf(r.store.State(), address); !ok || c.Label != "spoken" {
		t.Fatalf("the contract: %v %+v", ok, c)
	}
	n := &Node{app: r.app, store: r.store, log: quiet()}
	answer, err := n.AskContract(t.Context(), address, []byte("{}"))
	if err != nil || string(answer.Data) != "hello" || answer.GasUsed.Units() == 0 {
		t.Errorf("asked: %+v, %v", answer, err)
	}
	if _, err := n.AskContract(t.Context(), user(1).address(), []byte("{}")); !errors.As(err, new(*rpc.ContractError)) {
		t.Errorf("who is no contract: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := n.AskContract(gone, address, []byte("{}")); !errors.Is(err, rpc.ErrBusy) {
		t.Errorf("for who has gone: %v", err)
	}
	s, err := n.ContractSchema(t.Context(), 1)
	if err != nil || s.Code != 1 || s.Checksum != sha256.Sum256(code) || !bytes.Contains(s.Schema, []byte(`"title":"spoken 1"`)) {
		t.Errorf("the schema: %+v %s, %v", s, s.Schema, err)
	}
	pinsOfANode(t, n, func(m chain.Msg) { block(signedBy(t, 1, 2, m)) })
	silent := spokenCode()
	block(signedBy(t, 1, 3, chain.StoreCode{Checksum: sha256.Sum256(silent), Size: uint64(len(silent)), Part: silent}))
	r.app.compiler.work.Wait()
	other, _ := contract.CodeOf(r.store.State(), 2)
	if first, second := stored.Program(r.store.State()).ID, other.Program(r.store.State()).ID; !machine.Has(first) || !machine.Has(second) {
		t.Errorf("in memory is what is pinned: %v, and what was stored last: %v", machine.Has(first), machine.Has(second))
	}
	for code, want := range map[uint64]error{2: schema.ErrNone, 3: rpc.ErrNotFound} {
		if _, err := n.ContractSchema(t.Context(), code); !errors.Is(err, rpc.ErrNotFound) || !errors.Is(err, want) {
			t.Errorf("code %d: %v", code, err)
		}
	}
	n.asked.Store(maxAsked)
	if _, err := n.AskContract(t.Context(), address, []byte("{}")); !errors.Is(err, rpc.ErrBusy) || n.asked.Load() != maxAsked {
		t.Errorf("one too many: %v", err)
	}
}

// TestASecondStartTouchesNothing: who starts a node in the home of one that runs is refused, and what that has compiled
// stays, whatever release it is of; what another release has left is removed by who has the home to himself.
func TestASecondStartTouchesNothing(t *testing.T) {
	config := DefaultConfig()
	config.Home, config.Listen = t.TempDir(), "127.0.0.1:0"
	genesis, err := json.Marshal(testGenesis(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(config.Home, GenesisFile), genesis, 0o600), WriteKey(filepath.Join(config.Home, NodeKeyFile), keyOf(0, 't'))); err != nil {
		t.Fatal(err)
	}
	running, err := Open(config, quiet())
	if err != nil {
		t.Fatal(err)
	}
	contracts := filepath.Join(config.Home, dataDir, "contracts")
	compiled := filepath.Join(contracts, "0a.0123456789abcdef.native") // by the release that runs, as it were
	written := filepath.Join(contracts, "1.new")
	if err := errors.Join(os.MkdirAll(contracts, 0o700), os.WriteFile(compiled, []byte("native"), 0o600), os.WriteFile(written, []byte("nat"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(config, quiet()); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a second start: %v", err)
	}
	there := func() int {
		names, err := filepath.Glob(filepath.Join(contracts, "*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if there() != 2 {
		t.Errorf("of two files of the node that runs there are %d", there())
	}
	if err := running.close(); err != nil {
		t.Fatal(err)
	}
	alone, err := Open(config, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if there() != 0 {
		t.Errorf("of no use are %d files, and are there", there())
	}
	if err := alone.close(); err != nil {
		t.Fatal(err)
	}
}

// pinsOfANode has a block pin the first code, and the node say to when that is.
func pinsOfANode(t *testing.T, n *Node, block func(chain.Msg)) {
	t.Helper()
	before, err := n.ContractCode(t.Context(), 1, false)
	if err != nil || before.PinnedTo != 0 || before.Native == 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	block(chain.PinCode{Code: 1, Periods: 2, MaxBurn: chain.Hyper(1)})
	n.app.compiler.work.Wait()
	head, err := execution.HeadOf(n.store.State())
	if err != nil {
		t.Fatal(err)
	}
	today := contract.PinPeriod(head.TimeMs)
	if after, err := n.ContractCode(t.Context(), 1, false); err != nil || after.PinnedTo != contract.PinsBegin(today+2) || after.Native != before.Native {
		t.Errorf("%+v, %v", after, err)
	}
}

// TestCodeOfABrokenState: a question about code is answered with an error, as all are, if the disk is gone.
func TestCodeOfABrokenState(t *testing.T) {
	if err := ofNodes(&brokenState{}, &contract.Code{}, &api.ContractCode{}); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Error(err)
	}
}
