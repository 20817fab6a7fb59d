package statesync_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/transport"
)

const testChain chain.ChainID = "sync-test"

func key(n int) crypto.PrivateKey { return crypto.PrivateKeyFromSeed([32]byte{byte(n), 's'}) }

func testGenesis(t testing.TB) *chain.Genesis {
	t.Helper()
	rest := chain.AddressOf(crypto.AccountKeyOf(key(99).Public()))
	g := chain.NewGenesis(testChain, chain.TimeMs(time.Now().UnixMilli()), chain.DefaultParams(),
		chain.Holders{Community: rest, Team: rest, Foundation: rest, Validators: rest, Sale: rest})
	for i := range 4 {
		if err := g.AddValidator(chain.GenesisValidator{
			Name: fmt.Sprint(i), ConsensusKey: key(i).Public(), NodeKey: key(50 + i).Public(), Owner: rest, Stake: chain.Hyper(1_000_000), Endpoint: "127.0.0.1:1",
		}); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// closed is an epoch that has ended.
type closed struct {
	transition light.Transition
	block      []byte
	tree       *state.Tree
}

// history is a chain of closing blocks with the states before them. It is the
// Source of every honest peer.
type history struct {
	testing.TB
	genesis *chain.Genesis
	mu      sync.Mutex
	epochs  []closed // of epochs 1, 2, …
	points  []begin
	kept    int // how many states are served: the last ones
	// forgotten: the states do not say who served in the checkpoint's epoch
	forgotten bool
}

func newHistory(t testing.TB, epochs int) *history {
	h := &history{TB: t, genesis: testGenesis(t), kept: 2}
	for range epochs {
		h.grow(3000)
	}
	return h
}

// grow ends an epoch whose state has so many records.
func (h *history) grow(records int) {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	epoch := len(h.epochs) + 1
	tree := h.tree(epoch, uint64(10*epoch-1), records)
	next := h.committee(epoch + 1)
	block := h.block(epoch, uint64(10*epoch), tree)
	block.Header.Closing, block.Header.NextCommittee = true, next.Digest()
	transition := light.Transition{Header: block.Header.Encode(), Certificate: h.certify(&block.Header)}
	for i := range next.Len() {
		transition.Members = append(transition.Members, next.Validator(consensus.Signer(i)))
	}
	h.epochs = append(h.epochs, closed{transition, block.Encode(), tree})
	h.points = append(h.points, begin{height: block.Header.Height, block: block.Encode(), tree: tree,
		proof: light.Evidence{Header: transition.Header, Certificate: transition.Certificate}})
}

// goOn makes a point within the epoch, so many blocks above its begin: a block that is
// final because one two above it is.
func (h *history) goOn(blocks, records int) {
	h.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	epoch := len(h.epochs) + 1
	height := uint64(10*len(h.epochs) + blocks)
	tree := h.tree(1000*epoch+blocks, height-1, records)
	first := h.block(epoch, height, tree)
	e := light.Evidence{Header: first.Header.Encode()}
	last := first
	for range 2 {
		next := h.block(epoch, uint64(last.Header.Height)+1, tree)
		next.Header.Parent = last.Header.Digest()
		e.Path = append(e.Path, next.Header.Encode())
		last = next
	}
	e.Certificate = h.certify(&last.Header)
	h.points = append(h.points, begin{height: first.Header.Height, block: first.Encode(), tree: tree, proof: e})
}

func (h *history) tree(seed int, version uint64, records int) *state.Tree {
	h.Helper()
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	kv := state.NewOverlay(state.NewMemoryBackend())
	for i := range records {
		value := make([]byte, 10+rng.IntN(200))
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		if i%900 == 0 {
			value = append(value, make([]byte, 200_000)...)
		}
		kv.Set(fmt.Appendf(nil, "record %d of %d", i, seed), value)
	}
	tree, err := state.NewTree(state.NewMemoryBackend(), 0).Next(version, kv.Changes(), 2)
	if err != nil {
		h.Fatal(err)
	}
	return tree
}

func (h *history) block(epoch int, height uint64, tree *state.Tree) chain.Block {
	h.Helper()
	block := chain.Block{Header: chain.Header{
		Version: chain.BlockVersion, ChainID: testChain, Height: chain.Height(height), Epoch: uint64(epoch), View: 3,
		TimeMs: h.genesis.TimeMs + chain.TimeMs(epoch), TxRoot: chain.ListRoot(crypto.DomainTxRoot, nil), StateRoot: tree.Root(),
		Committee: h.committee(epoch).Digest(),
	}}
	block.Header.ExtraRoot = block.Body.ExtraRoot()
	return block
}

// certify finalizes a header; one that closes an epoch in a later view.
func (h *history) certify(header *chain.Header) []byte {
	h.Helper()
	committee, view := h.committee(int(header.Epoch)), consensus.View(header.View)
	if header.Closing {
		view++
	}
	s := consensus.Statement{Kind: consensus.KindFinalize, Proposal: consensus.Proposal{
		Round: consensus.Round{Epoch: consensus.Epoch(header.Epoch), View: view}, Parent: view - 1, Digest: header.Digest(),
	}}
	var votes []consensus.Vote
	for i := range 3 {
		for n := range 4 {
			if key(n).Public() == committee.Validator(consensus.Signer(i)).Key {
				votes = append(votes, consensus.SignVote(key(n), consensus.Signer(i), string(testChain), s))
			}
		}
	}
	return consensus.EncodeCertificate(consensus.Assemble(committee, s, votes))
}

func (h *history) committee(epoch int) *consensus.Committee {
	h.Helper()
	first, err := light.GenesisCommittee(h.genesis, light.FirstEpoch)
	if err != nil {
		h.Fatal(err)
	}
	members := make([]consensus.Validator, first.Len())
	for i := range members {
		members[i] = first.Validator(consensus.Signer(i))
	}
	c, err := consensus.NewCommittee(consensus.Epoch(epoch), members)
	if err != nil {
		h.Fatal(err)
	}
	return c
}

func (h *history) checkpoint(epoch int) light.Checkpoint {
	h.Helper()
	header, err := chain.DecodeHeader(h.epochs[epoch-1].transition.Header)
	if err != nil {
		h.Fatal(err)
	}
	return light.Checkpoint{
		ChainID: testChain, Epoch: consensus.Epoch(epoch), Height: header.Height, TimeMs: header.TimeMs, Digest: header.Digest(), NextCommittee: header.NextCommittee,
	}
}

func (h *history) at(epoch consensus.Epoch) (closed, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch < 1 || int(epoch) > len(h.epochs) {
		return closed{}, false
	}
	return h.epochs[epoch-1], true
}

func (h *history) Transition(epoch consensus.Epoch) ([]byte, bool, error) {
	c, ok := h.at(epoch)
	return c.transition.Encode(), ok, nil
}

func (h *history) Offers() ([]chain.Height, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []chain.Height
	for i := range min(h.kept, len(h.points)) {
		out = append(out, h.points[len(h.points)-1-i].height)
	}
	return out, nil
}

// begin is a block to begin with.
type begin struct {
	height chain.Height
	proof  light.Evidence
	block  []byte
	tree   *state.Tree
}

func (h *history) point(height chain.Height) (begin, bool) {
	offers, _ := h.Offers()
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.points, func(b begin) bool { return b.height == height })
	if i < 0 {
		return begin{}, false
	}
	return h.points[i], slices.Contains(offers, height)
}

func (h *history) Tree(height chain.Height) (*state.Tree, bool, error) {
	b, ok := h.point(height)
	return b.tree, ok, nil
}

func (h *history) Proof(height chain.Height) (light.Evidence, bool, error) {
	b, ok := h.point(height)
	return b.proof, ok, nil
}

func (h *history) Block(height chain.Height) ([]byte, bool, error) {
	b, ok := h.point(height)
	return b.block, ok || b.block != nil, nil
}

// memory is a network without wires: every peer is a server in this process,
// whose answers may be tampered with.
type memory struct {
	mu      sync.Mutex
	servers map[crypto.PublicKey]map[uint8]transport.Service
	tamper  map[crypto.PublicKey]func(ctx context.Context, service uint8, answer []byte, err error) ([]byte, error)
	blocked map[crypto.PublicKey]string
	asked   map[crypto.PublicKey]int
}

func newMemory(peers int, source statesync.Source) *memory {
	m := &memory{
		servers: map[crypto.PublicKey]map[uint8]transport.Service{}, blocked: map[crypto.PublicKey]string{}, asked: map[crypto.PublicKey]int{},
		tamper: map[crypto.PublicKey]func(context.Context, uint8, []byte, error) ([]byte, error){},
	}
	for i := range peers {
		m.add(i, source)
	}
	return m
}

func peerID(i int) crypto.PublicKey { return key(50 + i).Public() }

func (m *memory) add(i int, source statesync.Source) {
	services := map[uint8]transport.Service{}
	for _, s := range statesync.NewServer(source, slog.New(slog.DiscardHandler)).Mesh().Services {
		services[s.ID] = s
	}
	m.servers[peerID(i)] = services
}

func (m *memory) Peers() []crypto.PublicKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []crypto.PublicKey
	for _, id := range slices.SortedFunc(maps.Keys(m.servers), crypto.PublicKey.Compare) {
		if m.blocked[id] == "" {
			out = append(out, id)
		}
	}
	return out
}

func (m *memory) Request(ctx context.Context, to crypto.PublicKey, service uint8, request []byte) ([]byte, error) {
	m.mu.Lock()
	s, tamper, blocked := m.servers[to][service], m.tamper[to], m.blocked[to]
	m.asked[to]++
	m.mu.Unlock()
	if blocked != "" {
		return nil, transport.ErrNotConnected
	}
	answer, err := s.Respond(ctx, peerID(20), request)
	if err != nil {
		err = &transport.RefusedError{Reason: err.Error()}
	}
	if tamper != nil {
		return tamper(ctx, service, answer, err)
	}
	return answer, err
}

func (m *memory) Block(peer crypto.PublicKey, _ time.Duration, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blocked[peer] = reason
}

// sink keeps leaves in a map, and fails after a number of Puts if told so.
type sink struct {
	history  *history
	goal     light.Header
	leaves   map[string]string
	progress []byte
	puts     int
	failAt   int
	resets   int // times that a state was begun
}

var errKilled = fmt.Errorf("killed")

func (s *sink) Begin(first light.Header) ([]byte, error) {
	if s.goal != first && s.goal.Digest() != first.Digest() {
		*s = sink{history: s.history, resets: s.resets + 1, failAt: s.failAt, puts: s.puts, leaves: map[string]string{}}
	}
	s.goal = first
	return s.progress, nil
}

func (s *sink) Put(_ state.Range, leaves []state.Entry, progress []byte) error {
	if s.puts++; s.puts == s.failAt {
		return errKilled
	}
	for _, e := range leaves {
		s.leaves[string(e.Key)] = string(e.Value)
	}
	s.progress = progress
	return nil
}

func (s *sink) Committee(epoch consensus.Epoch) (*consensus.Committee, bool, error) {
	if s.history.forgotten {
		return nil, false, nil
	}
	return s.history.committee(int(epoch)), true, nil
}

// whole checks that the sink has the state before a block.
func (h *history) whole(s *sink, height chain.Height) {
	h.Helper()
	c, _ := h.point(height)
	n := 0
	for e, err := range c.tree.Iterate(crypto.Digest{}) {
		if err != nil {
			h.Fatal(err)
		}
		if value, ok := s.leaves[string(e.Key)]; !ok || value != string(e.Value) {
			h.Fatalf("%s is missing or differs", e.Key)
		}
		n++
	}
	if n != len(s.leaves) {
		h.Fatalf("the sink has %d leaves, the state %d", len(s.leaves), n)
	}
}

// notes is a log to look into.
type notes struct {
	mu   sync.Mutex
	text strings.Builder
}

func (n *notes) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.String()
}
