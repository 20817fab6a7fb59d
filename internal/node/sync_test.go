package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// large is a chain of one epoch with a state of many accounts, in a store on the
// disk, which is served over loopback.
type large struct {
	testing.TB
	genesis    *chain.Genesis
	store      *store.Store
	before     store.Tip // the state that is served
	checkpoint light.Checkpoint
	peer       transport.NodeAddr
}

// newLarge writes the accounts in random order, some thousands to a version, so that
// neighbours in the tree are of all versions.
func newLarge(t testing.TB, accounts, versions int) *large {
	l := &large{TB: t, genesis: testGenesis(t)}
	l.store = l.open("server")
	if err := commitGenesis(l.genesis, l.store); err != nil {
		t.Fatal(err)
	}
	tree, err := l.store.OpenTree(0)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 64<<10)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	order := rng.Perm(accounts)
	for v := range versions {
		kv := state.NewOverlay(state.NewMemoryBackend())
		for _, n := range order[accounts*v/versions : accounts*(v+1)/versions] {
			kv.Set(fmt.Appendf(nil, "~account/%022d", n), value[rng.IntN(len(value)-100):][:100])
		}
		tree = l.commit(store.Finalized{Digest: crypto.DomainBlob.Hash(fmt.Append(nil, v))}, tree, kv.Changes())
	}
	l.before = store.Tip{Height: chain.Height(versions), Digest: crypto.DomainBlob.Hash(fmt.Append(nil, versions-1)), StateRoot: tree.Root()}
	l.close(tree)
	return l
}

func (l *large) open(name string) *store.Store {
	l.Helper()
	st, err := store.Open(filepath.Join(l.TempDir(), name), store.Options{PointBytes: 8 << 10})
	if err != nil {
		l.Fatal(err)
	}
	return st
}

func (l *large) commit(f store.Finalized, tree *state.Tree, changes []state.Change) *state.Tree {
	l.Helper()
	if mark, ok := l.store.TreeMark(); ok {
		tree = tree.Persisted(mark)
	}
	next, err := tree.Next(tree.Version()+1, changes, 2)
	if err != nil {
		l.Fatal(err)
	}
	f.Height, f.Changes, f.Tree = chain.Height(next.Version()), changes, next
	if err := l.store.Commit(f); err != nil {
		l.Fatal(err)
	}
	return next
}

// close ends the epoch.
func (l *large) close(tree *state.Tree) {
	l.Helper()
	var committees [2]*consensus.Committee
	for i := range committees {
		c, err := light.GenesisCommittee(l.genesis, light.FirstEpoch+consensus.Epoch(i))
		if err != nil {
			l.Fatal(err)
		}
		committees[i] = c
	}
	block := chain.Block{Header: chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: l.before.Height + 1, Epoch: 1, View: 3, TimeMs: chain.TimeMs(time.Now().UnixMilli()), Parent: l.before.Digest,
		TxRoot: chain.ListRoot(crypto.DomainTxRoot, nil), StateRoot: tree.Root(), Committee: committees[0].Digest(), NextCommittee: committees[1].Digest(), Closing: true,
	}}
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	transition := light.Transition{Header: block.Header.Encode(), Certificate: l.certify(committees[0], &block.Header)}
	for i := range committees[1].Len() {
		transition.Members = append(transition.Members, committees[1].Validator(consensus.Signer(i)))
	}
	l.commit(store.Finalized{
		Digest: block.Header.Digest(), Header: transition.Header, Block: block.Encode(), Certificate: transition.Certificate,
		Closing: &store.Closing{Epoch: 1, Record: transition.Encode(), Before: tree},
	}, tree, nil)
	l.checkpoint = light.Checkpoint{
		ChainID: testChain, Epoch: 1, Height: block.Header.Height, TimeMs: block.Header.TimeMs, Digest: block.Header.Digest(), NextCommittee: block.Header.NextCommittee,
	}
}

// goOn makes blocks in the next epoch, some of the accounts changed in each, until the
// last point is one of them, which is then what is served.
func (l *large) goOn() {
	l.Helper()
	committee, err := light.GenesisCommittee(l.genesis, light.FirstEpoch+1)
	if err != nil {
		l.Fatal(err)
	}
	tip, _ := l.store.Latest()
	tree, err := l.store.OpenTree(tip.Height)
	if err != nil {
		l.Fatal(err)
	}
	before := map[chain.Height]store.Tip{}
	for {
		points, err := l.store.Points(1)
		if err != nil {
			l.Fatal(err)
		}
		if points[0] > l.checkpoint.Height {
			l.before = before[points[0]]
			return
		}
		tip, _ := l.store.Latest()
		before[tip.Height+1] = tip
		block := chain.Block{Header: chain.Header{
			Version: chain.BlockVersion, ChainID: testChain, Height: tip.Height + 1, Epoch: 2, View: uint64(tip.Height), TimeMs: l.checkpoint.TimeMs + 1, Parent: tip.Digest,
			TxRoot: chain.ListRoot(crypto.DomainTxRoot, nil), StateRoot: tip.StateRoot, Committee: committee.Digest(),
		}}
		block.Header.ExtraRoot = block.Body.ExtraRoot()
		digest, kv := block.Header.Digest(), state.NewOverlay(state.NewMemoryBackend())
		for n := range 100 {
			kv.Set(fmt.Appendf(nil, "~account/%022d", (100*int(tip.Height)+n)%1000), digest[:])
		}
		tree = l.commit(store.Finalized{
			Digest: digest, Header: block.Header.Encode(), Block: block.Encode(), Certificate: l.certify(committee, &block.Header),
			Receipts: make([]byte, 64<<10),
		}, tree, kv.Changes())
	}
}

// certify finalizes a header.
func (l *large) certify(committee *consensus.Committee, h *chain.Header) []byte {
	view := consensus.View(h.View)
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{
		Round: consensus.Round{Epoch: consensus.Epoch(h.Epoch), View: view}, Parent: view - 1, Digest: h.Digest(),
	}}
	var votes []consensus.Vote
	for i := range committee.Len() {
		for n := range 4 {
			if k := keyOf(n, 'c'); k.Public() == committee.Validator(consensus.Signer(i)).Key {
				votes = append(votes, consensus.SignVote(k, consensus.Signer(i), string(testChain), s))
			}
		}
	}
	return consensus.EncodeCertificate(consensus.Assemble(committee, s, votes))
}

// run runs a mesh on an endpoint of its own until the test ends.
func (l *large) run(key crypto.PrivateKey, config transport.MeshConfig) *transport.Mesh {
	l.Helper()
	endpoint, err := transport.Open(transport.Config{Key: key, Network: l.genesis.Digest(), ListenAddr: "127.0.0.1:0", Log: quiet()})
	if err != nil {
		l.Fatal(err)
	}
	mesh, err := transport.NewMesh(endpoint, config)
	if err != nil {
		l.Fatal(err)
	}
	runMesh(l, endpoint, mesh)
	l.peer = endpoint.NodeAddr()
	return mesh
}

// stopping is a sink that is killed after a number of chunks, if that is not 0.
type stopping struct {
	importSink
	puts, stopAt int
}

var errStopped = errors.New("stopped")

func (s *stopping) Put(r state.Range, leaves []state.Entry, progress []byte) error {
	if s.puts++; s.puts == s.stopAt {
		return errStopped
	}
	return s.importSink.Put(r, leaves, progress)
}

// join fetches the state into a store.
func (l *large) join(network joinNetwork, sink *stopping) error {
	_, err := statesync.Join(l.Context(), statesync.Config{Genesis: l.genesis, Checkpoint: l.checkpoint, Network: network, Sink: sink, Log: quiet()})
	return err
}

func (l *large) serve() {
	l.run(keyOf(70, 't'), statesync.NewServer(newSyncSource(l.store), quiet()).Mesh())
}

// BenchmarkSync1M brings a state of a million accounts from one node's disk to
// another's over loopback; both have the same two cores.
func BenchmarkSync1M(b *testing.B) {
	l := newLarge(b, 1_000_000, 500)
	l.serve()
	peer := l.peer
	for i := 0; b.Loop(); i++ {
		st := l.open(fmt.Sprint("joiner", i))
		network := joinNetwork{l.run(keyOf(71+i, 't'), statesync.JoinerMesh([]transport.NodeAddr{peer}))}
		sink := &stopping{importSink: importSink{store: st}}
		began, cores := time.Now(), processorTime(b)
		if err := l.join(network, sink); err != nil {
			b.Fatal(err)
		}
		fetched := time.Since(began)
		if _, err := sink.into.Finish(l.before, l.genesis.Digest()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(fetched.Seconds(), "fetch-s")
		b.ReportMetric(time.Since(began).Seconds(), "sync-s")
		b.ReportMetric((processorTime(b) - cores).Seconds(), "core-s") // of both nodes
		b.ReportMetric(float64(sink.puts), "chunks")
		if err := st.Close(); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.store.Close(); err != nil {
		b.Fatal(err)
	}
}

// processorTime is what the process has used.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// A joiner that is stopped half-way goes on where its disk is, over a new connection
// and with its store opened anew.
func TestJoinerIsStoppedHalfWayAndGoesOn(t *testing.T) {
	for _, within := range []bool{false, true} {
		t.Run(map[bool]string{false: "an end of an epoch", true: "a point within one"}[within], func(t *testing.T) { stoppedHalfWay(t, within) })
	}
}

func stoppedHalfWay(t *testing.T, within bool) {
	const accounts = 60_000
	l := newLarge(t, accounts, 20)
	if within {
		l.goOn()
		o := store.PruneOptions{KeepVersions: 1, KeepStates: 1, KeepBlocks: 1, Index: IndexOf}
		if _, err := l.store.Prune(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	l.serve()
	peer := l.peer
	dir := filepath.Join(t.TempDir(), "joiner")
	open := func(dir string) *store.Store {
		st, err := store.Open(dir, store.Options{PendingBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open(dir)
	sink := &stopping{importSink: importSink{store: st}, stopAt: 12}
	if err := l.join(joinNetwork{l.run(keyOf(71, 't'), statesync.JoinerMesh([]transport.NodeAddr{peer}))}, sink); !errors.Is(err, errStopped) {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil { // what a crash takes of that is package store's to test
		t.Fatal(err)
	}
	st = open(dir)
	again := &stopping{importSink: importSink{store: st}}
	if err := l.join(joinNetwork{l.run(keyOf(72, 't'), statesync.JoinerMesh([]transport.NodeAddr{peer}))}, again); err != nil {
		t.Fatal(err)
	}
	tree, err := again.into.Finish(l.before, l.genesis.Digest())
	if err != nil || tree.Root() != l.before.StateRoot {
		t.Fatal(err)
	}
	if n := again.fetched.Load(); n == 0 || n+sink.fetched.Load() > accounts+100 { // and what genesis has
		t.Errorf("%d leaves before it was stopped, %d after, of %d", sink.fetched.Load(), n, accounts)
	}
	if err := errors.Join(st.Close(), l.store.Close()); err != nil {
		t.Fatal(err)
	}
}
