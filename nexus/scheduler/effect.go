package scheduler

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// Effect is what the leader shall do. The sum is sealed: switch over it
// exhaustively, without default.
type Effect interface{ sealedEffect() }

// OpenAuction asks for bids: offer the order to the candidates, collect signed
// bids for the auction's window, and close it with CloseAuction.
type OpenAuction struct {
	Order      crypto.Digest
	Auction    uint64
	Want       int // takers, of different owners
	Candidates []crypto.PublicKey
}

// SendAssign gives a node its assignment, once the cluster has signed its
// acceptance.
type SendAssign struct {
	Node       crypto.PublicKey
	Assignment job.Assignment
}

// SendCancel tells a node to end an assignment.
type SendCancel struct {
	Node   crypto.PublicKey
	Order  crypto.Digest
	Reason string
}

// SendAck tells a node that it may forget an assignment. If Attest is there, it is the
// receipt of a sealed output, to which the cluster attests; Revealed says that the key is
// here.
type SendAck struct {
	Node     crypto.PublicKey
	Order    crypto.Digest
	Refuse   string
	Attest   *chain.UsageReceipt
	Revealed bool
}

// Post says that the outbox has a new item.
type Post struct{ Cursor uint64 }

func (OpenAuction) sealedEffect() {}
func (SendAssign) sealedEffect()  {}
func (SendCancel) sealedEffect()  {}
func (SendAck) sealedEffect()     {}
func (Post) sealedEffect()        {}
