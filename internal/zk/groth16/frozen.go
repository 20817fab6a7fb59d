package groth16

import (
	_ "embed" // circuits.txt
	"fmt"
	"strings"

	"github.com/hypermesh/hypermesh/internal/crypto"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// circuitsText has a line for each kernel: its name, its numbers of constraints
// and of committed wires, and its circuit's digest. A changed line means new
// keys for every network, hence a new kernel name.
//
//go:embed circuits.txt
var circuitsText string

// frozen returns the digest that a kernel's circuit must have, so that its keys
// are found without compiling it.
func frozen(kernel zk.Kernel) (crypto.Digest, error) {
	for line := range strings.Lines(circuitsText) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != string(kernel) {
			continue
		}
		var digest crypto.Digest
		if err := digest.UnmarshalText([]byte(fields[len(fields)-1])); err != nil {
			panic("groth16: circuits.txt: " + err.Error())
		}
		return digest, nil
	}
	return crypto.Digest{}, fmt.Errorf("%w: no circuit for %.40q", zk.ErrUnknownKernel, string(kernel))
}

// frozenLine is a circuit's line in circuits.txt.
func frozenLine(c *circuit) string {
	return fmt.Sprintf("%s %d constraints, %d committed, circuit %s\n", c.kernel,
		c.system.GetNbConstraints(), len(soleCommitment(c.system).PrivateCommitted), c.digest)
}
