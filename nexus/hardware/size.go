package hardware

import "github.com/hypermesh/hypermesh/internal/crypto"

// LaneBytes is how much memory a lane of the task takes: its blocks, and both trees over them.
func (t *Task) LaneBytes() uint64 {
	const leaves = 2 * (1 + walkSteps) // of both trees, with all above them, for each block
	return t.Blocks * (BlockBytes + leaves*crypto.DigestSize)
}
