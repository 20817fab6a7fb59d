package wallet

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// CoinType is the second step of every path: "HYPR" in ASCII.
const CoinType = 0x48595052

const (
	purpose  = 44      // BIP-44
	hardened = 1 << 31 // added to every index
)

// node is a point of the tree of keys: SLIP-0010 for ed25519.
type node struct{ key, chain [32]byte }

func masterNode(seed []byte) node { return nodeOf([]byte("ed25519 seed"), seed) }

// child returns the hardened child at index, which is below 2³¹.
func (n node) child(index uint32) node {
	data := make([]byte, 0, 1+32+4)
	data = append(data, 0)
	data = append(data, n.key[:]...)
	data = binary.BigEndian.AppendUint32(data, index|hardened)
	return nodeOf(n.chain[:], data)
}

func nodeOf(key, data []byte) node {
	mac := hmac.New(sha512.New, key)
	if _, err := mac.Write(data); err != nil {
		panic("wallet: a hash refused bytes: " + err.Error())
	}
	sum := mac.Sum(nil)
	return node{key: [32]byte(sum[:32]), chain: [32]byte(sum[32:])}
}

// PathOf names the path of a derived account.
func PathOf(account uint32) string {
	return fmt.Sprintf("m/%d'/%d'/%d'", purpose, CoinType, account)
}

// DeriveKey returns the key at PathOf(account), which is below 2³¹.
func DeriveKey(phrase Phrase, account uint32) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed(coinNode(phrase).child(account).key)
}

// coinNode is the parent of all accounts.
func coinNode(phrase Phrase) node {
	seed := phrase.Seed("")
	return masterNode(seed[:]).child(purpose).child(CoinType)
}
