package zk

import (
	"fmt"
	"slices"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// How entries are packed before they are hashed. A field element holds 240
// bits either way, entry i of it at bit i · width, each shifted by half its
// range so that it is not negative: v + 2¹⁵ in 16 bits for a factor, v + 2³⁹ in
// 40 bits for a product, whose entries are below 2 · 15 + log₂ 128 bits in size.
const (
	MatmulFactorBits  = 16
	MatmulFactorPack  = 15 // entries of a factor in one element
	MatmulProductBits = 40
	MatmulProductPack = 6 // entries of a product in one element
)

// Matrix is a square matrix of int16 entries: a factor of the matmul kernel.
// Its size is one of the kernel's sizes. The zero value has size 0 and is no
// operand.
type Matrix struct {
	n     int
	cells []int16 // row by row
}

// Product is the product of two such matrices, each entry the exact sum.
type Product struct {
	n     int
	cells []int64 // row by row, each within 40 bits signed
}

// NewMatrix returns the n × n matrix with the given entries, row by row, for an
// n that has a kernel.
func NewMatrix(n int, cells []int16) (Matrix, error) {
	if _, err := MatmulKernel(n); err != nil {
		return Matrix{}, err
	}
	if len(cells) != n*n {
		return Matrix{}, fmt.Errorf("zk: matrix of %d entries, want %d × %d", len(cells), n, n)
	}
	return Matrix{n: n, cells: slices.Clone(cells)}, nil
}

// Size returns n.
func (m Matrix) Size() int { return m.n }

// At returns the entry of a row and a column, both from 0.
func (m Matrix) At(row, col int) int16 { return m.cells[row*m.n+col] }

// Cells returns a copy of the entries, row by row.
func (m Matrix) Cells() []int16 { return slices.Clone(m.cells) }

// Size returns n.
func (p Product) Size() int { return p.n }

// At returns the entry of a row and a column, both from 0.
func (p Product) At(row, col int) int64 { return p.cells[row*p.n+col] }

// Cells returns a copy of the entries, row by row.
func (p Product) Cells() []int64 { return slices.Clone(p.cells) }

// Multiply returns left · right, the plain reference that the circuit must
// agree with: c[i][k] = Σ_j a[i][j] · b[j][k], exact in int64. The sizes must be
// equal and not 0.
func Multiply(left, right Matrix) (Product, error) {
	if left.n != right.n || left.n == 0 {
		return Product{}, fmt.Errorf("zk: cannot multiply %d × %d by %d × %d", left.n, left.n, right.n, right.n)
	}
	n := left.n
	p := Product{n: n, cells: make([]int64, n*n)}
	for i := range n {
		row := p.cells[i*n : (i+1)*n]
		for j := range n {
			a := int64(left.cells[i*n+j])
			for k, b := range right.cells[j*n : (j+1)*n] {
				row[k] += a * int64(b)
			}
		}
	}
	return p, nil
}

// LeftDigest returns the digest of a matrix as the kernel's left factor, input
// 0 of its statement.
func LeftDigest(m Matrix) Field { return Sponge(SpongeMatmulLeft, packFactor(m)) }

// RightDigest returns the digest of a matrix as the kernel's right factor,
// input 1 of its statement.
func RightDigest(m Matrix) Field { return Sponge(SpongeMatmulRight, packFactor(m)) }

// ProductDigest returns the digest of a product, output 0 of the statement.
func ProductDigest(p Product) Field {
	return Sponge(SpongeMatmulProduct, pack(len(p.cells), MatmulProductPack, MatmulProductBits, func(i int) uint64 {
		return uint64(p.cells[i] + 1<<(MatmulProductBits-1)) // entries are within 40 bits
	}))
}

func packFactor(m Matrix) []fr.Element {
	return pack(len(m.cells), MatmulFactorPack, MatmulFactorBits, func(i int) uint64 {
		return uint64(int64(m.cells[i]) + 1<<(MatmulFactorBits-1)) // never negative
	})
}

// pack lays count values of bits each (a multiple of 8) into elements, per of
// them each, the first at the lowest bits; the last element is filled up with
// zero bits.
func pack(count, per, bits int, at func(i int) uint64) []fr.Element {
	elements := make([]fr.Element, (count+per-1)/per)
	for e := range elements {
		var buf [FieldSize]byte
		end := FieldSize
		for i := e * per; i < min(count, (e+1)*per); i++ {
			v := at(i)
			for b := range bits / 8 {
				buf[end-1-b] = byte(v >> (8 * b))
			}
			end -= bits / 8
		}
		elements[e].SetBytes(buf[:])
	}
	return elements
}
