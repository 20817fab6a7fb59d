package wallet

import (
	"fmt"
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
		return fmt.Sprintf("posts claims for work done: %d", len(m.Claims))
	}
	panic(fmt.Sprintf("wallet: message of type %T", m))
}

// PreviewOrder says in words what a signature of the order would commit to.
func PreviewOrder(o *chain.Order) string {
	return fmt.Sprintf("On %s, %s\n  orders job %s at cluster %s,\n  verified by %q,\n  for at most %s in all, fees included, paid from escrow,\n  to end by %s\n",
		o.ChainID, o.ConsumerAddress(), o.Spec, o.Cluster, o.Policy.String(), o.MaxCost, timeText(o.Deadline))
}

// timeText writes a time in UTC, or as a number if no calendar has it.
func timeText(t chain.TimeMs) string {
	const year9999 = 253_402_300_800_000
	if t >= year9999 {
		return fmt.Sprintf("%d ms after 1970", t)
	}
	return time.UnixMilli(int64(t)).UTC().Format("2006-01-02 15:04:05 UTC")
}
