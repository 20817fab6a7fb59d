package groth16

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hypermesh/hypermesh/internal/golden"
	"github.com/hypermesh/hypermesh/internal/zk"
)

// large are kernels whose circuits take seconds.
var large = map[zk.Kernel]bool{
	"matmul-64": true, "matmul-128": true, "hashchain-256": true, "merkle-update-16": true, "usage-batch-32": true, "usage-batch-112": true,
}

// TestCircuitsAreFrozen: a changed line of circuits.txt means new keys for every
// network. With -short it compiles only what takes less than a second.
func TestCircuitsAreFrozen(t *testing.T) {
	if golden.Updating() && !testing.Short() {
		var lines strings.Builder
		for _, kernel := range zk.Kernels() {
			c, err := compile(kernel)
			if err != nil {
				t.Fatal(err)
			}
			lines.WriteString(frozenLine(c))
		}
		if err := os.WriteFile("circuits.txt", []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	kernels := zk.Kernels()
	if lines := strings.Count(circuitsText, "\n"); lines != len(kernels) {
		t.Errorf("circuits.txt has %d lines for %d kernels", lines, len(kernels))
	}
	for _, kernel := range kernels {
		if testing.Short() && large[kernel] {
			if _, err := frozen(kernel); err != nil {
				t.Error(err)
			}
			continue
		}
		c, err := compile(kernel)
		if err != nil {
			t.Fatal(err)
		}
		if line := frozenLine(c); !strings.Contains(circuitsText, line) {
			t.Errorf("%s is now\n%s", kernel, line)
		}
		if digest, err := frozen(kernel); err != nil || digest != c.digest {
			t.Errorf("%s is frozen as %s, %v", kernel, digest, err)
		}
	}
	if _, err := frozen("matmul-5"); !errors.Is(err, zk.ErrUnknownKernel) {
		t.Errorf("matmul-5: %v", err)
	}
}
