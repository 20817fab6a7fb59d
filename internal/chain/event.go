package chain

import (
	"encoding/json"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Event is one fact that execution made known; it is part of the receipt's
// digest. The sum is sealed: switch over it exhaustively, without default.
type Event interface{ sealedEvent() }

// Transferred says that To received Amount from From.
type Transferred struct {
	_      struct{} `cbor:",toarray"`
	From   Address  `json:"from"`
	To     Address  `json:"to"`
	Amount Amount   `json:"amount_nhyper"`
}

// ProviderRegistered says that a provider node has an owner and a bond.
type ProviderRegistered struct {
	_     struct{}         `cbor:",toarray"`
	Node  crypto.PublicKey `json:"node_id"`
	Owner Address          `json:"owner"`
	Bond  Amount           `json:"bond_nhyper"`
}

// ProviderUnbonded says that a provider node is gone; its bond matures.
type ProviderUnbonded struct {
	_       struct{}         `cbor:",toarray"`
	Node    crypto.PublicKey `json:"node_id"`
	Owner   Address          `json:"owner"`
	Bond    Amount           `json:"bond_nhyper"`
	Matures TimeMs           `json:"matures_ms"`
}

// ClusterRegistered says that a cluster has an operator and a bond.
type ClusterRegistered struct {
	_        struct{}         `cbor:",toarray"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Operator Address          `json:"operator"`
	Bond     Amount           `json:"bond_nhyper"`
}

// ClusterUnbonded says that a cluster is gone; its bond matures.
type ClusterUnbonded struct {
	_        struct{}         `cbor:",toarray"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Operator Address          `json:"operator"`
	Bond     Amount           `json:"bond_nhyper"`
	Matures  TimeMs           `json:"matures_ms"`
}

// Deposited says that a consumer's escrow at a cluster grew.
type Deposited struct {
	_        struct{}         `cbor:",toarray"`
	Consumer Address          `json:"consumer"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Amount   Amount           `json:"amount_nhyper"`
}

// WithdrawalStarted says that a part of an escrow left it and matures.
type WithdrawalStarted struct {
	_        struct{}         `cbor:",toarray"`
	Consumer Address          `json:"consumer"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Amount   Amount           `json:"amount_nhyper"`
	Matures  TimeMs           `json:"matures_ms"`
}

// Matured says that what was withdrawn or unbonded reached the account's
// balance.
type Matured struct {
	_      struct{} `cbor:",toarray"`
	To     Address  `json:"to"`
	Amount Amount   `json:"amount_nhyper"`
}

// ClaimRecorded says that a replica's claim is in order and waits for others to
// agree.
type ClaimRecorded struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Sequence Number           `json:"sequence"`
	Result   crypto.Digest    `json:"result"`
}

// ClaimSettled says that a claim was paid out of the consumer's escrow: Cost =
// Paid + Burned + Treasury + ClusterFee.
type ClaimSettled struct {
	_             struct{}              `cbor:",toarray"`
	Order         crypto.Digest         `json:"order"`
	Node          crypto.PublicKey      `json:"node_id"`
	Sequence      Number                `json:"sequence"`
	Consumer      Address               `json:"consumer"`
	Provider      Address               `json:"provider"`
	Cluster       crypto.PublicKey      `json:"cluster"`
	Policy        string                `json:"policy"`
	Result        crypto.Digest         `json:"result"`
	Exit          ExitStatus            `json:"exit"`
	Cost          Amount                `json:"cost_nhyper"`
	Paid          Amount                `json:"paid_nhyper"`
	Burned        Amount                `json:"burned_nhyper"`
	Treasury      Amount                `json:"treasury_nhyper"`
	ClusterFee    Amount                `json:"cluster_fee_nhyper"`
	ProofVerified bool                  `json:"proof_verified"`
	Records       []ResourceTransaction `json:"records"`
}

// ClaimRejected says that a claim was refused; the rest of its transaction stands.
type ClaimRejected struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Sequence Number           `json:"sequence"`
	Reason   string           `json:"reason"`
}

func (Transferred) sealedEvent()        {}
func (ProviderRegistered) sealedEvent() {}
func (ProviderUnbonded) sealedEvent()   {}
func (ClusterRegistered) sealedEvent()  {}
func (ClusterUnbonded) sealedEvent()    {}
func (Deposited) sealedEvent()          {}
func (WithdrawalStarted) sealedEvent()  {}
func (Matured) sealedEvent()            {}
func (ClaimRecorded) sealedEvent()      {}
func (ClaimSettled) sealedEvent()       {}
func (ClaimRejected) sealedEvent()      {}

const (
	kindTransferred uint8 = iota + 1
	kindProviderRegistered
	kindProviderUnbonded
	kindClusterRegistered
	kindClusterUnbonded
	kindDeposited
	kindWithdrawalStarted
	kindMatured
	kindClaimRecorded
	kindClaimSettled
	kindClaimRejected
	kindValidatorBonded
	kindDelegated
	kindUndelegated
	kindRedelegated
	kindRewardsWithdrawn
	kindCommissionSet
	kindKeysRotated
	kindValidatorUnjailed
	kindNodeAffiliated
	kindNodeUnaffiliated
	kindValidatorSlashed
	kindValidatorJailed
	kindEpochClosed
	kindLeaseOpened
	kindLeaseChanged
	kindLeasePaid
	kindLeaseEnded
	kindChannelChanged
	kindVoucherRedeemed
	kindChannelClosed
)

// Kinds of private settlement: between the last above and these, others have theirs.
const (
	kindMeterRegistered uint8 = iota + 47
	kindBatchSettled
)

// eventKind returns the number on the wire and the name in JSON.
func eventKind(e Event) (uint8, string) {
	switch e.(type) {
	case Transferred:
		return kindTransferred, "transferred"
	case ProviderRegistered:
		return kindProviderRegistered, "provider_registered"
	case ProviderUnbonded:
		return kindProviderUnbonded, "provider_unbonded"
	case ClusterRegistered:
		return kindClusterRegistered, "cluster_registered"
	case ClusterUnbonded:
		return kindClusterUnbonded, "cluster_unbonded"
	case Deposited:
		return kindDeposited, "deposited"
	case WithdrawalStarted:
		return kindWithdrawalStarted, "withdrawal_started"
	case Matured:
		return kindMatured, "matured"
	case ClaimRecorded:
		return kindClaimRecorded, "claim_recorded"
	case ClaimSettled:
		return kindClaimSettled, "claim_settled"
	case ClaimRejected:
		return kindClaimRejected, "claim_rejected"
	case ValidatorBonded:
		return kindValidatorBonded, "validator_bonded"
	case Delegated:
		return kindDelegated, "delegated"
	case Undelegated:
		return kindUndelegated, "undelegated"
	case Redelegated:
		return kindRedelegated, "redelegated"
	case RewardsWithdrawn:
		return kindRewardsWithdrawn, "rewards_withdrawn"
	case CommissionSet:
		return kindCommissionSet, "commission_set"
	case KeysRotated:
		return kindKeysRotated, "keys_rotated"
	case ValidatorUnjailed:
		return kindValidatorUnjailed, "validator_unjailed"
	case NodeAffiliated:
		return kindNodeAffiliated, "node_affiliated"
	case NodeUnaffiliated:
		return kindNodeUnaffiliated, "node_unaffiliated"
	case ValidatorSlashed:
		return kindValidatorSlashed, "validator_slashed"
	case ValidatorJailed:
		return kindValidatorJailed, "validator_jailed"
	case EpochClosed:
		return kindEpochClosed, "epoch_closed"
	case LeaseOpened:
		return kindLeaseOpened, "lease_opened"
	case LeaseChanged:
		return kindLeaseChanged, "lease_changed"
	case LeasePaid:
		return kindLeasePaid, "lease_paid"
	case LeaseEnded:
		return kindLeaseEnded, "lease_ended"
	case ChannelChanged:
		return kindChannelChanged, "channel_changed"
	case VoucherRedeemed:
		return kindVoucherRedeemed, "voucher_redeemed"
	case ChannelClosed:
		return kindChannelClosed, "channel_closed"
	case MeterRegistered:
		return kindMeterRegistered, "meter_registered"
	case BatchSettled:
		return kindBatchSettled, "batch_settled"
	}
	panic(fmt.Sprintf("chain: event of type %T", e))
}

// EventName returns the event's name in JSON.
func EventName(e Event) string {
	_, name := eventKind(e)
	return name
}

// Events is a list of events. In JSON each is {"type": name, "data": {…}}.
type Events []Event

// MarshalCBOR encodes each event as [kind, body].
func (es Events) MarshalCBOR() ([]byte, error) { return es.append(nil) }

func (es Events) append(dst []byte) ([]byte, error) {
	dst = codec.AppendArray(dst, len(es))
	for _, e := range es {
		if t, ok := e.(Transferred); ok { // most are, on a loaded chain
			dst = codec.AppendUint(codec.AppendArray(dst, 2), uint64(kindTransferred))
			dst = codec.AppendBytes(codec.AppendArray(dst, 3), t.From[:])
			dst = codec.AppendUint(codec.AppendBytes(dst, t.To[:]), t.Amount.nano)
			continue
		}
		kind, _ := eventKind(e)
		var err error
		if dst, err = appendSum(dst, kind, e); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

// UnmarshalCBOR decodes what MarshalCBOR wrote.
func (es *Events) UnmarshalCBOR(data []byte) error {
	var raws []codec.Raw
	if err := codec.UnmarshalPart(data, &raws); err != nil {
		return err
	}
	out := make(Events, len(raws))
	for i, raw := range raws {
		head, err := decodeHead(raw, "event")
		if err != nil {
			return err
		}
		if out[i], err = decodeEvent(head); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
	}
	*es = out
	return nil
}

func decodeEvent(head sumHead) (Event, error) {
	switch head.Kind {
	case kindTransferred:
		return decodeAs[Transferred, Event](head.Body)
	case kindProviderRegistered:
		return decodeAs[ProviderRegistered, Event](head.Body)
	case kindProviderUnbonded:
		return decodeAs[ProviderUnbonded, Event](head.Body)
	case kindClusterRegistered:
		return decodeAs[ClusterRegistered, Event](head.Body)
	case kindClusterUnbonded:
		return decodeAs[ClusterUnbonded, Event](head.Body)
	case kindDeposited:
		return decodeAs[Deposited, Event](head.Body)
	case kindWithdrawalStarted:
		return decodeAs[WithdrawalStarted, Event](head.Body)
	case kindMatured:
		return decodeAs[Matured, Event](head.Body)
	case kindClaimRecorded:
		return decodeAs[ClaimRecorded, Event](head.Body)
	case kindClaimSettled:
		return decodeAs[ClaimSettled, Event](head.Body)
	case kindClaimRejected:
		return decodeAs[ClaimRejected, Event](head.Body)
	case kindValidatorBonded:
		return decodeAs[ValidatorBonded, Event](head.Body)
	case kindDelegated:
		return decodeAs[Delegated, Event](head.Body)
	case kindUndelegated:
		return decodeAs[Undelegated, Event](head.Body)
	case kindRedelegated:
		return decodeAs[Redelegated, Event](head.Body)
	case kindRewardsWithdrawn:
		return decodeAs[RewardsWithdrawn, Event](head.Body)
	case kindCommissionSet:
		return decodeAs[CommissionSet, Event](head.Body)
	case kindKeysRotated:
		return decodeAs[KeysRotated, Event](head.Body)
	case kindValidatorUnjailed:
		return decodeAs[ValidatorUnjailed, Event](head.Body)
	case kindNodeAffiliated:
		return decodeAs[NodeAffiliated, Event](head.Body)
	case kindNodeUnaffiliated:
		return decodeAs[NodeUnaffiliated, Event](head.Body)
	case kindValidatorSlashed:
		return decodeAs[ValidatorSlashed, Event](head.Body)
	case kindValidatorJailed:
		return decodeAs[ValidatorJailed, Event](head.Body)
	case kindEpochClosed:
		return decodeAs[EpochClosed, Event](head.Body)
	case kindLeaseOpened:
		return decodeAs[LeaseOpened, Event](head.Body)
	case kindLeaseChanged:
		return decodeAs[LeaseChanged, Event](head.Body)
	case kindLeasePaid:
		return decodeAs[LeasePaid, Event](head.Body)
	case kindLeaseEnded:
		return decodeAs[LeaseEnded, Event](head.Body)
	case kindChannelChanged:
		return decodeAs[ChannelChanged, Event](head.Body)
	case kindVoucherRedeemed:
		return decodeAs[VoucherRedeemed, Event](head.Body)
	case kindChannelClosed:
		return decodeAs[ChannelClosed, Event](head.Body)
	case kindMeterRegistered:
		return decodeAs[MeterRegistered, Event](head.Body)
	case kindBatchSettled:
		return decodeAs[BatchSettled, Event](head.Body)
	}
	return nil, fmt.Errorf("chain: event kind %d is unknown", head.Kind)
}

type eventJSON struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// MarshalJSON writes the list with each event's name.
func (es Events) MarshalJSON() ([]byte, error) {
	out := make([]eventJSON, len(es))
	for i, e := range es {
		data, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		out[i] = eventJSON{Type: EventName(e), Data: data}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (es *Events) UnmarshalJSON(data []byte) error {
	var list []eventJSON
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	out := make(Events, len(list))
	for i, e := range list {
		event, err := eventFromJSON(e)
		if err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		out[i] = event
	}
	*es = out
	return nil
}

func eventFromJSON(e eventJSON) (Event, error) {
	readers := map[string]func([]byte) (Event, error){
		"transferred":         readJSON[Transferred],
		"provider_registered": readJSON[ProviderRegistered],
		"provider_unbonded":   readJSON[ProviderUnbonded],
		"cluster_registered":  readJSON[ClusterRegistered],
		"cluster_unbonded":    readJSON[ClusterUnbonded],
		"deposited":           readJSON[Deposited],
		"withdrawal_started":  readJSON[WithdrawalStarted],
		"matured":             readJSON[Matured],
		"claim_recorded":      readJSON[ClaimRecorded],
		"claim_settled":       readJSON[ClaimSettled],
		"claim_rejected":      readJSON[ClaimRejected],
		"validator_bonded":    readJSON[ValidatorBonded],
		"delegated":           readJSON[Delegated],
		"undelegated":         readJSON[Undelegated],
		"redelegated":         readJSON[Redelegated],
		"rewards_withdrawn":   readJSON[RewardsWithdrawn],
		"commission_set":      readJSON[CommissionSet],
		"keys_rotated":        readJSON[KeysRotated],
		"validator_unjailed":  readJSON[ValidatorUnjailed],
		"node_affiliated":     readJSON[NodeAffiliated],
		"node_unaffiliated":   readJSON[NodeUnaffiliated],
		"validator_slashed":   readJSON[ValidatorSlashed],
		"validator_jailed":    readJSON[ValidatorJailed],
		"epoch_closed":        readJSON[EpochClosed],
		"lease_opened":        readJSON[LeaseOpened],
		"lease_changed":       readJSON[LeaseChanged],
		"lease_paid":          readJSON[LeasePaid],
		"lease_ended":         readJSON[LeaseEnded],
		"channel_changed":     readJSON[ChannelChanged],
		"voucher_redeemed":    readJSON[VoucherRedeemed],
		"channel_closed":      readJSON[ChannelClosed],
		"meter_registered":    readJSON[MeterRegistered],
		"batch_settled":       readJSON[BatchSettled],
	}
	read, ok := readers[e.Type]
	if !ok {
		return nil, fmt.Errorf("chain: event type %.40q is unknown", e.Type)
	}
	return read(e.Data)
}

func readJSON[T Event](data []byte) (Event, error) {
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	return value, nil
}
