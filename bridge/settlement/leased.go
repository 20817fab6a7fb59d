package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// Leased is what all leases of a node keep together of what a challenge asks for. It is known
// only where nodes are challenged, however many leases there are: to look at each would bound
// how many a node has that is challenged, and tiny leases of its own would be the way out.
type Leased struct {
	_          struct{} `cbor:",toarray"`
	Millicores uint64
	MemoryMiB  uint64
}

// LeasedKey returns the key of what is leased of a node.
func LeasedKey(node crypto.PublicKey) []byte { return keyOf(kindLeased, node[:]) }

// LeasedOf returns what is leased of a node.
func LeasedOf(r state.Reader, node crypto.PublicKey) Leased {
	l, _ := state.Load[Leased](r, LeasedKey(node)) // none: nothing
	return l
}

// DecodeLeased decodes the record of what is leased of a node, for those who checked its proof.
func DecodeLeased(value []byte) (Leased, error) { return decode[Leased](value) }

// kept is what quantities keep of a node. A lease of more than any node declares counts as all of
// that, so that no sum overflows.
func kept(quantities []chain.Quantity) (l Leased) {
	for _, q := range quantities {
		switch q.Resource {
		case chain.CPU:
			l.Millicores = min(q.Amount, chain.MaxMillicores)
		case chain.Memory:
			l.MemoryMiB = min(q.Amount, chain.MaxMemoryMiB)
		case chain.Storage, chain.Network, chain.GPU: // are not challenged
		}
	}
	return l
}

// keepInstead notes that a lease of a node keeps other quantities than it did; nil: nothing.
func keepInstead(kv state.KV, env *Env, node crypto.PublicKey, was, is []chain.Quantity) {
	before, after := kept(was), kept(is)
	if env.Params.HardwareEveryMs == 0 || before == after {
		return
	}
	l := LeasedOf(kv, node)
	if l.Millicores < before.Millicores || l.MemoryMiB < before.MemoryMiB {
		panic("settlement: a lease keeps more of a node than all of its leases")
	}
	l.Millicores += after.Millicores - before.Millicores
	l.MemoryMiB += after.MemoryMiB - before.MemoryMiB
	if l == (Leased{}) {
		kv.Delete(LeasedKey(node))
		return
	}
	state.Save(kv, LeasedKey(node), l)
}
