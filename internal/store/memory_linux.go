package store

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// offHeap returns so many zero bytes that the Go runtime does not know of. They take
// memory as they are written to.
func offHeap(n int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("store: taking %d bytes of memory: %w", n, err)
	}
	return memory, nil
}

// freeOffHeap gives back what offHeap returned.
func freeOffHeap(memory []byte) error {
	if memory == nil {
		return nil
	}
	return unix.Munmap(memory)
}

// useLargePages asks for large pages of the processor, where there are some.
func useLargePages(memory []byte) {
	_ = unix.Madvise(memory, unix.MADV_HUGEPAGE) // a wish: without them it is slower
}

// makeLargePages has large pages of the processor made of what is there, now.
func makeLargePages(memory []byte) {
	_ = unix.Madvise(memory, unix.MADV_COLLAPSE) // a wish: an old system makes them in time, or does not
}

// dropMemory lets go of what is in memory that offHeap returned.
func dropMemory(memory []byte) {
	_ = unix.Madvise(memory, unix.MADV_DONTNEED) // a wish: without it the memory stays taken
}
