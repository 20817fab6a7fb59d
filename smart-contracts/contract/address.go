package contract

import (
	"crypto/sha256"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// The addresses of contracts are those that CosmWasm gives them, from the same
// numbers: contracts compute the predictable ones themselves. No key of an account
// hashes to one: that would be one digest of two functions.

// AddressOf is the address of the contract that was the chain's instance-th, of code.
func AddressOf(code, instance uint64) chain.Address {
	return moduleAddress(append(number(code), number(instance)...))
}

// PredictableAddress is the address of a contract that its creator made of code of
// a checksum, with a salt of his choice.
func PredictableAddress(checksum crypto.Digest, creator chain.Address, salt []byte) chain.Address {
	return predictable(checksum[:], creator[:], salt)
}

func predictable(checksum, creator, salt []byte) chain.Address {
	var id []byte
	for _, part := range [][]byte{checksum, creator, salt, nil} { // nil: the message does not count
		id = append(append(id, number(uint64(len(part)))...), part...)
	}
	return moduleAddress(id)
}

// moduleAddress is SHA-256(SHA-256("module") ‖ "wasm" ‖ 0 ‖ id), as ADR 28 of the
// Cosmos SDK has it.
func moduleAddress(id []byte) chain.Address {
	kind := sha256.Sum256([]byte("module"))
	text := append(kind[:], "wasm\x00"...)
	return sha256.Sum256(append(text, id...))
}

// addressIn reads an address that a contract wrote, in its one way.
func addressIn(text string) (chain.Address, *failure) {
	a, err := chain.ParseAddress(text)
	if err != nil || a.String() != text || a.IsZero() {
		return chain.Address{}, fail(spaceSDK, sdkAddress, "%.80q is no address", text)
	}
	return a, nil
}
