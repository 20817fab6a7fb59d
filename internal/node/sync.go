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

// maxOfferedStates is before how many closing blocks the state is offered: as many
// as the store keeps.
const maxOfferedStates = 2

var _ statesync.Source = (*syncSource)(nil)

func newSyncSource(st *store.Store) *syncSource { return &syncSource{st} }

// Transition returns how an epoch ended.
func (s *syncSource) Transition(epoch consensus.Epoch) ([]byte, bool, error) {
	end, ok, err := s.store.EpochEnd(uint64(epoch))
	return end.Record, ok, err
}

// Offers returns the epochs before whose closing blocks the state is kept.
func (s *syncSource) Offers() ([]consensus.Epoch, error) {
	ends, err := s.store.LastEpochEnds(maxOfferedStates)
	var out []consensus.Epoch
	for _, end := range ends {
		_, ok, errTree := s.Tree(consensus.Epoch(end.Epoch))
		if ok {
			out = append(out, consensus.Epoch(end.Epoch))
		}
		err = errors.Join(err, errTree)
	}
	return out, err
}

// Tree returns the state before an epoch's closing block. It is opened anew each
// time, which is one read: whether it is still kept shows in its root alone.
func (s *syncSource) Tree(epoch consensus.Epoch) (*state.Tree, bool, error) {
	ends, err := s.store.LastEpochEnds(maxOfferedStates)
	if err != nil {
		return nil, false, err
	}
	for _, end := range ends {
		if end.Epoch != uint64(epoch) {
			continue
		}
		tree, err := s.store.OpenTree(end.Height - 1)
		if errors.Is(err, state.ErrNoVersion) {
			return nil, false, nil
		}
		return tree, err == nil, err
	}
	return nil, false, nil
}

// Block returns an epoch's closing block.
func (s *syncSource) Block(epoch consensus.Epoch) ([]byte, bool, error) {
	end, ok, err := s.store.EpochEnd(uint64(epoch))
	if err != nil || !ok {
		return nil, false, err
	}
	return s.store.Block(end.Height)
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
	transition, err := light.DecodeTransition(end.Record)
	if err != nil {
		return api.EpochEnd{}, fmt.Errorf("stored end of epoch %d: %w", end.Epoch, err)
	}
	header, err := chain.DecodeHeader(transition.Header)
	if err != nil {
		return api.EpochEnd{}, fmt.Errorf("stored end of epoch %d: %w", end.Epoch, err)
	}
	out := api.EpochEnd{Epoch: end.Epoch, Header: api.HeaderToJSON(header), Digest: header.Digest(), Certificate: transition.Certificate}
	for _, v := range transition.Members {
		out.Members = append(out.Members, api.EpochMember{ConsensusKey: v.Key, Weight: api.Uint64(v.Weight), LeaderWeight: api.Uint64(v.LeaderWeight)})
	}
	return out, nil
}
