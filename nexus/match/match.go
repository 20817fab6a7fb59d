// Package match says whether a node can take a job, how good an offer is, and
// the reason for "no".
//
// Invariants:
//
//  1. A node is feasible exactly if Check returns Fits: placement, quotes and
//     explanations ask the same function.
//  2. Order of offers is total: equal scores are told apart by a hash, so the
//     same bids give the same winners everywhere.
//  3. A score is the cost times a factor of at least one: what a node is paid is
//     its bid, and what it is ranked by beside its bid is known before the bids.
//
// Pure and safe for concurrent use. It keeps no state and knows no time.
package match

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Reason says why a node cannot take a job; Fits says that it can.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	Fits      Reason = iota
	Away             // the node has no session
	Paused           // its owner has paused or drains it
	Held             // the cluster holds it back
	Region           // it is in another region
	Kernel           // it does not prove the kernel
	GPUKind          // its GPUs are of another kind
	Owner            // its owner runs a replica of the job already
	Failed           // it, or its owner, failed this job before
	CPU              // not enough millicores are free
	Memory           // not enough memory is free
	GPU              // not enough of its GPUs is free
	OnRecord         // it offers more than the chain has of it, and this is beyond that
	reasonEnd = iota
)

// String names the reason for people and JSON.
func (r Reason) String() string {
	return [reasonEnd]string{
		"fits", "not connected", "paused", "held back by the cluster", "other region", "kernel not offered", "other kind of gpu", "owner runs a replica already",
		"failed this job before", "not enough free cpu", "not enough free memory", "not enough free gpu",
		"less hardware on the chain than it offers",
	}[r]
}

// Request is what a job needs of a node.
type Request struct {
	Millicores uint64
	MemoryMiB  uint64
	GPUs       uint64 // devices
	GPUMilli   uint64 // thousandths of each: all 1,000 if there are several
	Region     string // empty: any
	Kernel     string // empty: none
	GPUKind    string // empty: any
	// Replicas and Failures list owners that may not be asked, and why.
	Replicas []chain.Address
	Failures []chain.Address
	Refuted  []crypto.PublicKey // nodes that may not be asked, whoever owns them now
}

// Free is what a node, or the best of many nodes, has free.
type Free struct {
	Millicores uint64
	MemoryMiB  uint64
	GPUs       uint16 // devices that are all free
	GPUMilli   uint16 // of the device of which most is free
}

// Node is what is known of a node.
type Node struct {
	ID        crypto.PublicKey
	Owner     chain.Address
	Connected bool
	Accepting bool
	Held      bool
	Region    string
	Kernels   []string
	GPUKind   string
	Free      Free // of what it offers, and of what the chain has of it
	Offered   Free // of what it offers
}

// whole is the share of a device that is all of it.
const whole = 1_000

// Short returns what there is too little of for the request, or Fits.
func (f *Free) Short(r *Request) Reason {
	switch {
	case f.Millicores < r.Millicores:
		return CPU
	case f.MemoryMiB < r.MemoryMiB:
		return Memory
	case r.GPUs == 1 && uint64(f.GPUMilli) < r.GPUMilli || r.GPUs > 1 && uint64(f.GPUs) < r.GPUs:
		return GPU
	}
	return Fits
}

// Check returns the first reason why the node cannot take the job, or Fits.
func Check(r *Request, n *Node) Reason {
	switch {
	case !n.Connected:
		return Away
	case !n.Accepting:
		return Paused
	case n.Held:
		return Held
	case r.Region != "" && r.Region != n.Region:
		return Region
	case r.Kernel != "" && !slices.Contains(n.Kernels, r.Kernel):
		return Kernel
	case r.GPUs > 0 && r.GPUKind != "" && r.GPUKind != n.GPUKind:
		return GPUKind
	case slices.Contains(r.Replicas, n.Owner):
		return Owner
	case slices.Contains(r.Failures, n.Owner) || slices.Contains(r.Refuted, n.ID):
		return Failed
	}
	short := n.Free.Short(r)
	if (short == CPU || short == Memory) && n.Offered.Millicores >= r.Millicores && n.Offered.MemoryMiB >= r.MemoryMiB {
		return OnRecord
	}
	return short
}

// Exclusion counts the nodes that one reason excluded.
type Exclusion struct {
	Reason string `json:"reason"`
	Nodes  int    `json:"nodes"`
}

// Tally counts nodes by the reason of Check.
type Tally [reasonEnd]int

// Excluded lists the nodes that cannot take the job, by reason.
func (t *Tally) Excluded() []Exclusion {
	var out []Exclusion
	for reason := Away; reason < reasonEnd; reason++ {
		if t[reason] > 0 {
			out = append(out, Exclusion{Reason: reason.String(), Nodes: t[reason]})
		}
	}
	return out
}

// Explain counts by reason the nodes that cannot take the job, and those that
// can.
func Explain(r *Request, nodes []Node) (fit int, excluded []Exclusion) {
	var t Tally
	for i := range nodes {
		t[Check(r, &nodes[i])]++
	}
	return t[Fits], t.Excluded()
}

// Factors of a score, in parts of a million.
const (
	One           = 1_000_000
	lostWeight    = 1_000_000 // a node that loses all it is given looks twice as dear
	fitWeight     = 300_000   // what it breaks of its GPUs, at most
	distantWeight = 50_000    // the input has to be moved
	abroadWeight  = 50_000    // and from another region
	priorWork     = 8         // assignments that ended well which a new node is credited with
)

// MaxPremium is the largest factor of a node that lost nothing and owes nothing, in parts
// of a million: by so much at most the winner of an auction may be dearer than the best
// bid of such nodes.
const MaxPremium = One + fitWeight + distantWeight + abroadWeight + unknownWeight

// Standing is what is known of a node, beside its bid, for one job.
type Standing struct {
	Finished uint64 // assignments that it ended
	Lost     uint64 // assignments that it lost
	Premium  uint64 // by its score on the chain: see Premium
	Breaks   int64  // thousandths of GPUs that the job would leave useless there; below zero: it makes use of such
	Devices  int    // of the node
	Distant  bool   // the job's input was made by another node
	Abroad   bool   // and in another region
}

// Factor returns what the cost of a bid is multiplied by, in parts of a million:
// One plus what lost work, reputation on the chain, data gravity, locality and fit add.
func (s *Standing) Factor() uint64 {
	factor := uint64(One)
	factor += Losses(s.Finished, s.Lost) + min(s.Premium, Premium(0))
	if s.Distant {
		factor += distantWeight
	}
	if s.Abroad {
		factor += abroadWeight
	}
	if s.Devices > 0 {
		// From −scale to scale, and so from 0 to fitWeight.
		scale := int64(whole * maxDevices * breaksScale)
		factor += uint64(min(max(s.Breaks+scale, 0), 2*scale)) * fitWeight / uint64(2*scale)
	} else {
		factor += fitWeight / 2 // it breaks nothing
	}
	return factor
}

// Losses returns what the score of a node's bids loses by the assignments that it
// lost at this cluster, in parts of a million.
func Losses(finished, lost uint64) uint64 {
	all := finished + lost + priorWork
	hi, lo := bits.Mul64(lost, lostWeight)
	share, _ := bits.Div64(hi%all, lo, all)
	return share
}

// Offer is a bid as ranking sees it.
type Offer struct {
	Node   crypto.PublicKey
	Owner  chain.Address
	Cost   chain.Amount // of the job at the bid's prices, at its worst
	Factor uint64       // of Standing; 0 counts as One
}

// Rank sorts offers, the best first: by cost times factor, by factor, and by a
// hash of (job, node) among equals, so that nobody gains by choosing a key.
func Rank(job crypto.Digest, offers []Offer) {
	ties := make(map[crypto.PublicKey]crypto.Digest)
	tie := func(node crypto.PublicKey) crypto.Digest {
		t, known := ties[node]
		if !known {
			t = Tie(job, node)
			ties[node] = t
		}
		return t
	}
	slices.SortFunc(offers, func(a, b Offer) int {
		ahi, alo := bits.Mul64(a.Cost.Nano(), a.factor())
		bhi, blo := bits.Mul64(b.Cost.Nano(), b.factor())
		if order := cmp.Or(cmp.Compare(ahi, bhi), cmp.Compare(alo, blo), cmp.Compare(a.factor(), b.factor())); order != 0 {
			return order
		}
		return tie(a.Node).Compare(tie(b.Node))
	})
}

func (o *Offer) factor() uint64 { return cmp.Or(o.Factor, One) }

// Tie tells equal nodes apart, for one job.
func Tie(job crypto.Digest, node crypto.PublicKey) crypto.Digest {
	return crypto.DomainNexusTie.Hash(append(bytes.Clone(job[:]), node[:]...))
}

// Pick takes the best offers, at most one an owner, up to want of them.
func Pick(job crypto.Digest, offers []Offer, want int) []Offer {
	Rank(job, offers)
	var picked []Offer
	for _, o := range offers {
		if len(picked) == want {
			break
		}
		sameOwner := func(p Offer) bool { return p.Owner == o.Owner }
		if !slices.ContainsFunc(picked, sameOwner) {
			picked = append(picked, o)
		}
	}
	return picked
}
