package chain

import (
	"fmt"
	"reflect"

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
	kindAddBond
	kindCommitVote
	kindRevealVote
	kindBeginRun
	kindCommitRun
	kindRevealRun
	kindCollectRun
)

// Kinds of private settlement: between the last above and these, others have theirs.
const (
	kindRegisterMeter uint8 = iota + 39
	kindSettleBatch
)

// Kinds of what is promised of leases.
const (
	kindReportMiss uint8 = iota + 41
	kindDrawPeers
	kindLeaveLease
	kindAccusePeer
)

// msgForms is how each alternative of Msg is named and decoded, by its kind; kinds that
// are nobody's have no name.
var msgForms = [...]msgForm{
	kindTransfer:         msgFormOf[Transfer]("transfer"),
	kindRegisterProvider: msgFormOf[RegisterProvider]("register_provider"),
	kindUnbondProvider:   msgFormOf[UnbondProvider]("unbond_provider"),
	kindRegisterCluster:  msgFormOf[RegisterCluster]("register_cluster"),
	kindUnbondCluster:    msgFormOf[UnbondCluster]("unbond_cluster"),
	kindDeposit:          msgFormOf[Deposit]("deposit"),
	kindWithdraw:         msgFormOf[Withdraw]("withdraw"),
	kindSettle:           msgFormOf[Settle]("settle"),
	kindBond:             msgFormOf[Bond]("bond"),
	kindDelegate:         msgFormOf[Delegate]("delegate"),
	kindUndelegate:       msgFormOf[Undelegate]("undelegate"),
	kindRedelegate:       msgFormOf[Redelegate]("redelegate"),
	kindWithdrawRewards:  msgFormOf[WithdrawRewards]("withdraw_rewards"),
	kindSetCommission:    msgFormOf[SetCommission]("set_commission"),
	kindRotateKeys:       msgFormOf[RotateKeys]("rotate_keys"),
	kindUnjail:           msgFormOf[Unjail]("unjail"),
	kindAffiliate:        msgFormOf[Affiliate]("affiliate"),
	kindUnaffiliate:      msgFormOf[Unaffiliate]("unaffiliate"),
	kindReportEvidence:   msgFormOf[ReportEvidence]("report_evidence"),
	kindOpenLease:        msgFormOf[OpenLease]("open_lease"),
	kindResizeLease:      msgFormOf[ResizeLease]("resize_lease"),
	kindExtendLease:      msgFormOf[ExtendLease]("extend_lease"),
	kindCloseLease:       msgFormOf[CloseLease]("close_lease"),
	kindCollectLease:     msgFormOf[CollectLease]("collect_lease"),
	kindOpenChannel:      msgFormOf[OpenChannel]("open_channel"),
	kindFundChannel:      msgFormOf[FundChannel]("fund_channel"),
	kindRedeemVoucher:    msgFormOf[RedeemVoucher]("redeem_voucher"),
	kindCloseChannel:     msgFormOf[CloseChannel]("close_channel"),
	kindAddBond:          msgFormOf[AddBond]("add_bond"),
	kindCommitVote:       msgFormOf[CommitVote]("commit_vote"),
	kindRevealVote:       msgFormOf[RevealVote]("reveal_vote"),
	kindChallenge:        msgFormOf[Challenge]("challenge"),
	kindAppeal:           msgFormOf[Appeal]("appeal"),
	kindBeginRun:         msgFormOf[BeginRun]("begin_run"),
	kindCommitRun:        msgFormOf[CommitRun]("commit_run"),
	kindRevealRun:        msgFormOf[RevealRun]("reveal_run"),
	kindCollectRun:       msgFormOf[CollectRun]("collect_run"),
	kindRegisterMeter:    msgFormOf[RegisterMeter]("register_meter"),
	kindSettleBatch:      msgFormOf[SettleBatch]("settle_batch"),
	kindReportAcceptance: msgFormOf[ReportAcceptance]("report_acceptance"),
	kindReportMiss:       msgFormOf[ReportMiss]("report_miss"),
	kindDrawPeers:        msgFormOf[DrawPeers]("draw_peers"),
	kindLeaveLease:       msgFormOf[LeaveLease]("leave_lease"),
	kindAccusePeer:       msgFormOf[AccusePeer]("accuse_peer"),
	kindReportHardware:   msgFormOf[ReportHardware]("report_hardware"),
	kindDeclareHardware:  msgFormOf[DeclareHardware]("declare_hardware"),
	kindAnnounceHome:     msgFormOf[AnnounceHome]("announce_home"),

	kindStoreCode:           msgFormOf[StoreCode]("store_code"),
	kindInstantiateContract: msgFormOf[InstantiateContract]("instantiate_contract"),
	kindExecuteContract:     msgFormOf[ExecuteContract]("execute_contract"),
	kindMigrateContract:     msgFormOf[MigrateContract]("migrate_contract"),
	kindSetContractAdmin:    msgFormOf[SetContractAdmin]("set_contract_admin"),
	kindPinCode:             msgFormOf[PinCode]("pin_code"),
}

// msgForm is how an alternative of Msg is named and decoded.
type msgForm struct {
	name   string
	of     reflect.Type
	decode func(codec.Raw) (Msg, error)
}

func msgFormOf[T Msg](name string) msgForm {
	return msgForm{name: name, of: reflect.TypeFor[T](), decode: decodeAs[T, Msg]}
}

// msgKinds is the number on the wire of each alternative of Msg.
var msgKinds = func() map[reflect.Type]uint8 {
	kinds := make(map[reflect.Type]uint8, len(msgForms))
	for kind, form := range msgForms {
		if form.name != "" {
			kinds[form.of] = uint8(kind)
		}
	}
	return kinds
}()

// Msgs is the list of messages of a transaction.
type Msgs []Msg

// MarshalCBOR encodes each message as [kind, body].
func (ms Msgs) MarshalCBOR() ([]byte, error) {
	out := codec.AppendArray(nil, len(ms))
	for _, m := range ms {
		kind, ok := msgKinds[reflect.TypeOf(m)]
		if !ok {
			return nil, fmt.Errorf("chain: message of type %T", m)
		}
		var err error
		if out, err = appendSum(out, kind, m); err != nil {
			return nil, err
		}
	}
	return out, nil
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
	if int(head.Kind) >= len(msgForms) || msgForms[head.Kind].name == "" {
		return nil, fmt.Errorf("chain: message kind %d is unknown", head.Kind)
	}
	return msgForms[head.Kind].decode(head.Body)
}

// KindOf names a message for people and metrics, and is its name in JSON.
func KindOf(m Msg) string {
	kind, ok := msgKinds[reflect.TypeOf(m)]
	if !ok {
		panic(fmt.Sprintf("chain: message of type %T", m))
	}
	return msgForms[kind].name
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
