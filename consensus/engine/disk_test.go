package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestAFullDiskStopsTheNode fills one validator's disk at the n-th write of each
// kind: Run ends with the cause, nothing is sent after the failure, and with room
// again the node goes on with its log and votes.
func TestAFullDiskStopsTheNode(t *testing.T) {
	for _, op := range []string{"append", "rewrite", "delete", "commit"} {
		for _, nth := range []int{1, 2, 7} {
			t.Run(fmt.Sprintf("%s %d", op, nth), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { fillDisk(t, op, nth) })
			})
		}
	}
}

func fillDisk(t *testing.T, op string, nth int) {
	c := newCluster(t)
	c.rules.epochBlocks = 6
	c.tune = func(cfg *engine.Config) { cfg.RewriteLog = 2_000 }
	c.disks[3] = newDisk()
	d := c.disks[3]
	for i := range 3 {
		c.start(i)
	}
	failed, sent := false, -1
	var at atomic.Pointer[port]
	d.fail = func(what string) error {
		if failed {
			return fmt.Errorf("%s after the disk failed", what)
		}
		if what != op {
			return nil
		}
		if nth--; nth > 0 {
			return nil
		}
		failed = true
		if p := at.Load(); p != nil {
			sent = p.count()
		}
		return fmt.Errorf("writing: %w", syscall.ENOSPC)
	}
	r := c.start(3, func(a *toyApp) {
		for n := range 300 {
			a.txs <- uint64(n + 1)
		}
	})
	at.Store(r.port)
	if err := <-r.result; !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Run returned %v, want ENOSPC", err)
	}
	if now := r.port.count(); op != "commit" && sent >= 0 && now != sent {
		t.Errorf("%d messages left the node after its disk failed", now-sent)
	}
	r.stop()
	r.port.wg.Wait()
	delete(c.nodes, 3)
	quiet := r.port.count()
	c.reach(0, c.disks[0].height()+3, 30*time.Second)
	if r.port.count() != quiet {
		t.Error("a stopped node sends")
	}
	d.fail = nil
	c.disks[3].fresh = len(d.logs) == 0
	c.start(3)
	c.reach(3, c.disks[0].height()+8, 40*time.Second)
	if !c.nodes[3].engine.Status().Signs {
		t.Error("with room again the node only observes")
	}
	c.stopAll()
}

// slowLogs are logs each of whose appends takes a token.
type slowLogs struct {
	*disk
	tokens chan struct{}
}

func (l slowLogs) Append(epoch consensus.Epoch, records [][]byte) error {
	<-l.tokens
	return l.disk.Append(epoch, records)
}

// recorder is a network that keeps what is sent to one peer.
type recorder struct {
	mu    sync.Mutex
	sent  []consensus.Channel
	peers []crypto.PublicKey
}

func (r *recorder) Broadcast(consensus.Channel, []byte) {}

func (r *recorder) Send(_ crypto.PublicKey, ch consensus.Channel, _ []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, ch)
	return true
}

func (r *recorder) Peers() []crypto.PublicKey      { return r.peers }
func (r *recorder) Favour([]crypto.PublicKey)      {}
func (r *recorder) Block(crypto.PublicKey, string) {}

func (r *recorder) certificates() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, ch := range r.sent {
		if ch == consensus.ChannelCertificates {
			n++
		}
	}
	return n
}

func signed(i int, st consensus.Statement) consensus.Vote {
	return consensus.SignVote(key(i, 'c'), consensus.Signer(i), chainID, st)
}

// TestNoAnswerLeavesBeforeTheLogIsSynced asks for a certificate in the very
// batch in which the votes arrive that make it.
func TestNoAnswerLeavesBeforeTheLogIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		d := newDisk()
		net := &recorder{peers: []crypto.PublicKey{key(1, 'n').Public(), key(2, 'n').Public(), key(3, 'n').Public()}}
		logs := slowLogs{disk: d, tokens: make(chan struct{}, 100)}
		e, err := engine.New(c.config(0), newApp(d, &c.rules), net, logs)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		logs.tokens <- struct{}{} // the header
		synctest.Wait()           // now it appends its own block of view 1
		round := consensus.Round{Epoch: 1, View: 1}
		p := consensus.Proposal{Round: round, Digest: toy{Parent: genesis, Height: 1, Round: round}.block().Digest}
		receive := func(from int, m consensus.Message) {
			t.Helper()
			if err := e.Receive(key(from, 'n').Public(), m.Channel(), consensus.EncodeMessage(m)); err != nil {
				t.Fatal(err)
			}
		}
		receive(1, signed(1, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}))
		receive(2, signed(2, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p}))
		receive(3, consensus.CertificateRequest{Kind: consensus.KindNotarize, Round: round})
		synctest.Wait()
		logs.tokens <- struct{}{}
		synctest.Wait() // the notarization waits for the log
		if n := net.certificates(); n != 0 {
			t.Errorf("%d certificates left the node before they were in its log", n)
		}
		logs.tokens <- struct{}{}
		synctest.Wait()
		if n := net.certificates(); n != 1 {
			t.Errorf("%d certificates after the sync, want the one asked for", n)
		}
		stop()
		close(logs.tokens)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
