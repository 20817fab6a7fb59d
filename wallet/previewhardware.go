package wallet

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// hardwareSentence says what a message about a node's hardware does.
func hardwareSentence(m any) string {
	switch m := m.(type) {
	case chain.ReportHardware:
		return fmt.Sprintf("brings what %d peers found of the hardware of provider node %s", len(m.Verdicts), m.Challenge.Node)
	case chain.DeclareHardware:
		return fmt.Sprintf("declares that provider node %s has %d millicores and %d MiB, which it has to show when it is challenged, or loses a part of its bond",
			m.Node, m.Millicores, m.MemoryMiB)
	case chain.AccuseMeasurer:
		return fmt.Sprintf("shows two verdicts of peer %s about the hardware of provider node %s that differ", m.First.Peer, m.Challenge.Node)
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}
