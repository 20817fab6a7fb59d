package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Msg is one thing that a transaction asks for. The sum is sealed: switch over
// it exhaustively, without default.
type Msg interface{ sealedMsg() }

// Transfer pays Amount from the sender to To.
type Transfer struct {
	_      struct{} `cbor:",toarray"`
	To     Address
	Amount Amount
}

// RegisterProvider binds a provider node to the sender, who becomes its owner,
// and locks its bond.
type RegisterProvider struct {
	_          struct{} `cbor:",toarray"`
	Node       crypto.PublicKey
	Possession crypto.Signature // by Node, over (chain id, owner) under DomainPossession
	Bond       Amount
	Region     string // ≤ 32 bytes, for people and placement
	Millicores uint64 // declared capacity
	MemoryMiB  uint64 // declared capacity
}

// UnbondProvider removes a provider node; its bond matures to the owner after
// the unbonding delay.
type UnbondProvider struct {
	_    struct{} `cbor:",toarray"`
	Node crypto.PublicKey
}

// RegisterCluster binds a Nexus cluster's key to the sender, its operator, and
// locks its bond.
type RegisterCluster struct {
	_          struct{} `cbor:",toarray"`
	Cluster    crypto.PublicKey
	Possession crypto.Signature // by Cluster, over (chain id, operator) under DomainPossession
	Bond       Amount
	FeeBps     uint16   // of a claim's cost, in 1/10,000; ≤ 2,000
	Endpoints  []string // ≤ 8 of ≤ 128 bytes
}

// UnbondCluster removes a cluster; its bond matures to the operator after the
// unbonding delay.
type UnbondCluster struct {
	_       struct{} `cbor:",toarray"`
	Cluster crypto.PublicKey
}

// Deposit moves Amount from the sender's balance into the sender's escrow at a
// cluster, at once.
type Deposit struct {
	_       struct{} `cbor:",toarray"`
	Cluster crypto.PublicKey
	Amount  Amount
}

// Withdraw takes Amount out of the sender's escrow at a cluster; it matures to
// the sender's balance after the withdrawal delay.
type Withdraw struct {
	_       struct{} `cbor:",toarray"`
	Cluster crypto.PublicKey
	Amount  Amount
}

// Settle posts claims; each has its own verdict. Anyone may send it.
type Settle struct {
	_      struct{} `cbor:",toarray"`
	Claims Claims   // 1 to MaxClaims
}

// Claims is the list of claims of a Settle.
type Claims []Claim

// UnmarshalCBOR decodes at most MaxClaims claims.
func (cs *Claims) UnmarshalCBOR(data []byte) error {
	return unmarshalList(data, (*[]Claim)(cs), "claims", MaxClaims)
}

func (Transfer) sealedMsg()         {}
func (RegisterProvider) sealedMsg() {}
func (UnbondProvider) sealedMsg()   {}
func (RegisterCluster) sealedMsg()  {}
func (UnbondCluster) sealedMsg()    {}
func (Deposit) sealedMsg()          {}
func (Withdraw) sealedMsg()         {}
func (Settle) sealedMsg()           {}

// The kinds of Msg on the wire.
const (
	kindTransfer uint8 = iota + 1
	kindRegisterProvider
	kindUnbondProvider
	kindRegisterCluster
	kindUnbondCluster
	kindDeposit
	kindWithdraw
	kindSettle
	kindBond
	kindDelegate
	kindUndelegate
	kindRedelegate
	kindWithdrawRewards
	kindSetCommission
	kindRotateKeys
	kindUnjail
	kindAffiliate
	kindUnaffiliate
	kindReportEvidence
	kindOpenLease
	kindResizeLease
	kindExtendLease
	kindCloseLease
	kindCollectLease
	kindOpenChannel
	kindFundChannel
	kindRedeemVoucher
	kindCloseChannel
)

// Kinds of private settlement: between the last above and these, others have theirs.
const (
	kindRegisterMeter uint8 = iota + 39
	kindSettleBatch
)

// Msgs is the list of messages of a transaction.
type Msgs []Msg

// MarshalCBOR encodes each message as [kind, body].
func (ms Msgs) MarshalCBOR() ([]byte, error) {
	out := codec.AppendArray(nil, len(ms))
	for _, m := range ms {
		var err error
		if out, err = appendMsg(out, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func appendMsg(dst []byte, m Msg) ([]byte, error) {
	switch m := m.(type) {
	case Transfer:
		return appendSum(dst, kindTransfer, m)
	case RegisterProvider:
		return appendSum(dst, kindRegisterProvider, m)
	case UnbondProvider:
		return appendSum(dst, kindUnbondProvider, m)
	case RegisterCluster:
		return appendSum(dst, kindRegisterCluster, m)
	case UnbondCluster:
		return appendSum(dst, kindUnbondCluster, m)
	case Deposit:
		return appendSum(dst, kindDeposit, m)
	case Withdraw:
		return appendSum(dst, kindWithdraw, m)
	case Settle:
		return appendSum(dst, kindSettle, m)
	case Bond:
		return appendSum(dst, kindBond, m)
	case Delegate:
		return appendSum(dst, kindDelegate, m)
	case Undelegate:
		return appendSum(dst, kindUndelegate, m)
	case Redelegate:
		return appendSum(dst, kindRedelegate, m)
	case WithdrawRewards:
		return appendSum(dst, kindWithdrawRewards, m)
	case SetCommission:
		return appendSum(dst, kindSetCommission, m)
	case RotateKeys:
		return appendSum(dst, kindRotateKeys, m)
	case Unjail:
		return appendSum(dst, kindUnjail, m)
	case Affiliate:
		return appendSum(dst, kindAffiliate, m)
	case Unaffiliate:
		return appendSum(dst, kindUnaffiliate, m)
	case ReportEvidence:
		return appendSum(dst, kindReportEvidence, m)
	case OpenLease:
		return appendSum(dst, kindOpenLease, m)
	case ResizeLease:
		return appendSum(dst, kindResizeLease, m)
	case ExtendLease:
		return appendSum(dst, kindExtendLease, m)
	case CloseLease:
		return appendSum(dst, kindCloseLease, m)
	case CollectLease:
		return appendSum(dst, kindCollectLease, m)
	case OpenChannel:
		return appendSum(dst, kindOpenChannel, m)
	case FundChannel:
		return appendSum(dst, kindFundChannel, m)
	case RedeemVoucher:
		return appendSum(dst, kindRedeemVoucher, m)
	case CloseChannel:
		return appendSum(dst, kindCloseChannel, m)
	case RegisterMeter:
		return appendSum(dst, kindRegisterMeter, m)
	case SettleBatch:
		return appendSum(dst, kindSettleBatch, m)
	}
	return nil, fmt.Errorf("chain: message of type %T", m)
}

// UnmarshalCBOR decodes what MarshalCBOR wrote.
func (ms *Msgs) UnmarshalCBOR(data []byte) error {
	var raws []codec.Raw
	if err := unmarshalList(data, &raws, "messages", MaxMessages); err != nil {
		return err
	}
	out := make(Msgs, len(raws))
	for i, raw := range raws {
		m, err := decodeMsg(raw)
		if err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		out[i] = m
	}
	*ms = out
	return nil
}

func decodeMsg(data []byte) (Msg, error) {
	head, err := decodeHead(data, "message")
	if err != nil {
		return nil, err
	}
	switch head.Kind {
	case kindTransfer:
		return decodeAs[Transfer, Msg](head.Body)
	case kindRegisterProvider:
		return decodeAs[RegisterProvider, Msg](head.Body)
	case kindUnbondProvider:
		return decodeAs[UnbondProvider, Msg](head.Body)
	case kindRegisterCluster:
		return decodeAs[RegisterCluster, Msg](head.Body)
	case kindUnbondCluster:
		return decodeAs[UnbondCluster, Msg](head.Body)
	case kindDeposit:
		return decodeAs[Deposit, Msg](head.Body)
	case kindWithdraw:
		return decodeAs[Withdraw, Msg](head.Body)
	case kindSettle:
		return decodeAs[Settle, Msg](head.Body)
	case kindBond:
		return decodeAs[Bond, Msg](head.Body)
	case kindDelegate:
		return decodeAs[Delegate, Msg](head.Body)
	case kindUndelegate:
		return decodeAs[Undelegate, Msg](head.Body)
	case kindRedelegate:
		return decodeAs[Redelegate, Msg](head.Body)
	case kindWithdrawRewards:
		return decodeAs[WithdrawRewards, Msg](head.Body)
	case kindSetCommission:
		return decodeAs[SetCommission, Msg](head.Body)
	case kindRotateKeys:
		return decodeAs[RotateKeys, Msg](head.Body)
	case kindUnjail:
		return decodeAs[Unjail, Msg](head.Body)
	case kindAffiliate:
		return decodeAs[Affiliate, Msg](head.Body)
	case kindUnaffiliate:
		return decodeAs[Unaffiliate, Msg](head.Body)
	case kindReportEvidence:
		return decodeAs[ReportEvidence, Msg](head.Body)
	case kindOpenLease:
		return decodeAs[OpenLease, Msg](head.Body)
	case kindResizeLease:
		return decodeAs[ResizeLease, Msg](head.Body)
	case kindExtendLease:
		return decodeAs[ExtendLease, Msg](head.Body)
	case kindCloseLease:
		return decodeAs[CloseLease, Msg](head.Body)
	case kindCollectLease:
		return decodeAs[CollectLease, Msg](head.Body)
	case kindOpenChannel:
		return decodeAs[OpenChannel, Msg](head.Body)
	case kindFundChannel:
		return decodeAs[FundChannel, Msg](head.Body)
	case kindRedeemVoucher:
		return decodeAs[RedeemVoucher, Msg](head.Body)
	case kindCloseChannel:
		return decodeAs[CloseChannel, Msg](head.Body)
	case kindRegisterMeter:
		return decodeAs[RegisterMeter, Msg](head.Body)
	case kindSettleBatch:
		return decodeAs[SettleBatch, Msg](head.Body)
	}
	return nil, fmt.Errorf("chain: message kind %d is unknown", head.Kind)
}

// KindOf names a message for people and metrics, and is its name in JSON.
func KindOf(m Msg) string {
	switch m.(type) {
	case Transfer:
		return "transfer"
	case RegisterProvider:
		return "register_provider"
	case UnbondProvider:
		return "unbond_provider"
	case RegisterCluster:
		return "register_cluster"
	case UnbondCluster:
		return "unbond_cluster"
	case Deposit:
		return "deposit"
	case Withdraw:
		return "withdraw"
	case Settle:
		return "settle"
	case Bond:
		return "bond"
	case Delegate:
		return "delegate"
	case Undelegate:
		return "undelegate"
	case Redelegate:
		return "redelegate"
	case WithdrawRewards:
		return "withdraw_rewards"
	case SetCommission:
		return "set_commission"
	case RotateKeys:
		return "rotate_keys"
	case Unjail:
		return "unjail"
	case Affiliate:
		return "affiliate"
	case Unaffiliate:
		return "unaffiliate"
	case ReportEvidence:
		return "report_evidence"
	case OpenLease:
		return "open_lease"
	case ResizeLease:
		return "resize_lease"
	case ExtendLease:
		return "extend_lease"
	case CloseLease:
		return "close_lease"
	case CollectLease:
		return "collect_lease"
	case OpenChannel:
		return "open_channel"
	case FundChannel:
		return "fund_channel"
	case RedeemVoucher:
		return "redeem_voucher"
	case CloseChannel:
		return "close_channel"
	case RegisterMeter:
		return "register_meter"
	case SettleBatch:
		return "settle_batch"
	}
	panic(fmt.Sprintf("chain: message of type %T", m))
}

// PossessionPayload is what a node's or cluster's key signs, under
// DomainPossession, to let owner register it on a chain.
func PossessionPayload(id ChainID, owner Address) []byte {
	return codec.Marshal(struct {
		_       struct{} `cbor:",toarray"`
		ChainID ChainID
		Owner   Address
	}{ChainID: id, Owner: owner})
}
