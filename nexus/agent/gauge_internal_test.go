package agent

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// TestAServerFillsNoMoreThanItsShareOfGauges: what it makes up gives way to what else it says, and
// nothing that the chain has, or that another server speaks of, does.
func TestAServerFillsNoMoreThanItsShareOfGauges(t *testing.T) {
	a := &Agent{gauges: map[crypto.PublicKey]*gauge{}}
	evil, good := crypto.PublicKey{1}, crypto.PublicKey{2}
	now := time.Now()
	n := byte(0)
	add := func(proven bool, none time.Time, tellers ...crypto.PublicKey) crypto.PublicKey {
		n++
		g := &gauge{challenge: chain.HardwareChallenge{Node: crypto.PublicKey{9, n}}, tellers: tellers, proven: proven, none: none}
		g.end = func() {}
		a.gauges[g.challenge.Node] = g
		return g.challenge.Node
	}
	kept := []crypto.PublicKey{add(true, time.Time{}, evil), add(false, time.Time{}, evil, good), add(false, now.Add(-time.Hour), good)}
	for range maxGaugesOf {
		if !a.roomToGauge(evil, now) {
			t.Fatalf("a server has no room for %d of %d", len(a.gauges), maxGaugesOf)
		}
		add(false, time.Time{}, evil)
	}
	if a.roomToGauge(evil, now) || !a.roomToGauge(good, now) {
		t.Error("a server has more than its share, or another one none")
	}
	madeUp := add(false, now.Add(-2*gaugeRest), evil)
	younger := add(false, now.Add(-gaugeRest), evil)
	if !a.roomToGauge(evil, now) || a.gauges[madeUp] != nil || a.gauges[younger] == nil {
		t.Error("what the chain knows nothing of for longest does not give way")
	}
	for len(a.gauges) < maxGauges {
		add(false, time.Time{}, evil)
	}
	if !a.roomToGauge(evil, now) || a.gauges[younger] != nil || a.roomToGauge(evil, now) {
		t.Error("of a server's own one gives way, if the chain knows nothing of it, and else none")
	}
	for _, node := range kept {
		if a.gauges[node] == nil {
			t.Error("what the chain has, or another server speaks of, gave way")
		}
	}
}

// TestWhatIsMadeUpOfANodeLeavesItToWhatIsTrue: a server that speaks of a challenge that is none does not keep
// the node from being measured in one of which another server speaks.
func TestWhatIsMadeUpOfANodeLeavesItToWhatIsTrue(t *testing.T) {
	evil, good := crypto.PublicKey{1}, crypto.PublicKey{2}
	now := time.Now()
	for _, c := range []struct {
		name string
		g    *gauge
		to   crypto.PublicKey
		want bool
	}{
		{"made up, to another server's", &gauge{tellers: []crypto.PublicKey{evil}, none: now}, good, true},
		{"made up, to the same server's at once", &gauge{tellers: []crypto.PublicKey{evil}, none: now}, evil, false},
		{"made up, to the same server's later", &gauge{tellers: []crypto.PublicKey{evil}, none: now.Add(-gaugeRest)}, evil, true},
		{"not asked about yet", &gauge{tellers: []crypto.PublicKey{evil}}, good, false},
		{"of the chain", &gauge{tellers: []crypto.PublicKey{good}, proven: true}, evil, false},
	} {
		if got := c.g.givesWay(c.to, now); got != c.want {
			t.Errorf("%s: it gives way: %v", c.name, got)
		}
	}
	a := &Agent{gauges: map[crypto.PublicKey]*gauge{}, stopping: true}
	node, ended := crypto.PublicKey{9}, false
	a.gauges[node] = &gauge{challenge: chain.HardwareChallenge{Node: node}, tellers: []crypto.PublicKey{evil}, none: now, end: func() { ended = true }}
	other := job.Measure{Challenge: chain.HardwareChallenge{Node: node, Seed: crypto.Digest{1}}}
	if a.gaugeFor(good, &other) != nil || !ended || a.gauges[node] != nil {
		t.Error("what was made up of a node keeps its place")
	}
}

// TestSilenceCountsAfterAWhile: a server that has just begun may not have found the node yet.
func TestSilenceCountsAfterAWhile(t *testing.T) {
	short, long := job.Watch{Service: chain.ServiceTerms{EpochMs: 10_000}}, job.Watch{Service: chain.ServiceTerms{EpochMs: 3_600_000}}
	for _, c := range []struct {
		age  time.Duration
		of   *job.Watch
		want bool
	}{{0, &short, false}, {9 * time.Second, &short, false}, {10 * time.Second, &short, true}, {59 * time.Second, &long, false}, {time.Minute, &long, true}} {
		if got := seated(c.age, c.of); got != c.want {
			t.Errorf("after %v of a session, with epochs of %d ms, silence counts: %v", c.age, c.of.Service.EpochMs, got)
		}
	}
}
