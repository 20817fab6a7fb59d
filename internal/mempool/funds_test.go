package mempool_test

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/mempool"
)

// TestWhatIsChargedIsWhatWaits: however transactions come in and leave, a payer is charged
// for those that wait and no others, never beyond the funds at the last one's coming, and
// for nothing once all have left.
func TestWhatIsChargedIsWhatWaits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		config := mempool.Config{MaxBytes: chain.MaxTxBytes, MaxPerSender: 4, MaxSenderBytes: chain.MaxTxBytes, MaxPerPayer: 3}
		p, l := mempool.New(config), ledger{}
		height := chain.Height(0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			d := draft{
				user: rapid.IntRange(1, 4).Draw(t, "user"), tip: uint64(rapid.IntRange(0, 4).Draw(t, "tip")), max: uint64(rapid.SampledFrom([]int{10, 20, 30, 60}).Draw(t, "max")),
				payer: rapid.IntRange(0, 4).Draw(t, "payer"), expiry: height + chain.Height(rapid.IntRange(1, 4).Draw(t, "expiry")),
				memo: rapid.SampledFrom([]int{0, 200}).Draw(t, "memo"),
			}
			if d.payer == d.user {
				d.payer = 0
			}
			from := user(d.user).address()
			d.nonce = l[from] + uint64(rapid.IntRange(0, 4).Draw(t, "ahead"))
			tx := makeTx(d)
			switch rapid.IntRange(0, 6).Draw(t, "kind") {
			case 0: // a block with whatever is first of the sender's
				height++
				d.nonce = l[from]
				l[from]++
				p.Finalize(height, floor, []chain.DecodedTx{makeTx(d).DecodedTx})
			case 1: // the state is ahead of the pool
				l[from]++
			case 2:
				for _, tx := range p.Heads(1) {
					p.Drop(tx.ID(), mempool.Funds)
				}
			default:
				funds := chain.Nano(uint64(rapid.SampledFrom([]int{0, 30, 70, 150, 1_000}).Draw(t, "funds")))
				err := p.Add(tx, mempool.Standing{Next: l[from], Funds: funds})
				charged, _ := p.Miscounted(tx.Tx().Body.Payer())
				if err == nil && funds.Less(charged) {
					t.Fatalf("%s of %s are charged", charged, funds)
				}
				if most := chain.Nano(d.max); errors.Is(err, mempool.ErrPayerFunds) && charged.IsZero() && !funds.Less(most) {
					t.Fatalf("%v, and nothing waits", err)
				}
			}
			for n := range 5 {
				if charged, want := p.Miscounted(user(n).address()); charged != want {
					t.Fatalf("user %d is charged %s, what waits may cost %s", n, charged, want)
				}
			}
		}
		p.Finalize(height+10, floor, nil)
		if n := p.Charged(); p.Len() != 0 || n != 0 {
			t.Fatalf("%d wait and %d are charged after all have expired", p.Len(), n)
		}
	})
}

// TestWhoeverHasNoMoreFundsCanRaiseTheFirst, which the base fee has left behind: the later
// ones give way, the last first, and no more of them than must.
func TestWhoeverHasNoMoreFundsCanRaiseTheFirst(t *testing.T) {
	p := mempool.New(mempool.DefaultConfig())
	add := func(d draft) error { return p.Add(makeTx(d), mempool.Standing{Funds: chain.Nano(300)}) }
	own := func(nonce, most uint64) draft { return draft{user: 9, nonce: nonce, max: most, tip: 1, expiry: 9} }
	for nonce := range uint64(3) {
		if err := add(own(nonce, 100)); err != nil {
			t.Fatal(err)
		}
	}
	p.Finalize(1, chain.PricePerGas(101), nil)
	raised := draft{user: 9, max: 180, tip: 40, expiry: 9}
	if err := add(raised); err != nil {
		t.Fatal(err)
	}
	if _, ok := p.Get(makeTx(own(1, 100)).ID()); !ok || p.Len() != 2 {
		t.Errorf("%d wait, the second one: %t", p.Len(), ok)
	}
	if why, ok := p.Dropped(makeTx(own(2, 100)).ID()); !ok || why.Reason != mempool.Funds {
		t.Errorf("the last left for %v", why)
	}
	second := draft{user: 9, nonce: 1, max: 150, tip: 40, expiry: 9}
	if err := add(second); !errors.Is(err, mempool.ErrPayerFunds) || p.Len() != 2 {
		t.Errorf("what comes before gave way: %v, %d wait", err, p.Len())
	}
	raised.max, raised.tip = 301, 80
	if err := add(raised); !errors.Is(err, mempool.ErrPayerFunds) || p.Len() != 2 {
		t.Errorf("beyond all funds: %v, %d wait", err, p.Len())
	}
	if charged, want := p.Miscounted(user(9).address()); charged != want || want != chain.Nano(280) {
		t.Errorf("%s are charged for %s", charged, want)
	}
}
