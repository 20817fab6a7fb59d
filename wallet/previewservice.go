package wallet

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// serviceSentence says what a message about what is promised of a lease does.
func serviceSentence(m any) string {
	switch m := m.(type) {
	case chain.ReportMiss:
		return fmt.Sprintf("brings what %d peers found of epoch %d of %s", len(m.Reports), m.Epoch.Epoch, leaseText(m.Epoch.Lease))
	case chain.DrawPeers:
		return fmt.Sprintf("has other peers drawn that probe %s", leaseText(m.Lease))
	case chain.LeaveLease:
		return fmt.Sprintf("leaves %s now, without notice, which costs penalties out of the node's stake", leaseText(m.Lease))
	case chain.AccusePeer:
		return fmt.Sprintf("shows two reports of peer %s about epoch %d of %s that differ", m.First.Peer, m.Epoch.Epoch, leaseText(m.Epoch.Lease))
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}
