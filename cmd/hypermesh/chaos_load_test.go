package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/sdk"
	"github.com/hypermesh/hypermesh/wallet"
)

// chaosLoad is a load of transfers that runs while things break. Each sender
// sends one at a time, moves on to another node when one does not get it final,
// and remembers what it saw final.
type chaosLoad struct {
	net   *chaosNet
	sink  chain.Address
	final []chain.TxID // seen final
	took  []time.Duration
	tried int
	mu    sync.Mutex
	wg    sync.WaitGroup
	stop  context.CancelFunc
}

const (
	chaosPause    = 100 * time.Millisecond // of a sender between transfers
	chaosPatience = 3 * time.Second        // with one node
)

// startLoad starts a load that the test's end ends.
func (n *chaosNet) startLoad(t *testing.T) *chaosLoad {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &chaosLoad{net: n, sink: wallet.NewAccount("sink", crypto.GenerateKey()).Address(), stop: stop}
	for i, holder := range n.holders {
		l.wg.Go(func() { l.send(ctx, holder, i) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *chaosLoad) end() {
	l.stop()
	l.wg.Wait()
}

// send sends a holder's transfers, at first to node at.
func (l *chaosLoad) send(ctx context.Context, from wallet.Account, at int) {
	tick := time.NewTicker(chaosPause)
	defer tick.Stop()
	for ; ctx.Err() == nil; at++ {
		builder := l.net.nodes[at%len(l.net.nodes)].client.NewBuilder(from, sdk.BuilderOptions{ExpiryHeights: 100})
		for l.sendOne(ctx, builder) {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// sendOne reports whether a transfer became final.
func (l *chaosLoad) sendOne(ctx context.Context, builder *sdk.Builder) bool {
	patience, cancel := context.WithTimeout(ctx, chaosPatience)
	defer cancel()
	l.mu.Lock()
	l.tried++
	l.mu.Unlock()
	began := time.Now()
	done, err := builder.SendAndWait(patience, chain.Transfer{To: l.sink, Amount: chain.Nano(1)})
	if err != nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = append(l.final, done.TxID)
	l.took = append(l.took, time.Since(began))
	return true
}

// count returns how many transfers were seen final.
func (l *chaosLoad) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.final)
}

// awaitMore demands that transfers become final again.
func (l *chaosLoad) awaitMore(t *testing.T) {
	t.Helper()
	goal := l.count() + len(l.net.holders)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for patience := time.After(20 * time.Second); l.count() < goal; {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("%d transfers have become final within 20 s, want %d", l.count()-goal+len(l.net.holders), len(l.net.holders))
		}
	}
}

// finality returns the median and the slowest of what was seen final since a
// count.
func (l *chaosLoad) finality(since int) (median, slowest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := slices.Clone(l.took[since:])
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)-1]
}

// checkBalance ends the load and holds what arrived against what was seen final
// and what was tried.
func (l *chaosLoad) checkBalance(t *testing.T) {
	t.Helper()
	l.end()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, v := range l.net.up() {
		got := l.settled(t, ctx, v).Balance().Nano()
		if got < uint64(len(l.final)) || got > uint64(l.tried) {
			t.Errorf("node %d proves that %d transfers arrived, %d were seen final, %d tried", v.index, got, len(l.final), l.tried)
		}
	}
	ids := slices.Clone(l.final)
	slices.SortFunc(ids, func(a, b chain.TxID) int { return bytes.Compare(a[:], b[:]) })
	if unique := slices.Compact(ids); len(unique) != len(l.final) {
		t.Errorf("%d transfers were final, %d of them different", len(l.final), len(unique))
	}
	t.Logf("%d transfers tried, %d seen final", l.tried, len(l.final))
}

// settled returns the sink as a node proves it after everything that was final when
// it was called. A state is committed to by the next block.
func (l *chaosLoad) settled(t *testing.T, ctx context.Context, v *chaosNode) sdk.VerifiedAccount {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for height := l.net.highest(ctx); ; {
		account, err := v.client.VerifiedAccount(ctx, l.sink)
		if err != nil {
			t.Fatalf("node %d: %v", v.index, err)
		}
		if account.Height() >= height {
			return account
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("node %d proves the state after %d, want %d", v.index, account.Height(), height)
		}
	}
}

// up returns the nodes that run.
func (n *chaosNet) up() []*chaosNode {
	return slices.DeleteFunc(slices.Clone(n.nodes), func(v *chaosNode) bool { return !v.running() })
}

// highest returns the highest finalized height that any node shows.
func (n *chaosNet) highest(ctx context.Context) chain.Height {
	heights := make([]chain.Height, len(n.nodes))
	var wg sync.WaitGroup
	for i, v := range n.nodes {
		wg.Go(func() { heights[i] = v.height(ctx) })
	}
	wg.Wait()
	return slices.Max(heights)
}

// recovered demands that every node that runs finalizes, within 20 seconds of now,
// a block that none has by now. It returns how long the slowest took.
func (n *chaosNet) recovered(t *testing.T) time.Duration {
	t.Helper()
	const limit = 20 * time.Second
	began := time.Now()
	goal := n.highest(t.Context()) + 1
	took := make([]time.Duration, len(n.nodes))
	var wg sync.WaitGroup
	for _, v := range n.up() {
		wg.Go(func() {
			n.awaitHeight(t, v, goal, limit-time.Since(began))
			took[v.index] = time.Since(began).Round(time.Millisecond)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.Fatalf("not recovered within %v: %v", limit, took)
	}
	return slices.Max(took)
}

// agree demands of all nodes that run: one header and state root at one height,
// a supply that adds up, proofs that hold, and no evidence of a double sign.
func (n *chaosNet) agree(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	common := n.highest(ctx)
	for _, v := range n.up() {
		n.awaitHeight(t, v, common, 10*time.Second)
	}
	for _, height := range []chain.Height{max(1, common/2), common} {
		var digest, root crypto.Digest
		for i, v := range n.up() {
			proven, err := v.client.VerifiedHeader(ctx, height)
			if err != nil {
				t.Fatalf("node %d, header of %d: %v", v.index, height, err)
			}
			header, err := proven.Header()
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				digest, root = proven.Digest(), header.StateRoot
			}
			if proven.Digest() != digest || header.StateRoot != root {
				t.Errorf("node %d, height %d: %s with state %s, node %d has %s with %s", v.index, height, proven.Digest(), header.StateRoot, n.up()[0].index, digest, root)
			}
		}
	}
	var wg sync.WaitGroup
	for _, v := range n.up() {
		wg.Go(func() { n.checkNode(t, ctx, v) })
	}
	wg.Wait()
}

// checkNode checks what one node says of itself.
func (n *chaosNet) checkNode(t *testing.T, ctx context.Context, v *chaosNode) {
	t.Helper()
	if supply, err := v.client.Supply(ctx, true); err != nil || supply.Parts.Sum != supply.Total {
		t.Errorf("node %d: supply %+v, %v", v.index, supply, err)
	}
	if _, err := v.client.VerifiedAccount(ctx, n.holders[0].Address()); err != nil {
		t.Errorf("node %d: %v", v.index, err)
	}
	if found := v.accuses(t); !n.guilty && len(found) > 0 {
		t.Errorf("node %d holds evidence of a double sign: %v", v.index, found)
	}
	for line := range strings.Lines(v.logSince(t, 0)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			t.Errorf("node %d: %s", v.index, line)
		}
	}
}

// accuses returns what a node shows of evidence against anybody: what it proved
// since its start, what waits for a block, and what all its lives logged.
func (v *chaosNode) accuses(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	data, err := v.get(ctx, "/metrics")
	if err != nil {
		t.Errorf("node %d: %v", v.index, err)
		return nil
	}
	var found []string
	counters := 0
	for line := range strings.Lines(string(data)) {
		name, count, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || name != "hypermesh_evidence" && name != "hypermesh_evidence_pending" {
			continue
		}
		counters++
		if count != "0" {
			found = append(found, name+" "+count)
		}
	}
	if counters != 2 {
		t.Errorf("node %d shows %d counters of evidence, want 2", v.index, counters)
	}
	for line := range strings.Lines(v.logSince(t, 0)) {
		if strings.Contains(line, "a validator broke the rules") {
			found = append(found, line)
		}
	}
	return found
}

// describe says how the relay's weather was.
func (n *chaosNet) describe() string {
	s := n.relay.TotalTraffic()
	return fmt.Sprintf("%d datagrams: %d lost, %d cut, %d twice, %d refused, %d overflowed", s.Sent, s.Lost, s.Cut, s.Duplicated, s.Refused, s.Overflowed)
}
