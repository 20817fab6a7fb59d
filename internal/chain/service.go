package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// Bounds of what is promised of a lease.
const (
	MinServiceEpochMs = 10_000
	MaxServiceEpochMs = 7 * 24 * 3_600_000
	MaxServiceStartMs = 24 * 3_600_000
	MaxThroughputKiB  = 1 << 30
	MaxServicePeers   = 5 // nodes that are drawn to probe a lease
	// MinServiceProbes is how many probes of an epoch say something of availability.
	MinServiceProbes = 4
)

// ServiceTerms is what a node promises of a lease, epoch by epoch from when the lease's
// terms began, and what it gives if it does not keep that.
type ServiceTerms struct {
	_               struct{} `cbor:",toarray"`
	EpochMs         uint64   `json:"epoch_ms"`         // MinServiceEpochMs to MaxServiceEpochMs
	AvailabilityBps uint16   `json:"availability_bps"` // of an epoch's probes, in 1/10,000, that are answered; 1 to 10,000
	StartMs         uint64   `json:"start_ms"`         // from when the terms began to when the service runs; until then it may be away
	ThroughputKiB   uint64   `json:"throughput_kib"`   // a second, that the node sends to whoever probes, at its best in an epoch; 0: nothing is promised
	RebateBps       uint16   `json:"rebate_bps"`       // of what a missed epoch costs, that goes back; 1 to 10,000
	Penalty         Amount   `json:"penalty_nhyper"`   // of the stake, beside, for each missed epoch
	Stake           Amount   `json:"stake_nhyper"`     // of the node's bond, locked while the lease lives; at least the penalty
}

// ServiceReport is what a peer found of a lease in an epoch.
type ServiceReport struct {
	_             struct{}         `cbor:",toarray"`
	Peer          crypto.PublicKey `json:"peer"`           // or the consumer's key
	Sent          uint64           `json:"sent"`           // probes that count: sent when the service had to run
	Answered      uint64           `json:"answered"`       // of these, in time and by a service that runs
	UnstartedMs   uint64           `json:"unstarted_ms"`   // the last time since the terms began at which a probe found no service, while none ever had
	ThroughputKiB uint64           `json:"throughput_kib"` // a second, the best of the epoch
	Signature     crypto.Signature `json:"signature"`      // by the peer, over ServicePayload under DomainService
}

// ServiceEpoch names an epoch of a lease.
type ServiceEpoch struct {
	_       struct{}      `cbor:",toarray"`
	ChainID ChainID       `json:"chain_id"`
	Lease   LeaseID       `json:"lease"`
	Terms   crypto.Digest `json:"terms"` // the order whose terms hold
	Epoch   uint64        `json:"epoch"`
}

// ServicePayload is what a peer signs under DomainService.
func ServicePayload(e ServiceEpoch, r ServiceReport) []byte {
	r.Signature = crypto.Signature{}
	return codec.Marshal(struct {
		_      struct{} `cbor:",toarray"`
		Epoch  ServiceEpoch
		Report ServiceReport
	}{Epoch: e, Report: r})
}

// ServiceFinding is which of its terms a service missed.
type ServiceFinding uint8

// The findings.
const (
	ServiceKept ServiceFinding = iota
	MissedStart
	MissedAvailability
	MissedThroughput
	serviceFindingCount
)

// String names the finding.
func (f ServiceFinding) String() string {
	names := [serviceFindingCount]string{"kept", "start", "availability", "throughput"}
	if f >= serviceFindingCount {
		return fmt.Sprintf("ServiceFinding(%d)", uint8(f))
	}
	return names[f]
}

// Finds returns what a report says of an epoch, which lasted for so long: the first of the terms that was missed.
func (t *ServiceTerms) Finds(epoch, lastsMs uint64, r *ServiceReport) ServiceFinding {
	due := t.StartMs / t.EpochMs // when the service had to run: what was sent after that may be of the next epoch
	switch {
	case t.StartMs > 0 && epoch >= due && epoch-due <= 1 && r.UnstartedMs > t.StartMs:
		return MissedStart
	case r.Sent >= MinServiceProbes && t.unavailable(lastsMs, r):
		return MissedAvailability
	case r.Answered > 0 && r.ThroughputKiB < t.ThroughputKiB:
		return MissedThroughput
	}
	return ServiceKept
}

// unavailable reports whether fewer probes were answered than the terms ask for. An epoch that its terms' end
// cuts short may miss as many as a whole one of which the rest was answered: otherwise who may end the terms
// would do so whenever one probe was missed, and find in the half of an epoch what the whole would not have shown.
func (t *ServiceTerms) unavailable(lastsMs uint64, r *ServiceReport) bool {
	missed, _ := checked.WideOf((r.Sent - r.Answered) * wholeBps).Mul(min(lastsMs, t.EpochMs)) // 128 bits: it fits, and Check bounds Sent
	may, _ := checked.WideOf(r.Sent * uint64(wholeBps-t.AvailabilityBps)).Mul(t.EpochMs)
	return may.Less(missed)
}

// Span returns when an epoch begins and ends, of terms that began at since. It is false
// if that is beyond time.
func (t *ServiceTerms) Span(since TimeMs, epoch uint64) (begin, end TimeMs, ok bool) {
	after, ok := checked.Mul(epoch, t.EpochMs)
	if !ok {
		return 0, 0, false
	}
	from, ok := checked.Add(uint64(since), after)
	if !ok {
		return 0, 0, false
	}
	to, ok := checked.Add(from, t.EpochMs)
	return TimeMs(from), TimeMs(to), ok
}

// LeastPeers is how many peers have to find a miss at least, however few there are.
const LeastPeers = 2

// Quorum returns how many of so many peers have to find that an epoch was missed: more
// than half, and never one alone.
func Quorum(peers int) int { return max(peers/2+1, LeastPeers) }

// QuorumWithConsumer is Quorum where the consumer, who gains by a miss, finds one as well: it tips what
// the peers leave open.
func QuorumWithConsumer(peers int) int { return max((peers+1)/2, LeastPeers) }

// ReportMiss brings what peers found of an epoch in which a lease's service missed its
// terms. Anyone may send it.
type ReportMiss struct {
	_       struct{} `cbor:",toarray"`
	Epoch   ServiceEpoch
	Reports ServiceReports // each of another peer, or one of the consumer; and each finds a term missed
}

// ServiceReports is a list of reports.
type ServiceReports []ServiceReport

// UnmarshalCBOR decodes at most MaxServicePeers reports.
func (s *ServiceReports) UnmarshalCBOR(data []byte) error {
	return unmarshalList(data, (*[]ServiceReport)(s), "reports", MaxServicePeers)
}

// DrawPeers has other peers drawn for a lease. The sender is its consumer or its provider.
type DrawPeers struct {
	_     struct{} `cbor:",toarray"`
	Lease LeaseID
}

// LeaveLease ends a lease with service terms now, without the notice of it: the provider,
// who sends it, gives the penalties of the epochs of that time.
type LeaveLease struct {
	_     struct{} `cbor:",toarray"`
	Lease LeaseID
}

// AccusePeer shows that a peer signed two reports of an epoch that differ. Anyone may send
// it.
type AccusePeer struct {
	_      struct{} `cbor:",toarray"`
	Epoch  ServiceEpoch
	First  ServiceReport
	Second ServiceReport
}

func (ReportMiss) sealedMsg() {}
func (DrawPeers) sealedMsg()  {}
func (LeaveLease) sealedMsg() {}
func (AccusePeer) sealedMsg() {}

func (r *ServiceReport) signed(e ServiceEpoch) crypto.Signed {
	return crypto.SignedBy(r.Peer, crypto.DomainService, ServicePayload(e, *r), r.Signature)
}

func (m *ReportMiss) signatures() ([]crypto.Signed, error) {
	list := make([]crypto.Signed, len(m.Reports))
	for i := range m.Reports {
		list[i] = m.Reports[i].signed(m.Epoch)
	}
	return list, nil
}

func (m *AccusePeer) signatures() ([]crypto.Signed, error) {
	return []crypto.Signed{m.First.signed(m.Epoch), m.Second.signed(m.Epoch)}, nil
}

func (m *ReportMiss) check() error {
	if err := m.Epoch.ChainID.Check(); err != nil {
		return err
	}
	return checkWords("reports", m.Reports, MaxServicePeers)
}

func (m *AccusePeer) check() error {
	if err := m.Epoch.ChainID.Check(); err != nil {
		return err
	}
	return checkTwoReports(m.First, m.Second)
}

// word is what a drawn peer signs: of a lease's service, or of a node's hardware.
type word interface {
	by() crypto.PublicKey
	Check() error
}

// checkWords demands words of different peers, at least one and no more than a limit.
func checkWords[T word](what string, list []T, limit int) error {
	if len(list) == 0 || len(list) > limit {
		return limitError(what, len(list), limit)
	}
	seen := make(map[crypto.PublicKey]bool, len(list))
	for i := range list {
		if peer := list[i].by(); seen[peer] {
			return fmt.Errorf("%w: two %s of peer %s", ErrLimit, what, peer.Short())
		}
		seen[list[i].by()] = true
		if err := list[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// checkTwoReports demands two reports of one peer that differ.
func checkTwoReports(first, second ServiceReport) error {
	switch {
	case first.Peer != second.Peer:
		return fmt.Errorf("%w: reports of two peers, %s and %s", ErrLimit, first.Peer.Short(), second.Peer.Short())
	case first.same(second):
		return fmt.Errorf("%w: the reports do not differ", ErrLimit)
	}
	if err := first.Check(); err != nil {
		return err
	}
	return second.Check()
}

func (r ServiceReport) by() crypto.PublicKey { return r.Peer }

// By returns the account of the key that signs the report: a consumer's own is by it.
func (r *ServiceReport) By() Address { return AddressOf(crypto.AccountKeyOf(r.Peer)) }

// same reports whether two reports say the same; signatures of one thing may differ.
func (r ServiceReport) same(other ServiceReport) bool {
	return r.Sent == other.Sent && r.Answered == other.Answered && r.UnstartedMs == other.UnstartedMs && r.ThroughputKiB == other.ThroughputKiB
}

// Check returns an error that names the first field of the report that is outside its
// limits.
func (r ServiceReport) Check() error {
	switch {
	case r.Sent > MaxUsageAmount:
		return fmt.Errorf("%w: sent is %d, limit %d", ErrLimit, r.Sent, uint64(MaxUsageAmount))
	case r.Answered > r.Sent:
		return fmt.Errorf("%w: answered is %d, sent %d", ErrLimit, r.Answered, r.Sent)
	}
	return nil
}

// Check returns an error that names the first field of the terms that is outside its
// limits.
func (t *ServiceTerms) Check() error {
	switch {
	case t.EpochMs < MinServiceEpochMs || t.EpochMs > MaxServiceEpochMs:
		return fmt.Errorf("%w: service epoch_ms is %d, want %d to %d", ErrLimit, t.EpochMs, MinServiceEpochMs, uint64(MaxServiceEpochMs))
	case t.AvailabilityBps < 1 || t.AvailabilityBps > wholeBps:
		return fmt.Errorf("%w: service availability_bps is %d, want 1 to %d", ErrLimit, t.AvailabilityBps, wholeBps)
	case t.StartMs > MaxServiceStartMs:
		return fmt.Errorf("%w: service start_ms is %d, limit %d", ErrLimit, t.StartMs, uint64(MaxServiceStartMs))
	case t.ThroughputKiB > MaxThroughputKiB:
		return fmt.Errorf("%w: service throughput_kib is %d, limit %d", ErrLimit, t.ThroughputKiB, MaxThroughputKiB)
	case t.RebateBps < 1 || t.RebateBps > wholeBps:
		return fmt.Errorf("%w: service rebate_bps is %d, want 1 to %d", ErrLimit, t.RebateBps, wholeBps)
	case t.Stake.Less(t.Penalty):
		return fmt.Errorf("%w: service penalty is %s, the stake %s", ErrLimit, t.Penalty, t.Stake)
	}
	return nil
}

// PeersDrawn says which nodes probe a lease from now on.
type PeersDrawn struct {
	_     struct{}           `cbor:",toarray"`
	Lease LeaseID            `json:"lease"`
	Peers []crypto.PublicKey `json:"peers"`
}

// ServiceMissed says that a lease's service missed a term in an epoch: the consumer's escrow
// got Rebate out of what was due to the provider, and FromStake out of what the node
// staked, of which Burned was burned besides. Epochs are counted from when Terms began: a lease that was resized
// has one of each number under each of its terms.
type ServiceMissed struct {
	_         struct{}      `cbor:",toarray"`
	Lease     LeaseID       `json:"lease"`
	Terms     crypto.Digest `json:"terms"` // the order by whose terms the epoch was judged
	Consumer  Address       `json:"consumer"`
	Epoch     Number        `json:"epoch"`
	Finding   string        `json:"finding"` // ServiceFinding.String
	Rebate    Amount        `json:"rebate_nhyper"`
	FromStake Amount        `json:"from_stake_nhyper"`
	Burned    Amount        `json:"burned_nhyper"`
	Stake     Amount        `json:"stake_nhyper"` // of those terms, that is left
}

// LeaseLeft says that a provider left a lease without notice, and what that took of its
// stake: FromStake went to the consumer's escrow.
type LeaseLeft struct {
	_         struct{} `cbor:",toarray"`
	Lease     LeaseID  `json:"lease"`
	Consumer  Address  `json:"consumer"`
	FromStake Amount   `json:"from_stake_nhyper"`
	Burned    Amount   `json:"burned_nhyper"`
}

// ServiceClosed says that no epoch of a lease that is over can be reported any more: what was due is
// paid, and what is left of the stake is free.
type ServiceClosed struct {
	_        struct{} `cbor:",toarray"`
	Lease    LeaseID  `json:"lease"`
	Consumer Address  `json:"consumer"`
	Stake    Amount   `json:"stake_nhyper"`
}

// TermsClosed says that no epoch under terms of a lease that a resize has put an end to can be reported any
// more: what was due of them is paid, and what is left of their stake is free.
type TermsClosed struct {
	_        struct{}      `cbor:",toarray"`
	Lease    LeaseID       `json:"lease"`
	Terms    crypto.Digest `json:"terms"`
	Consumer Address       `json:"consumer"`
	Stake    Amount        `json:"stake_nhyper"`
}

func (TermsClosed) sealedEvent()   {}
func (ServiceClosed) sealedEvent() {}
func (PeersDrawn) sealedEvent()    {}
func (ServiceMissed) sealedEvent() {}
func (LeaseLeft) sealedEvent()     {}
