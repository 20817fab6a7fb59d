package settlement

import "github.com/hypermesh/hypermesh/internal/crypto"

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
