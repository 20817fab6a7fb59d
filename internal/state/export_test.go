package state

// ResidentNodes counts the nodes that a tree holds in memory.
func ResidentNodes(t *Tree) int { return t.top.node.resident() }

func (n *node) resident() int {
	if n == nil {
		return 0
	}
	count := 1
	for i := range n.slots {
		count += n.slots[i].node.resident()
	}
	return count
}
