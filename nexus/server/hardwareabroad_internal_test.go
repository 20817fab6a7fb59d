package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/hardware"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/sdk"
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

// TestWhatIsShownWaitsNowhere: what a node of elsewhere shows goes to the peers here at once, who hold it against its cluster's word of
// how much memory jobs hold: another of their servers may have that. That the node was there is said only as its cluster says it anew.
func TestWhatIsShownWaitsNowhere(t *testing.T) {
	here := only(2)
	d, c, id := awayChallenge(t, here)
	shown := &job.LanesShown{Challenge: id, HeldMiB: 5, Roots: make(job.LaneRoots, 8)}
	if list := d.show(shown); len(list) != 3 {
		t.Fatalf("passed to %d before its cluster has answered", len(list))
	}
	if !d.askAnew(id) {
		t.Error("its cluster is not asked at once")
	}
	if _, m, again := d.toTell(c, awayChain, time.Now(), here); again != shown || m.Here {
		t.Errorf("with the next word of the challenge goes %v, here %t", again, m.Here)
	}
	peer := crypto.PublicKey{2}
	for _, held := range []uint64{4, 5} {
		if tell, m := d.vouch(job.Measure{Challenge: id, Peer: peer, HeldMiB: held, Here: true}, here); !tell || m.HeldMiB != held || !m.Here {
			t.Errorf("told %t %+v", tell, m)
		}
	}
	if tell, _ := d.vouch(job.Measure{Challenge: id, Peer: crypto.PublicKey{9}, Here: true}, here); tell {
		t.Error("a node without a part in it is told")
	}
	if _, m, _ := d.toTell(c, awayChain, time.Now().Add(2*askAgain), here); m.Here {
		t.Error("that the node was there is said without its cluster saying it anew")
	}
}

// TestAQuestionThatIsLostMakesNobodySilent: words that a node is there may get to its cluster and back while a peer's questions do not, as
// when there are too many errands: until one got there that peer is not told that the node is.
func TestAQuestionThatIsLostMakesNobodySilent(t *testing.T) {
	here, two, three := only(2, 3), crypto.PublicKey{2}, crypto.PublicKey{3}
	d, c, id := awayChallenge(t, here)
	s := &Server{challenges: d, abroad: newAbroad(), log: slog.New(slog.DiscardHandler)}
	says := func(peer crypto.PublicKey, want bool, when string) {
		t.Helper()
		if tell, m := d.vouch(job.Measure{Challenge: id, Peer: peer, Here: true}, here); !tell || m.Here != want {
			t.Errorf("%s: told %t %+v", when, tell, m)
		}
	}
	says(two, true, "as nothing was asked")
	s.carryQuestion(&job.LaneQuestion{Challenge: id, Peer: two}) // where the node is at home is not known
	says(two, false, "as a question was lost")
	says(three, true, "to another peer")
	home, err := sdk.New(sdk.Config{Nexus: []string{"http://127.0.0.1:1"}, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	c.away[id.Node].home = home
	s.carryQuestion(&job.LaneQuestion{Challenge: id, Peer: two})
	says(two, false, "while it is on its way")
	(<-s.abroad.errands)(t.Context())
	says(two, false, "as nobody has taken it")
	d.asks(id, two, true)
	says(two, true, "as it got there")
	for s.abroad.send(&c.away[id.Node].outpost, func(context.Context, *sdk.Client) {}) {
	}
	s.carryQuestion(&job.LaneQuestion{Challenge: id, Peer: two})
	says(two, false, "as there are too many errands")
}

// TestWhatNobodyTakesIsNotBrought: what is for an agent that is not at a server is not taken by that, nor what is of a challenge in which nobody of
// it has a part: whoever brings it asks another server of the cluster, and what none takes was not brought.
func TestWhatNobodyTakesIsNotBrought(t *testing.T) {
	here, now := only(1, 2), time.Now()
	d, c, id := awayChallenge(t, here)
	c.asked[crypto.PublicKey{2}], c.asked[crypto.PublicKey{3}] = now, now
	unknown := id
	unknown.Seed[0]++
	two, three, stranger := crypto.PublicKey{2}, crypto.PublicKey{3}, crypto.PublicKey{7}
	for name, x := range map[string]struct {
		m    job.Message
		want int // status; 0: it is taken
	}{
		"shown to one who is here":        {job.LanesShown{Challenge: id, Peer: two}, 0},
		"shown to one who is not":         {job.LanesShown{Challenge: id, Peer: three}, http.StatusServiceUnavailable},
		"shown to a stranger":             {job.LanesShown{Challenge: id, Peer: stranger}, http.StatusNotFound},
		"shown to nobody":                 {job.LanesShown{Challenge: id}, http.StatusNotFound},
		"shown in a challenge not known":  {job.LanesShown{Challenge: unknown, Peer: two}, http.StatusServiceUnavailable},
		"opened for one who is here":      {job.LaneOpened{Challenge: id, Peer: two}, 0},
		"opened for one who is not":       {job.LaneOpened{Challenge: id, Peer: three}, http.StatusServiceUnavailable},
		"asked of the node, who is here":  {job.LaneQuestion{Challenge: id, Peer: three}, 0},
		"a word, which is for the server": {job.Measured{Challenge: id, Verdict: chain.HardwareVerdict{Peer: three, Missing: 1}}, 0},
	} {
		if _, err := d.awaits(x.m, now.Add(time.Hour), here); statusOf(err) != x.want {
			t.Errorf("%s: %v, want %d", name, err, x.want)
		}
	}
	here = only(2)
	if _, err := d.awaits(job.LaneQuestion{Challenge: id, Peer: three}, now.Add(time.Hour), here); statusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("asked of a node that is not here: %v", err)
	}
	for _, m := range []job.Measure{{Challenge: id, Peer: two}, {Challenge: unknown, Peer: two}} {
		c.here = false
		if _, err := d.answerAway(&m, here); statusOf(err) != http.StatusServiceUnavailable {
			t.Errorf("of a node that is not here: %v", err)
		}
	}
}

// statusOf is the status that an error is answered with; 0: there is none.
func statusOf(err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errNotHere) {
		return http.StatusServiceUnavailable
	}
	if e, ok := errors.AsType[huma.StatusError](err); ok {
		return e.GetStatus()
	}
	return -1
}

// TestANodeThatComesIsShownFrom: what a node shows that connects here in the middle goes to the peers here and to those of
// elsewhere; its old cluster's word counts no more here.
func TestANodeThatComesIsShownFrom(t *testing.T) {
	here := only(2)
	d, _, id := awayChallenge(t, here)
	here = only(1, 2)
	if list := d.show(&job.LanesShown{Challenge: id, HeldMiB: 5}); len(list) != 3 {
		t.Errorf("passed to %d", len(list))
	}
	if tell, _ := d.vouch(job.Measure{Challenge: id, Peer: crypto.PublicKey{2}, Here: true}, here); tell {
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
		if m, err := d.answerAway(&job.Measure{Challenge: id, Peer: peer}, here); err != nil || m.Here != want || m.Peer != peer {
			t.Errorf("%s: %+v, %v", when, m, err)
		}
	}
	says(two, true, "as nothing is shown")
	d.show(&job.LanesShown{Challenge: id})
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
	if m, err := d.answerAway(&job.Measure{Challenge: id, Peer: crypto.PublicKey{9}}, here); err == nil || m.Here {
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
		d.show(&job.LanesShown{Challenge: id})
		c.showed = c.learned.Add(limit - at.took)
		for _, load := range d.loads(id, c.showed, here) {
			d.arrived(id, load, true, c.showed.Add(wayTakes/2))
		}
		if m, err := d.answerAway(&job.Measure{Challenge: id, Peer: two}, here); err != nil || m.Here != at.want {
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
