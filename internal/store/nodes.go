package store

import (
	"runtime"
	"sync"
	"unsafe"

	"github.com/hypermesh/hypermesh/internal/state"
)

// The nodes of trees take memory in pieces: as much again as there is, from
// largeNodes to mostNodes. With large pages of the processor nodes all over a tree are
// found sooner; the first piece has them once it is full, because a small store would take
// all of it for nothing.
const (
	largeNodes = 4 << 20
	mostNodes  = 8 << 20
	// leastLarge is the least that large pages are asked for elsewhere: one of them.
	leastLarge = 2 << 20
)

// mappings is memory from outside of the Go heap that is given back at once.
type mappings struct {
	mu    sync.Mutex
	all   [][]byte
	bytes int
}

// take returns so many bytes, or more. Where the operating system has no such memory to
// give, it is the Go heap's.
func (m *mappings) take(atLeast int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := max(atLeast, min(max(m.bytes, largeNodes), mostNodes))
	memory, err := offHeap(size)
	if err != nil {
		return make([]byte, atLeast)
	}
	if len(m.all) == 1 {
		useLargePages(m.all[0])
		makeLargePages(m.all[0])
	}
	if len(m.all) > 0 {
		useLargePages(memory)
	}
	m.all, m.bytes = append(m.all, memory), m.bytes+size
	return memory
}

// drop leaves it to the operating system what is in a part of what was taken. Memory of
// the Go heap stays as it is.
func (m *mappings) drop(part []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	for _, memory := range m.all {
		if begin := uintptr(unsafe.Pointer(unsafe.SliceData(memory))); first >= begin && first-begin < uintptr(len(memory)) {
			dropMemory(part)
			return
		}
	}
}

func (m *mappings) free() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, memory := range m.all {
		if err := freeOffHeap(memory); err != nil {
			panic("store: memory that was taken cannot be given back: " + err.Error())
		}
	}
	m.all = nil
}

// newArena returns the memory of the nodes of a store's trees. It goes when the store and
// all trees have gone, so that no tree ever reads what is not there any more.
func newArena() *state.Arena {
	m := &mappings{}
	a := state.NewArena(m.take, m.drop)
	runtime.AddCleanup(a, (*mappings).free, m)
	return a
}

// Arena returns the memory of the nodes of the trees of this store: Store is the trees'
// state.ArenaReader.
func (s *Store) Arena() *state.Arena { return s.arena }
