package groth16

import (
	"fmt"
	"os"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// Phase 1 depends on the domain alone. A ceremony that shares another's has its files,
// unchanged, and the other's first file as its origin; its own first file names the sealed phase 1.

// InitCeremonyFrom begins a ceremony for a kernel in a folder, as InitCeremony does, that goes on
// from the sealed phase 1 of another ceremony, for a kernel of the same domain. It verifies that
// phase and copies its files.
func InitCeremonyFrom(dir string, kernel zk.Kernel, phase1 string, progress Progress) (*Ceremony, error) {
	theirs, err := OpenCeremony(phase1)
	if err != nil {
		return nil, fmt.Errorf("groth16: phase 1 in %s: %w", phase1, err)
	}
	c, err := compile(kernel)
	if err != nil {
		return nil, err
	}
	z := &Ceremony{dir: dir, circuit: c}
	switch {
	case z.has(ceremonyStart):
		return nil, fmt.Errorf("%w: %s holds a ceremony already", ErrCeremonyOrder, dir)
	case !theirs.has(phase1Sealed):
		return nil, fmt.Errorf("%w: phase 1 in %s is not sealed", ErrCeremonyOrder, phase1)
	case theirs.domain() != z.domain():
		return nil, fmt.Errorf("%w: phase 1 of %s is for a domain of %d, %s has one of %d", ErrCeremonyOrder,
			theirs.Kernel(), theirs.domain(), kernel, z.domain())
	}
	_, sealed, _, err := theirs.verifySealed1(progress)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { // nothing here is secret
		return nil, fmt.Errorf("groth16: folder of the ceremony: %w", err)
	}
	names := map[string]string{theirs.beginning(): ceremonyOrigin, phase1Sealed: phase1Sealed}
	for i := range theirs.count(1) {
		names[contributionName(1, i+1)] = contributionName(1, i+1)
	}
	for name, here := range names {
		content, err := theirs.readFile(name)
		if err == nil {
			err = writeWhole(z.path(here), content)
		}
		if err != nil {
			return nil, fmt.Errorf("groth16: copying %s: %w", name, err)
		}
	}
	start := z.pending(ceremonyStart, sealed, nil, nil) // last: with it the ceremony is there
	if err := start.Write(); err != nil {
		return nil, err
	}
	return OpenCeremony(dir)
}

// openOrigin finds whose phase 1 a ceremony shares, if its first file names one.
func (z *Ceremony) openOrigin(start *ceremonyHead) error {
	if start.Previous.IsZero() {
		return nil
	}
	origin, _, _, err := z.read(ceremonyOrigin)
	if err != nil {
		return err
	}
	if !origin.Previous.IsZero() {
		return fmt.Errorf("%w: %s shares a phase 1 itself", ErrCeremonyFile, ceremonyOrigin)
	}
	z.origin = &origin
	_, _, sealed, err := z.read(phase1Sealed)
	if err != nil {
		return err
	}
	if sealed != start.Previous {
		return fmt.Errorf("%w: %s goes on from %s, %s is %s", ErrCeremonyFile, ceremonyStart, start.Previous.Short(), phase1Sealed, sealed.Short())
	}
	return nil
}

// beginning is the file that phase 1 begins after.
func (z *Ceremony) beginning() string {
	if z.origin != nil {
		return ceremonyOrigin
	}
	return ceremonyStart
}

// owner returns whose kernel and circuit a step names: of a shared phase 1, its origin's.
// It is not known before the ceremony is open.
func (z *Ceremony) owner(step string) (kernel zk.Kernel, circuit crypto.Digest, known bool) {
	shared := step == ceremonyOrigin || strings.HasPrefix(step, "phase1-")
	switch {
	case shared && z.origin != nil:
		return z.origin.Kernel, z.origin.Circuit, true
	case step == ceremonyOrigin || z.circuit == nil:
		return "", crypto.Digest{}, false
	}
	return z.circuit.kernel, z.circuit.digest, true
}
