package zk

import (
	"errors"
	"fmt"
)

// ErrInput says that a kernel's input files are not what the kernel takes.
var ErrInput = errors.New("zk: kernel input refused")

// MaxInputSize is the longest input file of any kernel, in bytes.
const MaxInputSize = MaxCSVSize

// Work is one computation of a kernel: what it was given and what came out,
// computed in plain Go. The sum is sealed: switch over it exhaustively.
type Work interface {
	// Kernel returns the kernel's name.
	Kernel() Kernel
	// Inputs returns the public inputs of the statement, in their order.
	Inputs() []Field
	// Outputs returns its public outputs, in their order.
	Outputs() []Field
	// Output returns the file that the consumer gets.
	Output() []byte
	// OutputName returns the name of that file.
	OutputName() string

	sealedWork()
}

// Read parses a kernel's input files and computes. The error wraps ErrInput and
// names the file, from 0, or it wraps ErrUnknownKernel.
//
//	matmul         left factor, right factor (ParseMatrixCSV)
//	mlp            model (ParseMLPModel), sample (ParseMLPSample)
//	hashchain      start: 64 hexadecimal digits and a line end
//	merkle-update  tree (DecodeTree), updates (DecodeTreeUpdates)
//	usage-batch    batch (DecodeUsageBatch)
func Read(kernel Kernel, files [][]byte) (Work, error) {
	family, size, ok := kernel.Of()
	if !ok {
		return nil, fmt.Errorf("%w: %.40q", ErrUnknownKernel, string(kernel))
	}
	want := map[Family]int{Matmul: 2, MLP: 2, Hashchain: 1, MerkleState: 2, UsageBatch: 1}[family]
	if len(files) != want {
		return nil, fmt.Errorf("%w: %s got %d files, want %d", ErrInput, kernel, len(files), want)
	}
	for i, data := range files {
		if len(data) > MaxInputSize {
			return nil, fmt.Errorf("%w: file %d of %d bytes, limit %d", ErrInput, i, len(data), MaxInputSize)
		}
	}
	switch family {
	case Matmul:
		return readMatmul(size, files)
	case MLP:
		return readMLP(files)
	case Hashchain:
		return readHashchain(size, files)
	case MerkleState:
		return readTree(size, files)
	case UsageBatch:
		return readUsage(size, files)
	}
	panic("zk: family " + string(family) + " cannot be read")
}

// refused wraps the reason that an input file is refused for.
func refused(file int, err error) error { return fmt.Errorf("%w: file %d: %w", ErrInput, file, err) }

// MatmulWork is a multiplication.
type MatmulWork struct {
	left, right Matrix
	product     Product
}

// NewMatmulWork multiplies two matrices of one size.
func NewMatmulWork(left, right Matrix) (*MatmulWork, error) {
	product, err := Multiply(left, right)
	if err != nil {
		return nil, err
	}
	return &MatmulWork{left: left, right: right, product: product}, nil
}

func readMatmul(size int, files [][]byte) (Work, error) {
	var factors [2]Matrix
	for i, data := range files {
		m, err := ParseMatrixCSV(data)
		if err != nil {
			return nil, refused(i, err)
		}
		if m.Size() != size {
			return nil, refused(i, fmt.Errorf("a matrix of %d × %d, want %d × %d", m.Size(), m.Size(), size, size))
		}
		factors[i] = m
	}
	return NewMatmulWork(factors[0], factors[1])
}

// Kernel implements Work.
func (w *MatmulWork) Kernel() Kernel {
	k, err := MatmulKernel(w.left.n)
	if err != nil {
		panic("zk: a matrix of a size without a kernel: " + err.Error())
	}
	return k
}

// Left returns the left factor.
func (w *MatmulWork) Left() Matrix { return w.left }

// Right returns the right factor.
func (w *MatmulWork) Right() Matrix { return w.right }

// Product returns their product.
func (w *MatmulWork) Product() Product { return w.product }

// Inputs implements Work: the digests of the factors.
func (w *MatmulWork) Inputs() []Field { return []Field{LeftDigest(w.left), RightDigest(w.right)} }

// Outputs implements Work: the digest of the product.
func (w *MatmulWork) Outputs() []Field { return []Field{ProductDigest(w.product)} }

// Output implements Work: the product as CSV.
func (w *MatmulWork) Output() []byte { return w.product.CSV() }

// OutputName implements Work.
func (*MatmulWork) OutputName() string { return "product.csv" }

func (*MatmulWork) sealedWork() {}
