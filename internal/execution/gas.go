package execution

import (
	"bytes"
	"iter"
	"slices"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// GasTable prices the work of a transaction. Version 1 goes with block
// version 1; a change is a new version. What verifying a proof costs is pinned
// for each kernel in genesis.
type GasTable struct {
	// What is known before a transaction runs: its intrinsic gas.
	Tx               uint64 `json:"tx"`
	Byte             uint64 `json:"byte"`
	Signature        uint64 `json:"signature"` // of the transaction itself
	Transfer         uint64 `json:"transfer"`
	RegisterProvider uint64 `json:"register_provider"` // with the draw of a challenge, and its end
	UnbondProvider   uint64 `json:"unbond_provider"`
	RegisterCluster  uint64 `json:"register_cluster"`
	UnbondCluster    uint64 `json:"unbond_cluster"`
	Deposit          uint64 `json:"deposit"`
	Withdraw         uint64 `json:"withdraw"`
	Settle           uint64 `json:"settle"`
	Claim            uint64 `json:"claim"`         // each, with its five signatures, verified one by one
	ClaimSettled     uint64 `json:"claim_settled"` // given back for each that is not rejected, if none of its message is forged: what it does is metered
	Bond             uint64 `json:"bond"`          // with its two signatures
	Delegate         uint64 `json:"delegate"`
	Undelegate       uint64 `json:"undelegate"`
	Redelegate       uint64 `json:"redelegate"`
	WithdrawRewards  uint64 `json:"withdraw_rewards"`
	SetCommission    uint64 `json:"set_commission"`
	RotateKeys       uint64 `json:"rotate_keys"` // with its two signatures
	Unjail           uint64 `json:"unjail"`
	Affiliate        uint64 `json:"affiliate"` // with its signature
	Unaffiliate      uint64 `json:"unaffiliate"`
	ReportEvidence   uint64 `json:"report_evidence"` // and what it loads: a committee, once
	EvidenceByte     uint64 `json:"evidence_byte"`   // each 70 may be a vote's signature
	OpenLease        uint64 `json:"open_lease"`      // with the deal's three signatures
	ResizeLease      uint64 `json:"resize_lease"`    // the same
	ExtendLease      uint64 `json:"extend_lease"`
	CloseLease       uint64 `json:"close_lease"`
	CollectLease     uint64 `json:"collect_lease"`
	OpenChannel      uint64 `json:"open_channel"`
	FundChannel      uint64 `json:"fund_channel"`
	RedeemVoucher    uint64 `json:"redeem_voucher"` // with its signature
	CloseChannel     uint64 `json:"close_channel"`
	RegisterMeter    uint64 `json:"register_meter"` // with the check of its key and signature
	SettleBatch      uint64 `json:"settle_batch"`   // with its four signatures; its proof is priced in genesis
	AddBond          uint64 `json:"add_bond"`
	CommitVote       uint64 `json:"commit_vote"` // with its signature
	RevealVote       uint64 `json:"reveal_vote"` // and the panel's decision
	Challenge        uint64 `json:"challenge"`
	Appeal           uint64 `json:"appeal"`
	BeginRun         uint64 `json:"begin_run"`  // with its four signatures
	SlateBid         uint64 `json:"slate_bid"`  // each, with its signature
	CommitRun        uint64 `json:"commit_run"` // with its signature
	RevealRun        uint64 `json:"reveal_run"` // with its two signatures, and what is paid
	CollectRun       uint64 `json:"collect_run"`
	ReportAcceptance uint64 `json:"report_acceptance"` // with its two signatures, and the end of its deadline
	ReportMiss       uint64 `json:"report_miss"`       // with the signatures of as many reports as there may be
	DrawPeers        uint64 `json:"draw_peers"`        // with the draw
	LeaveLease       uint64 `json:"leave_lease"`
	AccusePeer       uint64 `json:"accuse_peer"`      // with its two signatures
	ReportHardware   uint64 `json:"report_hardware"`  // with the signatures of as many verdicts as there may be, and what they add to the challenge's end
	DeclareHardware  uint64 `json:"declare_hardware"` // with the draw, and the end of a challenge
	AnnounceHome     uint64 `json:"announce_home"`    // with its two signatures

	// What its messages do.
	Read      uint64 `json:"read"` // each key
	ReadByte  uint64 `json:"read_byte"`
	Write     uint64 `json:"write"`  // each key, set or deleted
	Insert    uint64 `json:"insert"` // more, if the key is new, or goes
	WriteByte uint64 `json:"write_byte"`

	// What an entry of the queues weighs that begin a block. Nobody pays it there: whoever
	// queues one has paid for its end.
	QueueMatured  uint64 `json:"queue_matured"`
	QueueReleased uint64 `json:"queue_released"`
	QueueExpired  uint64 `json:"queue_expired"` // each record: an order has one, and one for each claim but its first, and a message's orders an entry
	QueueLease    uint64 `json:"queue_lease"`
	QueueChannel  uint64 `json:"queue_channel"`
	QueueDraw     uint64 `json:"queue_draw"`     // of a panel of nine from a large roll that nobody has read
	QueueDeadline uint64 `json:"queue_deadline"` // what takes most of what a panel, a claim or a breach is told
}

// GasTableV1 returns the table of version 1.
func GasTableV1() GasTable {
	return GasTable{
		Tx: 920, Byte: 4, Signature: 900,
		Transfer: 1_400, RegisterProvider: 200_000, UnbondProvider: 5_700,
		RegisterCluster: 8_200, UnbondCluster: 8_500, Deposit: 1_700, Withdraw: 7_800,
		Settle: 100, Claim: 34_000, ClaimSettled: 14_000,
		Bond: 13_000, Delegate: 480, Undelegate: 9_400, Redelegate: 2_400, WithdrawRewards: 100, SetCommission: 2_800, RotateKeys: 15_000,
		Unjail: 2_500, Affiliate: 7_300, Unaffiliate: 460, ReportEvidence: 240_000, EvidenceByte: 43,
		OpenLease: 22_000, ResizeLease: 100, ExtendLease: 100, CloseLease: 100, CollectLease: 100,
		OpenChannel: 2_500, FundChannel: 3_100, RedeemVoucher: 6_500, CloseChannel: 13_000,
		RegisterMeter: 45_000, SettleBatch: 25_000,
		AddBond: 2_500, CommitVote: 18_000, RevealVote: 15_000,
		Challenge: 15_000, Appeal: 15_000,
		BeginRun: 19_000, SlateBid: 2_800, CommitRun: 30_000, RevealRun: 9_600, CollectRun: 100,
		ReportAcceptance: 120_000, ReportMiss: 23_000, DrawPeers: 130_000, LeaveLease: 310, AccusePeer: 2_000,
		ReportHardware: 150_000, DeclareHardware: 190_000, AnnounceHome: 4_700,
		Read: 800, ReadByte: 1, Write: 1_000, Insert: 800, WriteByte: 4,
		QueueMatured: 6_900, QueueReleased: 8_400, QueueExpired: 3_300, QueueLease: 16_000, QueueChannel: 10_000,
		QueueDraw: 230_000, QueueDeadline: 290_000,
	}
}

// intrinsic returns the gas that a transaction uses before its first message
// runs. Sizes are bounded by decoding, so the sum cannot overflow.
func (t *GasTable) intrinsic(tx *chain.DecodedTx) uint64 {
	sum := t.Tx + t.Byte*uint64(len(tx.Raw())) + t.Signature*uint64(len(tx.Tx().Signatures))
	for _, m := range tx.Tx().Body.Messages {
		sum += t.message(m)
	}
	return sum
}

func (t *GasTable) message(m chain.Msg) uint64 {
	switch m := m.(type) {
	case chain.Transfer:
		return t.Transfer
	case chain.RegisterProvider:
		return t.RegisterProvider
	case chain.UnbondProvider:
		return t.UnbondProvider
	case chain.RegisterCluster:
		return t.RegisterCluster
	case chain.UnbondCluster:
		return t.UnbondCluster
	case chain.Deposit:
		return t.Deposit
	case chain.Withdraw:
		return t.Withdraw
	case chain.Settle:
		return t.settle(&m)
	case chain.Bond:
		return t.Bond
	case chain.Delegate:
		return t.Delegate
	case chain.Undelegate:
		return t.Undelegate
	case chain.Redelegate:
		return t.Redelegate
	case chain.WithdrawRewards:
		return t.WithdrawRewards
	case chain.SetCommission:
		return t.SetCommission
	case chain.RotateKeys:
		return t.RotateKeys
	case chain.Unjail:
		return t.Unjail
	case chain.Affiliate:
		return t.Affiliate
	case chain.Unaffiliate:
		return t.Unaffiliate
	case chain.ReportEvidence:
		return t.ReportEvidence + t.EvidenceByte*uint64(len(m.Evidence))
	case chain.OpenLease, chain.ResizeLease, chain.ExtendLease, chain.CloseLease, chain.CollectLease, chain.OpenChannel, chain.FundChannel, chain.RedeemVoucher,
		chain.CloseChannel, chain.AddBond, chain.CommitVote, chain.RevealVote, chain.RegisterMeter, chain.SettleBatch, chain.Challenge, chain.Appeal,
		chain.BeginRun, chain.CommitRun, chain.RevealRun, chain.CollectRun, chain.ReportAcceptance:
		return t.marketMessage(m)
	case chain.ReportMiss:
		return t.ReportMiss
	case chain.DrawPeers:
		return t.DrawPeers
	case chain.LeaveLease:
		return t.LeaveLease
	case chain.AccusePeer:
		return t.AccusePeer
	case chain.ReportHardware:
		return t.ReportHardware
	case chain.DeclareHardware:
		return t.DeclareHardware
	case chain.AnnounceHome:
		return t.AnnounceHome
	case chain.StoreCode, chain.InstantiateContract, chain.ExecuteContract, chain.MigrateContract, chain.SetContractAdmin, chain.PinCode:
		return 0 // package contract takes all of it
	}
	panic("execution: a message outside the sealed sum")
}

func (t *GasTable) settle(m *chain.Settle) uint64 {
	sum := t.Settle + t.Claim*uint64(len(m.Claims))
	for i := range m.Claims {
		if _, waits := m.Claims[i].Order.Policy.Policy.(chain.PolicyOptimistic); waits {
			sum += t.queued(settlement.QueuedByClaim)
		}
	}
	return sum
}

// settled is what is given back of the price of a settlement's claims, by how they are signed and
// what it said of them. Beside a forged one all are verified one by one, and keep their price.
func (t *GasTable) settled(signed []chain.Signing, said chain.Events) uint64 {
	claims := len(signed)
	if slices.ContainsFunc(signed, func(how chain.Signing) bool { return how != chain.AllSigned }) {
		return 0
	}
	for _, e := range said {
		if _, ok := e.(chain.ClaimRejected); ok {
			claims--
		}
	}
	return t.ClaimSettled * uint64(claims)
}

// queued is what the blocks do that begin with what a message put into their queues: it pays
// for that at once.
func (t *GasTable) queued(q settlement.Queued) uint64 { return q.Weight(t.QueueDraw, t.QueueDeadline) }

// marketMessage prices a message about leases, channels, bonds, panels and batches.
func (t *GasTable) marketMessage(m any) uint64 {
	switch m := m.(type) {
	case chain.OpenLease:
		return t.OpenLease + t.promise(&m.Deal)
	case chain.ReportAcceptance:
		return t.ReportAcceptance
	case chain.ResizeLease:
		return t.ResizeLease + t.promise(&m.Deal)
	case chain.ExtendLease:
		return t.ExtendLease
	case chain.CloseLease:
		return t.CloseLease
	case chain.CollectLease:
		return t.CollectLease
	case chain.OpenChannel:
		return t.OpenChannel
	case chain.FundChannel:
		return t.FundChannel
	case chain.RedeemVoucher:
		return t.RedeemVoucher
	case chain.CloseChannel:
		return t.CloseChannel
	case chain.RegisterMeter:
		return t.RegisterMeter
	case chain.SettleBatch:
		return t.SettleBatch
	case chain.AddBond:
		return t.AddBond
	case chain.CommitVote:
		return t.CommitVote
	case chain.RevealVote:
		return t.RevealVote
	case chain.Challenge:
		return t.Challenge + t.queued(settlement.QueuedByChallenge)
	case chain.Appeal:
		return t.Appeal + t.queued(settlement.QueuedByAppeal)
	case chain.BeginRun:
		return t.BeginRun + t.SlateBid*uint64(len(m.Slate)) + t.queued(settlement.QueuedByRuns(len(m.Slate), replicateOf(&m.Order)))
	case chain.CommitRun:
		return t.CommitRun
	case chain.RevealRun:
		return t.RevealRun
	case chain.CollectRun:
		return t.CollectRun
	}
	panic("execution: a message that is not of the market")
}

// replicateOf is the policy of an order that is begun; of any other none: it is refused.
func replicateOf(o *chain.Order) chain.PolicyReplicate {
	p, _ := o.Policy.Policy.(chain.PolicyReplicate)
	return p
}

// promise is what service terms cost: peers are drawn for the lease.
func (t *GasTable) promise(d *chain.LeaseDeal) uint64 {
	if d.Order.Term == nil || d.Order.Term.Service == nil {
		return 0
	}
	return t.DrawPeers
}

// meter counts the gas of one transaction, and stops it where it does what it
// has no gas for: otherwise whoever gives a message just the gas to begin with
// would have the rest of its work done for nothing.
type meter struct {
	table *GasTable
	limit uint64
	used  uint64
}

func (m *meter) exceeded() bool { return m.used > m.limit }

// exhausted is the panic of a message that has passed its limit. It ends in
// run.metered, which is the only one to begin a message.
type exhausted struct{}

// demand charges for what is about to be done.
func (m *meter) demand(units uint64) {
	if m.charge(units); m.exceeded() {
		panic(exhausted{})
	}
}

// charge saturates, so that no price can wrap the count.
func (m *meter) charge(units uint64) {
	if m.used+units < m.used {
		m.used = 1<<64 - 1
		return
	}
	m.used += units
}

// meteredKV counts what it passes on, but for the account of the transaction's sender:
// that is read and written in any case, for its nonce, and paid for with the place.
type meteredKV struct {
	kv    *state.Overlay
	meter *meter
	own   []byte   // the key of that account
	found [][]byte // keys that were read and are there: to set them adds none
}

var _ state.KV = (*meteredKV)(nil)

// begin forgets what the transaction before found: gas depends on no other.
func (k *meteredKV) begin(own []byte) { k.own, k.found = own, k.found[:0] }

func (k *meteredKV) Get(key []byte) ([]byte, bool) {
	if bytes.Equal(key, k.own) {
		return k.kv.Get(key)
	}
	k.meter.demand(k.meter.table.Read)
	value, ok := k.kv.Get(key)
	k.meter.demand(k.meter.table.ReadByte * uint64(len(value)))
	if ok && !k.known(key) {
		k.found = append(k.found, bytes.Clone(key))
	}
	return value, ok
}

// known reports whether a key is known to be there. What is set without having been read
// counts as new.
func (k *meteredKV) known(key []byte) bool {
	return slices.ContainsFunc(k.found, func(f []byte) bool { return bytes.Equal(f, key) })
}

func (k *meteredKV) Set(key, value []byte) {
	if !bytes.Equal(key, k.own) {
		units := k.meter.table.Write + k.meter.table.WriteByte*uint64(len(key)+len(value))
		if !k.known(key) {
			units += k.meter.table.Insert
			k.found = append(k.found, key)
		}
		k.meter.demand(units)
	}
	k.kv.Set(key, value)
}

func (k *meteredKV) Delete(key []byte) {
	k.meter.demand(k.meter.table.Write + k.meter.table.Insert)
	k.found = slices.DeleteFunc(k.found, func(f []byte) bool { return bytes.Equal(f, key) })
	k.kv.Delete(key)
}

func (k *meteredKV) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		k.meter.demand(k.meter.table.Read) // of finding the start, even if nothing is there
		for key, value := range k.kv.Iterate(start, end) {
			k.meter.demand(k.meter.table.Read + k.meter.table.ReadByte*uint64(len(value)))
			if !yield(key, value) {
				return
			}
		}
	}
}

// meteredVerifier charges for a proof before it is verified, and verifies none
// that is not paid for.
type meteredVerifier struct {
	verifier zk.Verifier
	prices   map[zk.Kernel]chain.Gas
	meter    *meter
}

func (v *meteredVerifier) Verify(s zk.Statement, proof []byte) error {
	v.meter.charge(v.prices[s.Kernel].Units())
	if v.meter.exceeded() {
		return errOutOfGas
	}
	return v.verifier.Verify(s, proof)
}
