package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What a node declares of its hardware is challenged at times that nobody knows before: the
// chain draws a node, and peers of other owners who measure it.

const (
	// LaneMillicores is what of a node's processor runs one lane of the benchmark.
	LaneMillicores = 1_000
	// MaxHardwarePeers is how many nodes are drawn to measure one.
	MaxHardwarePeers = 5
	// MaxSilences is the challenge that a node meets with silence which counts as if nothing
	// of its hardware had shown up.
	MaxSilences = 3
)

// HardwareFinding is what peers found of a node's hardware.
type HardwareFinding uint8

// The findings.
const (
	HardwareShown  HardwareFinding = iota // all lanes that were asked for
	HardwareShort                         // lanes are missing: too late, or wrong
	HardwareSilent                        // a node that was there did not answer
	hardwareFindingCount
)

// String names the finding.
func (f HardwareFinding) String() string {
	names := [hardwareFindingCount]string{"shown", "short", "silent"}
	if f >= hardwareFindingCount {
		return fmt.Sprintf("HardwareFinding(%d)", uint8(f))
	}
	return names[f]
}

// Lanes returns how many lanes a processor of so many thousandths of a core is challenged
// with: a part of a core runs a whole one, and is not challenged without a whole core.
func Lanes(millicores uint64) uint64 { return millicores / LaneMillicores }

// HardwareChallenge names a challenge: the seed is drawn for it.
type HardwareChallenge struct {
	_       struct{}         `cbor:",toarray"`
	ChainID ChainID          `json:"chain_id"`
	Node    crypto.PublicKey `json:"node"`
	Seed    crypto.Digest    `json:"seed"`
}

// HardwareVerdict is what a peer found of a challenged node.
type HardwareVerdict struct {
	_         struct{}         `cbor:",toarray"`
	Peer      crypto.PublicKey `json:"peer"`
	Missing   uint64           `json:"missing"`   // lanes that were asked for and did not show up in time
	Silent    bool             `json:"silent"`    // it did not answer at all; then Missing is 0
	Signature crypto.Signature `json:"signature"` // by the peer, over HardwarePayload under DomainHardware
}

// HardwarePayload is what a peer signs under DomainHardware.
func HardwarePayload(c HardwareChallenge, v HardwareVerdict) []byte {
	v.Signature = crypto.Signature{}
	return codec.Marshal(struct {
		_         struct{} `cbor:",toarray"`
		Challenge HardwareChallenge
		Verdict   HardwareVerdict
	}{Challenge: c, Verdict: v})
}

// Finds returns what a verdict says.
func (v *HardwareVerdict) Finds() HardwareFinding {
	switch {
	case v.Silent:
		return HardwareSilent
	case v.Missing > 0:
		return HardwareShort
	}
	return HardwareShown
}

// ReportHardware brings what peers found of a challenged node: all the same finding. Anyone
// may send it.
type ReportHardware struct {
	_         struct{} `cbor:",toarray"`
	Challenge HardwareChallenge
	Verdicts  HardwareVerdicts // each of another peer
}

// HardwareVerdicts is a list of verdicts.
type HardwareVerdicts []HardwareVerdict

// UnmarshalCBOR decodes at most MaxHardwarePeers verdicts.
func (s *HardwareVerdicts) UnmarshalCBOR(data []byte) error {
	return unmarshalList(data, (*[]HardwareVerdict)(s), "verdicts", MaxHardwarePeers)
}

// DeclareHardware says anew what a node has: its owner sends it. It is challenged soon after.
type DeclareHardware struct {
	_          struct{} `cbor:",toarray"`
	Node       crypto.PublicKey
	Millicores uint64
	MemoryMiB  uint64
}

// AccuseMeasurer shows that a peer signed two verdicts of a challenge that differ. Anyone may
// send it.
type AccuseMeasurer struct {
	_         struct{} `cbor:",toarray"`
	Challenge HardwareChallenge
	First     HardwareVerdict
	Second    HardwareVerdict
}

// Kinds of hardware challenges.
const (
	kindReportHardware uint8 = iota + 49
	kindDeclareHardware
	kindAccuseMeasurer

	kindHardwareChallenged = 57
	kindHardwareJudged     = 58
	kindHardwareDeclared   = 59
)

func (ReportHardware) sealedMsg()  {}
func (DeclareHardware) sealedMsg() {}
func (AccuseMeasurer) sealedMsg()  {}

func (v *HardwareVerdict) signed(c HardwareChallenge) crypto.Signed {
	return crypto.SignedBy(v.Peer, crypto.DomainHardware, HardwarePayload(c, *v), v.Signature)
}

func (m *ReportHardware) signatures() ([]crypto.Signed, error) {
	list := make([]crypto.Signed, len(m.Verdicts))
	for i := range m.Verdicts {
		list[i] = m.Verdicts[i].signed(m.Challenge)
	}
	return list, nil
}

func (m *AccuseMeasurer) signatures() ([]crypto.Signed, error) {
	return []crypto.Signed{m.First.signed(m.Challenge), m.Second.signed(m.Challenge)}, nil
}

func (m *ReportHardware) check() error {
	if err := m.Challenge.ChainID.Check(); err != nil {
		return err
	}
	if err := checkWords("verdicts", m.Verdicts, MaxHardwarePeers); err != nil {
		return err
	}
	for i := range m.Verdicts {
		if first, finds := m.Verdicts[0].Finds(), m.Verdicts[i].Finds(); finds != first {
			return fmt.Errorf("%w: verdicts %s and %s", ErrLimit, first, finds)
		}
	}
	return nil
}

func (v HardwareVerdict) by() crypto.PublicKey { return v.Peer }

// same reports whether two verdicts say the same; signatures of one thing may differ.
func (v HardwareVerdict) same(other HardwareVerdict) bool {
	return v.Missing == other.Missing && v.Silent == other.Silent
}

func (m *AccuseMeasurer) check() error {
	if err := m.Challenge.ChainID.Check(); err != nil {
		return err
	}
	return checkTwoWords("verdicts", m.First, m.Second)
}

// Check returns an error that names the first field of the verdict that is outside its
// limits.
func (v HardwareVerdict) Check() error {
	switch {
	case v.Missing > MaxUsageAmount:
		return fmt.Errorf("%w: missing is %d, limit %d", ErrLimit, v.Missing, uint64(MaxUsageAmount))
	case v.Silent && v.Missing > 0:
		return fmt.Errorf("%w: a silent node's missing is %d, want 0", ErrLimit, v.Missing)
	}
	return nil
}

func checkHardware(millicores, memoryMiB uint64) error {
	if millicores > MaxUsageAmount {
		return fmt.Errorf("%w: millicores is %d, limit %d", ErrLimit, millicores, uint64(MaxUsageAmount))
	}
	if memoryMiB > MaxUsageAmount {
		return fmt.Errorf("%w: memory_mib is %d, limit %d", ErrLimit, memoryMiB, uint64(MaxUsageAmount))
	}
	return nil
}

// HardwareChallenged says that a node has to show its hardware now, and who measures it.
type HardwareChallenged struct {
	_     struct{}           `cbor:",toarray"`
	Node  crypto.PublicKey   `json:"node"`
	Seed  crypto.Digest      `json:"seed"`
	Lanes Number             `json:"lanes"` // that its cores run
	Peers []crypto.PublicKey `json:"peers"`
}

// HardwareJudged says what a challenge found, and what the node's hardware counts as from
// then on. What it cost of the bond is burned.
type HardwareJudged struct {
	_          struct{}         `cbor:",toarray"`
	Node       crypto.PublicKey `json:"node"`
	Owner      Address          `json:"owner"`
	Finding    string           `json:"finding"` // HardwareFinding.String
	Missing    Number           `json:"missing"` // lanes
	Millicores Number           `json:"millicores"`
	MemoryMiB  Number           `json:"memory_mib"`
	Burned     Amount           `json:"burned_nhyper"`
}

// HardwareDeclared says that an owner declared a node's hardware anew.
type HardwareDeclared struct {
	_          struct{}         `cbor:",toarray"`
	Node       crypto.PublicKey `json:"node"`
	Owner      Address          `json:"owner"`
	Millicores Number           `json:"millicores"`
	MemoryMiB  Number           `json:"memory_mib"`
}

func (HardwareChallenged) sealedEvent() {}
func (HardwareJudged) sealedEvent()     {}
func (HardwareDeclared) sealedEvent()   {}
