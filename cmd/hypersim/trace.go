package main

import (
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
)

func showEvent(event replica.Event) string {
	switch e := event.(type) {
	case replica.Start:
		return "start"
	case replica.Wake:
		return "wake"
	case replica.Peers:
		return fmt.Sprintf("is connected with %d peers", len(e.Connected))
	case replica.Received:
		return fmt.Sprintf("receives from %s %s", e.From.Short(), showMessage(e.Message))
	case replica.Built:
		return fmt.Sprintf("built %d: %s at height %d, closing %t", e.Round.View, e.Block.Digest.Short(), e.Block.Height, e.Block.Closing)
	case replica.BuildFailed:
		return fmt.Sprintf("build %d failed", e.Round.View)
	case replica.Checked:
		return fmt.Sprintf("checked %d: %s is valid: %t", e.Check.Proposal.Round.View, e.Check.Proposal.Digest.Short(), e.Valid)
	case replica.Finalized:
		return fmt.Sprintf("finalized %d: %s, closing %t", e.Height, e.Digest.Short(), e.Closing)
	case replica.Served:
		return fmt.Sprintf("served %s %d bytes", e.To.Short(), e.Bytes)
	}
	return fmt.Sprintf("%T", event)
}

func showEffect(effect replica.Effect) string {
	switch e := effect.(type) {
	case replica.Append:
		return fmt.Sprintf("append %d records to log %d", len(e.Records), e.Epoch)
	case replica.DropLog:
		return fmt.Sprintf("drop log %d", e.Epoch)
	case replica.Broadcast:
		return "broadcast " + showMessage(e.Message)
	case replica.Send:
		return fmt.Sprintf("send to %s %s", e.To.Short(), showMessage(e.Message))
	case replica.Relay:
		return fmt.Sprintf("relay to %d %s", len(e.To), showMessage(e.Message))
	case replica.Places:
		return fmt.Sprintf("places for %d sentries", len(e.Nodes))
	case replica.Build:
		return fmt.Sprintf("build %d on %d %s", e.Round.View, e.Parent, e.ParentDigest.Short())
	case replica.CancelBuild:
		return fmt.Sprintf("cancel build %d", e.Round.View)
	case replica.Check:
		return fmt.Sprintf("check %d: %s, attested %t", e.Proposal.Round.View, e.Proposal.Digest.Short(), e.Attested)
	case replica.CancelCheck:
		return fmt.Sprintf("cancel check %d", e.Check.Proposal.Round.View)
	case replica.Finalize:
		return fmt.Sprintf("finalize %d: %s by %s", e.Block.Height, e.Block.Digest.Short(), e.Certificate.Statement)
	case replica.Lookup:
		return fmt.Sprintf("look up for %s %s", e.To.Short(), showMessage(e.Request))
	case replica.Blame:
		return fmt.Sprintf("blame %s: %s", e.Peer.Short(), e.Reason)
	case replica.Evidence:
		return "evidence: " + e.String()
	case replica.Enter:
		return fmt.Sprintf("enter epoch %d at height %d", e.Reign.Committee.Epoch(), e.Reign.StartHeight)
	case replica.Halt:
		return "halt: " + e.Reason
	}
	return fmt.Sprintf("%T", effect)
}

func showMessage(m consensus.Message) string {
	switch m := m.(type) {
	case consensus.Vote:
		by, _ := m.By()
		return fmt.Sprintf("vote %s by %d, epoch %d", m.Statement(), by, m.Statement().Round().Epoch)
	case *consensus.Certificate:
		return fmt.Sprintf("certificate %s, epoch %d", m.Statement, m.Statement.Round().Epoch)
	case consensus.Offer:
		return fmt.Sprintf("offer %s, epoch %d", m.Vote.Statement(), m.Vote.Proposal.Round.Epoch)
	case consensus.Delegation:
		return fmt.Sprintf("delegation of signer %d, epoch %d", m.Signer, m.Epoch)
	case consensus.CertificateRequest:
		return fmt.Sprintf("request for certificate %s %d, epoch %d", m.Kind, m.Round.View, m.Round.Epoch)
	case consensus.BlockRequest:
		return "request for block " + m.Digest.Short()
	case consensus.BlockAnswer:
		return fmt.Sprintf("block of %d bytes", len(m.Payload))
	case consensus.AncestryRequest:
		return fmt.Sprintf("request for ancestry from height %d", m.From)
	case consensus.Ancestry:
		return fmt.Sprintf("ancestry of %d from height %d", len(m.Blocks), m.From)
	}
	return fmt.Sprintf("%T", m)
}
