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

// AppendEventByCodec encodes a list of one event with the codec alone.
func AppendEventByCodec(e Event) []byte {
	out, err := appendSum(codec.AppendArray(nil, 1), eventKind(e), e)
	if err != nil {
		panic(err)
	}
	return out
}

// PayloadOf is what the signers of a transaction signed.
func PayloadOf(d *DecodedTx) []byte { return d.payload() }
