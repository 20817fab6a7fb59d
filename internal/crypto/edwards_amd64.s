//go:build amd64 && !noavx512

#include "textflag.h"

// Eight elements of the field of 2²⁵⁵ − 19 at a time, one in each 64-bit lane of
// the 512-bit registers, in five limbs of 51 bits: element i's limb k is word i of
// row k. Multiplication is by AVX-512 IFMA, which takes the low 52 bits of its
// factors and adds the low or the high 52 bits of their product.
//
// Every routine takes limbs below B = 2⁵¹ + 2¹⁴ and yields such, but for TWICE:
//
//   - PRODUCT may take any factors below 2⁵², so that low and high parts are whole
//     and below 2⁵². A column has n low parts and twice the m high parts of the one
//     below: n + 2m is 1, 4, 7, 10, 13, 14, 11, 8, 5 and 2. With 19 times the upper
//     five, the lower five are below 267, 213, 159, 105 and 51 times 2⁵²: all of it
//     below 2⁶¹. The carries are below 534, and from the top 19·102: what is left is
//     below 2⁵¹ + 2¹¹.
//   - SUM and DIFFERENCE may take first operands below 2B, as TWICE leaves them. A
//     sum is below 3B: it carries 3 at most, from the top 57. A limb of 2p is not
//     below B, so that no difference is negative; it is below 2B + 2⁵² and carries
//     4 at most, from the top 76.
//   - What TWICE leaves goes nowhere else: not to PRODUCT, and nothing subtracts it.
//
// Z28 and Z29 hold the limbs of 2p, Z30 holds 19, Z31 holds 2⁵¹ − 1.

#define CONSTANTS \
	MOVQ $0xFFFFFFFFFFFDA, AX \
	VPBROADCASTQ AX, Z28      \
	MOVQ $0xFFFFFFFFFFFFE, AX \
	VPBROADCASTQ AX, Z29      \
	MOVQ $19, AX              \
	VPBROADCASTQ AX, Z30      \
	MOVQ $0x7FFFFFFFFFFFF, AX \
	VPBROADCASTQ AX, Z31

#define LOAD(o, r, a0, a1, a2, a3, a4) \
	VMOVDQU64 (o)(r), a0     \
	VMOVDQU64 (o+64)(r), a1  \
	VMOVDQU64 (o+128)(r), a2 \
	VMOVDQU64 (o+192)(r), a3 \
	VMOVDQU64 (o+256)(r), a4

#define STORE(o, r, a0, a1, a2, a3, a4) \
	VMOVDQU64 a0, (o)(r)     \
	VMOVDQU64 a1, (o+64)(r)  \
	VMOVDQU64 a2, (o+128)(r) \
	VMOVDQU64 a3, (o+192)(r) \
	VMOVDQU64 a4, (o+256)(r)

// CARRY moves what is above 51 bits of each limb one limb up, once.
#define CARRY(a0, a1, a2, a3, a4, t0, t1, t2, t3, t4) \
	VPSRLQ $51, a0, t0   \
	VPSRLQ $51, a1, t1   \
	VPSRLQ $51, a2, t2   \
	VPSRLQ $51, a3, t3   \
	VPSRLQ $51, a4, t4   \
	VPMULUDQ Z30, t4, t4 \
	VPANDQ Z31, a0, a0   \
	VPANDQ Z31, a1, a1   \
	VPANDQ Z31, a2, a2   \
	VPANDQ Z31, a3, a3   \
	VPANDQ Z31, a4, a4   \
	VPADDQ t4, a0, a0    \
	VPADDQ t0, a1, a1    \
	VPADDQ t1, a2, a2    \
	VPADDQ t2, a3, a3    \
	VPADDQ t3, a4, a4

// TERM adds the product of two limbs to the column of their weight, and its high
// part to the next one's, which counts twice: 2⁵² is 2·2⁵¹.
#define TERM(a, b, low, high) \
	VPMADD52LUQ b, a, low \
	VPMADD52HUQ b, a, high

// REDUCE adds up the columns Z10…Z18 and, twice, Z19…Z27 modulo 2²⁵⁵ − 19, in Z10…Z14.
// Of a column of fifteen times 2⁵² at most, nineteen times are below 2⁶¹.
#define REDUCE \
	VPADDQ Z19, Z19, Z19 \
	VPADDQ Z20, Z20, Z20 \
	VPADDQ Z21, Z21, Z21 \
	VPADDQ Z22, Z22, Z22 \
	VPADDQ Z23, Z23, Z23 \
	VPADDQ Z24, Z24, Z24 \
	VPADDQ Z25, Z25, Z25 \
	VPADDQ Z26, Z26, Z26 \
	VPADDQ Z27, Z27, Z27 \
	VPADDQ Z23, Z15, Z15 \
	VPADDQ Z24, Z16, Z16 \
	VPADDQ Z25, Z17, Z17 \
	VPADDQ Z26, Z18, Z18 \
	VPMULLQ Z30, Z15, Z15 \
	VPMULLQ Z30, Z16, Z16 \
	VPMULLQ Z30, Z17, Z17 \
	VPMULLQ Z30, Z18, Z18 \
	VPMULLQ Z30, Z27, Z27 \
	VPADDQ Z19, Z11, Z11 \
	VPADDQ Z20, Z12, Z12 \
	VPADDQ Z21, Z13, Z13 \
	VPADDQ Z22, Z14, Z14 \
	VPADDQ Z15, Z10, Z10 \
	VPADDQ Z16, Z11, Z11 \
	VPADDQ Z17, Z12, Z12 \
	VPADDQ Z18, Z13, Z13 \
	VPADDQ Z27, Z14, Z14 \
	CARRY(Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19)

// CLEAR sets the columns to zero.
#define CLEAR \
	VPXORQ Z10, Z10, Z10 \
	VPXORQ Z11, Z11, Z11 \
	VPXORQ Z12, Z12, Z12 \
	VPXORQ Z13, Z13, Z13 \
	VPXORQ Z14, Z14, Z14 \
	VPXORQ Z15, Z15, Z15 \
	VPXORQ Z16, Z16, Z16 \
	VPXORQ Z17, Z17, Z17 \
	VPXORQ Z18, Z18, Z18 \
	VPXORQ Z19, Z19, Z19 \
	VPXORQ Z20, Z20, Z20 \
	VPXORQ Z21, Z21, Z21 \
	VPXORQ Z22, Z22, Z22 \
	VPXORQ Z23, Z23, Z23 \
	VPXORQ Z24, Z24, Z24 \
	VPXORQ Z25, Z25, Z25 \
	VPXORQ Z26, Z26, Z26 \
	VPXORQ Z27, Z27, Z27

// PRODUCT leaves the product of Z0…Z4 and Z5…Z9 in Z10…Z14. The columns are Z10…Z18
// and, doubled, Z19…Z27 from the second on.
#define PRODUCT \
	CLEAR \
	TERM(Z0, Z5, Z10, Z19) \
	TERM(Z0, Z6, Z11, Z20) \
	TERM(Z0, Z7, Z12, Z21) \
	TERM(Z0, Z8, Z13, Z22) \
	TERM(Z0, Z9, Z14, Z23) \
	TERM(Z1, Z9, Z15, Z24) \
	TERM(Z2, Z9, Z16, Z25) \
	TERM(Z3, Z9, Z17, Z26) \
	TERM(Z4, Z9, Z18, Z27) \
	TERM(Z1, Z5, Z11, Z20) \
	TERM(Z1, Z6, Z12, Z21) \
	TERM(Z1, Z7, Z13, Z22) \
	TERM(Z1, Z8, Z14, Z23) \
	TERM(Z2, Z8, Z15, Z24) \
	TERM(Z3, Z8, Z16, Z25) \
	TERM(Z4, Z8, Z17, Z26) \
	TERM(Z2, Z5, Z12, Z21) \
	TERM(Z2, Z6, Z13, Z22) \
	TERM(Z2, Z7, Z14, Z23) \
	TERM(Z3, Z7, Z15, Z24) \
	TERM(Z4, Z7, Z16, Z25) \
	TERM(Z3, Z5, Z13, Z22) \
	TERM(Z3, Z6, Z14, Z23) \
	TERM(Z4, Z6, Z15, Z24) \
	TERM(Z4, Z5, Z14, Z23) \
	REDUCE

// SQUARE leaves the square of Z0…Z4 in Z10…Z14: products of different limbs count
// twice.
#define SQUARE \
	CLEAR \
	TERM(Z0, Z1, Z11, Z20) \
	TERM(Z0, Z2, Z12, Z21) \
	TERM(Z0, Z3, Z13, Z22) \
	TERM(Z0, Z4, Z14, Z23) \
	TERM(Z1, Z4, Z15, Z24) \
	TERM(Z2, Z4, Z16, Z25) \
	TERM(Z3, Z4, Z17, Z26) \
	TERM(Z1, Z2, Z13, Z22) \
	TERM(Z1, Z3, Z14, Z23) \
	TERM(Z2, Z3, Z15, Z24) \
	VPADDQ Z11, Z11, Z11 \
	VPADDQ Z12, Z12, Z12 \
	VPADDQ Z13, Z13, Z13 \
	VPADDQ Z14, Z14, Z14 \
	VPADDQ Z15, Z15, Z15 \
	VPADDQ Z16, Z16, Z16 \
	VPADDQ Z17, Z17, Z17 \
	VPADDQ Z20, Z20, Z20 \
	VPADDQ Z21, Z21, Z21 \
	VPADDQ Z22, Z22, Z22 \
	VPADDQ Z23, Z23, Z23 \
	VPADDQ Z24, Z24, Z24 \
	VPADDQ Z25, Z25, Z25 \
	VPADDQ Z26, Z26, Z26 \
	TERM(Z0, Z0, Z10, Z19) \
	TERM(Z1, Z1, Z12, Z21) \
	TERM(Z2, Z2, Z14, Z23) \
	TERM(Z3, Z3, Z16, Z25) \
	TERM(Z4, Z4, Z18, Z27) \
	REDUCE

#define MUL(oo, ro, oa, ra, ob, rb) \
	LOAD(oa, ra, Z0, Z1, Z2, Z3, Z4) \
	LOAD(ob, rb, Z5, Z6, Z7, Z8, Z9) \
	PRODUCT \
	STORE(oo, ro, Z10, Z11, Z12, Z13, Z14)

#define SQR(oo, ro, oa, ra) \
	LOAD(oa, ra, Z0, Z1, Z2, Z3, Z4) \
	SQUARE \
	STORE(oo, ro, Z10, Z11, Z12, Z13, Z14)

#define SUM(oo, ro, oa, ra, ob, rb) \
	LOAD(oa, ra, Z0, Z1, Z2, Z3, Z4) \
	VPADDQ (ob)(rb), Z0, Z0     \
	VPADDQ (ob+64)(rb), Z1, Z1  \
	VPADDQ (ob+128)(rb), Z2, Z2 \
	VPADDQ (ob+192)(rb), Z3, Z3 \
	VPADDQ (ob+256)(rb), Z4, Z4 \
	CARRY(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9) \
	STORE(oo, ro, Z0, Z1, Z2, Z3, Z4)

#define DIFFERENCE(oo, ro, oa, ra, ob, rb) \
	LOAD(oa, ra, Z0, Z1, Z2, Z3, Z4) \
	VPADDQ Z28, Z0, Z0 \
	VPADDQ Z29, Z1, Z1 \
	VPADDQ Z29, Z2, Z2 \
	VPADDQ Z29, Z3, Z3 \
	VPADDQ Z29, Z4, Z4 \
	VPSUBQ (ob)(rb), Z0, Z0     \
	VPSUBQ (ob+64)(rb), Z1, Z1  \
	VPSUBQ (ob+128)(rb), Z2, Z2 \
	VPSUBQ (ob+192)(rb), Z3, Z3 \
	VPSUBQ (ob+256)(rb), Z4, Z4 \
	CARRY(Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9) \
	STORE(oo, ro, Z0, Z1, Z2, Z3, Z4)

// TWICE doubles without a carry: for SUM and DIFFERENCE, as what is added to or
// subtracted from.
#define TWICE(oo, ro, oa, ra) \
	LOAD(oa, ra, Z0, Z1, Z2, Z3, Z4) \
	VPADDQ Z0, Z0, Z0 \
	VPADDQ Z1, Z1, Z1 \
	VPADDQ Z2, Z2, Z2 \
	VPADDQ Z3, Z3, Z3 \
	VPADDQ Z4, Z4, Z4 \
	STORE(oo, ro, Z0, Z1, Z2, Z3, Z4)

// The coordinates of a point.
#define X 0
#define Y 320
#define Z 640
#define T 960

// Places in the work area.
#define W0 0
#define W1 320
#define W2 640
#define W3 960
#define W4 1280
#define W5 1600
#define W6 1920

// FINISH makes of E, F, G and H in W4, W5, W6 and W3 the point EF, GH, FG, EH.
#define FINISH(p, w) \
	MUL(X, p, W4, w, W5, w) \
	MUL(Y, p, W6, w, W3, w) \
	MUL(T, p, W4, w, W3, w) \
	MUL(Z, p, W5, w, W6, w)

// func mul8(out, a, b *field8)
TEXT ·mul8(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	CONSTANTS
	MUL(0, DI, 0, SI, 0, DX)
	VZEROUPPER
	RET

// func add8(out, a, b *field8)
TEXT ·add8(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	CONSTANTS
	SUM(0, DI, 0, SI, 0, DX)
	VZEROUPPER
	RET

// func sub8(out, a, b *field8)
TEXT ·sub8(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ b+16(FP), DX
	CONSTANTS
	DIFFERENCE(0, DI, 0, SI, 0, DX)
	VZEROUPPER
	RET

// func square8(out, a *field8, times int)
TEXT ·square8(SB), NOSPLIT, $0-24
	MOVQ out+0(FP), DI
	MOVQ a+8(FP), SI
	MOVQ times+16(FP), CX
	CONSTANTS
	LOAD(0, SI, Z10, Z11, Z12, Z13, Z14)
again:
	VMOVDQA64 Z10, Z0
	VMOVDQA64 Z11, Z1
	VMOVDQA64 Z12, Z2
	VMOVDQA64 Z13, Z3
	VMOVDQA64 Z14, Z4
	SQUARE
	DECQ CX
	JNZ  again
	STORE(0, DI, Z10, Z11, Z12, Z13, Z14)
	VZEROUPPER
	RET

// func addPoint8(p, q *point8, d2 *field8, work *work8)
//
// p += q (Hisil, Wong, Carter and Dawson, "Twisted Edwards Curves Revisited",
// section 3.1). As −1 is a square and d is none, it holds for any two points of the
// curve, equal, opposite, the identity or of small order, and z is never zero.
TEXT ·addPoint8(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), DI
	MOVQ q+8(FP), SI
	MOVQ d2+16(FP), DX
	MOVQ work+24(FP), R8
	CONSTANTS
	DIFFERENCE(W0, R8, Y, DI, X, DI)
	DIFFERENCE(W1, R8, Y, SI, X, SI)
	MUL(W0, R8, W0, R8, W1, R8)      // A
	SUM(W1, R8, Y, DI, X, DI)
	SUM(W2, R8, Y, SI, X, SI)
	MUL(W1, R8, W1, R8, W2, R8)      // B
	MUL(W2, R8, T, DI, T, SI)
	MUL(W2, R8, W2, R8, 0, DX)       // C
	MUL(W3, R8, Z, DI, Z, SI)
	TWICE(W3, R8, W3, R8)            // D
	DIFFERENCE(W4, R8, W1, R8, W0, R8)
	DIFFERENCE(W5, R8, W3, R8, W2, R8)
	SUM(W6, R8, W3, R8, W2, R8)
	SUM(W3, R8, W1, R8, W0, R8)
	FINISH(DI, R8)
	VZEROUPPER
	RET

// func doublePoint8(p *point8, times int, work *work8)
//
// p = 2^times · p (the same, section 3.3, with all signs turned).
TEXT ·doublePoint8(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), DI
	MOVQ times+8(FP), CX
	MOVQ work+16(FP), R8
	CONSTANTS
again:
	SQR(W0, R8, X, DI)               // A
	SQR(W1, R8, Y, DI)               // B
	SQR(W2, R8, Z, DI)
	TWICE(W2, R8, W2, R8)            // C
	SUM(W3, R8, W0, R8, W1, R8)      // H = A + B
	SUM(W4, R8, X, DI, Y, DI)
	SQR(W4, R8, W4, R8)
	DIFFERENCE(W4, R8, W3, R8, W4, R8) // E = H − (X + Y)²
	DIFFERENCE(W6, R8, W0, R8, W1, R8) // G = A − B
	SUM(W5, R8, W2, R8, W6, R8)      // F = C + G
	FINISH(DI, R8)
	DECQ CX
	JNZ  again
	VZEROUPPER
	RET

// TRANSPOSE turns eight rows Z0…Z7 of eight words into columns Z8…Z15.
#define TRANSPOSE \
	VPUNPCKLQDQ Z1, Z0, Z16 \
	VPUNPCKHQDQ Z1, Z0, Z17 \
	VPUNPCKLQDQ Z3, Z2, Z18 \
	VPUNPCKHQDQ Z3, Z2, Z19 \
	VPUNPCKLQDQ Z5, Z4, Z20 \
	VPUNPCKHQDQ Z5, Z4, Z21 \
	VPUNPCKLQDQ Z7, Z6, Z22 \
	VPUNPCKHQDQ Z7, Z6, Z23 \
	VSHUFI64X2 $0x88, Z18, Z16, Z0 \
	VSHUFI64X2 $0xdd, Z18, Z16, Z1 \
	VSHUFI64X2 $0x88, Z22, Z20, Z2 \
	VSHUFI64X2 $0xdd, Z22, Z20, Z3 \
	VSHUFI64X2 $0x88, Z19, Z17, Z4 \
	VSHUFI64X2 $0xdd, Z19, Z17, Z5 \
	VSHUFI64X2 $0x88, Z23, Z21, Z6 \
	VSHUFI64X2 $0xdd, Z23, Z21, Z7 \
	VSHUFI64X2 $0x88, Z2, Z0, Z8   \
	VSHUFI64X2 $0x88, Z6, Z4, Z9   \
	VSHUFI64X2 $0x88, Z3, Z1, Z10  \
	VSHUFI64X2 $0x88, Z7, Z5, Z11  \
	VSHUFI64X2 $0xdd, Z2, Z0, Z12  \
	VSHUFI64X2 $0xdd, Z6, Z4, Z13  \
	VSHUFI64X2 $0xdd, Z3, Z1, Z14  \
	VSHUFI64X2 $0xdd, Z7, Z5, Z15

// ROW loads the half o of the table's row that the next word of order names.
#define ROW(i, o, z) \
	MOVL (i*4)(BX), AX \
	SHLQ $7, AX        \
	VMOVDQU64 (o)(SI)(AX*1), z

#define ROWS(o) \
	ROW(0, o, Z0) \
	ROW(1, o, Z1) \
	ROW(2, o, Z2) \
	ROW(3, o, Z3) \
	ROW(4, o, Z4) \
	ROW(5, o, Z5) \
	ROW(6, o, Z6) \
	ROW(7, o, Z7)

// Where the rows' points are in the work area: y + x, y − x, 2dxy.
#define PLUS 2240
#define MINUS 2560
#define PRODUCT2D 2880

// func accumulate8(p *point8, table *niels, order *uint32, rounds int, work *work8)
//
// In each round adds to the eight points of p the eight affine points of the table
// that order names, for each lane one. Nothing checks the rows that order names.
TEXT ·accumulate8(SB), NOSPLIT, $0-40
	MOVQ p+0(FP), DI
	MOVQ table+8(FP), SI
	MOVQ order+16(FP), BX
	MOVQ rounds+24(FP), CX
	MOVQ work+32(FP), R8
	CONSTANTS
again:
	ROWS(0)
	TRANSPOSE
	STORE(PLUS, R8, Z8, Z9, Z10, Z11, Z12)
	VMOVDQU64 Z13, (MINUS)(R8)
	VMOVDQU64 Z14, (MINUS+64)(R8)
	VMOVDQU64 Z15, (MINUS+128)(R8)
	ROWS(64)
	TRANSPOSE
	VMOVDQU64 Z8, (MINUS+192)(R8)
	VMOVDQU64 Z9, (MINUS+256)(R8)
	STORE(PRODUCT2D, R8, Z10, Z11, Z12, Z13, Z14)
	DIFFERENCE(W0, R8, Y, DI, X, DI)
	SUM(W1, R8, Y, DI, X, DI)
	MUL(W0, R8, W0, R8, MINUS, R8)     // A
	MUL(W1, R8, W1, R8, PLUS, R8)      // B
	MUL(W2, R8, T, DI, PRODUCT2D, R8)  // C
	TWICE(W3, R8, Z, DI)               // D
	DIFFERENCE(W4, R8, W1, R8, W0, R8)
	DIFFERENCE(W5, R8, W3, R8, W2, R8)
	SUM(W6, R8, W3, R8, W2, R8)
	SUM(W3, R8, W1, R8, W0, R8)
	FINISH(DI, R8)
	ADDQ $32, BX
	DECQ CX
	JNZ  again
	VZEROUPPER
	RET
