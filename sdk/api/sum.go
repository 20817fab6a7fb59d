package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// A sum is {"type": name, "data": {…}} in JSON.

// Case is one alternative of a sum: its name, and the type of its data.
type Case struct {
	Name string
	Type reflect.Type
}

// Shape describes a type whose JSON its Go fields do not show. Exactly one of
// Integer and Cases is set.
type Shape struct {
	Type    reflect.Type
	Integer bool   // an unsigned integer, or its decimal string
	Cases   []Case // a sum
	List    bool   // a list of the sum
}

// Shapes lists every such type that the schemas use, for whoever makes an
// OpenAPI document of them.
func Shapes() []Shape {
	integers := []reflect.Type{
		reflect.TypeFor[Uint64](), reflect.TypeFor[chain.Number](), reflect.TypeFor[chain.Amount](), reflect.TypeFor[chain.Gas](), reflect.TypeFor[chain.GasPrice](),
	}
	out := make([]Shape, 0, len(integers)+4)
	for _, t := range integers {
		out = append(out, Shape{Type: t, Integer: true})
	}
	return append(out,
		Shape{Type: reflect.TypeFor[Message](), Cases: messageCases()},
		Shape{Type: reflect.TypeFor[Policy](), Cases: policyCases()},
		Shape{Type: reflect.TypeFor[Work](), Cases: workCases()},
		Shape{Type: reflect.TypeFor[chain.Events](), Cases: eventCases(), List: true},
	)
}

func caseOf[T any](name string) Case { return Case{Name: name, Type: reflect.TypeFor[T]()} }

func eventCases() []Case {
	events := []chain.Event{
		chain.Transferred{}, chain.ProviderRegistered{}, chain.ProviderUnbonded{}, chain.ClusterRegistered{}, chain.ClusterUnbonded{},
		chain.Deposited{}, chain.WithdrawalStarted{}, chain.Matured{}, chain.ClaimRecorded{}, chain.ClaimSettled{}, chain.ClaimRejected{},
		chain.ValidatorBonded{}, chain.Delegated{}, chain.Undelegated{}, chain.Redelegated{}, chain.RewardsWithdrawn{}, chain.CommissionSet{}, chain.KeysRotated{},
		chain.ValidatorUnjailed{}, chain.NodeAffiliated{}, chain.NodeUnaffiliated{}, chain.ValidatorSlashed{}, chain.ValidatorJailed{}, chain.EpochClosed{},
		chain.LeaseOpened{}, chain.LeaseChanged{}, chain.LeasePaid{}, chain.LeaseEnded{},
		chain.ChannelChanged{}, chain.VoucherRedeemed{}, chain.ChannelClosed{},
		chain.MeterRegistered{}, chain.BatchSettled{}, chain.AcceptanceBroken{}, chain.BondForfeited{}, chain.ClaimLost{}, chain.BreachPaid{}, chain.BreachClosed{},
		chain.BondAdded{}, chain.BondSlashed{}, chain.PanelDrawn{}, chain.PanelRevealing{}, chain.PanelDecided{},
		chain.ClaimPending{}, chain.ClaimChallenged{}, chain.ClaimJudged{}, chain.ClaimClosed{}, chain.KeyRevealed{},
		chain.RunBegun{}, chain.RunsDrawn{}, chain.RunCommitted{}, chain.RunsRevealing{}, chain.RunEnded{}, chain.JurorsPaid{},
		chain.PeersDrawn{}, chain.ServiceMissed{}, chain.LeaseLeft{}, chain.ServiceClosed{}, chain.TermsClosed{},
		chain.HardwareChallenged{}, chain.HardwareJudged{}, chain.HardwareDeclared{}, chain.HomeAnnounced{},
		chain.CodeUploaded{}, chain.CodeStored{}, chain.ContractInstantiated{}, chain.ContractExecuted{}, chain.ContractMigrated{}, chain.ContractAdminSet{},
		chain.ContractReplied{}, chain.ContractEmitted{}, chain.ContractStored{}, chain.ContractBurned{}, chain.CodePinned{},
	}
	out := make([]Case, len(events))
	for i, e := range events {
		out[i] = Case{Name: chain.EventName(e), Type: reflect.TypeOf(e)}
	}
	return out
}

type tagged struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

func marshalTagged(name string, data any) ([]byte, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	return json.Marshal(tagged{Type: name, Data: raw})
}

// dataOf decodes the data of a sum's alternative. Its errors are *FieldError.
func dataOf[T any](t tagged) (T, error) {
	var value T
	if len(t.Data) == 0 {
		t.Data = json.RawMessage("{}")
	}
	if err := DecodeJSON(t.Data, &value); err != nil {
		return value, within("data", err)
	}
	return value, nil
}

// within places an error of DecodeJSON at prefix.
func within(prefix string, err error) error {
	return fieldError(err).Within(prefix)
}

func fieldError(err error) *FieldError {
	if inner, ok := errors.AsType[*FieldError](err); ok {
		return inner
	}
	return &FieldError{Message: err.Error()}
}

// Message is one message of a transaction: {"type": "transfer", "data": {…}}.
type Message struct{ chain.Msg }

// Transfer is the data of "transfer".
type Transfer struct {
	To     chain.Address `json:"to" doc:"who receives"`
	Amount chain.Amount  `json:"amount_nhyper" doc:"in nHYPER"`
}

// RegisterProvider is the data of "register_provider".
type RegisterProvider struct {
	Node       crypto.PublicKey `json:"node_id" doc:"the node's Ed25519 key"`
	Possession crypto.Signature `json:"possession" doc:"by the node's key, over the chain id and the owner"`
	Bond       chain.Amount     `json:"bond_nhyper"`
	Region     string           `json:"region" maxLength:"32"`
	Millicores Uint64           `json:"millicores" doc:"declared capacity"`
	MemoryMiB  Uint64           `json:"memory_mib" doc:"declared capacity"`
}

// UnbondProvider is the data of "unbond_provider".
type UnbondProvider struct {
	Node crypto.PublicKey `json:"node_id"`
}

// RegisterCluster is the data of "register_cluster".
type RegisterCluster struct {
	Cluster    crypto.PublicKey `json:"cluster" doc:"the cluster's Ed25519 key"`
	Possession crypto.Signature `json:"possession" doc:"by the cluster's key, over the chain id and the operator"`
	Bond       chain.Amount     `json:"bond_nhyper"`
	FeeBps     uint16           `json:"fee_bps" maximum:"2000" doc:"of a claim's cost, in 1/10,000"`
	Endpoints  []string         `json:"endpoints" maxItems:"8" maxLength:"128"`
}

// UnbondCluster is the data of "unbond_cluster".
type UnbondCluster struct {
	Cluster crypto.PublicKey `json:"cluster"`
}

// Deposit is the data of "deposit".
type Deposit struct {
	Cluster crypto.PublicKey `json:"cluster"`
	Amount  chain.Amount     `json:"amount_nhyper"`
}

// Withdraw is the data of "withdraw".
type Withdraw struct {
	Cluster crypto.PublicKey `json:"cluster"`
	Amount  chain.Amount     `json:"amount_nhyper"`
}

// Settle is the data of "settle".
type Settle struct {
	Claims []Claim `json:"claims" minItems:"1" maxItems:"16"`
}

func messageCases() []Case {
	return slices.Concat([]Case{
		caseOf[Transfer]("transfer"), caseOf[RegisterProvider]("register_provider"), caseOf[UnbondProvider]("unbond_provider"),
		caseOf[RegisterCluster]("register_cluster"), caseOf[UnbondCluster]("unbond_cluster"),
		caseOf[Deposit]("deposit"), caseOf[Withdraw]("withdraw"), caseOf[Settle]("settle"),
	}, stakingCases(), leaseCases(), channelCases(), panelCases(), disputeCases(), privateCases(), runCases(), serviceCases(), hardwareCases(), contractCases())
}

// MarshalJSON writes the message with its name.
func (m Message) MarshalJSON() ([]byte, error) {
	if m.Msg == nil {
		return nil, fmt.Errorf("api: message is missing")
	}
	return marshalTagged(chain.KindOf(m.Msg), messageData(m.Msg))
}

// marketData is the data of a message about leases, channels and batches.
func marketData(m any) any {
	switch m := m.(type) {
	case chain.OpenLease:
		return OpenLease{Deal: DealToJSON(m.Deal)}
	case chain.ResizeLease:
		return ResizeLease{Lease: m.Lease, Deal: DealToJSON(m.Deal)}
	case chain.ExtendLease:
		return ExtendLease{Lease: m.Lease, Amount: m.Amount}
	case chain.CloseLease:
		return CloseLease{Lease: m.Lease}
	case chain.CollectLease:
		return CollectLease{Lease: m.Lease}
	case chain.OpenChannel:
		return OpenChannel{Payee: m.Payee, Nonce: Uint64(m.Nonce), Signer: m.Signer, Amount: m.Amount, WindowMs: Uint64(m.WindowMs)}
	case chain.FundChannel:
		return FundChannel{Channel: m.Channel, Amount: m.Amount}
	case chain.RedeemVoucher:
		return RedeemVoucher{Voucher: m.Voucher, Signature: m.Signature}
	case chain.CloseChannel:
		return CloseChannel{Channel: m.Channel}
	case chain.RegisterMeter:
		return RegisterMeter{Node: m.Node, Key: m.Key, Possession: m.Possession}
	case chain.SettleBatch:
		return SettleBatch{Batch: BatchToJSON(m.Batch)}
	case chain.ReportAcceptance:
		return reportToJSON(m)
	}
	panic(fmt.Sprintf("api: message of type %T", m))
}

func messageData(m chain.Msg) any {
	switch m := m.(type) {
	case chain.Transfer:
		return Transfer{To: m.To, Amount: m.Amount}
	case chain.RegisterProvider:
		return RegisterProvider{Node: m.Node, Possession: m.Possession, Bond: m.Bond, Region: m.Region,
			Millicores: Uint64(m.Millicores), MemoryMiB: Uint64(m.MemoryMiB)}
	case chain.UnbondProvider:
		return UnbondProvider{Node: m.Node}
	case chain.RegisterCluster:
		return RegisterCluster{Cluster: m.Cluster, Possession: m.Possession, Bond: m.Bond, FeeBps: m.FeeBps, Endpoints: listOf(m.Endpoints)}
	case chain.UnbondCluster:
		return UnbondCluster{Cluster: m.Cluster}
	case chain.Deposit:
		return Deposit{Cluster: m.Cluster, Amount: m.Amount}
	case chain.Withdraw:
		return Withdraw{Cluster: m.Cluster, Amount: m.Amount}
	case chain.Settle:
		claims := make([]Claim, len(m.Claims))
		for i, c := range m.Claims {
			claims[i] = ClaimToJSON(c)
		}
		return Settle{Claims: claims}
	case chain.OpenLease, chain.ResizeLease, chain.ExtendLease, chain.CloseLease, chain.CollectLease, chain.OpenChannel, chain.FundChannel, chain.RedeemVoucher,
		chain.CloseChannel, chain.RegisterMeter, chain.SettleBatch, chain.ReportAcceptance:
		return marketData(m)
	case chain.AddBond, chain.CommitVote, chain.RevealVote:
		return panelData(m)
	case chain.Challenge, chain.Appeal:
		return disputeData(m)
	case chain.BeginRun, chain.CommitRun, chain.RevealRun, chain.CollectRun:
		return runData(m)
	case chain.ReportMiss, chain.DrawPeers, chain.LeaveLease, chain.AccusePeer:
		return serviceData(m)
	case chain.ReportHardware, chain.DeclareHardware, chain.AnnounceHome:
		return hardwareData(m)
	case chain.StoreCode, chain.InstantiateContract, chain.ExecuteContract, chain.MigrateContract, chain.SetContractAdmin, chain.PinCode:
		return contractData(m)
	case chain.Bond:
		return bondData(m)
	case chain.Delegate:
		return Delegate{Validator: m.Validator, Amount: m.Amount}
	case chain.Undelegate:
		return Undelegate{Validator: m.Validator, Amount: m.Amount}
	case chain.Redelegate:
		return Redelegate{From: m.From, To: m.To, Amount: m.Amount}
	case chain.WithdrawRewards:
		return WithdrawRewards{Validator: m.Validator, Restake: m.Restake}
	case chain.SetCommission:
		return SetCommission{Validator: m.Validator, Bps: m.Bps}
	case chain.RotateKeys:
		return rotationData(m)
	case chain.Unjail:
		return Unjail{Validator: m.Validator}
	case chain.Affiliate:
		return Affiliate{Validator: m.Validator, Node: m.Node, Consent: m.Consent}
	case chain.Unaffiliate:
		return Unaffiliate{Node: m.Node}
	case chain.ReportEvidence:
		return ReportEvidence{Evidence: m.Evidence}
	}
	panic(fmt.Sprintf("api: message of type %T", m))
}

// UnmarshalJSON reads what MarshalJSON wrote. Its errors are *FieldError.
func (m *Message) UnmarshalJSON(data []byte) error {
	var t tagged
	if err := DecodeJSON(data, &t); err != nil {
		return err
	}
	msg, err := readMessage(t)
	if err != nil {
		return err
	}
	m.Msg = msg
	return nil
}

func readMessage(t tagged) (chain.Msg, error) {
	switch t.Type {
	case "transfer":
		d, err := dataOf[Transfer](t)
		return chain.Transfer{To: d.To, Amount: d.Amount}, err
	case "register_provider":
		d, err := dataOf[RegisterProvider](t)
		return chain.RegisterProvider{Node: d.Node, Possession: d.Possession, Bond: d.Bond, Region: d.Region,
			Millicores: uint64(d.Millicores), MemoryMiB: uint64(d.MemoryMiB)}, err
	case "unbond_provider":
		d, err := dataOf[UnbondProvider](t)
		return chain.UnbondProvider{Node: d.Node}, err
	case "register_cluster":
		d, err := dataOf[RegisterCluster](t)
		return chain.RegisterCluster{Cluster: d.Cluster, Possession: d.Possession, Bond: d.Bond, FeeBps: d.FeeBps, Endpoints: d.Endpoints}, err
	case "unbond_cluster":
		d, err := dataOf[UnbondCluster](t)
		return chain.UnbondCluster{Cluster: d.Cluster}, err
	case "deposit":
		d, err := dataOf[Deposit](t)
		return chain.Deposit{Cluster: d.Cluster, Amount: d.Amount}, err
	case "withdraw":
		d, err := dataOf[Withdraw](t)
		return chain.Withdraw{Cluster: d.Cluster, Amount: d.Amount}, err
	case "settle":
		return readSettle(t)
	}
	if m, ok, err := readStaking(t); ok {
		return m, err
	}
	if m, ok, err := readLease(t); ok {
		return m, err
	}
	if m, ok, err := readPanel(t); ok {
		return m, err
	}
	if m, ok, err := readDispute(t); ok {
		return m, err
	}
	if m, ok, err := readRun(t); ok {
		return m, err
	}
	if m, ok, err := readService(t); ok {
		return m, err
	}
	if m, ok, err := readHardware(t); ok {
		return m, err
	}
	if m, ok, err := readContract(t); ok {
		return m, err
	}
	if m, ok, err := readChannel(t); ok {
		return m, err
	}
	if m, ok, err := readPrivate(t); ok {
		return m, err
	}
	return nil, &FieldError{Location: "type", Message: fmt.Sprintf("message type %.40q is unknown", t.Type)}
}

func readSettle(t tagged) (chain.Msg, error) {
	d, err := dataOf[Settle](t)
	if err != nil {
		return nil, err
	}
	if len(d.Claims) > chain.MaxClaims {
		return nil, &FieldError{Location: "data.claims", Message: fmt.Sprintf("has %d, limit %d", len(d.Claims), chain.MaxClaims)}
	}
	m := chain.Settle{Claims: make([]chain.Claim, len(d.Claims))}
	for i, c := range d.Claims {
		if m.Claims[i], err = ClaimFromJSON(c); err != nil {
			return nil, within(fmt.Sprintf("data.claims[%d]", i), err)
		}
	}
	return m, nil
}

// listOf returns the list, empty in place of nil, so that JSON has [] and not
// null.
func listOf[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
