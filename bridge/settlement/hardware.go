package settlement

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/nexus/match"
	"github.com/hypermesh/hypermesh/tokens"
)

// What a node declares is challenged: a lottery in each block draws owners, whose nodes run a
// benchmark at the same time that takes all of each, and peers of other owners measure it. Only
// what is missing is posted; then it counts no longer, and a part of the bond is burned.

const (
	// challengedAtOnce bounds how many nodes of an owner are challenged at the same time, and
	// ownedScan how many of those that it ever had are looked at for them.
	challengedAtOnce = 8
	ownedScan        = 32
	// loneShare is the part of a peer's stake that a word costs which the others do not bear out.
	loneShare = 10
)

// Hardware is a challenge of a node, from when it is queued until it is judged.
type Hardware struct {
	_          struct{}           `cbor:",toarray"`
	Seed       crypto.Digest      // of the benchmark
	Millicores uint64             // that are declared and not leased
	Lanes      uint64             // that these run
	MemoryMiB  uint64             // that they fill, all together: declared and not leased
	Peers      []crypto.PublicKey // that measure it
	Since      chain.TimeMs       // when it was opened
	Due        uint64             // progress at which it is judged; 0: it is to be opened
	Words      []Word             // of peers, one each
}

// Word is the most that a peer said is missing of a node.
type Word struct {
	_       struct{} `cbor:",toarray"`
	Peer    crypto.PublicKey
	Missing uint64 // lanes; all of them if Silent
	Silent  bool
	Stake   chain.Amount // that is locked of the peer's bond for it
}

// HardwareOf returns the challenge of a node, and false if there is none.
func HardwareOf(r state.Reader, node crypto.PublicKey) (Hardware, bool) {
	return state.Load[Hardware](r, HardwareKey(node))
}

// DecodeHardware decodes the record of a challenge, for those who checked its proof.
func DecodeHardware(value []byte) (Hardware, error) { return decode[Hardware](value) }

// Open reports whether a challenge waits for words.
func (h *Hardware) Open() bool { return h.Due != 0 }

// unchallenged demands that a node may leave or change what it declares: that no challenge of
// it is open or queued.
func unchallenged(r state.Reader, node crypto.PublicKey) *chain.Rejection {
	if _, held := r.Get(HardwareKey(node)); held {
		return chain.Reject("the hardware of node %s is being challenged", node.Short())
	}
	return nil
}

// ChallengeHardware draws, in some blocks, an owner whose nodes are challenged at the same time:
// one in so much of the chain's progress, on average, as the parameters say, however many blocks
// that is. Every seat of the roll is drawn alike.
func ChallengeHardware(kv state.KV, env *Env) chain.Events {
	passed := env.ProgressMs - min(env.LastProgressMs, env.ProgressMs) // twice IdleMs at most
	if env.Params.HardwareEveryMs == 0 {
		return nil
	}
	seed, lens := env.seed(partHardware, crypto.Digest{}, 0), rollOf(kv)
	all := lens.all()
	if all == 0 || scale(lot(seed, 0), env.Params.HardwareEveryMs) >= passed {
		return nil
	}
	first := nodeAt(kv, lens.seat(scale(lot(seed, 1), all)))
	p, ok := ProviderOf(kv, first)
	if !ok {
		panic("settlement: a node on the roll without a record")
	}
	peers := drawMeasurers(kv, env, p.Owner, crypto.Digest(first))
	var events chain.Events
	for _, node := range ownedFrom(kv, p.Owner, first) {
		if len(events) == challengedAtOnce {
			break
		}
		if unchallenged(kv, node) == nil {
			events = append(events, openChallenge(kv, env, node, peers)...)
		}
	}
	return events
}

// seat returns the n-th seat of all classes, from 0 on.
func (l rollLens) seat(n uint64) uint64 {
	for class, of := range l {
		if n < of {
			return seatOf(uint64(class), n+1)
		}
		n -= of
	}
	panic("settlement: a seat beyond the roll")
}

// ownedFrom lists up to ownedScan of an owner's nodes, from one of them on, and after the last
// by key from the first.
func ownedFrom(r state.Reader, owner chain.Address, first crypto.PublicKey) (nodes []crypto.PublicKey) {
	begin, end := ownedKey(owner, crypto.PublicKey{}), keyOf(kindOwned+1)
	from := ownedKey(owner, first)
	for _, span := range [][2][]byte{{from, end}, {begin, from}} {
		for key := range r.Iterate(span[0], span[1]) {
			if len(nodes) == ownedScan || string(key[:len(key)-crypto.PublicKeySize]) != string(begin[:len(begin)-crypto.PublicKeySize]) {
				break
			}
			nodes = append(nodes, crypto.PublicKey(key[len(key)-crypto.PublicKeySize:]))
		}
	}
	return nodes
}

// drawMeasurers draws the peers that measure nodes of an owner: none, if those who can stake as
// much are too few to decide anything.
func drawMeasurers(r state.Reader, env *Env, owner chain.Address, id crypto.Digest) []crypto.PublicKey {
	peers := drawNodes(r, env, draw{
		seed: env.seed(partHardware, id, 2), want: chain.MaxHardwarePeers, stake: env.Params.JurorSlice, least: env.Params.JurorSlice,
		excluded: func(_ crypto.PublicKey, q *Provider) bool { return q.Owner == owner },
	}).nodes
	if len(peers) < chain.Quorum(len(peers)) {
		return nil
	}
	return peers
}

// hardwareDrawn challenges a node for what was declared, or declared anew.
func hardwareDrawn(kv state.KV, env *Env, node crypto.PublicKey) chain.Events {
	h, ok := HardwareOf(kv, node)
	p, known := ProviderOf(kv, node)
	if !ok || h.Open() || !known || p.UnbondedMs != 0 {
		panic("settlement: a draw of hardware that nobody declared")
	}
	kv.Delete(HardwareKey(node))
	return openChallenge(kv, env, node, drawMeasurers(kv, env, p.Owner, crypto.Digest(node)))
}

// queueHardware has what is declared of a node be challenged DrawDelay blocks from now, if nodes
// are challenged at all.
func queueHardware(kv state.KV, env *Env, node crypto.PublicKey) {
	if env.Params.HardwareEveryMs == 0 {
		return
	}
	if unchallenged(kv, node) != nil {
		panic("settlement: a node is challenged that is challenged")
	}
	queueDraw(kv, env, partHardware, crypto.Digest(node))
	state.Save(kv, HardwareKey(node), Hardware{})
}

// openChallenge challenges a node that is not: with all that it declares and that the chain does
// not know to be leased. It does not, if that is no whole core, or nobody measures it.
func openChallenge(kv state.KV, env *Env, node crypto.PublicKey, peers []crypto.PublicKey) chain.Events {
	p, ok := ProviderOf(kv, node)
	if !ok || p.UnbondedMs != 0 || len(peers) == 0 {
		return nil
	}
	h := Hardware{Seed: env.seed(partHardware, crypto.Digest(node), 1), Peers: peers, Since: env.Now}
	if h.Millicores, h.MemoryMiB = unleased(kv, node, &p); chain.Lanes(h.Millicores) == 0 {
		return nil
	}
	h.Lanes = chain.Lanes(h.Millicores)
	h.Due = queueDeadline(kv, env, env.Params.HardwareMs, partHardware, crypto.Digest(node))
	state.Save(kv, HardwareKey(node), h)
	return chain.Events{chain.HardwareChallenged{
		Node: node, Seed: h.Seed, Lanes: chain.Number(h.Lanes), MemoryMiB: chain.Number(h.MemoryMiB), Peers: h.Peers,
	}}
}

// unleased returns what of a node's declared hardware no lease has.
func unleased(r state.Reader, node crypto.PublicKey, p *Provider) (millicores, memoryMiB uint64) {
	l := LeasedOf(r, node)
	return p.Millicores - min(l.Millicores, p.Millicores), p.MemoryMiB - min(l.MemoryMiB, p.MemoryMiB)
}

// ReportHardware notes what peers say is missing of a challenged node. Of each the highest word
// counts, whoever brings it, and whichever comes first: with it a slice of the peer's bond is
// locked. signed says whether all verdicts are signed.
func ReportHardware(kv state.KV, env *Env, m chain.ReportHardware, signed bool) *chain.Rejection {
	node := m.Challenge.Node
	h, ok := HardwareOf(kv, node)
	switch {
	case !signed:
		return chain.Reject("a verdict is not signed by its peer")
	case m.Challenge.ChainID != env.ChainID:
		return chain.Reject("verdict is of chain %.32q, this is %q", m.Challenge.ChainID, env.ChainID)
	case !ok || !h.Open():
		return chain.Reject("node %s is not challenged", node.Short())
	case h.Seed != m.Challenge.Seed:
		return chain.Reject("the challenge of node %s has another seed", node.Short())
	}
	news := false
	for i := range m.Verdicts {
		added, why := h.hear(kv, env, &m.Verdicts[i])
		if why != nil {
			return why
		}
		news = news || added
	}
	if !news {
		return chain.Reject("of node %s as much was said before", node.Short())
	}
	state.Save(kv, HardwareKey(node), h)
	return nil
}

// hear notes a verdict, and reports whether it says more than its peer did before.
func (h *Hardware) hear(kv state.KV, env *Env, v *chain.HardwareVerdict) (bool, *chain.Rejection) {
	w := Word{Peer: v.Peer, Missing: v.Missing, Silent: v.Silent, Stake: env.Params.JurorSlice}
	if v.Silent {
		w.Missing = h.Lanes
	}
	switch {
	case !slices.Contains(h.Peers, v.Peer):
		return false, chain.Reject("node %s is not a peer of the challenge", v.Peer.Short())
	case v.Missing > h.Lanes:
		return false, chain.Reject("peer %s misses %d of %d lanes", v.Peer.Short(), v.Missing, h.Lanes)
	}
	at := slices.IndexFunc(h.Words, func(other Word) bool { return other.Peer == v.Peer })
	if at >= 0 {
		said := &h.Words[at]
		if !w.above(said) {
			return false, nil
		}
		said.Missing, said.Silent = w.Missing, w.Silent
		return true, nil
	}
	if why := lockSlice(kv, v.Peer, w.Stake); why != nil {
		return false, why
	}
	h.Words = append(h.Words, w)
	return true, nil
}

// above reports whether a word is higher than another of its peer: who heard all wrong was not met
// with silence.
func (w *Word) above(other *Word) bool {
	return w.Missing > other.Missing || w.Missing == other.Missing && other.Silent && !w.Silent
}

// found is what a challenge found: how many lanes more than half of the peers, and two at least,
// say are missing at least, and whether so many of them met with silence.
func (h *Hardware) found() (missing uint64, silent bool) {
	want := chain.Quorum(len(h.Peers))
	if len(h.Words) < want {
		return 0, false
	}
	most := slices.SortedFunc(slices.Values(h.Words), func(a, b Word) int { return cmp.Compare(b.Missing, a.Missing) })
	silences := 0
	for i := range h.Words {
		if h.Words[i].Silent {
			silences++
		}
	}
	return most[want-1].Missing, silences >= want
}

// hardwareDue judges a challenge: what is missing counts no longer, and costs its part of the bond.
// Whose word the others do not bear out by half of the lanes loses a part of its stake; all else
// that was staked is free again. Nothing stays of the challenge.
func hardwareDue(kv state.KV, env *Env, node crypto.PublicKey) (events chain.Events) {
	h, ok := HardwareOf(kv, node)
	if !ok || !h.Open() {
		panic("settlement: a hardware challenge that is not open is due")
	}
	kv.Delete(HardwareKey(node))
	missing, silent := h.found()
	for i := range h.Words {
		w := &h.Words[i]
		if w.Missing > missing && 2*(w.Missing-missing) > h.Lanes {
			lost := part1of(w.Stake, loneShare)
			w.Stake = sound(w.Stake.Sub(lost))
			events = append(events, takeSlice(kv, env, w.Peer, lost, chain.Amount{}))
		}
		unlockSlice(kv, w.Peer, w.Stake)
	}
	if missing > 0 {
		events = append(events, h.cut(kv, env, node, missing, silent)...)
	}
	return events
}

// cut has a node's hardware count as what showed up of it, and takes what the rest costs.
func (h *Hardware) cut(kv state.KV, env *Env, node crypto.PublicKey, missing uint64, silent bool) chain.Events {
	p, ok := ProviderOf(kv, node)
	gone := part64(h.Millicores, missing, h.Lanes)
	if !ok || p.UnbondedMs != 0 || gone > p.Millicores {
		panic("settlement: a node left, or changed, while its hardware was challenged")
	}
	loss, finding := sound(p.Bond.ShareFloor(uint64(env.Params.HardwareBps)*gone, wholeBps*p.Millicores)), chain.HardwareShort
	if silent {
		loss, finding = lesser(loss, env.Params.JurorSlice), chain.HardwareSilent
	}
	p.Millicores, p.MemoryMiB = p.Millicores-gone, p.MemoryMiB-part64(h.MemoryMiB, missing, h.Lanes)
	burned, owed := p.lose(kv, env, node, loss)
	state.Save(kv, ProviderKey(node), p)
	var events chain.Events
	if !burned.IsZero() {
		events = append(events, chain.BondSlashed{Node: node, Owner: p.Owner, Amount: burned, Burned: burned})
	}
	return append(events, chain.HardwareJudged{
		Node: node, Owner: p.Owner, Finding: finding.String(), Missing: chain.Number(missing),
		Millicores: chain.Number(p.Millicores), MemoryMiB: chain.Number(p.MemoryMiB), Burned: burned, Owed: owed,
	})
}

// lose burns a loss as far as the bond is free, and has the rest be owed: so much of the bond is
// never free again, and is burned when the node unbonds. The caller saves p.
func (p *Provider) lose(kv state.KV, env *Env, node crypto.PublicKey, loss chain.Amount) (burned, owed chain.Amount) {
	burned = lesser(loss, p.Free())
	p.Bond = sound(p.Bond.Sub(burned))
	reseat(kv, node, p)
	tokens.Burn(kv, burned)
	if p.Owed.Less(p.Bond) {
		owed = lesser(sound(loss.Sub(burned)), sound(p.Bond.Sub(p.Owed)))
	}
	p.Owed = sound(p.Owed.Add(owed))
	p.Record.Add(env.Now, match.FactSlashed, sound(burned.Add(owed)))
	return burned, owed
}

// part64 returns n · num / den, floored, for num ≤ den.
func part64(n, num, den uint64) uint64 {
	hi, lo := bits.Mul64(n, num)
	quo, _ := bits.Div64(hi, lo, den) // hi < den, as num ≤ den
	return quo
}

// DeclareHardware says anew what a node has. What grows is challenged DrawDelay blocks later,
// if nodes are challenged at all.
func DeclareHardware(kv state.KV, env *Env, owner chain.Address, m chain.DeclareHardware) (chain.Event, *chain.Rejection) {
	p, why := ownProvider(kv, owner, m.Node)
	if why != nil {
		return nil, why
	}
	if why := unchallenged(kv, m.Node); why != nil {
		return nil, why
	}
	if m.Millicores > p.Millicores || m.MemoryMiB > p.MemoryMiB {
		queueHardware(kv, env, m.Node)
	}
	p.Millicores, p.MemoryMiB = m.Millicores, m.MemoryMiB
	state.Save(kv, ProviderKey(m.Node), p)
	return chain.HardwareDeclared{Node: m.Node, Owner: owner, Millicores: chain.Number(m.Millicores), MemoryMiB: chain.Number(m.MemoryMiB)}, nil
}
