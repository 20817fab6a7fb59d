//go:build unix

package crypto_test

import (
	"bytes"
	"syscall"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// guarded returns memory that ends where none is: a byte too many cannot be touched.
func guarded(t *testing.T, size int) []byte {
	t.Helper()
	page := syscall.Getpagesize()
	whole := (size + page - 1) / page * page
	memory, err := syscall.Mmap(-1, 0, whole+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(memory); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Mprotect(memory[whole:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	return memory[whole-size : whole : whole]
}

// TestJoinsAnywhere compares joins, whose digests are at any addresses, up to where memory ends,
// shared among them and in the places of children as they may be, with one HashPair after the
// other. Nothing else is written to.
func TestJoinsAnywhere(t *testing.T) {
	const room = 4096 + 100
	memory := guarded(t, room)
	at := func(offset int) *crypto.Digest { return (*crypto.Digest)(unsafe.Pointer(&memory[offset])) }
	rapid.Check(t, func(t *rapid.T) {
		for i := range memory {
			memory[i] = byte(i*i>>3 ^ i)
		}
		n := rapid.IntRange(0, 50).Draw(t, "joins")
		shift := rapid.SampledFrom([]int{0, 0, 1, 7, 31, 33, 63}).Draw(t, "shift")
		place := func(i int) int { return room - crypto.DigestSize*(i+1) - shift } // the first is the last in memory
		want := bytes.Clone(memory)
		joins := make([]crypto.Join, n)
		for i := range joins {
			// What one writes, none after it reads or writes: each reads from its own place on.
			left, right := rapid.IntRange(i, 2*n).Draw(t, "left"), rapid.IntRange(i, 2*n).Draw(t, "right")
			joins[i] = crypto.Join{Left: at(place(left)), Right: at(place(right)), To: at(place(i))}
			l, r := want[place(left):][:crypto.DigestSize], want[place(right):][:crypto.DigestSize]
			d := crypto.DomainStateInner.HashPair(crypto.Digest(l), crypto.Digest(r))
			copy(want[place(i):], d[:])
		}
		crypto.DomainStateInner.HashJoins(joins)
		if !bytes.Equal(memory, want) {
			for i := range memory {
				if memory[i] != want[i] {
					t.Fatalf("%d joins: byte %d is %x, want %x", n, i, memory[i], want[i])
				}
			}
		}
	})
}
