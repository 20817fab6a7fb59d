//go:build !linux

package store

// offHeap returns so many zero bytes.
func offHeap(n int) ([]byte, error) { return make([]byte, n), nil }

// freeOffHeap leaves them to the collector.
func freeOffHeap([]byte) error { return nil }

// useLargePages asks for nothing.
func useLargePages([]byte) {}

// makeLargePages makes none.
func makeLargePages([]byte) {}

// dropMemory keeps it.
func dropMemory([]byte) {}
