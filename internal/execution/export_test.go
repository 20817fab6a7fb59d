package execution

// What tests look at from inside.
var (
	CheckConserved = checkConserved
	NextBaseFee    = nextBaseFee
)
