package zk

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxKernelLength is the longest name of a kernel, in bytes.
const MaxKernelLength = 32

// Kernel is the name of a circuit, its parameter and its version in one word:
// "matmul-32" is version 1 of matrix multiplication at n = 32. A circuit that
// changes gets a new name ("matmul-32-v2"); a name never changes its meaning.
type Kernel string

// Check returns an error unless the name is 1 to MaxKernelLength of a-z, 0-9
// and '-', starting with a letter.
func (k Kernel) Check() error {
	if len(k) == 0 || len(k) > MaxKernelLength {
		return fmt.Errorf("zk: kernel name of %d bytes, want 1 to %d", len(k), MaxKernelLength)
	}
	for i, c := range []byte(k) {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c != '-' && (c < '0' || c > '9'))) {
			return fmt.Errorf("zk: kernel name %q has %q at byte %d, want a-z, then a-z, 0-9 or '-'", string(k), rune(c), i)
		}
	}
	return nil
}

// Family is what the kernels of one sort have in common; their sizes differ.
type Family string

// Every family of kernels.
const (
	Matmul      Family = "matmul"        // the product of two n × n matrices
	MLP         Family = "mlp"           // a quantized network with MLPHidden hidden units; its one size is that
	Hashchain   Family = "hashchain"     // n steps of sequential hashing
	MerkleState Family = "merkle-update" // n updates of a tree of 2³² leaves
	UsageBatch  Family = "usage-batch"   // up to n signed usage records summed up
)

// sizes are those that a family has a kernel of. The smallest are too small to
// sell: they keep tests fast.
var sizes = map[Family][]int{
	Matmul:      {4, 8, 16, 32, 64, 128},
	MLP:         {MLPHidden},
	Hashchain:   {1, 16, 256},
	MerkleState: {1, 16},
	UsageBatch:  {4, 32, 112},
}

// Kernels lists every kernel there is, family by family, smallest first.
func Kernels() []Kernel {
	var all []Kernel
	for _, f := range []Family{Matmul, MLP, Hashchain, MerkleState, UsageBatch} {
		for _, n := range sizes[f] {
			all = append(all, Kernel(string(f)+"-"+strconv.Itoa(n)))
		}
	}
	return all
}

// Of returns the family and the size of a kernel, and false if there is no such
// kernel.
func (k Kernel) Of() (Family, int, bool) {
	cut := strings.LastIndexByte(string(k), '-')
	if cut < 0 {
		return "", 0, false
	}
	family := Family(k[:cut])
	for _, n := range sizes[family] {
		if string(k[cut+1:]) == strconv.Itoa(n) {
			return family, n, true
		}
	}
	return "", 0, false
}

// of returns the kernel of a family and a size.
func (f Family) of(n int) (Kernel, error) {
	if !slices.Contains(sizes[f], n) {
		return "", fmt.Errorf("zk: no %s kernel of size %d, sizes are %v", string(f), n, sizes[f])
	}
	return Kernel(string(f) + "-" + strconv.Itoa(n)), nil
}

// Shape returns the number of a kernel's public inputs and outputs, and false
// if there is no such kernel.
func (k Kernel) Shape() (inputs, outputs int, ok bool) {
	family, _, ok := k.Of()
	if !ok {
		return 0, 0, false
	}
	switch family {
	case Hashchain, UsageBatch:
		return 1, 1, true
	case Matmul, MLP, MerkleState:
		return 2, 1, true
	}
	panic("zk: family " + string(family) + " has no shape")
}

// MatmulKernel returns the kernel that multiplies n × n matrices, for n = 4, 8,
// 16, 32, 64 or 128.
func MatmulKernel(n int) (Kernel, error) {
	kernel, err := Matmul.of(n)
	if err != nil {
		return "", fmt.Errorf("matrices of %d × %d: %w", n, n, err)
	}
	return kernel, nil
}

// MatmulSize returns the n of a matmul kernel, and false for any other kernel.
func (k Kernel) MatmulSize() (int, bool) {
	family, n, ok := k.Of()
	return n, ok && family == Matmul
}
