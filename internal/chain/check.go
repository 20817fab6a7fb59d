package chain

import (
	"fmt"
	"unicode/utf8"
)

// The checks of form: sizes, ranges and order, never state.

// CheckMsg returns an error that names the first field of a message that is outside its
// limits, as decoding does.
func CheckMsg(m Msg) error { return checkMsg(m) }

func checkMsg(m Msg) error {
	switch m := m.(type) {
	case Transfer:
		return nil
	case RegisterProvider:
		return checkRegisterProvider(m)
	case UnbondProvider:
		return nil
	case RegisterCluster:
		return checkRegisterCluster(m)
	case UnbondCluster:
		return nil
	case Deposit:
		return nil
	case Withdraw:
		return nil
	case Settle:
		return checkSettle(m)
	case Bond:
		return checkBond(m)
	case Delegate, Undelegate, Redelegate, WithdrawRewards, Unjail, Unaffiliate:
		return nil
	case SetCommission:
		return checkCommission(m)
	case RotateKeys:
		return checkKeys(m.ConsensusKey, m.NodeKey, m.Endpoint)
	case Affiliate:
		return m.Node.Check()
	case ReportEvidence:
		return checkReport(m)
	case OpenLease:
		return m.Deal.Check()
	case ResizeLease:
		return m.Deal.Check()
	case ExtendLease, CloseLease, CollectLease, DrawPeers, LeaveLease:
		return nil
	case OpenChannel:
		return m.check()
	case RedeemVoucher:
		return m.check()
	case FundChannel, CloseChannel, AddBond, CommitVote, Challenge, Appeal, CollectRun, RegisterMeter:
		return nil
	case SettleBatch:
		return m.Batch.Check()
	case RevealVote:
		return m.check()
	case ReportAcceptance:
		return m.check()
	case ReportMiss:
		return m.check()
	case AccusePeer:
		return m.check()
	case ReportHardware:
		return m.check()
	case DeclareHardware:
		return checkHardware(m.Millicores, m.MemoryMiB)
	case AnnounceHome:
		return m.Home.ChainID.Check()
	case StoreCode, InstantiateContract, MigrateContract, ExecuteContract, SetContractAdmin, PinCode:
		return checkContract(m)
	case BeginRun:
		return m.check()
	case CommitRun:
		return m.check()
	case RevealRun:
		return m.check()
	}
	return fmt.Errorf("chain: message of type %T", m)
}

func checkRegisterProvider(m RegisterProvider) error {
	if err := checkText("region", m.Region, MaxRegion); err != nil {
		return err
	}
	if err := checkHardware(m.Millicores, m.MemoryMiB); err != nil {
		return err
	}
	return m.Node.Check()
}

func checkRegisterCluster(m RegisterCluster) error {
	if m.FeeBps > MaxFeeBps {
		return limitError("fee_bps", int(m.FeeBps), MaxFeeBps)
	}
	if len(m.Endpoints) > MaxEndpoints {
		return limitError("endpoints", len(m.Endpoints), MaxEndpoints)
	}
	for _, e := range m.Endpoints {
		if err := checkText("endpoint", e, MaxEndpoint); err != nil {
			return err
		}
	}
	return m.Cluster.Check()
}

func checkSettle(m Settle) error {
	if len(m.Claims) == 0 || len(m.Claims) > MaxClaims {
		return limitError("claims", len(m.Claims), MaxClaims)
	}
	for i := range m.Claims {
		if err := m.Claims[i].Check(); err != nil {
			return fmt.Errorf("claim %d: %w", i, err)
		}
	}
	return nil
}

// Check returns an error that names the first field of the claim that is
// outside its limits. Signatures and state are not looked at.
func (c *Claim) Check() error {
	if len(c.Proof) > MaxProof {
		return limitError("proof", len(c.Proof), MaxProof)
	}
	if err := c.Order.Check(); err != nil {
		return err
	}
	if err := c.Bid.Check(); err != nil {
		return err
	}
	if err := c.Receipt.CheckTrace(c.Order.Policy.Policy); err != nil {
		return err
	}
	return c.Receipt.Check()
}

// Check returns an error that names the first field of the order that is
// outside its limits.
func (o *Order) Check() error {
	if err := o.ChainID.Check(); err != nil {
		return fmt.Errorf("order: %w", err)
	}
	if _, err := o.Consumer.Ed25519(); err != nil {
		return fmt.Errorf("order: consumer: %w", err)
	}
	if err := checkPrices("order caps", o.Caps); err != nil {
		return err
	}
	if err := o.PriorityBps.check(); err != nil {
		return err
	}
	if o.Term != nil {
		if _, none := o.Policy.Policy.(PolicyNone); !none {
			return fmt.Errorf("%w: a lease's policy is %s, want none", ErrLimit, o.Policy)
		}
		if err := o.Term.Check(); err != nil {
			return err
		}
	}
	if p, ok := o.Policy.Policy.(PolicyOptimistic); ok {
		if err := p.Covers(o.MaxCost); err != nil {
			return err
		}
	}
	if err := o.checkExchange(); err != nil {
		return err
	}
	return checkPolicy(o.Policy.Policy)
}

func checkPolicy(p Policy) error {
	switch p := p.(type) {
	case PolicyNone:
		return nil
	case PolicyReplicate:
		return checkReplicate(p)
	case PolicyZK:
		if len(p.Inputs) == 0 || len(p.Inputs) > MaxFields {
			return limitError("zk inputs", len(p.Inputs), MaxFields)
		}
		if p.Kernel == "" {
			return fmt.Errorf("%w: zk kernel has no name", ErrLimit)
		}
		return checkText("zk kernel", p.Kernel, MaxKernelName)
	case PolicyOptimistic:
		return p.check()
	}
	return fmt.Errorf("chain: policy of type %T", p)
}

// Check returns an error that names the first field of the bid that is outside
// its limits.
func (b *Bid) Check() error { return checkPrices("bid prices", b.Prices) }

// Check returns an error that names the first field of the receipt that is
// outside its limits.
func (r *UsageReceipt) Check() error {
	if len(r.Usage) > len(Resources) {
		return limitError("usage", len(r.Usage), len(Resources))
	}
	last := Resource(0)
	for _, u := range r.Usage {
		if err := checkResource("usage", &last, u.Resource); err != nil {
			return err
		}
		if u.Amount > MaxUsageAmount || u.DurationMs > MaxUsageMs {
			return fmt.Errorf("%w: usage of %s: amount %d over %d ms", ErrLimit, u.Resource, u.Amount, u.DurationMs)
		}
	}
	if len(r.Outputs) > MaxFields {
		return limitError("outputs", len(r.Outputs), MaxFields)
	}
	if r.Exit < ExitOK || r.Exit >= exitStatusCount {
		return fmt.Errorf("%w: exit status %d is unknown", ErrLimit, r.Exit)
	}
	if r.Ended < r.Started {
		return fmt.Errorf("%w: work ended at %d, before its start at %d", ErrLimit, r.Ended, r.Started)
	}
	return nil
}

func checkPrices(what string, prices []UnitPrice) error {
	if len(prices) > len(Resources) {
		return limitError(what, len(prices), len(Resources))
	}
	last := Resource(0)
	for _, p := range prices {
		if err := checkResource(what, &last, p.Resource); err != nil {
			return err
		}
	}
	return nil
}

// checkResource demands known resources in ascending order, without repeats.
func checkResource(what string, last *Resource, r Resource) error {
	if r < CPU || r > GPU {
		return fmt.Errorf("%w: %s has resource %d", ErrLimit, what, uint8(r))
	}
	if r <= *last {
		return fmt.Errorf("%w: %s is not in ascending order of resource", ErrLimit, what)
	}
	*last = r
	return nil
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return limitError(field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrLimit, field)
	}
	return nil
}
