package node

import (
	"sync"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// knownProofs is how many verdicts a generation holds: at least the last so many are known, and
// they take some 2 MiB in all.
const knownProofs = 2_048

// proofVerifier knows the verdicts of the proofs that the node met last: a block that was not
// decided comes again in another, and its proofs need not be verified again. Safe for concurrent use.
type proofVerifier struct {
	zk.BatchVerifier

	mu    sync.Mutex
	young map[proof]error // guarded by mu
	old   map[proof]error // guarded by mu
}

// proof is a proof of a statement.
type proof struct {
	statement crypto.Digest
	bytes     string
}

func newProofVerifier(v zk.BatchVerifier) *proofVerifier {
	return &proofVerifier{BatchVerifier: v, young: map[proof]error{}, old: map[proof]error{}}
}

// Verify implements zk.Verifier.
func (v *proofVerifier) Verify(s zk.Statement, bytes []byte) error {
	return v.VerifyAll([]zk.Claim{{Statement: s, Proof: bytes}})[0]
}

// VerifyAll implements zk.BatchVerifier.
func (v *proofVerifier) VerifyAll(claims []zk.Claim) []error {
	verdicts := make([]error, len(claims))
	names := make([]proof, len(claims))
	var fresh []zk.Claim
	var at []int // of each that is fresh
	for i, c := range claims {
		names[i] = proof{c.Statement.Digest(), string(c.Proof)}
	}
	v.mu.Lock()
	for i, name := range names {
		verdict, known := v.young[name]
		if !known {
			verdict, known = v.old[name]
		}
		if !known {
			fresh, at = append(fresh, claims[i]), append(at, i)
		}
		verdicts[i] = verdict
	}
	v.mu.Unlock()
	if len(fresh) == 0 {
		return verdicts
	}
	found := v.BatchVerifier.VerifyAll(fresh) // of one claim: Verify
	v.mu.Lock()
	defer v.mu.Unlock()
	for k, verdict := range found {
		verdicts[at[k]] = verdict
		if len(v.young) == knownProofs {
			v.old, v.young = v.young, v.old
			clear(v.young)
		}
		v.young[names[at[k]]] = verdict
	}
	return verdicts
}
