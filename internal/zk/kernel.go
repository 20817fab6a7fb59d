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

const matmulPrefix = "matmul-"

// matmulSizes are the sizes n for which there is a kernel. 4 and 8 are too
// small to sell: they keep tests fast.
var matmulSizes = []int{4, 8, 16, 32, 64, 128}

// MatmulKernel returns the kernel that multiplies n × n matrices, for n = 4, 8,
// 16, 32, 64 or 128.
func MatmulKernel(n int) (Kernel, error) {
	if !slices.Contains(matmulSizes, n) {
		return "", fmt.Errorf("zk: no matmul kernel for matrices of %d × %d, sizes are %v", n, n, matmulSizes)
	}
	return Kernel(matmulPrefix + strconv.Itoa(n)), nil
}

// MatmulSize returns the n of a matmul kernel, and false for any other kernel.
func (k Kernel) MatmulSize() (int, bool) {
	digits, ok := strings.CutPrefix(string(k), matmulPrefix)
	if !ok {
		return 0, false
	}
	for _, n := range matmulSizes {
		if digits == strconv.Itoa(n) {
			return n, true
		}
	}
	return 0, false
}
