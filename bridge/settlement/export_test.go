package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// What tests look at from inside.
var (
	LeaseByHand  = readLease
	EscrowByHand = readEscrow
	ReadOrder    = readOrder
	WriteOrder   = encodeOrder
	ReadProvider = readProvider
)

// MaxTries is how many claims an order may have.
const MaxTries = maxTries

// Audited tells the lot of a claim's audit.
func Audited(o *OpenClaim, lot crypto.Digest) bool { return o.audited(lot) }

// ClusterBondOrigin is the origin of a cluster's bond on its way back.
func ClusterBondOrigin(cluster crypto.PublicKey, operator chain.Address) []byte {
	return bondOrigin(ClusterKey(cluster), operator)
}
