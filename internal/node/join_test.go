package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/engine"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/internal/transport"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// producer makes blocks with transfers, epoch after epoch, four to each.
type producer struct {
	*rig
	on    engine.Parent
	view  consensus.View
	nonce uint64
	pace  chain.TimeMs // between two blocks
}

func newProducer(t testing.TB) *producer {
	g := shortEpochs(t)
	g.Params.EpochMs, g.Params.UnbondDelayMs = 10_000, 600_000
	r := newRig(t, g)
	return &producer{rig: r, on: r.genesisParent(), pace: 2_500}
}

// block makes the next block, in which three users pay new accounts.
func (p *producer) block() {
	p.Helper()
	for n := range 3 {
		to := user(1000 + 3*int(p.nonce) + n).address()
		to[0], to[1] = byte(p.nonce), byte(p.nonce>>8)
		p.submit(transfer(p, n+1, p.nonce, to))
	}
	p.nonce++
	p.view++
	b := p.proposeAt(p.view, p.on, p.pace)
	p.finalize(p.view, p.on, b)
	p.on = parentOf(p.view, b)
	if b.Closing {
		p.on.View, p.view = 0, 0
	}
}

// prune keeps what pruned nodes keep at least.
func (p *producer) prune() {
	p.Helper()
	o := store.PruneOptions{KeepVersions: 1, KeepStates: 1, KeepBlocks: 1, Index: IndexOf}
	if _, err := p.store.Prune(p.Context(), o); err != nil {
		p.Fatal(err)
	}
}

func (p *producer) epochs(n int) {
	p.Helper()
	for range 4 * n {
		p.block()
	}
}

func (p *producer) checkpoint(epoch uint64) light.Checkpoint {
	p.Helper()
	end, ok, err := p.store.EpochEnd(epoch)
	if err != nil || !ok {
		p.Fatalf("the end of epoch %d: %v, %v", epoch, ok, err)
	}
	transition, err := light.DecodeTransition(end.Record)
	if err != nil {
		p.Fatal(err)
	}
	h, err := chain.DecodeHeader(transition.Header)
	if err != nil {
		p.Fatal(err)
	}
	return light.Checkpoint{ChainID: h.ChainID, Epoch: consensus.Epoch(h.Epoch), Height: h.Height, TimeMs: h.TimeMs, Digest: h.Digest(), NextCommittee: h.NextCommittee}
}

// serve offers the producer's states under a node key; spoil sees, and may change,
// the answers.
func (p *producer) serve(key crypto.PrivateKey, spoil func(ctx context.Context, service uint8, answer []byte)) string {
	p.Helper()
	endpoint, err := transport.Open(transport.Config{Key: key, Network: p.genesis.Digest(), ListenAddr: "127.0.0.1:0", Log: quiet()})
	if err != nil {
		p.Fatal(err)
	}
	config := statesync.NewServer(newSyncSource(p.store), quiet()).Mesh()
	for i := range config.Services {
		s := &config.Services[i]
		honest := s.Respond
		s.Respond = func(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error) {
			answer, err := honest(ctx, peer, request)
			spoil(ctx, s.ID, answer)
			return answer, err
		}
	}
	mesh, err := transport.NewMesh(endpoint, config)
	if err != nil {
		p.Fatal(err)
	}
	runMesh(p, endpoint, mesh)
	return endpoint.NodeAddr().String()
}

func honest(context.Context, uint8, []byte) {}

// journal is a log to look into.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// joiner is an empty node that knows whom to ask.
func (p *producer) joiner(st *store.Store, log *journal) *Deps {
	p.Helper()
	endpoint, err := transport.Open(transport.Config{Key: keyOf(77, 't'), Network: p.genesis.Digest(), ListenAddr: "127.0.0.1:0", Log: quiet()})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() {
		if err := endpoint.Close(); err != nil {
			p.Error(err)
		}
	})
	return &Deps{Genesis: p.genesis, Verifier: noKernels(p), Store: st, Endpoint: endpoint, Log: slog.New(slog.NewTextHandler(log, nil)), Fresh: true}
}

func TestJoinUnderLoadWithALyingPeer(t *testing.T) {
	for name, pace := range map[string]chain.TimeMs{"short epochs": 2_500, "a long epoch": 1} {
		t.Run(name, func(t *testing.T) { joinUnderLoadWithALyingPeer(t, pace) })
	}
}

// joinUnderLoadWithALyingPeer has the chain go on at some pace after four epochs. The
// peers are pruned.
func joinUnderLoadWithALyingPeer(t *testing.T, pace chain.TimeMs) {
	p := newProducer(t)
	p.epochs(4)
	if p.pace = pace; pace == 1 {
		for range 12 { // so that the last point is within the epoch
			p.block()
		}
	}
	p.prune()
	liar := keyOf(2, 't')
	answers, log := make(chan struct{}, 1000), &journal{}
	polite := func(ctx context.Context, service uint8, _ []byte) { // they wait until the liar is found out
		answers <- struct{}{}
		for service == statesync.ServiceChunk && ctx.Err() == nil && !strings.Contains(log.String(), "rubbish") {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}
	config := Config{Checkpoint: p.checkpoint(1).String(), Peers: []string{
		p.serve(keyOf(0, 't'), polite),
		p.serve(keyOf(1, 't'), polite),
		p.serve(liar, func(_ context.Context, service uint8, answer []byte) {
			answers <- struct{}{}
			if service == statesync.ServiceChunk && len(answer) > 0 {
				answer[len(answer)/2] ^= 1
			}
		}),
	}}
	st, err := store.OpenMemory(store.Options{TreeInterval: 4})
	if err != nil {
		t.Fatal(err)
	}
	deps := p.joiner(st, log)
	done := make(chan error, 1)
	go func() { done <- deps.Join(t.Context(), config) }()
	// The chain goes on, but not so fast that each state is gone when it is asked
	// for: an epoch takes as long as two dozen answers, on whatever machine.
	for joined, n := false, 1; !joined; n++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			joined = true
		case <-answers:
			if n%6 == 0 {
				p.block()
				p.prune()
			}
		}
	}
	if text := log.String(); !strings.Contains(text, "rubbish") || !strings.Contains(text, liar.Public().String()) {
		t.Errorf("the log does not name the liar:\n%s", text)
	}
	for range 4 {
		p.block()
	}
	p.checkJoined(st)
	if deps.Fresh {
		t.Error("a node that joined is said to know that its keys never signed")
	}
	if err := deps.Join(t.Context(), config); err != nil {
		t.Errorf("joining again: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// TestAJoinerSaysHowFarItIs asks a node that joins, and finds nobody, for its
// health and for anything else.
func TestAJoinerSaysHowFarItIs(t *testing.T) {
	p := newProducer(t)
	p.epochs(2)
	st, err := store.OpenMemory(store.Options{TreeInterval: 4})
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	deps := p.joiner(st, &journal{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- deps.Join(ctx, Config{Checkpoint: p.checkpoint(1).String(), HTTP: at}) }()
	for _, path := range []string{"/healthz", "/v1/status"} {
		var problem api.Problem
		eventually(t, "answer to "+path, func() bool {
			r, err := http.Get("http://" + at + path)
			if err != nil {
				return false
			}
			err = errors.Join(json.NewDecoder(r.Body).Decode(&problem), r.Body.Close())
			if err != nil || r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
				t.Errorf("%s: status %d, %v", path, r.StatusCode, err)
			}
			return true
		})
		if !strings.Contains(problem.Detail, "joining from a checkpoint") || !strings.Contains(problem.Detail, "looking for peers") {
			t.Errorf("%s: %+v", path, problem)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("joining ended with %v", err)
	}
	again, err := net.Listen("tcp", at) // as the node will
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	sink := &importSink{began: time.Now()}
	sink.height.Store(40)
	sink.fetched.Store(7)
	if got := sink.standing(); !strings.Contains(got, "7 entries fetched of the state at height 40") {
		t.Error(got)
	}
}

// checkJoined lets a node that joined catch up and compares it with the producer.
func (p *producer) checkJoined(st *store.Store) {
	p.Helper()
	tip, ok := st.Latest()
	within := p.pace == 1 && tip.Height > 16
	if !ok || tip.Height < 12 || p.pace == 1 != within || tip.Height%4 != 0 && !within {
		p.Fatalf("the joiner begins at height %d", tip.Height)
	}
	r := &rig{TB: p.TB, genesis: p.genesis, store: st}
	r.open()
	floor, err := r.app.Last()
	if err != nil || floor.Closing == within || floor.Certificate == nil || len(floor.Reigns) < 2 {
		p.Fatalf("the floor is %+v: %v", floor, err)
	}
	head, _ := p.store.Latest()
	for height := tip.Height; height <= head.Height; height++ {
		want, _, err := p.store.Tip(height)
		if err != nil {
			p.Fatal(err)
		}
		if height > tip.Height {
			proven, ok, err := p.app.Finalized(uint64(height))
			if err != nil || !ok {
				p.Fatal(err)
			}
			b, err := r.app.Inspect(proven.Payload)
			if err != nil {
				p.Fatal(err)
			}
			if _, err := r.app.Finalize(p.Context(), b, proven.Certificate); err != nil {
				p.Fatal(err)
			}
		}
		if got, ok, err := st.Tip(height); err != nil || !ok || got != want {
			p.Fatalf("after block %d the joiner is at %+v, the chain at %+v (%v)", height, got, want, err)
		}
	}
	r.close()
	// That of epoch 1 has a certificate that only a state tells to be good which still
	// knows who served then.
	for epoch := uint64(2); epoch <= 3; epoch++ {
		want, _, _ := p.store.EpochEnd(epoch)
		got, ok, err := st.EpochEnd(epoch)
		if err != nil || !ok || got.Height != want.Height {
			p.Errorf("the joiner does not know how epoch %d ended: %v", epoch, err)
		}
	}
}

func TestWrongCheckpointsAreRefused(t *testing.T) {
	p := newProducer(t)
	p.epochs(1)
	config := Config{Peers: []string{p.serve(keyOf(0, 't'), honest)}}
	good := p.checkpoint(1)
	stale, elsewhere := good, good
	stale.TimeMs -= 700_000
	elsewhere.ChainID = "elsewhere"
	for want, c := range map[string]light.Checkpoint{"too old": stale, "of chain \"elsewhere\"": elsewhere} {
		st, err := store.OpenMemory(store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		config.Checkpoint = c.String()
		deps := p.joiner(st, &journal{})
		if err := deps.Join(t.Context(), config); !errors.Is(err, light.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	// A node with blocks compares.
	other := good
	other.Digest[0]++
	for want, c := range map[string]light.Checkpoint{"two histories": other, "of chain \"elsewhere\"": elsewhere} {
		deps := &Deps{Genesis: p.genesis, Store: p.store}
		if err := deps.compare(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := (&Deps{Genesis: p.genesis, Store: p.store}).compare(good); err != nil {
		t.Error(err)
	}
	bad := DefaultConfig()
	bad.Checkpoint = "rubbish"
	if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "checkpoint") {
		t.Error(err)
	}
}

// A node with blocks that is behind its checkpoint does not follow peers past it
// into another history.
func TestCheckpointAheadIsHeldAgainstWhatPeersShow(t *testing.T) {
	p := newProducer(t)
	p.epochs(2)
	good := p.checkpoint(2)
	other := good
	other.Digest[0]++
	for _, c := range []light.Checkpoint{good, other} {
		r := newRig(t, p.genesis)
		r.app.trusted = &c
		var refused error
		for height := uint64(1); height <= uint64(good.Height) && refused == nil; height++ {
			proven, _, err := p.app.Finalized(height)
			if err != nil {
				t.Fatal(err)
			}
			b, err := r.app.Inspect(proven.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if _, refused = r.app.Finalize(t.Context(), b, proven.Certificate); refused != nil && height < uint64(good.Height) {
				t.Fatal(refused)
			}
		}
		if wrong := c != good; errors.Is(refused, engine.ErrDiverged) != wrong {
			t.Errorf("with checkpoint %s: %v", c, refused)
		}
	}
}

// What a join has brought before it was interrupted is no ground for genesis.
func TestHalfAJoinIsNoNewNode(t *testing.T) {
	p := newProducer(t)
	st, err := store.OpenMemory(store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	into, _, err := st.Import([]byte("a state"), 7)
	if err != nil {
		t.Fatal(err)
	}
	position := state.Position([]byte("of later"))
	if err := into.Put(state.Range{From: position, To: position}, []state.Entry{{Key: []byte("of later"), Value: []byte("times"), Position: position}}, []byte("some")); err != nil {
		t.Fatal(err)
	}
	if _, err := openApplication(p.genesis, p.app.executor, st); err == nil || !strings.Contains(err.Error(), "a join that did not end") {
		t.Errorf("genesis is laid over a part of a later state: %v", err)
	}
	if err := st.Close(); err != nil {
		t.Error(err)
	}
}

// What a pruned node has given up it does not offer, serve or show, also if it was
// opened before: a joiner would be told of a fault, and come back for it. An archive
// serves all.
func TestPrunedStatesAreNotOffered(t *testing.T) {
	p := newProducer(t)
	source := newSyncSource(p.store)
	p.epochs(2)
	for _, want := range [][]chain.Height{{8, 4}, {8}} {
		if offers, err := source.Offers(); err != nil || !slices.Equal(offers, want) {
			t.Fatalf("offered are %v, want %v: %v", offers, want, err)
		}
		kept := slices.Contains(want, 4)
		if _, ok, err := source.Tree(4); err != nil || ok != kept {
			t.Errorf("the state before block 4 is served: %v, %v", ok, err)
		}
		if _, ok, err := source.Block(4); err != nil || ok != kept {
			t.Errorf("block 4 is served: %v, %v", ok, err)
		}
		if _, err := p.store.Prune(t.Context(), store.PruneOptions{KeepVersions: 1, KeepStates: 1}); err != nil {
			t.Fatal(err)
		}
	}
	for _, height := range []chain.Height{0, 7, 9, 1 << 60} { // no points
		_, some, err := source.Tree(height)
		_, block, errBlock := source.Block(height)
		if some || block || errors.Join(err, errBlock) != nil {
			t.Errorf("height %d is served: %v, %v, %v", height, some, block, errors.Join(err, errBlock))
		}
	}
}

// runMesh runs a mesh until the test ends, then closes its endpoint.
func runMesh(t testing.TB, endpoint *transport.Endpoint, mesh *transport.Mesh) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := mesh.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
	})
}
