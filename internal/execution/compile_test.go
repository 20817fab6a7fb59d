package execution_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/wasm"
	"github.com/hypermesh/hypermesh/smart-contracts/contract"
	"github.com/hypermesh/hypermesh/smart-contracts/meter"
)

// TestCodeRunsOnceTheChainHadTheTime: a block of code does not run ten fast blocks later, but when the chain has gone on for
// as long as all that takes to be compiled; that it stood for an hour gives nobody time, since nobody compiles
// before a block is final. Who then asks, asks code that runs.
func TestCodeRunsOnceTheChainHadTheTime(t *testing.T) {
	w := newWorld(t)
	w.x = execution.New(genesis(), w.proofs, puppet(func(entry meter.Entry, _ string, _ func(string) string) string {
		if entry == meter.Query {
			return `{"ok":"aGk="}`
		}
		return nothing
	}))
	code, err := hex.DecodeString(emptyContract)
	if err != nil {
		t.Fatal(err)
	}
	const codes = 40
	maker, txs := keyOf(25), []*chain.VerifiedTx(nil)
	for i := range codes {
		other := wasm.AppendSection(code, wasm.SectionCustom, []byte{1, 'n', byte(i)})
		txs = append(txs, w.tx(maker, chain.StoreCode{Checksum: crypto.Digest(sha256.Sum256(other)), Size: uint64(len(other)), Part: other}))
	}
	wait := uint64(0)
	for i, receipt := range w.block(1_000, txs...).Receipts.Txs {
		stored := eventOf[chain.CodeStored](w, receipt.Events)
		if uint64(stored.Wait) <= wait || uint64(stored.Code) != uint64(i)+1 {
			t.Fatalf("code %d: %+v after %d ms", i+1, stored, wait)
		}
		wait = uint64(stored.Wait)
	}
	making := func(afterMs, code uint64) (chain.Address, string) {
		t.Helper()
		receipt := w.block(afterMs, w.tx(maker, chain.InstantiateContract{Code: code, Label: "l", Msg: []byte("{}"), MaxDeposit: chain.Hyper(1)})).Receipts.Txs[0]
		if !receipt.Accepted() {
			return chain.Address{}, receipt.Rejection
		}
		return eventOf[chain.ContractInstantiated](w, receipt.Events).Contract, ""
	}
	for range contract.CallableAfter - 1 {
		w.block(1)
	}
	passed := uint64(contract.CallableAfter)
	if _, why := making(1, 1); !strings.Contains(why, "is being compiled") {
		t.Errorf("ten blocks after it was stored: %q", why)
	}
	idle := chain.DefaultParams().IdleMs
	if wait < passed+2*idle+1 {
		t.Fatalf("%d ms are less than what an hour that the chain stood counts for", wait)
	}
	passed += 2 * idle
	if _, why := making(3_600_000, codes); !strings.Contains(why, "is being compiled") {
		t.Errorf("after an hour that the chain stood: %q", why)
	}
	if _, why := making(wait-passed-1, codes); !strings.Contains(why, "nodes have 1 ms more") {
		t.Errorf("a millisecond before its time: %q", why)
	}
	made, why := making(1, codes)
	if why != "" {
		t.Fatalf("at its time: %q", why)
	}
	if answer, _, why, err := w.x.AskContract(t.Context(), w.state, made, []byte("{}")); err != nil || why != nil || string(answer) != "hi" {
		t.Errorf("who asks: %q, %v, %v", answer, why, err)
	}
}
