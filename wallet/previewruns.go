package wallet

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// runSentence says what a message about a replicated run does.
func runSentence(m any) string {
	switch m := m.(type) {
	case chain.BeginRun:
		return fmt.Sprintf("begins order %s, which node %s has run", m.Order.ID(), m.Slate[0].Node)
	case chain.CommitRun:
		return fmt.Sprintf("brings the commitment of node %s to what it found for order %s", m.Node, m.Order)
	case chain.RevealRun:
		return fmt.Sprintf("shows what node %s found for order %s", m.Receipt.Node, m.Receipt.Order)
	case chain.CollectRun:
		return fmt.Sprintf("has those paid who are owed for order %s", m.Order)
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}
