package wallet

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// Preview says in words what a signature of the transaction would commit to,
// one line per message and one for the fee. What others chose (memo, region,
// endpoints) is quoted, so that it cannot pose as part of the text. It is an
// error if the fee's limit does not fit an amount.
func Preview(body *chain.TxBody) (string, error) {
	fee, ok := body.GasLimit.Cost(body.MaxFee)
	if !ok {
		return "", fmt.Errorf("wallet: a fee of up to %d gas at %d nHYPER does not fit an amount",
			body.GasLimit.Units(), body.MaxFee.Nano())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "On %s, %s\n", body.ChainID, body.Sender)
	for _, m := range body.Messages {
		fmt.Fprintf(&b, "  %s,\n", sentence(m))
	}
	payer := ""
	if body.FeePayer != nil {
		payer = ", paid by " + body.FeePayer.String()
	}
	fmt.Fprintf(&b, "  fee at most %s%s\n", fee, payer)
	fmt.Fprintf(&b, "  transaction %d of this account, valid until height %d", body.Nonce+1, body.Expiry)
	if body.Memo != "" {
		fmt.Fprintf(&b, ", memo %q", body.Memo)
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// sentence says what a message does.
func sentence(m chain.Msg) string {
	switch m := m.(type) {
	case chain.BeginRun, chain.CommitRun, chain.RevealRun, chain.CollectRun:
		return runSentence(m)
	case chain.Transfer:
		return fmt.Sprintf("pays %s to %s", m.Amount, m.To)
	case chain.RegisterProvider:
		return fmt.Sprintf("registers provider node %s (region %q, %d millicores, %d MiB) and locks a bond of %s",
			m.Node, m.Region, m.Millicores, m.MemoryMiB, m.Bond)
	case chain.UnbondProvider:
		return fmt.Sprintf("removes provider node %s; its bond comes back after the unbonding delay", m.Node)
	case chain.RegisterCluster:
		return fmt.Sprintf("registers cluster %s (fee %d.%02d %%, endpoints %q) and locks a bond of %s",
			m.Cluster, m.FeeBps/100, m.FeeBps%100, m.Endpoints, m.Bond)
	case chain.UnbondCluster:
		return fmt.Sprintf("removes cluster %s; its bond comes back after the unbonding delay", m.Cluster)
	case chain.Deposit:
		return fmt.Sprintf("moves %s into escrow at cluster %s", m.Amount, m.Cluster)
	case chain.Withdraw:
		return fmt.Sprintf("takes %s out of escrow at cluster %s; it arrives after the withdrawal delay", m.Amount, m.Cluster)
	case chain.Settle:
		return fmt.Sprintf("posts claims for work done: %d", len(m.Claims)) + keysTold(m.Claims)
	case chain.Bond:
		return fmt.Sprintf("becomes a validator with consensus key %s, node key %s at %q, named %q, commission %s, and locks a stake of %s",
			m.ConsensusKey, m.NodeKey, m.Endpoint, m.Name, percent(m.CommissionBps), m.Amount)
	case chain.Delegate:
		return fmt.Sprintf("delegates %s to validator %s; the validator's faults cost a part of it", m.Amount, m.Validator)
	case chain.Undelegate:
		return fmt.Sprintf("takes %s out of validator %s; it arrives after the unbonding period", amountOrAll(m.Amount), m.Validator)
	case chain.Redelegate:
		return fmt.Sprintf("moves %s from validator %s to %s, where it stays for the unbonding period", amountOrAll(m.Amount), m.From, m.To)
	case chain.WithdrawRewards:
		if m.Restake {
			return fmt.Sprintf("delegates what it earned at validator %s to the same", m.Validator)
		}
		return fmt.Sprintf("withdraws what it earned at validator %s", m.Validator)
	case chain.SetCommission:
		return fmt.Sprintf("sets the commission of validator %s to %s from the next epoch on", m.Validator, percent(m.Bps))
	case chain.RotateKeys:
		return fmt.Sprintf("gives validator %s the consensus key %s and the node key %s at %q", m.Validator, m.ConsensusKey, m.NodeKey, m.Endpoint)
	case chain.Unjail:
		return fmt.Sprintf("lets validator %s back into committees", m.Validator)
	case chain.Affiliate:
		return fmt.Sprintf("counts the burned fees of provider node %s for validator %s", m.Node, m.Validator)
	case chain.Unaffiliate:
		return fmt.Sprintf("ends the affiliation of provider node %s", m.Node)
	case chain.ReportEvidence:
		return fmt.Sprintf("reports evidence against validators: %d bytes", len(m.Evidence))
	case chain.ReportMiss, chain.DrawPeers, chain.LeaveLease, chain.AccusePeer:
		return serviceSentence(m)
	case chain.ReportHardware, chain.DeclareHardware, chain.AnnounceHome:
		return hardwareSentence(m)
	case chain.StoreCode, chain.InstantiateContract, chain.ExecuteContract, chain.MigrateContract, chain.SetContractAdmin, chain.PinCode:
		return contractSentence(m)
	case chain.OpenLease, chain.ResizeLease, chain.ExtendLease, chain.CloseLease, chain.CollectLease,
		chain.OpenChannel, chain.FundChannel, chain.RedeemVoucher, chain.CloseChannel, chain.AddBond, chain.CommitVote, chain.RevealVote,
		chain.RegisterMeter, chain.SettleBatch, chain.Challenge, chain.Appeal, chain.ReportAcceptance:
		return marketSentence(m)
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}

// keysTold says how many keys of sealed outputs claims make known, whether they are paid or not.
func keysTold(claims chain.Claims) string {
	n := 0
	for i := range claims {
		if claims[i].OutputKey != nil {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(", and tells everybody the keys of sealed outputs: %d", n)
}

// marketSentence says what a message about leases, channels, bonds and panels does.
func marketSentence(m any) string {
	switch m := m.(type) {
	case chain.OpenLease:
		return fmt.Sprintf("opens a lease of %s on node %s and holds %s for it", m.Deal.Order.ConsumerAddress(), m.Deal.Bid.Node, m.Deal.Order.MaxCost)
	case chain.ResizeLease:
		return fmt.Sprintf("gives %s other terms, and adds %s to what it holds", leaseText(m.Lease), m.Deal.Order.MaxCost)
	case chain.ExtendLease:
		return fmt.Sprintf("adds %s to what %s holds", m.Amount, leaseText(m.Lease))
	case chain.CloseLease:
		return fmt.Sprintf("gives notice of %s, which ends when the notice is over", leaseText(m.Lease))
	case chain.CollectLease:
		return fmt.Sprintf("pays the provider what is due of %s", leaseText(m.Lease))
	case chain.OpenChannel:
		return fmt.Sprintf("sets %s aside for %s, who gets what vouchers signed by %s promise; the rest comes back %s after a notice", m.Amount, m.Payee, m.Signer, lasting(m.WindowMs))
	case chain.FundChannel:
		return fmt.Sprintf("adds %s to payment channel %s", m.Amount, m.Channel)
	case chain.RedeemVoucher:
		return fmt.Sprintf("redeems a voucher of payment channel %s for %s in all", m.Voucher.Channel, m.Voucher.Total)
	case chain.CloseChannel:
		return fmt.Sprintf("closes payment channel %s", m.Channel)
	case chain.RegisterMeter:
		return fmt.Sprintf("signs usage records of node %s with metering key %s from now on", m.Node, m.Key)
	case chain.SettleBatch:
		s := &m.Batch.Summary
		return fmt.Sprintf("settles %d usage records of order %s on node %s by a proof, without showing them", s.Count, s.Order, s.Node)
	case chain.ReportAcceptance:
		a := &m.First.Acceptance
		return fmt.Sprintf("shows that cluster %s broke its word with acceptance %d of %s, which costs its bond", a.Cluster, a.Sequence, m.First.Order.ConsumerAddress())
	case chain.AddBond:
		return fmt.Sprintf("adds %s to the bond of node %s, which jobs may lock and faults may cost", m.Amount, m.Node)
	case chain.CommitVote:
		return fmt.Sprintf("brings the sealed vote of node %s on panel %s", m.Node, m.Panel)
	case chain.RevealVote:
		return fmt.Sprintf("shows the vote of node %s on panel %s: %s %s", m.Node, m.Panel, m.Testimony.Finding, m.Testimony.Work)
	case chain.Challenge:
		return fmt.Sprintf("stakes at most %s on the claim for order %s being wrong, and loses it if the claim is right", m.Stake, m.Order)
	case chain.Appeal:
		return fmt.Sprintf("stakes at most %s on the panel being wrong about the claim for order %s, and loses it if the panel was right", m.Stake, m.Order)
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}

func leaseText(id chain.LeaseID) string { return fmt.Sprintf("lease %s on node %s", id.Order, id.Node) }

func percent(bps uint16) string { return fmt.Sprintf("%d.%02d %%", bps/100, bps%100) }

func amountOrAll(a chain.Amount) string {
	if a.IsZero() {
		return "the whole stake"
	}
	return a.String()
}

// PreviewOrder says in words what a signature of the order would commit to.
func PreviewOrder(o *chain.Order) string {
	if o.Term != nil {
		return fmt.Sprintf("On %s, %s\n  leases what job %s needs, %s, at cluster %s,\n  holding %s of the escrow for it, with notice of %s,\n%s  to begin by %s\n",
			o.ChainID, o.ConsumerAddress(), o.Spec, termText(o.Term), o.Cluster, o.MaxCost, lasting(o.Term.NoticeMs), priorityText(o.PriorityBps), timeText(o.Deadline))
	}
	return fmt.Sprintf("On %s, %s\n  orders job %s at cluster %s,\n  verified by %q,\n  for at most %s in all, fees included, paid from escrow,\n%s  to end by %s\n",
		o.ChainID, o.ConsumerAddress(), o.Spec, o.Cluster, o.Policy.String(), o.MaxCost, priorityText(o.PriorityBps), timeText(o.Deadline))
}

// priorityText is the line about an order's priority fee; nothing without one.
func priorityText(fee chain.PriorityFee) string {
	if fee == 0 {
		return ""
	}
	return fmt.Sprintf("  a priority fee of %d.%02d %% of what it costs among that,\n", fee/100, fee%100)
}

func termText(t *chain.Term) string {
	parts := make([]string, len(t.Resources))
	for i, q := range t.Resources {
		parts[i] = fmt.Sprintf("%d of %s", q.Amount, q.Resource)
	}
	return strings.Join(parts, " and ")
}

// lasting writes a number of milliseconds as a duration, unless it is beyond one.
func lasting(ms uint64) string {
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return fmt.Sprintf("%d ms", ms)
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// timeText writes a time in UTC, or as a number if no calendar has it.
func timeText(t chain.TimeMs) string {
	const year9999 = 253_402_300_800_000
	if t >= year9999 {
		return fmt.Sprintf("%d ms after 1970", t)
	}
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02 15:04:05 UTC")
}
