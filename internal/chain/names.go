package chain

import (
	"bytes"
	"fmt"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// AddressPrefix is the human-readable part of every address: hyper1….
const AddressPrefix = "hyper"

// Address names an account: the digest of its first tagged key, or of a
// module's name. In text it is bech32m (BIP-350).
type Address [32]byte

// AddressOf returns the address of a tagged account key.
func AddressOf(key crypto.AccountKey) Address {
	var buf [1 + crypto.PublicKeySize]byte
	return Address(crypto.DomainAddress.Hash(appendTagged(buf[:0], &key)))
}

// appendTagged appends what an address is the digest of.
func appendTagged(dst []byte, key *crypto.AccountKey) []byte {
	return append(append(dst, byte(key.Scheme)), key.Key...)
}

// ModuleAddress returns the address of a module's own account, such as the
// treasury: no key hashes to it.
func ModuleAddress(module string) Address {
	return Address(crypto.DomainModule.Hash([]byte(module)))
}

// ParseAddress reads a bech32m address.
func ParseAddress(s string) (Address, error) {
	hrp, groups, err := decodeBech32m(s)
	if err != nil {
		return Address{}, err
	}
	if hrp != AddressPrefix {
		return Address{}, fmt.Errorf("chain: address begins with %q, want %q", hrp, AddressPrefix)
	}
	raw, ok := regroup(groups, 5, 8, false)
	if !ok || len(raw) != len(Address{}) {
		return Address{}, fmt.Errorf("chain: address holds %d bytes, want %d", len(raw), len(Address{}))
	}
	return Address(raw), nil
}

// String returns the address as bech32m.
func (a Address) String() string {
	groups, _ := regroup(a[:], 8, 5, true)
	return encodeBech32m(AddressPrefix, groups)
}

// Short returns the address shortened for people: hyper1abcd…wxyz.
func (a Address) Short() string {
	s := a.String()
	return s[:10] + "…" + s[len(s)-4:]
}

// IsZero reports whether every byte is zero.
func (a Address) IsZero() bool { return a == Address{} }

// Compare orders addresses as byte strings: −1, 0 or +1.
func (a Address) Compare(b Address) int { return bytes.Compare(a[:], b[:]) }

// MarshalText is String.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads a bech32m address.
func (a *Address) UnmarshalText(text []byte) error {
	parsed, err := ParseAddress(string(text))
	if err == nil {
		*a = parsed
	}
	return err
}

// ChainID names a chain: 3 to 32 of a–z, 0–9 and '-', starting with a letter.
type ChainID string

// Check returns an error that says what is wrong with the name.
func (c ChainID) Check() error {
	if len(c) < 3 || len(c) > 32 {
		return fmt.Errorf("chain: chain id of %d characters, want 3 to 32", len(c))
	}
	for i := range len(c) {
		b := c[i]
		letter := b >= 'a' && b <= 'z'
		if !letter && (i == 0 || (b < '0' || b > '9') && b != '-') {
			return fmt.Errorf("chain: chain id has %q at position %d", b, i)
		}
	}
	return nil
}
