package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/checked"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// Env is the block that messages are executed in and the chain's rules.
type Env struct {
	ChainID chain.ChainID
	Height  chain.Height
	Now     chain.TimeMs // block time
	// ProgressMs is a clock that stands while the chain stands: windows in which somebody
	// must get a transaction in are measured by it.
	ProgressMs uint64
	// Last and LastProgressMs are of the block before: what was due by then is gone, but for
	// what it left. Zero: nobody knows.
	Last           chain.TimeMs
	LastProgressMs uint64

	// Mix is the VRF outputs of all blocks up to this one.
	Mix crypto.Digest

	Params   chain.Params
	Kernels  map[string]crypto.Digest // the pinned verifying key of each
	Verifier zk.Verifier
	// Ahead is told what will be read next, so that it is read at once and not one by one;
	// nil: nobody is.
	Ahead func(keys [][]byte)
}

func (env *Env) ahead(keys [][]byte) {
	if env.Ahead != nil {
		env.Ahead(keys)
	}
}

// Provider is a registered provider node.
type Provider struct {
	_          struct{} `cbor:",toarray"`
	Owner      chain.Address
	Bond       chain.Amount // zero once unbonded
	Region     string
	Millicores uint64
	MemoryMiB  uint64
	UnbondedMs chain.TimeMs // zero while it is bonded
	Record     match.Record // of what it did, under any owner
	Locked     chain.Amount // of the bond, by jobs and panels; ≤ Bond
	Seat       uint64       // on the roll, from 1 on; zero once unbonded
	Unchecked  uint64       // runs under PolicyReplicate since one was checked, as a primary
	Owed       chain.Amount // of the bond, for hardware that was missing while too little was free: it is burned when the node unbonds
}

// Cluster is a registered Nexus cluster.
type Cluster struct {
	_          struct{} `cbor:",toarray"`
	Operator   chain.Address
	Bond       chain.Amount // once unbonded, what is locked
	FeeBps     uint16
	Endpoints  []string
	UnbondedMs chain.TimeMs // zero while it is bonded
	Locked     chain.Amount // of the bond, by claims in their windows; ≤ Bond
	Earlier    []Unbonding  // of bonds on their way back since before it was registered anew; at most MaxEarlier
	Convicted  *Conviction  // nil: nothing of what is locked is owed
}

// Unbonding is a cluster's bond on its way back to an operator: it is liable until it has
// matured.
type Unbonding struct {
	_        struct{} `cbor:",toarray"`
	Operator chain.Address
	At       chain.TimeMs // when it began
}

// MaxEarlier bounds how often a cluster is registered anew while bonds are on their way.
const MaxEarlier = 4

// ProviderOf returns a provider node's record, and false if it was never
// registered.
func ProviderOf(r state.Reader, node crypto.PublicKey) (Provider, bool) {
	return loaded(r, ProviderKey(node), decodeProvider)
}

// ClusterOf returns a cluster's record, and false if it was never registered.
func ClusterOf(r state.Reader, cluster crypto.PublicKey) (Cluster, bool) {
	return state.Load[Cluster](r, ClusterKey(cluster))
}

// DecodeProvider decodes a provider's record, for those who checked its proof.
func DecodeProvider(value []byte) (Provider, error) { return decode[Provider](value) }

// DecodeCluster decodes a cluster's record, for those who checked its proof.
func DecodeCluster(value []byte) (Cluster, error) { return decode[Cluster](value) }

func decode[T any](value []byte) (T, error) {
	var record T
	err := codec.Unmarshal(value, &record, state.MaxValueBytes)
	return record, err
}

// RegisterProvider binds a node to its owner and locks the bond. A node that
// was unbonded may come back, under any owner its key signs for, and with its
// record. What it declares is challenged, as if it were declared anew.
func RegisterProvider(kv state.KV, env *Env, owner chain.Address, m chain.RegisterProvider) (chain.Event, *chain.Rejection) {
	known, ok := ProviderOf(kv, m.Node)
	if ok && known.UnbondedMs == 0 {
		return nil, chain.Reject("provider %s is registered already", m.Node.Short())
	}
	if m.Bond.Less(env.Params.ProviderBond) {
		return nil, chain.Reject("provider bond is %s, the least is %s", m.Bond, env.Params.ProviderBond)
	}
	if !m.Node.Verify(crypto.DomainPossession, chain.PossessionPayload(env.ChainID, owner), m.Possession) {
		return nil, chain.Reject("possession of node key %s by %s is not signed", m.Node.Short(), owner.Short())
	}
	if why := tokens.Debit(kv, owner, m.Bond, env.Now); why != nil {
		return nil, why
	}
	if ok && known.Owner != owner {
		kv.Delete(ownedKey(known.Owner, m.Node))
	}
	kv.Set(ownedKey(owner, m.Node), []byte{})
	p := Provider{
		Owner: owner, Bond: m.Bond, Region: m.Region, Millicores: m.Millicores, MemoryMiB: m.MemoryMiB, Record: known.Record, Unchecked: known.Unchecked,
	}
	joinRoll(kv, m.Node, &p)
	state.Save(kv, ProviderKey(m.Node), p)
	queueHardware(kv, env, m.Node)
	return chain.ProviderRegistered{Node: m.Node, Owner: owner, Bond: m.Bond}, nil
}

// ownProvider returns a provider that is registered, if it is its owner who asks.
func ownProvider(r state.Reader, owner chain.Address, node crypto.PublicKey) (Provider, *chain.Rejection) {
	p, ok := ProviderOf(r, node)
	switch {
	case !ok || p.UnbondedMs != 0:
		return Provider{}, chain.Reject("provider %s is not registered", node.Short())
	case p.Owner != owner:
		return Provider{}, chain.Reject("provider %s belongs to %s, not to %s", node.Short(), p.Owner.Short(), owner.Short())
	}
	return p, nil
}

// UnbondProvider ends a node's registration; the bond matures to its owner, but for what is
// owed of it. For the withdrawal delay its claims are still taken.
func UnbondProvider(kv state.KV, env *Env, owner chain.Address, m chain.UnbondProvider) (chain.Event, *chain.Rejection) {
	p, why := ownProvider(kv, owner, m.Node)
	if why != nil {
		return nil, why
	}
	if !p.Locked.IsZero() {
		return nil, chain.Reject("provider %s has %s of its bond locked by jobs", m.Node.Short(), p.Locked)
	}
	if why := unchallenged(kv, m.Node); why != nil {
		return nil, why
	}
	matures, why := later(env.Now, env.Params.UnbondDelayMs)
	if why != nil {
		return nil, why
	}
	key, owed := ProviderKey(m.Node), lesser(p.Owed, p.Bond)
	tokens.Burn(kv, owed)
	bond := sound(p.Bond.Sub(owed))
	if !bond.IsZero() { // it may be lost
		tokens.Mature(kv, matures, bondOrigin(key, owner), tokens.Maturing{To: owner, Amount: bond})
	}
	leaveRoll(kv, m.Node, &p)
	leaveHome(kv, m.Node)
	p.Bond, p.Owed, p.UnbondedMs = chain.Amount{}, chain.Amount{}, env.Now
	state.Save(kv, key, p)
	return chain.ProviderUnbonded{Node: m.Node, Owner: owner, Bond: bond, Matures: matures, Burned: owed}, nil
}

// RegisterCluster binds a cluster to its operator and locks the bond. A cluster
// that was unbonded may come back, under any operator its key signs for.
func RegisterCluster(kv state.KV, env *Env, operator chain.Address, m chain.RegisterCluster) (chain.Event, *chain.Rejection) {
	known, ok := ClusterOf(kv, m.Cluster)
	if ok && known.UnbondedMs == 0 {
		return nil, chain.Reject("cluster %s is registered already", m.Cluster.Short())
	}
	if m.Bond.Less(env.Params.ClusterBond) {
		return nil, chain.Reject("cluster bond is %s, the least is %s", m.Bond, env.Params.ClusterBond)
	}
	if !m.Cluster.Verify(crypto.DomainPossession, chain.PossessionPayload(env.ChainID, operator), m.Possession) {
		return nil, chain.Reject("possession of cluster key %s by %s is not signed", m.Cluster.Short(), operator.Short())
	}
	if !known.Locked.IsZero() {
		return nil, chain.Reject("cluster %s has %s of its earlier bond locked by orders", m.Cluster.Short(), known.Locked)
	}
	earlier := known.unbondings()
	earlier = slices.DeleteFunc(earlier, func(u Unbonding) bool { return u.left(kv, env, m.Cluster).IsZero() })
	if len(earlier) > MaxEarlier {
		return nil, chain.Reject("cluster %s has %d bonds on their way back, the limit is %d", m.Cluster.Short(), len(earlier), MaxEarlier)
	}
	if why := tokens.Debit(kv, operator, m.Bond, env.Now); why != nil {
		return nil, why
	}
	state.Save(kv, ClusterKey(m.Cluster), Cluster{
		Operator: operator, Bond: m.Bond, FeeBps: m.FeeBps, Endpoints: m.Endpoints, Earlier: earlier,
	})
	return chain.ClusterRegistered{Cluster: m.Cluster, Operator: operator, Bond: m.Bond}, nil
}

// unbondings are those of which a cluster's bonds may still be on their way, no two equal.
func (c *Cluster) unbondings() []Unbonding {
	last := c.unbonding()
	if c.UnbondedMs == 0 || slices.Contains(c.Earlier, *last) {
		return slices.Clone(c.Earlier)
	}
	return append(slices.Clone(c.Earlier), *last)
}

// unbonding is the last one of a cluster that is unbonded.
func (c *Cluster) unbonding() *Unbonding { return &Unbonding{Operator: c.Operator, At: c.UnbondedMs} }

// queued is when an unbonding's bond matures, and its origin in the queue.
func (u *Unbonding) queued(env *Env, cluster crypto.PublicKey) (chain.TimeMs, []byte) {
	at, _ := later(u.At, env.Params.ClusterUnbondMs()) // beyond time nothing was queued
	return at, bondOrigin(ClusterKey(cluster), u.Operator)
}

// left is what of an unbonding's bond is still on its way.
func (u *Unbonding) left(kv state.KV, env *Env, cluster crypto.PublicKey) chain.Amount {
	at, origin := u.queued(env, cluster)
	return tokens.MaturingOf(kv, at, origin)
}

// UnbondCluster ends a cluster's registration; the bond matures to its
// operator. Deposits end at once; for the withdrawal delay, in which every
// order it can have accepted runs out, claims are still taken.
func UnbondCluster(kv state.KV, env *Env, operator chain.Address, m chain.UnbondCluster) (chain.Event, *chain.Rejection) {
	c, ok := ClusterOf(kv, m.Cluster)
	switch {
	case !ok || c.UnbondedMs != 0:
		return nil, chain.Reject("cluster %s is not registered", m.Cluster.Short())
	case c.Operator != operator:
		return nil, chain.Reject("cluster %s belongs to %s, not to %s", m.Cluster.Short(), c.Operator.Short(), operator.Short())
	case !c.Locked.IsZero():
		return nil, chain.Reject("cluster %s has %s of its bond locked by claims", m.Cluster.Short(), c.Locked)
	}
	if c.Convicted != nil {
		panic("settlement: a cluster of whose bond nothing is locked owes what is")
	}
	matures, why := later(env.Now, env.Params.ClusterUnbondMs())
	if why != nil {
		return nil, why
	}
	key, bond := ClusterKey(m.Cluster), c.Bond
	if !bond.IsZero() { // it may be lost
		tokens.Mature(kv, matures, bondOrigin(key, operator), tokens.Maturing{To: operator, Amount: bond})
	}
	c.Bond, c.UnbondedMs = chain.Amount{}, env.Now
	state.Save(kv, key, c)
	return chain.ClusterUnbonded{Cluster: m.Cluster, Operator: operator, Bond: bond, Matures: matures}, nil
}

// serves reports whether claims of a node or cluster are taken: while it is
// bonded, and for the withdrawal delay after.
func serves(unbonded chain.TimeMs, env *Env) bool {
	if unbonded == 0 {
		return true
	}
	since, ok := checked.Sub(uint64(env.Now), uint64(unbonded))
	return ok && since <= env.Params.WithdrawalDelayMs
}

func later(now chain.TimeMs, delayMs uint64) (chain.TimeMs, *chain.Rejection) {
	at, ok := checked.Add(uint64(now), delayMs)
	if !ok {
		return 0, chain.Reject("%d ms after %d is beyond time", delayMs, now)
	}
	return chain.TimeMs(at), nil
}
