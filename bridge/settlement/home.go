package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Home is the cluster to which a node says that it is connected, and which says so too. Nothing is paid
// or judged by it: it says where servers of other clusters ask for the node.
type Home struct {
	_       struct{} `cbor:",toarray"`
	Cluster crypto.PublicKey
	At      chain.TimeMs // when that was said, by the node's clock
}

// HomeKey returns the key of a node's home.
func HomeKey(node crypto.PublicKey) []byte { return keyOf(kindHome, node[:]) }

// HomeOf returns a node's home, and false if none was announced since it registered.
func HomeOf(r state.Reader, node crypto.PublicKey) (Home, bool) {
	return state.Load[Home](r, HomeKey(node))
}

// DecodeHome decodes the record of a node's home, for those who checked its proof.
func DecodeHome(value []byte) (Home, error) { return decode[Home](value) }

// AnnounceHome notes where a node is at home. It moves no sooner than HomeMs after it did, so that nobody
// brings back what it said before, and not while its hardware is challenged, so that those who measure it
// know where to ask; its first home may be announced then. signed says whether node and cluster signed it.
func AnnounceHome(kv state.KV, env *Env, m chain.AnnounceHome, signed bool) (chain.Event, *chain.Rejection) {
	h := &m.Home
	switch {
	case !signed:
		return nil, chain.Reject("the home of a node is not signed by it and by the cluster")
	case h.ChainID != env.ChainID:
		return nil, chain.Reject("home is of chain %.32q, this is %q", h.ChainID, env.ChainID)
	case apart(h.At, env.Now) > chain.HomeMs:
		return nil, chain.Reject("home was said at %d, the block is of %d: more than %d ms apart", h.At, env.Now, uint64(chain.HomeMs))
	}
	if p, ok := ProviderOf(kv, h.Node); !ok || p.UnbondedMs != 0 {
		return nil, chain.Reject("provider %s is not registered", h.Node.Short())
	}
	if c, ok := ClusterOf(kv, h.Cluster); !ok || c.UnbondedMs != 0 {
		return nil, chain.Reject("cluster %s is not registered", h.Cluster.Short())
	}
	if known, ok := HomeOf(kv, h.Node); ok {
		switch {
		case known.Cluster == h.Cluster:
			return nil, chain.Reject("node %s is at home at cluster %s already", h.Node.Short(), h.Cluster.Short())
		case h.At < known.At || h.At-known.At < chain.HomeMs:
			return nil, chain.Reject("node %s said at %d where it is at home, and moves %d ms later at the earliest", h.Node.Short(), known.At, uint64(chain.HomeMs))
		}
		if why := unchallenged(kv, h.Node); why != nil {
			return nil, why
		}
	}
	state.Save(kv, HomeKey(h.Node), Home{Cluster: h.Cluster, At: h.At})
	return chain.HomeAnnounced{Node: h.Node, Cluster: h.Cluster, At: h.At}, nil
}

// apart is how far two times are from each other.
func apart(a, b chain.TimeMs) uint64 { return uint64(max(a, b) - min(a, b)) }

// leaveHome forgets the home of a node that leaves.
func leaveHome(kv state.KV, node crypto.PublicKey) {
	if _, ok := kv.Get(HomeKey(node)); ok {
		kv.Delete(HomeKey(node))
	}
}
