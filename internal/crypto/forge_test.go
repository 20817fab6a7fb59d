package crypto_test

import (
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// forgery is a signature by somebody who knows the discrete logarithms of all
// points, and chooses them and what is of small order in them. A judge needs no
// curve for it: it is valid if S is the right number.
type forgery struct {
	key, nonce       int // of exponents
	keySmall, rSmall int // what is added: the multiple of a point of order eight
	keyForm, rForm   int // of the encodings, if there are several
	tweak            int // of S
	message          uint64
}

// exponents of the generator that keys and R have: several are opposite, so that
// points meet each other and cancel.
var exponents = sync.OnceValue(func() []*big.Int {
	out := []*big.Int{new(big.Int)}
	large := new(big.Int).Rsh(order, 1)
	for _, v := range []*big.Int{big.NewInt(1), big.NewInt(2), big.NewInt(8), large, new(big.Int).Exp(big.NewInt(3), big.NewInt(150), order)} {
		out = append(out, v, minus(order, v))
	}
	return out
})

// forms are the encodings of the multiples of the generator, with points of small
// order added: of identity and its like there are several.
var forms = sync.OnceValue(func() (out [][8][][32]byte) {
	for _, e := range exponents() {
		var raw [32]byte
		e.FillBytes(raw[:])
		slices.Reverse(raw[:])
		s, err := scalar.NewFromCanonicalBytes(raw[:])
		if err != nil {
			panic(err)
		}
		var multiple curve.EdwardsPoint
		multiple.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, s)
		var of [8][][32]byte
		for i, small := range curve.EIGHT_TORSION {
			var p curve.EdwardsPoint
			var compressed curve.CompressedEdwardsY
			compressed.SetEdwardsPoint(p.Add(&multiple, small))
			of[i] = formsOf([32]byte(compressed))
		}
		out = append(out, of)
	}
	return out
})

// formsOf returns all encodings of a point, the canonical one first.
func formsOf(canonical [32]byte) [][32]byte {
	want, _ := refDecode(canonical)
	_, y := want.affine()
	out := [][32]byte{canonical}
	for _, v := range []*big.Int{y, plus(y, prime)} {
		for sign := range byte(2) {
			if v.BitLen() > 255 {
				continue
			}
			raw := encodingOf(v, sign)
			if p, ok := refDecode(raw); ok && p.encoded() == canonical && raw != canonical {
				out = append(out, raw)
			}
		}
	}
	return out
}

// tweaks of S, by what they make of it.
var tweaks = []func(s *big.Int) *big.Int{
	func(s *big.Int) *big.Int { return s },
	func(s *big.Int) *big.Int { return s },
	func(s *big.Int) *big.Int { return s },
	func(s *big.Int) *big.Int { return plus(s, order) },
	func(s *big.Int) *big.Int { return minus(order, s) },
	func(s *big.Int) *big.Int { return plus(s, big.NewInt(1)) },
	func(s *big.Int) *big.Int { return plus(s, new(big.Int).Lsh(big.NewInt(1), 255)) },
	func(*big.Int) *big.Int { return order },
	func(*big.Int) *big.Int { return new(big.Int) },
}

// forge makes the signature, and says whether it is valid.
func (f forgery) forge() (it crypto.Signed, valid bool) {
	keys, rs := forms()[f.key][f.keySmall], forms()[f.nonce][f.rSmall]
	it.Key = keys[f.keyForm%len(keys)]
	copy(it.Signature[:], rs[f.rForm%len(rs)][:])
	binary.LittleEndian.PutUint64(it.Digest[:], f.message)
	right := new(big.Int).Mul(refHash(&it), exponents()[f.key])
	right.Mod(right.Add(right, exponents()[f.nonce]), order)
	s := tweaks[f.tweak](right)
	raw := encodingOf(s, 0)
	copy(it.Signature[32:], raw[:])
	return it, s.Cmp(right) == 0
}

func randomForgery(rng *rand.Rand) forgery {
	return forgery{
		key: rng.IntN(len(exponents())), nonce: rng.IntN(len(exponents())),
		keySmall: rng.IntN(8), rSmall: rng.IntN(8), keyForm: rng.IntN(4), rForm: rng.IntN(4),
		tweak: rng.IntN(len(tweaks)), message: rng.Uint64N(4),
	}
}

// judged is a signature and what is known of it.
type judged struct {
	crypto.Signed
	valid bool
}

// oddSignatures are forgeries, and signatures with an encoding that is not one of a
// known point as key or R. All that can say so has said what they are: the arithmetic
// of big integers, the library, and for forgeries who made them.
func oddSignatures(t *testing.T, rng *rand.Rand, n int) (out []judged) {
	t.Helper()
	odd := oddEncodings()
	for i := range n {
		it, valid := randomForgery(rng).forge()
		known := true
		switch i % 8 {
		case 6:
			it.Key, known = odd[rng.IntN(len(odd))], false
		case 7:
			raw := odd[rng.IntN(len(odd))]
			copy(it.Signature[:], raw[:])
			known = false
		}
		alone := crypto.VerifyMessage(it.Key, it.Digest[:], it.Signature)
		if reference := refVerify(&it); alone != reference || known && valid != reference {
			t.Fatalf("%+v: %v by the library, %v by big integers, %v by who made it", it, alone, reference, valid)
		}
		out = append(out, judged{it, alone})
	}
	return out
}

// compareBatches verifies a batch in every way, and its valid ones by one
// multiplication, which has to do for them.
func compareBatches(t testing.TB, batch []judged) {
	t.Helper()
	items, want := make([]crypto.Signed, len(batch)), make([]bool, len(batch))
	var good []crypto.Signed
	for i, j := range batch {
		if items[i], want[i] = j.Signed, j.valid; j.valid {
			good = append(good, j.Signed)
		}
	}
	check := func(way string, got []bool) {
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: item %d of %d is %v, want %v: %+v", way, i, len(want), got[i], want[i], items[i])
			}
		}
	}
	check("batch", crypto.VerifyBatch(items, 1))
	crypto.WithoutFused(func() { check("the library's batch", crypto.VerifyBatch(items, 1)) })
	if !crypto.HasFused() {
		return
	}
	if verdicts, final := crypto.VerifyFused(good); !final || slices.Contains(verdicts, false) {
		t.Fatalf("%d valid ones are refused together", len(good))
	}
	if verdicts, final := crypto.VerifyFused(items); final {
		check("one multiplication", verdicts)
	}
}

// TestForgeriesInBatchesOfEverySize mixes signatures of all kinds.
func TestForgeriesInBatchesOfEverySize(t *testing.T) {
	rng := randomly(t)
	pool := oddSignatures(t, rng, 250)
	var good []judged
	for _, j := range pool {
		if j.valid {
			good = append(good, j)
		}
	}
	if len(good) < 40 || len(good) > 200 {
		t.Fatalf("%d of %d are valid", len(good), len(pool))
	}
	sizes := []int{255, 256, 257, 1_023, 1_024, 1_025}
	for size := range 71 {
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		parts := []int{1, size / 4} // how many are drawn from the whole pool
		if !testing.Short() {
			parts = append(parts, 0, size)
		}
		for _, bad := range parts {
			batch := make([]judged, size)
			for i := range batch {
				if batch[i] = good[rng.IntN(len(good))]; i < bad {
					batch[i] = pool[rng.IntN(len(pool))]
				}
			}
			rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
			compareBatches(t, batch)
		}
	}
}

// TestForgeriesOfOneKind has batches of one signature over and over, valid or not, and
// of a key and its opposite with the same nonces, whose points cancel.
func TestForgeriesOfOneKind(t *testing.T) {
	rng := randomly(t)
	for round := range 40 {
		f := randomForgery(rng)
		opposite := f
		opposite.key, opposite.keySmall = (f.key-1^1)+1, (8-f.keySmall)%8
		opposite.nonce, opposite.rSmall = (f.nonce-1^1)+1, (8-f.rSmall)%8
		if f.key == 0 {
			opposite.key = 0
		}
		if f.nonce == 0 {
			opposite.nonce = 0
		}
		var same, both []judged
		for i := range 4 + round {
			it, valid := f.forge()
			same = append(same, judged{it, valid})
			if i%2 == 1 {
				it, valid = opposite.forge()
			}
			both = append(both, judged{it, valid})
		}
		compareBatches(t, same)
		compareBatches(t, both)
	}
}

// TestOneBadAtEachPlace has one multiplication refuse a batch for each signature of
// it, whatever is wrong with that, and the search find it.
func TestOneBadAtEachPlace(t *testing.T) {
	rng := randomly(t)
	for _, size := range []int{4, 5, 7, 8, 9, 33, 64, 130} {
		good := make([]judged, size)
		for i := range good {
			f := randomForgery(rng)
			f.tweak = 0
			it, _ := f.forge()
			good[i] = judged{it, true}
		}
		for at := range good {
			bad := slices.Clone(good)
			f := randomForgery(rng)
			for bad[at].valid {
				f.tweak, f.message = rng.IntN(len(tweaks)), rng.Uint64()
				bad[at].Signed, bad[at].valid = f.forge()
			}
			items := make([]crypto.Signed, size)
			for i := range bad {
				items[i] = bad[i].Signed
			}
			for i, ok := range crypto.VerifyBatch(items, 1) {
				if ok != (i != at) {
					t.Fatalf("item %d of %d is %v, bad is %d: %+v", i, size, ok, at, items[at])
				}
			}
			if !crypto.HasFused() {
				continue
			}
			verdicts, final := crypto.VerifyFused(items)
			if belowOrder := littleInt(items[at].Signature[32:]).Cmp(order) < 0; final == belowOrder || final && verdicts[at] {
				t.Fatalf("bad is %d of %d: final is %v, and its verdict %v", at, size, final, verdicts[at])
			}
		}
	}
}

// TestNothingRemainsOfABatch verifies good batches after bad and larger ones, from
// several goroutines, so that the same memory serves many.
func TestNothingRemainsOfABatch(t *testing.T) {
	var group sync.WaitGroup
	for worker := range uint64(4) {
		group.Go(func() {
			rng := rand.New(rand.NewPCG(worker, 0))
			for range 60 {
				batch := make([]crypto.Signed, 1+rng.IntN(90))
				want := make([]bool, len(batch))
				for i := range batch {
					f := randomForgery(rng)
					if rng.IntN(30) > 0 {
						f.tweak = 0
					}
					batch[i], want[i] = f.forge()
				}
				if got := crypto.VerifyBatch(batch, 1+rng.IntN(3)); !slices.Equal(got, want) {
					t.Errorf("worker %d: %v, want %v", worker, got, want)
				}
			}
		})
	}
	group.Wait()
}

// FuzzVerifyBatch makes batches of up to eight forgeries, changes bytes of some, and
// compares all ways.
func FuzzVerifyBatch(f *testing.F) {
	const record = 12
	f.Add(make([]byte, 5*record))
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		raw := make([]byte, (2+seed)*record)
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var batch []judged
		for ; len(raw) >= record && len(batch) < 8; raw = raw[record:] {
			made := forgery{
				key: int(raw[0]) % len(exponents()), nonce: int(raw[1]) % len(exponents()),
				keySmall: int(raw[2] & 7), rSmall: int(raw[2] >> 3 & 7), keyForm: int(raw[3] & 3), rForm: int(raw[3] >> 2 & 3),
				tweak: int(raw[4]) % len(tweaks), message: uint64(raw[5]),
			}
			it, valid := made.forge()
			all := [][]byte{it.Key[:], it.Signature[:32], it.Signature[32:]}
			for i := 6; i+1 < record; i += 2 {
				all[raw[i]>>5%3][raw[i]&31] ^= raw[i+1]
			}
			alone := crypto.VerifyMessage(it.Key, it.Digest[:], it.Signature)
			if slices.Max(raw[6:record]) == 0 && alone != valid {
				t.Fatalf("%+v is %v, want %v", made, alone, valid)
			}
			batch = append(batch, judged{it, alone})
		}
		if len(batch) > 0 {
			compareBatches(t, batch)
		}
	})
}
