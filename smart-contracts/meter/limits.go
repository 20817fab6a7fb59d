package meter

// Version is that of the pass: another is due whenever what it writes changes (the golden
// files do then), so that nobody runs native code of what it wrote before.
const Version = 6

// Limits of a module (version 1). They are part of what a chain agrees on:
// another limit is another version. CosmWasm's own stand in brackets where there
// are any.
const (
	maxModuleBytes   = 800 << 10 // [800 KiB]
	maxTypes         = 2_000
	maxParams        = 100    // of one function [100]
	maxResults       = 1      // of one function [1]
	maxBlockResults  = 16     // of a block that names a type
	maxAllParams     = 10_000 // of all functions together [10,000]
	maxImports       = 100    // [100]
	maxFunctions     = 20_000 // [20,000]
	MaxTableElements = 2_500  // [2,500]
	maxGlobals       = 1_000
	maxExports       = 4_000
	maxElements      = 20_000 // entries of all element segments
	maxSegments      = 4_000  // of elements, of data
	maxNameBytes     = 256    // of an import or export
	maxCustom        = 100    // custom sections, which are dropped

	maxFunctionBytes = 128 << 10 // of one body
	maxLocals        = 1_000     // of one function, parameters included
	maxNesting       = 4_000     // of blocks
	maxHeight        = 4_000     // values on the operand stack
	maxTargets       = 16_000    // of all branch tables of a function

	// What a compiler's time grows with faster than a function's length. Contracts
	// that CosmWasm publishes have a tenth to a half of it.
	maxLoops     = 100                                 // in each other
	maxJoins     = 30_000                              // locals that are used inside of blocks whose ways meet, of one function
	maxAllJoins  = 300_000                             // of all functions
	maxSpans     = 1_000_000                           // of the ways that a function may take, the locals and values on the operand stack and wayLocals, and what branches take
	maxAllSpans  = 3_000_000                           // of all functions
	maxMoves     = 150_000                             // values that are moved where ways meet: those that branches take, and locals that are set inside
	maxAllMoves  = 600_000                             // of all functions
	maxAllFloats = 50_000                              // instructions that compute floats, or convert from or to them
	maxAllSquare = maxFunctionBytes * maxFunctionBytes // of the lengths of all bodies, each squared

	// What a way takes beside the function's locals, as so many of them, and how many ways an
	// indirect call is: what it calls may have to be looked up first, may not be there, or of
	// another type.
	wayLocals    = 60
	indirectWays = 4
	// What an instruction on floats takes, as so many locals of a way, and one that asks how large the memory is or grows it.
	floatSpans = 10
	sizeSpans  = 16

	// What a compiler allots registers for slower the more there is. An instruction past more than
	// fewValues, in locals and on the operand stack, takes a span for beyondSpan of them. Each value that a function
	// moves takes a span, and one more for movedSpan values that its ways go past.
	fewValues  = 64
	beyondSpan = 12
	movedSpan  = 6_000

	// MaxPages is how far a contract's memory grows: 32 MiB [512].
	MaxPages = 512
)

// StackBytes is what the frames of one call may take, counted as frameBytes
// counts them, which is more than what they take natively.
const StackBytes = 896 << 10

// frameBytes bounds a function's native frame from above: return address, saved
// registers, a slot for each local and each value on the operand stack, and half
// a slot for each instruction. A compiler also keeps what is computed before a
// call and again after it; to say so twice takes four instructions at least. A
// float is kept in a slot of 16 bytes. What frames take is measured in
// smart-contracts/vm.
func (s *shape) frameBytes() int {
	slot := 8
	if s.floats {
		slot = 16
	}
	return frameBase + slot*(s.locals+s.height) + slot/2*s.instructions
}

const frameBase = 128

// effort is what compilers take time for beside a function's length, in spans.
func (s *shape) effort() int {
	moves := s.moves + s.carried
	return s.spans + s.locals + wayLocals + floatSpans*s.computed + sizeSpans*s.sizes + s.beyond/beyondSpan + s.moves + moves*s.past/movedSpan
}

// nativeBytes bounds what compilers make of a module of so many bytes, and what a node counts for it: most of each instruction,
// more of a way, with the run that it begins, of a loop, which has a check, of a division, which does
// not divide by 0, of an instruction on floats, which has one NaN, of a function, which
// may be called through a table, and of values that are moved where ways meet. It is measured in smart-contracts/vm.
func nativeBytes(module int, shapes []shape) uint64 {
	const base, ofByte, ofFunction, ofWay, ofLoop, ofDivision, ofFloat, ofMove = 96 << 10, 7, 440, 24, 64, 16, 80, 18
	sum := base + ofByte*module + ofFunction*len(shapes)
	for i := range shapes {
		s := &shapes[i]
		sum += ofWay*s.ways + ofLoop*s.loops + ofDivision*s.divisions + ofFloat*s.computed + ofMove*(s.moves+s.carried)
	}
	return uint64(sum)
}
