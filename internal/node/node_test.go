package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/execution"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/sdk/api"
	"github.com/hypermesh/hypermesh/tokens"
)

// patience is for what takes milliseconds on an idle machine.
const patience = 60 * time.Second

// member is one node of a network over loopback, through its lives.
type member struct {
	*Node
	testing.TB
	index  int
	home   string
	listen string
	stop   context.CancelFunc
	result chan error
}

// loopback is a network of nodes in this process. Nodes 0 … 3 are validators.
type loopback struct {
	testing.TB
	genesis *chain.Genesis
	members map[int]*member
	peers   []string
	keys    map[int][]crypto.PrivateKey // consensus keys beside those of genesis
	adjust  func(index int, c *Config)  // nil: as it is
}

func newLoopback(t testing.TB) *loopback { return newLoopbackOf(t, testGenesis(t)) }

func newLoopbackOf(t testing.TB, g *chain.Genesis) *loopback {
	l := &loopback{TB: t, genesis: g, members: map[int]*member{}}
	t.TempDir() // the first one: homes are removed after the nodes in them have stopped
	t.Cleanup(func() {
		for i := range 8 {
			if m := l.members[i]; m != nil && m.stop != nil {
				l.halt(i)
			}
		}
	})
	return l
}

// deps opens what a member lives on. The first life picks the port.
func (l *loopback) deps(m *member) Deps {
	l.Helper()
	d := Deps{Genesis: l.genesis, Verifier: noKernels(l), Log: quiet()}
	keys := slices.Clone(l.keys[m.index])
	if m.index < 4 {
		keys = append(keys, keyOf(m.index, 'c'))
	}
	if m.index == 0 {
		d.FaucetKey = user(9).PrivateKey
	}
	var errs [3]error
	d.Logs = l.logs(m)
	errs[2] = d.openKeys(m.home, m.keyFiles(keys))
	d.Since -= 4500 // the epochs here are shorter than the margin for clocks
	d.Store, errs[0] = store.Open(filepath.Join(m.home, "chain"), store.Options{UnsafeNoSync: true, TreeInterval: 4})
	d.Endpoint, errs[1] = transport.Open(transport.Config{Key: keyOf(m.index, 't'), Network: l.genesis.Digest(), ListenAddr: m.listen, Log: quiet()})
	if err := errors.Join(errs[:]...); err != nil {
		l.Fatal(err)
	}
	m.listen = d.Endpoint.Addr().String()
	return d
}

// keyFiles has the keys made in the member's home, and returns the files' names.
func (m *member) keyFiles(keys []crypto.PrivateKey) (names []string) {
	m.Helper()
	for _, key := range keys {
		name := key.Public().Short() + ".key"
		path := filepath.Join(m.home, name)
		if _, err := ReadKey(path); errors.Is(err, fs.ErrNotExist) {
			f := keyFile{key: key, marker: strings.TrimSuffix(path, ".key") + markerSuffix}
			if err := errors.Join(WriteKey(path, key), f.write(unused)); err != nil {
				m.Fatal(err)
			}
		}
		names = append(names, name)
	}
	return names
}

func (l *loopback) logs(m *member) *store.Logs {
	l.Helper()
	logs, err := store.OpenLogs(m.home)
	if err != nil {
		l.Fatal(err)
	}
	return logs
}

// start begins the first or the next life of some nodes.
func (l *loopback) start(indices ...int) {
	l.Helper()
	opened := map[int]Deps{}
	for _, i := range indices {
		m := l.members[i]
		if m == nil {
			m = &member{TB: l.TB, index: i, home: l.TempDir(), listen: "127.0.0.1:0"}
			l.members[i] = m
			opened[i] = l.deps(m)
			l.peers = append(l.peers, transport.NodeAddr{ID: keyOf(i, 't').Public(), Addr: m.listen}.String())
			continue
		}
		opened[i] = l.deps(m)
	}
	for _, i := range indices {
		m := l.members[i]
		config := Config{HTTP: "127.0.0.1:0", Peers: l.peers[:min(4, len(l.peers))], Version: "test", MaxObservers: DefaultConfig().MaxObservers}
		if l.adjust != nil {
			l.adjust(i, &config)
		}
		n, err := New(config, opened[i])
		if err != nil {
			l.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		m.Node, m.stop, m.result = n, stop, make(chan error, 1)
		go func() { m.result <- n.Run(ctx) }()
	}
}

func (l *loopback) halt(i int) {
	l.Helper()
	m := l.members[i]
	m.stop()
	m.stop = nil
	if err := <-m.result; err != nil {
		l.Errorf("node %d: %v", i, err)
	}
}

// until waits, block by block, for a condition.
func (m *member) until(what string, done func() bool) {
	m.Helper()
	late := time.After(patience)
	for {
		height, higher := m.Finalized()
		if done() {
			return
		}
		select {
		case <-higher:
		case err := <-m.result:
			m.Fatalf("node %d ended: %v", m.index, err)
		case <-late:
			m.Fatalf("node %d at height %d: no %s in %v; %+v", m.index, height, what, patience, m.engine.Status())
		}
	}
}

func (m *member) height() chain.Height {
	h, _ := m.Finalized()
	return h
}

func (m *member) reach(h chain.Height) {
	m.Helper()
	m.until(fmt.Sprintf("height %d", h), func() bool { return m.height() >= h })
}

func (m *member) has(tx chain.TxID) {
	m.Helper()
	m.until("transaction "+tx.Short(), func() bool {
		found, err := m.Tx(m.Context(), tx)
		return err == nil && found.Status == api.TxIncluded
	})
}

func (m *member) submit(txs ...chain.DecodedTx) {
	m.Helper()
	reasons, err := m.Submit(m.Context(), txs)
	if err != nil {
		m.Fatal(err)
	}
	for i, reason := range reasons {
		if reason != "" {
			m.Fatalf("transaction %d: %s", i, reason)
		}
	}
}

// epoch waits until the member is in an epoch.
func (m *member) epoch(e consensus.Epoch) {
	m.Helper()
	m.until(fmt.Sprintf("epoch %d", e), func() bool { return m.engine.Status().Epoch >= e })
}

// signs waits until the member votes, or does not any more.
func (m *member) signs(want bool) {
	m.Helper()
	m.until(fmt.Sprintf("status with signs %v", want), func() bool { return m.engine.Status().Signs == want })
}

// agree compares the members' blocks and recomputes their supply.
func (l *loopback) agree() {
	l.Helper()
	longest := l.members[0]
	for _, m := range l.members {
		if m.height() > longest.height() {
			longest = m
		}
	}
	minted := map[chain.Height][]chain.Amount{}
	for i, m := range l.members {
		if n := m.engine.Metrics().Blamed; n > 0 {
			l.Errorf("node %d blocked honest peers %d times", i, n)
		}
		for h := range m.height() + 1 {
			mine, ok, err := m.store.Tip(h)
			theirs, okToo, errToo := longest.store.Tip(h)
			if err := errors.Join(err, errToo); err != nil || !ok || !okToo || mine != theirs {
				l.Fatalf("node %d has %+v at height %d, node %d has %+v: %v", i, mine, h, longest.index, theirs, err)
			}
		}
		snapshot, err := m.store.Snapshot()
		if err != nil {
			l.Fatal(err)
		}
		supply, err := execution.Recompute(snapshot)
		if err := errors.Join(err, snapshot.Close()); err != nil {
			l.Errorf("node %d: %v", i, err)
		}
		minted[m.height()] = append(minted[m.height()], supply.Minted)
		if same := minted[m.height()]; supply.Minted.Less(chain.TotalSupply) || same[0] != supply.Minted {
			l.Errorf("node %d: minted %s at height %d, others %s, genesis %s", i, supply.Minted, m.height(), same[0], chain.TotalSupply)
		}
	}
}

// fetch reads JSON from a member's HTTP API.
func (m *member) fetch(path string, into any) {
	m.Helper()
	request, err := http.NewRequestWithContext(m.Context(), http.MethodGet, "http://"+m.Addr()+path, nil)
	if err != nil {
		m.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		m.Fatal(err)
	}
	var body bytes.Buffer
	_, err = body.ReadFrom(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusOK {
		m.Fatalf("GET %s: %s %v %s", path, response.Status, err, body.Bytes())
	}
	if err := json.Unmarshal(body.Bytes(), into); err != nil {
		m.Fatalf("GET %s: %v", path, err)
	}
}

// checkProof verifies a proven account as a client must: the value under the
// header's state root, the header under the certificate, whose signers are a
// quorum of genesis' committee.
func (l *loopback) checkProof(address chain.Address, got api.Account) {
	l.Helper()
	if got.Proof == nil {
		l.Fatal("an account without the proof asked for")
	}
	h := got.Proof.Header
	header := chain.Header{
		Version: h.Version, ChainID: h.ChainID, Height: h.Height, Epoch: uint64(h.Epoch), View: uint64(h.View), Parent: h.Parent,
		TimeMs: h.TimeMs, Closing: h.Closing, TxRoot: h.TxRoot, ExtraRoot: h.ExtraRoot, StateRoot: h.StateRoot, ReceiptRoot: h.ReceiptRoot,
		Committee: h.Committee, NextCommittee: h.NextCommittee, Proposer: h.Proposer, Finalized: h.Finalized,
		VRFOutput: h.VRFOutput, VRFProof: h.VRFProof,
	}
	proof, err := state.DecodeProof(got.Proof.Proof)
	if err != nil {
		l.Fatal(err)
	}
	key := tokens.AccountKey(address)
	if err := proof.Verify(header.StateRoot, key, got.Proof.Value, got.Proof.Present); err != nil {
		l.Errorf("height %d: %v", got.Height, err)
	}
	if err := proof.Verify(header.StateRoot, key, append([]byte{1}, got.Proof.Value...), true); err == nil {
		l.Error("the proof shows another value too")
	}
	top := header.Digest()
	for _, raw := range got.Proof.Certificate.Path {
		next, err := chain.DecodeHeader(raw)
		if err != nil || next.Parent != top {
			l.Fatalf("a header of the path is no child of the one before: %v", err)
		}
		top = next.Digest()
	}
	certificate, err := consensus.DecodeCertificate(got.Proof.Certificate.Bytes)
	if err != nil {
		l.Fatal(err)
	}
	if s := certificate.Statement; s.Kind != consensus.KindFinalize || s.Proposal.Digest != top {
		l.Errorf("the certificate is %s, not of %s", s, top.Short())
	}
	signers, ok := l.members[0].app.committees.of(certificate.Statement.Round().Epoch)
	if !ok {
		l.Fatalf("nobody knows the committee of %s", certificate.Statement)
	}
	if err := certificate.Verify(signers.Committee, string(testChain)); err != nil {
		l.Error(err)
	}
	if got.Height+1 != header.Height || got.Proof.Key == nil || !bytes.Equal(got.Proof.Key, key) {
		l.Errorf("an account as of height %d with a proof of %x by header %d", got.Height, got.Proof.Key, header.Height)
	}
}

// TestANetworkOfNodes is one life story: transfers to finality, proofs, the
// faucet, a restart, and an observer.
func TestANetworkOfNodes(t *testing.T) {
	l := newLoopback(t)
	l.start(0, 1, 2, 3)
	to := user(70).address()
	l.members[0].reach(2)
	var last chain.DecodedTx
	for n := range uint64(20) {
		last = transfer(t, 1, n, to)
		l.members[int(n%4)].submit(last) // gossip brings it to the others
	}
	for _, m := range l.members {
		m.has(last.ID())
	}
	l.members[2].until("proof of twenty transfers", func() bool {
		var got api.Account
		l.members[2].fetch("/v1/accounts/"+to.String()+"?proof=true", &got)
		l.checkProof(to, got)
		return got.Balance == chain.Hyper(20)
	})
	absent := user(77).address()
	var nobody api.Account
	l.members[1].fetch("/v1/accounts/"+absent.String()+"?proof=true", &nobody)
	if l.checkProof(absent, nobody); nobody.Proof.Present || !nobody.Balance.IsZero() {
		t.Errorf("an account nobody paid to: %+v", nobody)
	}

	paid, err := l.members[0].Faucet(t.Context(), absent, chain.Hyper(5))
	if err != nil {
		t.Fatal(err)
	}
	l.members[3].has(paid)
	if _, err := l.members[1].Faucet(t.Context(), absent, chain.Hyper(5)); err == nil {
		t.Error("a node without a faucet key pays")
	}

	l.halt(3)
	behind := l.members[0].height()
	more := transfer(t, 2, 0, to)
	l.members[1].submit(more)
	l.members[0].has(more.ID())
	l.start(3, 4)
	returned, observer := l.members[3], l.members[4]
	for _, m := range []*member{returned, observer} {
		m.has(more.ID())
		m.reach(max(behind, l.members[0].height()) + 3)
	}
	if !returned.engine.Status().Signs || observer.engine.Status().Signs {
		t.Errorf("the validator that returned signs: %v; the observer: %v", returned.engine.Status().Signs, observer.engine.Status().Signs)
	}
	through := transfer(t, 3, 0, to)
	observer.submit(through)
	for _, m := range l.members {
		m.has(through.ID())
	}
	observer.tellsOfDropped(4, "no consensus key")
	l.members[0].tellsOfDropped(5, "")
	var seen api.Account
	observer.fetch("/v1/accounts/"+to.String()+"?proof=true", &seen)
	l.checkProof(to, seen)
	l.agree()
}

// TestAllValidatorsStopAndStart: what was final stays, and the chain goes on.
func TestAllValidatorsStopAndStart(t *testing.T) {
	l := newLoopback(t)
	l.start(0, 1, 2, 3)
	for life := range uint64(3) {
		tx := transfer(t, 1, life, user(70).address())
		l.members[0].submit(tx)
		for i := range 4 {
			l.members[i].has(tx.ID())
		}
		l.members[0].reach(l.members[0].height() + 1 + chain.Height(life)) // to stop at several places between written trees
		before := l.members[0].height()
		for i := range 4 {
			l.halt(i)
		}
		l.start(0, 1, 2, 3)
		l.members[0].reach(before + 1)
	}
	l.agree()
	if got := balanceOf(l.members[0].store.State(), user(70).address()); got != chain.Hyper(3) {
		t.Errorf("balance %s after three transfers", got)
	}
}

func TestAFaucetIsForDevnetsOnly(t *testing.T) {
	l := newLoopback(t)
	l.genesis.Devnet = false
	m := &member{TB: t, home: t.TempDir(), listen: "127.0.0.1:0"}
	if _, err := New(Config{HTTP: "127.0.0.1:0"}, l.deps(m)); err == nil || !strings.Contains(err.Error(), "no devnet") {
		t.Errorf("error %v", err)
	}
	again := l.deps(m) // New has closed everything
	again.FaucetKey = crypto.PrivateKey{}
	n, err := New(Config{HTTP: "127.0.0.1:0"}, again)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := n.Run(ctx); err != nil {
		t.Error(err)
	}
}
