package server

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const awayChain = chain.ChainID("away-1")

// awayChallenge is a challenge of node 1, which peers 2 to 4 measure.
func awayChallenge(t *testing.T, here func(crypto.PublicKey) bool) (*challenges, *challenge, chain.HardwareChallenge) {
	t.Helper()
	d := newChallenges(&chain.Params{HardwareMs: 1_800_000, HardwareLaneMiB: 16, HardwareStepNs: 200_000})
	node, peers := crypto.PublicKey{1}, []crypto.PublicKey{{2}, {3}, {4}}
	d.drawn(node, 0, peers, here)
	c := d.known[node]
	if !d.learn(c, &Challenge{Open: true, Hardware: settlement.Hardware{Seed: crypto.Digest{9}, Lanes: 8, MemoryMiB: 64, Peers: peers}}, 0, here(node)) {
		t.Fatal("the challenge is not open")
	}
	id, _ := d.toSeek(c, awayChain, time.Now(), here)
	return d, c, id
}

func only(nodes ...byte) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool {
		for _, n := range nodes {
			if k == (crypto.PublicKey{n}) {
				return true
			}
		}
		return false
	}
}

// TestWhatIsShownWaitsForWhatJobsHold: peers hold what a node of elsewhere shows against its cluster's word of how much memory
// jobs hold, so they get that first.
func TestWhatIsShownWaitsForWhatJobsHold(t *testing.T) {
	here := only(2)
	d, c, id := awayChallenge(t, here)
	shown := &job.LanesShown{Challenge: id, HeldMiB: 5, Roots: make(job.LaneRoots, 8)}
	if list := d.show(shown, here); len(list) != 0 {
		t.Fatalf("passed to %d before its cluster has answered", len(list))
	}
	if !d.askAnew(id) {
		t.Error("its cluster is not asked at once")
	}
	if _, _, early := d.toTell(c, awayChain, time.Now(), here); early != nil {
		t.Error("passed with the next word of the challenge")
	}
	peer := crypto.PublicKey{2}
	if _, _, early := d.vouch(job.Measure{Challenge: id, Peer: peer, HeldMiB: 4, Here: true}, here); early != nil {
		t.Error("passed, though its cluster says that jobs hold less")
	}
	tell, m, now := d.vouch(job.Measure{Challenge: id, Peer: peer, HeldMiB: 5, Here: true}, here)
	if !tell || m.HeldMiB != 5 || !m.Here || now != shown {
		t.Errorf("told %t %+v, %v", tell, m, now)
	}
	if tell, _, _ := d.vouch(job.Measure{Challenge: id, Peer: crypto.PublicKey{9}, Here: true}, here); tell {
		t.Error("a node without a part in it is told")
	}
	if _, m, _ := d.toTell(c, awayChain, time.Now().Add(2*askAgain), here); m.Here {
		t.Error("that the node was there is said without its cluster saying it anew")
	}
}

// TestWhatWaitedTooLongMakesNobodySilent: what a node of elsewhere shows waits for its cluster's word, which may come late, as when
// the chain has its home only since: then no peer here is told that it was there, as it would say that the node was silent.
func TestWhatWaitedTooLongMakesNobodySilent(t *testing.T) {
	here, peer := only(2), crypto.PublicKey{2}
	for name, late := range map[string]bool{"in time": false, "late": true} {
		d, c, id := awayChallenge(t, here)
		d.show(&job.LanesShown{Challenge: id, HeldMiB: 5, Roots: make(job.LaneRoots, 8)}, here)
		if late {
			c.showed, c.learned = c.showed.Add(-time.Hour), c.learned.Add(-time.Hour)
		}
		for range 2 { // and not later either
			tell, m, shown := d.vouch(job.Measure{Challenge: id, Peer: peer, HeldMiB: 5, Here: true}, here)
			if !tell || m.Here == late || shown == nil {
				t.Errorf("%s: told %t %+v, %v", name, tell, m, shown)
			}
		}
	}
	d, c, id := awayChallenge(t, here)
	d.vouch(job.Measure{Challenge: id, Peer: peer, HeldMiB: 5, Here: true}, here)
	c.learned = c.learned.Add(-time.Hour)
	d.show(&job.LanesShown{Challenge: id, HeldMiB: 5, Roots: make(job.LaneRoots, 8)}, here) // late by itself
	if _, m, _ := d.vouch(job.Measure{Challenge: id, Peer: peer, HeldMiB: 5, Here: true}, here); !m.Here {
		t.Error("a node that is late itself is excused")
	}
}

// TestANodeThatComesIsShownFrom: what a node shows that connects here in the middle goes to the peers here and to those of
// elsewhere; its old cluster's word counts no more here.
func TestANodeThatComesIsShownFrom(t *testing.T) {
	here := only(2)
	d, _, id := awayChallenge(t, here)
	here = only(1, 2)
	if list := d.show(&job.LanesShown{Challenge: id, HeldMiB: 5}, here); len(list) != 3 {
		t.Errorf("passed to %d", len(list))
	}
	if tell, _, _ := d.vouch(job.Measure{Challenge: id, Peer: crypto.PublicKey{2}, Here: true}, here); tell {
		t.Error("the old cluster is heard")
	}
	if list := d.loads(id, time.Now(), here); len(list) != 2 {
		t.Errorf("%d things are carried", len(list))
	}
}

// TestParcelsAreBroughtOnce: what agents here say goes to each cluster of the others until it is there; what came from elsewhere
// goes nowhere; and the challenged node's cluster is asked at a pace, as long as a peer here has something to say.
func TestParcelsAreBroughtOnce(t *testing.T) {
	here, now := only(2), time.Now()
	d, c, id := awayChallenge(t, here)
	kinds := func(list []carriage) (words, asks int) {
		for _, l := range list {
			switch m := l.message.(type) {
			case job.Measured:
				words++
				if m.Verdict.Peer != (crypto.PublicKey{2}) {
					t.Errorf("the word of %x is carried", m.Verdict.Peer[:1])
				}
			case job.Measure:
				asks++
			default:
				t.Errorf("a %T is carried", m)
			}
		}
		return words, asks
	}
	if words, asks := kinds(d.loads(id, now, here)); words != 0 || asks != 1 {
		t.Errorf("%d words, %d questions", words, asks)
	}
	if words, asks := kinds(d.loads(id, now.Add(askAgain/2), here)); words != 0 || asks != 0 {
		t.Errorf("soon after: %d words, %d questions", words, asks)
	}
	d.word(&job.Measured{Challenge: id, Verdict: chain.HardwareVerdict{Peer: crypto.PublicKey{3}, Missing: 1}}) // of elsewhere
	d.word(&job.Measured{Challenge: id, Verdict: chain.HardwareVerdict{Peer: crypto.PublicKey{2}, Missing: 1}})
	list := d.loads(id, now.Add(2*askAgain), here)
	if words, asks := kinds(list); words != 2 || asks != 0 {
		t.Fatalf("when all here have spoken: %d words, %d questions", words, asks)
	}
	if again := d.loads(id, now, here); len(again) != 0 {
		t.Errorf("%d that are under way are carried again", len(again))
	}
	d.arrived(id, list[0], false, now)
	d.arrived(id, list[1], true, now)
	again := d.loads(id, now, here)
	if len(again) != 1 || again[0].to != list[0].to {
		t.Errorf("after one was lost %d are carried", len(again))
	}
	if len(c.away) != 4 {
		t.Errorf("%d participants", len(c.away))
	}
}

// TestNoPeerIsToldOfANodeOfWhichItHearsNothing: that a challenged node is here is said to a peer of elsewhere only if all that the
// node showed and opened got to it, in time: its cluster may be one that nobody reaches, or have no home on the chain.
func TestNoPeerIsToldOfANodeOfWhichItHearsNothing(t *testing.T) {
	here, now := only(1), time.Now()
	d, c, id := awayChallenge(t, here)
	c.seen.Since = chain.TimeMs(now.UnixMilli())
	two, three := crypto.PublicKey{2}, crypto.PublicKey{3}
	says := func(peer crypto.PublicKey, want bool, when string) {
		t.Helper()
		if m, known := d.answerAway(&job.Measure{Challenge: id, Peer: peer}, here); !known || m.Here != want || m.Peer != peer {
			t.Errorf("%s: %+v, %t", when, m, known)
		}
	}
	says(two, true, "as nothing is shown")
	d.show(&job.LanesShown{Challenge: id}, here)
	says(two, false, "before what is shown gets there")
	list := d.loads(id, now, here)
	if len(list) != 3 {
		t.Fatalf("%d things are carried", len(list))
	}
	for _, load := range list {
		switch load.to {
		case c.away[two]:
			d.arrived(id, load, true, c.showed)
		case c.away[three]:
			d.arrived(id, load, false, c.showed)
		default:
			d.arrived(id, load, true, c.showed.Add(time.Hour)) // it may have been late
		}
	}
	says(two, true, "as all got there")
	says(three, false, "as it was lost")
	says(crypto.PublicKey{4}, false, "as it was long on its way")
	d.queueOpened(c.away[two], []byte{1})
	d.dropOpened(c.away[two])
	says(two, false, "as an opening was lost")
	d.queueOpened(c.away[two], []byte{1})
	for d.nextOpened(c.away[two]) != nil {
		says(two, false, "as one is on its way")
	}
	says(two, true, "as the openings got there")
	if m, known := d.answerAway(&job.Measure{Challenge: id, Peer: crypto.PublicKey{9}}, here); known || m.Here {
		t.Error("a node without a part in it is answered")
	}
}

// TestALateHomeMakesItsNodeNotSilent: a challenged node begins when its home tells it, which may have learned of the challenge some
// seconds after the peers' clusters: what it shows in time by its home is late there, and is no silence. What is late by its home too is.
func TestALateHomeMakesItsNodeNotSilent(t *testing.T) {
	here, two := only(1), crypto.PublicKey{2}
	const second = time.Second
	for name, at := range map[string]struct {
		learned, took time.Duration // after the challenge began; until the node has shown, before the limit
		want          bool
	}{
		"learned late, and shown in time by that": {8 * second, 3 * second, false},
		"learned late, and shown early":           {8 * second, 10 * second, true},
		"learned at once, and shown in time":      {0, 3 * second, true},
		"learned late, and shown late by that":    {8 * second, -3 * second, true},
	} {
		d, c, id := awayChallenge(t, here)
		d.params, c.seen.MemoryMiB = &chain.Params{HardwareMs: 1_800_000, HardwareLaneMiB: 128, HardwareStepNs: 1_000_000}, 1_024
		limit := d.limit(c)
		if limit < 15*second {
			t.Fatalf("the limit is %s", limit)
		}
		began := time.Now().Truncate(time.Millisecond)
		c.seen.Since, c.learned = chain.TimeMs(began.UnixMilli()), began.Add(at.learned)
		d.show(&job.LanesShown{Challenge: id}, here)
		c.showed = c.learned.Add(limit - at.took)
		for _, load := range d.loads(id, c.showed, here) {
			d.arrived(id, load, true, c.showed.Add(wayTakes/2))
		}
		if m, known := d.answerAway(&job.Measure{Challenge: id, Peer: two}, here); !known || m.Here != at.want {
			t.Errorf("%s: a peer of elsewhere is told that the node was there: %t", name, m.Here)
		}
	}
}

// TestOpeningsTakeOneErrand: so a cluster that is slow holds up no other's; more than a question draws do not wait.
func TestOpeningsTakeOneErrand(t *testing.T) {
	d, c, _ := awayChallenge(t, only(1))
	p := c.away[crypto.PublicKey{2}]
	begun := 0
	for n := range 2 * hardware.MaxOpenings {
		if d.queueOpened(p, []byte{byte(n)}) {
			begun++
		}
	}
	for n := range hardware.MaxOpenings {
		if raw := d.nextOpened(p); len(raw) != 1 || raw[0] != byte(n) {
			t.Fatalf("the %d-th is %v", n, raw)
		}
	}
	if raw := d.nextOpened(p); raw != nil || begun != 1 {
		t.Errorf("after all %v waits, %d errands began", raw, begun)
	}
	if !d.queueOpened(p, []byte{1}) {
		t.Error("no errand begins after one has ended")
	}
	d.dropOpened(p)
	if !d.queueOpened(p, []byte{2}) || d.nextOpened(p)[0] != 2 {
		t.Error("what was dropped waits still")
	}
}
