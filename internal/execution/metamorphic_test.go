package execution_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
)

// setting is how a node happens to be run: what may not change what it computes.
type setting struct {
	restart     int // after every so many blocks everything is read anew from what was stored; 0: never
	resident    int // nodes of the tree that stay in memory
	parallelism int
	layered     bool // each block's state is an overlay on its parent's, as branches are, until a restart
	builds      bool // Build, then Apply of what it made
}

// plain is the simplest node.
var plain = setting{resident: 1 << 20, parallelism: 1}

// replay is one node.
type replay struct {
	*rapid.T
	setting
	g     *chain.Genesis
	x     *execution.Executor
	store *state.MemoryBackend
	state *state.Overlay // on the store
	tree  *state.Tree
	head  chain.Header
}

func newReplay(t *rapid.T, g *chain.Genesis, s setting) *replay {
	r := &replay{T: t, setting: s, g: g, store: state.NewMemoryBackend()}
	overlay := state.NewOverlay(r.store)
	if err := execution.Genesis(overlay, g); err != nil {
		t.Fatal(err)
	}
	r.x, r.state, r.head = execution.New(g, &echo{}), state.NewOverlay(r.store), chain.Header{TimeMs: g.TimeMs}
	r.keep(0, overlay.Changes(), state.NewTree(r.store, s.resident))
	return r
}

// keep stores a version.
func (r *replay) keep(version uint64, changes []state.Change, parent *state.Tree) {
	tree, err := parent.Next(version, changes, r.parallelism)
	if err != nil {
		r.Fatal(err)
	}
	r.store.ApplyBatch(tree.Batch())
	r.tree = tree.Persisted(tree.Mark())
	if r.layered && r.restart > 0 {
		r.state = state.NewOverlay(r.state)
	}
	for _, c := range changes {
		if c.Deleted {
			r.state.Delete(c.Key)
		} else {
			r.state.Set(c.Key, c.Value)
		}
	}
	if !r.layered || r.restart == 0 {
		r.state.Flush(r.store)
	}
}

// reopen reads everything anew.
func (r *replay) reopen() {
	fresh := state.NewMemoryBackend()
	for key, value := range r.state.Iterate([]byte{0}, nil) {
		fresh.Set(append([]byte(nil), key...), append([]byte(nil), value...))
	}
	for key, record := range r.records() {
		fresh.PutNode([]byte(key), record)
	}
	tree, err := state.OpenTree(fresh, r.tree.Mark(), r.resident)
	if err != nil {
		r.Fatal(err)
	}
	r.x, r.store, r.state, r.tree = execution.New(r.g, &echo{}), fresh, state.NewOverlay(fresh), tree
}

// records are the tree's, built anew as a joiner would.
func (r *replay) records() map[string][]byte {
	records := map[string][]byte{}
	builder := state.NewBuilder(r.tree.Version(), func(key, record []byte) error {
		records[string(key)] = append([]byte(nil), record...)
		return nil
	})
	for e, err := range r.tree.Iterate(crypto.Digest{}) {
		if err != nil {
			r.Fatal(err)
		}
		key, record := state.LeafRecord(r.tree.Version(), e)
		records[string(key)] = append([]byte(nil), record...)
		if err := builder.AddRecord(key, record); err != nil {
			r.Fatal(err)
		}
	}
	mark, err := builder.Finish()
	if err != nil || mark != r.tree.Mark() {
		r.Fatalf("the tree of what it iterates over is %v, want %v: %v", mark, r.tree.Mark(), err)
	}
	return records
}

// block executes a block and returns the roots after it: the state's and the
// receipts'.
func (r *replay) block(afterMs uint64, raws [][]byte) [2]crypto.Digest {
	decoded := make([]chain.DecodedTx, len(raws))
	for i, raw := range raws {
		d, err := chain.DecodeTx(raw)
		if err != nil {
			r.Fatal(err)
		}
		decoded[i] = d
	}
	txs := chain.VerifyTxs(decoded, r.parallelism)
	h := chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: r.head.Height + 1, Epoch: uint64(staking.EpochOf(r.state).Number),
		View: r.head.View + 1, TimeMs: r.head.TimeMs + chain.TimeMs(afterMs), Proposer: keyOf(1).Public(),
	}
	if err := r.x.Prepare(r.state, &h); err != nil {
		r.Fatal(err)
	}
	if r.builds {
		built, err := r.x.Build(r.state, &h, execution.MaxBudget, staking.Extras{}, offer(txs...))
		if err != nil || len(built.Included) != len(txs) {
			r.Fatalf("built %d of %d: %v", len(built.Included), len(txs), err)
		}
	}
	out, err := r.x.Apply(r.state, &h, staking.Extras{}, txs)
	if err != nil {
		r.Fatalf("block %d: %v", h.Height, err)
	}
	r.keep(uint64(h.Height), out.Changes, r.tree)
	if r.head = h; r.restart > 0 && int(h.Height)%r.restart == 0 {
		r.reopen()
	}
	return [2]crypto.Digest{r.tree.Root(), out.Receipts.Root()}
}

// writer signs transactions of accounts 21 to 29, of every kind that needs no
// other party.
type writer struct {
	*rapid.T
	nonces map[int]uint64
}

func (w *writer) tx() []byte {
	from, other := rapid.IntRange(21, 24).Draw(w.T, "from"), keyOf(byte(rapid.IntRange(21, 99).Draw(w.T, "other")))
	validator, to := keyOf(byte(rapid.IntRange(1, 2).Draw(w.T, "validator"))).Public(), keyOf(byte(rapid.IntRange(1, 3).Draw(w.T, "to"))).Public()
	amount := chain.Nano(rapid.OneOf(rapid.Just(uint64(0)), rapid.Uint64Range(4*chain.NanoPerHyper, 300_000*chain.NanoPerHyper), rapid.Uint64Range(4*chain.NanoPerHyper, 50_000*chain.NanoPerHyper)).Draw(w.T, "amount"))
	body := chain.TxBody{
		ChainID: testChain, Sender: keyOf(byte(from)).address(), Nonce: w.nonces[from], Expiry: 1_000,
		GasLimit: chain.GasUnits(rapid.SampledFrom([]uint64{36_000, 120_000, 120_000, 120_000}).Draw(w.T, "gas")),
		MaxFee:   chain.PricePerGas(20), Tip: chain.PricePerGas(rapid.Uint64Range(0, 3).Draw(w.T, "tip")),
	}
	w.nonces[from]++
	for range rapid.IntRange(1, 2).Draw(w.T, "messages") {
		body.Messages = append(body.Messages, []chain.Msg{
			chain.Transfer{To: other.address(), Amount: amount},
			chain.Transfer{To: other.address(), Amount: amount},
			chain.Delegate{Validator: validator, Amount: amount},
			chain.Delegate{Validator: validator, Amount: amount},
			chain.Undelegate{Validator: validator, Amount: chain.Nano(amount.Nano() / 100)},
			chain.Redelegate{From: validator, To: to, Amount: chain.Nano(amount.Nano() / 4)},
			chain.WithdrawRewards{Validator: validator, Restake: amount.Nano()%2 == 0},
		}[rapid.IntRange(0, 6).Draw(w.T, "kind")])
	}
	tx, err := chain.SignTx(body, keyOf(byte(from)))
	if err != nil {
		w.Fatal(err)
	}
	return tx.Encode()
}

// TestNothingButTheBlocksDecidesTheRoot: one history, over ends of epochs, has the
// same roots after each block whatever the size of caches, the parallelism, how
// often and how a node was restarted, and whether it proposed.
func TestNothingButTheBlocksDecidesTheRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := genesis()
		g.Params.EpochMs, g.Params.UnbondDelayMs, g.Params.EvidenceWindowMs = 10_000, 30_000, 10_000
		other := setting{
			restart: rapid.IntRange(1, 4).Draw(t, "restart"), resident: rapid.IntRange(1, 64).Draw(t, "resident"),
			parallelism: rapid.IntRange(2, 16).Draw(t, "parallelism"), layered: rapid.Bool().Draw(t, "layered"), builds: rapid.Bool().Draw(t, "builds"),
		}
		one, two := newReplay(t, g, plain), newReplay(t, g, other)
		w := &writer{T: t, nonces: map[int]uint64{}}
		for n := range rapid.IntRange(1, 12).Draw(t, "blocks") {
			after := rapid.SampledFrom([]uint64{1, 700, 3_000, 10_000}).Draw(t, "ms")
			raws := make([][]byte, rapid.IntRange(0, 6).Draw(t, "txs"))
			for i := range raws {
				raws[i] = w.tx()
			}
			if a, b := one.block(after, raws), two.block(after, raws); a != b {
				t.Fatalf("block %d with %+v: roots %v, want %v", n+1, other, b, a)
			}
		}
		if _, err := execution.Recompute(two.state); err != nil {
			t.Fatal(err)
		}
	})
}

// TestBlockBoundariesDecideNoRoot puts the same transactions, in the same order,
// into the same number of blocks of the same times, cut elsewhere: the last root
// is the same. (The base fee rests at its floor, and no epoch ends.)
func TestBlockBoundariesDecideNoRoot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &writer{T: t, nonces: map[int]uint64{}}
		raws := make([][]byte, rapid.IntRange(1, 16).Draw(t, "txs"))
		for i := range raws {
			raws[i] = w.tx()
		}
		blocks := rapid.IntRange(2, 6).Draw(t, "blocks")
		last := func(label string) (root crypto.Digest) {
			r, rest := newReplay(t, genesis(), plain), raws
			for n := range blocks {
				cut := len(rest)
				if n < blocks-1 {
					cut = rapid.IntRange(0, len(rest)).Draw(t, fmt.Sprintf("%s block %d", label, n))
				}
				root = r.block(2_000, rest[:cut])[0]
				rest = rest[cut:]
			}
			return root
		}
		if one, two := last("first"), last("second"); one != two {
			t.Fatalf("cut elsewhere the root is %s, want %s", two, one)
		}
	})
}
