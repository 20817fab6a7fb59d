package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/light"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/rpc"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/statesync"
	"github.com/hypermesh/hypermesh/internal/store"
	"github.com/hypermesh/hypermesh/sdk/api"
)

// closingOf returns what is stored beside a block that ends an epoch, nil for any
// other: how the epoch ended, and the state before the block, which joiners
// fetch. After is the state after the block, which still knows the committee.
func closingOf(h *chain.Header, certificate []byte, before *state.Tree, after state.Reader) (*store.Closing, error) {
	if !h.Closing {
		return nil, nil
	}
	transition, err := transitionOf(h, certificate, after)
	if err != nil {
		return nil, err
	}
	return &store.Closing{Epoch: h.Epoch, Record: transition.Encode(), Before: before}, nil
}

func transitionOf(h *chain.Header, certificate []byte, after state.Reader) (t light.Transition, err error) {
	defer func() {
		if p := recover(); p != nil {
			fault, isFault := p.(*state.Fault)
			if !isFault {
				panic(p)
			}
			err = fault
		}
	}()
	next := consensus.Epoch(h.Epoch) + 1
	committee, _, ok := staking.CommitteeOf(after, next)
	if !ok || committee.Digest() != h.NextCommittee {
		return light.Transition{}, fmt.Errorf("node: the state after block %d does not know the committee of epoch %d", h.Height, next)
	}
	t = light.Transition{Header: h.Encode(), Certificate: certificate}
	for i := range committee.Len() {
		t.Members = append(t.Members, committee.Validator(consensus.Signer(i)))
	}
	return t, nil
}

// syncSource is what the node's store offers to joiners.
type syncSource struct{ store *store.Store }

// maxOffers is how many points are offered: a pruned node has one, an archive all.
const maxOffers = 4

var _ statesync.Source = (*syncSource)(nil)

func newSyncSource(st *store.Store) *syncSource { return &syncSource{st} }

// Transition returns how an epoch ended.
func (s *syncSource) Transition(epoch consensus.Epoch) ([]byte, bool, error) {
	end, ok, err := s.store.EpochEnd(uint64(epoch))
	return end.Record, ok, err
}

// Offers returns the points from which a joiner can begin.
func (s *syncSource) Offers() ([]chain.Height, error) {
	points, err := s.store.Points(maxOffers)
	if err != nil {
		return nil, err
	}
	var out []chain.Height
	for _, height := range points {
		_, ok, err := s.Tree(height)
		proven := false
		if err == nil && ok {
			_, proven, err = s.Proof(height)
		}
		if err != nil {
			return nil, err
		}
		if proven {
			out = append(out, height)
		}
	}
	return out, nil
}

// Tree returns the state before a point's block. It is opened anew each time, which
// is a few reads.
func (s *syncSource) Tree(height chain.Height) (*state.Tree, bool, error) {
	if point, err := s.store.IsPoint(height); err != nil || !point {
		return nil, false, err
	}
	tree, err := s.store.OpenTree(height - 1)
	if errors.Is(err, state.ErrNoVersion) {
		return nil, false, nil
	}
	return tree, err == nil, err
}

// Proof returns what proves a stored block final.
func (s *syncSource) Proof(height chain.Height) (light.Evidence, bool, error) {
	e, _, ok, err := finality(s.store, height)
	return e, ok, err
}

// Block returns a block, if it is a point's.
func (s *syncSource) Block(height chain.Height) ([]byte, bool, error) {
	if point, err := s.store.IsPoint(height); err != nil || !point {
		return nil, false, err
	}
	return s.store.Block(height)
}

// finality returns what shows that a stored block is final: its certificate, or that
// of a block above it with the headers that lead there. It returns false if that is
// not stored.
func finality(st *store.Store, height chain.Height) (e light.Evidence, c *consensus.Certificate, ok bool, err error) {
	if e.Certificate, ok, err = st.Certificate(height); err != nil || !ok {
		return e, nil, false, err
	}
	if c, err = consensus.DecodeCertificate(e.Certificate); err != nil {
		return e, nil, false, fmt.Errorf("certificate of block %d: %w", height, err)
	}
	if e.Header, ok, err = st.Header(height); err != nil || !ok {
		return e, nil, false, err
	}
	for at := height; ; at++ {
		tip, ok, err := st.Tip(at)
		if err != nil || !ok {
			return e, nil, false, err
		}
		if tip.Digest == c.Statement.Proposal.Digest {
			return e, c, true, nil
		}
		next, ok, err := st.Header(at + 1)
		if err != nil || !ok || len(e.Path) == light.MaxPath {
			return e, nil, false, err
		}
		e.Path = append(e.Path, next)
	}
}

// endOf reads what is stored of the end of an epoch. It stays when its blocks go.
func endOf(end store.EpochEnd) (t light.Transition, header chain.Header, err error) {
	if t, err = light.DecodeTransition(end.Record); err == nil {
		header, err = chain.DecodeHeader(t.Header)
	}
	if err != nil {
		err = fmt.Errorf("stored end of epoch %d: %w", end.Epoch, err)
	}
	return t, header, err
}

// Epoch returns how an epoch ended; 0 is the last one that did.
func (n *Node) Epoch(_ context.Context, epoch uint64) (api.EpochEnd, error) {
	end, ok, err := n.store.EpochEnd(epoch)
	if epoch == 0 {
		var ends []store.EpochEnd
		if ends, err = n.store.LastEpochEnds(1); len(ends) == 1 {
			end, ok = ends[0], true
		}
	}
	if err != nil {
		return api.EpochEnd{}, err
	}
	if !ok {
		return api.EpochEnd{}, fmt.Errorf("the end of epoch %d: %w", epoch, rpc.ErrNotFound)
	}
	transition, header, err := endOf(end)
	if err != nil {
		return api.EpochEnd{}, err
	}
	out := api.EpochEnd{Epoch: end.Epoch, Header: api.HeaderToJSON(header), Digest: header.Digest(), Certificate: transition.Certificate}
	for _, v := range transition.Members {
		out.Members = append(out.Members, api.EpochMember{ConsensusKey: v.Key, Weight: api.Uint64(v.Weight), LeaderWeight: api.Uint64(v.LeaderWeight)})
	}
	return out, nil
}
