package chain

import (
	"fmt"
	"time"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// PolicyOptimistic pays for a deterministic run when a window in which anybody could have
// challenged it is over. The provider and the cluster stake Bond each.
type PolicyOptimistic struct {
	_        struct{} `cbor:",toarray"`
	WindowMs uint64   // of the chain's progress; MinOptimisticMs to MaxNoticeMs
	Bond     Amount   // MinOptimisticBond or more, and OptimisticCover times the order's max cost
}

const (
	// MinOptimisticMs is the least window in which a claim can be challenged.
	MinOptimisticMs = 1_000
	// OptimisticCover is how many times an order's max cost its policy's bond is at least:
	// the bond pays all jurors, and who was right, and there is enough left to burn.
	OptimisticCover = 32
)

// MinOptimisticBond is the least that is staked on a claim, so that jurors get more than
// their transactions cost them.
var MinOptimisticBond = Hyper(1)

func (PolicyOptimistic) sealedPolicy() {}

// String is optimistic(WINDOW,BOND): the window as Go writes durations, the bond in HYPER.
func (p PolicyOptimistic) String() string {
	bond := p.Bond.String()
	return fmt.Sprintf("optimistic(%s,%s)", p.window(), bond[:len(bond)-len(" HYPER")])
}

// window is shown exactly as far as a time.Duration reaches, which is beyond the limit.
func (p PolicyOptimistic) window() string {
	if p.WindowMs > MaxNoticeMs {
		return fmt.Sprintf("%dms", p.WindowMs)
	}
	return (time.Duration(p.WindowMs) * time.Millisecond).String()
}

func (p PolicyOptimistic) check() error {
	if p.WindowMs < MinOptimisticMs || p.WindowMs > MaxNoticeMs {
		return fmt.Errorf("%w: optimistic window is %d ms, want %d to %d", ErrLimit, p.WindowMs, MinOptimisticMs, uint64(MaxNoticeMs))
	}
	if p.Bond.Less(MinOptimisticBond) {
		return fmt.Errorf("%w: optimistic bond is %s, the least is %s", ErrLimit, p.Bond, MinOptimisticBond)
	}
	return nil
}

// Covers returns an error if the bond is too small for an order of a max cost.
func (p PolicyOptimistic) Covers(maxCost Amount) error {
	if p.MostCovered().Less(maxCost) {
		return fmt.Errorf("%w: optimistic bond is %s, want at least %d times the max cost, %s", ErrLimit, p.Bond, OptimisticCover, maxCost)
	}
	return nil
}

// MostCovered is the highest max cost that the bond is large enough for.
func (p PolicyOptimistic) MostCovered() Amount { return Amount{p.Bond.nano / OptimisticCover} }

// Challenge says that the claim of an order, which is in its window, is wrong: a panel
// runs the job again. Anyone may send it.
type Challenge struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
	Stake Amount // the most that the sender stakes; what is asked is taken
}

// Appeal says that a panel was wrong about the claim of an order: a larger one runs the
// job again. Anyone may send it.
type Appeal struct {
	_     struct{} `cbor:",toarray"`
	Order crypto.Digest
	Stake Amount // as of Challenge
}

func (Challenge) sealedMsg() {}
func (Appeal) sealedMsg()    {}

// ClaimPending says that a claim is in order and will be paid at EndsMs, unless it is
// challenged. Held is out of the consumer's escrow, Premium is paid for audits, and the
// provider and the cluster have Bond locked each.
type ClaimPending struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Sequence Number           `json:"sequence"`
	Consumer Address          `json:"consumer"`
	Provider Address          `json:"provider"`
	Cluster  crypto.PublicKey `json:"cluster"`
	Spec     crypto.Digest    `json:"spec"`
	Result   crypto.Digest    `json:"result"`
	Held     Amount           `json:"held_nhyper"`
	Premium  Amount           `json:"premium_nhyper"`
	Bond     Amount           `json:"bond_nhyper"`
	EndsMs   Number           `json:"ends_ms"` // of the chain's progress
}

// ClaimChallenged says that somebody holds a claim for wrong, or what a panel found of it:
// a panel will be drawn.
type ClaimChallenged struct {
	_      struct{}         `cbor:",toarray"`
	Order  crypto.Digest    `json:"order"`
	By     Address          `json:"by"`
	Node   crypto.PublicKey `json:"node_id,omitzero"` // the auditor; zero: it was no audit
	Stake  Amount           `json:"stake_nhyper"`     // of an auditor none but that on its vote
	Appeal bool             `json:"appeal"`
}

// ClaimJudged says what the first panel found of a claim. Until AppealBy anybody may
// appeal; if that is zero, the panel was too silent to find anything, and a larger one
// judges the claim unasked.
type ClaimJudged struct {
	_        struct{}      `cbor:",toarray"`
	Order    crypto.Digest `json:"order"`
	Verdict  *Vote         `json:"verdict,omitempty"` // none: its seats did not agree
	AppealBy Number        `json:"appeal_by_ms"`      // of the chain's progress; 0: nobody has to
}

// ClaimClosed says how a claim in its window ended: it was paid, or the consumer has its
// money back.
type ClaimClosed struct {
	_        struct{}         `cbor:",toarray"`
	Order    crypto.Digest    `json:"order"`
	Node     crypto.PublicKey `json:"node_id"`
	Sequence Number           `json:"sequence"`
	Consumer Address          `json:"consumer"`
	Provider Address          `json:"provider"`
	Verdict  *Vote            `json:"verdict,omitempty"` // what was found in the end; none: nobody looked closer, or they did not agree
	Paid     bool             `json:"paid"`              // or else refused, and Refunded to the consumer
	Refunded Amount           `json:"refunded_nhyper"`
}

func (ClaimPending) sealedEvent()    {}
func (ClaimChallenged) sealedEvent() {}
func (ClaimJudged) sealedEvent()     {}
func (ClaimClosed) sealedEvent()     {}

const (
	kindPolicyOptimistic uint8 = 4

	kindChallenge uint8 = 36
	kindAppeal    uint8 = 37

	kindClaimPending    uint8 = 43
	kindClaimChallenged uint8 = 44
	kindClaimJudged     uint8 = 45
	kindClaimClosed     uint8 = 46
)
