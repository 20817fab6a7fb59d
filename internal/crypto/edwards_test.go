package crypto_test

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

func needFused(t *testing.T) {
	t.Helper()
	if !crypto.HasFused() {
		t.Skip("this processor has no AVX-512 IFMA")
	}
}

func valueOf(limbs [5]uint64) *big.Int {
	sum := new(big.Int)
	for k, limb := range limbs {
		sum.Add(sum, new(big.Int).Lsh(new(big.Int).SetUint64(limb), uint(51*k)))
	}
	return sum
}

// TestArithmeticOfEightLanes compares with big integers, for limbs at the edges of
// what they may be and for others.
func TestArithmeticOfEightLanes(t *testing.T) {
	needFused(t)
	rng := rand.New(rand.NewPCG(3, 4))
	edges := []uint64{0, 1, 18, 19, 20, 1<<51 - 20, 1<<51 - 19, 1<<51 - 18, 1<<51 - 1, 1 << 51, 1<<51 + 1, 1<<51 + 1<<14 - 1}
	limb := func() uint64 {
		if rng.IntN(2) == 0 {
			return edges[rng.IntN(len(edges))]
		}
		return rng.Uint64N(1<<51 + 1<<14)
	}
	all := uint64(1<<51 + 1<<14 - 1)
	for round := range 3_000 {
		var a, b crypto.Lanes
		var av, bv [8]*big.Int
		for i := range 8 {
			var al, bl [5]uint64
			for k := range 5 {
				al[k], bl[k] = limb(), limb()
				if round == 0 {
					al[k], bl[k] = all, all
				}
				a[k][i], b[k][i] = al[k], bl[k]
			}
			av[i], bv[i] = valueOf(al), valueOf(bl)
		}
		times := 1 + rng.IntN(5)
		got := crypto.Compute(&a, &b, times)
		for i := range 8 {
			power := new(big.Int).Exp(av[i], new(big.Int).Lsh(big.NewInt(1), uint(times)), prime)
			for r, want := range []*big.Int{new(big.Int).Mul(av[i], bv[i]), new(big.Int).Add(av[i], bv[i]), new(big.Int).Sub(av[i], bv[i]), power} {
				if want.Mod(want, prime); valueOf(got[r][i]).Cmp(want) != 0 {
					t.Fatalf("round %d, operation %d, lane %d: %v, want %v", round, r, i, valueOf(got[r][i]), want)
				}
			}
		}
	}
}

// smallEncodings are all encodings, canonical or not, of points of small order.
func smallEncodings(t *testing.T) (out [][32]byte) {
	t.Helper()
	var ys []*big.Int
	for _, p := range curve.EIGHT_TORSION {
		var compressed curve.CompressedEdwardsY
		compressed.SetEdwardsPoint(p)
		compressed[31] &= 0x7f
		slices.Reverse(compressed[:])
		ys = append(ys, new(big.Int).SetBytes(compressed[:]))
	}
	for _, y := range ys {
		for _, v := range []*big.Int{y, new(big.Int).Add(y, prime)} {
			if v.BitLen() > 255 {
				continue
			}
			for sign := range byte(2) {
				var raw [32]byte
				v.FillBytes(raw[:])
				slices.Reverse(raw[:])
				raw[31] |= sign << 7
				if !slices.Contains(out, raw) {
					out = append(out, raw)
				}
			}
		}
	}
	return out
}

// TestSmallOrderEverywhere has ZIP-215's own 196 signatures, of every encoding of a
// point of small order as key and as R and with S = 0: all are valid, alone, in
// batches, and among others that are bad.
func TestSmallOrderEverywhere(t *testing.T) {
	encodings := smallEncodings(t)
	if len(encodings) != 14 {
		t.Fatalf("%d encodings, want 14", len(encodings))
	}
	var items []crypto.Signed
	for _, a := range encodings {
		for _, r := range encodings {
			it := crypto.Signed{Key: a, Digest: crypto.Digest{1, 2, 3}}
			copy(it.Signature[:], r[:])
			items = append(items, it)
			if !crypto.VerifyMessage(it.Key, it.Digest[:], it.Signature) {
				t.Errorf("key %x, R %x: refused alone", a, r)
			}
		}
	}
	check := func() {
		if slices.Contains(crypto.VerifyBatch(items, 2), false) {
			t.Error("one is refused in a batch")
		}
		bad := append(slices.Clone(items), items[0])
		bad[len(items)].Signature[32] = 1 // S = 1
		verdicts := crypto.VerifyBatch(bad, 1)
		if verdicts[len(items)] || slices.Contains(verdicts[:len(items)], false) {
			t.Error("wrong verdicts beside a bad one")
		}
	}
	check()
	crypto.WithoutFused(check)
}

// TestSumOfMultiples compares, at every size of window, with a library: of random
// points and scalars, zero and the largest among them, and the multiple of the
// generator that makes the sum zero, or one more.
func TestSumOfMultiples(t *testing.T) {
	needFused(t)
	rng := rand.New(rand.NewPCG(5, 6))
	random := func(bits uint) *big.Int {
		limit := new(big.Int).Lsh(big.NewInt(1), bits)
		if bits > 250 {
			limit = order
		}
		switch rng.IntN(8) {
		case 0:
			return new(big.Int)
		case 1:
			return new(big.Int).Sub(limit, big.NewInt(1))
		}
		raw := make([]byte, 40)
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		return new(big.Int).Mod(new(big.Int).SetBytes(raw), limit)
	}
	words := func(v *big.Int) (out [4]uint64) {
		for k := range out {
			out[k] = new(big.Int).Rsh(v, uint(64*k)).Uint64()
		}
		return out
	}
	for window := 4; window <= 9; window++ {
		for _, n := range []int{0, 1, 2, 7, 40} {
			points := make([][32]byte, 2*n)
			var longs, shorts [][4]uint64
			sum := new(big.Int)
			for i := range points {
				exponent := random(253)
				points[i] = multipleOfBase(t, exponent)
				s := random(128)
				if i < n {
					s = random(253)
					longs = append(longs, words(s))
				} else {
					shorts = append(shorts, words(s))
				}
				sum.Add(sum, new(big.Int).Mul(exponent, s))
			}
			for _, off := range []int64{0, 1} {
				base := new(big.Int).Sub(big.NewInt(off), sum)
				if got := crypto.SmallOrder(window, words(base.Mod(base, order)), points, longs, shorts); got != (off == 0) {
					t.Errorf("window %d, %d points, off by %d: of small order is %v", window, 2*n, off, got)
				}
			}
		}
	}
}

// TestFullBuckets has most points of a window in few buckets, some of them in more than
// are told apart when buckets are sorted by their size, and none in most.
func TestFullBuckets(t *testing.T) {
	needFused(t)
	point := multipleOfBase(t, big.NewInt(7))
	for window := 4; window <= 9; window++ {
		for _, alike := range []int64{0, 1, 254, 255, 256, 300} {
			points, sum := make([][32]byte, 2*(alike+3)), int64(0)
			var longs, shorts [][4]uint64
			for i := range points {
				points[i] = point
				scalar := uint64(1 + i%3)
				if i >= 6 {
					scalar = 5
				}
				sum += 7 * int64(scalar)
				if i < len(points)/2 {
					longs = append(longs, [4]uint64{scalar})
				} else {
					shorts = append(shorts, [4]uint64{scalar})
				}
			}
			for _, off := range []int64{0, 1} {
				base := new(big.Int).Mod(big.NewInt(off-sum), order)
				var words [4]uint64
				for k := range words {
					words[k] = new(big.Int).Rsh(base, uint(64*k)).Uint64()
				}
				if got := crypto.SmallOrder(window, words, points, longs, shorts); got != (off == 0) {
					t.Errorf("window %d, %d points alike, off by %d: of small order is %v", window, 2*alike, off, got)
				}
			}
		}
	}
}

func multipleOfBase(t *testing.T, exponent *big.Int) (out [32]byte) {
	t.Helper()
	var raw [32]byte
	exponent.FillBytes(raw[:])
	slices.Reverse(raw[:])
	s, err := scalar.NewFromCanonicalBytes(raw[:])
	if err != nil {
		t.Fatal(err)
	}
	var p curve.EdwardsPoint
	var compressed curve.CompressedEdwardsY
	return *(*[32]byte)(compressed.SetEdwardsPoint(p.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, s)))
}

// TestOneBadAmongMany finds each bad signature in batches larger than one
// multiplication takes.
func TestOneBadAmongMany(t *testing.T) {
	good := signedPool()
	items := append(append(slices.Clone(good), good...), good...)
	for _, at := range []int{0, 1, 699, 1_050, len(items) - 1} {
		bad := slices.Clone(items)
		bad[at].Digest[5] ^= 4
		for _, parallelism := range []int{1, 2} {
			for i, ok := range crypto.VerifyBatch(bad, parallelism) {
				if ok != (i != at) {
					t.Fatalf("item %d of %d is %v, bad is %d", i, len(bad), ok, at)
				}
			}
		}
	}
}
