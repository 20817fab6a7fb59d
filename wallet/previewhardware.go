package wallet

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// hardwareSentence says what a message about a node's hardware does.
func hardwareSentence(m any) string {
	switch m := m.(type) {
	case chain.ReportHardware:
		return fmt.Sprintf("brings the word of %d peers that hardware of provider node %s is missing", len(m.Verdicts), m.Challenge.Node)
	case chain.DeclareHardware:
		return fmt.Sprintf("declares that provider node %s has %d millicores and %d MiB, which it has to show when it is challenged, or loses a part of its bond",
			m.Node, m.Millicores, m.MemoryMiB)
	case chain.AnnounceHome:
		return fmt.Sprintf("brings the word of provider node %s and of cluster %s that the node is at home there", m.Home.Node, m.Home.Cluster)
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}
