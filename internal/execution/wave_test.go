package execution_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// echoes is echo with proofs verified together: what a batch of n proofs takes is a
// little more than half of n, and as groth16 does, it verifies each by itself if one is false.
type echoes struct {
	echo
	together int // batches of more than one
	most     int // proofs of a batch
	work     float64
}

func (e *echoes) Verify(s zk.Statement, proof []byte) error {
	e.work++
	return e.echo.Verify(s, proof)
}

func (e *echoes) VerifyAll(claims []zk.Claim) []error {
	e.most = max(e.most, len(claims))
	if len(claims) > 1 {
		e.together++
		e.work += 0.6 * float64(len(claims))
	}
	verdicts, held := make([]error, len(claims)), true
	for i, c := range claims {
		verdicts[i] = e.echo.Verify(c.Statement, c.Proof)
		held = held && verdicts[i] == nil
	}
	if !held || len(claims) == 1 {
		e.work += float64(len(claims))
	}
	return verdicts
}

// drained has a node's owner left with the gas of a few transactions: whether it can pay for more
// depends on claims of the same block.
func (w *world) drained(owner key) {
	w.Helper()
	gas, _ := chain.GasUnits(5_000_000).Cost(chain.PricePerGas(1_000))
	left, _ := chain.Hyper(1_000_000 - 100).Sub(gas) // its bond is 100
	spent, _ := left.Sub(chain.Nano(200_000_000))
	w.block(1, w.tx(owner, chain.Transfer{To: keyOf(26).address(), Amount: spent}))
}

// offered draws transactions of a block: claims with proofs that hold or not, once or again, in
// Settles of some, with gas or too little, among transfers of those who are paid.
func offered(t *rapid.T, w *world) []*chain.VerifiedTx {
	var txs []*chain.VerifiedTx
	var made []chain.Claim
	for i := range rapid.IntRange(1, 30).Draw(t, "transactions") {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			txs = append(txs, w.tx(ownerA, chain.Transfer{To: keyOf(27).address(), Amount: chain.Nano(rapid.SampledFrom([]uint64{1, 900_000_000, 2_500_000_000}).Draw(t, "amount"))}))
		case 1:
			txs = append(txs, w.tx(keyOf(28), chain.Transfer{To: ownerA.address(), Amount: chain.Nano(5)}))
		default:
			var claims []chain.Claim
			for k := range rapid.IntRange(1, 5).Draw(t, "claims") {
				c := w.claim(multiply, uint64(100*i+k+1), nodeA)
				if len(made) > 0 && rapid.IntRange(0, 3).Draw(t, "again") == 0 {
					c = made[rapid.IntRange(0, len(made)-1).Draw(t, "which")]
				}
				if rapid.IntRange(0, 9).Draw(t, "false") == 0 {
					c.Proof = append(bytes.Clone(c.Proof[1:]), c.Proof[0]+1)
				}
				made, claims = append(made, c), append(claims, c)
			}
			body := w.body(keyOf(25), chain.Settle{Claims: claims})
			if rapid.IntRange(0, 5).Draw(t, "poor") == 0 {
				body.GasLimit = chain.GasUnits(uint64(500_000 * len(claims)))
			}
			txs = append(txs, w.sign(body, keyOf(25)))
		}
	}
	return txs
}

func listed(txs []*chain.VerifiedTx) func() (*chain.VerifiedTx, bool) {
	return func() (*chain.VerifiedTx, bool) {
		if len(txs) == 0 {
			return nil, false
		}
		tx := txs[0]
		txs = txs[1:]
		return tx, true
	}
}

func sameOutcome(a, b execution.Outcome) bool {
	return a.GasUsed == b.GasUsed && bytes.Equal(a.Receipts.Encode(), b.Receipts.Encode()) &&
		bytes.Equal(codec.Marshal(pairs(a.Changes)), codec.Marshal(pairs(b.Changes)))
}

// TestWavesChangeNothing builds and executes random blocks with proofs verified together and
// one by one: the selection, the outcome and what is refused are the same.
func TestWavesChangeNothing(t *testing.T) {
	waves, again := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.register()
		w.drained(ownerA)
		w.block(1, w.tx(consumer, chain.Withdraw{Cluster: cluster.Public(), Amount: chain.Hyper(rapid.Uint64Range(0, 45).Draw(rt, "withdrawn"))}))
		proofs, alone := &echoes{}, &echo{}
		together, single := execution.New(genesis(), proofs, nil), execution.New(genesis(), alone, nil)
		txs := offered(rt, w)
		h := w.header(3_700_000)
		budget := execution.MaxBudget
		if rapid.Bool().Draw(rt, "little room") {
			budget.Txs = rapid.IntRange(1, len(txs)).Draw(rt, "room")
			budget.Bytes = rapid.IntRange(1_000, 40_000).Draw(rt, "bytes")
		}
		got, err := together.Build(w.state, h, budget, staking.Extras{}, listed(txs))
		if err != nil {
			rt.Fatal(err)
		}
		want, err := single.Build(w.state, h, budget, staking.Extras{}, listed(txs))
		if err != nil {
			rt.Fatal(err)
		}
		if !reflect.DeepEqual(got.Included, want.Included) || !reflect.DeepEqual(got.Dropped, want.Dropped) || !sameOutcome(got.Outcome, want.Outcome) {
			rt.Fatalf("together %d included, %d dropped; alone %d and %d", len(got.Included), len(got.Dropped), len(want.Included), len(want.Dropped))
		}
		applied, err := together.Apply(w.state, h, staking.Extras{}, got.Included)
		if err != nil || !sameOutcome(applied, want.Outcome) {
			rt.Fatalf("what was built is executed otherwise: %v", err)
		}
		_, refused := together.Apply(w.state, h, staking.Extras{}, txs)
		_, asAlone := single.Apply(w.state, h, staking.Extras{}, txs)
		if (refused == nil) != (asAlone == nil) || refused != nil && refused.Error() != asAlone.Error() {
			rt.Fatalf("together %v, alone %v", refused, asAlone)
		}
		waves += proofs.together
		if float64(proofs.calls) < proofs.work {
			again++
		}
	})
	if waves == 0 || again == 0 {
		t.Errorf("%d batches, %d blocks with a wave that ran again: want some of each", waves, again)
	}
}

// falselyProven returns so many claims of a node whose proofs are false.
func (w *world) falselyProven(n uint64) (claims []chain.Claim) {
	for k := range n {
		c := w.claim(multiply, k+1, nodeA)
		c.Proof[0]++
		claims = append(claims, c)
	}
	return claims
}

// TestAWaveIsUndone: what could stand in the block by money that a false proof would have brought is dropped, and Apply
// refuses a block that has it.
func TestAWaveIsUndone(t *testing.T) {
	w := newWorld(t)
	w.register()
	w.drained(ownerA)
	claims := w.falselyProven(5)
	spend := func() *chain.VerifiedTx {
		return w.tx(ownerA, chain.Transfer{To: keyOf(27).address(), Amount: chain.Nano(2_500_000_000)})
	}
	txs := []*chain.VerifiedTx{w.tx(keyOf(25), chain.Settle{Claims: claims}), spend(), spend()}
	proofs := &echoes{}
	x, h := execution.New(genesis(), proofs, nil), w.header(3_700_000)
	built, err := x.Build(w.state, h, execution.MaxBudget, staking.Extras{}, listed(txs))
	if err != nil || len(built.Included) != 2 || len(built.Dropped) != 1 || built.Dropped[0].Reason.Rule != execution.RuleFunds {
		t.Errorf("included %d, dropped %v, %v", len(built.Included), built.Dropped, err)
	}
	if proofs.together != 1 {
		t.Errorf("%d batches, want the one that failed", proofs.together)
	}
	if _, err := x.Apply(w.state, h, staking.Extras{}, txs); !errors.Is(err, execution.ErrInvalidBlock) || !strings.Contains(err.Error(), "transaction 2: insufficient_funds") {
		t.Errorf("a block with it: %v", err)
	}
	if _, err := x.Apply(w.state, h, staking.Extras{}, built.Included); err != nil {
		t.Error(err)
	}
}

// TestAWaveThatLeavesRoom: what a block's count keeps out while a wave is held to be true comes in when the
// wave runs again with less.
func TestAWaveThatLeavesRoom(t *testing.T) {
	w := newWorld(t)
	w.register()
	w.drained(ownerA)
	claims := w.falselyProven(5)
	spend := func(nano uint64) *chain.VerifiedTx {
		return w.tx(ownerA, chain.Transfer{To: keyOf(27).address(), Amount: chain.Nano(nano)})
	}
	settle, first, second := w.tx(keyOf(25), chain.Settle{Claims: claims}), spend(2_500_000_000), spend(2_500_000_000)
	last := w.tx(keyOf(28), chain.Transfer{To: ownerA.address(), Amount: chain.Nano(5)})
	for name, proofs := range map[string]zk.Verifier{"together": &echoes{}, "alone": &echo{}} {
		x, budget := execution.New(genesis(), proofs, nil), execution.MaxBudget
		budget.Txs = 3
		built, err := x.Build(w.state, w.header(3_700_000), budget, staking.Extras{}, listed([]*chain.VerifiedTx{settle, first, second, last}))
		if err != nil || !slices.Equal(built.Included, []*chain.VerifiedTx{settle, first, last}) || len(built.Dropped) != 1 || built.Dropped[0].ID != second.ID() {
			t.Errorf("%s: included %d, dropped %v, %v", name, len(built.Included), built.Dropped, err)
		}
	}
}

// TestABlockOfFalseProofs: what is verified for a block full of false proofs is little more than what
// it pays for, one proof at a time; and a block of proofs that hold takes much less.
func TestABlockOfFalseProofs(t *testing.T) {
	for name, spoiled := range map[string]bool{"false": true, "true": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.register()
			w.block(1, w.tx(consumer, chain.Deposit{Cluster: cluster.Public(), Amount: chain.Hyper(1_000)}))
			var txs []*chain.VerifiedTx
			for i := range 20 {
				var claims []chain.Claim
				for k := range 4 {
					c := w.claim(multiply, uint64(10*i+k+1), nodeA)
					if spoiled {
						c.Proof[0]++
					}
					claims = append(claims, c)
				}
				txs = append(txs, w.tx(keyOf(25), chain.Settle{Claims: claims}))
			}
			proofs := &echoes{}
			h := w.header(3_700_000)
			built, err := execution.New(genesis(), proofs, nil).Build(w.state, h, execution.MaxBudget, staking.Extras{}, listed(txs))
			if err != nil {
				t.Fatal(err)
			}
			paid := float64(4 * len(built.Included))
			least, most := 0.0, 0.65*paid
			if spoiled {
				least, most = paid, 1.3*paid
			}
			if paid < 60 || proofs.work < least || proofs.work > most || proofs.most < 8 || proofs.most > 32 {
				t.Errorf("%g proofs were paid for, %g verified, %d together at most", paid, proofs.work, proofs.most)
			}
		})
	}
}
