package groth16

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// factorBytes is the length of a random factor: 128 bits.
const factorBytes = 16

// VerifyAll returns the verdict of each claim, nil for those that hold: the same
// verdicts as Verify of each, but for a probability of 2⁻¹²⁸ that a false proof
// passes. Well-formed claims are checked together, which takes half the time
// for a dozen of one kernel; if that fails, each by itself.
func (v *Verifier) VerifyAll(claims []zk.Claim) []error {
	verdicts := make([]error, len(claims))
	var read []claim
	var at []int // of each read claim
	for i := range claims {
		key, ok := v.keys[claims[i].Statement.Kernel]
		if !ok {
			verdicts[i] = fmt.Errorf("%w: %q", zk.ErrUnknownKernel, shortened(claims[i].Statement.Kernel))
			continue
		}
		c, err := key.read(claims[i].Statement, claims[i].Proof)
		if err != nil {
			verdicts[i] = err
			continue
		}
		read, at = append(read, c), append(at, i)
	}
	if len(read) == 0 {
		return verdicts
	}
	err := verdict(read)
	if err == nil {
		return verdicts
	}
	if len(read) == 1 {
		verdicts[at[0]] = err
		return verdicts
	}
	for i, c := range read {
		verdicts[at[i]] = verdict([]claim{c})
	}
	return verdicts
}

// verdict checks the two equations of every claim, D being its commitment and π
// the proof of knowledge of D's opening (eprint 2022/1072):
//
//	e(D, −σ·g) · e(π, g) = 1
//	e(Ar, Bs) · e(Krs, −δ) · e(K₀ + Σ xᵢ·Kᵢ + D, −γ) = e(α, β)
//
// x being the publics, then the challenge. The second equation of claim c is
// raised to ρ_c and the first to ρ_c · t, and all are multiplied: one product of
// pairings with one final exponentiation. The factors are drawn from a hash of
// everything that they multiply.
func verdict(claims []claim) error {
	factors, t := drawFactors(claims)
	order := make([]int, len(claims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(claims[a].key.kernel, claims[b].key.kernel) })
	ars, bs := make([]bn254.G1Affine, len(claims)), make([]bn254.G2Affine, len(claims))
	var left, right bn254.GT
	left.SetOne()
	right.SetOne()
	for from := 0; from < len(order); {
		key := claims[order[from]].key
		sums := newKeySums(key)
		for ; from < len(order) && claims[order[from]].key == key; from++ {
			i := order[from]
			sums.add(&claims[i], &factors[i])
			ars[i], bs[i] = times(&claims[i].points.ar, &factors[i]), claims[i].points.bs
		}
		fixed, powers, err := sums.pairings(t)
		if err != nil {
			return fmt.Errorf("%w: %w", zk.ErrFalseProof, err)
		}
		left.Mul(&left, &fixed)
		right.Mul(&right, &powers)
	}
	loops, err := bn254.MillerLoop(ars, bs)
	if err != nil {
		return fmt.Errorf("%w: %w", zk.ErrFalseProof, err)
	}
	left = bn254.FinalExponentiation(&left, &loops)
	if !left.Equal(&right) {
		return fmt.Errorf("%w: the pairings differ", zk.ErrFalseProof)
	}
	return nil
}

// drawFactors hashes all claims and returns a factor for each, 1 for the only
// one, and t.
func drawFactors(claims []claim) ([]fr.Element, *big.Int) {
	h := crypto.DomainProofBatch.NewStream()
	for i := range claims {
		if _, err := h.Write(claims[i].said); err != nil { // of one length each
			panic("groth16: a hash refused bytes: " + err.Error())
		}
	}
	seed := h.Sum()
	draw := func(i uint64) *big.Int {
		digest := crypto.DomainProofBatch.Hash(binary.BigEndian.AppendUint64(seed[:len(seed):len(seed)], i))
		return new(big.Int).SetBytes(digest[:factorBytes])
	}
	factors := make([]fr.Element, len(claims))
	for i := range factors {
		if i == 0 { // one factor may be fixed: a common one changes nothing
			factors[i].SetOne()
		} else {
			factors[i].SetBigInt(draw(uint64(i)))
		}
	}
	return factors, draw(0)
}

// times returns factor · p.
func times(p *bn254.G1Affine, factor *fr.Element) bn254.G1Affine {
	if factor.IsOne() {
		return *p
	}
	var out bn254.G1Affine
	out.ScalarMultiplication(p, factor.BigInt(new(big.Int)))
	return out
}

// keySums is what claims of one key add up to, each times its factor.
type keySums struct {
	key                 *verifyingKey
	krs, commitment, pi bn254.G1Jac
	x                   []fr.Element // of the constant wire, the publics, the challenge
}

func newKeySums(key *verifyingKey) *keySums {
	return &keySums{key: key, x: make([]fr.Element, len(key.k))}
}

func (s *keySums) add(c *claim, factor *fr.Element) {
	for _, term := range []struct {
		sum   *bn254.G1Jac
		point *bn254.G1Affine
	}{{&s.krs, &c.points.krs}, {&s.commitment, &c.points.commitment}, {&s.pi, &c.points.knowledge}} {
		p := times(term.point, factor)
		term.sum.AddMixed(&p)
	}
	s.x[0].Add(&s.x[0], factor)
	for i := range c.publics {
		var x fr.Element
		s.x[1+i].Add(&s.x[1+i], x.Mul(&c.publics[i], factor))
	}
}

// pairings returns the Miller loops of the sums with the key's fixed points, and
// e(α, β) to the sum of the factors.
func (s *keySums) pairings(t *big.Int) (fixed, powers bn254.GT, err error) {
	var opening, knowledge bn254.G1Jac
	opening.ScalarMultiplication(&s.commitment, t)
	knowledge.ScalarMultiplication(&s.pi, t)
	public := s.key.combine(s.x)
	public.AddAssign(&s.commitment)
	points := make([]bn254.G1Affine, len(s.key.lines))
	for i, p := range []*bn254.G1Jac{&s.krs, &public, &opening, &knowledge} {
		points[i].FromJacobian(p)
	}
	// gnark-crypto's loop writes into the lines that it is given.
	fixed, err = bn254.MillerLoopFixedQ(points, slices.Clone(s.key.lines))
	if s.x[0].IsOne() {
		return fixed, s.key.alphaBeta, err
	}
	powers.CyclotomicExp(s.key.alphaBeta, s.x[0].BigInt(new(big.Int)))
	return fixed, powers, err
}
