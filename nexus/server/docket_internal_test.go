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
	d := newDocket()
	d.drawn(thePanel, []crypto.PublicKey{theJuror})
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
	o := job.Opening{Panel: thePanel, Node: theJuror, Vote: chain.Vote{Finding: chain.FoundUnstable}, Salt: [32]byte{4}}
	seat := Seat{Node: theJuror, Commitment: o.Vote.Commitment(o.Panel, o.Node, o.Salt)}
	d, h := heardOf(seat)
	d.opening(o)
	sitting := &Sitting{Order: crypto.Digest{9}, Reveals: true, Seats: []Seat{seat}}
	d.learn(h, sitting, true)
	other := o
	other.Vote.Finding = chain.FoundUnavailable
	d.opening(other)
	if list := d.votes(); len(list) != 0 {
		t.Fatalf("listed: %x", list)
	}
	if nodes, m := d.toAsk(h, time.Now(), always); len(nodes) != 1 || m == nil || !m.Open {
		t.Fatalf("%v is asked %+v", nodes, m)
	}
	d.opening(o)
	want := codec.Marshal(chain.Msgs{chain.RevealVote{Panel: thePanel, Node: theJuror, Vote: o.Vote, Salt: o.Salt}})
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
	d, now := newDocket(), time.Now()
	slow, other := crypto.PublicKey{1}, crypto.PublicKey{2}
	if !d.begin(slow, now) || d.begin(slow, now.Add(time.Hour)) {
		t.Error("two orders of one cluster are fetched at a time")
	}
	if !d.begin(other, now) {
		t.Error("a cluster waits for another")
	}
	d.end(slow)
	if d.begin(slow, now.Add(fetchPace/2)) {
		t.Error("an order is fetched right after another")
	}
	if !d.begin(slow, now.Add(2*fetchPace)) {
		t.Error("nothing is fetched of a cluster any more")
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
				d.drawn(thePanel, []crypto.PublicKey{{n, i}})
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
