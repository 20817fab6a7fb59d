package simulation

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/hypermesh/hypermesh/bridge/settlement"
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/sim"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/internal/zk"
	"github.com/hypermesh/hypermesh/tokens"
)

const (
	chainID   chain.ChainID = "market-1"
	startMs   chain.TimeMs  = 1_790_000_000_000
	blockMs                 = 5_000
	idleMs                  = 60_000 // a block in which nothing is to be done
	hourMs                  = 3_600_000
	maxBlocks               = 1_000_000
	queueRoom               = 256 // entries of each queue in a block
)

// world is a market while it runs.
type world struct {
	cast   *Cast
	terms  Terms
	play   conduct // of the hand
	broken Mutation
	rand   *sim.Rand
	salt   uint64 // of the randomness of blocks
	base   *state.MemoryBackend
	kv     state.KV // base, or the block that is being made
	env    settlement.Env

	owners  []*owner
	nodes   []*node
	byNode  map[crypto.PublicKey]*node
	cluster *owner
	relay   relay
	pending []post
	jobs    map[crypto.Digest]*job
	votes   map[crypto.Digest]map[*node]*ballot
	nonce   uint64
	broke   bool // the hand orders without a deposit
	tries   int  // times that the hand cheated
	runs    int  // of programs, by anybody
	caught  []chain.BondSlashed
	told    func(chain.Height, chain.Event) // nil: nobody is
}

// owner is an account, with what it spent and got outside of the chain.
type owner struct {
	key     crypto.PrivateKey
	address chain.Address
	hand    bool
	spent   int64 // nHYPER, for runs
	got     int64 // nHYPER, worth of results that it has as a consumer
}

// node is a provider's.
type node struct {
	key   crypto.PrivateKey
	id    crypto.PublicKey
	owner *owner
	conduct
	meter   *zk.MeterSecret
	retired bool // another took its place
}

// post is a message on its way to the chain.
type post struct {
	by     *owner
	do     act
	offers *job         // whose primary's claim or commitment it is; nil: nothing of the kind
	after  chain.Height // not before this block
	again  int          // how often it is posted again if it is refused
	own    bool         // not through the relay
}

// echo accepts as a proof of a statement its digest, and nothing else.
type echo struct{ anything bool }

func (e echo) Verify(s zk.Statement, proof []byte) error {
	if err := s.Check(); err != nil {
		return err
	}
	if digest := s.Digest(); !e.anything && !bytes.Equal(proof, digest[:]) {
		return zk.ErrFalseProof
	}
	return nil
}

var verifyingKey = crypto.DomainVerifyingKey.Hash([]byte(chainID))

const (
	provenKernel = "matmul-16"
	meterKernel  = "usage-batch-32"
)

// people bounds the accounts: of nodes, and of those that replace them.
const (
	purse     = 1_000_000 // HYPER of each account
	deposited = 100_000
	bonded    = 1_000
	clusterOf = 10_000

	millicores = 4_000 // of each node
	memoryMiB  = 8_192
)

// newWorld registers a cluster and its nodes.
func newWorld(m Market, play conduct) *world {
	cast, terms, broken := m.Cast, m.Terms, m.Broken
	w := &world{
		cast: cast, terms: terms, play: play, broken: broken, rand: sim.NewRand(m.Seed), base: state.NewMemoryBackend(),
		byNode: map[crypto.PublicKey]*node{}, jobs: map[crypto.Digest]*job{}, votes: map[crypto.Digest]map[*node]*ballot{},
	}
	w.salt = w.rand.Uint64()
	w.kv = w.base
	w.env = settlement.Env{
		ChainID: chainID, Height: 1, Now: startMs, ProgressMs: 1, Params: broken.params(chain.DefaultParams()),
		Kernels:  map[string]crypto.Digest{provenKernel: verifyingKey, meterKernel: verifyingKey},
		Verifier: echo{anything: broken == MutateProofs},
	}
	var allocations []chain.Allocation
	for i := range cast.owners {
		o := &owner{key: cast.owners[i], address: cast.addresses[i]}
		w.owners = append(w.owners, o)
		allocations = append(allocations, chain.Allocation{Address: o.address, Amount: chain.Hyper(purse)})
	}
	allocations[0].Amount = chain.Hyper(2 * clusterOf)
	w.cluster = w.owners[0]
	if err := tokens.Genesis(w.kv, allocations, chain.Amount{}); err != nil {
		panic("simulation: " + err.Error())
	}
	w.must(settlement.RegisterCluster(w.kv, &w.env, w.cluster.address, chain.RegisterCluster{
		Cluster: w.cluster.key.Public(), Bond: chain.Hyper(clusterOf), FeeBps: 500, Endpoints: []string{"https://nexus.example"},
		Possession: w.cluster.key.Sign(crypto.DomainPossession, chain.PossessionPayload(chainID, w.cluster.address)),
	}))
	for i := range terms.Nodes {
		w.join(cast.nodes[i], w.owners[firstOwner+i])
	}
	return w
}

// join registers a node of an owner.
func (w *world) join(key crypto.PrivateKey, by *owner) *node {
	n := &node{key: key, id: key.Public(), owner: by}
	w.nodes = append(w.nodes, n)
	w.byNode[n.id] = n
	w.must(settlement.RegisterProvider(w.kv, &w.env, by.address, n.registration()))
	return n
}

func (n *node) registration() chain.RegisterProvider {
	return chain.RegisterProvider{
		Node: n.id, Bond: chain.Hyper(bonded), Region: "eu", Millicores: millicores, MemoryMiB: memoryMiB,
		Possession: n.key.Sign(crypto.DomainPossession, chain.PossessionPayload(chainID, n.owner.address)),
	}
}

func (w *world) must(_ chain.Event, why *chain.Rejection) {
	if why != nil {
		panic("simulation: the market cannot be set up: " + why.Reason())
	}
}

// block makes one block, and has everybody answer to what it says.
func (w *world) block(ms uint64) {
	e := &w.env
	e.Last, e.LastProgressMs = e.Now, e.ProgressMs
	e.Height++
	e.Now += chain.TimeMs(ms)
	e.ProgressMs += ms
	e.Mix = crypto.DomainMix.Hash(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, w.salt), uint64(e.Height)))
	made := state.NewOverlay(w.base)
	w.kv = made
	events := tokens.ReleaseMatured(w.kv, e.Now, queueRoom)
	settlement.ExpireOrders(w.kv, e, queueRoom)
	settlement.ExpireMarks(w.kv, e, queueRoom)
	drawn, _ := settlement.RunDraws(w.kv, e, queueRoom)
	due, _ := settlement.RunDeadlines(w.kv, e, queueRoom)
	events = append(events, settlement.ChallengeHardware(w.kv, e)...)
	events = append(append(events, drawn...), due...)
	for _, p := range w.delivered() {
		events = append(events, w.apply(p)...)
	}
	w.conserved(made)
	made.Flush(w.base)
	w.kv = w.base
	for _, event := range events {
		if w.told != nil {
			w.told(w.env.Height, event)
		}
		w.heard(event)
	}
}

// settled makes blocks until nobody has anything to do any more.
func (w *world) settled() {
	for quiet := 0; quiet < 2; {
		step := uint64(blockMs)
		if len(w.pending) > 0 || settlement.DrawsWait(w.base, w.env.Height) {
			quiet = 0
		} else if step = idleMs; !w.waits() {
			quiet++
		}
		if w.env.Height > maxBlocks {
			panic("simulation: the market never comes to rest")
		}
		w.block(step)
	}
	w.rested()
}

// waits reports whether a deadline is queued.
func (w *world) waits() bool {
	for range w.base.Iterate([]byte{settlement.Prefix, 't'}, []byte{settlement.Prefix, 't' + 1}) {
		return true
	}
	return false
}

// conserved demands that a block moved value and made none.
func (w *world) conserved(made *state.Overlay) {
	was, is := uint64(0), uint64(0) // modulo 2⁶⁴, as their difference is small
	for _, c := range made.Changes() {
		if old, ok := w.base.Get(c.Key); ok {
			was += worth(c.Key, old)
		}
		if value, ok := made.Get(c.Key); ok {
			is += worth(c.Key, value)
		}
	}
	before, after := tokens.SupplyOf(w.base), tokens.SupplyOf(made)
	if is-was != after.Minted.Nano()-after.Burned.Nano()-(before.Minted.Nano()-before.Burned.Nano()) {
		panic(fmt.Sprintf("simulation: block %d changed what is held by %d, and what is burned by %d", w.env.Height, int64(is-was), int64(after.Burned.Nano()-before.Burned.Nano())))
	}
}

func worth(key, value []byte) uint64 {
	amount := chain.Amount{}
	switch key[0] {
	case tokens.Prefix:
		_, amount = tokens.ValueOf(key, value)
	case settlement.Prefix:
		_, amount = settlement.ValueOf(key, value)
	}
	return amount.Nano()
}

// rested demands that nothing is left of any job but what is known of it.
func (w *world) rested() {
	for key, value := range w.base.Iterate([]byte{settlement.Prefix}, []byte{settlement.Prefix + 1}) {
		switch key[1] {
		case 'd', 't', 'j', 'a':
			panic(fmt.Sprintf("simulation: a record of kind %c is left", key[1]))
		case 'g':
			if runs := state.Decode[settlement.Runs](key, value); runs.Stage != settlement.StageOwed {
				panic("simulation: an order's runs wait for nothing")
			}
		case 'p':
			if p := state.Decode[settlement.Provider](key, value); !p.Locked.IsZero() {
				panic("simulation: a bond is locked for nothing")
			}
		case 'c':
			if c := state.Decode[settlement.Cluster](key, value); !c.Locked.IsZero() {
				panic("simulation: a cluster's bond is locked for nothing")
			}
		}
	}
}

// wealth is what some owners have: on the chain, less what their runs cost, and with what
// results are worth to them; in nHYPER.
func (w *world) wealth(whose func(*owner) bool) int64 {
	sum, of := int64(0), map[chain.Address]bool{}
	for _, o := range w.owners {
		if whose(o) {
			of[o.address] = true
			sum += o.got - o.spent + int64(tokens.AccountOf(w.base, o.address).Balance.Nano())
			sum += int64(settlement.EscrowOf(w.base, o.address, w.cluster.key.Public()).Balance.Nano())
		}
	}
	for key, value := range w.base.Iterate([]byte{settlement.Prefix}, []byte{tokens.Prefix + 1}) {
		if key[0] == tokens.Prefix {
			if class, amount := tokens.ValueOf(key, value); class == tokens.HoldsMaturing && of[state.Decode[tokens.Maturing](key, value).To] {
				sum += int64(amount.Nano())
			}
			continue
		}
		switch key[1] {
		case 'p':
			if p := state.Decode[settlement.Provider](key, value); of[p.Owner] {
				sum += int64(p.Bond.Nano())
			}
		case 'c':
			if c := state.Decode[settlement.Cluster](key, value); of[c.Operator] {
				sum += int64(c.Bond.Nano())
			}
		}
	}
	return sum
}

func hands(o *owner) bool  { return o.hand }
func others(o *owner) bool { return !o.hand }
