package node

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hypermesh/hypermesh/internal/zk"
)

// asked notes what it is asked for; a proof holds if it is the digest of its statement.
type asked [][]byte

func (a *asked) Verify(s zk.Statement, proof []byte) error {
	return a.VerifyAll([]zk.Claim{{Statement: s, Proof: proof}})[0]
}

func (a *asked) VerifyAll(claims []zk.Claim) []error {
	verdicts := make([]error, len(claims))
	for i, c := range claims {
		*a = append(*a, c.Proof)
		if digest := c.Statement.Digest(); !bytes.Equal(digest[:], c.Proof) {
			verdicts[i] = zk.ErrFalseProof
		}
	}
	return verdicts
}

func proofOf(n int) zk.Claim {
	s := zk.Statement{Kernel: "matmul-4", Inputs: []zk.Field{{30: byte(n >> 8), 31: byte(n)}}, Output: []zk.Field{{}}}
	digest := s.Digest()
	return zk.Claim{Statement: s, Proof: digest[:]}
}

// TestAProofIsVerifiedOnce: the verdict of a proof is known from then on, of no other proof and no
// other statement, until so many others came.
func TestAProofIsVerifiedOnce(t *testing.T) {
	var below asked
	v := newProofVerifier(&below)
	good, other := proofOf(1), proofOf(2)
	bad := zk.Claim{Statement: good.Statement, Proof: other.Proof}
	moved := zk.Claim{Statement: other.Statement, Proof: good.Proof}
	want := []error{nil, zk.ErrFalseProof, nil, zk.ErrFalseProof}
	for range 3 {
		for i, err := range v.VerifyAll([]zk.Claim{good, bad, other, moved}) {
			if !errors.Is(err, want[i]) {
				t.Errorf("proof %d: %v", i, err)
			}
		}
		if err := v.Verify(bad.Statement, bad.Proof); !errors.Is(err, zk.ErrFalseProof) {
			t.Error(err)
		}
	}
	if len(below) != 4 {
		t.Errorf("four proofs were verified %d times", len(below))
	}
	for n := range 2*knownProofs + 1 {
		c := proofOf(n + 10)
		if err := v.Verify(c.Statement, c.Proof); err != nil {
			t.Fatal(err)
		}
	}
	if known := len(v.young) + len(v.old); known > 2*knownProofs {
		t.Errorf("%d verdicts are known, the limit is %d", known, 2*knownProofs)
	}
	below = nil
	if err := v.Verify(good.Statement, good.Proof); err != nil || len(below) != 1 {
		t.Errorf("a proof that was forgotten: %v, verified %d times", err, len(below))
	}
}
