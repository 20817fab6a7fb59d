package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestTheHeapGrowsIntoHugePages: of large allocations after hugeHeap, at least one lies
// in addresses that the kernel notes as advised ("hg" in /proc/self/smaps, proc(5)).
func TestTheHeapGrowsIntoHugePages(t *testing.T) {
	const region, piece = 64 << 20, 4 << 20
	if err := hugeHeap(region); errors.Is(err, unix.EINVAL) {
		t.Skip("this kernel is built without huge pages")
	} else if err != nil {
		t.Fatal(err)
	}
	advised := 0
	for range region / piece {
		part := make([]byte, piece)
		if hasAdvice(t, uintptr(unsafe.Pointer(unsafe.SliceData(part)))) {
			advised++
		}
	}
	if advised == 0 {
		t.Error("the heap does not grow into the region that was advised")
	}
}

// hasAdvice reports whether the mapping of an address has the flag hg.
func hasAdvice(t *testing.T, addr uintptr) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	within := false
	for line := range bytes.Lines(maps) {
		var from, to uintptr
		if n, err := fmt.Sscanf(string(line), "%x-%x ", &from, &to); n == 2 && err == nil {
			within = from <= addr && addr < to
		}
		if flags, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok && within {
			return bytes.Contains(append(flags, ' '), []byte(" hg "))
		}
	}
	t.Fatalf("no mapping holds %x", addr)
	return false
}
