package consensus_test

import (
	"fmt"
	"testing"

	"github.com/hypermesh/hypermesh/consensus"
)

// BenchmarkCertificateVerify100 verifies a certificate of a committee of 100
// with a quorum of 67 signatures, on one core.
func BenchmarkCertificateVerify100(b *testing.B) {
	const validators, quorum = 100, 67
	weights := make([]uint64, validators)
	for i := range weights {
		weights[i] = 1
	}
	committee := testCommittee(b, weights...)
	statement := sampleStatements()[0]
	var votes []consensus.Vote
	for i := range quorum {
		signer, ok := committee.IndexOf(testKey(i).Public())
		if !ok {
			b.Fatal(fmt.Errorf("validator %d is not in the committee", i))
		}
		votes = append(votes, consensus.SignVote(testKey(i), signer, testID, statement))
	}
	certificate := consensus.Assemble(committee, statement, votes)
	b.ReportAllocs()
	for b.Loop() {
		if err := certificate.Verify(committee, testID); err != nil {
			b.Fatal(err)
		}
	}
}
