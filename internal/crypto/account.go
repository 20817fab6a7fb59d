package crypto

import "fmt"

// Scheme is the kind of an account key. Adding one is a protocol upgrade.
type Scheme uint8

// SchemeEd25519 is the one scheme of version 1; a FROST group key is one.
const SchemeEd25519 Scheme = 1

// AccountKey is a public key of an account, tagged with its scheme. Its digest
// under DomainAddress is the account's address.
type AccountKey struct {
	_      struct{} `cbor:",toarray"`
	Scheme Scheme
	Key    []byte // 32 bytes for SchemeEd25519
}

// AccountKeyOf tags an Ed25519 key.
func AccountKeyOf(key PublicKey) AccountKey {
	return AccountKey{Scheme: SchemeEd25519, Key: key[:]}
}

// Ed25519 returns the key of an Ed25519 account, and an error that names the
// scheme or the length if it is none.
func (k AccountKey) Ed25519() (PublicKey, error) {
	if k.Scheme != SchemeEd25519 {
		return PublicKey{}, fmt.Errorf("crypto: account key scheme %d is unknown", k.Scheme)
	}
	if len(k.Key) != PublicKeySize {
		return PublicKey{}, fmt.Errorf("crypto: Ed25519 account key of %d bytes, want %d", len(k.Key), PublicKeySize)
	}
	return PublicKey(k.Key), nil
}
