package settlement

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/state"
)

// The roll numbers the bonded nodes from 1 on without gaps, for draws from all of them.

// rollLen returns how many nodes are on the roll.
func rollLen(r state.Reader) uint64 {
	n, _ := state.Load[uint64](r, rollLenKey()) // none: nobody
	return n
}

func nodeAt(r state.Reader, seat uint64) crypto.PublicKey {
	value, ok := r.Get(rollKey(seat))
	if !ok || len(value) != crypto.PublicKeySize {
		panic("settlement: a seat on the roll without a node")
	}
	return crypto.PublicKey(value)
}

// joinRoll gives a node the next number. The caller saves p.
func joinRoll(kv state.KV, node crypto.PublicKey, p *Provider) {
	p.Seat = rollLen(kv) + 1
	kv.Set(rollKey(p.Seat), node[:])
	state.Save(kv, rollLenKey(), p.Seat)
}

// leaveRoll takes a node's number away, and gives it to the last. The caller saves p.
func leaveRoll(kv state.KV, node crypto.PublicKey, p *Provider) {
	last := rollLen(kv)
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
	state.Save(kv, rollLenKey(), last-1)
	p.Seat = 0
}

const (
	// drawTries bounds how often a seat is drawn for: with the poorest of nodes alone 15 of
	// 16 tries fail, and on a small roll most nodes may be excluded.
	drawTries = 128
	// drawCap is the multiple of the least bond above which a node is not drawn any more often.
	drawCap = 16
)

// draw says whom to draw.
type draw struct {
	seed     crypto.Digest // Env.seed
	want     int           // at most so many nodes, of different owners
	least    chain.Amount  // that is free of the bond of each
	excluded func(crypto.PublicKey, *Provider) bool
}

// drawNodes draws up to want nodes of different owners from the roll, by what of their
// bonds is free, which is at least least: of all that excluded does not name. There may be
// fewer: a roll that is small or poor gives what it finds in drawTries for each.
func drawNodes(r state.Reader, env *Env, d draw) []crypto.PublicKey {
	roll := rollLen(r)
	if roll == 0 {
		return nil
	}
	most := uint64(math.MaxUint64)
	if capped, ok := env.Params.ProviderBond.ShareFloor(drawCap, 1); ok {
		most = capped.Nano()
	}
	var nodes []crypto.PublicKey
	var owners []chain.Address
	for try := range uint64(d.want * drawTries) {
		if len(nodes) == d.want {
			break
		}
		lot := crypto.DomainDraw.Hash(binary.BigEndian.AppendUint64(d.seed[:], try))
		seat, _ := bits.Mul64(binary.BigEndian.Uint64(lot[:8]), roll)
		node := nodeAt(r, seat+1)
		p, ok := ProviderOf(r, node)
		if !ok {
			panic("settlement: a node on the roll without a record")
		}
		free := p.Free()
		mark, _ := bits.Mul64(binary.BigEndian.Uint64(lot[8:16]), most)
		if free.Less(d.least) || mark >= free.Nano() || slices.Contains(owners, p.Owner) || d.excluded(node, &p) {
			continue
		}
		nodes, owners = append(nodes, node), append(owners, p.Owner)
	}
	return nodes
}
