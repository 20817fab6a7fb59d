package state

import "iter"

// MemoryBackend is a state and the node records of a tree in memory: what the
// store is on disk.
type MemoryBackend struct {
	flat  Overlay
	nodes map[string][]byte
}

var (
	_ KV         = (*MemoryBackend)(nil)
	_ NodeReader = (*MemoryBackend)(nil)
)

// NewMemoryBackend returns an empty state without nodes.
func NewMemoryBackend() *MemoryBackend {
	return &MemoryBackend{flat: Overlay{parent: nothing{}}, nodes: make(map[string][]byte)}
}

// Get returns the value of key.
func (m *MemoryBackend) Get(key []byte) ([]byte, bool) { return m.flat.Get(key) }

// Iterate yields the pairs with start ≤ key < end.
func (m *MemoryBackend) Iterate(start, end []byte) iter.Seq2[[]byte, []byte] {
	return m.flat.Iterate(start, end)
}

// Set gives key a value.
func (m *MemoryBackend) Set(key, value []byte) { m.flat.Set(key, value) }

// Delete removes key, if it is there.
func (m *MemoryBackend) Delete(key []byte) { m.flat.Delete(key) }

// AppendNode appends the record named key to dst.
func (m *MemoryBackend) AppendNode(dst, key []byte) ([]byte, bool, error) {
	record, ok := m.nodes[string(key)]
	return append(dst, record...), ok, nil
}

// ApplyBatch stores the records of one version.
func (m *MemoryBackend) ApplyBatch(b Batch) {
	for key, record := range b.Nodes() {
		m.PutNode(key, record)
	}
}

// PutNode stores a copy of one record.
func (m *MemoryBackend) PutNode(key, record []byte) {
	m.nodes[string(key)] = append([]byte(nil), record...)
}

// DropNodes deletes the records with the given keys, as pruning does, and
// returns how many of them were there.
func (m *MemoryBackend) DropNodes(keys iter.Seq[[]byte]) int {
	before := len(m.nodes)
	for key := range keys {
		delete(m.nodes, string(key))
	}
	return before - len(m.nodes)
}

// NodeCount returns how many records are stored.
func (m *MemoryBackend) NodeCount() int { return len(m.nodes) }

// nothing is the empty state.
type nothing struct{}

func (nothing) Get([]byte) ([]byte, bool) { return nil, false }

func (nothing) Iterate([]byte, []byte) iter.Seq2[[]byte, []byte] {
	return func(func(key, value []byte) bool) {}
}
