package assembly

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/hypermesh/hypermesh/smart-contracts/vm"
)

// Memory is a host for one contract, in memory: a storage that begins empty, names
// for addresses, and no chain to ask but what its storage says (kit/testing.ts).
type Memory struct {
	values map[string][]byte
}

// NewMemory returns an empty one.
func NewMemory() *Memory { return &Memory{values: map[string][]byte{}} }

// pricePoints is what each of the host's methods costs: there is nothing behind it.
const pricePoints = 100

// hidden begins the keys that tests speak to the host by, and no walk shows: no
// name of an item begins so, and no map's is so long.
const hidden = 0xff

// Read returns a value.
func (m *Memory) Read(key []byte) ([]byte, uint64, error) {
	return slices.Clone(m.values[string(key)]), pricePoints, nil
}

// Write sets one.
func (m *Memory) Write(key, value []byte) (uint64, error) {
	m.values[string(key)] = slices.Clone(value)
	return pricePoints, nil
}

// Remove removes one.
func (m *Memory) Remove(key []byte) (uint64, error) {
	delete(m.values, string(key))
	return pricePoints, nil
}

// Scan walks over the keys there are when it begins.
func (m *Memory) Scan(start, end []byte, order vm.Order, _ uint64) (vm.Iterator, uint64, error) {
	w := &walk{memory: m}
	for key := range m.values { // order-free: sorted below
		text := []byte(key)
		if text[0] != hidden && bytes.Compare(text, start) >= 0 && (end == nil || bytes.Compare(text, end) < 0) {
			w.keys = append(w.keys, key)
		}
	}
	if slices.Sort(w.keys); order == vm.Descending {
		slices.Reverse(w.keys)
	}
	return w, pricePoints, nil
}

type walk struct {
	memory *Memory
	keys   []string
}

func (w *walk) Next() (key, value []byte, points uint64, err error) {
	for len(w.keys) > 0 {
		next := w.keys[0]
		w.keys = w.keys[1:]
		if value, there := w.memory.values[next]; there {
			return []byte(next), slices.Clone(value), pricePoints, nil
		}
	}
	return nil, nil, pricePoints, nil
}

func (w *walk) Close() {}

// Addresses are names: three to ninety lower-case letters, digits and hyphens.
const (
	minName = 3
	maxName = 90
)

// Canonical returns a name's bytes.
func (m *Memory) Canonical(address string) ([]byte, bool) {
	if len(address) < minName || len(address) > maxName {
		return nil, false
	}
	for _, c := range []byte(address) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return nil, false
		}
	}
	return []byte(address), true
}

// Human is the inverse of Canonical.
func (m *Memory) Human(canonical []byte) (string, bool) {
	_, ok := m.Canonical(string(canonical))
	return string(canonical), ok
}

// Query answers what a test has said it would.
func (m *Memory) Query(request []byte, _ uint64) ([]byte, uint64, error) {
	if answer, there := m.values[string(append([]byte{hidden}, request...))]; there {
		return slices.Clone(answer), pricePoints, nil
	}
	answer, err := json.Marshal(map[string]any{"error": map[string]any{"unsupported_request": map[string]any{"kind": "not in this test"}}})
	return answer, pricePoints, err
}
