package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/codec"
)

// mutation is a rule that honest nodes are made to break, so that one sees the
// checks find it. It is done to the product from outside: by what surrounds a
// node, never by a switch in it.
type mutation string

const (
	mutateQuorum  mutation = "quorum"   // the first validator and any other of four are a quorum, for everybody
	mutateWeights mutation = "weights"  // for one node alone
	mutateSync    mutation = "fsync"    // every other sync is left out
	mutateMemory  mutation = "memory"   // a restart forgets the own votes
	mutateRewrite mutation = "rewrite"  // a rewritten log forgets them
	mutateMarker  mutation = "marker"   // the marker of the last epoch is not read
	mutateI1      mutation = "notarize" // a second notarize beside the first
	mutateI2      mutation = "finalize" // a nullify beside the finalize
	mutateI3      mutation = "nullify"  // a notarize after the nullify
	mutateI6      mutation = "skip"     // a notarize for a proposal that skips a certified view
)

var mutations = []mutation{
	mutateQuorum, mutateWeights, mutateSync, mutateMemory, mutateRewrite, mutateMarker, mutateI1, mutateI2, mutateI3, mutateI6,
}

func mutationList() string {
	var names []string
	for _, m := range mutations {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

func parseMutation(text string) (mutation, error) {
	if text != "" && !slices.Contains(mutations, mutation(text)) {
		return "", fmt.Errorf("%q is unknown, want one of %s", text, mutationList())
	}
	return mutation(text), nil
}

func (m mutation) skipsSync(n *node) bool { return m == mutateSync && n.rand.Below(2) == 0 }

// replayed is what a restart reads.
func (m mutation) replayed(logs []replica.Log) []replica.Log {
	if m != mutateMemory {
		return logs
	}
	for i := range logs {
		logs[i].Records = withoutVotes(logs[i].Records)
	}
	return logs
}

// marked is what a restart reads of the marker.
func (m mutation) marked(begun consensus.Epoch) consensus.Epoch {
	if m == mutateMarker {
		return 0
	}
	return begun
}

func (m mutation) rewritten(records [][]byte) [][]byte {
	if m != mutateRewrite || records == nil {
		return records
	}
	return withoutVotes(records)
}

func withoutVotes(records [][]byte) [][]byte {
	return slices.DeleteFunc(slices.Clone(records), func(data []byte) bool {
		var r taggedRecord
		return codec.Unmarshal(data, &r, maxRecordBytes) == nil && r.Tag == tagVote
	})
}

// misled is what a node believes of the committees.
func (m mutation) misled(n *node, reigns []replica.Reign) []replica.Reign {
	if m != mutateQuorum && (m != mutateWeights || n.index != 0) {
		return reigns
	}
	out := slices.Clone(reigns)
	for i, r := range out {
		var members []consensus.Validator
		for j := range r.Committee.Len() {
			v := r.Committee.Validator(consensus.Signer(j))
			if j == 0 {
				v.Weight *= uint64(r.Committee.Len())
			}
			members = append(members, v)
		}
		committee, err := consensus.NewCommittee(r.Committee.Epoch(), members)
		if err != nil {
			panic("hypersim: a mutated committee: " + err.Error())
		}
		out[i].Committee = committee
	}
	return out
}

// spoke has an honest node say more than its replica does.
func (m mutation) spoke(n *node, said consensus.Message) {
	if m == "" || !n.honest() {
		return
	}
	v, ok := voteIn(said)
	if !ok {
		return
	}
	s := v.Statement()
	p := s.Proposal
	switch {
	case m == mutateI1 && s.Kind == consensus.KindNotarize:
		p.Digest[0] ^= 1
		n.adds(consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
	case m == mutateI2 && s.Kind == consensus.KindFinalize:
		n.adds(consensus.Statement{Kind: consensus.KindNullify, Proposal: consensus.Proposal{Round: p.Round}})
	case m == mutateI3 && s.Kind == consensus.KindNullify:
		p.Parent, p.Digest = p.Round.View-1, genesis
		n.adds(consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
	}
}

// adds says what the replica did not.
func (n *node) adds(s consensus.Statement) {
	if v := n.world.signAs(n.who, s); v != nil {
		n.leave(v)
		for who := range n.world.cast.people {
			n.sendPacket(who, newPacket(v))
		}
	}
}

// twisted is what an honest node says in the place of a message.
func (m mutation) twisted(n *node, said consensus.Message) consensus.Message {
	v, ok := said.(consensus.Notarize)
	if m != mutateI6 || !ok || !n.honest() || v.Proposal.Parent < 2 {
		return said
	}
	p := v.Proposal
	p.Parent--
	return n.world.signAs(n.who, consensus.Statement{Kind: consensus.KindNotarize, Proposal: p})
}
