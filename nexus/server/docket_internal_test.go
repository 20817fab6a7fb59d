package server

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

var (
	thePanel = crypto.Digest{7}
	theJuror = crypto.PublicKey{1}
)

func always(crypto.PublicKey) bool { return true }

func never(crypto.PublicKey) bool { return false }

// heardOf is a docket with a panel that the chain has.
func heardOf(seats ...Seat) (*docket, *hearing) {
	d := newDocket(time.Hour, 1_000)
	d.drawn(thePanel, 0, []crypto.PublicKey{theJuror}, never)
	h := d.panels[thePanel]
	d.learn(h, &Sitting{Order: crypto.Digest{9}, Seats: seats}, true)
	return d, h
}

// TestTheFirstBallotStays: the chain may have the first already when another one comes.
func TestTheFirstBallotStays(t *testing.T) {
	d, _ := heardOf(Seat{Node: theJuror})
	first := job.Ballot{Panel: thePanel, Node: theJuror, Commitment: crypto.Digest{1}}
	d.ballot(first)
	d.ballot(job.Ballot{Panel: thePanel, Node: theJuror, Commitment: crypto.Digest{2}})
	want := codec.Marshal(chain.Msgs{chain.CommitVote{Panel: thePanel, Node: theJuror, Commitment: first.Commitment}})
	if list := d.votes(); len(list) != 1 || !bytes.Equal(list[0], want) {
		t.Errorf("listed: %x, want %x", list, want)
	}
}

// TestAnOpeningIsOfWhatTheChainHas: nothing is taken before it is time, or that is not what the
// seat is bound to.
func TestAnOpeningIsOfWhatTheChainHas(t *testing.T) {
	o := job.Opening{Panel: thePanel, Node: theJuror, Testimony: chain.Testimony{Finding: chain.FoundUnstable}, Salt: [32]byte{4}}
	seat := Seat{Node: theJuror, Commitment: o.Testimony.Commitment(o.Panel, o.Node, o.Salt)}
	d, h := heardOf(seat)
	d.opening(o)
	sitting := &Sitting{Order: crypto.Digest{9}, Reveals: true, Seats: []Seat{seat}}
	d.learn(h, sitting, true)
	other := o
	other.Testimony.Finding = chain.FoundUnavailable
	d.opening(other)
	if list := d.votes(); len(list) != 0 {
		t.Fatalf("listed: %x", list)
	}
	if nodes, m := d.toAsk(h, time.Now(), always); len(nodes) != 1 || m == nil || !m.Open {
		t.Fatalf("%v is asked %+v", nodes, m)
	}
	d.opening(o)
	want := codec.Marshal(chain.Msgs{chain.RevealVote{Panel: thePanel, Node: theJuror, Testimony: o.Testimony, Salt: o.Salt}})
	if list := d.votes(); len(list) != 1 || !bytes.Equal(list[0], want) {
		t.Errorf("listed: %x, want %x", list, want)
	}
	if nodes, _ := d.toAsk(h, time.Now().Add(time.Hour), always); len(nodes) != 0 {
		t.Errorf("%v is asked again", nodes)
	}
}

// TestPanelsThatAreOverAreForgotten: also those whose jurors have gone elsewhere meanwhile.
func TestPanelsThatAreOverAreForgotten(t *testing.T) {
	d, h := heardOf(Seat{Node: theJuror})
	now := time.Now()
	if list := d.due(now, never); len(list) != 1 {
		t.Fatalf("%d panels are looked at", len(list))
	}
	d.rest(h)
	if list := d.due(now.Add(2*panelLookEvery), never); len(list) != 0 {
		t.Error("a panel without a juror here is looked at as often as others")
	}
	if list := d.due(now.Add(idlePanelLookEvery), never); len(list) != 1 {
		t.Fatal("a panel without a juror here is not looked at")
	}
	d.learn(h, &Sitting{Decided: true}, true)
	if len(d.panels) != 0 {
		t.Error("a panel that has decided is remembered")
	}
}

// TestFetchesOfAClusterTakeTurns: orders of one cluster are fetched one after another, at a
// pace, and hold up no other's.
func TestFetchesOfAClusterTakeTurns(t *testing.T) {
	d, now := newDocket(time.Hour, 1_000), time.Now()
	slow, other := crypto.PublicKey{1}, crypto.PublicKey{2}
	if !d.begin(slow, now) || d.begin(slow, now.Add(time.Hour)) {
		t.Error("two orders of one cluster are fetched at a time")
	}
	if !d.begin(other, now) {
		t.Error("a cluster waits for another")
	}
	d.end(other, now)
	if d.begin(other, now.Add(fetchPace/2)) {
		t.Error("an order is fetched right after another")
	}
	if !d.begin(other, now.Add(2*fetchPace)) {
		t.Error("nothing is fetched of a cluster any more")
	}
	d.end(slow, now.Add(time.Minute))
	if d.begin(slow, now.Add(time.Minute+59*time.Second)) {
		t.Error("a cluster that answers slowly has more than half of the time")
	}
	if !d.begin(slow, now.Add(2*time.Minute+time.Second)) {
		t.Error("nothing is fetched of a slow cluster any more")
	}
}

// TestANodeThatIsBehindSaysNothing: what a node answers of a state before one that was seen, or
// before the block that drew the panel, neither ends a panel nor sets it back.
func TestANodeThatIsBehindSaysNothing(t *testing.T) {
	d := newDocket(time.Hour, 1_000)
	d.drawn(thePanel, 40, []crypto.PublicKey{theJuror}, never)
	h := d.panels[thePanel]
	if d.learn(h, &Sitting{Height: 39}, false) || d.panels[thePanel] == nil {
		t.Fatal("a panel is forgotten because a node has not come to its draw")
	}
	sitting := func(height chain.Height, reveals bool) *Sitting {
		return &Sitting{Height: height, Order: crypto.Digest{9}, Reveals: reveals, Seats: []Seat{{Node: theJuror}}}
	}
	if !d.learn(h, sitting(50, true), true) {
		t.Fatal("a panel that is there is not looked after")
	}
	if d.learn(h, &Sitting{Height: 49}, false) || d.learn(h, &Sitting{Height: 49, Decided: true}, true) || d.panels[thePanel] == nil {
		t.Fatal("a panel is forgotten on the word of a node that is behind")
	}
	if d.learn(h, sitting(45, false), true) || !h.sitting.Reveals {
		t.Error("a panel goes back")
	}
	if !d.learn(h, sitting(50, true), true) {
		t.Error("the same state twice says nothing")
	}
	if d.learn(h, &Sitting{Height: 51}, false) || d.panels[thePanel] != nil {
		t.Error("a panel that is over is remembered")
	}
	d.drawn(thePanel, 52, []crypto.PublicKey{theJuror}, never)
	if h = d.panels[thePanel]; d.learn(h, &Sitting{Height: 52}, false) || d.panels[thePanel] != nil {
		t.Error("a panel that never was is remembered")
	}
}

// TestPanelsOfJurorsWhoAreHereStay: if there are too many, those go whose jurors are elsewhere, and
// then those that the chain does not show; never one that it does, and that has a juror here.
func TestPanelsOfJurorsWhoAreHereStay(t *testing.T) {
	d, here := newDocket(time.Hour, 1_000), func(node crypto.PublicKey) bool { return node == theJuror }
	name := func(n int) crypto.Digest { return crypto.Digest{1, byte(n >> 8), byte(n)} }
	for n := range maxPanels {
		node := theJuror
		if n == 5 {
			node = crypto.PublicKey{9}
		}
		d.drawn(name(n), 0, []crypto.PublicKey{node}, here)
	}
	for n := range maxPanels {
		if h := d.panels[name(n)]; n > 7 {
			d.learn(h, &Sitting{Seats: []Seat{{Node: theJuror}}}, true)
		} else if n == 7 {
			h.looks = time.Now() // it was asked about, in vain
		}
	}
	for i, gone := range []int{5, 7} {
		if d.drawn(name(maxPanels+i), 0, []crypto.PublicKey{theJuror}, here); d.panels[name(gone)] != nil || d.panels[name(maxPanels+i)] == nil {
			t.Errorf("panel %d did not make room", gone)
		}
	}
	if d.drawn(name(maxPanels+2), 0, []crypto.PublicKey{theJuror}, here); d.panels[name(maxPanels+2)] != nil || len(d.panels) != maxPanels {
		t.Error("a panel with a juror here made room for another")
	}
}

// TestPanelsThatNobodyAsksAbout: what was said of others' jurors is forgotten when no such panel can
// be open any more.
func TestPanelsThatNobodyAsksAbout(t *testing.T) {
	d := newDocket(time.Hour, 1_000)
	d.drawn(thePanel, 0, []crypto.PublicKey{theJuror}, never)
	if list := d.due(time.Now().Add(30*time.Minute), never); len(list) != 0 || d.panels[thePanel] == nil {
		t.Error("a panel of others is asked about, or forgotten while it may be open")
	}
	if list := d.due(time.Now().Add(2*time.Hour), never); len(list) != 0 || d.panels[thePanel] != nil {
		t.Error("a panel of others is remembered")
	}
}

// TestBallotsOfPanelsThatAreNotKnown are kept until the chain was asked once, and posted if it has
// such a panel with such a juror.
func TestBallotsOfPanelsThatAreNotKnown(t *testing.T) {
	d := newDocket(time.Hour, 1_000)
	for _, there := range []bool{false, true} {
		d.recall(job.Ballot{Panel: thePanel, Node: theJuror, Commitment: crypto.Digest{1}}, never)
		list := d.due(time.Now(), never)
		if len(list) != 1 {
			t.Fatalf("%d panels are asked about", len(list))
		}
		d.rest(list[0])
		d.learn(list[0], &Sitting{Height: 3, Seats: []Seat{{Node: theJuror}}}, there)
		if got := len(d.votes()); (got == 1) != there || (d.panels[thePanel] != nil) != there {
			t.Errorf("there %v: %d votes are listed", there, got)
		}
	}
}

// TestRecallsAreBounded: an agent names no more panels than it can remember.
func TestRecallsAreBounded(t *testing.T) {
	s, n := &session{}, 0
	for range 1_000 {
		if s.mayRecall() {
			n++
		}
	}
	if n != maxRecalls {
		t.Errorf("%d ballots of one session are looked after", n)
	}
}

// TestRoomForWhatIsJudged: blobs of other clusters are kept until their panel is over, within the
// room that there is for them, of which no cluster takes more than its part; and what is lost here
// is fetched again.
func TestRoomForWhatIsJudged(t *testing.T) {
	d, h := heardOf(Seat{Node: theJuror})
	other := func(n byte) *hearing {
		d.drawn(crypto.Digest{n}, 0, []crypto.PublicKey{theJuror}, never)
		return d.panels[crypto.Digest{n}]
	}
	one, two, module := crypto.PublicKey{1}, crypto.PublicKey{2}, crypto.Digest{33}
	if !d.reserve(h, one, []crypto.Digest{module}, 900) {
		t.Fatal("there is no room for the first")
	}
	if d.reserve(other(21), two, nil, 101) || !d.reserve(other(22), two, nil, 100) {
		t.Error("the room is not what it is")
	}
	d.fetched(d.panels[crypto.Digest{22}], fetchFailed, nil)
	if d.reserve(other(23), one, nil, 50) || !d.reserve(other(24), two, nil, 50) || d.reserve(other(25), two, nil, 50+1_000/roomParts) {
		t.Error("a cluster has more than its part, or another less")
	}
	d.fetched(h, fetchGot, &job.Judge{Assignment: &job.Assignment{}})
	wanted := map[crypto.Digest]bool{}
	if d.blobs(wanted); len(wanted) != 1 || !wanted[module] {
		t.Errorf("kept: %v", wanted)
	}
	if d.check(h, func(crypto.Digest) bool { return true }); h.judge == nil {
		t.Error("what is here is fetched again")
	}
	if d.check(h, func(id crypto.Digest) bool { return id != module }); h.judge != nil || !d.claimFetch(h, time.Now()) {
		t.Error("what was lost is not fetched again")
	}
	d.learn(h, &Sitting{Decided: true}, true)
	clear(wanted)
	if d.blobs(wanted); len(wanted) != 0 || !d.reserve(other(26), one, nil, 900) {
		t.Errorf("kept of a panel that is over: %v", wanted)
	}
}

// TestWhatIsLackingIsSaid: jurors are told of a panel when what it judges is here, or could not
// be had from its cluster; a fault of this server's own is not said to be another's.
func TestWhatIsLackingIsSaid(t *testing.T) {
	d, h := heardOf(Seat{Node: theJuror})
	now := time.Now()
	for _, end := range []fetchEnd{fetchPutOff, fetchFailed} {
		h.fetches = time.Time{}
		if !d.claimFetch(h, now) || d.claimFetch(h, now) {
			t.Fatal("what is judged is not fetched once")
		}
		d.fetched(h, end, nil)
		if nodes, m := d.toAsk(h, now, always); len(nodes) != 1 || m != nil {
			t.Errorf("%v is told %+v", nodes, m)
		}
	}
	d.fetched(h, fetchLacking, nil)
	if _, m := d.toAsk(h, now, always); m == nil || m.Assignment != nil {
		t.Errorf("told %+v", m)
	}
	d.fetched(h, fetchFailed, nil) // the next time it was this server's own fault
	if nodes, m := d.toAsk(h, now.Add(askAgain), always); len(nodes) != 1 || m != nil {
		t.Errorf("%v is told %+v", nodes, m)
	}
	d.fetched(h, fetchLacking, nil)
	if nodes, _ := d.toAsk(h, now.Add(askAgain/2), always); len(nodes) != 0 {
		t.Error("asked again at once")
	}
	d.fetched(h, fetchGot, &job.Judge{Assignment: &job.Assignment{}})
	if _, m := d.toAsk(h, now.Add(askAgain), always); m == nil || m.Assignment == nil {
		t.Errorf("told %+v", m)
	}
}

// TestDocketTogether: for the race detector.
func TestDocketTogether(t *testing.T) {
	d, h := heardOf(Seat{Node: theJuror})
	var wg sync.WaitGroup
	for n := range byte(8) {
		wg.Go(func() {
			for i := range byte(50) {
				d.drawn(thePanel, 0, []crypto.PublicKey{{n, i}}, always)
				d.reserve(h, crypto.PublicKey{n}, nil, 1)
				d.check(h, func(crypto.Digest) bool { return true })
				d.blobs(map[crypto.Digest]bool{})
				d.due(time.Now(), always)
				d.toAsk(h, time.Now(), always)
				d.claimFetch(h, time.Now())
				d.fetched(h, fetchLacking, nil)
				d.learn(h, &Sitting{Seats: []Seat{{Node: theJuror}}}, true)
				d.ballot(job.Ballot{Panel: thePanel, Node: theJuror, Commitment: crypto.Digest{n}})
				d.votes()
				d.rest(h)
			}
		})
	}
	wg.Wait()
}

// TestNewsOfPanelsIsLookedAtAtOnce: a panel with a juror here is looked at when an event tells of it, again
// soon if that cannot be proven yet, and its jurors are asked for their votes though they were asked for
// commitments a moment ago.
func TestNewsOfPanelsIsLookedAtAtOnce(t *testing.T) {
	d, here := newDocket(time.Hour, 1_000), func(node crypto.PublicKey) bool { return node == theJuror }
	told := func() bool {
		select {
		case <-d.news:
			return true
		default:
			return false
		}
	}
	d.drawn(crypto.Digest{2}, 9, []crypto.PublicKey{{9}}, here)
	if told() {
		t.Error("a panel of others is news")
	}
	d.drawn(thePanel, 9, []crypto.PublicKey{theJuror}, here)
	now := time.Now()
	if list := d.due(now, here); !told() || len(list) != 1 || list[0].panel != thePanel {
		t.Fatalf("%d panels are due", len(list))
	}
	h := d.panels[thePanel]
	if d.learn(h, &Sitting{Height: 8}, false) || h.looks.After(time.Now().Add(lookAtPanels)) {
		t.Error("what cannot be proven yet is looked at late")
	}
	d.rest(h)
	d.learn(h, &Sitting{Height: 9, Seats: []Seat{{Node: theJuror}}}, true)
	h.judge, h.ballots[theJuror] = &job.Judge{}, job.Ballot{Panel: thePanel, Node: theJuror}
	h.asked[theJuror], h.looks = now, now.Add(time.Hour)
	d.soon(crypto.Digest{3}, 12)
	if told() {
		t.Error("a panel that is not known is news")
	}
	if d.soon(thePanel, 12); !told() || h.looks.After(time.Now()) {
		t.Error("that votes are shown is no news")
	}
	d.learn(h, &Sitting{Height: 12, Reveals: true, Seats: []Seat{{Node: theJuror, Commitment: crypto.Digest{1}}}}, true)
	if nodes, m := d.toAsk(h, now, here); len(nodes) != 1 || m == nil || !m.Open {
		t.Errorf("asked %v with %+v", nodes, m)
	}
}
