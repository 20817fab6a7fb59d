package crypto_test

import (
	"encoding/binary"
	"fmt"
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
	crypto.WithoutFused(func() {
		check("the library's batch", crypto.VerifyBatch(items, 1))
		if len(items) <= 70 {
			cache := crypto.NewKeyCache(64)
			for range 3 { // its keys are seen, then expanded, then known
				check("the library's batch of known keys", cache.VerifyBatch(items, 1))
			}
		}
	})
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
	sizes := []int{127, 128, 129, 255, 256, 257, 511, 512, 513, 1_023, 1_024, 1_025} // where windows and batches grow
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

// TestErrorsDoNotCancel has bad signatures whose errors sum up to nothing, each
// multiplied by a small number: only factors that nobody knows tell them from good
// ones.
func TestErrorsDoNotCancel(t *testing.T) {
	needFused(t)
	rng := randomly(t)
	good := make([]crypto.Signed, 9)
	for i := range good {
		f := randomForgery(rng)
		f.tweak = 0
		good[i], _ = f.forge()
	}
	relations := [][]int64{{1, -1}, {1, 0, -1}, {1, 1, -2}, {1, -2, 1}, {2, -1}, {1, -2}, {3, -2}, {1, 0, 0, 0, 0, 0, 0, 0, -1}}
	for round := range 4_000 {
		bad := slices.Clone(good)
		for i, by := range relations[round%len(relations)] {
			s := modulo(by)
			s.Mod(s.Add(s, littleInt(bad[i].Signature[32:])), order)
			raw := encodingOf(s, 0)
			copy(bad[i].Signature[32:], raw[:])
		}
		if _, final := crypto.VerifyFused(bad); final {
			t.Fatalf("errors of %v cancel", relations[round%len(relations)])
		}
	}
}

// TestWhatRemainsIsVerified has batches most of which is no signature at all: none, or
// one, or a few that could be valid are left, and are not.
func TestWhatRemainsIsVerified(t *testing.T) {
	rng := randomly(t)
	impossible := func() (it crypto.Signed) {
		it, _ = forgery{key: 1, nonce: 2}.forge()
		none := [32]byte{2} // no point has this y
		switch rng.IntN(3) {
		case 0:
			it.Key = none
		case 1:
			copy(it.Signature[:], none[:])
		case 2:
			it.Signature[63] |= 0x10
			it.Signature[62] |= 1 // above the order
		}
		return it
	}
	for left := range 4 {
		for _, size := range []int{4, 5, 9, 40} {
			for _, good := range []bool{true, false} {
				var batch []judged
				for range size - left {
					batch = append(batch, judged{impossible(), false})
				}
				for i := range left {
					f := forgery{key: 3 + i, nonce: 5, keySmall: i, message: uint64(i)}
					if !good {
						f.tweak = 5
					}
					it, valid := f.forge()
					batch = append(batch, judged{it, valid})
				}
				rng.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
				compareBatches(t, batch)
				items := make([]crypto.Signed, size)
				for i := range batch {
					items[i] = batch[i].Signed
				}
				if !crypto.HasFused() {
					continue
				}
				if _, final := crypto.VerifyFused(items); final != (good || left == 0) {
					t.Errorf("%d that could be valid of %d, and are: %v; final is %v", left, size, good, final)
				}
			}
		}
	}
}

// TestBatchesThatAreNotMultiplied are more signatures than a batch may have, and more
// scalars than there are points.
func TestBatchesThatAreNotMultiplied(t *testing.T) {
	needFused(t)
	items := make([]crypto.Signed, 2_049)
	for i := range items {
		items[i] = signedPool()[i%700]
	}
	if verdicts, final := crypto.VerifyFused(items[:2_048]); !final || slices.Contains(verdicts, false) {
		t.Error("2,048 valid signatures are refused")
	}
	if !panics(func() { crypto.VerifyFused(items) }) {
		t.Error("a batch of 2,049 is verified")
	}
	for short := range 2 {
		for long := range 5 {
			enough := max(4*long+2, 4*short+4)
			if panics(func() { crypto.SumOfNothing(long, short, enough) }) || !panics(func() { crypto.SumOfNothing(long, short, enough-1) }) {
				t.Errorf("%d long and %d short scalars need %d rows", long, short, enough)
			}
		}
	}
}

// TestProcessorIsCheckedFirst has a processor that multiplies wrongly in one lane.
func TestProcessorIsCheckedFirst(t *testing.T) {
	needFused(t)
	if panics(func() { crypto.KnowGoodFromBad(false) }) || !panics(func() { crypto.KnowGoodFromBad(true) }) {
		t.Error("the check does not tell a right processor from a wrong one")
	}
	if !crypto.IsChecked(signedPool()[:4]) {
		t.Error("a batch is verified without the check")
	}
}

// TestBadSignaturesAreNotMultipliedForEver bounds what a batch costs however many bad
// ones a stranger puts into it.
func TestBadSignaturesAreNotMultipliedForEver(t *testing.T) {
	needFused(t)
	for _, size := range []int{4, 63, 64, 700, 1_024} {
		for _, bad := range []int{1, 2, 3, size / 8, size} {
			items := make([]crypto.Signed, size)
			for i := range items {
				if items[i] = signedPool()[i%700]; bad > 0 && i%(size/bad) == 0 {
					items[i].Digest[5] ^= 1
				}
			}
			most := 16
			if size < 64 {
				most = 1
			}
			if failed := crypto.FailedMultiplications(items); failed > most || failed == 0 && bad > 0 {
				t.Errorf("%d bad ones of %d: %d multiplications for nothing", bad, size, failed)
			}
		}
	}
}

// BenchmarkVerifyBatchOfBad verifies batches with so many bad signatures in a
// thousand, the most expensive there are.
func BenchmarkVerifyBatchOfBad(b *testing.B) {
	const size = 1_024
	for _, bad := range []int{0, 1, 16, 128, 256, size} {
		for _, way := range []string{"lanes", "library"} {
			b.Run(fmt.Sprintf("bad=%d/%s", bad, way), func(b *testing.B) {
				items := make([]crypto.Signed, size)
				for i := range items {
					items[i] = signedPool()[i%700]
					if i*bad%size < bad {
						items[i].Digest[5] ^= 1
					}
				}
				verify := func() {
					for b.Loop() {
						crypto.VerifyBatch(items, 1)
					}
				}
				if way == "lanes" {
					verify()
				} else {
					crypto.WithoutFused(verify)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/signature")
			})
		}
	}
}
