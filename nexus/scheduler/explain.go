package scheduler

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
	"github.com/hypermesh/hypermesh/nexus/match"
)

// What is asked about the state, and how much of it an answer looks at: it may
// be asked at any time, by anybody, while commands wait. So it looks at some
// nodes, evenly spread over all of them, and says so. Nobody chooses where a node
// is among them.

const (
	// ReasonNodes are looked at to say why a job waits, QuoteNodes to say what
	// excludes whom from taking it: of so many nodes the counts are exact.
	ReasonNodes = 128
	QuoteNodes  = 1_024
	// maxTried bounds the nodes that are tried in a search for some that fit.
	maxTried = 4_096
)

// Seller is a node that could take work.
type Seller struct {
	ID     crypto.PublicKey
	Owner  chain.Address
	Factor uint64 // of its bids (match.Standing), in parts of a million
}

// Explanation says who could take work now, and what excludes the others.
type Explanation struct {
	Fit      []Seller          // some of those that could, at most as many as were asked for
	Excluded []match.Exclusion // of all nodes, by what excludes them; about, if not all were looked at
	Looked   int               // nodes that were looked at for that
	Nodes    int               // all of them
}

// Explain says who could take work of a specification now: the dry run of a
// quote. It finds nodes that could take it, if there are any, by the index, and if
// there are none those that could if they ended what the work may preempt; what
// excludes the others it counts on QuoteNodes at most.
func (s *State) Explain(spec *job.Spec, fit int) Explanation {
	request := Request(spec)
	tally, looked := s.excluded(&request, QuoteNodes)
	out := Explanation{Excluded: tally.Excluded(), Looked: looked, Nodes: len(s.nodes)}
	for _, n := range s.look(&request, fit, false) {
		_, factor := s.standing(&Job{Spec: *spec}, &request, n)
		out.Fit = append(out.Fit, Seller{ID: n.ID, Owner: n.Owner, Factor: factor})
	}
	if len(out.Fit) == 0 && !spec.Scheduling.Preemptible {
		for _, n := range s.look(&request, fit, true) {
			out.Fit = append(out.Fit, Seller{ID: n.ID, Owner: n.Owner, Factor: match.One})
		}
	}
	return out
}

// Reason says why a job waits, as it is now, or why it failed.
func (s *State) Reason(j *Job) string {
	switch {
	case j.Parked:
		return s.parkedFor(s.accounts[j.consumer], j)
	case j.group == nil || j.Backoff:
		return j.Reason
	case j.ganged():
		return s.gangReason(j)
	}
	return s.lacks(&j.group.asks[0].request, j.wanted())
}

func (s *State) gangReason(first *Job) string {
	if first.Blocked.IsZero() {
		return fmt.Sprintf("its gang waits for room for all of its %d orders at once", first.Spec.Scheduling.Gang.Size)
	}
	return fmt.Sprintf("its gang waits for room for order %s: %s", first.Blocked.Short(), s.lacks(&first.group.asks[0].request, 1))
}

// lacks says why nodes cannot take a request of which some are needed.
func (s *State) lacks(r *match.Request, wanted int) string {
	owners := map[chain.Address]bool{}
	if wanted > 1 { // a job that needs one node waits only while none fits
		for _, n := range s.look(r, ReasonNodes, false) {
			owners[n.Owner] = true
		}
	}
	tally, looked := s.excluded(r, ReasonNodes)
	about := ""
	if looked < len(s.nodes) {
		about = "about "
	}
	has := "no node fits"
	if wanted > 1 { // each replica is another owner's
		has = fmt.Sprintf("nodes of %d owners are needed, those of %d fit", wanted, len(owners))
	}
	return fmt.Sprintf("%s; %s%s", has, about, describe(tally.Excluded()))
}

// parkedFor says why a consumer's job is parked.
func (s *State) parkedFor(a *Account, j *Job) string {
	if j.IsLease() && !s.full(a, 1) {
		if why, _ := s.unopenedLimit(a, j); why != "" {
			return why
		}
	}
	if a.active < s.config.MaxActive && a.outbox > 0 {
		return fmt.Sprintf("the consumer has %d jobs in auctions or running and %d that wait for the chain, its share", a.active, a.outbox)
	}
	return fmt.Sprintf("the consumer has %d jobs in auctions or running, its limit", a.active)
}

// excluded counts nodes by why they cannot take a request: all of them, or, if there
// are more than most, as many, evenly spread, for all.
func (s *State) excluded(r *match.Request, most int) (t match.Tally, looked int) {
	step := max(1, (len(s.slots)+most-1)/most)
	for slot := 0; slot < len(s.slots); slot += step {
		if n := s.slots[slot]; n != nil {
			view := n.view()
			t[match.Check(r, &view)]++
			looked++
		}
	}
	if looked > 0 && looked < len(s.nodes) {
		for i := range t {
			t[i] = (t[i]*len(s.nodes) + looked/2) / looked
		}
	}
	return t, looked
}

// look returns up to limit nodes that fit a request, or would if they ended what
// may be preempted. It changes nothing, and so may be asked by many at a time.
func (s *State) look(r *match.Request, limit int, evict bool) []*Node {
	w := want(r, evict)
	fits := func(n *Node) bool {
		if !evict {
			return n.fits(r)
		}
		view := n.viewWith(n.evicted())
		return n.preemptor == nil && match.Check(r, &view) == match.Fits
	}
	var out []*Node
	looked := 0
	start := int(mix(s.auctions) % uint64(max(1, len(s.slots))))
	for _, span := range [2][2]int{{start, s.index.size}, {0, start}} {
		for from := span[0]; len(out) < limit && from < span[1]; {
			found := false
			slot := s.index.search(1, from, span[1], &w, func(slot int) bool {
				looked++
				found = fits(s.slots[slot])
				return found || looked > maxTried
			})
			if slot < 0 {
				break
			}
			if found {
				out = append(out, s.slots[slot])
			}
			if from = slot + 1; looked > maxTried {
				return out
			}
		}
	}
	return out
}

func describe(excluded []match.Exclusion) string {
	if len(excluded) == 0 {
		return "none excluded"
	}
	text := ""
	for i, e := range excluded {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%d %s", e.Nodes, e.Reason)
	}
	return text
}
