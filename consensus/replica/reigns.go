package replica

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hypermesh/hypermesh/consensus"
	"github.com/hypermesh/hypermesh/internal/crypto"
)

// maxOldReigns is how many past epochs' final certificates are kept for
// stragglers. Who is further behind catches up by height.
const maxOldReigns = 8

// reign is a Reign with its connections indexed. It is immutable.
type reign struct {
	Reign
	signers map[crypto.PublicKey]consensus.Signer // by node key; looked up only
}

// reigns are ascending and without gaps. A slice of them is never changed in
// place: windows share it.
type reigns []*reign

func (rs reigns) of(e consensus.Epoch) *reign {
	if len(rs) == 0 || e < rs[0].Committee.Epoch() {
		return nil
	}
	if i := e - rs[0].Committee.Epoch(); i < consensus.Epoch(len(rs)) {
		return rs[i]
	}
	return nil
}

func newReign(r Reign) (*reign, error) {
	if r.Committee == nil {
		return nil, errors.New("replica: a reign without a committee")
	}
	e := r.Committee.Epoch()
	if len(r.NodeKeys) != r.Committee.Len() {
		return nil, fmt.Errorf("replica: epoch %d: %d node keys for %d validators", e, len(r.NodeKeys), r.Committee.Len())
	}
	out := &reign{Reign: r, signers: make(map[crypto.PublicKey]consensus.Signer, len(r.NodeKeys))}
	for i, k := range r.NodeKeys {
		if _, twice := out.signers[k]; twice {
			return nil, fmt.Errorf("replica: epoch %d: validator %d shares its node key", e, i)
		}
		out.signers[k] = consensus.Signer(i)
	}
	if f := r.Final; f != nil && (f.Statement.Kind != consensus.KindFinalize || f.Statement.Proposal.Digest != r.Start || f.Statement.Round().Epoch+1 != e) {
		return nil, fmt.Errorf("replica: epoch %d: %q does not finalize its start %s", e, f.Statement, r.Start.Short())
	}
	return out, nil
}

// merge returns the reigns with the given ones in the place of those of the same
// epochs, without those that nobody asks for any more. A committee that is known
// never changes.
func (rs reigns) merge(news []Reign, current consensus.Epoch) (reigns, error) {
	merged := slices.Clone(rs)
	for _, n := range news {
		added, err := newReign(n)
		if err != nil {
			return nil, err
		}
		e := n.Committee.Epoch()
		old := merged.of(e)
		if old == nil && len(merged) > 0 && e != merged[len(merged)-1].Committee.Epoch()+1 {
			if e < merged[0].Committee.Epoch() {
				continue // forgotten already
			}
			return nil, fmt.Errorf("replica: epoch %d after epoch %d", e, merged[len(merged)-1].Committee.Epoch())
		}
		if old == nil {
			merged = append(merged, added)
			continue
		}
		if old.Committee.Digest() != n.Committee.Digest() || !old.Start.IsZero() && !n.Start.IsZero() && old.Start != n.Start {
			return nil, fmt.Errorf("replica: epoch %d has another committee or start than before", e)
		}
		if n.Start.IsZero() {
			continue // nothing new
		}
		if added.Final == nil {
			added.Final = old.Final
		}
		merged[e-merged[0].Committee.Epoch()] = added
	}
	for len(merged) > 0 && merged[0].Committee.Epoch()+maxOldReigns < current {
		merged = merged[1:]
	}
	return merged, nil
}
