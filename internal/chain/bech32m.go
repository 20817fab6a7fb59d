package chain

import (
	"errors"
	"fmt"
	"strings"
)

// Bech32m (BIP-350), with BIP-173's limit of 90 characters.

const (
	bech32Charset  = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	bech32mConst   = 0x2bc830a3
	bech32MaxChars = 90
	bech32Checksum = 6
)

var errBech32 = errors.New("chain: not a bech32m string")

// bech32Tops is what the five highest bits of a checksum become when it moves on.
var bech32Tops = func() (out [32]uint32) {
	for top := range out {
		for i, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>i&1 == 1 {
				out[top] ^= g
			}
		}
	}
	return out
}()

func bech32Polymod(values []byte) uint32 {
	sum := uint32(1)
	for _, v := range values {
		sum = (sum&0x1ffffff)<<5 ^ uint32(v) ^ bech32Tops[sum>>25&31]
	}
	return sum
}

func appendExpanded(out []byte, hrp string) []byte {
	for i := range len(hrp) {
		out = append(out, hrp[i]>>5)
	}
	out = append(out, 0)
	for i := range len(hrp) {
		out = append(out, hrp[i]&31)
	}
	return out
}

// encodeBech32m returns the bech32m string of 5-bit groups under a lower-case
// human-readable part.
func encodeBech32m(hrp string, groups []byte) string {
	var room [2 * bech32MaxChars]byte
	values := append(appendExpanded(room[:0], hrp), groups...)
	sum := bech32Polymod(append(values, make([]byte, bech32Checksum)...)) ^ bech32mConst
	var text [bech32MaxChars]byte
	out := append(append(text[:0], hrp...), '1')
	for _, g := range groups {
		out = append(out, bech32Charset[g])
	}
	for i := range bech32Checksum {
		out = append(out, bech32Charset[sum>>(5*(5-i))&31])
	}
	return string(out)
}

// decodeBech32m returns the human-readable part, lower-cased, and the 5-bit
// groups of a bech32m string.
func decodeBech32m(s string) (hrp string, groups []byte, err error) {
	if len(s) > bech32MaxChars {
		return "", nil, fmt.Errorf("%w: %d characters, limit %d", errBech32, len(s), bech32MaxChars)
	}
	lower := strings.ToLower(s)
	if s != lower && s != strings.ToUpper(s) {
		return "", nil, fmt.Errorf("%w: mixed case", errBech32)
	}
	sep := strings.LastIndexByte(lower, '1')
	if sep < 1 || sep+1+bech32Checksum > len(lower) {
		return "", nil, fmt.Errorf("%w: no separator, or too short", errBech32)
	}
	hrp = lower[:sep]
	for i := range len(hrp) {
		if hrp[i] < 33 || hrp[i] > 126 {
			return "", nil, fmt.Errorf("%w: character %#x in the prefix", errBech32, hrp[i])
		}
	}
	groups = make([]byte, 0, len(lower)-sep-1)
	for i := sep + 1; i < len(lower); i++ {
		g := strings.IndexByte(bech32Charset, lower[i])
		if g < 0 {
			return "", nil, fmt.Errorf("%w: character %q", errBech32, lower[i])
		}
		groups = append(groups, byte(g))
	}
	var room [2 * bech32MaxChars]byte
	if bech32Polymod(append(appendExpanded(room[:0], hrp), groups...)) != bech32mConst {
		return "", nil, fmt.Errorf("%w: wrong checksum", errBech32)
	}
	return hrp, groups[:len(groups)-bech32Checksum], nil
}

// regroup turns groups of from bits into groups of to bits. With pad, the last
// group is filled with zero bits; without, left-over bits must be fewer than
// from and zero.
func regroup(in []byte, from, to uint, pad bool) ([]byte, bool) {
	var acc uint32
	var bits uint
	out := make([]byte, 0, len(in)*int(from)/int(to)+1)
	for _, v := range in {
		acc = acc<<from | uint32(v)
		bits += from
		for bits >= to {
			bits -= to
			out = append(out, byte(acc>>bits&(1<<to-1)))
		}
		acc &= 1<<bits - 1
	}
	if pad && bits > 0 {
		return append(out, byte(acc<<(to-bits)&(1<<to-1))), true
	}
	return out, pad || bits < from && acc == 0
}
