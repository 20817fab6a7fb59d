package explorer

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
)

// addressesOf lists, each once, the accounts that a transaction and its events
// concern. A nil body is none.
func addressesOf(body *chain.TxBody, events chain.Events) []chain.Address {
	var out []chain.Address
	if body != nil {
		out = append(out, body.Sender, body.Payer())
		for _, m := range body.Messages {
			out = appendFromMessage(out, m)
		}
	}
	for _, e := range events {
		out = appendFromEvent(out, e)
	}
	slices.SortFunc(out, chain.Address.Compare)
	return slices.Compact(out)
}

func appendFromMessage(out []chain.Address, m chain.Msg) []chain.Address {
	switch m := m.(type) {
	case chain.Transfer:
		return append(out, m.To)
	case chain.Settle:
		for i := range m.Claims {
			out = append(out, m.Claims[i].Order.ConsumerAddress())
		}
	case chain.OpenLease:
		return append(out, m.Deal.Order.ConsumerAddress())
	case chain.RegisterProvider, chain.UnbondProvider, chain.RegisterCluster, chain.UnbondCluster, chain.Deposit, chain.Withdraw:
	case chain.OpenChannel:
		return append(out, m.Payee)
	case chain.ResizeLease, chain.ExtendLease, chain.CloseLease, chain.CollectLease, chain.FundChannel, chain.RedeemVoucher, chain.CloseChannel,
		chain.AddBond, chain.CommitVote, chain.RevealVote, chain.Challenge, chain.Appeal, chain.CommitRun, chain.RevealRun, chain.CollectRun,
		chain.ReportMiss, chain.DrawPeers, chain.LeaveLease, chain.AccusePeer,
		chain.ReportHardware, chain.DeclareHardware, chain.AnnounceHome, chain.StoreCode, chain.PinCode:
	case chain.InstantiateContract:
		if m.Admin != nil {
			return append(out, *m.Admin)
		}
	case chain.ExecuteContract:
		return append(out, m.Contract)
	case chain.MigrateContract:
		return append(out, m.Contract)
	case chain.SetContractAdmin:
		return append(out, m.Contract)
	case chain.BeginRun:
		return append(out, m.Order.ConsumerAddress())
	case chain.RegisterMeter:
	case chain.ReportAcceptance:
		return append(out, m.First.Order.ConsumerAddress())
	case chain.SettleBatch:
		return append(out, m.Batch.Order.ConsumerAddress())
	case chain.Bond, chain.Delegate, chain.Undelegate, chain.Redelegate, chain.WithdrawRewards, chain.SetCommission,
		chain.RotateKeys, chain.Unjail, chain.Affiliate, chain.Unaffiliate, chain.ReportEvidence:
	}
	return out
}

// appendFromBreach appends the accounts of an event of broken acceptances.
func appendFromBreach(out []chain.Address, e any) []chain.Address {
	switch e := e.(type) {
	case chain.AcceptanceBroken:
		return append(out, e.Consumer, e.Reporter)
	case chain.BondForfeited:
		return append(out, e.Reporter)
	case chain.ClaimLost:
		return append(out, e.Provider)
	case chain.BreachPaid:
		for _, p := range e.Paid {
			out = append(out, p.To)
		}
	}
	return out
}

// appendFromService appends the account of an event of a lease's service.
func appendFromService(out []chain.Address, e any) []chain.Address {
	switch e := e.(type) {
	case chain.ServiceMissed:
		return append(out, e.Consumer)
	case chain.LeaseLeft:
		return append(out, e.Consumer)
	case chain.ServiceClosed:
		return append(out, e.Consumer)
	case chain.TermsClosed:
		return append(out, e.Consumer)
	}
	return out
}

// appendFromHardware appends the account of an event of a node's hardware.
func appendFromHardware(out []chain.Address, e any) []chain.Address {
	switch e := e.(type) {
	case chain.HardwareJudged:
		return append(out, e.Owner)
	case chain.HardwareDeclared:
		return append(out, e.Owner)
	}
	return out
}

func appendFromEvent(out []chain.Address, e chain.Event) []chain.Address {
	switch e := e.(type) {
	case chain.Transferred:
		return append(out, e.From, e.To)
	case chain.ProviderRegistered:
		return append(out, e.Owner)
	case chain.ProviderUnbonded:
		return append(out, e.Owner)
	case chain.ClusterRegistered:
		return append(out, e.Operator)
	case chain.ClusterUnbonded:
		return append(out, e.Operator)
	case chain.Deposited:
		return append(out, e.Consumer)
	case chain.WithdrawalStarted:
		return append(out, e.Consumer)
	case chain.Matured:
		return append(out, e.To)
	case chain.ClaimSettled:
		return append(out, e.Consumer, e.Provider)
	case chain.ValidatorBonded:
		return append(out, e.Owner)
	case chain.Delegated:
		return append(out, e.Delegator)
	case chain.Undelegated:
		return append(out, e.Delegator)
	case chain.Redelegated:
		return append(out, e.Delegator)
	case chain.RewardsWithdrawn:
		return append(out, e.Account)
	case chain.ValidatorSlashed:
		return append(out, e.Reporter)
	case chain.LeaseOpened:
		return append(out, e.Consumer, e.Provider)
	case chain.ChannelChanged:
		return append(out, e.Payer, e.Payee)
	case chain.VoucherRedeemed:
		return append(out, e.Payer, e.Payee)
	case chain.ChannelClosed:
		return append(out, e.Payer, e.Payee)
	case chain.LeasePaid:
		return append(out, e.Consumer, e.Provider)
	case chain.MeterRegistered:
		return append(out, e.Owner)
	case chain.AcceptanceBroken, chain.BondForfeited, chain.ClaimLost, chain.BreachPaid, chain.BreachClosed:
		return appendFromBreach(out, e)
	case chain.BatchSettled:
		return append(out, e.Consumer, e.Provider)
	case chain.BondAdded:
		return append(out, e.Owner)
	case chain.BondSlashed:
		return append(out, e.Owner)
	case chain.ClaimPending:
		return append(out, e.Consumer, e.Provider)
	case chain.ClaimChallenged:
		return append(out, e.By)
	case chain.ClaimClosed:
		return append(out, e.Consumer, e.Provider)
	case chain.PanelDrawn, chain.PanelRevealing, chain.PanelDecided, chain.ClaimJudged:
	case chain.RunBegun, chain.JurorsPaid:
		return appendFromRuns(out, e)
	case chain.ServiceMissed, chain.LeaseLeft, chain.ServiceClosed, chain.TermsClosed:
		return appendFromService(out, e)
	case chain.HardwareJudged, chain.HardwareDeclared, chain.CodeUploaded, chain.CodeStored, chain.ContractInstantiated, chain.ContractExecuted, chain.ContractMigrated, chain.ContractAdminSet, chain.ContractReplied, chain.ContractEmitted, chain.ContractStored, chain.ContractBurned, chain.CodePinned:
		return appendFromContract(appendFromHardware(out, e), e)
	case chain.HomeAnnounced, chain.ClaimRecorded, chain.ClaimRejected, chain.KeyRevealed, chain.LeaseChanged, chain.LeaseEnded, chain.PeersDrawn, chain.HardwareChallenged, chain.RunsDrawn, chain.RunCommitted, chain.RunsRevealing, chain.RunEnded:
	case chain.CommissionSet, chain.KeysRotated, chain.ValidatorUnjailed, chain.NodeAffiliated, chain.NodeUnaffiliated, chain.ValidatorJailed, chain.EpochClosed:
	}
	return out
}
