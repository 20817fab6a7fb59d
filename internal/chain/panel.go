package chain

import (
	"fmt"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// AddBond raises the bond of a provider node of the sender's: more of it is free to be
// locked by jobs.
type AddBond struct {
	_      struct{} `cbor:",toarray"`
	Node   crypto.PublicKey
	Amount Amount
}

// CommitVote binds a juror to its vote without showing it, so that no juror copies
// another's. Anyone may send it.
type CommitVote struct {
	_          struct{} `cbor:",toarray"`
	Panel      crypto.Digest
	Node       crypto.PublicKey
	Commitment crypto.Digest    // Testimony.Commitment
	Signature  crypto.Signature // by the node, over VotePayload under DomainVote
}

// RevealVote shows a testimony that was committed to, from which the vote follows. Anyone who knows
// the salt may send it.
type RevealVote struct {
	_         struct{} `cbor:",toarray"`
	Panel     crypto.Digest
	Node      crypto.PublicKey
	Testimony Testimony
	Salt      crypto.Digest // random: without it a vote could be guessed from its commitment
}

func (AddBond) sealedMsg()    {}
func (CommitVote) sealedMsg() {}
func (RevealVote) sealedMsg() {}

// Finding is what a juror found when it ran a job again.
type Finding uint8

// The findings.
const (
	FoundResult      Finding = iota + 1 // the job yields Vote.Result
	FoundUnavailable                    // its program or inputs cannot be had
	FoundUnstable                       // it gives other results from run to run
)

// String names the finding.
func (f Finding) String() string {
	switch f {
	case FoundResult:
		return "result"
	case FoundUnavailable:
		return "unavailable"
	case FoundUnstable:
		return "unstable"
	}
	return fmt.Sprintf("Finding(%d)", uint8(f))
}

// MarshalText is String.
func (f Finding) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads a finding by its name.
func (f *Finding) UnmarshalText(text []byte) error {
	for known := FoundResult; known <= FoundUnstable; known++ {
		if known.String() == string(text) {
			*f = known
			return nil
		}
	}
	return fmt.Errorf("chain: finding %.20q is unknown", text)
}

// Vote is a juror's.
type Vote struct {
	_       struct{}      `cbor:",toarray"`
	Finding Finding       `json:"finding"`
	Result  crypto.Digest `json:"result,omitzero"` // the job's Yield; zero but of FoundResult
}

// VotePayload is what a juror's node signs under DomainVote.
func VotePayload(id ChainID, panel, commitment crypto.Digest) []byte {
	return codec.Marshal(struct {
		_          struct{} `cbor:",toarray"`
		ChainID    ChainID
		Panel      crypto.Digest
		Commitment crypto.Digest
	}{ChainID: id, Panel: panel, Commitment: commitment})
}

func (m RevealVote) check() error { return m.Testimony.Check() }

// BondAdded says that a provider node's bond grew to Bond.
type BondAdded struct {
	_      struct{}         `cbor:",toarray"`
	Node   crypto.PublicKey `json:"node_id"`
	Owner  Address          `json:"owner"`
	Amount Amount           `json:"amount_nhyper"`
	Bond   Amount           `json:"bond_nhyper"`
}

// BondSlashed says that a provider node lost a part of its bond, for what it did about an
// order or a panel.
type BondSlashed struct {
	_       struct{}         `cbor:",toarray"`
	Node    crypto.PublicKey `json:"node_id"`
	Owner   Address          `json:"owner"`
	Subject crypto.Digest    `json:"subject"`
	Amount  Amount           `json:"amount_nhyper"`
	Burned  Amount           `json:"burned_nhyper"` // of Amount; the rest went to those whom it wronged
}

// PanelDrawn says who is to run a job again. Until CommitBy they commit to their votes.
type PanelDrawn struct {
	_        struct{}           `cbor:",toarray"`
	Panel    crypto.Digest      `json:"panel"`
	Subject  crypto.Digest      `json:"subject"` // the order that is judged
	Jurors   []crypto.PublicKey `json:"jurors"`
	CommitBy Number             `json:"commit_by_ms"` // of the chain's progress
}

// PanelRevealing says that a panel's jurors are to show their votes until RevealBy.
type PanelRevealing struct {
	_        struct{}      `cbor:",toarray"`
	Panel    crypto.Digest `json:"panel"`
	RevealBy Number        `json:"reveal_by_ms"` // of the chain's progress
}

// PanelDecided says what more than half of a panel's seats found; nothing, if no vote had
// so many.
type PanelDecided struct {
	_       struct{}      `cbor:",toarray"`
	Panel   crypto.Digest `json:"panel"`
	Subject crypto.Digest `json:"subject"`
	Verdict *Vote         `json:"verdict,omitempty"`
}

func (BondAdded) sealedEvent()      {}
func (BondSlashed) sealedEvent()    {}
func (PanelDrawn) sealedEvent()     {}
func (PanelRevealing) sealedEvent() {}
func (PanelDecided) sealedEvent()   {}
