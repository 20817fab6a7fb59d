package vm

import (
	"crypto/sha256"
	"fmt"

	bls "github.com/consensys/gnark-crypto/ecc/bls12-381"
)

// What the imports on BLS12-381 answer beside verified and notVerified, as
// CosmWasm numbers it. Its 14 and 15, for lists without a point, are answered by
// nobody: a product of no pairings is 1.
const (
	badPoint        = 8
	badHashFunction = 9
	badListG1       = 11 // of pairings: no list of points of G1
	badListG2       = 12
	badPairs        = 13 // not as many points of G1 as of G2
	emptySum        = 16
	badSum          = 17 // no list of points
)

// Points are compressed, as in the appendix C of the pairing-friendly curves draft
// of the IETF: three flags, and x.
const (
	pointG1      = bls.SizeOfG1AffineCompressed
	pointG2      = bls.SizeOfG2AffineCompressed
	maxPointList = 2 << 20 // bytes of a list of points
	maxHashed    = 5 << 20
	maxDomain    = 5 << 10
)

const functionSHA256 = 0 // the one hash function

// readG1 reads a point. It is refused if it is written in another way than the one
// that there is, is not on the curve, or not of the subgroup. One that says that it
// is not compressed would be longer.
func readG1(text []byte) (p bls.G1Affine, ok bool) {
	if len(text) != pointG1 {
		return p, false
	}
	_, err := p.SetBytes(text)
	return p, err == nil
}

// readG2 is readG1 for the other group.
func readG2(text []byte) (p bls.G2Affine, ok bool) {
	if len(text) != pointG2 {
		return p, false
	}
	_, err := p.SetBytes(text)
	return p, err == nil
}

// sumG1 adds points of G1.
func sumG1(list []byte) ([]byte, int64) {
	var sum bls.G1Jac
	for ; len(list) > 0; list = list[pointG1:] {
		p, ok := readG1(list[:pointG1])
		if !ok {
			return nil, badPoint
		}
		sum.AddMixed(&p)
	}
	out := new(bls.G1Affine).FromJacobian(&sum).Bytes()
	return out[:], verified
}

// sumG2 adds points of G2.
func sumG2(list []byte) ([]byte, int64) {
	var sum bls.G2Jac
	for ; len(list) > 0; list = list[pointG2:] {
		p, ok := readG2(list[:pointG2])
		if !ok {
			return nil, badPoint
		}
		sum.AddMixed(&p)
	}
	out := new(bls.G2Affine).FromJacobian(&sum).Bytes()
	return out[:], verified
}

// sum is the import that adds points of so many bytes each.
func (r *run) sum(args [maxArgs]int32, size int, price uint64, add func(list []byte) ([]byte, int64)) (int64, error) {
	list, err := r.take(args[0], maxPointList, "a list of points")
	if err != nil || !r.charge(price*uint64(len(list)/size)) {
		return 0, errStopped
	}
	switch {
	case len(list) == 0:
		return emptySum, nil
	case len(list)%size != 0:
		return badSum, nil
	}
	point, code := add(list)
	if code != verified {
		return code, nil
	}
	return verified, r.put(args[1], point, "a point")
}

func (r *run) aggregateG1(args [maxArgs]int32) (int64, error) {
	return r.sum(args, pointG1, pricePointG1, sumG1)
}

func (r *run) aggregateG2(args [maxArgs]int32) (int64, error) {
	return r.sum(args, pointG2, pricePointG2, sumG2)
}

// pairingEquality is the import that tells whether the product of the pairings of
// some points of G1 with as many of G2 is the pairing of two more.
func (r *run) pairingEquality(args [maxArgs]int32) (int64, error) {
	var all [4][]byte
	for i, most := range []uint32{maxPointList, maxPointList, pointG1, pointG2} {
		var err error
		if all[i], err = r.take(args[i], most, "a list of points"); err != nil {
			return 0, err
		}
	}
	if !r.charge(pricePairings + pricePair*uint64(1+max(len(all[0])/pointG1, len(all[1])/pointG2))) {
		return 0, errStopped
	}
	return checkPairings(all[0], all[1], all[2], all[3]), nil
}

// checkPairings compares ∏ e(p, q) with e(one, two).
func checkPairings(ps, qs, one, two []byte) int64 {
	switch {
	case len(ps)%pointG1 != 0:
		return badListG1
	case len(qs)%pointG2 != 0:
		return badListG2
	case len(ps)/pointG1 != len(qs)/pointG2:
		return badPairs
	}
	p, okP := readG1(one)
	q, okQ := readG2(two)
	if !okP || !okQ {
		return badPoint
	}
	left, right := []bls.G1Affine{*p.Neg(&p)}, []bls.G2Affine{q}
	for ; len(ps) > 0; ps, qs = ps[pointG1:], qs[pointG2:] {
		p, okP := readG1(ps[:pointG1])
		q, okQ := readG2(qs[:pointG2])
		if !okP || !okQ {
			return badPoint
		}
		left, right = append(left, p), append(right, q)
	}
	same, err := bls.PairingCheck(left, right)
	switch {
	case err != nil:
		panic(fmt.Sprintf("vm: %d pairings: %v", len(left), err)) // it fails for none alone
	case same:
		return verified
	default:
		return notVerified
	}
}

// hashTo is the import that hashes a message, in a domain, to a point (RFC 9380).
func (r *run) hashTo(args [maxArgs]int32, price uint64, hash func(message, domain []byte) ([]byte, error)) (int64, error) {
	message, err := r.take(args[1], maxHashed, "a message")
	if err != nil {
		return 0, err
	}
	domain, err := r.take(args[2], maxDomain, "a domain")
	if err != nil || !r.charge(price+uint64(len(message)+len(domain)+63)/64*priceHashBlock) {
		return 0, errStopped
	}
	if args[0] != functionSHA256 {
		return badHashFunction, nil
	}
	if len(domain) > 255 { // RFC 9380 §5.3.3
		short := sha256.Sum256(append([]byte("H2C-OVERSIZE-DST-"), domain...))
		domain = short[:]
	}
	point, err := hash(message, domain)
	if err != nil {
		panic("vm: hashing to a curve: " + err.Error()) // it fails for longer domains alone
	}
	return verified, r.put(args[3], point, "a point")
}

func (r *run) hashToG1(args [maxArgs]int32) (int64, error) {
	return r.hashTo(args, priceHashG1, func(message, domain []byte) ([]byte, error) {
		p, err := bls.HashToG1(message, domain)
		out := p.Bytes()
		return out[:], err
	})
}

func (r *run) hashToG2(args [maxArgs]int32) (int64, error) {
	return r.hashTo(args, priceHashG2, func(message, domain []byte) ([]byte, error) {
		p, err := bls.HashToG2(message, domain)
		out := p.Bytes()
		return out[:], err
	})
}
