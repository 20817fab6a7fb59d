package settlement

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
	"github.com/hypermesh/hypermesh/tokens"
)

// What a node declares is challenged: a lottery in each block draws nodes, and peers of other
// owners who have the node run a benchmark that takes all of it at once. Only what did not
// show up is posted; then it counts no longer, and a part of the bond is burned.

// hardwareSeats is how many seats of the roll are looked at for one node: of those that are
// drawn evenly one is drawn by what it declares.
const hardwareSeats = 16

// silenceShare is the part of a juror's slice that a silence costs which is not the last.
const silenceShare = 10

// Hardware is the chain's state of the challenges of a node: only while one is open or queued,
// or when the node met some with silence.
type Hardware struct {
	_         struct{}           `cbor:",toarray"`
	Seed      crypto.Digest      // of the open challenge
	Lanes     uint64             // that its cores run
	MemoryMiB uint64             // that they fill, all together
	Peers     []crypto.PublicKey // that measure it
	Since     chain.TimeMs       // when they were drawn
	Due       uint64             // progress until which they are heard; 0: no challenge is open
	Judged    bool
	Silences  uint64 // since the node was last heard
	Drawing   bool   // a draw is queued, of what was declared anew
}

// HardwareOf returns the state of a node's challenges, and false if there is nothing to say.
func HardwareOf(r state.Reader, node crypto.PublicKey) (Hardware, bool) {
	return state.Load[Hardware](r, HardwareKey(node))
}

// DecodeHardware decodes a record of challenges, for those who checked its proof.
func DecodeHardware(value []byte) (Hardware, error) { return decode[Hardware](value) }

// Open reports whether a challenge waits for its verdict.
func (h *Hardware) Open() bool { return h.Due != 0 && !h.Judged }

// Held reports whether what is declared stays as it is: until a challenge is over, judged or
// not, as another would not be opened before, and until what grew is challenged.
func (h *Hardware) Held() bool { return h.Due != 0 || h.Drawing }

// ChallengeHardware draws, in some blocks, a node whose hardware is challenged: so many in an
// epoch, on average, as the parameters say.
func ChallengeHardware(kv state.KV, env *Env) chain.Events {
	passed := min(env.ProgressMs-min(env.LastProgressMs, env.ProgressMs), 2*env.Params.IdleMs)
	odds := passed * uint64(env.Params.HardwareChallenges)
	if odds == 0 {
		return nil
	}
	seed := env.seed(partHardware, crypto.Digest{}, 0)
	if scale(lot(seed, 0), env.Params.EpochMs) >= odds {
		return nil
	}
	node, ok := drawHardware(kv, seed)
	if !ok {
		return nil
	}
	return openChallenge(kv, env, node)
}

// drawHardware draws one of hardwareSeats seats of the roll by what is declared; of a roll
// that has no more, all are looked at.
func drawHardware(kv state.KV, seed crypto.Digest) (node crypto.PublicKey, ok bool) {
	lens := rollOf(kv)
	all := lens.all()
	weights, total := [hardwareSeats]uint64{}, uint64(0)
	nodes := [hardwareSeats]crypto.PublicKey{}
	n := min(all, hardwareSeats)
	for i := range n {
		at := i
		if all > hardwareSeats {
			at = scale(lot(seed, i+1), all)
		}
		nodes[i] = nodeAt(kv, lens.seat(at))
		p, found := ProviderOf(kv, nodes[i])
		if !found {
			panic("settlement: a node on the roll without a record")
		}
		if chain.Lanes(p.Millicores) > 0 {
			weights[i] = p.Millicores + p.MemoryMiB // each below 2^48
		}
		total += weights[i]
	}
	if total == 0 {
		return crypto.PublicKey{}, false
	}
	mark := scale(lot(seed, hardwareSeats+1), total)
	for i := range n {
		if mark < weights[i] {
			return nodes[i], true
		}
		mark -= weights[i]
	}
	panic("settlement: a mark beyond what is declared")
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

// hardwareDrawn challenges a node for what was declared anew.
func hardwareDrawn(kv state.KV, env *Env, node crypto.PublicKey) chain.Events {
	h, ok := HardwareOf(kv, node)
	if !ok || !h.Drawing {
		panic("settlement: a draw of hardware that was not declared anew")
	}
	h.Drawing = false
	h.keep(kv, node)
	return openChallenge(kv, env, node)
}

// keep saves what there is to say of a node's challenges, or deletes the record of nothing.
func (h *Hardware) keep(kv state.KV, node crypto.PublicKey) {
	if h.Due == 0 && h.Silences == 0 && !h.Drawing {
		kv.Delete(HardwareKey(node))
		return
	}
	state.Save(kv, HardwareKey(node), *h)
}

// openChallenge challenges a node, unless it is challenged, or has no whole core.
func openChallenge(kv state.KV, env *Env, node crypto.PublicKey) chain.Events {
	h, _ := HardwareOf(kv, node)
	p, ok := ProviderOf(kv, node)
	if !ok || p.UnbondedMs != 0 || chain.Lanes(p.Millicores) == 0 || h.Due != 0 {
		return nil
	}
	id := crypto.Digest(node)
	h.Seed, h.Lanes, h.MemoryMiB, h.Since, h.Judged = env.seed(partHardware, id, 1), chain.Lanes(p.Millicores), p.MemoryMiB, env.Now, false
	h.Peers = drawNodes(kv, env, draw{
		seed: env.seed(partHardware, id, 2), want: chain.MaxHardwarePeers, stake: env.Params.JurorSlice, least: env.Params.JurorSlice,
		excluded: func(other crypto.PublicKey, q *Provider) bool { return other == node || q.Owner == p.Owner },
	}).nodes
	h.Due = queueDeadline(kv, env, env.Params.HardwareMs, partHardware, id)
	state.Save(kv, HardwareKey(node), h)
	return chain.Events{chain.HardwareChallenged{Node: node, Seed: h.Seed, Lanes: chain.Number(h.Lanes), Peers: h.Peers}}
}

// hardwareDue ends a challenge. Of one that was met, or that nobody measured, nothing stays.
func hardwareDue(kv state.KV, node crypto.PublicKey) chain.Events {
	h, ok := HardwareOf(kv, node)
	if !ok || h.Due == 0 {
		panic("settlement: a hardware challenge that is not open is due")
	}
	after := Hardware{Silences: h.Silences, Drawing: h.Drawing}
	after.keep(kv, node)
	return nil
}

// challenged returns the open challenge that is named, judged or not.
func challenged(kv state.KV, env *Env, c *chain.HardwareChallenge) (*Hardware, *chain.Rejection) {
	h, ok := HardwareOf(kv, c.Node)
	switch {
	case c.ChainID != env.ChainID:
		return nil, chain.Reject("verdict is of chain %.32q, this is %q", c.ChainID, env.ChainID)
	case !ok || h.Due == 0:
		return nil, chain.Reject("node %s is not challenged", c.Node.Short())
	case h.Seed != c.Seed:
		return nil, chain.Reject("the challenge of node %s has another seed", c.Node.Short())
	}
	return &h, nil
}

// ReportHardware judges a challenge by the word of more than half of its peers, and two at
// least. signed says whether all verdicts are signed.
func ReportHardware(kv state.KV, env *Env, m chain.ReportHardware, signed bool) (chain.Events, *chain.Rejection) {
	if !signed {
		return nil, chain.Reject("a verdict is not signed by its peer")
	}
	node := m.Challenge.Node
	h, why := challenged(kv, env, &m.Challenge)
	switch {
	case why != nil:
		return nil, why
	case h.Judged:
		return nil, chain.Reject("the challenge of node %s was judged", node.Short())
	}
	missing, why := h.missing(m.Verdicts)
	if why != nil {
		return nil, why
	}
	finding := m.Verdicts[0].Finds()
	p, ok := ProviderOf(kv, node)
	if !ok || p.UnbondedMs != 0 {
		panic("settlement: a node left while its hardware was challenged")
	}
	loss := chain.Amount{}
	switch finding {
	case chain.HardwareShown:
		if h.Silences == 0 {
			return nil, chain.Reject("node %s showed its hardware, and was never silent", node.Short())
		}
		h.Silences = 0
	case chain.HardwareSilent:
		if h.Silences++; h.Silences < chain.MaxSilences {
			loss = sound(env.Params.JurorSlice.ShareFloor(1, silenceShare))
			break
		}
		missing = h.Lanes
		fallthrough
	case chain.HardwareShort:
		h.Silences = 0
		loss = sound(p.Bond.ShareFloor(uint64(env.Params.HardwareBps)*missing, wholeBps*h.Lanes)) // missing ≤ lanes, below 2^48 / 1,000
		p.Millicores, p.MemoryMiB = part64(p.Millicores, h.Lanes-missing, h.Lanes), part64(p.MemoryMiB, h.Lanes-missing, h.Lanes)
		state.Save(kv, ProviderKey(node), p)
	}
	h.Judged = true
	state.Save(kv, HardwareKey(node), *h)
	events, burned := burnSlice(kv, env, node, loss)
	return append(events, chain.HardwareJudged{
		Node: node, Owner: p.Owner, Finding: finding.String(), Missing: chain.Number(missing),
		Millicores: chain.Number(p.Millicores), MemoryMiB: chain.Number(p.MemoryMiB), Burned: burned,
	}), nil
}

// missing demands that enough of the peers have a verdict, and returns how many lanes that
// many of them miss at least.
func (h *Hardware) missing(verdicts []chain.HardwareVerdict) (uint64, *chain.Rejection) {
	for i := range verdicts {
		v := &verdicts[i]
		switch {
		case !slices.Contains(h.Peers, v.Peer):
			return 0, chain.Reject("node %s is not a peer of the challenge", v.Peer.Short())
		case slices.ContainsFunc(verdicts[:i], func(other chain.HardwareVerdict) bool { return other.Peer == v.Peer }):
			return 0, chain.Reject("peer %s has two verdicts", v.Peer.Short())
		case v.Finds() != verdicts[0].Finds():
			return 0, chain.Reject("verdicts differ in what they find")
		case v.Missing > h.Lanes:
			return 0, chain.Reject("peer %s misses %d of %d lanes", v.Peer.Short(), v.Missing, h.Lanes)
		}
	}
	want := chain.Quorum(len(h.Peers))
	if len(verdicts) < want {
		return 0, chain.Reject("%d of %d peers have a verdict, want %d", len(verdicts), len(h.Peers), want)
	}
	most := slices.SortedFunc(slices.Values(verdicts), func(a, b chain.HardwareVerdict) int { return cmp.Compare(b.Missing, a.Missing) })
	return most[want-1].Missing, nil
}

// burnSlice burns a part of a node's bond, as far as that is free.
func burnSlice(kv state.KV, env *Env, node crypto.PublicKey, amount chain.Amount) (chain.Events, chain.Amount) {
	p, _ := ProviderOf(kv, node) // the caller has it
	amount = lesser(amount, p.Free())
	if amount.IsZero() {
		return nil, amount
	}
	if why := lockSlice(kv, node, amount); why != nil {
		panic("settlement: what is free of a bond cannot be locked: " + why.Reason())
	}
	return chain.Events{takeSlice(kv, env, node, amount, chain.Amount{})}, amount
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
	h, _ := HardwareOf(kv, m.Node)
	if h.Held() {
		return nil, chain.Reject("the hardware of node %s is being challenged", m.Node.Short())
	}
	if env.Params.HardwareChallenges > 0 && (m.Millicores > p.Millicores || m.MemoryMiB > p.MemoryMiB) {
		queueDraw(kv, env, partHardware, crypto.Digest(m.Node))
		h.Drawing = true
		h.keep(kv, m.Node)
	}
	p.Millicores, p.MemoryMiB = m.Millicores, m.MemoryMiB
	state.Save(kv, ProviderKey(m.Node), p)
	return chain.HardwareDeclared{Node: m.Node, Owner: owner, Millicores: chain.Number(m.Millicores), MemoryMiB: chain.Number(m.MemoryMiB)}, nil
}

// AccuseMeasurer slashes a peer that signed two verdicts of a challenge that differ, while the
// challenge is open, and takes it out of the peers. Half of that is the sender's.
func AccuseMeasurer(kv state.KV, env *Env, from chain.Address, m chain.AccuseMeasurer, signed bool) (chain.Event, *chain.Rejection) {
	if !signed {
		return nil, chain.Reject("a verdict is not signed by its peer")
	}
	h, why := challenged(kv, env, &m.Challenge)
	if why != nil {
		return nil, why
	}
	peer := m.First.Peer
	at := slices.Index(h.Peers, peer)
	if at < 0 {
		return nil, chain.Reject("node %s is not a peer of the challenge", peer.Short())
	}
	p, ok := ProviderOf(kv, peer)
	if !ok || p.UnbondedMs != 0 {
		return nil, chain.Reject("provider %s is not registered", peer.Short())
	}
	h.Peers = slices.Delete(h.Peers, at, at+1)
	state.Save(kv, HardwareKey(m.Challenge.Node), *h)
	taken := lesser(p.Free(), env.Params.JurorSlice)
	if why := lockSlice(kv, peer, taken); why != nil {
		return nil, why
	}
	reward := sound(taken.ShareFloor(1, 2))
	tokens.Credit(kv, from, reward)
	return takeSlice(kv, env, peer, taken, reward), nil
}
