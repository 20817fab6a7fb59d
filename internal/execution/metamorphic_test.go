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
	seen  map[string]int // events by name; nil: nobody asks
}

func newReplay(t *rapid.T, g *chain.Genesis, s setting) *replay {
	r := &replay{T: t, setting: s, g: g, store: state.NewMemoryBackend()}
	overlay := state.NewOverlay(r.store)
	if err := execution.Genesis(overlay, g); err != nil {
		t.Fatal(err)
	}
	r.x, r.state, r.head = execution.New(g, &echo{}, nil), state.NewOverlay(r.store), chain.Header{TimeMs: g.TimeMs}
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
	r.x, r.store, r.state, r.tree = execution.New(r.g, &echo{}, nil), fresh, state.NewOverlay(fresh), tree
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
	if r.seen != nil {
		r.note(&out.Receipts)
	}
	r.keep(uint64(h.Height), out.Changes, r.tree)
	if r.head = h; r.restart > 0 && int(h.Height)%r.restart == 0 {
		r.reopen()
	}
	return [2]crypto.Digest{r.tree.Root(), out.Receipts.Root()}
}

// note counts the events of a block.
func (r *replay) note(receipts *chain.BlockReceipts) {
	for _, e := range receipts.Begin {
		r.seen[chain.EventName(e)]++
	}
	for _, tx := range receipts.Txs {
		for _, e := range tx.Events {
			r.seen[chain.EventName(e)]++
		}
	}
}

// writer signs transactions of accounts 21 to 29, of every kind that needs no
// other party, and, if there is a market, those of its parties.
type writer struct {
	*rapid.T
	nonces map[int]uint64
	market bool
	orders uint64 // claimed so far, or tried to
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
	if w.market && rapid.Bool().Draw(w.T, "trades") {
		body.GasLimit, body.Messages = chain.GasUnits(5_000_000), chain.Msgs{w.trade(from, amount)}
		return w.sign(body, from)
	}
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
	return w.sign(body, from)
}

func (w *writer) sign(body chain.TxBody, from int) []byte {
	tx, err := chain.SignTx(body, keyOf(byte(from)))
	if err != nil {
		w.Fatal(err)
	}
	return tx.Encode()
}

// opening is what brings a cluster, two nodes and a consumer's deposit on chain: those of
// the golden scenario.
func (w *writer) opening() (raws [][]byte) {
	parties := &world{}
	for _, p := range []struct {
		from int
		says chain.Msg
	}{
		{22, parties.registerCluster()}, {23, parties.registerProvider(ownerA, nodeA)}, {24, parties.registerProvider(ownerB, nodeB)},
		{21, chain.Deposit{Cluster: cluster.Public(), Amount: chain.Hyper(50)}},
	} {
		raws = append(raws, w.sign(chain.TxBody{
			ChainID: testChain, Sender: keyOf(byte(p.from)).address(), Nonce: w.nonces[p.from], Expiry: 1_000, GasLimit: chain.GasUnits(5_000_000),
			MaxFee: chain.PricePerGas(20), Messages: chain.Msgs{p.says},
		}, p.from))
		w.nonces[p.from]++
	}
	w.market = true
	return raws
}

// trade is a message of the market: escrow that comes and goes, and claims under three policies,
// some of them posted twice, or forged.
func (w *writer) trade(from int, amount chain.Amount) chain.Msg {
	parties := &world{}
	switch rapid.SampledFrom([]string{"deposit", "withdraw", "unbond", "settle", "settle", "settle", "settle"}).Draw(w.T, "trade") {
	case "deposit":
		return chain.Deposit{Cluster: cluster.Public(), Amount: chain.Nano(amount.Nano()/1_000 + 1)}
	case "withdraw":
		return chain.Withdraw{Cluster: cluster.Public(), Amount: chain.Hyper(uint64(1 + from%3))}
	case "unbond":
		return chain.UnbondProvider{Node: nodeB.Public()}
	}
	if rapid.IntRange(0, 4).Draw(w.T, "again") > 0 || w.orders == 0 {
		w.orders++
	}
	policy := rapid.SampledFrom([]chain.Policy{attested, attested, multiply, chain.PolicyOptimistic{WindowMs: 3_000, Bond: chain.Hyper(32)}}).Draw(w.T, "policy")
	node := rapid.SampledFrom([]key{nodeA, nodeB}).Draw(w.T, "node")
	c := parties.claim(policy, w.orders, node)
	c.Receipt.Usage[0].DurationMs, c.Receipt.Ended = 1_000, genesisTime+1_000
	parties.resign(&c, node)
	if rapid.IntRange(0, 9).Draw(w.T, "forged") == 0 {
		c.ReceiptSig[5] ^= 1
	}
	return chain.Settle{Claims: []chain.Claim{c}}
}

// TestNothingButTheBlocksDecidesTheRoot: one history, over ends of epochs, has the
// same roots after each block whatever the size of caches, the parallelism, how
// often and how a node was restarted, and whether it proposed. Most histories have a market.
func TestNothingButTheBlocksDecidesTheRoot(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := genesis()
		g.Params.EpochMs, g.Params.UnbondDelayMs, g.Params.EvidenceWindowMs = 10_000, 30_000, 10_000
		other := setting{
			restart: rapid.IntRange(1, 4).Draw(t, "restart"), resident: rapid.IntRange(1, 64).Draw(t, "resident"),
			parallelism: rapid.IntRange(2, 16).Draw(t, "parallelism"), layered: rapid.Bool().Draw(t, "layered"), builds: rapid.Bool().Draw(t, "builds"),
		}
		one, two := newReplay(t, g, plain), newReplay(t, g, other)
		one.seen = seen
		w := &writer{T: t, nonces: map[int]uint64{}}
		if rapid.IntRange(0, 3).Draw(t, "market") > 0 {
			raws := w.opening()
			if a, b := one.block(1_000, raws), two.block(1_000, raws); a != b {
				t.Fatalf("the first block with %+v: roots %v, want %v", other, b, a)
			}
		}
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
	t.Log(seen)
	for _, name := range []string{"transferred", "delegated", "deposited", "claim_settled", "claim_rejected", "claim_pending"} {
		if seen[name] == 0 {
			t.Errorf("no history has %s: %v", name, seen)
		}
	}
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
