package settlement

// What tests look at from inside.
var (
	LeaseByHand  = readLease
	EscrowByHand = readEscrow
)
