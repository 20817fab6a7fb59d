package wallet

import (
	"crypto/sha256"
	"encoding/hex"
)

// Node is a point of the tree of keys, for the vectors.
type Node = node

// MasterNode returns the root of the tree of a seed.
func MasterNode(seed []byte) Node { return masterNode(seed) }

// Child returns the hardened child at index.
func (n node) Child(index uint32) Node { return n.child(index) }

// Hex returns the node's private key and chain code.
func (n node) Hex() (key, chain string) {
	return hex.EncodeToString(n.key[:]), hex.EncodeToString(n.chain[:])
}

// WordListDigest returns the SHA-256 of the embedded word list and the number
// of its words.
func WordListDigest() (string, int) {
	sum := sha256.Sum256([]byte(english))
	return hex.EncodeToString(sum[:]), len(words)
}

// Seal encrypts what is to pass for a keystore's content.
func Seal(plain []byte, passphrase string, workFactor int) ([]byte, error) {
	return seal(plain, passphrase, workFactor)
}
