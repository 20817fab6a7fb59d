package server

import (
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/scheduler"
)

// openRound is a round of so many auctions in each of which two nodes were asked.
func openRound(r *reign, auctions int) *round {
	o := &round{reign: r, window: time.Millisecond, began: time.Now(), left: auctions, ready: make(chan struct{}, 1)}
	for i := range auctions {
		a := &auction{number: uint64(i + 1), want: 1, round: o, missing: 2, waiting: map[crypto.PublicKey]bool{}, reasons: map[string]int{}}
		r.auctions[a.number] = a
		o.auctions = append(o.auctions, a)
	}
	return o
}

// An auction that ends with bids enough, though somebody has not answered, keeps no other from
// opening; and what is said of it later changes nothing.
func TestAuctionsThatEndLackNoAnswers(t *testing.T) {
	r := &reign{auctions: map[uint64]*auction{}}
	o := openRound(r, 3)
	for _, a := range o.auctions[:2] {
		a.bids = append(a.bids, scheduler.SignedBid{})
		a.missing--
	}
	o.auctions[2].take(nil, job.BidReply{Decline: "no room"}, false)
	if got := o.unanswered(); got != 3 {
		t.Fatalf("%d auctions lack answers, want 3", got)
	}
	a := o.auctions[2]
	a.take(nil, job.BidReply{Decline: "no room"}, false)
	if got := o.unanswered(); got != 2 {
		t.Fatalf("%d auctions lack answers after all of one came, want 2", got)
	}
	ended := 0
	if !o.run(t.Context(), func(list []*auction) { ended += len(list) }) {
		t.Fatal("the round was broken off")
	}
	if ended != 3 || o.unanswered() != 0 || len(r.auctions) != 0 {
		t.Fatalf("%d auctions ended, %d lack answers, %d are on the list; want 3, 0, 0", ended, o.unanswered(), len(r.auctions))
	}
	for _, a := range o.auctions {
		a.take(nil, job.BidReply{Decline: "late"}, false)
	}
	r.strike(o.auctions)
	if got := o.unanswered(); got != 0 {
		t.Fatalf("%d auctions lack answers after late ones came, want 0", got)
	}
}
