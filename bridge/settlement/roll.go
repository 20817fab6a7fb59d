package settlement

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// The roll numbers the bonded nodes for draws from all of them: those whose bonds have as
// many bits together, from 1 on without gaps. A bond of a class is more than half of the
// class's bound, so that a place drawn evenly below the bounds of all lies on a bond at
// least every second time, and no draw has to know what is free where.

// rollLens is how many nodes each class has, by the bits of a bond.
type rollLens []uint64

const (
	classBits = 8 // of a seat, above its number in its class
	seatBits  = 64 - classBits
)

func rollOf(r state.Reader) rollLens {
	lens, _ := state.Load[rollLens](r, rollLenKey()) // none: nobody
	return lens
}

func classOf(bond chain.Amount) uint64 { return uint64(bits.Len64(bond.Nano())) }

func seatOf(class, n uint64) uint64 { return class<<seatBits | n }

// all is how many nodes are on the roll.
func (l rollLens) all() (n uint64) {
	for _, of := range l {
		n += of
	}
	return n
}

// set notes how many nodes a class has.
func (l rollLens) set(kv state.KV, class, n uint64) {
	for uint64(len(l)) <= class {
		l = append(l, 0)
	}
	l[class] = n
	state.Save(kv, rollLenKey(), l)
}

func (l rollLens) of(class uint64) uint64 {
	if class >= uint64(len(l)) {
		return 0
	}
	return l[class]
}

func nodeAt(r state.Reader, seat uint64) crypto.PublicKey {
	value, ok := r.Get(rollKey(seat))
	if !ok || len(value) != crypto.PublicKeySize {
		panic("settlement: a seat on the roll without a node")
	}
	return crypto.PublicKey(value)
}

// joinRoll gives a node the next number of its class. The caller saves p.
func joinRoll(kv state.KV, node crypto.PublicKey, p *Provider) {
	class, lens := classOf(p.Bond), rollOf(kv)
	n := lens.of(class) + 1
	p.Seat = seatOf(class, n)
	kv.Set(rollKey(p.Seat), node[:])
	lens.set(kv, class, n)
}

// leaveRoll takes a node's number away, and gives it to the last of its class. The caller
// saves p.
func leaveRoll(kv state.KV, node crypto.PublicKey, p *Provider) {
	class, lens := p.Seat>>seatBits, rollOf(kv)
	n := lens.of(class)
	last := seatOf(class, n)
	if p.Seat == 0 || p.Seat > last || nodeAt(kv, p.Seat) != node {
		panic("settlement: a bonded node that is not on the roll")
	}
	if p.Seat != last {
		moved := nodeAt(kv, last)
		kv.Set(rollKey(p.Seat), moved[:])
		other, _ := ProviderOf(kv, moved) // it is on the roll
		other.Seat = p.Seat
		state.Save(kv, ProviderKey(moved), other)
	}
	kv.Delete(rollKey(last))
	lens.set(kv, class, n-1)
	p.Seat = 0
}

// reseat brings a node whose bond has changed to its class. The caller saves p.
func reseat(kv state.KV, node crypto.PublicKey, p *Provider) {
	if p.Seat != 0 && p.Seat>>seatBits != classOf(p.Bond) {
		leaveRoll(kv, node, p)
		joinRoll(kv, node, p)
	}
}

const (
	// drawTries bounds how many places are drawn for a seat: at least half of them are on a
	// bond, of which others may have locked a part.
	drawTries = 16
	// drawScan bounds the seats that are looked at one after another for whoever was not found
	// so: a roll that is no longer is known whole.
	drawScan = 128
	// drawSpread is how many owners for each who is wanted have to be able to stake as much.
	drawSpread = 3
	// drawCap is the multiple of the least bond above which a node is not drawn any more often.
	drawCap = 16
	// scanLots are the lots of those who are found by looking, beyond those of tries.
	scanLots = 1 << 32
)

// draw says whom to draw.
type draw struct {
	seed     crypto.Digest // Env.seed
	want     int           // at most so many nodes, of different owners
	stake    chain.Amount  // that is free of the bond of each, or less if there are too few
	least    chain.Amount  // but no less than this
	excluded func(crypto.PublicKey, *Provider) bool
}

// drawn is what a draw gives.
type drawn struct {
	nodes  []crypto.PublicKey
	stake  chain.Amount // that each of them has free
	others bool         // the roll has somebody else who may be drawn once enough of its bond is free, or too many to look at all of them
}

// drawNodes draws up to want nodes of different owners from the roll, of all that excluded
// does not name: each next with the probability that is its share of what is free, up to
// drawCap, of the bonds of those who may be drawn. The drawScan seats that follow a random
// place, or all, say what enough of them can stake. Who is not found by drawTries places for
// each is drawn among those seats; a roll that is larger and has none there gives fewer.
func drawNodes(r state.Reader, env *Env, d draw) drawn {
	c := candidates{r: r, draw: &d, most: math.MaxUint64, lens: rollOf(r)}
	if capped, ok := env.Params.ProviderBond.ShareFloor(drawCap, 1); ok {
		c.most = capped.Nano()
	}
	out := drawn{stake: d.stake}
	if d.stake.Less(d.least) {
		out.stake = d.least
	}
	for class, n := range c.lens {
		over, width := bits.Mul64(n, c.bound(class))
		total, carry := bits.Add64(c.total, width, 0)
		if over != 0 || carry != 0 { // bounds are below two bonds
			panic("settlement: bonds beyond the supply")
		}
		c.total = total
	}
	if c.total == 0 || d.want <= 0 {
		return out
	}
	seen := c.window()
	out.stake = c.afford(seen, out.stake)
	if c.lens.all() > drawScan {
		for try := uint64(0); try < uint64(d.want*drawTries) && len(c.nodes) < d.want; try++ {
			c.try(scale(lot(d.seed, try), c.total), out.stake)
		}
	}
	c.fill(seen, out.stake)
	out.nodes, out.others = c.nodes, c.others || c.lens.all() > drawScan
	return out
}

// candidates is the roll as a draw sees it.
type candidates struct {
	*draw
	r     state.Reader
	most  uint64
	lens  rollLens
	total uint64 // of the bounds of all seats
	nodes []crypto.PublicKey
	taken []chain.Address // their owners

	others bool // somebody who may be drawn once enough of its bond is free was looked at
}

// bound is what no node of a class weighs more than.
func (c *candidates) bound(class int) uint64 {
	switch {
	case class == 0: // no bond
		return 0
	case class == 64:
		return c.most
	}
	return min(1<<class, c.most)
}

// at returns the seat that a place is in, and how far.
func (c *candidates) at(place uint64) (seat, offset uint64) {
	for class, n := range c.lens {
		bound := c.bound(class)
		if width := n * bound; place >= width {
			place -= width
			continue
		}
		return seatOf(uint64(class), place/bound+1), place % bound
	}
	panic("settlement: a place beyond the roll")
}

// candidate is a node that may be drawn.
type candidate struct {
	node   crypto.PublicKey
	owner  chain.Address
	free   chain.Amount
	weight uint64 // what of that counts
}

// weigh returns a node of the roll; without a weight, if it may not be drawn with a stake.
func (c *candidates) weigh(seat uint64, stake chain.Amount) candidate {
	node := nodeAt(c.r, seat)
	p, ok := ProviderOf(c.r, node)
	if !ok {
		panic("settlement: a node on the roll without a record")
	}
	if slices.Contains(c.taken, p.Owner) || c.excluded(node, &p) {
		return candidate{}
	}
	if owned := sound(p.Bond.Sub(lesser(p.Owed, p.Bond))); !owned.Less(c.least) { // else it can never be drawn
		c.others = true
	}
	free := p.Free()
	if free.Less(stake) {
		return candidate{}
	}
	return candidate{node, p.Owner, free, min(free.Nano(), c.most)}
}

func (c *candidates) take(x candidate) {
	c.nodes, c.taken = append(c.nodes, x.node), append(c.taken, x.owner)
}

// try takes the node that a place lies on, if it lies on what is free of its bond.
func (c *candidates) try(place uint64, stake chain.Amount) {
	seat, offset := c.at(place)
	if x := c.weigh(seat, stake); offset < x.weight {
		c.take(x)
	}
}

// window returns who may be drawn with the least stake among drawScan seats from a random
// place on, or among all if there are no more.
func (c *candidates) window() (list []candidate) {
	seat, _ := c.at(scale(lot(c.seed, scanLots-1), c.total))
	class, n := seat>>seatBits, seat&(1<<seatBits-1)
	for range min(c.lens.all(), drawScan) {
		for n > c.lens.of(class) { // on to the next class that has nodes
			class, n = (class+1)%uint64(len(c.lens)), 1
		}
		if x := c.weigh(seatOf(class, n), c.least); x.weight > 0 {
			list = append(list, x)
		}
		n++
	}
	return list
}

// fill draws whoever is missing among those of a list.
func (c *candidates) fill(list []candidate, stake chain.Amount) {
	list = slices.DeleteFunc(list, func(x candidate) bool { return x.free.Less(stake) || slices.Contains(c.taken, x.owner) })
	for k := uint64(0); len(c.nodes) < c.want && len(list) > 0; k++ {
		total := uint64(0)
		for _, x := range list {
			total += x.weight // within the supply
		}
		mark := scale(lot(c.seed, scanLots+k), total)
		at := slices.IndexFunc(list, func(x candidate) bool {
			if mark < x.weight {
				return true
			}
			mark -= x.weight
			return false
		})
		found := list[at]
		c.take(found)
		list = slices.DeleteFunc(list, func(x candidate) bool { return x.owner == found.owner })
	}
}

// afford lowers a stake to what enough owners of a list have free: so many that it is not
// known beforehand who of them will be drawn, and half of them all, or a stake that few can
// pay would have those few judge.
func (c *candidates) afford(list []candidate, stake chain.Amount) chain.Amount {
	rich := slices.SortedStableFunc(slices.Values(list), func(x, y candidate) int { return cmp.Compare(y.free.Nano(), x.free.Nano()) })
	var best []candidate // of each owner
	for _, x := range rich {
		if !slices.ContainsFunc(best, func(b candidate) bool { return b.owner == x.owner }) {
			best = append(best, x)
		}
	}
	if enough := min(max(drawSpread*c.want, (len(best)+1)/2), len(best)); enough > 0 && best[enough-1].free.Less(stake) {
		stake = best[enough-1].free
	}
	if stake.Less(c.least) {
		return c.least
	}
	return stake
}

// lot returns the n-th random number of a draw, and scale brings it to 0 … n − 1.
func lot(seed crypto.Digest, n uint64) uint64 {
	drawn := crypto.DomainDraw.Hash(binary.BigEndian.AppendUint64(seed[:], n))
	return binary.BigEndian.Uint64(drawn[:8])
}

func scale(lot, n uint64) uint64 {
	scaled, _ := bits.Mul64(lot, n)
	return scaled
}
