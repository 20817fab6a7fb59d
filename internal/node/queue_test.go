package node

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// TestTheDrainIsMeasuredWhileTransactionsWait: blocks that take all there is say
// nothing of how much they could take.
func TestTheDrainIsMeasuredWhileTransactionsWait(t *testing.T) {
	var d drain
	now := time.Unix(1_000, 0)
	run := func(txs, left int, every time.Duration, blocks int) {
		for range blocks {
			now = now.Add(every)
			d.finalized(txs, left, now)
		}
	}
	run(20, 5, 10*time.Millisecond, 500)
	if got := d.most(mostWait); got != firstQueue {
		t.Errorf("with nothing known %d may wait, want %d", got, firstQueue)
	}
	run(100, 5_000, 10*time.Millisecond, 1_000)
	about := func(what string, wait time.Duration, rate int) {
		t.Helper()
		want := rate * int(wait) / int(time.Second)
		if got := d.most(wait); got < want*99/100 || got > want*101/100 {
			t.Errorf("%s: %d may wait %v, want %d", what, got, wait, want)
		}
	}
	about("at 10,000 a second", mostWait, 10_000)
	about("at 10,000 a second", fairWait, 10_000)
	run(1, 0, 10*time.Millisecond, 100)
	about("after a quiet second", mostWait, 10_000)
	run(200, 9_000, 100*time.Millisecond, 100) // a disk that is slow now
	about("at 2,000 a second", mostWait, 2_000)
	run(1, 9_000, time.Second, 30)
	if got := d.most(mostWait); got != leastQueue {
		t.Errorf("at one a second %d may wait, want %d", got, leastQueue)
	}
	run(1, 0, time.Second, 11)
	if got := d.most(mostWait); got != firstQueue {
		t.Errorf("%d may wait when the rate was forgotten, want %d", got, firstQueue)
	}
}

// TestWhatBlocksTookMayWait: blocks that take all there is say what they can take at
// least, until it turns out to be less.
func TestWhatBlocksTookMayWait(t *testing.T) {
	var d drain
	now := time.Unix(1_000, 0)
	run := func(txs, left int, every time.Duration, blocks int) {
		for range blocks {
			now = now.Add(every)
			d.finalized(txs, left, now)
		}
	}
	for _, step := range []struct {
		what      string
		txs, left int
		every     time.Duration
		blocks    int
		want      int // that may wait mostWait
	}{
		{"blocks of all there was, 13,000 a second", 650, 0, 50 * time.Millisecond, 41, 9_100},
		{"fewer came: it was forgotten by nobody", 50, 0, 50 * time.Millisecond, 80, 9_100},
		{"it turns out to be 2,000", 100, 5_000, 50 * time.Millisecond, 200, 1_400},
		{"all there is again, 8,000 a second", 400, 0, 50 * time.Millisecond, 41, 5_600},
		{"long ago", 10, 0, 50 * time.Millisecond, 300, firstQueue},
	} {
		run(step.txs, step.left, step.every, step.blocks)
		if got := d.most(mostWait); got < step.want*99/100 || got > step.want*101/100 {
			t.Errorf("%s: %d may wait, want %d", step.what, got, step.want)
		}
	}
}

// TestBlocksOfABusyChainComeAtAPace: the more transactions come, the longer is the time
// between two blocks, up to busyPace; a few wait for nothing, and nobody longer than that.
func TestBlocksOfABusyChainComeAtAPace(t *testing.T) {
	for _, c := range []struct {
		waiting     int
		since, want time.Duration
	}{
		{0, 20 * time.Millisecond, 0},
		{-5, 20 * time.Millisecond, 0},
		{2, 0, 200 * busyPace / busyRate}, // 200 a second, of which nobody waits for company
		{64, pace, 6_400 * busyPace / busyRate},
		{325, 50 * time.Millisecond, busyPace / 2},
		{650, 50 * time.Millisecond, busyPace},
		{5_000, 20 * time.Millisecond, busyPace},
	} {
		if got := paceOf(c.waiting, c.since); got < c.want-time.Microsecond || got > c.want+time.Microsecond {
			t.Errorf("%d after %v: %v, want %v", c.waiting, c.since, got, c.want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		parent := &branch{timeMs: chain.TimeMs(time.Now().UnixMilli())}
		wait := func(ctx context.Context, waiting int) time.Duration {
			began := time.Now()
			awaitBusy(ctx, parent, waiting)
			return time.Since(began)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if got := wait(ended, 5_000); got != 0 {
			t.Errorf("after the end of it all it waited %v", got)
		}
		if got := wait(t.Context(), 5_000); got != busyPace {
			t.Errorf("it waited %v, want %v", got, busyPace)
		}
		if got := wait(t.Context(), 5_000); got != 0 {
			t.Errorf("it waited %v for what was due", got)
		}
		parent.timeMs += 3_600_000 // by a clock that is ahead
		if got := wait(t.Context(), 5_000); got > busyPace {
			t.Errorf("it waited %v for a parent of the future", got)
		}
	})
}

// TestAcceptedIsWhatIsFinalSoon: beyond a fair queue only senders have room of whom
// nothing waits, beyond the longest nobody, but for who pays more.
func TestAcceptedIsWhatIsFinalSoon(t *testing.T) {
	n := newGossipNet(t, 1)
	p := n.of(0)
	p.lastTip = chain.PricePerGas(2)                                  // which transfers pay
	p.drain.rate = 1_500.5 * float64(time.Second) / float64(mostWait) // 1,500 may wait; a fair queue is the least one, of 1,000
	if p.drain.most(fairWait) != 1_000 || p.drain.most(mostWait) != 1_500 {
		t.Fatalf("%d and %d may wait", p.drain.most(fairWait), p.drain.most(mostWait))
	}
	submit := func(entering int, txs ...chain.DecodedTx) string {
		t.Helper()
		p.entering = entering
		var out []string
		for _, reason := range p.Submit(txs) {
			switch {
			case reason == "":
				out = append(out, "in")
			case strings.HasPrefix(reason, api.ReasonQueueFull+": "):
				out = append(out, "full")
			default:
				out = append(out, reason)
			}
		}
		if p.entering != entering {
			t.Errorf("%d are on their way in after all were in or refused, want %d", p.entering, entering)
		}
		return fmt.Sprint(out)
	}
	tx := func(from int, nonce uint64) chain.DecodedTx { return transfer(t, from, nonce, user(9).address()) }
	if got := submit(998, tx(1, 0), tx(1, 1), tx(1, 2), tx(2, 0), tx(2, 1)); got != "[in in full in full]" {
		t.Errorf("where the fair part ends: %s", got)
	}
	if got := submit(1_100, tx(1, 2), tx(2, 0), tx(3, 0)); got != "[full in in]" {
		t.Errorf("a sender who waits, what waits already, and a new one: %s", got)
	}
	if got := submit(1_500, tx(4, 0), tx(1, 0)); got != "[full in]" {
		t.Errorf("a new sender when it is too long for all, and what waits already: %s", got)
	}
	dearer := func(from int) chain.DecodedTx {
		signed, err := chain.SignTx(chain.TxBody{
			ChainID: testChain, Sender: user(from).address(), Expiry: 50_000, GasLimit: chain.GasUnits(1_000_000), MaxFee: chain.PricePerGas(50), Tip: chain.PricePerGas(3),
			Messages: chain.Msgs{chain.Transfer{To: user(9).address(), Amount: chain.Hyper(1)}},
		}, user(from))
		if err != nil {
			t.Fatal(err)
		}
		tx, err := chain.DecodeTx(signed.Encode())
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	tipped, again := dearer(4), dearer(5)
	if got := submit(1_500, tipped); got != "[in]" {
		t.Errorf("who pays more: %s", got)
	}
	p.noteBlock([]chain.DecodedTx{tipped}, chain.PricePerGas(1), time.Now())
	if got := submit(1_500, again); got != "[full]" {
		t.Errorf("who pays as much as the last one that got in: %s", got)
	}
	if got := submit(0, tx(1, 2), again); got != "[in in]" {
		t.Errorf("when the queue is short again: %s", got)
	}
}
