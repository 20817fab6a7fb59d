package execution_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/smart-contracts/vm"
	"github.com/hypermesh/hypermesh/tokens"
)

const (
	gasUsers      = 256                // that send transactions
	gasCrowd      = 1_000_000          // accounts beside them, when it is measured
	gasDeep       = 16                 // that have as many positions as there may be
	gasValidators = chain.MaxCommittee // the largest, for what looks at all of them
)

// gasWorld is a chain on which whole blocks are measured.
type gasWorld struct {
	*world
	machine *vm.Machine // of contracts

	users []key
	more  int // keys given out by another
	drawn int // accounts given out by cold

	crowd    int           // accounts beside the others, on a store
	patience time.Duration // how long each operation is measured; 0: once
	reader   state.Reader  // the state, where blocks read it; nil: in memory
	ahead    uint64        // how many ms after the last blocks come; 0: a second
}

// another returns a key that nobody has yet.
func (w *gasWorld) another() key { w.more++; return numbered('n', w.more) }

func numbered(kind byte, n int) key {
	return key{crypto.PrivateKeyFromSeed([32]byte{kind, byte(n), byte(n >> 8), byte(n >> 16), 'g'})}
}

func validatorKey(n int) key { return numbered('v', n) }

// newGasWorld gives every user a million HYPER, and a validator.
func newGasWorld(t testing.TB, crowd int) *gasWorld {
	t.Helper()
	g := genesis()
	g.Params.BlockGas, g.Params.TargetGasPerSec = chain.GasUnits(1e12), chain.GasUnits(1e12)
	g.Params.ProviderBond, g.Params.ClusterBond = chain.Hyper(1), chain.Hyper(1)
	g.Kernels = append(g.Kernels, batchKernel)
	g.Validators = g.Validators[:0]
	for n := range gasValidators {
		g.Validators = append(g.Validators, chain.GenesisValidator{
			Name: "validator", ConsensusKey: validatorKey(n).Public(), NodeKey: numbered('w', n).Public(),
			Owner: numbered('u', n).address(), Stake: chain.Hyper(100_000_000 / gasValidators), Endpoint: "127.0.0.1:1",
		})
	}
	proofs := &echo{}
	machine, err := vm.New(vm.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(machine.Close)
	w := &gasWorld{crowd: crowd, machine: machine, world: &world{
		TB: t, x: execution.New(g, proofs, machine), proofs: proofs, state: state.NewOverlay(state.NewMemoryBackend()), now: g.TimeMs, nonces: map[chain.Address]uint64{},
	}}
	if err := execution.Genesis(w.state, g); err != nil {
		t.Fatal(err)
	}
	for n := range gasUsers {
		w.users = append(w.users, numbered('u', n))
		w.give(w.users[n].address(), chain.Hyper(1_000_000))
	}
	for n := range 2 * gasDeep {
		w.give(deepKey(n).address(), chain.Hyper(1_000_000))
	}
	for n := range min(crowd, warm) {
		w.give(crowdOf(n), chain.Hyper(1))
	}
	w.settleDown()
	return w
}

// deepKey is that of an account with as many positions as one may have.
func deepKey(n int) key { return numbered('d', n) }

// warm is how many of the crowd are in the state, in memory too: those to whom it is sent
// again and again.
const warm = 10_000

// cold is another account of the crowd, that nobody has read for long.
func (w *gasWorld) cold() chain.Address {
	w.drawn++
	if w.crowd <= warm {
		return crowdOf(w.drawn % w.crowd)
	}
	return crowdOf(warm + int(uint64(w.drawn)*0x9e3779b97f4a7c15>>20)%(w.crowd-warm))
}

// crowdOf is an account that does nothing.
func crowdOf(n int) chain.Address {
	var a chain.Address
	binary.BigEndian.PutUint64(a[:], uint64(n+1)*0x9e3779b97f4a7c15)
	return a
}

func (w *gasWorld) give(to chain.Address, amount chain.Amount) {
	tokens.Mint(w.state, amount)
	tokens.Credit(w.state, to, amount)
}

// settleDown makes what the state collected its base.
func (w *gasWorld) settleDown() {
	backend := state.NewMemoryBackend()
	for key, value := range w.state.Iterate([]byte{0}, nil) {
		backend.Set(append([]byte(nil), key...), append([]byte(nil), value...))
	}
	w.state = state.NewOverlay(backend)
}

// header is world's, by a validator of this one.
func (w *gasWorld) header(afterMs uint64) *chain.Header {
	h := &chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: w.height + 1, Epoch: uint64(staking.EpochOf(w.state).Number),
		View: 50, TimeMs: w.now + chain.TimeMs(afterMs), Proposer: validatorKey(0).Public(),
	}
	if err := w.x.Prepare(w.state, h); err != nil {
		w.Fatal(err)
	}
	return h
}

// run executes messages, one transaction each, that must be accepted, and keeps
// the result.
func (w *gasWorld) run(afterMs uint64, txs ...*chain.VerifiedTx) {
	w.Helper()
	h := w.header(afterMs)
	out, err := w.x.Apply(w.state, h, staking.Extras{}, txs)
	if err != nil {
		w.Fatal(err)
	}
	for i, r := range out.Receipts.Txs {
		if !r.Accepted() {
			w.Fatalf("transaction %d: %s", i, r.Rejection)
		}
	}
	w.commit(h, out)
}

// work is what one block took, and what it left.
type work struct {
	cpu       time.Duration
	gas       uint64
	intrinsic uint64 // of that
	bytes     uint64 // of transactions
	txs       int
	events    map[string]int

	updates, inserts, deletes int // of keys
	changed                   int // bytes of keys and values
	receipts                  int // bytes
}

// perTx returns nanoseconds per transaction, above an empty block, with what the
// disk takes.
func (k work) perTx(empty work, d disk) float64 {
	return (float64(k.cpu-empty.cpu) + d.of(k) - d.of(empty)) / float64(k.txs)
}

// processor is the processor time of this process so far: unlike the clock, it
// does not count who else wants the machine.
func processor() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// measure does what a validator does with a block, on one core, but for what it commits:
// decode, verify, execute, and encode receipts. It is the least of some blocks that are
// all the same: what disturbs only adds.
func (w *gasWorld) measure(txs []*chain.VerifiedTx, want verdict, times int) work {
	w.Helper()
	raws := make([][]byte, len(txs))
	for i, tx := range txs {
		raws[i] = tx.Raw()
	}
	h := w.header(cmp.Or(w.ahead, 1_000))
	var took []time.Duration
	var out execution.Outcome
	var receipts int
	for begun := processor(); len(took) == 0 || w.patience > 0 && len(took) < times && (len(took) < 5 || processor()-begun < w.patience); {
		before := processor()
		out, receipts = w.process(h, raws)
		took = append(took, processor()-before)
	}
	for i, r := range out.Receipts.Txs {
		if want != either && r.Accepted() != (want == accepted) {
			w.Fatalf("transaction %d: rejection %q", i, r.Rejection)
		}
	}
	k := work{cpu: slices.Min(took), gas: out.GasUsed.Units(), txs: len(txs), receipts: receipts, events: map[string]int{}}
	for _, r := range out.Receipts.Txs {
		for _, e := range r.Events {
			k.events[chain.EventName(e)]++
		}
	}
	for i, tx := range txs {
		k.bytes += uint64(len(tx.Raw()))
		k.intrinsic += execution.IntrinsicGas(&tx.DecodedTx) - execution.GivenBack(tx, out.Receipts.Txs[i].Events)
	}
	for _, c := range out.Changes {
		k.changed += len(c.Key) + len(c.Value)
		_, known := w.parent().Get(c.Key)
		switch {
		case c.Deleted:
			k.deletes++
		case known:
			k.updates++
		default:
			k.inserts++
		}
	}
	return k
}

// parent is the state that blocks are executed on.
func (w *gasWorld) parent() state.Reader {
	if w.reader != nil {
		return w.reader
	}
	return w.state
}

func (w *gasWorld) process(h *chain.Header, raws [][]byte) (execution.Outcome, int) {
	decoded := make([]chain.DecodedTx, len(raws))
	for i, raw := range raws {
		var err error
		if decoded[i], err = chain.DecodeTx(raw); err != nil {
			w.Fatal(err)
		}
	}
	out, err := w.x.Apply(w.parent(), h, staking.Extras{}, chain.VerifyTxs(decoded, 1))
	if err != nil {
		w.Fatal(err)
	}
	receipts, _ := out.Receipts.EncodeAndRoot()
	return out, len(receipts)
}

// tx is a transaction of a user with room for everything.
func (w *gasWorld) txOf(from key, messages ...chain.Msg) *chain.VerifiedTx {
	body := w.body(from, messages...)
	body.GasLimit = chain.GasUnits(1e9)
	return w.sign(body, from)
}

// each makes a transaction of one message of each user.
func (w *gasWorld) each(n int, message func(i int, from key) chain.Msg) []*chain.VerifiedTx {
	txs := make([]*chain.VerifiedTx, n)
	for i := range txs {
		from := w.users[i%len(w.users)]
		txs[i] = w.txOf(from, message(i, from))
	}
	return txs
}

// possession signs that a key belongs to an account.
func possession(k, owner key) crypto.Signature {
	return k.PrivateKey.Sign(crypto.DomainPossession, chain.PossessionPayload(testChain, owner.address()))
}

func (w *gasWorld) bondOf(from key) chain.Bond {
	consensusKey, node := w.another(), w.another()
	return chain.Bond{
		ConsensusKey: consensusKey.Public(), Possession: possession(consensusKey, from),
		NodeKey: node.Public(), NodePossession: possession(node, from), Name: "validator", Endpoint: "127.0.0.1:1", Amount: chain.Hyper(20_000),
	}
}

func (w *gasWorld) providerOf(from key) (chain.RegisterProvider, key) {
	node := w.another()
	return chain.RegisterProvider{
		Node: node.Public(), Bond: chain.Hyper(100), Region: "eu", Millicores: 4_000, MemoryMiB: 4_096, Possession: possession(node, from),
	}, node
}

func (w *gasWorld) clusterOf(from key) (chain.RegisterCluster, key) {
	c := w.another()
	return chain.RegisterCluster{
		Cluster: c.Public(), Bond: chain.Hyper(1_000), FeeBps: 100, Endpoints: []string{"https://nexus.example"}, Possession: possession(c, from),
	}, c
}

// doubleCertificates is the dearest evidence: two certificates of everybody.
func (w *gasWorld) doubleCertificates(view consensus.View) consensus.Evidence {
	committee, members, _ := staking.CommitteeOf(w.state, 1)
	private := map[crypto.PublicKey]crypto.PrivateKey{}
	for n := range gasValidators {
		private[validatorKey(n).Public()] = validatorKey(n).PrivateKey
	}
	var e consensus.Evidence
	for side := range e.Certificates {
		s := statement(consensus.KindNotarize, view, byte(side))
		var votes []consensus.Vote
		for i := range members {
			votes = append(votes, consensus.SignVote(private[members[i].ConsensusKey], consensus.Signer(i), string(testChain), s))
		}
		e.Certificates[side] = consensus.Assemble(committee, s, votes)
	}
	return e
}

// doubleVotes is evidence that a validator notarized two proposals.
func (w *gasWorld) doubleVotes(n int, view consensus.View) consensus.Evidence {
	return w.votes(n, view, validatorKey(n))
}

// forgedVotes is the same, but for its second signature.
func (w *gasWorld) forgedVotes(n int, view consensus.View) consensus.Evidence {
	return w.votes(n, view, w.users[n])
}

func (w *gasWorld) votes(n int, view consensus.View, second key) consensus.Evidence {
	committee, _, _ := staking.CommitteeOf(w.state, 1)
	signer, ok := committee.IndexOf(validatorKey(n).Public())
	if !ok {
		w.Fatal(fmt.Sprint("validator ", n, " is not in the committee"))
	}
	var e consensus.Evidence
	for side, k := range []key{validatorKey(n), second} {
		e.Votes[side] = consensus.SignVote(k.PrivateKey, signer, string(testChain), statement(consensus.KindNotarize, view, byte(side)))
	}
	return e
}

// signature is what verifying one signature takes in a batch, in nanoseconds.
func (w *gasWorld) signature() float64 {
	txs, before := make([]chain.DecodedTx, 512), maps.Clone(w.nonces)
	for i := range txs {
		body := w.body(w.users[i%gasUsers], transferTo(i))
		txs[i] = w.sign(body, w.users[i%gasUsers]).DecodedTx
	}
	w.nonces = before
	var took []time.Duration
	for begun := processor(); len(took) < 5 || processor()-begun < w.patience; {
		start := processor()
		chain.VerifyTxs(txs, 1)
		took = append(took, processor()-start)
	}
	return float64(slices.Min(took)) / float64(len(txs))
}
