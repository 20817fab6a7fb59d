package explorer

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// word is a piece of a sentence: text, a link or an amount.
type word struct {
	Text  string
	Link  *link
	Money *money
}

// sentence is what happened, in words.
type sentence []word

func say(parts ...any) sentence {
	out := make(sentence, 0, len(parts))
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			out = append(out, word{Text: p})
		case link:
			out = append(out, word{Link: &p})
		case chain.Amount:
			m := moneyOf(p)
			out = append(out, word{Money: &m})
		case sentence:
			out = append(out, p...)
		default:
			panic(fmt.Sprintf("explorer: a %T in a sentence", p))
		}
	}
	return out
}

// sayMessage says what a message of a sender does.
func sayMessage(from chain.Address, m chain.Msg) sentence {
	who := linkAddress(from)
	switch m := m.(type) {
	case chain.Transfer:
		return say(who, " pays ", m.Amount, " to ", linkAddress(m.To))
	case chain.RegisterProvider:
		return say(who, " registers provider node ", linkNode(m.Node), " with a bond of ", m.Bond)
	case chain.UnbondProvider:
		return say(who, " unbonds provider node ", linkNode(m.Node))
	case chain.RegisterCluster:
		return say(who, " registers cluster ", linkNode(m.Cluster), " with a bond of ", m.Bond)
	case chain.UnbondCluster:
		return say(who, " unbonds cluster ", linkNode(m.Cluster))
	case chain.Deposit:
		return say(who, " moves ", m.Amount, " into escrow at cluster ", linkNode(m.Cluster))
	case chain.Withdraw:
		return say(who, " takes ", m.Amount, " out of escrow at cluster ", linkNode(m.Cluster))
	case chain.Settle:
		return saySettle(who, m)
	}
	panic(fmt.Sprintf("explorer: message of type %T", m))
}

func saySettle(who link, m chain.Settle) sentence {
	out := say(who, fmt.Sprintf(" posts %s for ", counted(len(m.Claims), "claim")))
	seen := map[string]bool{}
	for i := range m.Claims {
		job := linkJob(m.Claims[i].Receipt.Order)
		if seen[job.Full] {
			continue
		}
		if len(seen) > 0 {
			out = append(out, word{Text: ", "})
		}
		if len(seen) == 3 {
			return append(out, word{Text: "…"})
		}
		seen[job.Full] = true
		out = append(out, say("job ", job)...)
	}
	return out
}

func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// sayTx says what a transaction does, all messages together.
func sayTx(body *chain.TxBody) sentence {
	var out sentence
	for i, m := range body.Messages {
		if i > 0 {
			out = append(out, word{Text: "; "})
		}
		if i == 3 {
			return append(out, word{Text: "and " + counted(len(body.Messages)-i, "more message")})
		}
		out = append(out, sayMessage(body.Sender, m)...)
	}
	return out
}

// sayEvent says what an event made known.
func sayEvent(e chain.Event) sentence {
	switch e := e.(type) {
	case chain.Transferred:
		return say(linkAddress(e.To), " received ", e.Amount, " from ", linkAddress(e.From))
	case chain.ProviderRegistered:
		return say("Provider node ", linkNode(e.Node), " belongs to ", linkAddress(e.Owner), ", bond ", e.Bond)
	case chain.ProviderUnbonded:
		return say("Provider node ", linkNode(e.Node), " of ", linkAddress(e.Owner), " is gone; its bond of ", e.Bond, " matures ", absolute(e.Matures))
	case chain.ClusterRegistered:
		return say("Cluster ", linkNode(e.Cluster), " belongs to ", linkAddress(e.Operator), ", bond ", e.Bond)
	case chain.ClusterUnbonded:
		return say("Cluster ", linkNode(e.Cluster), " of ", linkAddress(e.Operator), " is gone; its bond of ", e.Bond, " matures ", absolute(e.Matures))
	case chain.Deposited:
		return say("The escrow of ", linkAddress(e.Consumer), " at cluster ", linkNode(e.Cluster), " grew by ", e.Amount)
	case chain.WithdrawalStarted:
		return say(e.Amount, " left the escrow of ", linkAddress(e.Consumer), " at cluster ", linkNode(e.Cluster), " and matures ", absolute(e.Matures))
	case chain.Matured:
		return say(e.Amount, " matured to ", linkAddress(e.To))
	case chain.ClaimRecorded:
		return say("A replica of job ", linkJob(e.Order), " by node ", linkNode(e.Node), " was recorded and waits for others to agree")
	case chain.ClaimSettled:
		return say("Job ", linkJob(e.Order), " was settled: node ", linkNode(e.Node), " was paid ", e.Paid, ", ", e.Burned, " was burned")
	case chain.ClaimRejected:
		return say("A claim of node ", linkNode(e.Node), " for job ", linkJob(e.Order), " was refused: "+quoted(e.Reason))
	}
	panic(fmt.Sprintf("explorer: event of type %T", e))
}

func absolute(t chain.TimeMs) string {
	m := moment{Absolute: fmt.Sprintf("at %d ms", t)}
	if t < year9999 {
		m = momentOf(t, zeroTime)
		m.Absolute = "at " + m.Absolute
	}
	return m.Absolute
}
