package chain

import "github.com/hypermesh/hypermesh/internal/codec"

// DecodeBech32m and EncodeBech32m let the tests reach the string format below
// addresses.
var (
	DecodeBech32m = decodeBech32m
	EncodeBech32m = encodeBech32m
)

// ReadTransfer is the reader by hand, and DecodeByCodec what it has to agree
// with.
var ReadTransfer = readTransfer

// DecodeByCodec decodes with the codec alone.
func DecodeByCodec(raw []byte) (tx Tx, err error) {
	err = codec.Unmarshal(raw, &tx, MaxTxBytes)
	return tx, err
}
