package meter

import (
	"encoding/binary"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// The pass adds four globals, and exports the first three.
const (
	addedPoints = iota // i64
	addedStack         // i32
	addedReason        // i32
	addedFar           // i64, what a share of an access costs more, in a memory as large as it is
	addedGlobals
)

// The exports that the pass adds, all mutable globals. Whoever runs a module sets
// the first two before it calls it, and reads the last after it has trapped.
const (
	GlobalPoints = reservedPrefix + "points" // i64, what is left; spent if negative
	GlobalStack  = reservedPrefix + "stack"  // i32, bytes that are left, StackBytes at first
	GlobalReason = reservedPrefix + "reason" // i32, a Reason
)

var addedNames = [addedFar]string{addedPoints: GlobalPoints, addedStack: GlobalStack, addedReason: GlobalReason}

// The pass adds these functions behind the module's own.
const (
	addedSpent    = iota // () → (): stop, points are used up
	addedOverflow        // () → (): stop, the stack is used up
	addedGrow            // (pages i32) → i32: memory.grow, charged
	addedFunctions
)

// Reason is why a module stopped itself.
type Reason int32

// The reasons why modules stop themselves.
const (
	ReasonNone     Reason = 0 // it did not
	ReasonSpent    Reason = 1 // its points are used up
	ReasonOverflow Reason = 2 // its stack is used up
	ReasonHost     Reason = 3 // the host had no memory that the contract may have
)

// meter rewrites one function: it charges each straight run of instructions
// before the first of it, checks what is left where a function begins and where
// a loop does, and takes the function's frame from the stack for as long as it
// runs.
//
// A run begins where a function or a loop begins, behind a branch that may not
// be taken, where ways meet, and at the first access to the memory behind a call, since
// what an access costs depends on how large the memory is then; calls alone do not end it. Between two checks there
// is no way back, so what runs unpaid is at most one function's text, once for
// each frame.
type meter struct {
	shape
	weights *Weights
	globals uint32 // index of the first added global
	added   uint32 // index of the first added function
	results []byte // of the function

	out    []byte // finished
	run    []byte // instructions of the run
	points int64  // of the run
	shares int64  // of its accesses, each of which costs what is in the global
	called bool   // whether the run calls what may have the memory grow
	check  bool   // whether the run begins with a check
	blocks []metered
	dead   int // blocks, with the one around, until code is reached again
}

// metered is a block that is open.
type metered struct {
	op       wasm.Op
	targeted bool // by a branch to its end
}

// rewrite returns a valid body with charges.
func (w *meter) rewrite(body []byte) []byte {
	w.out = append(make([]byte, 0, 2*len(body)+64), body[:w.code]...)
	w.enter()
	w.points, w.check = int64(w.weights.Entry)+int64(w.weights.Local)*int64(w.locals), true
	w.blocks = append(w.blocks, metered{op: wasm.OpBlock})
	for r := wasm.NewReader(body[w.code:]); !r.Done(); {
		in := r.Instruction()
		if r.Err() != nil {
			panic("meter: a function that was valid cannot be read: " + r.Err().Error())
		}
		if !w.skips(in.Op) {
			w.step(&in)
		}
	}
	if len(w.blocks) != 0 {
		panic("meter: a function that was valid has no end")
	}
	return w.out
}

// skips reports whether an instruction is never reached, and left out.
func (w *meter) skips(op wasm.Op) bool {
	if w.dead == 0 {
		return false
	}
	switch op {
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
		w.dead++
	case wasm.OpEnd:
		w.dead--
	case wasm.OpElse:
		if w.dead == 1 {
			w.dead = 0
		}
	default:
	}
	return w.dead > 0
}

// step passes on one instruction.
func (w *meter) step(in *wasm.Instruction) {
	shares := w.weights.shares(in.Op)
	if shares > 0 && w.called {
		w.flush()
	}
	w.points += w.weights.of(in.Op)
	w.shares += shares
	switch in.Op {
	case wasm.OpBlock:
		w.run = append(w.run, in.Raw...)
		w.blocks = append(w.blocks, metered{op: in.Op})
	case wasm.OpLoop, wasm.OpIf:
		w.run = append(w.run, in.Raw...)
		w.flush()
		w.check = in.Op == wasm.OpLoop
		w.blocks = append(w.blocks, metered{op: in.Op})
	case wasm.OpElse:
		w.flush()
		w.out = append(w.out, in.Raw...)
	case wasm.OpEnd:
		w.end()
	case wasm.OpBr, wasm.OpBrIf, wasm.OpBrTable:
		w.target(in)
		w.run = append(w.run, in.Raw...)
		w.flush()
		if in.Op != wasm.OpBrIf {
			w.dead = 1
		}
	case wasm.OpReturn, wasm.OpUnreachable:
		if in.Op == wasm.OpReturn && w.calls { // to the end of the block that enter began
			w.run = append(w.run, byte(wasm.OpBr))
			w.run = binary.AppendUvarint(w.run, uint64(len(w.blocks)-1))
		} else {
			w.run = append(w.run, in.Raw...)
		}
		w.flush()
		w.dead = 1
	case wasm.OpMemoryGrow:
		w.run, w.called = w.call(w.run, addedGrow), true
	case wasm.OpCall:
		w.run, w.called = append(w.run, in.Raw...), true
	case wasm.OpCallIndirect: // the table's index may be written in more than a byte
		w.called = true
		w.run = append(w.run, byte(in.Op))
		w.run = append(binary.AppendUvarint(w.run, in.A), 0)
	default:
		w.run = append(w.run, in.Raw...)
	}
}

// end closes a block. Where nothing but the run itself comes to its end, the run
// goes on.
func (w *meter) end() {
	b := w.blocks[len(w.blocks)-1]
	w.blocks = w.blocks[:len(w.blocks)-1]
	switch {
	case len(w.blocks) == 0:
		w.flush()
		w.leave()
	case b.op == wasm.OpIf || b.op == wasm.OpBlock && b.targeted:
		w.flush()
		w.out = append(w.out, byte(wasm.OpEnd))
	default:
		w.run = append(w.run, byte(wasm.OpEnd))
	}
}

// target notes where a branch may go.
func (w *meter) target(in *wasm.Instruction) {
	labels := in.Targets
	if in.Op != wasm.OpBrTable {
		labels = []uint32{uint32(in.A)}
	}
	for _, label := range labels {
		w.blocks[len(w.blocks)-1-int(label)].targeted = true
	}
}

// flush writes the run behind its charge.
func (w *meter) flush() {
	if w.shares > 0 && w.points == 0 {
		panic("meter: an access that costs nothing")
	}
	if w.points > 0 {
		w.global(wasm.OpGlobalGet, addedPoints)
		w.out = append(w.out, byte(wasm.OpI64Const))
		w.out = wasm.AppendSigned(w.out, w.points)
		w.out = append(w.out, byte(wasm.OpI64Sub))
		if w.shares > 0 {
			w.global(wasm.OpGlobalGet, addedFar)
			w.out = append(w.out, byte(wasm.OpI64Const))
			w.out = wasm.AppendSigned(w.out, w.shares)
			w.out = append(w.out, byte(wasm.OpI64Mul), byte(wasm.OpI64Sub))
		}
		w.global(wasm.OpGlobalSet, addedPoints)
	}
	if w.check {
		w.global(wasm.OpGlobalGet, addedPoints)
		w.out = append(w.out, byte(wasm.OpI64Const), 0, byte(wasm.OpI64LtS))
		w.orStop(addedSpent)
	}
	w.out = append(w.out, w.run...)
	w.run, w.points, w.shares, w.called, w.check = w.run[:0], 0, 0, false, false
}

func (w *meter) global(op wasm.Op, which uint32) {
	w.out = append(w.out, byte(op))
	w.out = binary.AppendUvarint(w.out, uint64(w.globals+which))
}

func (w *meter) call(out []byte, which uint32) []byte {
	return binary.AppendUvarint(append(out, byte(wasm.OpCall)), uint64(w.added+which))
}

// orStop calls a function that stops the module if the top of the stack is not
// zero.
func (w *meter) orStop(which uint32) {
	w.out = append(w.out, byte(wasm.OpIf), wasm.EmptyType)
	w.out = w.call(w.out, which)
	w.out = append(w.out, byte(wasm.OpEnd))
}

func (w *meter) frame() []byte {
	return wasm.AppendSigned([]byte{byte(wasm.OpI32Const)}, int64(w.frameBytes()))
}

// enter checks that there is room for the frame. A function that calls others
// takes it, and its instructions go into a block, to whose end it returns.
func (w *meter) enter() {
	w.global(wasm.OpGlobalGet, addedStack)
	w.out = append(w.out, w.frame()...)
	if w.calls {
		w.out = append(w.out, byte(wasm.OpI32Sub))
		w.global(wasm.OpGlobalSet, addedStack)
		w.global(wasm.OpGlobalGet, addedStack)
		w.out = append(w.out, byte(wasm.OpI32Const), 0)
	}
	w.out = append(w.out, byte(wasm.OpI32LtS))
	w.orStop(addedOverflow)
	if w.calls {
		w.out = append(w.out, byte(wasm.OpBlock), w.resultType())
	}
}

func (w *meter) resultType() byte {
	if len(w.results) == 0 {
		return wasm.EmptyType
	}
	return w.results[0]
}

// leave gives the frame back and ends the function.
func (w *meter) leave() {
	if w.calls {
		w.out = append(w.out, byte(wasm.OpEnd))
		w.global(wasm.OpGlobalGet, addedStack)
		w.out = append(w.out, w.frame()...)
		w.out = append(w.out, byte(wasm.OpI32Add))
		w.global(wasm.OpGlobalSet, addedStack)
	}
	w.out = append(w.out, byte(wasm.OpEnd))
}

// stopBody is (func (global.set reason) unreachable).
func (w *meter) stopBody(reason Reason) []byte {
	w.out = []byte{0}
	w.stop(reason)
	return append(w.out, byte(wasm.OpEnd))
}

func (w *meter) stop(reason Reason) {
	w.out = append(w.out, byte(wasm.OpI32Const), byte(reason))
	w.global(wasm.OpGlobalSet, addedReason)
	w.out = append(w.out, byte(wasm.OpUnreachable))
}

// growBody is (func (param i32) (result i32) (local i32)): −1 if the memory may
// not have so many pages more, else the pages are paid for and it has them, and accesses
// cost what they do in so large a memory. Then an answer of −1 is the host's fault. most is the pages that it may have.
func (w *meter) growBody(most uint32) []byte {
	const get, constant = byte(wasm.OpLocalGet), byte(wasm.OpI32Const)
	w.out = []byte{1, 1, wasm.I32, get, 0, constant}
	w.out = wasm.AppendSigned(w.out, int64(most))
	w.out = append(w.out,
		byte(wasm.OpMemorySize), 0, byte(wasm.OpI32Sub), byte(wasm.OpI32GtU),
		byte(wasm.OpIf), wasm.EmptyType, constant, 0x7f, byte(wasm.OpReturn), byte(wasm.OpEnd))
	w.global(wasm.OpGlobalGet, addedPoints)
	w.out = append(w.out, get, 0, byte(wasm.OpI64ExtendU), byte(wasm.OpI64Const))
	w.out = wasm.AppendSigned(w.out, int64(w.weights.Page))
	w.out = append(w.out, byte(wasm.OpI64Mul), byte(wasm.OpI64Sub))
	w.global(wasm.OpGlobalSet, addedPoints)
	w.global(wasm.OpGlobalGet, addedPoints)
	w.out = append(w.out, byte(wasm.OpI64Const), 0, byte(wasm.OpI64LtS))
	w.orStop(addedSpent)
	w.out = append(w.out, get, 0, byte(wasm.OpMemoryGrow), 0, byte(wasm.OpLocalTee), 1,
		constant, 0x7f, byte(wasm.OpI32Eq), byte(wasm.OpIf), wasm.EmptyType)
	w.stop(ReasonHost)
	w.out = append(w.out, byte(wasm.OpEnd))
	w.setFar()
	return append(w.out, get, 1, byte(wasm.OpEnd))
}

// setFar sets what a share of an access costs in a memory as large as it is now, as Far.of
// says. It uses local 0.
func (w *meter) setFar() {
	const get, set, constant = byte(wasm.OpLocalGet), byte(wasm.OpLocalSet), byte(wasm.OpI32Const)
	far := &w.weights.Far
	w.out = append(w.out, byte(wasm.OpMemorySize), 0, constant)
	w.out = wasm.AppendSigned(w.out, int64(far.Near))
	w.out = append(w.out, byte(wasm.OpI32Sub), set, 0, // pages beyond the near ones, if there are any
		get, 0, constant, 0, constant, 0, get, 0, byte(wasm.OpI32LtS), byte(wasm.OpSelect),
		constant, far.Shift, byte(wasm.OpI32ShrU), set, 0,
		get, 0, constant)
	w.out = wasm.AppendSigned(w.out, int64(far.Most))
	w.out = append(w.out, get, 0, constant)
	w.out = wasm.AppendSigned(w.out, int64(far.Most))
	w.out = append(w.out, byte(wasm.OpI32LtS), byte(wasm.OpSelect), byte(wasm.OpI64ExtendU))
	w.global(wasm.OpGlobalSet, addedFar)
}
