package mempool_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/mempool"
)

func numbered(n int) (id chain.TxID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

// TestWhoLeftIsRememberedWithinABound, the newest of them.
func TestWhoLeftIsRememberedWithinABound(t *testing.T) {
	p := mempool.New(mempool.DefaultConfig())
	const left = 2*mempool.MaxDropped + 100
	for n := range left {
		p.Record(numbered(n), mempool.Evicted)
		p.Record(numbered(n), mempool.Expired) // again, having been back
	}
	if got := p.Remembered(); got > mempool.MaxDropped {
		t.Errorf("%d are remembered, limit %d", got, mempool.MaxDropped)
	}
	if why, ok := p.Dropped(numbered(left - 1)); !ok || why.Reason != mempool.Expired {
		t.Errorf("the newest: %v, %t", why, ok)
	}
	if _, ok := p.Dropped(numbered(left - mempool.MaxDropped/2 + 1)); !ok {
		t.Error("one of the last MaxDropped is forgotten")
	}
	if _, ok := p.Dropped(numbered(0)); ok {
		t.Error("the oldest is remembered")
	}
	if got := p.DroppedFor(mempool.Expired); got != left {
		t.Errorf("%d expired, want %d", got, left)
	}
}

// TestReplacementsLeaveNothingBehind while no block is final: who replaces his own
// transaction again and again must not fill the memory with what he replaced.
func TestReplacementsLeaveNothingBehind(t *testing.T) {
	p, l := mempool.New(mempool.DefaultConfig()), ledger{}
	replaced := 0
	ceiling := uint64(1_000)
	for tip := uint64(1); ceiling < 1<<56; tip += tip/10 + 1 {
		mustAdd(t, p, l, draft{user: 1, tip: tip, max: ceiling})
		ceiling += ceiling/10 + 1
		replaced++
	}
	if replaced < 300 {
		t.Fatalf("%d replacements are too few to tell", replaced)
	}
	if got := p.HeapEntries(); got > 2*p.Len()+64 {
		t.Errorf("%d entries for %d transactions after %d replacements", got, p.Len(), replaced)
	}
}

// TestAReplacementPaysATenthMore, of all that it pays: at a base fee of 1,000, one of a
// tip of 1 by one of 2 would be had for a thousandth, and again by 3, and again.
func TestAReplacementPaysATenthMore(t *testing.T) {
	p, l := mempool.New(mempool.DefaultConfig()), ledger{}
	p.Finalize(1, chain.PricePerGas(1_000), nil)
	tip, replaced := uint64(1), 0
	mustAdd(t, p, l, draft{user: 1, tip: tip, max: 5_000, expiry: 9})
	for next := tip; next < 1_000; next++ {
		if l.add(p, draft{user: 1, tip: next, max: 5_000 + 600*next, expiry: 9}) == nil {
			tip = next
			replaced++
		}
	}
	if replaced != 7 { // ln 2 / ln 1.1
		t.Errorf("%d replacements from a tip of 1 to one of %d", replaced, tip)
	}
}

// TestAFullPoolIsNotHadAgainForOneMore: whoever fills it and outbids himself by the
// least that is taken pays a tenth more each time.
func TestAFullPoolIsNotHadAgainForOneMore(t *testing.T) {
	p, l := mempool.New(mempool.Config{MaxBytes: chain.MaxTxBytes, MaxSenderBytes: chain.MaxTxBytes, MaxPerSender: 4_096}), ledger{}
	p.Finalize(1, chain.PricePerGas(1_000), nil)
	mustAdd(t, p, l, draft{user: 2, tip: 1, max: 9_000, expiry: 9, memo: 210})
	size := len(makeTx(draft{user: 1, nonce: 300, max: 9_000, expiry: 9, memo: 200}).Raw())
	for n := uint64(0); p.Bytes()+size <= chain.MaxTxBytes; n++ {
		mustAdd(t, p, l, draft{user: 1, nonce: n, tip: 500, max: 9_000, expiry: 9, memo: 200})
	}
	taken := 0
	for tip := uint64(2); tip < 500; tip++ {
		if l.add(p, draft{user: 2 + int(tip), tip: tip, max: 9_000, expiry: 9, memo: 200}) == nil {
			taken++
		}
	}
	if want := 4; taken == 0 || taken > want { // of 498
		t.Errorf("the cheapest place was had %d times by outbidding, want at most %d", taken, want)
	}
}

func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range mempool.Reasons() {
		if name := r.String(); seen[name] || strings.Contains(name, "Reason(") {
			t.Errorf("reason %d is named %s", uint8(r), name)
		} else {
			seen[name] = true
		}
	}
	if got := (mempool.GasLimit + 1).String(); got != "Reason(8)" {
		t.Errorf("what is no reason is named %s", got)
	}
}
