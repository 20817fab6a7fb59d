package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/mempool"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/internal/zk/groth16"
	"github.com/hypermesh/hypermesh/tokens"
)

const testChain chain.ChainID = "node-test-1"

// account is a key in memory that signs transactions.
type account struct{ crypto.PrivateKey }

func keyOf(n int, role byte) crypto.PrivateKey {
	return crypto.PrivateKeyFromSeed([crypto.SeedSize]byte{byte(n), role, 'n', 'd'})
}

func user(n int) account { return account{keyOf(n, 'u')} }

func (a account) AccountKey() crypto.AccountKey { return crypto.AccountKeyOf(a.Public()) }

func (a account) Sign(d *crypto.Domain, payload []byte) (crypto.Signature, error) {
	return a.PrivateKey.Sign(d, payload), nil
}

func (a account) address() chain.Address { return chain.AddressOf(a.AccountKey()) }

// testGenesis has four validators of one weight, and users 1 … 9 with 1,000
// HYPER each; user 50 holds the rest.
func testGenesis(t testing.TB) *chain.Genesis {
	t.Helper()
	params := chain.DefaultParams()
	params.IdleMs = 50
	rest := user(50).address()
	g := chain.NewGenesis(testChain, chain.TimeMs(time.Now().Add(-time.Minute).UnixMilli()), params,
		chain.Holders{Community: rest, Team: rest, Foundation: rest, Validators: rest, Sale: rest})
	g.Devnet = true
	for i := range 4 {
		if err := g.AddValidator(chain.GenesisValidator{
			Name: fmt.Sprintf("v%d", i), ConsensusKey: keyOf(i, 'c').Public(), NodeKey: keyOf(i, 't').Public(),
			Owner: user(60 + i).address(), Stake: chain.Hyper(1_000_000), Endpoint: "127.0.0.1:1",
		}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 9 {
		if err := g.Give(chain.BucketCommunity, user(n+1).address(), chain.Hyper(1_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	return g
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func noKernels(t testing.TB) zk.Verifier {
	t.Helper()
	v, err := groth16.NewVerifier(nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// transfer is a signed payment of one HYPER.
func transfer(t testing.TB, from int, nonce uint64, to chain.Address) chain.DecodedTx {
	t.Helper()
	return signedBy(t, from, nonce, chain.Transfer{To: to, Amount: chain.Hyper(1)})
}

// signedBy is a transaction of a user.
func signedBy(t testing.TB, from int, nonce uint64, messages ...chain.Msg) chain.DecodedTx {
	t.Helper()
	tx, err := chain.SignTx(chain.TxBody{
		ChainID: testChain, Sender: user(from).address(), Nonce: nonce, Expiry: 50_000, GasLimit: chain.GasUnits(1_000_000),
		MaxFee: chain.PricePerGas(50), Tip: chain.PricePerGas(2), Messages: messages,
	}, user(from))
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := chain.DecodeTx(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}

// rig is an application without an engine: the test proposes, verifies and
// finalizes, as any validator.
type rig struct {
	testing.TB
	genesis *chain.Genesis
	store   *store.Store
	app     *application
}

func newRig(t testing.TB, g *chain.Genesis) *rig {
	t.Helper()
	st, err := store.OpenMemory(store.Options{TreeInterval: 4, PointBytes: rigPointBytes})
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, g, st)
}

// rigPointBytes is what a few blocks of a producer come to.
const rigPointBytes = 16 << 10

func newRigOn(t testing.TB, g *chain.Genesis, st *store.Store) *rig {
	t.Helper()
	r := &rig{TB: t, genesis: g, store: st}
	r.open()
	t.Cleanup(func() {
		r.close()
		if err := r.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// open begins a life of the application on what the store holds.
func (r *rig) open() {
	r.Helper()
	executor := execution.New(r.genesis, noKernels(r), nil)
	app, err := openApplication(r.genesis, executor, r.store)
	if err != nil {
		r.Fatal(err)
	}
	for i := range 4 {
		app.keys = append(app.keys, keyOf(i, 'c')) // whoever leads
	}
	app.log = quiet()
	app.pool = newPool(mempool.DefaultConfig(), executor, r.store.State(), quiet())
	app.metrics = newMetrics()
	r.app = app
}

func (r *rig) close() {
	r.Helper()
	select {
	case err := <-r.app.faults:
		r.Errorf("fault: %v", err)
	default:
	}
	if err := r.app.close(); err != nil {
		r.Error(err)
	}
}

func (r *rig) submit(txs ...chain.DecodedTx) {
	r.Helper()
	for i, reason := range r.app.pool.Submit(txs) {
		if reason != "" {
			r.Fatalf("transaction %d: %s", i, reason)
		}
	}
}

// round is a view of the running epoch.
func (r *rig) round(v consensus.View) consensus.Round {
	return consensus.Round{Epoch: staking.EpochOf(r.store.State()).Number, View: v}
}

// committee is that of the running epoch.
func (r *rig) committee() *committee {
	r.Helper()
	c, ok := r.app.committees.of(r.round(1).Epoch)
	if !ok {
		r.Fatal("the state does not know the running epoch's committee")
	}
	return c
}

// keyOfLeader returns the consensus key of a view's leader.
func (r *rig) keyOfLeader(v consensus.View) crypto.PrivateKey {
	r.Helper()
	key, ok := r.app.leaderKey(r.round(v))
	if !ok {
		r.Fatal("the leader is nobody")
	}
	return key
}

// genesisParent is what view 0 stands for.
func (r *rig) genesisParent() engine.Parent { return engine.Parent{Digest: r.genesis.Digest()} }

func parentOf(v consensus.View, b consensus.Block) engine.Parent {
	return engine.Parent{View: v, Digest: b.Digest}
}

// propose builds a block as the leader of a view.
func (r *rig) propose(v consensus.View, on engine.Parent) consensus.Block {
	r.Helper()
	b, err := r.app.Propose(r.Context(), engine.ProposeRequest{Round: r.round(v), Parent: on, LastFinalized: on})
	if err != nil {
		r.Fatal(err)
	}
	return b
}

func (r *rig) verify(v consensus.View, on engine.Parent, b consensus.Block) error {
	return r.app.Verify(r.Context(), engine.VerifyRequest{Round: r.round(v), Parent: on, Block: b})
}

// certificate is a quorum's finalization.
func (r *rig) certificate(v consensus.View, on engine.Parent, b consensus.Block) *consensus.Certificate {
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{Round: r.round(v), Parent: on.View, Digest: b.Digest}}
	var votes []consensus.Vote
	for i := range r.committee().Len() {
		for n := range 4 {
			if k := keyOf(n, 'c'); k.Public() == r.committee().Validator(consensus.Signer(i)).Key {
				votes = append(votes, consensus.SignVote(k, consensus.Signer(i), string(testChain), s))
			}
		}
	}
	return consensus.Assemble(r.committee().Committee, s, votes)
}

func (r *rig) finalize(v consensus.View, on engine.Parent, b consensus.Block) {
	r.Helper()
	if _, err := r.app.Finalize(context.Background(), b, r.certificate(v, on, b)); err != nil {
		r.Fatal(err)
	}
}

// balanceOf reads the committed state.
func balanceOf(r state.Reader, a chain.Address) chain.Amount { return tokens.AccountOf(r, a).Balance }
