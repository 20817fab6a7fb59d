package node

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/consensus/replica"
	"github.com/hypermesh/hypermesh/consensus/staking"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// committee is who serves in an epoch.
type committee struct {
	*consensus.Committee
	members []staking.Member // by signer
}

// maxCommittees is how many epochs' committees are kept decoded.
const maxCommittees = 8

// committees reads the committees of epochs from the finalized state, which never
// change once they are there.
type committees struct {
	state state.Reader // the latest finalized one

	mu   sync.Mutex
	kept map[consensus.Epoch]*committee
}

func newCommittees(r state.Reader) *committees {
	return &committees{state: r, kept: map[consensus.Epoch]*committee{}}
}

// of returns the committee of an epoch, and false if the state does not know it.
func (c *committees) of(epoch consensus.Epoch) (*committee, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.kept[epoch]; known != nil {
		return known, true
	}
	members, list, ok := staking.CommitteeOf(c.state, epoch)
	if !ok {
		return nil, false
	}
	found := &committee{Committee: members, members: list}
	if len(c.kept) >= maxCommittees {
		clear(c.kept)
	}
	c.kept[epoch] = found
	return found, true
}

// nodeKeys returns the keys of the members' connections, by signer.
func (c *committee) nodeKeys() []crypto.PublicKey {
	keys := make([]crypto.PublicKey, len(c.members))
	for i := range c.members {
		keys[i] = c.members[i].NodeKey
	}
	return keys
}

// reigns returns the epochs that consensus has to know after the last finalized
// block: the next block's, the one after, and, if the state still knows its
// committee, the one before.
func (a *application) reigns() (reigns []replica.Reign, err error) {
	defer recoverFault(&err)
	epoch := staking.EpochOf(a.store.State())
	for number := epoch.Number - 1; number <= epoch.Number+1; number++ {
		c, ok := a.committees.of(number)
		if !ok {
			if number < epoch.Number {
				continue
			}
			return nil, fmt.Errorf("node: the state has no committee of epoch %d", number)
		}
		reign := replica.Reign{Committee: c.Committee, NodeKeys: c.nodeKeys()}
		switch number {
		case epoch.Number:
			err = a.begins(&reign, epoch.StartHeight)
		case epoch.Number - 1:
			var start chain.Height
			if start, ok, err = a.startOf(number); ok {
				err = a.begins(&reign, start)
			}
		}
		if err != nil {
			return nil, err
		}
		reigns = append(reigns, reign)
	}
	return reigns, nil
}

// begins fills in where a reign begins: with the block at the height, which
// closed the epoch before.
func (a *application) begins(r *replica.Reign, start chain.Height) error {
	r.Start, r.StartMs, r.StartHeight = a.genesis.Digest(), uint64(a.genesis.TimeMs), uint64(start)
	if start == 0 {
		return nil
	}
	epoch := uint64(r.Committee.Epoch()) - 1
	end, ok, err := a.store.EpochEnd(epoch)
	if err != nil || !ok {
		return errors.Join(fmt.Errorf("node: the end of epoch %d is not stored", epoch), err)
	}
	transition, header, err := endOf(end)
	if err != nil {
		return err
	}
	if end.Height != start {
		return fmt.Errorf("node: epoch %d begins with block %d, and the one before ended with block %d", r.Committee.Epoch(), start, end.Height)
	}
	r.Start, r.StartMs = header.Digest(), uint64(header.TimeMs)
	if len(transition.Certificate) == 0 {
		return nil
	}
	r.Final, err = consensus.DecodeCertificate(transition.Certificate)
	return err
}

// startOf returns the height of the block that an epoch began with, and false if
// that is not stored: the node joined later.
func (a *application) startOf(epoch consensus.Epoch) (chain.Height, bool, error) {
	if epoch == staking.FirstEpoch {
		return 0, true, nil
	}
	end, ok, err := a.store.EpochEnd(uint64(epoch) - 1)
	return end.Height, ok, err
}

// recoverFault turns the panic of a state that cannot be read into an error.
func recoverFault(err *error) {
	switch p := recover().(type) {
	case nil:
	case *state.Fault:
		*err = p
	default:
		panic(p)
	}
}

// leaderKey returns this node's key that leads the view, and false if none does.
func (a *application) leaderKey(r consensus.Round) (crypto.PrivateKey, bool) {
	c, ok := a.committees.of(r.Epoch)
	if !ok {
		return crypto.PrivateKey{}, false
	}
	leader := c.Validator(c.Leader(r.View)).Key
	i := slices.IndexFunc(a.keys, func(k crypto.PrivateKey) bool { return k.Public() == leader })
	if i < 0 {
		return crypto.PrivateKey{}, false
	}
	return a.keys[i], true
}
