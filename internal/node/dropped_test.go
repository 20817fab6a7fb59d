package node

import (
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// txOf is a signed transaction whose body a test changed.
func txOf(t testing.TB, from int, nonce uint64, change func(*chain.TxBody)) chain.DecodedTx {
	t.Helper()
	plain := transfer(t, from, nonce, user(70).address())
	body := plain.Tx().Body
	change(&body)
	tx, err := chain.SignTx(body, user(from))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// paying pays an amount of whole HYPER.
func paying(to chain.Address, hyper uint64) func(*chain.TxBody) {
	return func(b *chain.TxBody) { b.Messages = chain.Msgs{chain.Transfer{To: to, Amount: chain.Hyper(hyper)}} }
}

func (r *rig) wantPending(want int, when string) {
	r.Helper()
	if txs, _ := r.app.pool.size(); txs != want {
		r.Errorf("%s: %d transactions wait, want %d", when, txs, want)
	}
}

// TestWhatAStateThatIsNotFinalRefusesStays: what a leader's block leaves of a balance is
// no reason to drop what was accepted. The block may come to nothing, or bring more.
func TestWhatAStateThatIsNotFinalRefusesStays(t *testing.T) {
	r := newRig(t, testGenesis(t))
	all := txOf(t, 1, 0, func(b *chain.TxBody) {
		b.Messages = chain.Msgs{chain.Transfer{To: user(70).address(), Amount: chain.Nano(999_960_000_000)}}
	})
	later := transfer(t, 1, 1, user(70).address()) // its gas may cost 0.05 HYPER
	r.submit(all, later)
	lost := r.propose(1, r.genesisParent())
	if n := len(r.app.decoded[lost.Digest].Txs()); n != 1 {
		t.Fatalf("%d transactions in the block, want the first alone", n)
	}
	r.wantPending(2, "after a block that is not final")
	if txs := r.app.decoded[r.propose(2, parentOf(1, lost)).Digest].Txs(); len(txs) != 0 {
		t.Errorf("%d transactions on top of it, offered what was refused below", len(txs))
	}
	r.submit(txOf(t, 2, 0, paying(user(1).address(), 5)))
	won := r.propose(3, r.genesisParent())
	r.finalize(3, r.genesisParent(), won)
	r.wantPending(1, "after a block that brought more")
	next := r.propose(4, parentOf(3, won))
	if txs := r.app.decoded[next.Digest].Txs(); len(txs) != 1 || txs[0].ID() != later.ID() {
		t.Errorf("%d transactions in the next block, want the one that was refused before", len(txs))
	}
	r.finalize(4, parentOf(3, won), next)
	r.wantPending(0, "in the end")
	if _, dropped := r.app.pool.dropped(later.ID()); dropped {
		t.Error("it is final, and counts as dropped")
	}
}

// TestWhatTheFinalStateRefusesIsDroppedByName by a node that makes no blocks too.
func TestWhatTheFinalStateRefusesIsDroppedByName(t *testing.T) {
	g := testGenesis(t)
	leader, follower := newRig(t, g), newRig(t, g)
	all := txOf(t, 1, 0, func(b *chain.TxBody) {
		b.Messages = chain.Msgs{chain.Transfer{To: user(70).address(), Amount: chain.Nano(999_960_000_000)}}
	})
	unpayable, after := transfer(t, 1, 1, user(70).address()), transfer(t, 1, 2, user(70).address())
	for _, r := range []*rig{leader, follower} {
		r.submit(all, unpayable, after)
	}
	b := leader.propose(1, leader.genesisParent())
	for _, r := range []*rig{leader, follower} {
		if _, err := r.app.Inspect(b.Payload); err != nil {
			t.Fatal(err)
		}
		r.finalize(1, r.genesisParent(), b)
		r.wantPending(0, "after the block that took all")
		if why, ok := r.app.pool.dropped(unpayable.ID()); !ok || why.Reason != mempool.Funds || why.Height != 1 {
			t.Errorf("what cannot be paid for: %v %t", why, ok)
		}
		if why, ok := r.app.pool.dropped(after.ID()); !ok || why.Reason != mempool.EarlierDropped || why.By != unpayable.ID() {
			t.Errorf("what comes after it: %v %t", why, ok)
		}
		if got := r.app.pool.droppedFor(mempool.Funds); got != 1 {
			t.Errorf("%d counted", got)
		}
	}
}

// TestGasThatIsReservedAndNotUsedKeepsNobodyOut: transactions that offer the most and
// may need a block's whole gas, of which they use next to nothing.
func TestGasThatIsReservedAndNotUsedKeepsNobodyOut(t *testing.T) {
	r := newRig(t, testGenesis(t))
	for from := 1; from <= 8; from++ {
		for nonce := range uint64(4) {
			r.submit(txOf(t, from, nonce, func(b *chain.TxBody) { b.GasLimit, b.Tip = r.genesis.Params.BlockGas, chain.PricePerGas(20) }))
		}
	}
	const small = 30
	for nonce := range uint64(small) {
		r.submit(transfer(t, 50, nonce, user(70).address()))
	}
	b := r.propose(1, r.genesisParent())
	if n := len(r.app.decoded[b.Digest].Txs()); n != 1+small {
		t.Errorf("%d transactions in the block, want one large and %d small ones", n, small)
	}
	r.wantPending(32+small, "of which none was dropped")
}

// tellsOfDropped checks what a running node says of itself, and of a transaction that
// expires, having a gap before it.
func (m *member) tellsOfDropped(from int, observes string) {
	m.Helper()
	var status api.Status
	if m.fetch("/v1/status", &status); status.Observes != observes || status.Signs == (observes != "") {
		m.Errorf("signs %t, observes %q, want %q", status.Signs, status.Observes, observes)
	}
	gap := txOf(m, from, 1, func(b *chain.TxBody) { b.Expiry = m.height() + 30 })
	m.submit(gap)
	var found api.TxLookup
	if m.fetch("/v1/txs/"+gap.ID().String(), &found); found.Status != api.TxPending || found.Tx == nil {
		m.Errorf("what waits is %q", found.Status)
	}
	m.until("expiry", func() bool {
		m.fetch("/v1/txs/"+gap.ID().String(), &found)
		return found.Status == api.TxDropped
	})
	if found.Dropped == nil || found.Dropped.Reason != api.DropExpired || found.Dropped.Height < gap.Tx().Body.Expiry || !found.Dropped.Final() {
		m.Errorf("what expired at %d: %+v", gap.Tx().Body.Expiry, found.Dropped)
	}
}
