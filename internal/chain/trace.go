package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A deterministic run ends with a memory that nothing but a run gives. Of its digest two chains of
// hashes, strands, are made for the order: each link is the hash of the one after it. A receipt
// shows where both begin, its Trace. Whoever says later that the job gives this shows a link that
// nobody has shown: it can be followed to the beginning, and only a run gives it. Each time that
// links are shown a deeper one is asked for. Those who see each other's links one after the other
// share a strand: replicas, or auditors, have one, and panels the other, which may judge while an
// auditor has still to answer.

// MaxLinks is how many links a strand has beside its beginning: three auditors may look at each of
// sixteen claims of an order, one after the other.
const MaxLinks = 48

// Strand is one of the chains of hashes of a run.
type Strand uint8

// The strands.
const (
	StrandRuns   Strand = iota + 1 // of replicas in the order in which they were asked, or of auditors
	StrandPanels                   // of panels that judge the same, one after the other
)

// Link says which link is asked for.
type Link struct {
	Strand Strand
	Depth  uint8 // ≤ MaxLinks; 0 is the beginning
}

// Trace is what a receipt shows of a run's strands.
type Trace struct {
	_      struct{}      `cbor:",toarray"`
	Runs   crypto.Digest `json:"runs"`   // the beginning; of a replica the link of its place
	Panels crypto.Digest `json:"panels"` // the beginning
}

// Secret is what a run of an order's job gives and nobody is shown.
type Secret struct{ order, memory crypto.Digest }

// SecretOf returns the secret of a run that ended with a memory, under DomainMemory. What it is for
// one order says nothing about it for another of the same job.
func SecretOf(order, memory crypto.Digest) Secret { return Secret{order: order, memory: memory} }

// link returns a link of a strand.
func (s Secret) link(at Link) crypto.Digest {
	if at.Strand < StrandRuns || at.Strand > StrandPanels || at.Depth > MaxLinks {
		panic(fmt.Sprintf("chain: link %+v of a run", at))
	}
	data := append(append(append(make([]byte, 0, 2*crypto.DigestSize+1), s.order[:]...), s.memory[:]...), byte(at.Strand))
	return follow(crypto.DomainStrand.Hash(data), MaxLinks-at.Depth)
}

// follow goes so many links towards the beginning.
func follow(link crypto.Digest, links uint8) crypto.Digest {
	for range links {
		link = crypto.DomainLink.Hash(link[:])
	}
	return link
}

// Trace is what a receipt shows: of a replica, by its place among those who were asked, of which
// the primary's is 0.
func (s Secret) Trace(place uint8) Trace {
	return Trace{Runs: s.link(Link{Strand: StrandRuns, Depth: place}), Panels: s.link(Link{Strand: StrandPanels})}
}

// Begins returns the beginnings of the strands of which a replica at a place shows a trace.
func (t Trace) Begins(place uint8) Trace { return Trace{Runs: follow(t.Runs, place), Panels: t.Panels} }

// Work is what a run of a deterministic job gives, UsageReceipt.Result, together with what it used.
func Work(result crypto.Digest, usage []Usage) crypto.Digest {
	return crypto.DomainYield.Hash(appendUsage(codec.AppendBytes(codec.AppendArray(make([]byte, 0, formBytes), 2), result[:]), usage))
}

// Yield is the Work of a run with the beginnings of its strands. All right runs of a job have the
// same: they agree, and jurors vote, on all of it, so that a claim of more than a run takes is as
// wrong as one of another result.
func Yield(work crypto.Digest, begins Trace) crypto.Digest {
	data := make([]byte, 0, 3*crypto.DigestSize)
	return crypto.DomainTrace.Hash(append(append(append(data, work[:]...), begins.Runs[:]...), begins.Panels[:]...))
}

// Testimony is what a juror shows of what it found: of a result a link that only a run gives. What
// it votes for follows from that: whoever makes a link up votes for what nobody else finds.
type Testimony struct {
	_       struct{}      `cbor:",toarray"`
	Finding Finding       `json:"finding"`
	Work    crypto.Digest `json:"work,omitzero"`  // Work of the run; zero but of FoundResult, as what follows
	Other   crypto.Digest `json:"other,omitzero"` // where the strand begins of which nothing is asked
	Link    crypto.Digest `json:"link,omitzero"`  // the one that is asked for
}

// Testify is the testimony of who ran a job.
func (s Secret) Testify(work crypto.Digest, at Link) Testimony {
	other := StrandRuns
	if at.Strand == StrandRuns {
		other = StrandPanels
	}
	return Testimony{Finding: FoundResult, Work: work, Other: s.link(Link{Strand: other}), Link: s.link(at)}
}

// Vote is what a testimony comes to where a link is asked for.
func (t Testimony) Vote(at Link) Vote {
	if t.Finding != FoundResult {
		return Vote{Finding: t.Finding}
	}
	begins := Trace{Runs: t.Other, Panels: follow(t.Link, at.Depth)}
	if at.Strand == StrandRuns {
		begins = Trace{Runs: follow(t.Link, at.Depth), Panels: t.Other}
	}
	return Vote{Finding: FoundResult, Result: Yield(t.Work, begins)}
}

// Commitment is what a juror commits to.
func (t Testimony) Commitment(panel crypto.Digest, node crypto.PublicKey, salt crypto.Digest) crypto.Digest {
	return crypto.DomainVote.Hash(codec.Marshal(struct {
		_         struct{} `cbor:",toarray"`
		Panel     crypto.Digest
		Node      crypto.PublicKey
		Testimony Testimony
		Salt      crypto.Digest
	}{Panel: panel, Node: node, Testimony: t, Salt: salt}))
}

// Check returns an error that names what is wrong with the form of a testimony.
func (t Testimony) Check() error {
	if known := t.Finding >= FoundResult && t.Finding <= FoundUnstable; !known {
		return fmt.Errorf("%w: finding is %d, want 1 to %d", ErrLimit, uint8(t.Finding), uint8(FoundUnstable))
	}
	for _, shown := range []crypto.Digest{t.Work, t.Other, t.Link} {
		if shown.IsZero() == (t.Finding == FoundResult) {
			return fmt.Errorf("%w: work and links of finding %q: there are those of %q, all of them, and no others", ErrLimit, t.Finding, FoundResult)
		}
	}
	return nil
}

// CheckTrace returns an error if a receipt has no trace under a policy by which others judge what a
// run gives, or has one under another.
func (r *UsageReceipt) CheckTrace(p Policy) error {
	judged := false
	switch p.(type) {
	case PolicyReplicate, PolicyOptimistic:
		judged = true
	case PolicyNone, PolicyZK:
	}
	switch {
	case judged && r.Trace == nil:
		return fmt.Errorf("%w: receipt has no trace of its run, by which others could tell that they ran the same", ErrLimit)
	case !judged && r.Trace != nil:
		return fmt.Errorf("%w: receipt has the trace of a run that nobody judges, under policy %s", ErrLimit, p)
	}
	return nil
}
