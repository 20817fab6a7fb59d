//go:build amd64 && !noavx512

#include "textflag.h"

// Sixteen compressions of Blake3 at a time, one in each 32-bit lane of the
// 512-bit registers: Z0 to Z15 are the state, Z16 to Z31 the message (the Blake3
// specification, section 2.2).

#define G(a, b, c, d, x, y) \
	VPADDD x, a, a     \
	VPADDD b, a, a     \
	VPXORD a, d, d     \
	VPRORD $16, d, d   \
	VPADDD d, c, c     \
	VPXORD c, b, b     \
	VPRORD $12, b, b   \
	VPADDD y, a, a     \
	VPADDD b, a, a     \
	VPXORD a, d, d     \
	VPRORD $8, d, d    \
	VPADDD d, c, c     \
	VPXORD c, b, b     \
	VPRORD $7, b, b

#define ROUND(m0, m1, m2, m3, m4, m5, m6, m7, m8, m9, m10, m11, m12, m13, m14, m15) \
	G(Z0, Z4, Z8, Z12, m0, m1)    \
	G(Z1, Z5, Z9, Z13, m2, m3)    \
	G(Z2, Z6, Z10, Z14, m4, m5)   \
	G(Z3, Z7, Z11, Z15, m6, m7)   \
	G(Z0, Z5, Z10, Z15, m8, m9)   \
	G(Z1, Z6, Z11, Z12, m10, m11) \
	G(Z2, Z7, Z8, Z13, m12, m13)  \
	G(Z3, Z4, Z9, Z14, m14, m15)

// QUAD transposes the four 32-bit words of each 128-bit lane among four rows,
// through four other registers, which hold the result.
#define QUAD(r0, r1, r2, r3, t0, t1, t2, t3) \
	VPUNPCKLDQ r1, r0, t0  \
	VPUNPCKHDQ r1, r0, t1  \
	VPUNPCKLDQ r3, r2, t2  \
	VPUNPCKHDQ r3, r2, t3  \
	VPUNPCKLQDQ t2, t0, r0 \
	VPUNPCKHQDQ t2, t0, r1 \
	VPUNPCKLQDQ t3, t1, r2 \
	VPUNPCKHQDQ t3, t1, r3

// LANES transposes the 128-bit lanes of four rows into four other registers.
#define LANES(r0, r1, r2, r3, t0, t1, m0, m1, m2, m3) \
	VSHUFI32X4 $0x88, r1, r0, t0 \
	VSHUFI32X4 $0x88, r3, r2, t1 \
	VSHUFI32X4 $0x88, t1, t0, m0 \
	VSHUFI32X4 $0xdd, t1, t0, m2 \
	VSHUFI32X4 $0xdd, r1, r0, t0 \
	VSHUFI32X4 $0xdd, r3, r2, t1 \
	VSHUFI32X4 $0x88, t1, t0, m1 \
	VSHUFI32X4 $0xdd, t1, t0, m3

DATA ·blake3IV+0(SB)/4, $0x6A09E667
DATA ·blake3IV+4(SB)/4, $0xBB67AE85
DATA ·blake3IV+8(SB)/4, $0x3C6EF372
DATA ·blake3IV+12(SB)/4, $0xA54FF53A
GLOBL ·blake3IV(SB), RODATA|NOPTR, $16

// TRANSPOSE makes sixteen rows, one of each lane, in Z0 to Z15, the message.
#define TRANSPOSE \
	QUAD(Z0, Z1, Z2, Z3, Z28, Z29, Z30, Z31)              \
	QUAD(Z4, Z5, Z6, Z7, Z28, Z29, Z30, Z31)              \
	QUAD(Z8, Z9, Z10, Z11, Z28, Z29, Z30, Z31)            \
	QUAD(Z12, Z13, Z14, Z15, Z28, Z29, Z30, Z31)          \
	LANES(Z0, Z4, Z8, Z12, Z31, Z27, Z16, Z20, Z24, Z28)  \
	LANES(Z1, Z5, Z9, Z13, Z31, Z27, Z17, Z21, Z25, Z29)  \
	LANES(Z2, Z6, Z10, Z14, Z31, Z27, Z18, Z22, Z26, Z30) \
	LANES(Z3, Z7, Z11, Z15, Z0, Z4, Z19, Z23, Z27, Z31)

// CHAIN loads the chaining values at DI and the constants.
#define CHAIN \
	VMOVDQU32 0(DI), Z0                \
	VMOVDQU32 64(DI), Z1               \
	VMOVDQU32 128(DI), Z2              \
	VMOVDQU32 192(DI), Z3              \
	VMOVDQU32 256(DI), Z4              \
	VMOVDQU32 320(DI), Z5              \
	VMOVDQU32 384(DI), Z6              \
	VMOVDQU32 448(DI), Z7              \
	VPBROADCASTD ·blake3IV+0(SB), Z8   \
	VPBROADCASTD ·blake3IV+4(SB), Z9   \
	VPBROADCASTD ·blake3IV+8(SB), Z10  \
	VPBROADCASTD ·blake3IV+12(SB), Z11

// COMPRESS does the rounds, after which Z0 to Z7 are the chaining values.
#define COMPRESS \
	ROUND(Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31) \
	ROUND(Z18, Z22, Z19, Z26, Z23, Z16, Z20, Z29, Z17, Z27, Z28, Z21, Z25, Z30, Z31, Z24) \
	ROUND(Z19, Z20, Z26, Z28, Z29, Z18, Z23, Z30, Z22, Z21, Z25, Z16, Z27, Z31, Z24, Z17) \
	ROUND(Z26, Z23, Z28, Z25, Z30, Z19, Z29, Z31, Z20, Z16, Z27, Z18, Z21, Z24, Z17, Z22) \
	ROUND(Z28, Z29, Z25, Z27, Z31, Z26, Z30, Z24, Z23, Z18, Z21, Z19, Z16, Z17, Z22, Z20) \
	ROUND(Z25, Z30, Z27, Z21, Z24, Z28, Z31, Z17, Z29, Z19, Z16, Z26, Z18, Z22, Z20, Z23) \
	ROUND(Z27, Z31, Z21, Z16, Z17, Z25, Z24, Z22, Z30, Z26, Z18, Z28, Z19, Z20, Z23, Z29) \
	VPXORD Z8, Z0, Z0                                                                     \
	VPXORD Z9, Z1, Z1                                                                     \
	VPXORD Z10, Z2, Z2                                                                    \
	VPXORD Z11, Z3, Z3                                                                    \
	VPXORD Z12, Z4, Z4                                                                    \
	VPXORD Z13, Z5, Z5                                                                    \
	VPXORD Z14, Z6, Z6                                                                    \
	VPXORD Z15, Z7, Z7

// STORE stores them at DI.
#define STORE \
	VMOVDQU32 Z0, 0(DI)   \
	VMOVDQU32 Z1, 64(DI)  \
	VMOVDQU32 Z2, 128(DI) \
	VMOVDQU32 Z3, 192(DI) \
	VMOVDQU32 Z4, 256(DI) \
	VMOVDQU32 Z5, 320(DI) \
	VMOVDQU32 Z6, 384(DI) \
	VMOVDQU32 Z7, 448(DI)

// func compress16(chain *[8][16]uint32, blocks *[16][64]byte, length, flags *[16]uint32)
TEXT ·compress16(SB), NOSPLIT, $0-32
	MOVQ chain+0(FP), DI
	MOVQ blocks+8(FP), SI
	MOVQ length+16(FP), DX
	MOVQ flags+24(FP), CX

	VMOVDQU32 0(SI), Z0
	VMOVDQU32 64(SI), Z1
	VMOVDQU32 128(SI), Z2
	VMOVDQU32 192(SI), Z3
	VMOVDQU32 256(SI), Z4
	VMOVDQU32 320(SI), Z5
	VMOVDQU32 384(SI), Z6
	VMOVDQU32 448(SI), Z7
	VMOVDQU32 512(SI), Z8
	VMOVDQU32 576(SI), Z9
	VMOVDQU32 640(SI), Z10
	VMOVDQU32 704(SI), Z11
	VMOVDQU32 768(SI), Z12
	VMOVDQU32 832(SI), Z13
	VMOVDQU32 896(SI), Z14
	VMOVDQU32 960(SI), Z15

	TRANSPOSE
	CHAIN
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VMOVDQU32 (DX), Z14
	VMOVDQU32 (CX), Z15
	COMPRESS
	STORE
	VZEROUPPER
	RET

DATA ·blake3Block+0(SB)/4, $64
GLOBL ·blake3Block(SB), RODATA|NOPTR, $4

// func chunks16(chain *[8][16]uint32, data *[16 * 1024]byte, counter, flags *[16]uint32)
TEXT ·chunks16(SB), NOSPLIT, $0-32
	MOVQ chain+0(FP), DI
	MOVQ data+8(FP), SI
	MOVQ counter+16(FP), DX
	MOVQ flags+24(FP), CX
	MOVQ $16, R8

block:
	VMOVDQU32 0(SI), Z0
	VMOVDQU32 1024(SI), Z1
	VMOVDQU32 2048(SI), Z2
	VMOVDQU32 3072(SI), Z3
	VMOVDQU32 4096(SI), Z4
	VMOVDQU32 5120(SI), Z5
	VMOVDQU32 6144(SI), Z6
	VMOVDQU32 7168(SI), Z7
	VMOVDQU32 8192(SI), Z8
	VMOVDQU32 9216(SI), Z9
	VMOVDQU32 10240(SI), Z10
	VMOVDQU32 11264(SI), Z11
	VMOVDQU32 12288(SI), Z12
	VMOVDQU32 13312(SI), Z13
	VMOVDQU32 14336(SI), Z14
	VMOVDQU32 15360(SI), Z15

	TRANSPOSE
	CHAIN
	VMOVDQU32 (DX), Z12
	VPXORD Z13, Z13, Z13
	VPBROADCASTD ·blake3Block+0(SB), Z14
	VPBROADCASTD (CX), Z15
	COMPRESS
	STORE
	ADDQ $64, SI
	ADDQ $4, CX
	DECQ R8
	JNZ block
	VZEROUPPER
	RET

// JOIN loads the two children of a join at a distance from SI.
#define JOIN(at, y, z) \
	MOVQ at(SI), AX               \
	MOVQ (at+8)(SI), BX           \
	VMOVDQU (AX), y               \
	VINSERTI64X4 $1, (BX), z, z

// DIGEST stores the two halves of a digest, each a 128-bit lane of a row.
#define DIGEST(at, lane, low, high) \
	MOVQ (at+16)(SI), AX            \
	VEXTRACTI32X4 $lane, low, (AX)  \
	VEXTRACTI32X4 $lane, high, 16(AX)

DATA ·blake3Pair+0(SB)/4, $75 // flags: keyed by material, and start, end and root of its tree
GLOBL ·blake3Pair(SB), RODATA|NOPTR, $4

// func joins16(key *[8][16]uint32, joins *[16]Join)
TEXT ·joins16(SB), NOSPLIT, $0-16
	MOVQ key+0(FP), DI
	MOVQ joins+8(FP), SI

	JOIN(0, Y0, Z0)
	JOIN(24, Y1, Z1)
	JOIN(48, Y2, Z2)
	JOIN(72, Y3, Z3)
	JOIN(96, Y4, Z4)
	JOIN(120, Y5, Z5)
	JOIN(144, Y6, Z6)
	JOIN(168, Y7, Z7)
	JOIN(192, Y8, Z8)
	JOIN(216, Y9, Z9)
	JOIN(240, Y10, Z10)
	JOIN(264, Y11, Z11)
	JOIN(288, Y12, Z12)
	JOIN(312, Y13, Z13)
	JOIN(336, Y14, Z14)
	JOIN(360, Y15, Z15)

	TRANSPOSE
	CHAIN
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VPBROADCASTD ·blake3Block+0(SB), Z14
	VPBROADCASTD ·blake3Pair+0(SB), Z15
	COMPRESS
	QUAD(Z0, Z1, Z2, Z3, Z8, Z9, Z10, Z11)
	QUAD(Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11)
	DIGEST(0, 0, Z0, Z4)
	DIGEST(24, 0, Z1, Z5)
	DIGEST(48, 0, Z2, Z6)
	DIGEST(72, 0, Z3, Z7)
	DIGEST(96, 1, Z0, Z4)
	DIGEST(120, 1, Z1, Z5)
	DIGEST(144, 1, Z2, Z6)
	DIGEST(168, 1, Z3, Z7)
	DIGEST(192, 2, Z0, Z4)
	DIGEST(216, 2, Z1, Z5)
	DIGEST(240, 2, Z2, Z6)
	DIGEST(264, 2, Z3, Z7)
	DIGEST(288, 3, Z0, Z4)
	DIGEST(312, 3, Z1, Z5)
	DIGEST(336, 3, Z2, Z6)
	DIGEST(360, 3, Z3, Z7)
	VZEROUPPER
	RET

// func digests16(chain *[8][16]uint32, digests *[16]Digest)
TEXT ·digests16(SB), NOSPLIT, $0-16
	MOVQ chain+0(FP), DI
	MOVQ digests+8(FP), SI

	VMOVDQU32 0(DI), Z0
	VMOVDQU32 64(DI), Z1
	VMOVDQU32 128(DI), Z2
	VMOVDQU32 192(DI), Z3
	VMOVDQU32 256(DI), Z4
	VMOVDQU32 320(DI), Z5
	VMOVDQU32 384(DI), Z6
	VMOVDQU32 448(DI), Z7
	QUAD(Z0, Z1, Z2, Z3, Z8, Z9, Z10, Z11)
	QUAD(Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11)
	VEXTRACTI32X4 $0, Z0, 0(SI)
	VEXTRACTI32X4 $0, Z4, 16(SI)
	VEXTRACTI32X4 $0, Z1, 32(SI)
	VEXTRACTI32X4 $0, Z5, 48(SI)
	VEXTRACTI32X4 $0, Z2, 64(SI)
	VEXTRACTI32X4 $0, Z6, 80(SI)
	VEXTRACTI32X4 $0, Z3, 96(SI)
	VEXTRACTI32X4 $0, Z7, 112(SI)
	VEXTRACTI32X4 $1, Z0, 128(SI)
	VEXTRACTI32X4 $1, Z4, 144(SI)
	VEXTRACTI32X4 $1, Z1, 160(SI)
	VEXTRACTI32X4 $1, Z5, 176(SI)
	VEXTRACTI32X4 $1, Z2, 192(SI)
	VEXTRACTI32X4 $1, Z6, 208(SI)
	VEXTRACTI32X4 $1, Z3, 224(SI)
	VEXTRACTI32X4 $1, Z7, 240(SI)
	VEXTRACTI32X4 $2, Z0, 256(SI)
	VEXTRACTI32X4 $2, Z4, 272(SI)
	VEXTRACTI32X4 $2, Z1, 288(SI)
	VEXTRACTI32X4 $2, Z5, 304(SI)
	VEXTRACTI32X4 $2, Z2, 320(SI)
	VEXTRACTI32X4 $2, Z6, 336(SI)
	VEXTRACTI32X4 $2, Z3, 352(SI)
	VEXTRACTI32X4 $2, Z7, 368(SI)
	VEXTRACTI32X4 $3, Z0, 384(SI)
	VEXTRACTI32X4 $3, Z4, 400(SI)
	VEXTRACTI32X4 $3, Z1, 416(SI)
	VEXTRACTI32X4 $3, Z5, 432(SI)
	VEXTRACTI32X4 $3, Z2, 448(SI)
	VEXTRACTI32X4 $3, Z6, 464(SI)
	VEXTRACTI32X4 $3, Z3, 480(SI)
	VEXTRACTI32X4 $3, Z7, 496(SI)
	VZEROUPPER
	RET

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// func xgetbv() (eax, edx uint32)
TEXT ·xgetbv(SB), NOSPLIT, $0-8
	XORL CX, CX
	XGETBV
	MOVL AX, eax+0(FP)
	MOVL DX, edx+4(FP)
	RET
