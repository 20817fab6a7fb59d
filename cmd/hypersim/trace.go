package main

import (
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/consensus"
)

// shownEvent prints an event for a trace, if there is one.
type shownEvent struct{ event consensus.Event }

func (s shownEvent) String() string {
	switch e := s.event.(type) {
	case consensus.Start:
		return "start"
	case consensus.Wake:
		return "wake"
	case consensus.VoteReceived:
		return "receives " + showMessage(e.Vote)
	case consensus.OfferReceived:
		return "receives offer " + e.Vote.Statement().String()
	case consensus.CertificateReceived:
		return "receives " + showMessage(e.Certificate)
	case consensus.BlockReceived:
		return "receives block " + e.Block.Digest.Short()
	case consensus.Built:
		return fmt.Sprintf("built %d: %s at height %d", e.Round.View, e.Block.Digest.Short(), e.Block.Height)
	case consensus.BuildFailed:
		return fmt.Sprintf("build %d failed", e.Round.View)
	case consensus.Checked:
		return fmt.Sprintf("checked %d: %s is valid: %t", e.Check.Proposal.Round.View, e.Check.Proposal.Digest.Short(), e.Valid)
	case consensus.Delivered:
		return "delivered " + e.Digest.Short()
	case consensus.Durable:
		return "durable " + e.Digest.Short()
	}
	return fmt.Sprintf("%T", s.event)
}

// shownEffect prints an effect for a trace, if there is one.
type shownEffect struct{ effect consensus.Effect }

func (s shownEffect) String() string {
	switch e := s.effect.(type) {
	case consensus.Append:
		return fmt.Sprintf("append %d records", len(e.Records))
	case consensus.Broadcast:
		return "broadcast " + showMessage(e.Message)
	case consensus.Ask:
		return fmt.Sprintf("ask %d for %s", e.To, showMessage(e.Request))
	case consensus.Build:
		return fmt.Sprintf("build %d on %d %s", e.Round.View, e.Parent, e.ParentDigest.Short())
	case consensus.CancelBuild:
		return fmt.Sprintf("cancel build %d", e.Round.View)
	case consensus.Check:
		return fmt.Sprintf("check %d: %s, attested %t", e.Proposal.Round.View, e.Proposal.Digest.Short(), e.Attested)
	case consensus.CancelCheck:
		return fmt.Sprintf("cancel check %d", e.Check.Proposal.Round.View)
	case consensus.Commit:
		var names strings.Builder
		for _, b := range e.Blocks {
			fmt.Fprintf(&names, " %d %s", b.Height, b.Digest.Short())
		}
		return fmt.Sprintf("commit%s by %s", names.String(), e.Certificate.Statement)
	case consensus.BlameSigner:
		return fmt.Sprintf("blame signer %d: %s", e.Signer, e.Reason)
	case consensus.BlamePeer:
		return fmt.Sprintf("blame peer %s: %s", e.Peer.Short(), e.Reason)
	case consensus.Evidence:
		return "evidence: " + e.String()
	case consensus.Halt:
		return "halt: " + e.Reason
	}
	return fmt.Sprintf("%T", s.effect)
}

func showMessage(m consensus.Message) string {
	switch m := m.(type) {
	case consensus.Vote:
		by, _ := m.By()
		return fmt.Sprintf("vote %s by %d", m.Statement(), by)
	case *consensus.Certificate:
		return "certificate " + m.Statement.String()
	case consensus.Offer:
		return "offer " + m.Vote.Statement().String()
	case consensus.CertificateRequest:
		return fmt.Sprintf("certificate %s %d", m.Kind, m.Round.View)
	case consensus.Delegation:
		return fmt.Sprintf("delegation by %d", m.Signer)
	case consensus.BlockRequest:
		return "block " + m.Digest.Short()
	case consensus.BlockAnswer:
		return fmt.Sprintf("block of %d bytes", len(m.Payload))
	case consensus.AncestryRequest:
		return fmt.Sprintf("ancestry from height %d", m.From)
	case consensus.Ancestry:
		return fmt.Sprintf("ancestry of %d from height %d", len(m.Blocks), m.From)
	}
	return fmt.Sprintf("%T", m)
}
