package chain

import (
	"encoding/json"
	"fmt"
	"reflect"

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

// ProviderUnbonded says that a provider node is gone; its bond matures, but for what was owed
// of it.
type ProviderUnbonded struct {
	_       struct{}         `cbor:",toarray"`
	Node    crypto.PublicKey `json:"node_id"`
	Owner   Address          `json:"owner"`
	Bond    Amount           `json:"bond_nhyper"`
	Matures TimeMs           `json:"matures_ms"`
	Burned  Amount           `json:"burned_nhyper"`
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
// Paid + Burned + Treasury + ClusterFee. The order's priority fee is PriorityBurned + PriorityFee of that.
type ClaimSettled struct {
	_              struct{}              `cbor:",toarray"`
	Order          crypto.Digest         `json:"order"`
	Node           crypto.PublicKey      `json:"node_id"`
	Sequence       Number                `json:"sequence"`
	Consumer       Address               `json:"consumer"`
	Provider       Address               `json:"provider"`
	Cluster        crypto.PublicKey      `json:"cluster"`
	Policy         string                `json:"policy"`
	Result         crypto.Digest         `json:"result"`
	Exit           ExitStatus            `json:"exit"`
	Cost           Amount                `json:"cost_nhyper"`
	Paid           Amount                `json:"paid_nhyper"`
	Burned         Amount                `json:"burned_nhyper"`
	Treasury       Amount                `json:"treasury_nhyper"`
	ClusterFee     Amount                `json:"cluster_fee_nhyper"`
	PriorityBurned Amount                `json:"priority_burned_nhyper"` // of Burned
	PriorityFee    Amount                `json:"priority_fee_nhyper"`    // of ClusterFee
	ProofVerified  bool                  `json:"proof_verified"`
	Records        []ResourceTransaction `json:"records"`
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
	kindBondAdded
	kindBondSlashed
	kindPanelDrawn
	kindPanelRevealing
	kindPanelDecided
	kindRunBegun
	kindRunsDrawn
	kindRunCommitted
	kindRunsRevealing
	kindRunEnded
)

// Kinds of private settlement: between the last above and these, others have theirs.
const (
	kindMeterRegistered uint8 = iota + 47
	kindBatchSettled
)

// Kinds of what is promised of leases.
const (
	kindPeersDrawn uint8 = iota + 49
	kindServiceMissed
	kindLeaseLeft
)

const (
	kindServiceClosed = 63
	kindTermsClosed   = 72
	kindJurorsPaid    = 74
)

// eventForms is how each alternative of Event is named and read, by its kind; kinds that
// are nobody's have no name.
var eventForms = [...]eventForm{
	kindTransferred:        eventFormOf[Transferred]("transferred"),
	kindProviderRegistered: eventFormOf[ProviderRegistered]("provider_registered"),
	kindProviderUnbonded:   eventFormOf[ProviderUnbonded]("provider_unbonded"),
	kindClusterRegistered:  eventFormOf[ClusterRegistered]("cluster_registered"),
	kindClusterUnbonded:    eventFormOf[ClusterUnbonded]("cluster_unbonded"),
	kindDeposited:          eventFormOf[Deposited]("deposited"),
	kindWithdrawalStarted:  eventFormOf[WithdrawalStarted]("withdrawal_started"),
	kindMatured:            eventFormOf[Matured]("matured"),
	kindClaimRecorded:      eventFormOf[ClaimRecorded]("claim_recorded"),
	kindClaimSettled:       eventFormOf[ClaimSettled]("claim_settled"),
	kindClaimRejected:      eventFormOf[ClaimRejected]("claim_rejected"),
	kindValidatorBonded:    eventFormOf[ValidatorBonded]("validator_bonded"),
	kindDelegated:          eventFormOf[Delegated]("delegated"),
	kindUndelegated:        eventFormOf[Undelegated]("undelegated"),
	kindRedelegated:        eventFormOf[Redelegated]("redelegated"),
	kindRewardsWithdrawn:   eventFormOf[RewardsWithdrawn]("rewards_withdrawn"),
	kindCommissionSet:      eventFormOf[CommissionSet]("commission_set"),
	kindKeysRotated:        eventFormOf[KeysRotated]("keys_rotated"),
	kindValidatorUnjailed:  eventFormOf[ValidatorUnjailed]("validator_unjailed"),
	kindNodeAffiliated:     eventFormOf[NodeAffiliated]("node_affiliated"),
	kindNodeUnaffiliated:   eventFormOf[NodeUnaffiliated]("node_unaffiliated"),
	kindValidatorSlashed:   eventFormOf[ValidatorSlashed]("validator_slashed"),
	kindValidatorJailed:    eventFormOf[ValidatorJailed]("validator_jailed"),
	kindEpochClosed:        eventFormOf[EpochClosed]("epoch_closed"),
	kindLeaseOpened:        eventFormOf[LeaseOpened]("lease_opened"),
	kindLeaseChanged:       eventFormOf[LeaseChanged]("lease_changed"),
	kindLeasePaid:          eventFormOf[LeasePaid]("lease_paid"),
	kindLeaseEnded:         eventFormOf[LeaseEnded]("lease_ended"),
	kindChannelChanged:     eventFormOf[ChannelChanged]("channel_changed"),
	kindVoucherRedeemed:    eventFormOf[VoucherRedeemed]("voucher_redeemed"),
	kindChannelClosed:      eventFormOf[ChannelClosed]("channel_closed"),
	kindBondAdded:          eventFormOf[BondAdded]("bond_added"),
	kindBondSlashed:        eventFormOf[BondSlashed]("bond_slashed"),
	kindPanelDrawn:         eventFormOf[PanelDrawn]("panel_drawn"),
	kindPanelRevealing:     eventFormOf[PanelRevealing]("panel_revealing"),
	kindPanelDecided:       eventFormOf[PanelDecided]("panel_decided"),
	kindClaimPending:       eventFormOf[ClaimPending]("claim_pending"),
	kindClaimChallenged:    eventFormOf[ClaimChallenged]("claim_challenged"),
	kindClaimJudged:        eventFormOf[ClaimJudged]("claim_judged"),
	kindClaimClosed:        eventFormOf[ClaimClosed]("claim_closed"),
	kindRunBegun:           eventFormOf[RunBegun]("run_begun"),
	kindRunsDrawn:          eventFormOf[RunsDrawn]("runs_drawn"),
	kindRunCommitted:       eventFormOf[RunCommitted]("run_committed"),
	kindRunsRevealing:      eventFormOf[RunsRevealing]("runs_revealing"),
	kindRunEnded:           eventFormOf[RunEnded]("run_ended"),
	kindJurorsPaid:         eventFormOf[JurorsPaid]("jurors_paid"),
	kindMeterRegistered:    eventFormOf[MeterRegistered]("meter_registered"),
	kindBatchSettled:       eventFormOf[BatchSettled]("batch_settled"),
	kindAcceptanceBroken:   eventFormOf[AcceptanceBroken]("acceptance_broken"),
	kindClaimLost:          eventFormOf[ClaimLost]("claim_lost"),
	kindBondForfeited:      eventFormOf[BondForfeited]("bond_forfeited"),
	kindBreachPaid:         eventFormOf[BreachPaid]("breach_paid"),
	kindBreachClosed:       eventFormOf[BreachClosed]("breach_closed"),
	kindPeersDrawn:         eventFormOf[PeersDrawn]("peers_drawn"),
	kindServiceMissed:      eventFormOf[ServiceMissed]("service_missed"),
	kindLeaseLeft:          eventFormOf[LeaseLeft]("lease_left"),
	kindServiceClosed:      eventFormOf[ServiceClosed]("service_closed"),
	kindTermsClosed:        eventFormOf[TermsClosed]("terms_closed"),
	kindKeyRevealed:        eventFormOf[KeyRevealed]("key_revealed"),
	kindHardwareChallenged: eventFormOf[HardwareChallenged]("hardware_challenged"),
	kindHardwareJudged:     eventFormOf[HardwareJudged]("hardware_judged"),
	kindHardwareDeclared:   eventFormOf[HardwareDeclared]("hardware_declared"),
	kindHomeAnnounced:      eventFormOf[HomeAnnounced]("home_announced"),

	kindCodeUploaded:         eventFormOf[CodeUploaded]("code_uploaded"),
	kindCodeStored:           eventFormOf[CodeStored]("code_stored"),
	kindContractInstantiated: eventFormOf[ContractInstantiated]("contract_instantiated"),
	kindContractExecuted:     eventFormOf[ContractExecuted]("contract_executed"),
	kindContractMigrated:     eventFormOf[ContractMigrated]("contract_migrated"),
	kindContractAdminSet:     eventFormOf[ContractAdminSet]("contract_admin_set"),
	kindContractReplied:      eventFormOf[ContractReplied]("contract_replied"),
	kindContractEmitted:      eventFormOf[ContractEmitted]("contract_emitted"),
	kindContractStored:       eventFormOf[ContractStored]("contract_stored"),
	kindContractBurned:       eventFormOf[ContractBurned]("contract_burned"),
	kindCodePinned:           eventFormOf[CodePinned]("code_pinned"),
}

// eventForm is how an alternative of Event is named and read.
type eventForm struct {
	name     string
	of       reflect.Type
	decode   func(codec.Raw) (Event, error)
	fromJSON func([]byte) (Event, error)
}

func eventFormOf[T Event](name string) eventForm {
	return eventForm{name: name, of: reflect.TypeFor[T](), decode: decodeAs[T, Event], fromJSON: readJSON[T]}
}

// eventKinds is the number on the wire of each alternative of Event.
var eventKinds = func() map[reflect.Type]uint8 {
	kinds := make(map[reflect.Type]uint8, len(eventForms))
	for kind, form := range eventForms {
		if form.name != "" {
			kinds[form.of] = uint8(kind)
		}
	}
	return kinds
}()

// eventKind returns the number on the wire.
func eventKind(e Event) uint8 {
	kind, ok := eventKinds[reflect.TypeOf(e)]
	if !ok {
		panic(fmt.Sprintf("chain: event of type %T", e))
	}
	return kind
}

// EventName returns the event's name in JSON.
func EventName(e Event) string {
	return eventForms[eventKind(e)].name
}

// Events is a list of events. In JSON each is {"type": name, "data": {…}}.
type Events []Event

// MarshalCBOR encodes each event as [kind, body].
func (es Events) MarshalCBOR() ([]byte, error) { return es.append(nil) }

// byHand are events of which a block may have thousands: their bodies are written without
// reflection.
type byHand interface {
	append(dst []byte) []byte
}

func (es Events) append(dst []byte) ([]byte, error) {
	dst = codec.AppendArray(dst, len(es))
	for _, e := range es {
		if t, ok := e.(Transferred); ok { // most are, on a loaded chain
			dst = codec.AppendUint(codec.AppendArray(dst, 2), uint64(kindTransferred))
			dst = codec.AppendBytes(codec.AppendArray(dst, 3), t.From[:])
			dst = codec.AppendUint(codec.AppendBytes(dst, t.To[:]), t.Amount.nano)
			continue
		}
		if h, ok := e.(byHand); ok {
			dst = h.append(codec.AppendUint(codec.AppendArray(dst, 2), uint64(eventKind(e))))
			continue
		}
		var err error
		if dst, err = appendSum(dst, eventKind(e), e); err != nil {
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
	if int(head.Kind) >= len(eventForms) || eventForms[head.Kind].name == "" {
		return nil, fmt.Errorf("chain: event kind %d is unknown", head.Kind)
	}
	return eventForms[head.Kind].decode(head.Body)
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
	for _, form := range eventForms {
		if form.name == e.Type && e.Type != "" {
			return form.fromJSON(e.Data)
		}
	}
	return nil, fmt.Errorf("chain: event type %.40q is unknown", e.Type)
}

func readJSON[T Event](data []byte) (Event, error) {
	var value T
	if err := json.Unmarshal(data, &value); err != nil {
		return nil, err
	}
	return value, nil
}
