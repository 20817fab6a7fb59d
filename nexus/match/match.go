// Package match says whether a node can take a job, how good an offer is, and
// the reason for "no".
//
// Invariants:
//
//  1. A node is feasible exactly if Check returns Fits: placement, quotes and
//     explanations ask the same function.
//  2. Order of offers is total: equal scores are told apart by a hash, so the
//     same bids give the same winners everywhere.
//
// Pure and safe for concurrent use. It keeps no state and knows no time.
package match

import (
	"bytes"
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
	Region           // it is in another region
	Kernel           // it does not prove the kernel
	Owner            // its owner runs a replica of the job already
	Failed           // it, or its owner, failed this job before
	CPU              // not enough millicores are free
	Memory           // not enough memory is free
	reasonEnd = iota
)

// String names the reason for people and JSON.
func (r Reason) String() string {
	return [reasonEnd]string{
		"fits", "not connected", "paused", "other region", "kernel not offered", "owner runs a replica already",
		"failed this job before", "not enough free cpu", "not enough free memory",
	}[r]
}

// Request is what a job needs of a node.
type Request struct {
	Millicores uint64
	MemoryMiB  uint64
	Region     string // empty: any
	Kernel     string // empty: none
	// Replicas and Failures list owners that may not be asked, and why.
	Replicas []chain.Address
	Failures []chain.Address
}

// Node is what is known of a node.
type Node struct {
	ID         crypto.PublicKey
	Owner      chain.Address
	Connected  bool
	Accepting  bool
	Region     string
	Kernels    []string
	Millicores uint64 // free
	MemoryMiB  uint64 // free
}

// Check returns the first reason why the node cannot take the job, or Fits.
func Check(r *Request, n *Node) Reason {
	switch {
	case !n.Connected:
		return Away
	case !n.Accepting:
		return Paused
	case r.Region != "" && r.Region != n.Region:
		return Region
	case r.Kernel != "" && !slices.Contains(n.Kernels, r.Kernel):
		return Kernel
	case slices.Contains(r.Replicas, n.Owner):
		return Owner
	case slices.Contains(r.Failures, n.Owner):
		return Failed
	case n.Millicores < r.Millicores:
		return CPU
	case n.MemoryMiB < r.MemoryMiB:
		return Memory
	}
	return Fits
}

// Exclusion counts the nodes that one reason excluded.
type Exclusion struct {
	Reason string `json:"reason"`
	Nodes  int    `json:"nodes"`
}

// Explain counts by reason the nodes that cannot take the job, and those that
// can.
func Explain(r *Request, nodes []Node) (fit int, excluded []Exclusion) {
	var counts [reasonEnd]int
	for i := range nodes {
		counts[Check(r, &nodes[i])]++
	}
	for reason := Away; reason < reasonEnd; reason++ {
		if counts[reason] > 0 {
			excluded = append(excluded, Exclusion{Reason: reason.String(), Nodes: counts[reason]})
		}
	}
	return counts[Fits], excluded
}

// Offer is a bid as ranking sees it.
type Offer struct {
	Node  crypto.PublicKey
	Owner chain.Address
	Cost  chain.Amount // of the job at the bid's prices, at its worst
}

// Rank sorts offers, the best first: by cost, and by a hash of (job, node) among
// equals, so that nobody gains by choosing a key.
func Rank(job crypto.Digest, offers []Offer) {
	tie := func(o Offer) crypto.Digest {
		return crypto.DomainNexusTie.Hash(append(bytes.Clone(job[:]), o.Node[:]...))
	}
	slices.SortFunc(offers, func(a, b Offer) int {
		if order := a.Cost.Cmp(b.Cost); order != 0 {
			return order
		}
		return tie(a).Compare(tie(b))
	})
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
