package engine_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
)

func TestFourValidatorsFinalizeUnderLoadAtNetworkSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			r := c.start(i)
			for n := range 100 {
				r.app.txs <- uint64(n + 1)
			}
		}
		c.reach(0, 5, 10*time.Second) // the first leader may have begun before its peers
		began := time.Now()
		c.reach(0, c.disks[0].height()+100, 10*time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("100 blocks took %v of simulated time, want at most 10 ms each", took)
		}
		c.stopAll()
	})
}

func TestAnIdleChainMakesAboutOneBlockPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		time.Sleep(20 * time.Second)
		if h := c.disks[0].height(); h < 18 || h > 24 {
			t.Errorf("%d blocks in 20 idle seconds", h)
		}
		if s := c.nodes[0].engine.Status(); s.View > consensus.View(s.Height)+2 {
			t.Errorf("view %d at height %d: idle views were nullified", s.View, s.Height)
		}
		c.stopAll()
	})
}

func TestATransactionEndsAnIdleWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		time.Sleep(3300 * time.Millisecond)
		before := c.disks[0].height()
		for i := range 4 {
			c.nodes[i].app.txs <- 1
		}
		time.Sleep(50 * time.Millisecond)
		if h := c.disks[0].height(); h < before+2 {
			t.Errorf("height %d after a transaction at height %d: its block and the next are immediate", h, before)
		}
		c.stopAll()
	})
}

func TestOneCrashedValidatorDoesNotStopTheChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		c.reach(0, 3, 10*time.Second)
		if err := c.kill(2); err != nil {
			t.Fatal(err)
		}
		c.reach(0, c.disks[0].height()+20, 40*time.Second)
		c.stopAll()
	})
}

func TestAKilledValidatorReturnsWithItsLogAndVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.tune = func(cfg *engine.Config) { cfg.RewriteLog = 1 << 14 }
		for i := range 4 {
			c.start(i)
		}
		for round := range 6 {
			c.reach(0, c.disks[0].height()+3, 20*time.Second)
			if err := c.kill(round % 4); err != nil {
				t.Fatal(err)
			}
			time.Sleep(700 * time.Millisecond)
			r := c.start(round % 4)
			c.reach(round%4, c.disks[round%4].height()+4, 20*time.Second)
			if !r.engine.Status().Signs {
				t.Fatalf("validator %d only observes after its return", round%4)
			}
		}
		c.stopAll()
	})
}

func TestAllKilledAtOnceGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			c.start(i)
		}
		c.reach(0, 5, 20*time.Second)
		for i := range 4 {
			if err := c.kill(i); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			c.start(i)
		}
		c.reach(3, c.disks[3].height()+5, 20*time.Second)
		c.stopAll()
	})
}

func TestALateObserverCatchesUpAndFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 4 {
			r := c.start(i)
			for n := range 80 {
				r.app.txs <- uint64(n + 1)
			}
		}
		c.reach(0, 300, 60*time.Second)
		late := c.start(5)
		c.reach(5, 300, 10*time.Second)
		c.reach(5, c.disks[0].height()+3, 10*time.Second)
		if s := late.engine.Status(); s.Signs {
			t.Error("an observer signs")
		}
		c.stopAll()
	})
}

func TestAValidatorThatLostItsLogsObservesUntilTheNextEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rules.epochBlocks = 40
		for i := range 4 {
			c.start(i)
		}
		c.reach(1, 4, 20*time.Second)
		for range 2 { // and still does after another restart
			if err := c.kill(1); err != nil {
				t.Fatal(err)
			}
			if c.disks[1].height() < 6 {
				clear(c.disks[1].logs)
			}
			r := c.start(1)
			c.reach(1, c.disks[1].height()+6, 30*time.Second)
			if r.engine.Status().Signs {
				t.Fatal("a validator without its log signs")
			}
		}
		c.reach(1, 42, 60*time.Second)
		if !c.nodes[1].engine.Status().Signs {
			t.Error("it does not sign in the epoch that began since")
		}
		c.stopAll()
	})
}

// TestEpochsUnderLoad has validators join, leave and restart.
func TestEpochsUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.rules.epochBlocks = 10
		c.rules.members = func(e consensus.Epoch) []int {
			switch {
			case e < 3:
				return []int{0, 1, 2, 3}
			case e < 5:
				return []int{0, 1, 2, 3, 4} // joins
			}
			return []int{1, 2, 3, 4} // leaves
		}
		for i := range 5 {
			r := c.start(i)
			for n := range 200 {
				r.app.txs <- uint64(n + 1)
			}
		}
		for round := range 8 {
			i := round % 5
			c.reach(i, c.disks[i].height()+9, 30*time.Second)
			if err := c.kill(i); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			c.start(i)
		}
		c.reach(0, 95, 60*time.Second)
		for i, signs := range []bool{false, true, true, true, true} {
			c.reach(i, 95, 20*time.Second)
			r := c.nodes[i]
			if s := r.engine.Status(); s.Epoch < 10 || s.Signs != signs {
				t.Errorf("node %d is in epoch %d and signs: %v", i, s.Epoch, s.Signs)
			}
			if !slices.IsSorted(r.app.entered) || len(r.app.entered) < 2 {
				t.Errorf("node %d entered epochs %v", i, r.app.entered)
			}
			if epochs, err := c.disks[i].Epochs(); err != nil || len(epochs) > 2 {
				t.Errorf("node %d keeps logs of epochs %v: %v", i, epochs, err)
			}
		}
		c.stopAll()
	})
}

func TestADivergedNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 3 {
			c.start(i)
		}
		r := c.start(3, func(a *toyApp) {
			a.broken = func(b consensus.Block) error {
				if b.Height >= 3 {
					return fmt.Errorf("another state root: %w", engine.ErrDiverged)
				}
				return nil
			}
		})
		if err := <-r.result; !errors.Is(err, engine.ErrDiverged) {
			t.Fatalf("Run returned %v, want ErrDiverged", err)
		}
		r.stop()
		r.port.wg.Wait()
		delete(c.nodes, 3)
		c.reach(0, 10, 30*time.Second)
		c.stopAll()
	})
}

// An application that cannot tell whether a block is valid has said nothing: what
// is written down of a notarized block is for ever.
func TestAnApplicationThatCannotVerifyStopsTheNodeWithoutAVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for i := range 3 {
			c.start(i)
		}
		var once atomic.Bool
		unreadable := errors.New("the state cannot be read")
		r := c.start(3, func(a *toyApp) {
			a.broken = func(b consensus.Block) error {
				if b.Height >= 3 && once.CompareAndSwap(false, true) {
					return unreadable
				}
				return nil
			}
		})
		select {
		case err := <-r.result:
			if !errors.Is(err, unreadable) {
				t.Fatalf("Run returned %v, want %v", err, unreadable)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the node runs on")
		}
		r.stop()
		r.port.wg.Wait()
		delete(c.nodes, 3)
		c.start(3)
		c.reach(3, 10, 30*time.Second)
		c.stopAll()
	})
}

func TestASlowDiskHoldsVotesBackAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		gate := make(chan struct{})
		for i := range 4 {
			r := c.start(i, func(a *toyApp) {
				if i == 3 {
					a.slow = gate
				}
			})
			for n := range 100 {
				r.app.txs <- uint64(n + 1)
			}
		}
		c.reach(0, 150, 60*time.Second)
		if h := c.disks[3].height(); h != 0 {
			t.Fatalf("height %d behind a closed gate", h)
		}
		if n := c.nodes[3].engine.Metrics().BlocksChecked; n > 40 {
			t.Errorf("%d blocks executed ahead of the disk", n)
		}
		close(gate)
		c.reach(3, 150, 30*time.Second)
		c.stopAll()
	})
}

func TestConfigNamesTheFieldOutOfRange(t *testing.T) {
	c := newCluster(t)
	for name, spoil := range map[string]func(*engine.Config){
		"Logger":     func(cfg *engine.Config) { cfg.Logger = nil },
		"Inbox":      func(cfg *engine.Config) { cfg.Inbox = 0 },
		"MaxChecks":  func(cfg *engine.Config) { cfg.MaxChecks = 1 << 20 },
		"RewriteLog": func(cfg *engine.Config) { cfg.RewriteLog = -1 },
	} {
		cfg := c.config(0)
		spoil(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// BenchmarkFourValidators measures blocks in real time: four validators in one
// process, no delay, a log in memory.
func BenchmarkFourValidators(b *testing.B) {
	c := newCluster(b)
	c.hub.delay = 0
	for i := range 4 {
		r := c.start(i)
		r.app.txs = make(chan uint64, b.N)
		for n := range b.N {
			r.app.txs <- uint64(n + 1)
		}
	}
	b.ResetTimer()
	c.reach(0, uint64(b.N), time.Minute)
	b.StopTimer()
	c.stopAll()
}
