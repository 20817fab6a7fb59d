//go:build !noavx512

package crypto

//go:noescape
func mul8(out, a, b *field8)

//go:noescape
func add8(out, a, b *field8)

//go:noescape
func sub8(out, a, b *field8)

// square8 squares so many times, once at least.
//
//go:noescape
func square8(out, a *field8, times int)

//go:noescape
func addPoint8(p, q *point8, d2 *field8, work *work8)

// doublePoint8 doubles so many times, once at least.
//
//go:noescape
func doublePoint8(p *point8, times int, work *work8)

// accumulate8 takes rounds of eight from order, one at least.
//
//go:noescape
func accumulate8(p *point8, table *niels, order *uint32, rounds int, work *work8)

// hasFused says that processor and operating system have AVX-512 with IFMA.
var hasFused = func() bool {
	const avx512dq, avx512ifma = 1 << 17, 1 << 21
	if !hasWide {
		return false
	}
	_, ebx, _, _ := cpuid(7, 0)
	return ebx&avx512dq != 0 && ebx&avx512ifma != 0
}()
