//go:build !amd64 || noavx512

package crypto

const hasWide = false

func compress16(*[8][16]uint32, *[16][64]byte, *[16]uint32, *[16]uint32) {
	panic("crypto: no wide compression on this processor")
}

func chunks16(*[8][16]uint32, *[16 * 1024]byte, *[16]uint32, *[16]uint32) {
	panic("crypto: no wide compression on this processor")
}

func joins16(*[8][16]uint32, *[16]Join) {
	panic("crypto: no wide compression on this processor")
}

func digests16(*[8][16]uint32, *[16]Digest) {
	panic("crypto: no wide compression on this processor")
}
