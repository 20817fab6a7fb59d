package explorer

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// sayHardware says what a message about a node's hardware does.
func sayHardware(who link, m any) sentence {
	switch m := m.(type) {
	case chain.ReportHardware:
		return say(who, " brings the word of "+counted(len(m.Verdicts), "peer")+" that hardware of node ", linkNode(m.Challenge.Node), " is missing")
	case chain.DeclareHardware:
		return say(who, " declares that node ", linkNode(m.Node), fmt.Sprintf(" has %d millicores and %d MiB", m.Millicores, m.MemoryMiB))
	case chain.AnnounceHome:
		return say(who, " brings the word of node ", linkNode(m.Home.Node), " and of cluster "+m.Home.Cluster.Short()+" that the node is at home there")
	}
	panic(fmt.Sprintf("explorer: message of type %T", m))
}

// sayHardwareEvent says what became of a challenge of a node's hardware.
func sayHardwareEvent(e any) sentence {
	switch e := e.(type) {
	case chain.HardwareChallenged:
		s := say("Node ", linkNode(e.Node), " has to show its hardware: "+counted(int(e.Lanes), "core")+fmt.Sprintf(" and %d MiB. It is measured by ", e.MemoryMiB)+counted(len(e.Peers), "node")+":")
		for _, peer := range e.Peers {
			s = append(s, say(" ", linkNode(peer))...)
		}
		return s
	case chain.HardwareJudged:
		s := say("The hardware of node ", linkNode(e.Node), fmt.Sprintf(" was found %s, %d lanes missing: it counts as %d millicores and %d MiB, ", e.Finding, e.Missing, e.Millicores, e.MemoryMiB),
			e.Burned, " of its bond was burned")
		if !e.Owed.IsZero() {
			s = append(s, say(", ", e.Owed, " of what other work locks is owed")...)
		}
		return s
	case chain.HardwareDeclared:
		return say(linkAddress(e.Owner), " declared that node ", linkNode(e.Node), fmt.Sprintf(" has %d millicores and %d MiB", e.Millicores, e.MemoryMiB))
	case chain.HomeAnnounced:
		return say("Node ", linkNode(e.Node), " is at home at cluster "+e.Cluster.Short())
	}
	panic(fmt.Sprintf("explorer: event of type %T", e))
}
