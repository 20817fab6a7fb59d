package meter

import (
	"slices"

	"github.com/hypermesh/hypermesh/internal/wasm"
)

// shape is what the pass needs to know of a valid function.
type shape struct {
	code         int // where its instructions begin in its body
	locals       int // parameters included
	height       int // most values at once on the operand stack
	instructions int
	calls        bool // other functions of the module, or the host
	floats       bool // in locals or on the operand stack
	joins        int  // values that may meet where ways meet
	ways         int  // loops, arms, labels of branches, and those of indirect calls
	carried      int  // values that branches take
	spans        int  // the locals, and values on the operand stack, that each way goes past, and what branches take
	computed     int  // instructions that compute floats, or convert from or to them
	loops        int
	divisions    int // of integers
	moves        int // of values that may have to be moved where ways meet
	sizes        int // instructions that ask how large the memory is, or grow it
	past         int // values, locals and on the operand stack, that ways go past
	beyond       int // values, beside those that fit a processor, past which instructions take and give others
}

// unknown is the type of a value that unreachable code takes from nowhere.
const unknown = 0

// block is a block that is open (WebAssembly 2.0, appendix A.3).
type block struct {
	op              wasm.Op
	params, results []byte
	base            int // height of the stack below it
	unreachable     bool
	branches        int // to its label
}

// label is what a branch to the block takes.
func (b *block) label() []byte {
	if b.op == wasm.OpLoop {
		return b.params
	}
	return b.results
}

// validator follows the types of one function's instructions.
type validator struct {
	*wasm.Reader
	shape
	m       *module
	locals  []byte
	stack   []byte
	blocks  []block
	targets int
	joined  joins
	inside  int // of so many loops
}

// validate checks the body of a function of some type. The error is a *Refusal.
func validate(m *module, of functionType, body []byte) (shape, error) {
	v := &validator{Reader: wasm.NewReader(body), m: m}
	if len(body) > maxFunctionBytes {
		return shape{}, refuse(RuleSize, "body of %d bytes, limit %d", len(body), maxFunctionBytes)
	}
	v.declare(of)
	v.code = v.Pos()
	v.joined.begin(len(v.locals))
	v.pushBlock(block{op: wasm.OpBlock, results: of.results})
	for !v.Done() && len(v.blocks) > 0 {
		in := v.Instruction()
		if v.Err() != nil {
			break
		}
		v.instructions++
		v.step(&in)
	}
	switch {
	case v.Err() != nil:
		return shape{}, refusal(v.Err())
	case len(v.blocks) > 0:
		return shape{}, refuse(RuleFormat, "%d blocks are not closed", len(v.blocks))
	case !v.Done():
		return shape{}, refuse(RuleFormat, "%d bytes after the end of a function", len(v.Rest()))
	}
	v.shape.locals = len(v.locals)
	return v.shape, nil
}

// declare reads the locals.
func (v *validator) declare(of functionType) {
	v.locals = append(v.locals, of.params...)
	for groups := v.U32(); groups > 0 && v.Err() == nil; groups-- {
		count, of := v.U32(), v.Byte()
		if v.Err() != nil {
			return
		}
		if uint64(len(v.locals))+uint64(count) > maxLocals {
			v.Fail(refuse(RuleSize, "more than %d locals", maxLocals))
			return
		}
		if !numeric(of) {
			v.Fail(badType(of))
			return
		}
		for range count {
			v.locals = append(v.locals, of)
		}
	}
}

func (v *validator) invalid(format string, args ...any) { v.Fail(refuse(RuleInvalid, format, args...)) }

func (v *validator) push(of byte) {
	v.stack = append(v.stack, of)
	v.height = max(v.height, len(v.stack))
	v.floats = v.floats || float(of)
	if len(v.stack) > maxHeight {
		v.Fail(refuse(RuleSize, "more than %d values on the operand stack", maxHeight))
	}
}

func (v *validator) pushAll(of []byte) {
	for _, one := range of {
		v.push(one)
	}
}

// pop takes a value of a type, or of any if that is unknown, and returns of
// which it was, as far as that is known.
func (v *validator) pop(want byte) byte {
	top := &v.blocks[len(v.blocks)-1]
	if len(v.stack) == top.base {
		if !top.unreachable {
			v.invalid("an instruction lacks an operand")
		}
		return unknown
	}
	got := v.stack[len(v.stack)-1]
	v.stack = v.stack[:len(v.stack)-1]
	if want != unknown && got != unknown && got != want {
		v.invalid("an operand of type 0x%02x, want 0x%02x", got, want)
	}
	return got
}

func (v *validator) popAll(of []byte) {
	for i := len(of) - 1; i >= 0 && v.Err() == nil; i-- {
		v.pop(of[i])
	}
}

// open begins a block.
func (v *validator) open(op wasm.Op, of functionType) {
	v.popAll(of.params)
	if len(v.blocks) > maxNesting {
		v.Fail(refuse(RuleSize, "blocks nest deeper than %d", maxNesting))
		return
	}
	if op == wasm.OpLoop {
		v.loops++
		if v.inside++; v.inside > maxLoops {
			v.Fail(refuse(RuleSize, "loops nest deeper than %d", maxLoops))
			return
		}
	}
	switch op {
	case wasm.OpLoop:
		v.way(1, len(of.params)) // the way in takes them, as a branch does
	case wasm.OpIf:
		v.way(1, 0)
	default:
	}
	v.pushBlock(block{op: op, params: of.params, results: of.results, base: len(v.stack)})
}

// shut ends the innermost block.
func (v *validator) shut() block {
	top := v.blocks[len(v.blocks)-1]
	v.merged(&top)
	v.popAll(top.results)
	if v.Err() == nil && len(v.stack) != top.base {
		v.invalid("a block leaves %d values too many", len(v.stack)-top.base)
	}
	v.blocks = v.blocks[:len(v.blocks)-1]
	return top
}

// merged counts what meets where a block begins or ends.
func (v *validator) merged(b *block) {
	if b.op == wasm.OpLoop {
		v.inside--
	}
	if b.op != wasm.OpLoop && len(v.blocks) > 1 {
		v.way(0, len(b.results)) // the end of an arm, or of a block, comes to where its branches do
	}
	v.joined.shut(len(v.blocks) > 1 && (b.op != wasm.OpBlock || b.branches > 0), b.branches+2)
	v.moves = v.joined.moves
	v.moved()
	if v.shape.joins = v.joined.values; v.shape.joins > maxJoins {
		v.Fail(refuse(RuleSize, "more than %d values meet", maxJoins))
	}
}

// way counts ways that may be taken, or not: a compiler looks at each local, and whether
// it is used later, at each of them, and at what is on the operand stack, and moves each value that a branch takes.
func (v *validator) way(more, takes int) {
	v.ways += more
	v.carried += takes
	values := len(v.locals) + len(v.stack)
	v.past += more * values
	if v.spans += more*(values+wayLocals) + takes; v.spans > maxSpans {
		v.Fail(refuse(RuleSize, "%d ways past %d locals, %d and what is on the operand stack, with %d values, come to more than %d", v.ways, len(v.locals), wayLocals, v.carried, maxSpans))
	}
	v.moved()
}

// moved bounds how many values may be moved where ways meet.
func (v *validator) moved() {
	if v.moves+v.carried > maxMoves {
		v.Fail(refuse(RuleSize, "more than %d values are moved where ways meet", maxMoves))
	}
}

// leave says that what follows in the block is not reached.
func (v *validator) leave() {
	if v.Err() == nil {
		top := &v.blocks[len(v.blocks)-1]
		v.stack = v.stack[:top.base]
		top.unreachable = true
	}
}

// target is what a branch to a label takes.
func (v *validator) target(label uint64) []byte {
	if label >= uint64(len(v.blocks)) {
		v.invalid("a branch to label %d of %d", label, len(v.blocks))
		return nil
	}
	b := &v.blocks[uint64(len(v.blocks))-1-label]
	b.branches++
	v.way(1, len(b.label()))
	return b.label()
}

// blockType is the type that a block names. What is no index of a type is one byte:
// longer forms of it are invalid.
func (v *validator) blockType(in *wasm.Instruction) functionType {
	n := int64(in.A)
	switch {
	case n < 0 && len(in.Raw) != 2:
		v.Fail(refuse(RuleFormat, "a block's type of %d bytes", len(in.Raw)-1))
		return functionType{}
	case n == wasm.EmptyType-0x80:
		return functionType{}
	case n < 0:
		of := byte(n & 0x7f)
		if n < -64 || !numeric(of) {
			v.Fail(badType(of))
		}
		return functionType{results: []byte{of}}
	case n >= int64(len(v.m.types)):
		v.invalid("a block of type %d of %d", n, len(v.m.types))
		return functionType{}
	default:
		return v.m.types[n]
	}
}

// step checks one instruction.
func (v *validator) step(in *wasm.Instruction) {
	if err := checkOp(in.Op); err != nil {
		v.Fail(err)
		return
	}
	if op := in.Op; op >= wasm.OpI32Load && op <= wasm.OpI64Store32 || op >= wasm.OpI32Eqz || op == wasm.OpSelect || op == wasm.OpCall || op == wasm.OpCallIndirect || op == wasm.OpGlobalSet {
		v.beyond += max(0, len(v.locals)+len(v.stack)-fewValues)
	}
	switch op := in.Op; {
	case op <= wasm.OpCallIndirect:
		v.control(in)
	case op >= wasm.OpLocalGet && op <= wasm.OpGlobalSet:
		v.variable(in)
	case op >= wasm.OpI32Load && op <= wasm.OpI64Store32:
		v.access(in)
	case op == wasm.OpDrop:
		v.pop(unknown)
	case op == wasm.OpSelect:
		v.pop(wasm.I32)
		first := v.pop(unknown)
		v.push(max(first, v.pop(first))) // the one that is known
	case op == wasm.OpMemorySize || op == wasm.OpMemoryGrow:
		v.sizes++
		if len(in.Raw) != 2 || in.B != 0 || !v.m.hasMemory {
			v.invalid("memory %d is not there", in.B)
		}
		if op == wasm.OpMemoryGrow {
			v.pop(wasm.I32)
		}
		v.push(wasm.I32)
	case op >= wasm.OpI32Const && op <= wasm.OpF64Const:
		v.push(wasm.I32 - byte(op-wasm.OpI32Const))
	case op >= wasm.OpI32Eqz && op <= wasm.OpI64Extend32S:
		if op >= wasm.OpI32DivS && op <= wasm.OpI32RemU || op >= wasm.OpI64DivS && op <= wasm.OpI64RemU {
			v.divisions++
		}
		v.numeric(signatures[op-wasm.OpI32Eqz])
	default: // checkOp leaves the saturating conversions
		v.numeric(saturating[op&7])
	}
}

// float reports whether a value is one.
func float(of byte) bool { return of == wasm.F32 || of == wasm.F64 }

func (v *validator) numeric(s signature) {
	if float(s.first) || float(s.result) {
		v.computed++
	}
	if s.second != 0 {
		v.pop(s.second)
	}
	v.pop(s.first)
	v.push(s.result)
}

func (v *validator) control(in *wasm.Instruction) {
	switch in.Op {
	case wasm.OpUnreachable:
		v.leave()
	case wasm.OpBlock, wasm.OpLoop, wasm.OpIf:
		if in.Op == wasm.OpIf {
			v.pop(wasm.I32)
		}
		v.open(in.Op, v.blockType(in))
	case wasm.OpElse:
		then := slices.Clone(v.joined.sets())
		if b := v.shut(); b.op != wasm.OpIf {
			v.invalid("an else without its if")
		} else if v.Err() == nil {
			v.way(1, 0)
			v.pushBlock(block{op: wasm.OpElse, params: b.params, results: b.results, base: b.base, branches: b.branches})
			copy(v.joined.sets(), then) // both arms come to one end
		}
	case wasm.OpEnd:
		b := v.shut()
		if b.op == wasm.OpIf && string(b.params) != string(b.results) {
			v.invalid("an if without else changes the stack")
		}
		v.pushAll(b.results)
	case wasm.OpBr:
		v.popAll(v.target(in.A))
		v.leave()
	case wasm.OpBrIf:
		v.pop(wasm.I32)
		of := v.target(in.A)
		v.popAll(of)
		v.pushAll(of)
	case wasm.OpBrTable:
		v.branchTable(in)
	case wasm.OpReturn:
		v.popAll(v.blocks[0].results)
		v.leave()
	case wasm.OpCall, wasm.OpCallIndirect:
		v.call(in)
	default: // nop
	}
}

func (v *validator) pushBlock(b block) {
	v.blocks = append(v.blocks, b)
	v.joined.open()
	v.pushAll(b.params)
}

func (v *validator) branchTable(in *wasm.Instruction) {
	v.pop(wasm.I32)
	if v.targets += len(in.Targets); v.targets > maxTargets {
		v.Fail(refuse(RuleSize, "branch tables of more than %d targets", maxTargets))
		return
	}
	var last []byte
	for i, label := range in.Targets {
		of := v.target(uint64(label))
		if v.Err() != nil {
			return
		}
		if i > 0 && len(of) != len(last) {
			v.invalid("a branch table to %d and %d values", len(of), len(last))
			return
		}
		v.takes(of)
		last = of
	}
	v.popAll(last)
	v.leave()
}

// takes checks that the values on top of the stack are of some types, and leaves
// them there.
func (v *validator) takes(of []byte) {
	var taken [maxParams]byte
	for i := len(of) - 1; i >= 0; i-- {
		taken[i] = v.pop(of[i])
	}
	if v.Err() == nil {
		v.pushAll(taken[:len(of)])
	}
}

func (v *validator) call(in *wasm.Instruction) {
	v.calls = true
	var of functionType
	switch {
	case in.Op == wasm.OpCall && in.A < uint64(len(v.m.functions)):
		of = v.m.types[v.m.functions[in.A]]
	case in.Op == wasm.OpCallIndirect && in.A < uint64(len(v.m.types)) && in.B == 0 && v.m.hasTable:
		of = v.m.types[in.A]
		v.pop(wasm.I32)
		v.way(indirectWays, 0)
	default:
		v.invalid("a call of %d, which is not there", in.A)
		return
	}
	v.popAll(of.params)
	v.pushAll(of.results)
}

func (v *validator) variable(in *wasm.Instruction) {
	if in.Op == wasm.OpGlobalGet || in.Op == wasm.OpGlobalSet {
		switch {
		case in.A >= uint64(len(v.m.globals)):
			v.invalid("global %d of %d", in.A, len(v.m.globals))
		case in.Op == wasm.OpGlobalGet:
			v.push(v.m.globals[in.A].of)
		case !v.m.globals[in.A].mutable:
			v.invalid("global %d is a constant", in.A)
		default:
			v.pop(v.m.globals[in.A].of)
		}
		return
	}
	if in.A >= uint64(len(v.locals)) {
		v.invalid("local %d of %d", in.A, len(v.locals))
		return
	}
	of := v.locals[in.A]
	v.joined.mark(in.A, in.Op != wasm.OpLocalGet)
	if in.Op != wasm.OpLocalGet {
		v.pop(of)
	}
	if in.Op != wasm.OpLocalSet {
		v.push(of)
	}
}

// access checks a load or store.
func (v *validator) access(in *wasm.Instruction) {
	a := accesses[in.Op-wasm.OpI32Load]
	if !v.m.hasMemory {
		v.invalid("an access without memory")
	}
	if in.A > uint64(a.exponent) {
		v.invalid("an access is aligned to 2^%d, of 2^%d bytes", in.A, a.exponent)
	}
	if in.Op >= wasm.OpI32Store {
		v.pop(a.of)
		v.pop(wasm.I32)
		return
	}
	v.pop(wasm.I32)
	v.push(a.of)
}
