package meter

import "github.com/hypermesh/hypermesh/internal/wasm"

// Weights are what instructions cost, in points.
type Weights struct {
	Plain      [256]uint16 // by opcode
	Saturating uint16      // a saturating conversion
	Entry      uint16      // of a function, for its frame
	Local      uint16      // of a function, for each parameter and local, which it may move
	Page       uint32      // of memory that grows, its first use included
	Far        Far         // of accesses, in a large memory
}

// Far is what accesses cost beside their own weights: shares, each of which costs a point
// for every 1 << Shift pages that the memory has beyond Near, and Most at most. What a
// processor waits for grows with the memory: of loads one may need what another has
// brought, of stores none does.
type Far struct {
	Load, Store uint16 // shares
	Near        uint16 // pages, what a processor keeps close by
	Shift       byte
	Most        uint16
}

// of is what a share costs in a memory of so many pages.
func (f *Far) of(pages uint32) int64 {
	if pages <= uint32(f.Near) {
		return 0
	}
	return int64(min((pages-uint32(f.Near))>>f.Shift, uint32(f.Most)))
}

// span is what the instructions from first to last cost.
type span struct {
	first, last byte
	weight      uint16
}

// WeightsV1 returns the table of version 1. A point stands for about a quarter of a
// nanosecond of a core of 2024: what an addition takes. Instructions that only
// tell where others begin or end cost nothing, but no loop is without a branch,
// and a branch costs. A load is weighed as one that waits for another from the
// second cache, where a megabyte is.
func WeightsV1() *Weights {
	w := &Weights{Saturating: 12, Entry: 12, Local: 1, Page: 100_000, Far: Far{Load: 8, Store: 1, Near: 9, Shift: 2, Most: 50}}
	for _, s := range []span{
		{0x0c, 0x0c, 3},   // br
		{0x0d, 0x0d, 3},   // br_if
		{0x04, 0x04, 3},   // if
		{0x0e, 0x0e, 10},  // br_table
		{0x0f, 0x0f, 1},   // return
		{0x10, 0x10, 6},   // call
		{0x11, 0x11, 20},  // call_indirect
		{0x1b, 0x1b, 2},   // select
		{0x20, 0x22, 1},   // local.get, set, tee
		{0x23, 0x24, 3},   // global.get, set
		{0x28, 0x35, 12},  // loads
		{0x36, 0x3e, 4},   // stores
		{0x3f, 0x3f, 4},   // memory.size
		{0x40, 0x40, 250}, // memory.grow, and its pages
		{0x41, 0x44, 1},   // constants
		{0x45, 0xc4, 1},   // what computes, but for:
		{0x67, 0x69, 3},   // i32.clz, ctz, popcnt
		{0x79, 0x7b, 3},   // i64.clz, ctz, popcnt
		{0x6c, 0x6c, 3},   // i32.mul
		{0x7e, 0x7e, 3},   // i64.mul
		{0x6d, 0x70, 32},  // i32.div, rem
		{0x7f, 0x82, 48},  // i64.div, rem
		{0x5b, 0x66, 4},   // comparisons of floats
		{0x8b, 0xa6, 12},  // arithmetic of floats, with the one NaN
		{0x96, 0x97, 16},  // f32.min, max
		{0xa4, 0xa5, 16},  // f64.min, max
		{0xa8, 0xab, 12},  // i32.trunc_*
		{0xae, 0xb1, 12},  // i64.trunc_*
		{0xb2, 0xbb, 12},  // conversions to floats
		{0xbc, 0xbf, 2},   // reinterpretations

		// What takes a processor far longer on numbers next to 0 than on others.
		{0x91, 0x95, 200}, // f32.sqrt, add, sub, mul, div
		{0x9f, 0xa3, 200}, // f64.sqrt, add, sub, mul, div
		{0xb6, 0xb6, 200}, // f32.demote_f64
		{0xbb, 0xbb, 200}, // f64.promote_f32
	} {
		for op := int(s.first); op <= int(s.last); op++ {
			w.Plain[op] = s.weight
		}
	}
	return w
}

// of is what an instruction costs.
func (w *Weights) of(op wasm.Op) int64 {
	if op > 0xff {
		return int64(w.Saturating)
	}
	return int64(w.Plain[op])
}

// shares are those of an access.
func (w *Weights) shares(op wasm.Op) int64 {
	switch {
	case op >= wasm.OpI32Load && op <= wasm.OpI64Load32U:
		return int64(w.Far.Load)
	case op >= wasm.OpI32Store && op <= wasm.OpI64Store32:
		return int64(w.Far.Store)
	default:
		return 0
	}
}
