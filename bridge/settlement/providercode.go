package settlement

import (
	"github.com/hypermesh/hypermesh/internal/chain"
	"github.com/hypermesh/hypermesh/internal/codec"
	"github.com/hypermesh/hypermesh/internal/state"
)

// The record of a node is read by hand like those of leases and orders: each claim reads one.

func decodeProvider(key, value []byte) Provider {
	if p, ok := readProvider(value); ok {
		return p
	}
	return state.Decode[Provider](key, value)
}

func readProvider(value []byte) (p Provider, ok bool) {
	r := codec.NewReader(value)
	r.Array(11)
	r.Fixed(p.Owner[:])
	p.Bond = chain.Nano(r.Uint())
	p.Region = r.Text(chain.MaxRegion)
	p.Millicores, p.MemoryMiB = r.Uint(), r.Uint()
	p.UnbondedMs = chain.TimeMs(r.Uint())
	readRecord(r, &p.Record)
	p.Locked = chain.Nano(r.Uint())
	p.Seat, p.Unchecked = r.Uint(), r.Uint()
	p.Owed = chain.Nano(r.Uint())
	return p, r.Done()
}
