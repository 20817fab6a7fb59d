package groth16

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	backend "github.com/consensys/gnark/backend/groth16/bn254"

	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// Where the points of a proof begin.
const (
	atAr         = 0
	atBs         = atAr + g1Size
	atKrs        = atBs + g2Size
	atCommitment = atKrs + g1Size
	atKnowledge  = atCommitment + g1Size
)

func TestRandomMatricesProveAndVerify(t *testing.T) {
	rng := seeded(t)
	verifier := sharedVerifier(t)
	cases := [][2]zk.Matrix{
		{filledMatrix(testSize, 0), filledMatrix(testSize, 0)},
		{filledMatrix(testSize, -32768), filledMatrix(testSize, -32768)},
		{filledMatrix(testSize, 32767), filledMatrix(testSize, -32768)},
	}
	for range 4 {
		cases = append(cases, [2]zk.Matrix{randomMatrix(rng, testSize), randomMatrix(rng, testSize)})
	}
	for i, c := range cases {
		bind := zk.Bind("hypermesh-test", crypto.Digest{byte(i)}, uint64(i), crypto.PublicKey{})
		result, err := proveMatmul(sharedSetup().keys, c[0], c[1], bind)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		want, err := zk.Multiply(c[0], c[1])
		if err != nil {
			t.Fatal(err)
		}
		statement := zk.Statement{ // as a stranger builds it
			Kernel: testKernel, VerifyingKey: VerifyingKeyDigest(sharedSetup().keys.VerifyingKey()),
			Inputs: []zk.Field{zk.LeftDigest(c[0]), zk.RightDigest(c[1])},
			Output: []zk.Field{zk.ProductDigest(want)},
			Bind:   bind,
		}
		if err := verifier.Verify(statement, result.Proof); err != nil {
			t.Errorf("case %d: %v", i, err)
		}
		if len(result.Proof) != ProofSize || result.Proof.Check() != nil {
			t.Errorf("case %d: proof of %d bytes", i, len(result.Proof))
		}
	}
}

func TestProverRefusesOtherSizes(t *testing.T) {
	for _, c := range [][2]zk.Matrix{
		{filledMatrix(8, 1), filledMatrix(8, 1)},
		{filledMatrix(testSize, 1), filledMatrix(8, 1)},
		{zk.Matrix{}, zk.Matrix{}},
	} {
		if _, err := proveMatmul(sharedSetup().keys, c[0], c[1], zk.Field{}); err == nil {
			t.Errorf("proved %d × %d", c[0].Size(), c[1].Size())
		}
	}
	if _, err := proveMatmul(sharedSetup().keys, filledMatrix(testSize, 1), filledMatrix(testSize, 1), zk.Field(order())); !errors.Is(err, zk.ErrNotCanonical) {
		t.Errorf("a bind that is not canonical: %v", err)
	}
}

func order() []byte { return fr.Modulus().FillBytes(make([]byte, zk.FieldSize)) }

func TestEveryPublicIsBound(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	other := zk.Field{31: 7}
	for _, c := range []struct {
		name string
		edit func(*zk.Statement)
		want error
	}{
		{"as proven", func(*zk.Statement) {}, nil},
		{"unknown kernel", func(s *zk.Statement) { s.Kernel = "matmul-8" }, zk.ErrUnknownKernel},
		{"empty kernel", func(s *zk.Statement) { s.Kernel = "" }, zk.ErrUnknownKernel},
		{"other key", func(s *zk.Statement) { s.VerifyingKey[0] ^= 1 }, zk.ErrVerifyingKey},
		{"no key", func(s *zk.Statement) { s.VerifyingKey = crypto.Digest{} }, zk.ErrVerifyingKey},
		{"an input less", func(s *zk.Statement) { s.Inputs = s.Inputs[:1] }, zk.ErrPublics},
		{"an input more", func(s *zk.Statement) { s.Inputs = append(s.Inputs, other) }, zk.ErrPublics},
		{"an output more", func(s *zk.Statement) { s.Output = append(s.Output, other) }, zk.ErrPublics},
		{"no output", func(s *zk.Statement) { s.Output = nil }, zk.ErrPublics},
		{"left digest", func(s *zk.Statement) { s.Inputs[0] = other }, zk.ErrFalseProof},
		{"right digest", func(s *zk.Statement) { s.Inputs[1] = other }, zk.ErrFalseProof},
		{"swapped digests", func(s *zk.Statement) { slices.Reverse(s.Inputs) }, zk.ErrFalseProof},
		{"product digest", func(s *zk.Statement) { s.Output[0] = other }, zk.ErrFalseProof},
		{"bind", func(s *zk.Statement) { s.Bind = other }, zk.ErrFalseProof},
		{"zero bind", func(s *zk.Statement) { s.Bind = zk.Field{} }, zk.ErrFalseProof},
		{"left digest plus r", func(s *zk.Statement) { s.Inputs[0] = plusOrder(s.Inputs[0]) }, zk.ErrNotCanonical},
		{"product digest plus r", func(s *zk.Statement) { s.Output[0] = plusOrder(s.Output[0]) }, zk.ErrNotCanonical},
		{"bind plus r", func(s *zk.Statement) { s.Bind = plusOrder(s.Bind) }, zk.ErrNotCanonical},
	} {
		statement := cloneStatement(good.Statement)
		c.edit(&statement)
		if err := verifier.Verify(statement, good.Proof); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// plusOrder returns another encoding of the same residue.
func plusOrder(f zk.Field) zk.Field {
	sum := new(big.Int).Add(new(big.Int).SetBytes(f[:]), fr.Modulus())
	return zk.Field(sum.FillBytes(make([]byte, zk.FieldSize)))
}

func cloneStatement(s zk.Statement) zk.Statement {
	s.Inputs, s.Output = slices.Clone(s.Inputs), slices.Clone(s.Output)
	return s
}

func TestProofCannotMoveToAnotherClaim(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	for name, bind := range map[string]zk.Field{
		"chain":    zk.Bind("hypermesh-main", crypto.Digest{1}, 1, crypto.PublicKey{2}),
		"order":    zk.Bind("hypermesh-test", crypto.Digest{9}, 1, crypto.PublicKey{2}),
		"sequence": zk.Bind("hypermesh-test", crypto.Digest{1}, 2, crypto.PublicKey{2}),
		"provider": zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{9}),
	} {
		statement := cloneStatement(good.Statement)
		statement.Bind = bind
		if err := verifier.Verify(statement, good.Proof); !errors.Is(err, zk.ErrFalseProof) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	statement := cloneStatement(good.Statement)
	statement.Bind = zk.Bind("hypermesh-test", crypto.Digest{1}, 1, crypto.PublicKey{2})
	if err := verifier.Verify(statement, good.Proof); err != nil {
		t.Errorf("its own claim: %v", err)
	}
}

func TestMalformedProofsAreRefused(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	outside := outsideSubgroup(t)
	put := func(at int, point []byte) []byte {
		return slices.Concat(good.Proof[:at], point, good.Proof[at+len(point):])
	}
	infinity := func(size int) []byte { return append([]byte{0x40}, make([]byte, size-1)...) }
	offCurve := func() []byte { // x = 0 … where x³ + 3 is no square
		for x := byte(1); ; x++ {
			point := append([]byte{0x80}, append(make([]byte, g1Size-2), x)...)
			if _, err := new(bn254.G1Affine).SetBytes(point); err != nil {
				return point
			}
		}
	}()
	modulus := fp.Modulus().FillBytes(make([]byte, g1Size))
	modulus[0] |= 0x80 // the compressed form of a coordinate that is not canonical
	for name, proof := range map[string][]byte{
		"nothing":               nil,
		"one byte":              {1},
		"one byte short":        good.Proof[:ProofSize-1],
		"one byte long":         append(slices.Clone(good.Proof), 0),
		"twice":                 slices.Concat(good.Proof, good.Proof),
		"a megabyte":            make([]byte, 1<<20),
		"zeros":                 make([]byte, ProofSize),
		"ones":                  bytes.Repeat([]byte{0xff}, ProofSize),
		"Ar at infinity":        put(atAr, infinity(g1Size)),
		"Bs at infinity":        put(atBs, infinity(g2Size)),
		"Krs at infinity":       put(atKrs, infinity(g1Size)),
		"commitment infinity":   put(atCommitment, infinity(g1Size)),
		"knowledge infinity":    put(atKnowledge, infinity(g1Size)),
		"Bs outside subgroup":   put(atBs, outside),
		"Ar off the curve":      put(atAr, offCurve),
		"Krs off the curve":     put(atKrs, offCurve),
		"commitment off curve":  put(atCommitment, offCurve),
		"Ar not canonical":      put(atAr, modulus),
		"Bs half not canonical": put(atBs, modulus),
	} {
		if err := verifier.Verify(good.Statement, proof); !errors.Is(err, zk.ErrMalformedProof) {
			t.Errorf("%s: %v, want a malformed proof", name, err)
		}
	}
}

// outsideSubgroup returns a compressed point of the twisted curve that is not
// in the subgroup of order r (the cofactor is large, so most are not).
func outsideSubgroup(t *testing.T) []byte {
	t.Helper()
	for x := uint64(1); x < 100; x++ {
		var p bn254.G2Affine
		p.X.A0.SetUint64(x)
		data := p.X.A1.Bytes()
		low := p.X.A0.Bytes()
		buf := append(data[:], low[:]...)
		buf[0] |= 0x80
		_, err := p.SetBytes(buf)
		if err != nil && err.Error() == "invalid point: subgroup check failed" {
			return buf
		}
	}
	t.Fatal("no point outside the subgroup found")
	return nil
}

func TestExchangedPointsAreAFalseProof(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	_, _, g1, g2 := bn254.Generators()
	swap := func(a, b int) []byte {
		out := slices.Clone(good.Proof)
		copy(out[a:a+g1Size], good.Proof[b:b+g1Size])
		copy(out[b:b+g1Size], good.Proof[a:a+g1Size])
		return out
	}
	put := func(at int, point []byte) []byte {
		return slices.Concat(good.Proof[:at], point, good.Proof[at+len(point):])
	}
	one, two := g1.Bytes(), g2.Bytes()
	for name, proof := range map[string][]byte{
		"Ar and Krs swapped":               swap(atAr, atKrs),
		"commitment and knowledge swapped": swap(atCommitment, atKnowledge),
		"generator as Ar":                  put(atAr, one[:]),
		"generator as Bs":                  put(atBs, two[:]),
		"generator as Krs":                 put(atKrs, one[:]),
		"generator as commitment":          put(atCommitment, one[:]),
		"generator as knowledge":           put(atKnowledge, one[:]),
	} {
		if err := verifier.Verify(good.Statement, proof); !errors.Is(err, zk.ErrFalseProof) {
			t.Errorf("%s: %v, want a false proof", name, err)
		}
	}
}

func TestEveryChangedByteIsRefused(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	for i := range good.Proof {
		proof := slices.Clone(good.Proof)
		proof[i] ^= 1 << (i % 8)
		err := verifier.Verify(good.Statement, proof)
		if !errors.Is(err, zk.ErrMalformedProof) && !errors.Is(err, zk.ErrFalseProof) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
}

// TestProofsAreMalleable shows why proof bytes identify nothing: Ar · ζ with
// Bs · ζ⁻¹ is another proof of the same statement, made without its witness.
func TestProofsAreMalleable(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	p, err := decodeProof(good.Proof)
	if err != nil {
		t.Fatal(err)
	}
	var zeta, inverse fr.Element
	zeta.SetUint64(12345)
	inverse.Inverse(&zeta)
	p.ar.ScalarMultiplication(&p.ar, zeta.BigInt(new(big.Int)))
	p.bs.ScalarMultiplication(&p.bs, inverse.BigInt(new(big.Int)))
	other := encodeProof(&backend.Proof{Ar: p.ar, Bs: p.bs, Krs: p.krs,
		Commitments: []bn254.G1Affine{p.commitment}, CommitmentPok: p.knowledge})
	if bytes.Equal(other, good.Proof) {
		t.Fatal("the same bytes")
	}
	if err := verifier.Verify(good.Statement, other); err != nil {
		t.Errorf("the other proof: %v", err)
	}
}

// TestVerdictsAgreeWithGnark compares our pairing equations with gnark's own
// verifier on honest, changed and exchanged proofs.
func TestVerdictsAgreeWithGnark(t *testing.T) {
	good, verifier := sharedResult(), sharedVerifier(t)
	_, _, g1, _ := bn254.Generators()
	for name, edit := range map[string]func(*zk.Statement, *proofPoints){
		"honest":          func(*zk.Statement, *proofPoints) {},
		"bind":            func(s *zk.Statement, _ *proofPoints) { s.Bind[31] ^= 1 },
		"input":           func(s *zk.Statement, _ *proofPoints) { s.Inputs[0][31] ^= 1 },
		"Ar":              func(_ *zk.Statement, p *proofPoints) { p.ar.Neg(&p.ar) },
		"Bs":              func(_ *zk.Statement, p *proofPoints) { p.bs.Neg(&p.bs) },
		"Ar and Bs":       func(_ *zk.Statement, p *proofPoints) { p.ar.Neg(&p.ar); p.bs.Neg(&p.bs) },
		"Krs":             func(_ *zk.Statement, p *proofPoints) { p.krs.Add(&p.krs, &g1) },
		"commitment":      func(_ *zk.Statement, p *proofPoints) { p.commitment.Add(&p.commitment, &g1) },
		"knowledge":       func(_ *zk.Statement, p *proofPoints) { p.knowledge.Add(&p.knowledge, &g1) },
		"both commitment": func(_ *zk.Statement, p *proofPoints) { p.commitment.Neg(&p.commitment); p.knowledge.Neg(&p.knowledge) },
	} {
		statement := cloneStatement(good.Statement)
		p, err := decodeProof(good.Proof)
		if err != nil {
			t.Fatal(err)
		}
		edit(&statement, &p)
		proof := &backend.Proof{Ar: p.ar, Bs: p.bs, Krs: p.krs,
			Commitments: []bn254.G1Affine{p.commitment}, CommitmentPok: p.knowledge}
		var publics fr.Vector
		for _, f := range statement.Publics() {
			publics = append(publics, element(f))
		}
		theirs := backend.Verify(proof, sharedSetup().gnark, publics)
		ours := verifier.Verify(statement, encodeProof(proof))
		if (theirs == nil) != (ours == nil) {
			t.Errorf("%s: gnark says %v, we say %v", name, theirs, ours)
		}
		if name == "honest" && ours != nil {
			t.Errorf("honest: %v", ours)
		}
	}
}

func TestVerdictIsTheSameInParallel(t *testing.T) {
	verifier, good := sharedVerifier(t), sharedResult()
	bad := cloneStatement(good.Statement)
	bad.Bind[31] ^= 1
	const rounds = 32
	for _, parallelism := range []int{1, 4} {
		verdicts := make([]error, rounds)
		crypto.ForkJoin(rounds, parallelism, func(i int) {
			statement := good.Statement
			if i%2 == 1 {
				statement = bad
			}
			verdicts[i] = verifier.Verify(statement, good.Proof)
		})
		for i, err := range verdicts {
			if (i%2 == 0) != (err == nil) || (err != nil && err.Error() != verdicts[1].Error()) {
				t.Errorf("parallelism %d, round %d: %v", parallelism, i, err)
			}
		}
	}
}

func TestVerifierNamesItsKeys(t *testing.T) {
	keys, verifier := sharedSetup().keys, sharedVerifier(t)
	if digest, ok := verifier.Digest(testKernel); !ok || digest != keys.Digest() || digest != VerifyingKeyDigest(keys.VerifyingKey()) {
		t.Errorf("digest %s, %v", digest, ok)
	}
	if _, ok := verifier.Digest("matmul-8"); ok {
		t.Error("a digest for a kernel it was not given")
	}
	if got := verifier.Kernels(); !slices.Equal(got, []zk.Kernel{testKernel}) {
		t.Errorf("kernels %v", got)
	}
	empty, err := NewVerifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Verify(sharedResult().Statement, sharedResult().Proof); !errors.Is(err, zk.ErrUnknownKernel) {
		t.Errorf("a verifier without keys: %v", err)
	}
}

// FuzzVerify gives the verifier a statement and a proof that are hostile in every part, alone and in
// the company of a proof that holds: only the statement that was proven is accepted, everything else
// is refused by one name, the same in company, and the company keeps its verdict.
func FuzzVerify(f *testing.F) {
	verifier, good := sharedVerifier(f), sharedResult()
	flat := func(list []zk.Field) (out []byte) {
		for _, e := range list {
			out = append(out, e[:]...)
		}
		return out
	}
	s := good.Statement
	seed := func(kernel zk.Kernel, key, inputs, output, bind, proof []byte) {
		f.Add(string(kernel), key, inputs, output, bind, proof)
	}
	in, out, key := flat(s.Inputs), flat(s.Output), s.VerifyingKey[:]
	bind, above := s.Bind[:], plusOrder(s.Bind)
	seed(s.Kernel, key, in, out, bind, good.Proof)
	seed(s.Kernel, key, in, out, bind, good.Proof[:ProofSize-1])
	seed(s.Kernel, key, in, out, bind, make([]byte, ProofSize))
	seed(s.Kernel, key, in, out, bind, bytes.Repeat([]byte{0xff}, ProofSize))
	seed(s.Kernel, key, in, out, above[:], good.Proof)
	seed(s.Kernel, key, out, in, bind, good.Proof)
	seed(s.Kernel, key, in[:zk.FieldSize], out, bind, good.Proof)
	seed(s.Kernel, bind, in, out, bind, good.Proof)
	seed("matmul-8", key, in, out, bind, good.Proof)
	seed("", nil, nil, nil, nil, nil)
	infinity := append([]byte{0x40}, make([]byte, g1Size-1)...)
	for _, at := range []int{atAr, atBs, atKrs, atCommitment, atKnowledge} {
		seed(s.Kernel, key, in, out, bind, slices.Concat(good.Proof[:at], infinity, good.Proof[at+g1Size:]))
		seed(s.Kernel, key, in, out, bind, slices.Concat(good.Proof[:at], good.Proof[:g1Size], good.Proof[at+g1Size:]))
	}
	names := []error{zk.ErrUnknownKernel, zk.ErrVerifyingKey, zk.ErrPublics, zk.ErrNotCanonical, zk.ErrMalformedProof, zk.ErrFalseProof}
	f.Fuzz(func(t *testing.T, kernel string, key, inputs, output, bind, proof []byte) {
		statement := zk.Statement{Kernel: zk.Kernel(kernel), Inputs: fieldsOf(inputs), Output: fieldsOf(output)}
		copy(statement.VerifyingKey[:], key)
		copy(statement.Bind[:], bind)
		err := verifier.Verify(statement, proof)
		named := 0
		for _, name := range names {
			if errors.Is(err, name) {
				named++
			}
		}
		switch {
		case err == nil && !bytes.Equal(statement.Encode(), good.Statement.Encode()):
			t.Errorf("a statement that nobody proved: %+v", statement)
		case err == nil && !bytes.Equal(proof, good.Proof):
			t.Errorf("another proof was found: %x", proof)
		case err != nil && (named != 1 || len(err.Error()) > 1024):
			t.Errorf("%d names of a rejection, want 1: %.2000s", named, err)
		}
		if err != nil && !errors.Is(err, zk.ErrFalseProof) {
			return // it joins no company
		}
		verdicts := verifier.VerifyAll([]zk.Claim{{Statement: good.Statement, Proof: good.Proof}, {Statement: statement, Proof: proof}})
		if verdicts[0] != nil || fmt.Sprint(verdicts[1]) != fmt.Sprint(err) {
			t.Errorf("alone %v, in company %v; the company %v", err, verdicts[1], verdicts[0])
		}
	})
}

// fieldsOf cuts bytes into field elements, which need not be canonical.
func fieldsOf(data []byte) (list []zk.Field) {
	for len(data) > 0 && len(list) < 2*zk.MaxDigests {
		var e zk.Field
		data = data[copy(e[:], data):]
		list = append(list, e)
	}
	return list
}

// FuzzVerifyingKey: bytes that are taken for a verifying key are the canonical encoding of one.
func FuzzVerifyingKey(f *testing.F) {
	good := sharedSetup().keys.VerifyingKey()
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(append(slices.Clone(good), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		verifier, err := NewVerifier(map[zk.Kernel][]byte{testKernel: data})
		if err != nil {
			if !errors.Is(err, ErrVerifyingKeyFile) {
				t.Errorf("no named rejection: %v", err)
			}
			return
		}
		var file keyFile
		if err := codec.Unmarshal(data, &file, MaxVerifyingKeySize); err != nil || !bytes.Equal(codec.Marshal(file), data) {
			t.Errorf("an encoding that is not canonical was taken: %v", err)
		}
		if digest, ok := verifier.Digest(testKernel); !ok || digest != VerifyingKeyDigest(data) {
			t.Errorf("digest %s, %v", digest, ok)
		}
	})
}
