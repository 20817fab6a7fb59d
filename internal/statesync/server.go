package statesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/transport"
)

// Source is what a Server serves from. It is safe for concurrent use.
type Source interface {
	// Transition returns how an epoch ended (light.Transition, encoded), and
	// false if that is not known.
	Transition(epoch consensus.Epoch) ([]byte, bool, error)
	// Offers returns the heights of the blocks that one may begin with: before which
	// the state is kept, the newest first.
	Offers() ([]chain.Height, error)
	// Tree returns the state before such a block, and false if it is not kept.
	Tree(height chain.Height) (*state.Tree, bool, error)
	// Proof returns what proves the block's header final, and false if that is not
	// kept.
	Proof(height chain.Height) (light.Evidence, bool, error)
	// Block returns the block, and false if it is not kept.
	Block(height chain.Height) ([]byte, bool, error)
}

// What a Server gives at most.
const (
	bytesPerSecond     = 32 << 20 // to all peers together
	peerBytesPerSecond = 24 << 20 // to each
	burst              = 2 * maxBlockBytes
	maxPeers           = 32
	leastCost          = 64 << 10 // what an answer counts for at least: offers are hundreds of reads and a few bytes
	answerTimeout      = 20 * time.Second
	maxMakerRest       = time.Second
)

var (
	errNotKept = errors.New("not kept")
	errBusy    = errors.New("busy: as many peers as this node serves")
	errFault   = errors.New("this node has a fault")
)

// Server answers those who join.
type Server struct {
	source Source
	log    *slog.Logger
	all    *rate.Limiter
	making chan time.Time // until when to rest before the next chunk is made; empty while one is

	mu    sync.Mutex
	peers map[crypto.PublicKey]*rate.Limiter
}

// NewServer returns a server of a source.
func NewServer(source Source, log *slog.Logger) *Server {
	s := &Server{
		source: source, log: log, all: rate.NewLimiter(bytesPerSecond, burst), making: make(chan time.Time, 1),
		peers: map[crypto.PublicKey]*rate.Limiter{},
	}
	s.making <- time.Time{}
	return s
}

// Mesh returns the configuration of the mesh to serve on.
func (s *Server) Mesh() transport.MeshConfig {
	return transport.MeshConfig{Protocol: Protocol, MaxObservers: maxPeers, Services: services(s.ends, s.chunk, s.block, s.proof)}
}

// responder answers one request; what it returns as an error reaches the peer.
type responder func(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error)

func services(ends, chunk, block, proof responder) []transport.Service {
	list := []transport.Service{
		{ID: ServiceEnds, Name: "ends of epochs", MaxResponseBytes: maxEndsBytes, MaxConcurrent: 2, Respond: ends},
		{ID: ServiceChunk, Name: "chunks of states", MaxResponseBytes: maxAnswerBytes, MaxConcurrent: requestsPerPeer + 1, Respond: chunk},
		{ID: ServiceBlock, Name: "first blocks", MaxResponseBytes: maxBlockBytes, MaxConcurrent: 2, Respond: block},
		{ID: ServiceProof, Name: "proofs of first blocks", MaxResponseBytes: maxProofBytes, MaxConcurrent: 2, Respond: proof},
	}
	for i := range list { // one more at a time than a joiner asks for: its last one may still be on its way out
		list[i].MaxRequestBytes, list[i].Timeout = maxRequestBytes, answerTimeout
	}
	return list
}

// JoinerMesh returns the configuration of a mesh that only asks.
func JoinerMesh(peers []transport.NodeAddr) transport.MeshConfig {
	refuse := func(context.Context, crypto.PublicKey, []byte) ([]byte, error) {
		return nil, errors.New("this node is joining itself")
	}
	return transport.MeshConfig{Protocol: Protocol, Peers: peers, Services: services(refuse, refuse, refuse, refuse)}
}

func (s *Server) ends(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error) {
	var asked endsRequest
	if err := codec.Unmarshal(request, &asked, maxRequestBytes); err != nil {
		return nil, err
	}
	limiter, err := s.admit(ctx, peer)
	if err != nil {
		return nil, err
	}
	var answer endsAnswer
	for epoch := asked.From; len(answer.Transitions) < maxTransitions; epoch++ {
		raw, ok, err := s.source.Transition(epoch)
		if err != nil {
			return nil, s.fault("reading the end of an epoch", err)
		}
		if !ok {
			break
		}
		answer.Transitions = append(answer.Transitions, raw)
	}
	offers, err := s.source.Offers()
	if err != nil {
		return nil, s.fault("reading the ends of epochs", err)
	}
	answer.Offers = offers[:min(len(offers), maxOffers)]
	return s.pace(ctx, limiter, codec.Marshal(answer))
}

func (s *Server) chunk(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error) {
	var asked chunkRequest
	if err := codec.Unmarshal(request, &asked, maxRequestBytes); err != nil {
		return nil, err
	}
	if asked.From.Compare(asked.To) > 0 {
		return nil, errors.New("the range ends before it begins")
	}
	limiter, err := s.admit(ctx, peer)
	if err != nil {
		return nil, err
	}
	raw, err := s.makeInTurn(ctx, asked)
	if err != nil {
		return nil, err
	}
	return s.pace(ctx, limiter, raw)
}

// makeInTurn makes one chunk at a time, and rests as long as that took before the
// next: serving takes half a core at most, and less of it the more there is to do
// beside.
func (s *Server) makeInTurn(ctx context.Context, asked chunkRequest) ([]byte, error) {
	var rest time.Time
	select {
	case rest = <-s.making:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { s.making <- rest }()
	if err := pause(ctx, time.Until(rest)); err != nil {
		return nil, err
	}
	began := time.Now()
	raw, err := s.make(asked)
	rest = time.Now().Add(min(time.Since(began), maxMakerRest))
	return raw, err
}

func (s *Server) make(asked chunkRequest) ([]byte, error) {
	tree, ok, err := s.source.Tree(asked.Height)
	if err != nil {
		return nil, s.fault("opening a state", err)
	}
	var raw []byte
	if ok {
		if raw, _, err = makeChunk(tree, asked); err == nil {
			return raw, nil
		}
		if _, still, errTree := s.source.Tree(asked.Height); still || errTree != nil { // else it was given up meanwhile
			return nil, s.fault("reading a state", errors.Join(err, errTree))
		}
	}
	return nil, fmt.Errorf("the state before block %d: %w", asked.Height, errNotKept)
}

func (s *Server) block(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error) {
	var asked blockRequest
	if err := codec.Unmarshal(request, &asked, maxRequestBytes); err != nil {
		return nil, err
	}
	limiter, err := s.admit(ctx, peer)
	if err != nil {
		return nil, err
	}
	raw, ok, err := s.source.Block(asked.Height)
	if err != nil {
		return nil, s.fault("reading a block", err)
	}
	if !ok {
		return nil, fmt.Errorf("block %d: %w", asked.Height, errNotKept)
	}
	return s.pace(ctx, limiter, raw)
}

func (s *Server) proof(ctx context.Context, peer crypto.PublicKey, request []byte) ([]byte, error) {
	var asked proofRequest
	if err := codec.Unmarshal(request, &asked, maxRequestBytes); err != nil {
		return nil, err
	}
	limiter, err := s.admit(ctx, peer)
	if err != nil {
		return nil, err
	}
	e, ok, err := s.source.Proof(asked.Height)
	if err != nil {
		return nil, s.fault("reading the proof of a block", err)
	}
	if !ok {
		return nil, fmt.Errorf("the proof of block %d: %w", asked.Height, errNotKept)
	}
	return s.pace(ctx, limiter, codec.Marshal(proofAnswer{Header: e.Header, Path: e.Path, Certificate: e.Certificate}))
}

// fault logs what is nobody else's business.
func (s *Server) fault(doing string, err error) error {
	s.log.Error("statesync: "+doing, "error", err)
	return errFault
}

// admit waits until the rates allow for anything, before an answer is made.
func (s *Server) admit(ctx context.Context, peer crypto.PublicKey) (*rate.Limiter, error) {
	limiter, err := s.limiterOf(peer)
	if err != nil {
		return nil, err
	}
	if err := limiter.Wait(ctx); err != nil {
		return nil, err
	}
	return limiter, s.all.Wait(ctx)
}

// pace holds an answer back until the rates allow it. It counts even if the peer
// does not wait for it: making it was the work.
func (s *Server) pace(ctx context.Context, limiter *rate.Limiter, answer []byte) ([]byte, error) {
	now, cost := time.Now(), max(len(answer), leastCost)
	own, common := limiter.ReserveN(now, cost), s.all.ReserveN(now, cost)
	timer := time.NewTimer(max(own.DelayFrom(now), common.DelayFrom(now)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return answer, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// limiterOf returns a peer's limiter. When there are too many, those whose peers
// have not asked for anything lately make room.
func (s *Server) limiterOf(peer crypto.PublicKey) (*rate.Limiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.peers[peer]; l != nil {
		return l, nil
	}
	if len(s.peers) >= maxPeers {
		// order-free: every limiter that is full is as good as a new one
		for id, l := range s.peers {
			if l.Tokens() >= burst {
				delete(s.peers, id)
			}
		}
	}
	if len(s.peers) >= maxPeers {
		return nil, errBusy
	}
	l := rate.NewLimiter(peerBytesPerSecond, burst)
	s.peers[peer] = l
	return l, nil
}
