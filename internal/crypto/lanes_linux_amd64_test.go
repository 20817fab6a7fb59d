//go:build !noavx512

package crypto_test

import (
	"testing"

	"golang.org/x/sys/cpu"

	"github.com/hypermesh/hypermesh/internal/crypto"
)

// TestFeaturesAreThoseOfTheProcessor has another ask the processor and the system.
func TestFeaturesAreThoseOfTheProcessor(t *testing.T) {
	if want := cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512IFMA; crypto.HasFused() != want {
		t.Errorf("fused multiplication: %v, want %v", crypto.HasFused(), want)
	}
}
