//go:build !noavx512

package crypto

// compress16 replaces sixteen chaining values by the compressions of sixteen
// blocks of a first chunk; length is how many bytes of each count.
//
//go:noescape
func compress16(chain *[8][16]uint32, blocks *[16][64]byte, length, flags *[16]uint32)

// chunks16 replaces sixteen chaining values by those of sixteen chunks; counter
// is the number of each, and flags those of each of their sixteen blocks.
//
//go:noescape
func chunks16(chain *[8][16]uint32, data *[16 * 1024]byte, counter, flags *[16]uint32)

// joins16 compresses sixteen pairs of digests, of all of which a whole input consists,
// and writes the digests. It reads all before it writes.
//
//go:noescape
func joins16(key *[8][16]uint32, joins *[16]Join)

// digests16 writes sixteen chaining values as bytes.
//
//go:noescape
func digests16(chain *[8][16]uint32, digests *[16]Digest)

func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

func xgetbv() (eax, edx uint32)

// hasWide says that processor and operating system have AVX-512.
var hasWide = func() bool {
	const osxsave, avx512f = 1 << 27, 1 << 16
	const saved = 1<<1 | 1<<2 | 1<<5 | 1<<6 | 1<<7 // by the operating system: all of ZMM
	if last, _, _, _ := cpuid(0, 0); last < 7 {
		return false
	}
	if _, _, ecx, _ := cpuid(1, 0); ecx&osxsave == 0 {
		return false
	}
	state, _ := xgetbv()
	_, ebx, _, _ := cpuid(7, 0)
	return state&saved == saved && ebx&avx512f != 0
}()
