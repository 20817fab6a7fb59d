package staking

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// FirstEpoch is the epoch of the first block.
const FirstEpoch consensus.Epoch = 1

var errBroken = errors.New("a record contradicts another")

// Epoch is where the block after a state stands.
type Epoch struct {
	_           struct{} `cbor:",toarray"`
	Number      consensus.Epoch
	StartHeight chain.Height // of the block that closed the epoch before; 0: genesis
	StartMs     chain.TimeMs // that block's time
	GenesisMs   chain.TimeMs
	Committee   crypto.Digest
	Next        crypto.Digest // the committee of Number + 1
}

// EpochOf returns the epoch of the block after a state. It is the zero Epoch
// before genesis.
func EpochOf(r state.Reader) Epoch {
	epoch, _ := state.Load[Epoch](r, EpochKey()) // none before genesis
	return epoch
}

// Closes reports whether a block of the epoch at a time is its last: the first
// one EpochMs after the start.
func (e *Epoch) Closes(at chain.TimeMs, params *chain.Params) bool {
	since, ok := checked.Sub(uint64(at), uint64(e.StartMs))
	return ok && since >= params.EpochMs
}

// Member is a validator in a committee, as it was when the committee was made.
type Member struct {
	_            struct{} `cbor:",toarray"`
	ID           ID
	ConsensusKey crypto.PublicKey
	NodeKey      crypto.PublicKey
	Owner        chain.Address
	Name         string
	Endpoint     string
	Weight       uint64 // at least 1
	LeaderWeight uint64
}

// MembersOf returns the members of an epoch's committee in the order of their
// indices, and false if the state does not know it: that of the current epoch,
// of the next, and of every epoch whose evidence is still taken are known.
func MembersOf(r state.Reader, e consensus.Epoch) ([]Member, bool) {
	return state.Load[[]Member](r, CommitteeKey(e))
}

// CommitteeOf returns the committee of an epoch and its members in the same
// order, and false if the state does not know it (see MembersOf).
func CommitteeOf(r state.Reader, e consensus.Epoch) (*consensus.Committee, []Member, bool) {
	members, ok := MembersOf(r, e)
	if !ok {
		return nil, nil, false
	}
	committee, err := newCommittee(e, members)
	if err != nil {
		panic(&state.Fault{Op: fmt.Sprintf("reading the committee of epoch %d", e), Err: err})
	}
	return committee, members, true
}

func newCommittee(e consensus.Epoch, members []Member) (*consensus.Committee, error) {
	list := make([]consensus.Validator, len(members))
	for i, m := range members {
		list[i] = consensus.Validator{Key: m.ConsensusKey, Weight: m.Weight, LeaderWeight: m.LeaderWeight}
	}
	return consensus.NewCommittee(e, list)
}

// saveCommittee records an epoch's committee and returns its digest.
func saveCommittee(kv state.KV, e consensus.Epoch, members []Member) (crypto.Digest, error) {
	committee, err := newCommittee(e, members)
	if err != nil {
		return crypto.Digest{}, err
	}
	state.Save(kv, CommitteeKey(e), members)
	return committee.Digest(), nil
}

func memberOf(v *Validator) Member {
	return Member{
		ID: v.ID, ConsensusKey: v.ConsensusKey, NodeKey: v.NodeKey, Owner: v.Owner, Name: v.Name, Endpoint: v.Endpoint,
		Weight: v.Weight(), LeaderWeight: v.LeaderWeight(),
	}
}

// choose returns the committee of the validators' present stakes: of those who
// may serve the limit richest, the lower ID first among equals, in ascending
// order of consensus keys. The weights fit 64 bits because the supply does.
func choose(validators []Validator, params *chain.Params) []Member {
	var rich []*Validator
	for i := range validators {
		if validators[i].serves(params) {
			rich = append(rich, &validators[i])
		}
	}
	slices.SortStableFunc(rich, func(a, b *Validator) int { return b.Stake.Cmp(a.Stake) })
	rich = rich[:min(len(rich), int(params.MaxValidators))]
	members := make([]Member, len(rich))
	for i, v := range rich {
		members[i] = memberOf(v)
	}
	slices.SortFunc(members, func(a, b Member) int { return a.ConsensusKey.Compare(b.ConsensusKey) })
	return members
}

// serves reports whether a validator may be in a committee.
func (v *Validator) serves(params *chain.Params) bool {
	return !v.Tombstoned && v.JailedUntil == 0 && v.Weight() > 0 && !v.SelfBond().Less(params.MinSelfBond)
}

// Genesis records the first validators, each with its stake as its owner's own,
// and the committees of epochs 1 and 2. It returns the sum of the stakes, which
// the caller mints.
func Genesis(kv state.KV, g *chain.Genesis) (chain.Amount, error) {
	var staked chain.Amount
	var members []Member
	for i, v := range g.Validators {
		for _, key := range []crypto.PublicKey{v.ConsensusKey, v.NodeKey} {
			if _, taken := kv.Get(ownedKey(key)); taken {
				return chain.Amount{}, fmt.Errorf("staking: validator %d: key %s appears twice", i, key.Short())
			}
			state.Save(kv, ownedKey(key), v.ConsensusKey)
		}
		sum, ok := staked.Add(v.Stake)
		if !ok {
			return chain.Amount{}, fmt.Errorf("staking: validator %d: the stakes do not fit an amount", i)
		}
		staked = sum
		record := Validator{
			ID: v.ConsensusKey, ConsensusKey: v.ConsensusKey, NodeKey: v.NodeKey, Owner: v.Owner, Name: v.Name, Endpoint: v.Endpoint,
			Stake: v.Stake, Shares: v.Stake.Nano(), SelfShares: v.Stake.Nano(),
		}
		state.Save(kv, ValidatorKey(record.ID), record)
		state.Save(kv, DelegationKey(v.Owner, record.ID), Delegation{Shares: record.Shares})
		if why := addPosition(kv, v.Owner); why != nil {
			return chain.Amount{}, fmt.Errorf("staking: validator %d: %s", i, why.Reason())
		}
		state.Save(kv, rollKey(record.ID), record.ID)
		countRegistered(kv, 1)
		members = append(members, memberOf(&record))
	}
	slices.SortFunc(members, func(a, b Member) int { return a.ConsensusKey.Compare(b.ConsensusKey) })
	epoch := Epoch{Number: FirstEpoch, StartMs: g.TimeMs, GenesisMs: g.TimeMs}
	var err error
	for i, digest := range []*crypto.Digest{&epoch.Committee, &epoch.Next} {
		if *digest, err = saveCommittee(kv, FirstEpoch+consensus.Epoch(i), members); err != nil {
			return chain.Amount{}, fmt.Errorf("staking: %w", err)
		}
	}
	state.Save(kv, EpochKey(), epoch)
	return staked, nil
}
