package explorer

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// sayService says what a message about what is promised of a lease does.
func sayService(who link, m any) sentence {
	switch m := m.(type) {
	case chain.ReportMiss:
		return say(who, " brings what "+counted(len(m.Reports), "peer")+fmt.Sprintf(" found of epoch %d of a lease on node ", m.Epoch.Epoch), linkNode(m.Epoch.Lease.Node))
	case chain.DrawPeers:
		return say(who, " has other peers drawn that probe a lease on node ", linkNode(m.Lease.Node))
	case chain.LeaveLease:
		return say(who, " leaves a lease on node ", linkNode(m.Lease.Node), " without notice")
	case chain.AccusePeer:
		return say(who, " shows that peer ", linkNode(m.First.Peer), " signed two reports of a lease on node ", linkNode(m.Epoch.Lease.Node), " that differ")
	}
	panic(fmt.Sprintf("explorer: message of type %T", m))
}

// sayServiceEvent says what became of what is promised of a lease.
func sayServiceEvent(e any) sentence {
	switch e := e.(type) {
	case chain.PeersDrawn:
		s := say(counted(len(e.Peers), "node")+" to probe the lease on node ", linkNode(e.Lease.Node), ":")
		for _, peer := range e.Peers {
			s = append(s, say(" ", linkNode(peer))...)
		}
		return s
	case chain.ServiceMissed:
		return say("The lease on node ", linkNode(e.Lease.Node), fmt.Sprintf(" missed its %s in epoch %d of the terms of order %s: ", e.Finding, e.Epoch, e.Terms.Short()), linkAddress(e.Consumer),
			" got ", e.Rebate, " back and ", e.FromStake, " of the node's stake, ", e.Burned, " was burned")
	case chain.LeaseLeft:
		return say("The provider left the lease on node ", linkNode(e.Lease.Node), " without notice: ", linkAddress(e.Consumer), " got ", e.FromStake,
			" of the node's stake, ", e.Burned, " was burned")
	case chain.ServiceClosed:
		return say("Nothing is heard any more of the lease on node ", linkNode(e.Lease.Node), ", which is over: what was due is paid, and ", e.Stake, " of the node's stake is free")
	case chain.TermsClosed:
		return say("Nothing is heard any more of the terms that the lease on node ", linkNode(e.Lease.Node), " had before it was resized: what was due of them is paid, and ", e.Stake,
			" of what the node staked for them is free")
	}
	panic(fmt.Sprintf("explorer: event of type %T", e))
}
