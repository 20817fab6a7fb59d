package explorer

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
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
	case chain.BeginRun, chain.CommitRun, chain.RevealRun, chain.CollectRun:
		return sayRun(who, m)
	case chain.ReportMiss, chain.DrawPeers, chain.LeaveLease, chain.AccusePeer:
		return sayService(who, m)
	case chain.ReportHardware, chain.DeclareHardware, chain.AnnounceHome:
		return sayHardware(who, m)
	case chain.StoreCode, chain.InstantiateContract, chain.ExecuteContract, chain.MigrateContract, chain.SetContractAdmin, chain.PinCode:
		return sayContract(who, m)
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
	case chain.Bond:
		return say(who, " becomes validator ", shortKey(m.ConsensusKey), ", "+quoted(m.Name)+", with a stake of ", m.Amount)
	case chain.Delegate:
		return say(who, " delegates ", m.Amount, " to validator ", shortKey(m.Validator))
	case chain.Undelegate:
		return say(who, " takes ", orAll(m.Amount), " out of validator ", shortKey(m.Validator))
	case chain.Redelegate:
		return say(who, " moves ", orAll(m.Amount), " from validator ", shortKey(m.From), " to ", shortKey(m.To))
	case chain.WithdrawRewards:
		return say(who, " withdraws rewards at validator ", shortKey(m.Validator))
	case chain.SetCommission:
		return say(who, " sets the commission of validator ", shortKey(m.Validator), " to "+bpsWords(m.Bps))
	case chain.RotateKeys:
		return say(who, " changes the keys of validator ", shortKey(m.Validator))
	case chain.Unjail:
		return say(who, " unjails validator ", shortKey(m.Validator))
	case chain.Affiliate:
		return say(who, " affiliates provider node ", linkNode(m.Node), " with validator ", shortKey(m.Validator))
	case chain.Unaffiliate:
		return say(who, " ends the affiliation of provider node ", linkNode(m.Node))
	case chain.ReportEvidence:
		return say(who, " reports evidence against validators")
	case chain.OpenLease, chain.ResizeLease, chain.ExtendLease, chain.CloseLease, chain.CollectLease, chain.OpenChannel, chain.FundChannel, chain.RedeemVoucher,
		chain.CloseChannel, chain.AddBond, chain.CommitVote, chain.RevealVote, chain.RegisterMeter, chain.SettleBatch,
		chain.Challenge, chain.Appeal, chain.ReportAcceptance:
		return sayMarketMessage(who, m)
	}
	panic(fmt.Sprintf("explorer: message of type %T", m))
}

// sayMarketMessage says what a message about leases, channels, bonds, panels and batches does.
func sayMarketMessage(who link, m any) sentence {
	switch m := m.(type) {
	case chain.OpenLease:
		return say(who, " opens a lease of ", linkAddress(m.Deal.Order.ConsumerAddress()), " on node ", linkNode(m.Deal.Bid.Node), " for ", m.Deal.Order.MaxCost)
	case chain.ResizeLease:
		return say(who, " changes the terms of a lease on node ", linkNode(m.Lease.Node))
	case chain.ExtendLease:
		return say(who, " adds ", m.Amount, " to a lease on node ", linkNode(m.Lease.Node))
	case chain.CloseLease:
		return say(who, " gives notice of a lease on node ", linkNode(m.Lease.Node))
	case chain.CollectLease:
		return say(who, " collects what is due of a lease on node ", linkNode(m.Lease.Node))
	case chain.OpenChannel:
		return say(who, " opens a payment channel to ", linkAddress(m.Payee), " and puts ", m.Amount, " into it")
	case chain.FundChannel:
		return say(who, " adds ", m.Amount, " to payment channel "+m.Channel.Short())
	case chain.RedeemVoucher:
		return say(who, " redeems a voucher of payment channel "+m.Voucher.Channel.Short()+" for ", m.Voucher.Total, " in all")
	case chain.CloseChannel:
		return say(who, " closes payment channel "+m.Channel.Short())
	case chain.RegisterMeter:
		return say(who, " registers metering key "+crypto.Digest(m.Key).Short()+" for node ", linkNode(m.Node))
	case chain.SettleBatch:
		return say(who, fmt.Sprintf(" posts a proof over %s for ", counted(int(m.Batch.Summary.Count), "usage record")), linkJob(m.Batch.Summary.Order))
	case chain.ReportAcceptance:
		return say(who, " reports that cluster "+m.First.Acceptance.Cluster.Short()+" broke its word to ", linkAddress(m.First.Order.ConsumerAddress()))
	case chain.AddBond:
		return say(who, " adds ", m.Amount, " to the bond of node ", linkNode(m.Node))
	case chain.CommitVote:
		return say(who, " brings the sealed vote of node ", linkNode(m.Node), " on panel "+m.Panel.Short())
	case chain.RevealVote:
		return say(who, " shows the vote of node ", linkNode(m.Node), " on panel "+m.Panel.Short()+": "+testimonyWords(&m.Testimony))
	case chain.Challenge:
		return say(who, " challenges the claim for job ", linkJob(m.Order))
	case chain.Appeal:
		return say(who, " appeals about the claim for job ", linkJob(m.Order))
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
		return say("Provider node ", linkNode(e.Node), " of ", linkAddress(e.Owner), " is gone; its bond of ", e.Bond, " matures ", absolute(e.Matures), owedWords(e.Burned))
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
	case chain.ValidatorBonded:
		return say("Validator ", shortKey(e.Validator), " belongs to ", linkAddress(e.Owner), ", stake ", e.Amount)
	case chain.Delegated:
		return say(linkAddress(e.Delegator), " has ", e.Amount, " more at validator ", shortKey(e.Validator))
	case chain.Undelegated:
		return say(e.Amount, " of ", linkAddress(e.Delegator), " left validator ", shortKey(e.Validator), " and unbonds")
	case chain.Redelegated:
		return say(e.Amount, " of ", linkAddress(e.Delegator), " moved from validator ", shortKey(e.From), " to ", shortKey(e.To))
	case chain.RewardsWithdrawn:
		return say(linkAddress(e.Account), " took ", e.Amount, " earned at validator ", shortKey(e.Validator))
	case chain.CommissionSet:
		return say("Validator ", shortKey(e.Validator), fmt.Sprintf(" takes a commission of %s from epoch %d on", bpsWords(e.Bps), e.Epoch))
	case chain.KeysRotated:
		return say("Validator ", shortKey(e.Validator), " has consensus key ", shortKey(e.ConsensusKey), " in committees to come")
	case chain.ValidatorUnjailed:
		return say("Validator ", shortKey(e.Validator), " was unjailed")
	case chain.NodeAffiliated:
		return say("Provider node ", linkNode(e.Node), " counts for validator ", shortKey(e.Validator))
	case chain.NodeUnaffiliated:
		return say("Provider node ", linkNode(e.Node), " no longer counts for validator ", shortKey(e.Validator))
	case chain.ValidatorSlashed:
		return say("Validator ", shortKey(e.Validator), fmt.Sprintf(" was convicted of a fault in epoch %d and lost ", e.Epoch), e.Amount,
			"; ", e.Reward, " went to ", linkAddress(e.Reporter))
	case chain.ValidatorJailed:
		return say("Validator ", shortKey(e.Validator), fmt.Sprintf(" was silent in epoch %d, lost ", e.Epoch), e.Amount, " and is jailed")
	case chain.EpochClosed:
		return say(fmt.Sprintf("Epoch %d ended: ", e.Epoch), e.Minted, " were minted, ", e.Rewards, " given out")
	case chain.LeaseOpened:
		return say("Node ", linkNode(e.Lease.Node), " keeps resources for ", linkAddress(e.Consumer), ", paid out of ", e.Held, " until ", absolute(e.Expires))
	case chain.LeaseChanged:
		return say("The lease on node ", linkNode(e.Lease.Node), " holds ", e.Held, " and ends ", absolute(e.Expires), closingWords(e.Closing))
	case chain.LeasePaid:
		return say("The lease on node ", linkNode(e.Lease.Node), " was paid up to ", absolute(e.Until), ": ", linkAddress(e.Provider), " received ", e.Paid, ", ", e.Burned, " was burned")
	case chain.ChannelChanged:
		return say("Payment channel "+e.Channel.Short()+" of ", linkAddress(e.Payer), " to ", linkAddress(e.Payee), " holds ", e.Held)
	case chain.VoucherRedeemed:
		return say(linkAddress(e.Payee), " received ", e.Paid, " of ", linkAddress(e.Payer), " through payment channel "+e.Channel.Short()+", ", e.Burned, " was burned")
	case chain.ChannelClosed:
		return say("Payment channel "+e.Channel.Short()+" to ", linkAddress(e.Payee), " is closed; ", e.Refunded, " went back to ", linkAddress(e.Payer))
	case chain.BondAdded, chain.BondSlashed, chain.PanelDrawn, chain.PanelRevealing, chain.PanelDecided, chain.MeterRegistered, chain.BatchSettled, chain.ClaimPending, chain.ClaimChallenged, chain.ClaimJudged, chain.ClaimClosed, chain.RunBegun, chain.RunsDrawn, chain.RunCommitted, chain.RunsRevealing, chain.RunEnded, chain.JurorsPaid, chain.AcceptanceBroken, chain.BondForfeited, chain.ClaimLost, chain.BreachPaid, chain.BreachClosed, chain.PeersDrawn, chain.ServiceMissed, chain.LeaseLeft, chain.ServiceClosed, chain.TermsClosed, chain.HardwareChallenged, chain.HardwareJudged, chain.HardwareDeclared, chain.HomeAnnounced, chain.KeyRevealed, chain.CodeUploaded, chain.CodeStored, chain.ContractInstantiated, chain.ContractExecuted, chain.ContractMigrated, chain.ContractAdminSet, chain.ContractReplied, chain.ContractEmitted, chain.ContractStored, chain.ContractBurned, chain.CodePinned:
		return sayVerification(e)
	case chain.LeaseEnded:
		return say("The lease on node ", linkNode(e.Lease.Node), " ended ", absolute(e.At), closingWords(e.Closed), "; ", e.Refunded, " went back into escrow")
	}
	panic(fmt.Sprintf("explorer: event of type %T", e))
}

// sayVerification says what became of bonds and panels.
func sayVerification(e any) sentence {
	switch e := e.(type) {
	case chain.PeersDrawn, chain.ServiceMissed, chain.LeaseLeft, chain.ServiceClosed, chain.TermsClosed:
		return sayServiceEvent(e)
	case chain.HardwareChallenged, chain.HardwareJudged, chain.HardwareDeclared, chain.HomeAnnounced:
		return sayHardwareEvent(e)
	case chain.CodeUploaded, chain.CodeStored, chain.ContractInstantiated, chain.ContractExecuted, chain.ContractMigrated, chain.ContractAdminSet,
		chain.ContractReplied, chain.ContractEmitted, chain.ContractStored, chain.ContractBurned, chain.CodePinned:
		return sayContractEvent(e)
	case chain.KeyRevealed:
		return say("Node ", linkNode(e.Node), " told the key "+crypto.Digest(e.Key).Short()+" that opens its output for job ", linkJob(e.Order))
	case chain.MeterRegistered:
		return say("Usage records of node ", linkNode(e.Node), " are signed with metering key "+crypto.Digest(e.Key).Short()+" from now on")
	case chain.BatchSettled:
		return say(counted(int(e.Count), "usage record")+" of job ", linkJob(e.Order), " on node ", linkNode(e.Node), " were proven: ",
			linkAddress(e.Provider), " received ", e.Paid, ", ", e.Burned, " was burned")
	case chain.AcceptanceBroken:
		return say("Cluster "+e.Cluster.Short()+" broke its word to ", linkAddress(e.Consumer), " and lost ", e.Amount, " of its bond; ", linkAddress(e.Reporter), " received ", e.Reward, lockedWords(e.Locked))
	case chain.BondForfeited:
		return say("Cluster "+e.Cluster.Short()+", which broke its word, lost ", e.Amount, " of its bond that the claim for job ", linkJob(e.Subject), " had locked; ",
			linkAddress(e.Reporter), " received ", e.Reward, lockedWords(e.Locked))
	case chain.ClaimLost:
		return say("The escrow did not cover ", e.Lost, " for job ", linkJob(e.Order), ": ", linkAddress(e.Provider), " has a part in the bond of cluster "+e.Cluster.Short())
	case chain.BreachPaid:
		return say("Out of the bond of cluster " + e.Cluster.Short() + " " + counted(len(e.Paid), "provider") + " got a part of what they lost by it")
	case chain.BreachClosed:
		return say("Of the bond that cluster "+e.Cluster.Short()+" lost ", e.Paid, " went to those who lost by it, and ", e.Burned, " was burned")
	case chain.BondAdded:
		return say("The bond of node ", linkNode(e.Node), " grew by ", e.Amount, " to ", e.Bond)
	case chain.BondSlashed:
		return say("Node ", linkNode(e.Node), " of ", linkAddress(e.Owner), " lost ", e.Amount, " of its bond; ", e.Burned, " of it was burned")
	case chain.PanelDrawn:
		if len(e.Jurors) == 1 {
			return say("Node ", linkNode(e.Jurors[0]), " was drawn from the roll to run the job ", linkJob(e.Subject), " again, and to vote on it")
		}
		return say("Panel "+e.Panel.Short()+" was drawn to run the job ", linkJob(e.Subject), " again, of "+counted(len(e.Jurors), "node"))
	case chain.PanelRevealing:
		return say("Panel " + e.Panel.Short() + " shows its votes")
	case chain.PanelDecided:
		return say("Panel "+e.Panel.Short()+" has decided on job ", linkJob(e.Subject), ": "+voteWords(e.Verdict))
	case chain.ClaimPending:
		return say("The claim of node ", linkNode(e.Node), " for job ", linkJob(e.Order), " is in its window: ", e.Held, " is held for it, ", e.Bond, " is staked on it")
	case chain.ClaimChallenged:
		if e.Appeal {
			return say(linkAddress(e.By), " appealed about the claim for job ", linkJob(e.Order))
		}
		return say(linkAddress(e.By), " challenged the claim for job ", linkJob(e.Order))
	case chain.ClaimJudged:
		return say("The claim for job ", linkJob(e.Order), " was judged: "+voteWords(e.Verdict))
	case chain.ClaimClosed:
		return say("The window of the claim of node ", linkNode(e.Node), " for job ", linkJob(e.Order), " is closed; ", e.Refunded, " went back to ", linkAddress(e.Consumer))
	}
	return sayRunEvent(e)
}

// lockedWords says what claims still lock of a bond that is lost.
func lockedWords(locked chain.Amount) sentence {
	if locked.IsZero() {
		return nil
	}
	return say("; ", locked, " more will follow when no claim locks it")
}

// owedWords says what was owed of a bond.
func owedWords(owed chain.Amount) sentence {
	if owed.IsZero() {
		return nil
	}
	return say("; ", owed, " more that it owed was burned")
}

// voteWords says what a juror, or a panel, found; nil: nothing.
func voteWords(v *chain.Vote) string {
	switch {
	case v == nil:
		return "no result has more than half of the seats"
	case v.Finding == chain.FoundUnavailable:
		return "the job's data cannot be had"
	case v.Finding == chain.FoundUnstable:
		return "the job gives other results from run to run"
	}
	return "the job yields " + v.Result.Short()
}

// testimonyWords says what a juror shows of what it found.
func testimonyWords(t *chain.Testimony) string {
	if t.Finding != chain.FoundResult {
		return voteWords(&chain.Vote{Finding: t.Finding})
	}
	return "it ran the job, and shows link " + t.Link.Short() + " of the run"
}

// closingWords says why a lease ends.
func closingWords(closing bool) string {
	if closing {
		return ", upon notice"
	}
	return ", when its money ends"
}

func shortKey(key crypto.PublicKey) string { return key.Short() }

func bpsWords(bps uint16) string { return fmt.Sprintf("%d.%02d %%", bps/100, bps%100) }

func orAll(a chain.Amount) sentence {
	if a.IsZero() {
		return say("everything")
	}
	return say(a)
}

func absolute(t chain.TimeMs) string {
	m := moment{Absolute: fmt.Sprintf("at %d ms", t)}
	if t < year9999 {
		m = momentOf(t, zeroTime)
		m.Absolute = "at " + m.Absolute
	}
	return m.Absolute
}
