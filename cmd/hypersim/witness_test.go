package main

import (
	"slices"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/codec"
)

// fixture is a witness of four validators, of whom the first writes a log.
type fixture struct {
	witness *witness
	book    *notebook
	cast    *cast
	broken  []rule
}

func newFixture() *fixture {
	x := &fixture{cast: newCast(4, 0)}
	realm := newRealm(x.cast, nil, plan{}, make([]bool, 4))
	x.witness = newWitness(x.cast, realm, func(r rule, _ string, _ ...any) { x.broken = append(x.broken, r) })
	x.book = newNotebook(x.cast.people[0].keys[0].Public(), 1, genesis)
	return x
}

// block is the block of a view on one of another view; view 0 is genesis.
func (x *fixture) block(view, parent consensus.View, closing bool) consensus.Block {
	b := toyBlock{Height: uint64(view), View: view, Parent: genesis, Closing: closing}
	if parent > 0 {
		b.Parent = x.block(parent, parent-1, false).Digest
	}
	block := b.block()
	x.witness.block(block)
	return block
}

func (x *fixture) proposal(view, parent consensus.View) consensus.Proposal {
	return consensus.Proposal{Round: consensus.Round{Epoch: 1, View: view}, Parent: parent, Digest: x.block(view, parent, false).Digest}
}

func (x *fixture) vote(who int, k consensus.Kind, p consensus.Proposal) consensus.Vote {
	if k == consensus.KindNullify {
		p = consensus.Proposal{Round: p.Round}
	}
	return consensus.SignVote(x.cast.people[who].keys[0], consensus.Signer(who), chainID, consensus.Statement{Kind: k, Proposal: p})
}

func (x *fixture) certificate(k consensus.Kind, p consensus.Proposal, signers ...int) *consensus.Certificate {
	var votes []consensus.Vote
	for _, who := range signers {
		votes = append(votes, x.vote(who, k, p))
	}
	return consensus.Assemble(x.witness.reigns[1].committee, votes[0].Statement(), votes)
}

// writes appends a vote, a certificate, a certified view, or a sync.
func (x *fixture) writes(what any) {
	record := func(tag uint8, body []byte) {
		x.witness.write(x.book, [][]byte{codec.Marshal(taggedRecord{Tag: tag, Body: body})})
	}
	switch r := what.(type) {
	case consensus.Vote:
		record(tagVote, consensus.EncodeVote(r))
	case *consensus.Certificate:
		record(tagCertificate, consensus.EncodeCertificate(r))
	case consensus.View:
		record(tagVerdict, codec.Marshal(verdictRecord{View: r, OK: true}))
	case synced:
		x.witness.synced(x.book)
	case leaving:
		x.witness.leaves(x.book, r.vote)
	}
}

type synced struct{}

type leaving struct{ vote consensus.Vote }

// Each log breaks the rules named, and no other.
func TestTheWitnessKnowsTheRules(t *testing.T) {
	const n, x, f = consensus.KindNotarize, consensus.KindNullify, consensus.KindFinalize
	x1 := newFixture()
	one, two, skip := x1.proposal(1, 0), x1.proposal(2, 1), x1.proposal(3, 1)
	other := one
	other.Digest = x1.block(1, 0, true).Digest
	n1, x1c, f1 := x1.certificate(n, one, 0, 1, 2), x1.certificate(x, one, 1, 2, 3), x1.certificate(f, one, 1, 2, 3)
	n2, x2 := x1.certificate(n, two, 1, 2, 3), x1.certificate(x, two, 1, 2, 3)
	forged := x1.certificate(n, one, 0, 1, 2)
	forged.Signatures[1][5] ^= 1
	vote := func(k consensus.Kind, p consensus.Proposal) consensus.Vote { return x1.vote(0, k, p) }
	for _, c := range []struct {
		name string
		log  []any
		want []rule
	}{
		{"a good view", []any{vote(n, one), n1, consensus.View(1), vote(f, one), f1}, nil},
		{"a view given up", []any{vote(n, one), vote(x, one), n1, consensus.View(1)}, nil},
		{"a skipped view", []any{n1, consensus.View(1), x2, vote(n, skip)}, nil},
		{"I1", []any{vote(n, one), vote(n, other)}, []rule{ruleI1}},
		{"I2, nullify first", []any{n1, vote(x, one), vote(f, one)}, []rule{ruleI2}},
		{"I2, finalize first", []any{n1, vote(f, one), vote(x, one)}, []rule{ruleI2}},
		{"I3", []any{vote(x, one), vote(n, one)}, []rule{ruleI3}},
		{"I4, notarizations", []any{n1, x1.certificate(n, other, 1, 2, 3), synced{}}, []rule{ruleI4}},
		{"I4, finalizations", []any{f1, x1.certificate(f, other, 0, 1, 2), synced{}}, []rule{ruleI4}},
		{"I4, both", []any{n1, x1.certificate(f, other, 0, 1, 2), synced{}}, []rule{ruleI4, ruleI4}},
		{"I5", []any{f1, x1c, synced{}}, []rule{ruleI5, ruleI5}},
		{"I6", []any{n1, consensus.View(1), x1.certificate(x, x1.proposal(3, 2), 1, 2, 3), vote(n, x1.proposal(4, 1))}, []rule{ruleI6}},
		{"I6, a parent without certificate", []any{x1c, x2, vote(n, skip)}, []rule{ruleI6}},
		{"a finalize without notarization", []any{vote(f, one)}, []rule{ruleVote}},
		{"a finalize of another proposal", []any{n1, vote(f, other)}, []rule{ruleVote}},
		{"a notarize against a notarization", []any{n1, vote(n, other)}, []rule{ruleVote}},
		{"a notarize in a view that is not the current one", []any{vote(n, two)}, []rule{ruleVote, ruleI6}},
		{"a notarize of a nullified view", []any{x1c, vote(n, one)}, []rule{ruleVote}},
		{"a nullify of a past view", []any{n1, consensus.View(1), vote(x, one)}, []rule{ruleVote}},
		{"a parent below the finalized view", []any{n1, consensus.View(1), n2, consensus.View(2), x1.certificate(f, two, 1, 2, 3), vote(n, skip)}, []rule{ruleVote, ruleI6}},
		{"short weight", []any{x1.certificate(n, one, 0, 1)}, []rule{ruleCertificate}},
		{"a false signature", []any{forged}, []rule{ruleCertificate}},
		{"an unsynced vote leaves", []any{vote(n, one), leaving{vote(n, one)}}, []rule{ruleDurable}},
		{"a synced vote leaves", []any{vote(n, one), synced{}, leaving{vote(n, one)}, leaving{vote(n, one)}}, nil},
		{"a vote leaves that is in no log", []any{leaving{vote(n, one)}}, []rule{ruleDurable}},
		{"a second notarize leaves", []any{vote(n, one), synced{}, leaving{vote(n, one)}, leaving{vote(n, other)}}, []rule{ruleI1, ruleDurable}},
		{"a nullify leaves after a finalize", []any{n1, vote(f, one), synced{}, leaving{vote(f, one)}, leaving{vote(x, one)}}, []rule{ruleI2, ruleDurable}},
		{"a second finalize leaves", []any{n1, vote(f, one), synced{}, leaving{vote(f, one)}, leaving{vote(f, other)}}, []rule{ruleSlashable, ruleDurable}},
		{"a notarize leaves after a nullify", []any{vote(x, one), synced{}, leaving{vote(x, one)}, leaving{vote(n, one)}}, []rule{ruleI3, ruleDurable}},
	} {
		fresh := newFixture()
		fresh.witness.blocks = x1.witness.blocks
		for _, what := range c.log {
			fresh.writes(what)
		}
		if !slices.Equal(fresh.broken, c.want) {
			t.Errorf("%s: %v, want %v", c.name, fresh.broken, c.want)
		}
	}
}

// After the closing block only that block comes again, and nothing else does
// so.
func TestTheWitnessKnowsTheClosingBlock(t *testing.T) {
	x := newFixture()
	closing := x.block(1, 0, true)
	one := consensus.Proposal{Round: consensus.Round{Epoch: 1, View: 1}, Digest: closing.Digest}
	again := consensus.Proposal{Round: consensus.Round{Epoch: 1, View: 2}, Parent: 1, Digest: closing.Digest}
	further := again
	further.Digest = toyBlock{Height: 2, View: 2, Parent: closing.Digest}.block().Digest
	x.witness.block(toyBlock{Height: 2, View: 2, Parent: closing.Digest}.block())
	x.writes(x.certificate(consensus.KindNotarize, one, 0, 1, 2))
	x.writes(consensus.View(1))
	x.writes(x.vote(0, consensus.KindNotarize, again))
	if len(x.broken) > 0 {
		t.Fatalf("the closing block again: %v", x.broken)
	}
	x.book.page(2).notarized = nil
	x.writes(x.vote(0, consensus.KindNotarize, further))
	if !slices.Equal(x.broken, []rule{ruleVote}) {
		t.Fatalf("a block on the closing block: %v", x.broken)
	}
	y := newFixture()
	p := y.proposal(1, 0)
	y.writes(y.certificate(consensus.KindNotarize, p, 0, 1, 2))
	y.writes(consensus.View(1))
	p.Round.View, p.Parent = 2, 1
	y.writes(y.vote(0, consensus.KindNotarize, p))
	if !slices.Equal(y.broken, []rule{ruleVote}) {
		t.Fatalf("an ordinary block again: %v", y.broken)
	}
}

func TestARewrittenLogIsCompared(t *testing.T) {
	x := newFixture()
	vote := codec.Marshal(taggedRecord{Tag: tagVote, Body: consensus.EncodeVote(x.vote(0, consensus.KindNotarize, x.proposal(1, 0)))})
	x.witness.write(x.book, [][]byte{vote})
	x.witness.rewritten(x.book, [][]byte{vote})
	if len(x.broken) > 0 {
		t.Fatalf("the same log: %v", x.broken)
	}
	x.witness.rewritten(x.book, nil)
	if !slices.Equal(x.broken, []rule{ruleLog}) {
		t.Fatalf("a log without the vote: %v", x.broken)
	}
}
