package agent_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/nexus/agent"
	"github.com/hypermesh/hypermesh/nexus/job"
)

const testKernel = zk.Kernel("matmul-4")

// provingKeys are made once, in a directory that the tests share.
var provingKeys = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "agent-keys-")
	if err != nil {
		return "", err
	}
	_, err = groth16.LoadOrSetup(dir, testKernel, nil)
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := provingKeys(); err == nil {
		if err := os.RemoveAll(dir); err != nil {
			code = 1
		}
	}
	os.Exit(code)
}

func keyDir(t *testing.T) (string, *groth16.Keys) {
	t.Helper()
	dir, err := provingKeys()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := groth16.Load(dir, testKernel)
	if err != nil {
		t.Fatal(err)
	}
	return dir, keys
}

// kernelHome is a home whose agent proves the tests' kernel.
func kernelHome(t *testing.T, pinned crypto.Digest, dir string) (*server, agent.Config) {
	t.Helper()
	g := genesis(chain.GenesisKernel{Name: string(testKernel), VerifyingKey: pinned, FixedGas: chain.GasUnits(1)})
	s := newServer(t, g)
	config := home(t, g, s)
	config.KeyDir, config.Kernels = dir, []string{string(testKernel)}
	return s, config
}

func matrix(t *testing.T, csv string) zk.Matrix {
	t.Helper()
	m, err := zk.ParseMatrixCSV([]byte(csv))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantProven verifies a proof with the verifying key's bytes alone.
func wantProven(t *testing.T, keys *groth16.Keys, statement zk.Statement, proof []byte) {
	t.Helper()
	verifier, err := groth16.NewVerifier(map[zk.Kernel][]byte{testKernel: keys.VerifyingKey()})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(statement, proof); err != nil {
		t.Errorf("the proof: %v", err)
	}
}

func TestKernelJob(t *testing.T) {
	dir, keys := keyDir(t)
	s, config := kernelHome(t, keys.Digest(), dir)
	a := start(t, config)
	p := s.session()
	if !slices.Contains(p.hello.Kernels, string(testKernel)) {
		await(p, func(h job.Hello) bool { return slices.Contains(h.Kernels, string(testKernel)) })
	}
	const left, right = "1,2,3,4\n5,6,7,8\n1,0,0,0\n0,0,0,-1\n", "2,0,0,0\n0,2,0,0\n0,0,2,0\n0,0,0,2\n"
	leftID, leftSize := s.put([]byte(left))
	rightID, rightSize := s.put([]byte(right))
	spec := wasmSpec(crypto.Digest{1}, leftSize+rightSize)
	spec.Work.Work = job.Kernel{Name: testKernel, Inputs: []crypto.Digest{leftID, rightID}}
	order := orderOf(&spec, 1)
	inputs := []zk.Field{zk.LeftDigest(matrix(t, left)), zk.RightDigest(matrix(t, right))}
	policy := chain.PolicyZK{
		Kernel: string(testKernel), VerifyingKey: keys.Digest(),
		Inputs: []chain.FieldBytes{chain.FieldBytes(inputs[0]), chain.FieldBytes(inputs[1])},
	}
	order.Policy.Policy = policy

	// What it costs, and what is no work for it.
	offer := func(order chain.Order) job.BidReply {
		p.send(offer(0, order, spec, 0))
		return await[job.BidReply](p, nil)
	}
	dear := order
	dear.FixedCap = chain.Nano(config.ProofPriceNHyper - 1)
	if r := offer(dear); !strings.Contains(r.Decline, "a proof costs 0.001 HYPER here") {
		t.Errorf("a cap below the price: %+v", r)
	}
	foreign := order
	foreign.Policy.Policy = chain.PolicyZK{Kernel: policy.Kernel, VerifyingKey: crypto.Digest{1}, Inputs: policy.Inputs}
	if r := offer(foreign); !strings.Contains(r.Decline, "genesis pins another") {
		t.Errorf("another verifying key: %+v", r)
	}
	bid := offer(order)
	if bid.Decline != "" || bid.Bid.Fixed != chain.Nano(config.ProofPriceNHyper) || len(bid.Bid.Prices) != 0 {
		t.Fatalf("bid %+v", bid)
	}

	as := assignmentOf(order, spec)
	as.Bid, as.BidSig = bid.Bid, bid.BidSig
	p.send(job.Assign{List: []job.Assignment{as}})
	d := p.finish(&as)
	if d.Receipt.Exit != chain.ExitOK || len(d.Receipt.Outputs) != 1 {
		t.Fatalf("exit %s, %q, %d outputs", d.Receipt.Exit, d.Detail, len(d.Receipt.Outputs))
	}
	if files := p.output(d); files[agent.ProductFile] != "2,4,6,8\n10,12,14,16\n2,0,0,0\n0,0,0,-2\n" {
		t.Errorf("output %q", files)
	}
	wantProven(t, keys, zk.Statement{
		Kernel: testKernel, VerifyingKey: keys.Digest(), Inputs: inputs, Output: []zk.Field{zk.Field(d.Receipt.Outputs[0])},
		Bind: zk.Bind("hypermesh-test", order.ID(), 1, a.ID()),
	}, d.Proof)

	// Inputs that the order does not name.
	order.Nonce = 2
	order.Policy.Policy = chain.PolicyZK{Kernel: policy.Kernel, VerifyingKey: policy.VerifyingKey, Inputs: []chain.FieldBytes{policy.Inputs[1], policy.Inputs[0]}}
	wrong := assignmentOf(order, spec)
	p.send(job.Assign{List: []job.Assignment{wrong}})
	if d := p.finish(&wrong); d.Receipt.Exit != chain.ExitInvalid || len(d.Proof) != 0 || !strings.Contains(d.Detail, "input 0 has digest") {
		t.Errorf("inputs that the order does not name: %s, %q", d.Receipt.Exit, d.Detail)
	}
}

func TestKernelsWithoutTheRightKeysAreNotOffered(t *testing.T) {
	dir, keys := keyDir(t)
	for _, c := range []struct {
		name, want, dir string
		pinned          crypto.Digest
	}{
		{"other keys than genesis pins", "genesis pins", dir, crypto.Digest{1}},
		{"no keys", "no such file", t.TempDir(), keys.Digest()},
	} {
		s, config := kernelHome(t, c.pinned, c.dir)
		a := start(t, config)
		if p := s.session(); len(p.hello.Kernels) != 0 {
			t.Errorf("%s: Hello names %q", c.name, p.hello.Kernels)
		}
		waitHealthy(t, a) // the rest of the node works
		if st := a.status(t); len(st.Kernels) != 1 || !strings.Contains(st.Kernels[0].State, c.want) {
			t.Errorf("%s: %+v", c.name, st.Kernels)
		}
	}
	_, config := kernelHome(t, keys.Digest(), filepath.Join(dir, "elsewhere"))
	config.Kernels = []string{"Matmul 4"}
	if _, err := agent.Open(config); err == nil || !strings.Contains(err.Error(), "kernels") {
		t.Errorf("a kernel of no name: %v", err)
	}
}
