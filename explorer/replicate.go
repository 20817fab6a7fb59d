package explorer

import (
	"fmt"
	"strconv"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// sayRun says what a message about a replicated run does.
func sayRun(who link, m any) sentence {
	switch m := m.(type) {
	case chain.BeginRun:
		return say(who, " begins job ", linkJob(m.Order.ID()), ": node ", linkNode(m.Slate[0].Node), " has run it and is bound to what it found")
	case chain.CommitRun:
		return say(who, " brings the commitment of node ", linkNode(m.Node), " to what it found for job ", linkJob(m.Order))
	case chain.RevealRun:
		return say(who, " shows what node ", linkNode(m.Receipt.Node), " found for job ", linkJob(m.Receipt.Order))
	case chain.CollectRun:
		return say(who, " has those paid who are owed for job ", linkJob(m.Order))
	}
	panic(fmt.Sprintf("explorer: message of type %T", m))
}

// sayRunEvent says what became of replicated runs.
func sayRunEvent(e any) sentence {
	switch e := e.(type) {
	case chain.RunBegun:
		return say("Node ", linkNode(e.Node), " has run job ", linkJob(e.Order), " and has ", e.Stake, " at stake, as its cluster has; block "+strconv.FormatUint(uint64(e.DrawAt), 10)+" draws whether others check it")
	case chain.RunsDrawn:
		s := say(counted(len(e.Nodes), "node")+" more to run job ", linkJob(e.Order), ":")
		for _, node := range e.Nodes {
			s = append(s, say(" ", linkNode(node))...)
		}
		return s
	case chain.RunCommitted:
		return say("Node ", linkNode(e.Node), " is bound to what it found for job ", linkJob(e.Order))
	case chain.RunsRevealing:
		if !e.Checked {
			return say("Job ", linkJob(e.Order), " is not checked: its node shows what it found")
		}
		return say("All who ran job ", linkJob(e.Order), " show what they found")
	case chain.RunEnded:
		return say("Job ", linkJob(e.Order), " was found "+e.Finding+"; "+counted(int(e.Paid), "node")+" to be paid")
	case chain.JurorsPaid:
		return say(linkAddress(e.Consumer), " paid ", e.Each, " to each of "+counted(len(e.Jurors), "juror")+" who judged job ", linkJob(e.Order))
	}
	panic(fmt.Sprintf("explorer: event of type %T", e))
}

// appendFromRuns appends the accounts that an event about replicated runs names.
func appendFromRuns(out []chain.Address, e any) []chain.Address {
	if e, ok := e.(chain.JurorsPaid); ok {
		return append(append(out, e.Consumer), e.Jurors...)
	}
	if e, ok := e.(chain.RunBegun); ok {
		return append(out, e.Consumer)
	}
	return out
}
