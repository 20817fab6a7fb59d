package zk

import (
	"bytes"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// HashchainWork is a chain of hashes: end = H(H(… H(start))). Each step needs
// the one before, so it is work that no number of machines makes faster.
type HashchainWork struct {
	kernel     Kernel
	start, end Field
}

// NewHashchainWork walks steps from a start below the order of the field.
func NewHashchainWork(steps int, start Field) (*HashchainWork, error) {
	kernel, err := Hashchain.of(steps)
	if err != nil {
		return nil, err
	}
	if err := start.Check(); err != nil {
		return nil, err
	}
	return &HashchainWork{kernel: kernel, start: start, end: chainEnd(steps, start)}, nil
}

// chainEnd is the plain reference that the circuit must agree with.
func chainEnd(steps int, start Field) Field {
	at := start
	for range steps {
		at = Sponge(SpongeHashchain, []fr.Element{element(at)})
	}
	return at
}

func readHashchain(steps int, files [][]byte) (Work, error) {
	start, err := ParseField(string(bytes.TrimSuffix(files[0], []byte("\n"))))
	if err != nil {
		return nil, refused(0, fmt.Errorf("start: %w", err))
	}
	return NewHashchainWork(steps, start)
}

// Kernel implements Work.
func (w *HashchainWork) Kernel() Kernel { return w.kernel }

// Inputs implements Work: the start itself.
func (w *HashchainWork) Inputs() []Field { return []Field{w.start} }

// Outputs implements Work: the end itself.
func (w *HashchainWork) Outputs() []Field { return []Field{w.end} }

// Output implements Work: the end, 64 hexadecimal digits and a line end.
func (w *HashchainWork) Output() []byte { return []byte(w.end.String() + "\n") }

// OutputName implements Work.
func (*HashchainWork) OutputName() string { return "end.txt" }

func (*HashchainWork) sealedWork() {}
