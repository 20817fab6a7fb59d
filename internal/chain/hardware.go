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
	// MaxMillicores and MaxMemoryMiB bound what a node declares, as agents and jobs are bounded.
	MaxMillicores = 1 << 20
	MaxMemoryMiB  = 1 << 24
	// MaxHardwarePeers is how many nodes are drawn to measure one.
	MaxHardwarePeers = 5
	// MaxHardwareLaneMiB bounds how much memory a lane fills.
	MaxHardwareLaneMiB = 8 << 10
	// HardwareStepsPerMiB is how many steps, one after the other, a lane takes for each MiB.
	HardwareStepsPerMiB = 384
)

// HardwareFinding is what peers found of a node's hardware.
type HardwareFinding uint8

// The findings. Of a node that shows all that was asked for nobody says anything.
const (
	HardwareShort  HardwareFinding = iota // lanes are missing: too late, or wrong
	HardwareSilent                        // a node that was there did not answer
	hardwareFindingCount
)

// String names the finding.
func (f HardwareFinding) String() string {
	names := [hardwareFindingCount]string{"short", "silent"}
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

// HardwareVerdict is a peer's word that at least so much of a challenged node is missing. The
// highest word of a peer counts, so that two of them do not contradict each other.
type HardwareVerdict struct {
	_         struct{}         `cbor:",toarray"`
	Peer      crypto.PublicKey `json:"peer"`
	Missing   uint64           `json:"missing"`   // lanes that were asked for and did not show up in time, at least
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

// ReportHardware brings words of what is missing of a challenged node. Anyone may send it, as
// long as the challenge is open; all words count that came until then.
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

// Kinds of hardware challenges.
const (
	kindReportHardware uint8 = iota + 49
	kindDeclareHardware

	kindHardwareChallenged = 57
	kindHardwareJudged     = 58
	kindHardwareDeclared   = 59
)

func (ReportHardware) sealedMsg()  {}
func (DeclareHardware) sealedMsg() {}

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

func (m *ReportHardware) check() error {
	if err := m.Challenge.ChainID.Check(); err != nil {
		return err
	}
	return checkWords("verdicts", m.Verdicts, MaxHardwarePeers)
}

func (v HardwareVerdict) by() crypto.PublicKey { return v.Peer }

// Check returns an error that names the first field of the verdict that is outside its
// limits.
func (v HardwareVerdict) Check() error {
	switch {
	case v.Missing > MaxMillicores:
		return fmt.Errorf("%w: missing is %d, limit %d", ErrLimit, v.Missing, uint64(MaxMillicores))
	case v.Silent && v.Missing > 0:
		return fmt.Errorf("%w: a silent node's missing is %d, want 0", ErrLimit, v.Missing)
	case !v.Silent && v.Missing == 0:
		return fmt.Errorf("%w: missing is 0: nothing is to be said", ErrLimit)
	}
	return nil
}

func checkHardware(millicores, memoryMiB uint64) error {
	if millicores > MaxMillicores {
		return fmt.Errorf("%w: millicores is %d, limit %d", ErrLimit, millicores, uint64(MaxMillicores))
	}
	if memoryMiB > MaxMemoryMiB {
		return fmt.Errorf("%w: memory_mib is %d, limit %d", ErrLimit, memoryMiB, uint64(MaxMemoryMiB))
	}
	return nil
}

// HardwareChallenged says that a node has to show its hardware now, and who measures it.
type HardwareChallenged struct {
	_         struct{}           `cbor:",toarray"`
	Node      crypto.PublicKey   `json:"node"`
	Seed      crypto.Digest      `json:"seed"`
	Lanes     Number             `json:"lanes"`      // that its cores run, but those that are leased
	MemoryMiB Number             `json:"memory_mib"` // for all of them, that is not leased
	Peers     []crypto.PublicKey `json:"peers"`
}

// HardwareJudged says what a challenge found, and what the node's hardware counts as from
// then on. What it cost of the bond is burned; what other work has locked is owed, and is
// burned when the node unbonds.
type HardwareJudged struct {
	_          struct{}         `cbor:",toarray"`
	Node       crypto.PublicKey `json:"node"`
	Owner      Address          `json:"owner"`
	Finding    string           `json:"finding"` // HardwareFinding.String
	Missing    Number           `json:"missing"` // lanes
	Millicores Number           `json:"millicores"`
	MemoryMiB  Number           `json:"memory_mib"`
	Burned     Amount           `json:"burned_nhyper"`
	Owed       Amount           `json:"owed_nhyper"`
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
