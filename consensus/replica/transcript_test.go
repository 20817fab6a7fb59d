package replica_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/internal/golden"
)

// TestTranscriptOfABoundary prints all that one of four validators hears and
// does around the end of an epoch: testdata/boundary.txt reads like the
// protocol. Digests are written as heights.
func TestTranscriptOfABoundary(t *testing.T) {
	w := newWorld(t, 4, everyEpoch(0, 1, 2, 3))
	n := w.nodes[1]
	var out strings.Builder
	began := w.now
	n.events = func(ev replica.Event) {
		if h := n.height(); h >= 3 && h <= 5 {
			fmt.Fprintf(&out, "\n%d ms: %s\n", (w.now-began)/ms, shownEvent(ev))
		}
	}
	n.effects = func(e replica.Effect) {
		if h := n.height(); h >= 3 && h <= 5 {
			fmt.Fprintf(&out, "    %s\n", shownEffect(e))
		}
	}
	startAll(w)
	w.run(1000*ms, w.everybodyAt(6))
	got := "# Validator 1 of 4 at the end of epoch 1, whose last height is 5.\n" + out.String()
	golden.Check(t, "testdata/boundary.txt", got)
}

func shownEvent(ev replica.Event) string {
	switch ev := ev.(type) {
	case replica.Received:
		return fmt.Sprintf("from %d: %s", whose(ev.From), shownMessage(ev.Message))
	case replica.Built:
		return fmt.Sprintf("built %d", ev.Block.Height)
	case replica.Checked:
		return fmt.Sprintf("checked view %d: %t", ev.Check.Proposal.Round.View, ev.Valid)
	case replica.Finalized:
		return fmt.Sprintf("finalized %d, closing %t", ev.Height, ev.Closing)
	case replica.Start, replica.Wake, replica.Peers, replica.BuildFailed, replica.Served:
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", ev), "replica.")
}

func shownEffect(e replica.Effect) string {
	switch e := e.(type) {
	case replica.Append:
		return fmt.Sprintf("append %d records to log %d", len(e.Records), e.Epoch)
	case replica.DropLog:
		return fmt.Sprintf("drop log %d", e.Epoch)
	case replica.Broadcast:
		return "broadcast " + shownMessage(e.Message)
	case replica.Send:
		return fmt.Sprintf("send %d: %s", whose(e.To), shownMessage(e.Message))
	case replica.Relay:
		return fmt.Sprintf("relay to %d: %s", len(e.To), shownMessage(e.Message))
	case replica.Places:
		return fmt.Sprintf("places for %d", len(e.Nodes))
	case replica.Build:
		return fmt.Sprintf("build view %d of epoch %d on %d", e.Round.View, e.Round.Epoch, built[e.ParentDigest])
	case replica.Check:
		return fmt.Sprintf("check %d on %d, attested %t", e.Block.Height, built[e.ParentDigest], e.Attested)
	case replica.Finalize:
		return fmt.Sprintf("finalize %d by view %d", e.Block.Height, e.Certificate.View())
	case replica.Enter:
		return fmt.Sprintf("enter epoch %d", e.Reign.Committee.Epoch())
	case replica.CancelBuild, replica.CancelCheck, replica.Lookup, replica.Blame, replica.Evidence, replica.Halt:
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", e), "replica.")
}

func shownMessage(m consensus.Message) string {
	statement := func(s consensus.Statement) string {
		if s.Kind == consensus.KindNullify {
			return fmt.Sprintf("nullify view %d of epoch %d", s.View(), s.Round().Epoch)
		}
		return fmt.Sprintf("%s %d in view %d of epoch %d", s.Kind, built[s.Proposal.Digest], s.View(), s.Round().Epoch)
	}
	if v, ok := m.(consensus.Vote); ok {
		return "vote " + statement(v.Statement())
	}
	if c, ok := m.(*consensus.Certificate); ok {
		return "certificate " + statement(c.Statement)
	}
	if o, ok := m.(consensus.Offer); ok {
		return "offer " + statement(o.Vote.Statement())
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "consensus.")
}

// FuzzReplica gives a replica in the middle of an epoch whatever bytes, from
// members and strangers, early and late: it never panics, and never acts for
// a block that nobody proved.
func FuzzReplica(f *testing.F) {
	w := newWorld(f, 4, everyEpoch(0, 1, 2, 3))
	startAll(w)
	w.run(1000*ms, w.everybodyAt(7))
	n := w.nodes[0]
	s := n.r.Status()
	b := toy{Height: 8, Parent: s.Digest, Round: round(s.Epoch, s.View+1)}.block()
	for _, m := range []consensus.Message{
		vote(1, nullify(round(s.Epoch, s.View))), vote(2, nullify(round(s.Epoch+1, 1))), vote(3, nullify(round(1, 9))),
		certificate(w, nullify(round(s.Epoch, s.View+3)), 1, 2, 3), certificate(w, nullify(round(s.Epoch+1, 3)), 1, 2, 3),
		offer(1, round(s.Epoch, s.View+1), s.View, b), w.nodes[1].ancestry(6, 7), consensus.BlockAnswer{Payload: b.Payload},
		consensus.AncestryRequest{From: 1}, consensus.BlockRequest{Digest: b.Digest},
		consensus.CertificateRequest{Kind: consensus.KindNullify, Round: round(1, 1)},
		consensus.SignDelegation(consensusKey(1), chainID, s.Epoch, 1, nodeKey(stranger)),
	} {
		f.Add(uint8(1), uint8(m.Channel()), consensus.EncodeMessage(m))
	}
	f.Fuzz(func(t *testing.T, from, ch uint8, data []byte) {
		m, err := consensus.DecodeMessage(consensus.Channel(ch), data)
		if err != nil {
			return
		}
		n.w.t = t
		if err := n.restore(); err != nil {
			t.Fatal(err)
		}
		n.r.Step(w.now, replica.Start{})
		way, err := n.r.Window().Admit(nodeKey(int(from)%5), m)
		ev := replica.Received{From: nodeKey(int(from) % 5), Message: m}
		if way == replica.PassWithBlock {
			if ev.Blocks = inspect(m); ev.Blocks == nil {
				return // the driver's reason to blame the peer
			}
		}
		blamed := false
		for _, e := range n.r.Step(w.now, ev) {
			if bl, ok := e.(replica.Blame); ok && bl.Peer == ev.From {
				blamed = true
			}
			if fin, ok := e.(replica.Finalize); ok && fin.Certificate.Verify(w.committee(s.Epoch), chainID) != nil {
				t.Fatalf("finalizes %v without proof", fin)
			}
		}
		if err != nil && !blamed {
			t.Fatalf("Admit says %v, Step blames nobody", err)
		}
	})
}
