package execution_test

import (
	"testing"

	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
)

const (
	testChain   chain.ChainID = "exec-test-1"
	genesisTime chain.TimeMs  = 1_790_000_000_000
	day                       = 24 * 3600 * 1000
)

// key is a key in memory: an account's signer, or a node, cluster or validator.
type key struct{ crypto.PrivateKey }

func keyOf(n byte) key { return key{crypto.PrivateKeyFromSeed([32]byte{n, 'e', 'x'})} }

func (k key) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(k.Public()) }

func (k key) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return k.PrivateKey.Sign(d, payload), nil
}

func (k key) address() chain.Address { return chain.AddressOf(k.AccountKey()) }

// echo is a verifier whose proof of a statement is the statement's digest: it
// tells statements apart as a proof system does, and nothing else.
type echo struct{ calls int }

func (e *echo) Verify(s zk.Statement, proof []byte) error {
	e.calls++
	if err := s.Check(); err != nil {
		return err
	}
	if digest := s.Digest(); string(proof) != string(digest[:]) {
		return zk.ErrFalseProof
	}
	return nil
}

// The cast: keys 1 … 4 are validators owned by accounts 11 … 14; accounts 21 …
// 29 have 1,000,000 HYPER each; account 30 is the team's and vests.
var kernel = chain.GenesisKernel{Name: "matmul-4", VerifyingKey: crypto.Digest{7}, FixedGas: chain.GasUnits(700_000)}

func genesis() *chain.Genesis {
	g := &chain.Genesis{
		ChainID: testChain, TimeMs: genesisTime, Devnet: true, InsecureKeys: true,
		Params: chain.DefaultParams(), Kernels: []chain.GenesisKernel{kernel},
	}
	percent := func(n uint64) chain.Amount { return chain.Hyper(n * 10_000_000) }
	for n := byte(1); n <= 4; n++ {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			Name: "validator", ConsensusKey: keyOf(n).Public(), NodeKey: keyOf(100 + n).Public(),
			Owner: keyOf(10 + n).address(), Stake: chain.Hyper(25_000_000), Endpoint: "127.0.0.1:1",
		})
	}
	allot := func(bucket chain.Bucket, to chain.Address, amount chain.Amount) {
		a := chain.Allocation{Bucket: bucket, Address: to, Amount: amount}
		if bucket == chain.BucketTeam {
			a.Vesting = &chain.Vesting{StartMs: genesisTime, CliffMs: chain.TeamCliffMs, DurationMs: chain.TeamDurationMs}
		}
		g.Allocations = append(g.Allocations, a)
	}
	for n := byte(21); n <= 29; n++ {
		allot(chain.BucketCommunity, keyOf(n).address(), chain.Hyper(1_000_000))
	}
	allot(chain.BucketCommunity, keyOf(40).address(), chain.Hyper(391_000_000))
	allot(chain.BucketTeam, keyOf(30).address(), percent(20))
	allot(chain.BucketFoundation, keyOf(41).address(), percent(25))
	allot(chain.BucketSale, keyOf(42).address(), percent(5))
	return g
}

// world is a chain without consensus: the state and the next block's place.
type world struct {
	testing.TB
	x      *execution.Executor
	state  *state.Overlay
	height chain.Height
	now    chain.TimeMs
	nonces map[chain.Address]uint64
	proofs *echo
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return worldOf(t, genesis())
}

func worldOf(t testing.TB, g *chain.Genesis) *world {
	t.Helper()
	proofs := &echo{}
	w := &world{
		TB: t, x: execution.New(g, proofs, nil), proofs: proofs, state: state.NewOverlay(state.NewMemoryBackend()),
		now: g.TimeMs, nonces: map[chain.Address]uint64{},
	}
	if err := execution.Genesis(w.state, g); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) header(afterMs uint64) *chain.Header {
	h := &chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: w.height + 1, Epoch: uint64(staking.EpochOf(w.state).Number),
		TimeMs: w.now + chain.TimeMs(afterMs), Proposer: keyOf(1).Public(),
	}
	if err := w.x.Prepare(w.state, h); err != nil {
		w.Fatal(err)
	}
	return h
}

// commit keeps an outcome and checks the whole supply against it.
func (w *world) commit(h *chain.Header, out execution.Outcome) {
	w.Helper()
	for _, c := range out.Changes {
		if c.Deleted {
			w.state.Delete(c.Key)
		} else {
			w.state.Set(c.Key, c.Value)
		}
	}
	w.height, w.now = h.Height, h.TimeMs
	if _, err := execution.Recompute(w.state); err != nil {
		w.Fatal(err)
	}
}

// block executes and commits a block, afterMs after the last.
func (w *world) block(afterMs uint64, txs ...*chain.VerifiedTx) execution.Outcome {
	w.Helper()
	h := w.header(afterMs)
	out, err := w.x.Apply(w.state, h, staking.Extras{}, txs)
	if err != nil {
		w.Fatalf("block %d: %v", h.Height, err)
	}
	w.commit(h, out)
	return out
}

// body is a plain transaction body of an account, with its next nonce.
func (w *world) body(from key, messages ...chain.Msg) chain.TxBody {
	a := from.address()
	nonce := w.nonces[a]
	w.nonces[a]++
	return chain.TxBody{
		ChainID: testChain, Sender: a, Nonce: nonce, Expiry: w.height + 100, GasLimit: chain.GasUnits(5_000_000),
		MaxFee: chain.PricePerGas(1_000), Tip: chain.PricePerGas(2), Messages: messages,
	}
}

func (w *world) tx(from key, messages ...chain.Msg) *chain.VerifiedTx {
	w.Helper()
	return w.sign(w.body(from, messages...), from)
}

func (w *world) sign(body chain.TxBody, signers ...chain.Signer) *chain.VerifiedTx {
	w.Helper()
	tx, err := chain.SignTx(body, signers...)
	if err != nil {
		w.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		w.Fatal(err)
	}
	verified := chain.VerifyTxs([]chain.DecodedTx{decoded}, 1)
	if verified[0] == nil {
		w.Fatal("signatures do not verify")
	}
	return verified[0]
}

// rewards is what staking holds to be given out or withdrawn.
func (w *world) rewards() chain.Amount {
	w.Helper()
	supply, err := execution.Recompute(w.state)
	if err != nil {
		w.Fatal(err)
	}
	return supply.Rewards
}
