//go:build !amd64

package state

import "unsafe"

// prefetch asks the processor for nothing where there is no way to.
func prefetch(unsafe.Pointer, int) {}
