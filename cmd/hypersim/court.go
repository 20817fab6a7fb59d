package main

import (
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// offence is what a validator is slashed for.
type offence string

const (
	offenceNotarizes    offence = "two notarizes"
	offenceFinalizes    offence = "two finalizes"
	offenceBoth         offence = "nullify and finalize"
	offenceCertificates offence = "two certificates"
)

// court hears every vote that anybody signs and lets go, and finds the pairs
// that exclude each other by itself. Honest nodes must never stand before it,
// and the product's own law has to say the same of every pair.
type court struct {
	world *world
	seen  map[slot]*testimony
	cases map[offence]int // one for each key and round
}

// testimony is the first votes of one key in one round, by kind, and what was
// found.
type testimony struct {
	votes [4]consensus.Vote
	found []offence
}

func newCourt(w *world) *court {
	return &court{world: w, seen: map[slot]*testimony{}, cases: map[offence]int{}}
}

// hear takes a vote signed with one of the person's own keys.
func (c *court) hear(who int, v consensus.Vote) {
	s := v.Statement()
	r := c.world.witness.reigns[s.Round().Epoch]
	signer, _ := v.By()
	if r == nil || int(signer) >= len(r.members) || r.members[signer].who != who {
		return
	}
	at := slot{key: r.committee.Validator(signer).Key, round: s.Round()}
	t := c.seen[at]
	if t == nil {
		t = &testimony{}
		c.seen[at] = t
	}
	for kind, other := range t.votes {
		if other != nil {
			c.compare(who, r, t, other, v)
			if consensus.Kind(kind) == s.Kind {
				return
			}
		}
	}
	t.votes[s.Kind] = v
}

// compare judges a pair of votes of one signer in one round.
func (c *court) compare(who int, r *reign, t *testimony, a, b consensus.Vote) {
	guilty := offenceOf(a.Statement(), b.Statement())
	if (guilty != "") != consensus.VotesExclude(a.Statement(), b.Statement()) {
		c.world.failf(ruleConviction, "%q and %q: %q here, and the law says %t", a.Statement(), b.Statement(), guilty, guilty == "")
	}
	if guilty == "" {
		return
	}
	if !c.world.traitor[who] {
		c.world.failf(ruleSlashable, "honest person %d signed %q and %q", who, a.Statement(), b.Statement())
	}
	if slices.Contains(t.found, guilty) {
		return
	}
	t.found = append(t.found, guilty)
	c.cases[guilty]++
	signer, _ := a.By()
	evidence, err := consensus.DecodeEvidence(consensus.EncodeEvidence(consensus.Evidence{Votes: [2]consensus.Vote{a, b}}))
	var convicted []consensus.Signer
	if err == nil {
		convicted, err = evidence.Convict(r.committee, chainID)
	}
	if err != nil || len(convicted) != 1 || convicted[0] != signer {
		c.world.failf(ruleConviction, "%q and %q of signer %d convict %v: %v", a.Statement(), b.Statement(), signer, convicted, err)
	}
}

// offenceOf is the law in three lines; empty: none.
func offenceOf(a, b consensus.Statement) offence {
	switch {
	case a.Kind == consensus.KindNotarize && b.Kind == consensus.KindNotarize && a.Proposal != b.Proposal:
		return offenceNotarizes
	case a.Kind == consensus.KindFinalize && b.Kind == consensus.KindFinalize && a.Proposal != b.Proposal:
		return offenceFinalizes
	case a.Kind == consensus.KindNullify && b.Kind == consensus.KindFinalize, a.Kind == consensus.KindFinalize && b.Kind == consensus.KindNullify:
		return offenceBoth
	}
	return ""
}

func evidenceID(e consensus.Evidence) crypto.Digest {
	return crypto.DomainHeader.Hash(consensus.EncodeEvidence(e))
}

// accuse takes evidence that an honest node's replica reports: it must convict,
// and nobody but traitors.
func (w *world) accuse(n *node, e consensus.Evidence) {
	if !n.honest() {
		return
	}
	id := evidenceID(e)
	if w.accused[id] {
		return
	}
	w.accused[id] = true
	r := w.witness.reigns[e.Round().Epoch]
	if r == nil {
		w.failf(ruleConviction, "node %d reports evidence of epoch %d, which nobody began", n.index, e.Round().Epoch)
		return
	}
	convicted, err := e.Convict(r.committee, chainID)
	if err != nil || len(convicted) == 0 {
		w.failf(ruleConviction, "node %d reports %s, which convicts %v: %v", n.index, e, convicted, err)
		return
	}
	guilty := offenceCertificates
	if e.Votes[0] != nil {
		guilty = offenceOf(e.Votes[0].Statement(), e.Votes[1].Statement())
	}
	w.out.evidence[string(guilty)]++
	if guilty == offenceCertificates {
		w.witness.certify(e.Certificates[0])
		w.witness.certify(e.Certificates[1])
	}
	for _, signer := range convicted {
		if who := r.members[signer].who; !w.traitor[who] {
			w.failf(ruleSlashable, "node %d reports honest person %d: %s", n.index, who, e)
		}
	}
}
