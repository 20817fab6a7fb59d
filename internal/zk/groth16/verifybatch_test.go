package groth16

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// blockOf are proofs of two kernels, as a block holds them.
var blockOf = sync.OnceValues(func() (*Verifier, []zk.Claim) {
	small := compiled["hashchain-1"]()
	other, err := setup(small, nil)
	if err != nil {
		panic(err)
	}
	v, err := NewVerifier(map[zk.Kernel][]byte{testKernel: sharedSetup().keys.VerifyingKey(), "hashchain-1": other.VerifyingKey()})
	if err != nil {
		panic(err)
	}
	var claims []zk.Claim
	for i := range 4 {
		bind := zk.Bind("hypermesh-test", crypto.Digest{byte(i)}, 1, crypto.PublicKey{2})
		left, err := zk.NewMatmulWork(filledMatrix(testSize, int16(i)), filledMatrix(testSize, 7))
		if err != nil {
			panic(err)
		}
		right, err := zk.NewHashchainWork(1, zk.Field{31: byte(i)})
		if err != nil {
			panic(err)
		}
		for _, r := range []struct {
			keys *Keys
			work zk.Work
		}{{sharedSetup().keys, left}, {other, right}} {
			result, err := NewProver(r.keys).Prove(r.work, bind)
			if err != nil {
				panic(err)
			}
			claims = append(claims, zk.Claim{Statement: result.Statement, Proof: result.Proof})
		}
	}
	return v, claims
})

func TestProofsOfABlockHoldTogether(t *testing.T) {
	v, claims := blockOf()
	for n := range len(claims) + 1 {
		for i, err := range v.VerifyAll(claims[:n]) {
			if err != nil {
				t.Errorf("%d claims, claim %d: %v", n, i, err)
			}
		}
	}
	if verdicts := v.VerifyAll(slices.Repeat(claims[:1], 5)); slices.ContainsFunc(verdicts, func(err error) bool { return err != nil }) {
		t.Errorf("one claim five times: %v", verdicts)
	}
}

// TestEachClaimHasItsOwnVerdict spoils claims of a block: the verdicts are those
// that each has alone.
func TestEachClaimHasItsOwnVerdict(t *testing.T) {
	v, good := blockOf()
	_, _, g1, _ := bn254.Generators()
	points := func(edit func(p *proofPoints)) func(*zk.Claim) {
		return func(c *zk.Claim) {
			p, err := decodeProof(c.Proof)
			if err != nil {
				t.Fatal(err)
			}
			edit(&p)
			c.Proof = encodeProof(&backend.Proof{Ar: p.ar, Bs: p.bs, Krs: p.krs,
				Commitments: []bn254.G1Affine{p.commitment}, CommitmentPok: p.knowledge})
		}
	}
	spoil := map[string]func(c *zk.Claim){
		"bind":          func(c *zk.Claim) { c.Statement.Bind[31] ^= 1 },
		"input":         func(c *zk.Claim) { c.Statement.Inputs[0][31] ^= 1 },
		"key":           func(c *zk.Claim) { c.Statement.VerifyingKey[0] ^= 1 },
		"kernel":        func(c *zk.Claim) { c.Statement.Kernel = "matmul-8" },
		"no proof":      func(c *zk.Claim) { c.Proof = nil },
		"not canonical": func(c *zk.Claim) { c.Statement.Bind = plusOrder(c.Statement.Bind) },
		"infinity":      func(c *zk.Claim) { clear(c.Proof[:g1Size]); c.Proof[0] = 0x40 },
		"Krs":           points(func(p *proofPoints) { p.krs.Add(&p.krs, &g1) }),
		"knowledge":     points(func(p *proofPoints) { p.knowledge.Add(&p.knowledge, &g1) }),
	}
	for name, edit := range spoil {
		for _, which := range [][]int{{0}, {3}, {7}, {1, 2}, {0, 1, 2, 3, 4, 5, 6, 7}} {
			claims := make([]zk.Claim, len(good))
			for i, c := range good {
				claims[i] = zk.Claim{Statement: cloneStatement(c.Statement), Proof: slices.Clone(c.Proof)}
			}
			for _, i := range which {
				edit(&claims[i])
			}
			verdicts := v.VerifyAll(claims)
			for i, c := range claims {
				alone := v.Verify(c.Statement, c.Proof)
				if fmt.Sprint(verdicts[i]) != fmt.Sprint(alone) || (alone != nil) != slices.Contains(which, i) {
					t.Errorf("%s of %v, claim %d: %v, alone %v", name, which, i, verdicts[i], alone)
				}
			}
		}
	}
}

// TestVerdictsDoNotDependOnCompany draws blocks of claims, good and spoiled in every way, some of
// them twice, and has each verified in company and alone.
func TestVerdictsDoNotDependOnCompany(t *testing.T) {
	v, good := blockOf()
	rng := seeded(t)
	outside := outsideSubgroup(t)
	spoil := []func(c *zk.Claim){
		func(c *zk.Claim) {}, func(c *zk.Claim) {}, func(c *zk.Claim) {},
		func(c *zk.Claim) { c.Proof[rng.IntN(len(c.Proof))] ^= 1 << rng.IntN(8) },
		func(c *zk.Claim) { c.Proof = c.Proof[:rng.IntN(len(c.Proof))] },
		func(c *zk.Claim) { c.Proof = append(c.Proof, 0) },
		func(c *zk.Claim) { clear(c.Proof[atKrs:][:g1Size]); c.Proof[atKrs] = 0x40 }, // infinity
		func(c *zk.Claim) { copy(c.Proof[atBs:], outside) },
		func(c *zk.Claim) { c.Statement.Bind = good[rng.IntN(len(good))].Statement.Bind }, // replayed for another order
		func(c *zk.Claim) { c.Proof = slices.Clone(good[rng.IntN(len(good))].Proof) },
		func(c *zk.Claim) { // of another kernel
			o := good[rng.IntN(len(good))].Statement
			c.Statement.Kernel, c.Statement.VerifyingKey = o.Kernel, o.VerifyingKey
		},
		func(c *zk.Claim) { c.Statement.Kernel = "matmul-8" },
		func(c *zk.Claim) { c.Statement.VerifyingKey[rng.IntN(32)] ^= 1 },
		func(c *zk.Claim) { c.Statement.Output[0] = plusOrder(c.Statement.Output[0]) },
		func(c *zk.Claim) { c.Statement.Inputs = append(c.Statement.Inputs, zk.Field{}) },
	}
	held, refused := 0, 0
	for range 25 {
		claims := make([]zk.Claim, rng.IntN(9))
		spoiled := 1 + rng.IntN(len(spoil)) // so that some blocks have no false claim
		for i := range claims {
			c := good[rng.IntN(len(good))]
			claims[i] = zk.Claim{Statement: cloneStatement(c.Statement), Proof: slices.Clone(c.Proof)}
			spoil[rng.IntN(spoiled)](&claims[i])
		}
		for i, verdict := range v.VerifyAll(claims) {
			if alone := v.Verify(claims[i].Statement, claims[i].Proof); fmt.Sprint(verdict) != fmt.Sprint(alone) {
				t.Errorf("claim %d of %d: %v, alone %v", i, len(claims), verdict, alone)
			}
			if verdict == nil {
				held++
			} else {
				refused++
			}
		}
	}
	if held == 0 || refused == 0 {
		t.Errorf("%d claims held, %d were refused: want some of each", held, refused)
	}
}

// TestErrorsDoNotCancel: two claims false by amounts that add up to nothing, in
// one equation of two proofs and in both equations of one.
func TestErrorsDoNotCancel(t *testing.T) {
	v, good := blockOf()
	_, _, g1, _ := bn254.Generators()
	var minus bn254.G1Affine
	minus.Neg(&g1)
	shift := func(c zk.Claim, krs, knowledge *bn254.G1Affine) zk.Claim {
		p, err := decodeProof(c.Proof)
		if err != nil {
			t.Fatal(err)
		}
		if krs != nil {
			p.krs.Add(&p.krs, krs)
		}
		if knowledge != nil {
			p.knowledge.Add(&p.knowledge, knowledge)
		}
		return zk.Claim{Statement: c.Statement, Proof: encodeProof(&backend.Proof{Ar: p.ar, Bs: p.bs, Krs: p.krs,
			Commitments: []bn254.G1Affine{p.commitment}, CommitmentPok: p.knowledge})}
	}
	for name, claims := range map[string][]zk.Claim{
		"Krs":       {shift(good[0], &g1, nil), shift(good[2], &minus, nil)},
		"knowledge": {shift(good[0], nil, &g1), shift(good[2], nil, &minus)},
		"both":      {shift(good[0], &g1, &g1), shift(good[2], &minus, &minus)},
	} {
		for i, err := range v.VerifyAll(claims) {
			if !errors.Is(err, zk.ErrFalseProof) {
				t.Errorf("%s, claim %d: %v", name, i, err)
			}
		}
	}
}

func BenchmarkVerifyTogether(b *testing.B) {
	v, claims := blockOf()
	var same []zk.Claim
	for i := 0; i < len(claims); i += 2 {
		same = append(same, claims[i])
	}
	for _, n := range []int{1, 2, 4, 8, 16, 64} {
		block := slices.Repeat(same, 16)[:n]
		b.Run(fmt.Sprintf("together-%d", n), func(b *testing.B) {
			for b.Loop() {
				v.VerifyAll(block)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/proof")
		})
		b.Run(fmt.Sprintf("alone-%d", n), func(b *testing.B) {
			for b.Loop() {
				for _, c := range block {
					if err := v.Verify(c.Statement, c.Proof); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/proof")
		})
	}
}

// BenchmarkBlockProofs verifies the proofs of a block in waves of sixteen as execution does, of which one
// proof or all are false, and all of them one by one, in turns: as ratios, for a machine that is loaded.
func BenchmarkBlockProofs(b *testing.B) {
	const wave = 16
	v, claims := blockOf()
	block := slices.Repeat(claims, 8) // 64
	spoiled := make([]zk.Claim, len(block))
	for i, c := range block {
		spoiled[i] = zk.Claim{Statement: cloneStatement(c.Statement), Proof: c.Proof}
		spoiled[i].Statement.Bind[31] ^= 1
	}
	held := func(err error) bool { return err == nil }
	alone := func(claims []zk.Claim) {
		for _, c := range claims {
			held(v.Verify(c.Statement, c.Proof))
		}
	}
	inWaves := func(claims []zk.Claim) {
		for part := range slices.Chunk(claims, wave) {
			if slices.ContainsFunc(v.VerifyAll(part), func(err error) bool { return err != nil }) {
				alone(claims[wave:]) // the block's first is spoiled: no other wave is tried
				return
			}
		}
	}
	var took [4]time.Duration
	for b.Loop() {
		for i, part := range []func(){
			func() { alone(block) }, func() { inWaves(block) },
			func() { alone(spoiled) }, func() { inWaves(spoiled) },
		} {
			begun := processor(b)
			part()
			took[i] += processor(b) - begun
		}
	}
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N*len(block)), "alone-ns/proof")
	b.ReportMetric(float64(took[1].Nanoseconds())/float64(b.N*len(block)), "together-ns/proof")
	b.ReportMetric(float64(took[1])/float64(took[0]), "together/alone")
	b.ReportMetric(float64(took[3])/float64(took[2]), "false-together/alone")
}
