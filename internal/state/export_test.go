package state

// ResidentNodes counts the nodes that a tree holds in memory, and returns how
// many it believes there are.
func ResidentNodes(t *Tree) (counted, believed int) { return t.top.node.resident(), t.memory.resident }

// RunLengths returns how long an overlay's runs are.
func RunLengths(o *Overlay) (lengths []int) {
	for i := range o.runs {
		lengths = append(lengths, len(o.runs[i].entries))
	}
	return lengths
}
