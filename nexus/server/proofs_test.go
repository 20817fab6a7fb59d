package server_test

import (
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/job"
)

// proofs takes one proof for one statement.
type proofs struct {
	want zk.Statement
	took int
}

func (p *proofs) Verify(s zk.Statement, proof []byte) error {
	p.took++
	if s.Digest() != p.want.Digest() || string(proof) != "proven" {
		return zk.ErrFalseProof
	}
	return nil
}

// TestProofsAreVerifiedHere: a proof that the chain would refuse, or of something else, is no end, so
// that others run the order; where none is due none is asked for.
func TestProofsAreVerifiedHere(t *testing.T) {
	c := newCluster(t, 1)
	node := key(agentKeys)
	policy := chain.PolicyZK{Kernel: "matmul-32", VerifyingKey: crypto.Digest{9}, Inputs: []chain.FieldBytes{{31: 1}}}
	made := func(change func(*job.Done)) *job.Done {
		outcome := job.Outcome{Exit: chain.ExitOK, Outputs: []chain.FieldBytes{{31: 5}}}
		d := &job.Done{Proof: []byte("proven"), Receipt: chain.UsageReceipt{ChainID: testChain, Order: crypto.Digest{3}, Node: node.Public(), Sequence: 1, Exit: outcome.Exit, Outputs: outcome.Outputs}}
		change(d)
		outcome.Exit, outcome.Outputs = d.Receipt.Exit, d.Receipt.Outputs
		d.Receipt.Result = job.ResultDigest(&outcome)
		d.ReceiptSig = node.Sign(crypto.DomainUsage, d.Receipt.Payload())
		return d
	}
	honest := func(*job.Done) {}
	right := settlement.Statement(&policy, &made(honest).Receipt)
	for _, x := range []struct {
		name   string
		policy chain.Policy
		change func(*job.Done)
		says   string
		asked  int
	}{
		{"honest", policy, honest, "", 1},
		{"no proof", policy, func(d *job.Done) { d.Proof = nil }, "its proof: ", 1},
		{"another's proof", policy, func(d *job.Done) { d.Proof = []byte("copied") }, "its proof: ", 1},
		{"another result", policy, func(d *job.Done) { d.Receipt.Outputs = []chain.FieldBytes{{31: 6}} }, "its proof: ", 1},
		{"another order", policy, func(d *job.Done) { d.Receipt.Order[0]++ }, "its proof: ", 1},
		{"another sequence", policy, func(d *job.Done) { d.Receipt.Sequence++ }, "its proof: ", 1},
		{"it failed", policy, func(d *job.Done) { d.Proof, d.Receipt.Exit = nil, chain.ExitFailed }, "", 0},
		{"nothing is to be proven", chain.PolicyNone{}, func(d *job.Done) { d.Proof = nil }, "", 0},
	} {
		p := &proofs{want: right}
		err := c.servers[0].CheckDone(p, x.policy, made(x.change))
		if p.took != x.asked || x.says == "" && err != nil || x.says != "" && (err == nil || !strings.HasPrefix(err.Error(), x.says)) {
			t.Errorf("%s: %v, after %d proofs were looked at", x.name, err, p.took)
		}
	}
}
