package settlement

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// ledger is what the claims of one message do to records that others of them may touch as
// well: these are read once, and written once by save.
type ledger struct {
	kv       state.KV
	env      *Env
	clusters []clusterEntry
	nodes    []nodeEntry
	purses   []*purse
	credits  []credit
	burned   chain.Amount
	begun    []byte       // the ids of the orders that began, one after the other
	expires  chain.TimeMs // when the last of them does
}

type clusterEntry struct {
	key     crypto.PublicKey
	cluster Cluster
	known   bool
}

type nodeEntry struct {
	key      crypto.PublicKey
	provider Provider
	known    bool
	changed  bool
}

type credit struct {
	to     chain.Address
	amount chain.Amount
}

func newLedger(kv state.KV, env *Env) *ledger { return &ledger{kv: kv, env: env} }

// cluster is ClusterOf.
func (l *ledger) cluster(key crypto.PublicKey) (*Cluster, bool) {
	for i := range l.clusters {
		if e := &l.clusters[i]; e.key == key {
			return &e.cluster, e.known
		}
	}
	cluster, known := ClusterOf(l.kv, key)
	l.clusters = append(l.clusters, clusterEntry{key, cluster, known})
	return &cluster, known
}

// node is ProviderOf.
func (l *ledger) node(key crypto.PublicKey) *nodeEntry {
	for i := range l.nodes {
		if e := &l.nodes[i]; e.key == key {
			return e
		}
	}
	provider, known := ProviderOf(l.kv, key)
	l.nodes = append(l.nodes, nodeEntry{key: key, provider: provider, known: known})
	return &l.nodes[len(l.nodes)-1]
}

// purse is openPurse.
func (l *ledger) purse(consumer chain.Address, cluster crypto.PublicKey) *purse {
	key := EscrowKey(consumer, cluster)
	for _, p := range l.purses {
		if string(p.key) == string(key) {
			return p
		}
	}
	p := openPurse(l.kv, l.env, consumer, cluster)
	l.purses = append(l.purses, p)
	return p
}

// noteNode adds a fact to a node's record.
func (l *ledger) noteNode(key crypto.PublicKey, fact match.Fact, burned chain.Amount) {
	e := l.node(key)
	if !e.known {
		panic("settlement: a fact of a node that was never registered")
	}
	e.provider.Record.Add(l.env.Now, fact, burned)
	e.changed = true
}

func (l *ledger) credit(to chain.Address, amount chain.Amount) {
	for i := range l.credits {
		if c := &l.credits[i]; c.to == to {
			c.amount = sound(c.amount.Add(amount))
			return
		}
	}
	l.credits = append(l.credits, credit{to, amount})
}

func (l *ledger) burn(amount chain.Amount) { l.burned = sound(l.burned.Add(amount)) }

// begin queues an order to expire, which had its first claim: all orders that a message
// began expire together, when the last of them does, with one entry.
func (l *ledger) begin(order crypto.Digest, expires chain.TimeMs) {
	l.begun = append(l.begun, order[:]...)
	l.expires = max(l.expires, expires)
}

// save writes what changed, and forgets what it knows.
func (l *ledger) save() {
	for i := range l.nodes {
		if e := &l.nodes[i]; e.changed {
			state.Save(l.kv, ProviderKey(e.key), e.provider)
		}
	}
	for _, p := range l.purses {
		if p.changed {
			p.save()
		}
	}
	for _, c := range l.credits {
		tokens.Credit(l.kv, c.to, c.amount)
	}
	tokens.Burn(l.kv, l.burned)
	if len(l.begun) > 0 {
		l.kv.Set(expiryKey(l.expires, l.begun[:crypto.DigestSize]), slices.Clip(l.begun[crypto.DigestSize:]))
	}
	*l = ledger{kv: l.kv, env: l.env}
}
