package chain

// DecodeBech32m and EncodeBech32m let the tests reach the string format below
// addresses.
var (
	DecodeBech32m = decodeBech32m
	EncodeBech32m = encodeBech32m
)
