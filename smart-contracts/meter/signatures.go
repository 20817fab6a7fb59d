package meter

import "github.com/hypermesh/hypermesh/internal/wasm"

// signature is what a numeric instruction takes and gives; the second operand is
// 0 if it takes one.
type signature struct{ first, second, result byte }

// signatures of the instructions from i32.eqz to i64.extend32_s, by their
// distance from the first (WebAssembly 2.0 §5.4.6).
var signatures = numericSignatures()

func numericSignatures() (out []signature) {
	add := func(count int, s signature) {
		for range count {
			out = append(out, s)
		}
	}
	const i, l, f, d = wasm.I32, wasm.I64, wasm.F32, wasm.F64
	add(1, signature{i, 0, i}) // i32.eqz
	add(10, signature{i, i, i})
	add(1, signature{l, 0, i}) // i64.eqz
	add(10, signature{l, l, i})
	add(6, signature{f, f, i})
	add(6, signature{d, d, i})
	add(3, signature{i, 0, i}) // i32.clz, ctz, popcnt
	add(15, signature{i, i, i})
	add(3, signature{l, 0, l})
	add(15, signature{l, l, l})
	add(7, signature{f, 0, f}) // f32.abs to sqrt
	add(7, signature{f, f, f})
	add(7, signature{d, 0, d})
	add(7, signature{d, d, d})
	for _, s := range []signature{
		{l, 0, i}, {f, 0, i}, {f, 0, i}, {d, 0, i}, {d, 0, i}, // i32.wrap_i64, i32.trunc_*
		{i, 0, l}, {i, 0, l}, {f, 0, l}, {f, 0, l}, {d, 0, l}, {d, 0, l}, // i64.extend_*, i64.trunc_*
		{i, 0, f}, {i, 0, f}, {l, 0, f}, {l, 0, f}, {d, 0, f}, // f32.convert_*, f32.demote_f64
		{i, 0, d}, {i, 0, d}, {l, 0, d}, {l, 0, d}, {f, 0, d}, // f64.convert_*, f64.promote_f32
		{f, 0, i}, {d, 0, l}, {i, 0, f}, {l, 0, d}, // *.reinterpret_*
		{i, 0, i}, {i, 0, i}, {l, 0, l}, {l, 0, l}, {l, 0, l}, // *.extend*_s
	} {
		add(1, s)
	}
	return out
}

// saturating are the signatures of the saturating conversions.
var saturating = [8]signature{
	{wasm.F32, 0, wasm.I32}, {wasm.F32, 0, wasm.I32}, {wasm.F64, 0, wasm.I32}, {wasm.F64, 0, wasm.I32},
	{wasm.F32, 0, wasm.I64}, {wasm.F32, 0, wasm.I64}, {wasm.F64, 0, wasm.I64}, {wasm.F64, 0, wasm.I64},
}

// access is what a load gives or a store takes, and the exponent of its size.
type access struct{ of, exponent byte }

// accesses are of the instructions from i32.load to i64.store32, by their
// distance from the first.
var accesses = [...]access{
	{wasm.I32, 2}, {wasm.I64, 3}, {wasm.F32, 2}, {wasm.F64, 3},
	{wasm.I32, 0}, {wasm.I32, 0}, {wasm.I32, 1}, {wasm.I32, 1},
	{wasm.I64, 0}, {wasm.I64, 0}, {wasm.I64, 1}, {wasm.I64, 1}, {wasm.I64, 2}, {wasm.I64, 2},
	{wasm.I32, 2}, {wasm.I64, 3}, {wasm.F32, 2}, {wasm.F64, 3}, // stores from here
	{wasm.I32, 0}, {wasm.I32, 1}, {wasm.I64, 0}, {wasm.I64, 1}, {wasm.I64, 2},
}
